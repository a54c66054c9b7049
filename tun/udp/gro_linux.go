package udp

import (
	"github.com/btns-go/btns/tun"
)

// A joined takes apart what GRO joined. The kernel joins up to maxSegments datagrams of one
// sender in one buffer, so a batch of messages may hold more packets than the caller has
// slots. Usually it does not, and the packets stay where the kernel put them, in parts of
// the caller's buffers. What is too much waits here, copied, and so does everything if the
// caller's buffers are too small to be joined into.
type joined struct {
	// bufs is where the messages of the call at work are, behind the headroom; nil means
	// in arena, which is made when it is first needed.
	bufs  [batchSize][]byte
	arena [][]byte
	// per is a running mean of datagrams per message, in sixteenths.
	per int

	waiting []held
	store   []byte // what waiting points into
}

// A held is a packet that waits for a slot.
type held struct {
	path       tun.Path
	ecn        uint8
	kind       tun.Kind
	start, end int // in store
}

// A message is one received message: one datagram, or several of the size segment.
type message struct {
	index, len, segment int
	path                tun.Path
	ecn                 uint8
}

func newJoined() *joined { return &joined{per: 16} }

// messages returns how many messages to ask for, so that the packets in them fit slots.
func (g *joined) messages(slots int) int {
	return min(max(1, slots*16/g.per), slots, batchSize)
}

// buffer returns the memory for message i: the caller's, if everything fits it.
func (g *joined) buffer(i int, caller []byte) []byte {
	if len(caller) >= tun.Headroom+tun.MaxPacket {
		g.bufs[i] = caller[:len(caller):len(caller)]
		return caller[tun.Headroom:]
	}
	g.bufs[i] = nil
	for len(g.arena) <= i {
		g.arena = append(g.arena, make([]byte, tun.MaxPacket))
	}
	return g.arena[i]
}

// split takes a message apart into pkts, and returns how many packets and bytes.
func (g *joined) split(w *Wire, pkts []tun.Packet, m message) (n, bytes int) {
	buf, off := g.bufs[m.index], tun.Headroom
	direct := buf != nil
	if !direct {
		buf, off = g.arena[m.index], 0
	}
	g.bufs[m.index] = nil // the caller's memory is not ours any more
	if m.segment <= 0 || m.segment >= m.len {
		m.segment = max(m.len, 1)
	}
	parts := max(1, (m.len+m.segment-1)/m.segment)
	g.per = max(16, g.per+(parts*16-g.per)/8)
	for k := range parts {
		start := off + k*m.segment
		end := min(start+m.segment, off+m.len)
		p := tun.Packet{Buf: buf[start:end:end], Len: end - start, Path: m.path, ECN: m.ecn}
		if parts == 1 && direct {
			p.Buf, p.Off = buf, off
		}
		if !accept(w, &p) {
			continue
		}
		if !direct || n == len(pkts) || len(g.waiting) > 0 {
			g.hold(&p)
			continue
		}
		pkts[n] = p
		n++
		bytes += p.Len
	}
	return n, bytes
}

// hold copies a packet that has no slot.
func (g *joined) hold(p *tun.Packet) {
	start := len(g.store)
	g.store = append(g.store, p.Data()...)
	g.waiting = append(g.waiting, held{path: p.Path, ecn: p.ECN, kind: p.Kind, start: start, end: len(g.store)})
}

// rest delivers what waits.
func (g *joined) rest(w *Wire, pkts []tun.Packet) (n, bytes int) {
	taken := 0
	for taken < len(g.waiting) && n < len(pkts) {
		h := &g.waiting[taken]
		taken++
		p := &pkts[n]
		if h.end-h.start > len(p.Buf)-tun.Headroom {
			w.count.Drop(tun.DropTruncated)
			continue
		}
		p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
		p.Off, p.Len = tun.Headroom, copy(p.Buf[tun.Headroom:], g.store[h.start:h.end])
		p.Path, p.ECN, p.Kind = h.path, h.ecn, h.kind
		n++
		bytes += p.Len
	}
	if g.waiting = append(g.waiting[:0], g.waiting[taken:]...); len(g.waiting) == 0 {
		g.store = g.store[:0]
	}
	return n, bytes
}
