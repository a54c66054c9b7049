package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

// TestWindowNearlyClosed: a peer, played by hand, has filled the window that it was once told, to the byte. Its
// acknowledgements lie behind the window that it is told now, and must free the stack's own send buffer all the same.
func TestWindowNearlyClosed(t *testing.T) {
	_, b := newPair(t)
	var mu sync.Mutex
	var acked, edge, sent uint32 // what the stack acknowledged, the furthest right edge it told, the end of what it sent
	b.setOutput(func(_ *Tag, p *Packet) bool {
		h := p.Header()
		ip, _ := p.HeaderLens()
		th := h[ip:]
		mu.Lock()
		defer mu.Unlock()
		scale := b.scale
		end := binary.BigEndian.Uint32(th[4:]) + uint32(p.PayloadLen())
		if p.TCPFlags()&2 != 0 {
			scale, end = 0, end+1
		}
		acked = binary.BigEndian.Uint32(th[8:])
		if e := acked + uint32(binary.BigEndian.Uint16(th[14:]))<<scale; edge == 0 || int32(e-edge) > 0 {
			edge = e
		}
		if sent == 0 || int32(end-sent) > 0 {
			sent = end
		}
		return false
	})
	state := func() (uint32, uint32, uint32) { mu.Lock(); defer mu.Unlock(); return acked, edge, sent }
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	peer := netip.AddrPortFrom(a4, 5555)
	syn := make([]byte, 28)
	copy(syn, tcpPacket(peer, ln.addr, 1000, 0, 2, nil)[20:])
	syn[12] = 7 << 4
	copy(syn[20:], []byte{2, 4, 0x05, 0x50, 3, 3, 8, 1}) // MSS 1360, window scale 8
	b.Deliver(b.tag, ipPacket(a4, b4, ts.ProtoTCP, syn))
	eventually(t, "SYN-ACK", func() bool { _, _, e := state(); return e != 0 })
	_, _, end := state()
	next := uint32(1001)
	b.Deliver(b.tag, tcpPacket(peer, ln.addr, next, end, 0x10, nil))
	s := must[*TCPConn](t)(ln.AcceptTCP())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = s.Write(make([]byte, 64<<20)) }) // it reads only afterwards: never
	eventually(t, "the server speaks", func() bool { _, _, e := state(); return e != end })
	data := make([]byte, 1001)
	send := func(n uint32) {
		b.Deliver(b.tag, tcpPacket(peer, ln.addr, next, end, 0x10, data[:n]))
		next += n
	}
	const last = 148 // below the granularity of the window
	for {
		_, right, _ := state()
		n := right - next - last
		send(min(n, uint32(len(data))))
		eventually(t, "acknowledged", func() bool { a, _, _ := state(); return a == next })
		if n <= uint32(len(data)) {
			break
		}
	}
	if _, right, _ := state(); right != next+last {
		t.Fatalf("%d bytes are left of the window", right-next)
	}
	send(last)
	_, _, before := state()
	eventually(t, "acknowledgements count and the server goes on", func() bool {
		b.Deliver(b.tag, tcpPacket(peer, ln.addr, next, before, 0x10, nil))
		_, _, e := state()
		return e != before
	})
	if b.counters.pulledBack.Load() == 0 {
		t.Error("this was no test of window.go")
	}
	s.Abort(nil)
	wg.Wait()
	_, _ = s.Close(), ln.Close()
}
