package tuntest

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/btns-go/btns/tun"
)

// A Net is a network in memory on which wires find each other by address. What crosses it
// is what would be in the UDP datagram, marker included, so that faults hit the real bytes.
type Net struct {
	mu     sync.Mutex
	faults Faults
	rng    *rand.Rand
	udp    map[netip.AddrPort]*Wire
	native map[netip.Addr]*Wire
	late   lateHeap // datagrams on their way
	sent   uint64   // datagrams so far, to keep the order among equal times
	timer  *time.Timer
	rec    *Recorder
}

// NewNet makes a network with faults.
func NewNet(f Faults) *Net {
	n := &Net{udp: make(map[netip.AddrPort]*Wire), native: make(map[netip.Addr]*Wire)}
	n.SetFaults(f)
	return n
}

// SetFaults changes the faults from now on, and starts their random choices anew.
func (n *Net) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
	n.rng = rand.New(rand.NewPCG(f.Seed, 0x6274_6e73))
}

// Record sends a copy of every datagram that arrives to r; nil ends that.
func (n *Net) Record(r *Recorder) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rec = r
}

// Listen adds a wire with the given addresses and ports, UDP only. Port 0 means any free one.
func (n *Net) Listen(addrs ...netip.AddrPort) (*Wire, error) { return n.listen(false, addrs) }

// ListenNative adds a wire that can send and receive ESP directly over IP as well.
func (n *Net) ListenNative(addrs ...netip.AddrPort) (*Wire, error) { return n.listen(true, addrs) }

func (n *Net) listen(native bool, addrs []netip.AddrPort) (*Wire, error) {
	if len(addrs) == 0 {
		return nil, errors.New("tuntest: a wire needs an address")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &Wire{net: n, q: newQueue(), turn: make(chan struct{}, 1), native: native}
	for _, ap := range addrs {
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		if !ap.Addr().IsValid() || ap.Addr().IsUnspecified() {
			return nil, fmt.Errorf("tuntest: %v is not an address to listen on", ap)
		}
		if ap.Port() == 0 {
			ap = n.freePort(ap.Addr())
		}
		if n.udp[ap] != nil {
			return nil, fmt.Errorf("tuntest: %v is in use", ap)
		}
		w.addrs = append(w.addrs, ap)
	}
	for _, ap := range w.addrs {
		n.udp[ap] = w
		if native {
			n.native[ap.Addr()] = w
		}
	}
	return w, nil
}

func (n *Net) freePort(a netip.Addr) netip.AddrPort {
	for port := uint16(49152); ; port++ {
		if ap := netip.AddrPortFrom(a, port); n.udp[ap] == nil {
			return ap
		}
	}
}

// Pair returns two wires on a network without faults: 192.0.2.1:4500 and 192.0.2.2:4500.
func Pair() (a, b *Wire) {
	n := NewNet(Faults{})
	// Neither can fail: the network is empty and the addresses are good.
	a, _ = n.Listen(netip.MustParseAddrPort("192.0.2.1:4500"))
	b, _ = n.Listen(netip.MustParseAddrPort("192.0.2.2:4500"))
	return a, b
}

// Inject sends a UDP payload that no wire sent, from any source. With ports of 0 it is an
// ESP packet directly over IP. Faults apply to it as to any other.
func (n *Net) Inject(src, dst netip.AddrPort, payload []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.transmit(datagram{src: src, dst: dst, data: payload})
}

// transmit applies the faults to one datagram and delivers it now or later.
// d.data is borrowed.
func (n *Net) transmit(d datagram) {
	f := &n.faults
	if f.none() {
		n.deliver(&d)
		return
	}
	copies := 1
	if n.hit(f.Drop) && (f.Spare == nil || !f.Spare(d.data)) {
		copies = 0
	}
	if n.hit(f.Duplicate) {
		copies *= 2
	}
	for range copies {
		c := d
		c.data = append([]byte(nil), d.data...)
		if n.hit(f.Corrupt) && len(c.data) > 0 {
			bit := n.rng.IntN(8 * len(c.data))
			c.data[bit/8] ^= 1 << (bit % 8)
		}
		if n.hit(f.MarkCE) && c.ecn != tun.ECNNotECT {
			c.ecn = tun.ECNCE
		}
		wait := f.Delay
		if f.Jitter > 0 {
			wait += time.Duration(n.rng.Int64N(int64(f.Jitter)))
		}
		if n.hit(f.Reorder) {
			n.overtaken(c, wait+reorderWait)
			continue
		}
		n.later(c, wait)
	}
}

func (n *Net) hit(p float64) bool { return p > 0 && n.rng.Float64() < p }

// deliver hands d to the wire that has its destination.
func (n *Net) deliver(d *datagram) {
	if n.rec != nil {
		n.rec.Record(time.Now(), d.src, d.dst, d.data)
	}
	w := n.udp[d.dst]
	if d.src.Port() == 0 && d.dst.Port() == 0 {
		w = n.native[d.dst.Addr()]
	}
	if w == nil {
		return
	}
	if !w.q.put(*d) {
		w.count.Drop(tun.DropQueue)
	}
	if over := w.overtaken; over != nil {
		w.overtaken = nil
		n.deliver(over)
	}
}

// overtaken holds d until the next datagram to its destination has arrived, or for wait if
// there is none.
func (n *Net) overtaken(d datagram, wait time.Duration) {
	if w := n.udp[d.dst]; w != nil && w.overtaken == nil && n.faults.Delay == 0 && n.faults.Jitter == 0 {
		w.overtaken = &d
		n.schedule(&late{due: time.Now().Add(wait), wire: w, d: &d})
		return
	}
	n.later(d, wait)
}

// later delivers d after wait.
func (n *Net) later(d datagram, wait time.Duration) {
	if wait <= 0 {
		n.deliver(&d)
		return
	}
	n.schedule(&late{due: time.Now().Add(wait), d: &d})
}

func (n *Net) schedule(l *late) {
	n.sent++
	l.seq = n.sent
	heap.Push(&n.late, l)
	if n.late[0] == l {
		n.arm()
	}
}

// arm sets the timer for the first datagram on its way.
func (n *Net) arm() {
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if len(n.late) > 0 {
		n.timer = time.AfterFunc(time.Until(n.late[0].due), n.tick)
	}
}

func (n *Net) tick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.late) > 0 && !n.late[0].due.After(now) {
		l := heap.Pop(&n.late).(*late)
		if l.wire != nil {
			// Held to be overtaken: gone already, or nothing came to overtake it.
			if l.wire.overtaken != l.d {
				continue
			}
			l.wire.overtaken = nil
		}
		n.deliver(l.d)
	}
	n.arm()
}

// remove takes w off the network.
func (n *Net) remove(w *Wire) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ap := range w.addrs {
		delete(n.udp, ap)
		if n.native[ap.Addr()] == w {
			delete(n.native, ap.Addr())
		}
	}
	w.overtaken = nil
	if len(n.udp) == 0 {
		n.late = nil
		n.arm()
	}
}
