package datapath

import (
	"encoding/binary"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/netstack"
)

// merger coalesces consecutive TCP segments of one flow that came under one SA in one batch, so that the stack takes them in
// as one. Nothing waits beyond the batch, and nothing is merged across SAs: everything is flushed with its group.
type merger struct {
	p     *Path
	tag   *netstack.Tag
	n     int // in use of merges
	merge [maxMerges]merge
	one   [1][]byte // for single packets: an argument list would be allocated
}

// merge is a packet in the making.
type merge struct {
	flow   ts.Flow
	parts  [][]byte // the first packet, then payloads of the following ones
	head   int      // length of the first one's headers
	ipLen  int
	size   int    // of all parts
	seq    uint32 // expected next
	closed bool   // nothing may be added
	flags  uint8
}

func (m *merger) init(p *Path, batch int) {
	m.p = p
	for i := range m.merge {
		m.merge[i].parts = make([][]byte, 0, batch)
	}
}

// add takes in a packet: merged, kept for the next ones to be merged with, or delivered. Packets of one flow stay in order.
func (m *merger) add(tag *netstack.Tag, f ts.Flow, info *ts.PacketInfo, b []byte) {
	m.tag = tag
	if f.Proto() != ts.ProtoTCP {
		m.single(tag, b)
		return
	}
	seg, ok := readSegment(info, b)
	for i := range m.merge[:m.n] {
		g := &m.merge[i]
		if g.flow != f {
			continue
		}
		if ok && g.takes(seg, b) {
			g.parts = append(g.parts, b[seg.head:])
			g.size += len(b) - seg.head
			g.seq += uint32(len(b) - seg.head)
			g.flags |= seg.flags & tcpPSH
			g.closed = seg.flags&tcpPSH != 0
			m.p.count.coalesced.Add(1)
			return
		}
		// Out of order, or of another kind: what came before goes first, and this begins anew.
		m.emit(g)
		if !ok {
			m.remove(i)
			m.single(tag, b)
			return
		}
		g.begin(f, seg, b)
		return
	}
	if !ok {
		m.single(tag, b)
		return
	}
	if m.n == maxMerges {
		m.emit(&m.merge[0])
		m.remove(0)
	}
	m.merge[m.n].begin(f, seg, b)
	m.n++
}

// segment is what add wants to know of a TCP segment that may be merged.
type segment struct {
	head, ipLen int
	seq         uint32
	flags       uint8
}

// readSegment reports whether the packet may be merged: payload, and no flags but ACK and PSH.
func readSegment(info *ts.PacketInfo, b []byte) (s segment, ok bool) {
	s.ipLen = info.HeaderLen
	if len(b) < s.ipLen+20 {
		return s, false
	}
	tcp := b[s.ipLen:]
	hlen := int(tcp[12]>>4) * 4
	s.head = s.ipLen + hlen
	s.flags = tcp[13]
	s.seq = binary.BigEndian.Uint32(tcp[4:])
	return s, hlen >= 20 && len(b) > s.head && s.flags&^tcpPSH == tcpACK
}

func (g *merge) begin(f ts.Flow, s segment, b []byte) {
	g.flow, g.head, g.ipLen, g.size, g.flags = f, s.head, s.ipLen, len(b), s.flags
	g.seq = s.seq + uint32(len(b)-s.head)
	g.closed = s.flags&tcpPSH != 0
	g.parts = append(g.parts[:0], b)
}

// takes reports whether the segment continues g: the next bytes, under headers that differ only in what a merge recomputes.
func (g *merge) takes(s segment, b []byte) bool {
	a := g.parts[0]
	if g.closed || s.seq != g.seq || s.head != g.head || s.ipLen != g.ipLen || g.size+len(b)-s.head > maxMerged ||
		len(g.parts) == cap(g.parts) {
		return false
	}
	if a[0] != b[0] || a[1] != b[1] { // version, TOS and so ECN
		return false
	}
	if a[0]>>4 == 4 {
		// Flags, TTL; not length, identification and checksum. Options of IPv4 are not merged.
		if s.ipLen != 20 || a[6] != b[6] || a[8] != b[8] {
			return false
		}
	} else if s.ipLen != 40 || a[2] != b[2] || a[3] != b[3] || a[7] != b[7] { // flow label, hop limit
		return false
	}
	ta, tb := a[s.ipLen:s.head], b[s.ipLen:s.head]
	// Acknowledgement, window, options; the flags were judged before.
	return string(ta[8:13]) == string(tb[8:13]) && string(ta[14:16]) == string(tb[14:16]) &&
		string(ta[18:]) == string(tb[18:])
}

func (m *merger) single(tag *netstack.Tag, b []byte) {
	m.one[0] = b
	m.p.deliver(tag, m.one[:]...)
	m.one[0] = nil
}

// emit delivers g. Lengths are corrected, and the IPv4 header checksum; the TCP checksum stays that of the first segment.
func (m *merger) emit(g *merge) {
	if len(g.parts) > 1 {
		b := g.parts[0]
		b[g.ipLen+13] |= g.flags & tcpPSH
		if b[0]>>4 == 4 {
			binary.BigEndian.PutUint16(b[2:], uint16(g.size))
			fixIPv4(b, g.ipLen)
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(g.size-40))
		}
	}
	m.p.deliver(m.tag, g.parts...)
	clear(g.parts)
	g.parts = g.parts[:0]
}

func (m *merger) remove(i int) {
	m.n--
	// Order among flows does not matter; the slices are kept for the next ones.
	m.merge[i], m.merge[m.n] = m.merge[m.n], m.merge[i]
}

// flush delivers everything.
func (m *merger) flush() {
	for i := range m.merge[:m.n] {
		m.emit(&m.merge[i])
	}
	m.n = 0
}
