package tuntest

import (
	"net"
	"net/netip"
	"sync"

	"github.com/btns-go/btns/tun"
)

// What a queue holds: about as much as a socket's buffer.
const (
	queuePackets = 4096
	queueBytes   = 16 << 20
	keepCap      = 4096 // larger buffers are not kept for reuse
)

// A datagram is what crosses a Net: the UDP payload, or the ESP packet if ports are 0.
type datagram struct {
	src, dst netip.AddrPort
	ecn      uint8
	data     []byte
}

// A queue is a bounded FIFO whose reader may block. Buffers of its entries are reused.
type queue struct {
	ready chan struct{} // has a token while there may be something to read
	done  chan struct{} // closed by close

	mu     sync.Mutex
	ring   []datagram
	head   int
	count  int
	bytes  int
	closed bool
}

func newQueue() *queue {
	return &queue{ready: make(chan struct{}, 1), done: make(chan struct{})}
}

// put copies d in, and reports whether there was room.
func (q *queue) put(d datagram) bool {
	q.mu.Lock()
	if q.closed || q.count == queuePackets || q.bytes+len(d.data) > queueBytes {
		q.mu.Unlock()
		return false
	}
	if q.count == len(q.ring) {
		q.grow()
	}
	e := &q.ring[(q.head+q.count)%len(q.ring)]
	buf := append(e.data[:0], d.data...)
	*e = d
	e.data = buf
	q.count++
	q.bytes += len(buf)
	q.mu.Unlock()
	q.signal()
	return true
}

func (q *queue) grow() {
	ring := make([]datagram, max(64, 2*len(q.ring)))
	for i := range q.count {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take waits until there is something, then calls use for one datagram after another
// while it returns true. The datagram is borrowed for the call.
// It returns net.ErrClosed after close.
func (q *queue) take(use func(d *datagram) (more bool)) error {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return net.ErrClosed
		}
		some := q.count > 0
		for more := some; more && q.count > 0; {
			e := &q.ring[q.head]
			more = use(e)
			q.bytes -= len(e.data)
			if cap(e.data) > keepCap {
				e.data = nil
			}
			q.head = (q.head + 1) % len(q.ring)
			q.count--
		}
		rest := q.count > 0
		q.mu.Unlock()
		if rest {
			q.signal()
		}
		if some {
			return nil
		}
		select {
		case <-q.ready:
		case <-q.done:
		}
	}
}

// close drops what is queued, wakes the readers, and reports whether it was open.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	q.ring, q.head, q.count, q.bytes = nil, 0, 0, 0
	close(q.done)
	return true
}

// fits places a packet of n bytes in p.Buf behind the headroom, and reports whether it fits.
func fits(p *tun.Packet, n int) bool {
	if len(p.Buf)-tun.Headroom < n {
		return false
	}
	p.Off, p.Len = tun.Headroom, n
	p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
	return true
}
