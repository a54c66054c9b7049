package datapath

import (
	"encoding/binary"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/netstack"
)

const (
	protoIPv4     = 4
	protoIPv6     = 41
	protoFragment = 44

	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpPSH = 8
	tcpACK = 16
	tcpURG = 32
	tcpCWR = 128
)

// A cutter turns one packet of the stack into the packets that leave: one, or TCP segments, or fragments.
type cutter struct {
	pkt     *netstack.Packet
	head    []byte // IP and transport header
	ipLen   int
	payload int   // bytes behind head
	proto   uint8 // transport protocol
	v6      bool
	ecn     uint8
	csum    int // offset of the transport checksum that is to be computed, -1 for none
	skip    int // bytes of head that are not sent: the IP header in transport mode
	seg     int // TCP payload of one segment
}

// newCutter reads pkt. It reports false for what the stack does not emit: IPv6 extension headers, a header that is cut.
func newCutter(pkt *netstack.Packet) (c cutter, ok bool) {
	head := pkt.Header()
	ipLen, tl := pkt.HeaderLens()
	if len(head) < 20 || ipLen+tl != len(head) {
		return c, false
	}
	pkt.Rewind()
	c = cutter{pkt: pkt, head: head, ipLen: ipLen, payload: pkt.PayloadLen(), csum: -1}
	switch head[0] >> 4 {
	case 4:
		if ipLen < 20 {
			return c, false
		}
		c.proto, c.ecn = head[9], head[1]&3
	case 6:
		if ipLen != 40 {
			return c, false
		}
		c.v6, c.proto, c.ecn = true, head[6], head[1]>>4&3
	default:
		return c, false
	}
	if off := checksumOffset(c.proto); off >= 0 && pkt.NeedsCsum() && tl >= off+2 {
		c.csum = off
	}
	c.seg = c.payload
	if m := pkt.MSS(); m > 0 {
		c.seg = min(c.seg, m)
	}
	return c, true
}

// next is the ESP next header of the packets.
func (c *cutter) next(mode esp.Mode) uint8 {
	switch {
	case mode == esp.ModeTransport:
		return c.proto
	case c.v6:
		return protoIPv6
	}
	return protoIPv4
}

// splits reports whether a TCP packet may become several. What a SYN carries is not cut: nothing emits it.
func (c *cutter) splits() bool {
	return c.proto == ts.ProtoTCP && len(c.head) >= c.ipLen+20 && c.head[c.ipLen+13]&(tcpSYN|tcpRST|tcpURG) == 0
}

// one writes the packet as it is into dst, whose length is that of what is sent.
func (c *cutter) one(dst []byte) {
	n := copy(dst, c.head[c.skip:])
	c.pkt.CopyPayload(dst[n:])
	c.finish(dst)
}

// finish completes length and checksums of a packet in dst.
func (c *cutter) finish(dst []byte) {
	tl := dst[c.ipLen-c.skip:]
	if c.csum >= 0 {
		tl[c.csum], tl[c.csum+1] = 0, 0
		putChecksum(tl[c.csum:], c.proto, fold(sum(tl, pseudo(c.head, c.proto, len(tl)))))
	}
	if c.skip == 0 {
		setLength(dst, c.ipLen)
	}
}

// segment writes the TCP segment that begins off bytes into the payload, and whose payload fills dst.
func (c *cutter) segment(dst []byte, off int, id uint16) {
	n := copy(dst, c.head[c.skip:])
	c.pkt.CopyPayload(dst[n:])
	tcp := dst[c.ipLen-c.skip:]
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(off))
	if off+len(dst)-n < c.payload {
		tcp[13] &^= tcpFIN | tcpPSH // these belong to the last segment
	}
	if off > 0 {
		tcp[13] &^= tcpCWR // and this one to the first (RFC 3168, Section 6.1.2)
	}
	if !c.v6 && c.skip == 0 {
		binary.BigEndian.PutUint16(dst[4:], binary.BigEndian.Uint16(dst[4:])+id)
	}
	c.finish(dst)
}

// fragments writes the packet as fragments no longer than limit into b, and reports whether they fit. limit is at least
// the smallest MTU of the family, so that b holds those of the largest packet.
func (c *cutter) fragments(b *batch, limit int, id uint32) bool {
	ip := c.ipLen
	if c.v6 {
		ip += 8
	}
	upper := len(c.head) - c.ipLen // transport header, before the payload
	total := upper + c.payload
	size := (limit - ip) &^ 7
	if size < upper {
		return false // the first fragment must show the whole transport header (RFC 7112, Section 5)
	}
	var acc uint64
	var first []byte
	for off := 0; off < total; off += size {
		n := min(size, total-off)
		dst := b.slot(ip + n)
		if dst == nil {
			return false
		}
		copy(dst, c.head[:c.ipLen])
		body := dst[ip:]
		if off == 0 {
			first = body
			copy(body, c.head[c.ipLen:])
			if c.csum >= 0 {
				body[c.csum], body[c.csum+1] = 0, 0
			}
			c.pkt.CopyPayload(body[upper:])
		} else {
			c.pkt.CopyPayload(body)
		}
		if c.csum >= 0 {
			acc = sum(body, acc)
		}
		more := off+n < total
		if c.v6 {
			// RFC 8200, Section 4.5.
			dst[6] = protoFragment
			dst[40], dst[41] = c.proto, 0
			v := uint16(off)
			if more {
				v |= 1
			}
			binary.BigEndian.PutUint16(dst[42:], v)
			binary.BigEndian.PutUint32(dst[44:], id)
		} else {
			// RFC 791, Section 3.2. Don't-fragment goes: these are fragments.
			v := uint16(off / 8)
			if more {
				v |= 0x2000
			}
			binary.BigEndian.PutUint16(dst[6:], v)
			binary.BigEndian.PutUint16(dst[4:], uint16(id))
		}
		setLength(dst, c.ipLen)
	}
	if c.csum >= 0 {
		putChecksum(first[c.csum:], c.proto, fold(addSums(acc, pseudo(c.head, c.proto, total))))
	}
	return true
}

// addSums adds two running sums.
func addSums(a, b uint64) uint64 {
	s := a + b
	if s < a {
		s++
	}
	return s
}

// emit cuts the packet and sends it under o. DropRemoved means that nothing of it was sent.
func (p *Path) emit(o *outboundSA, c *cutter, st *pathState) Drop {
	b := p.getBatch()
	defer p.putBatch(b)
	limit := st.limit4
	if c.v6 {
		limit = st.limit6
	}
	if o.mode == esp.ModeTransport {
		c.skip = c.ipLen
	}
	next := c.next(o.mode)
	size := len(c.head) - c.skip + c.payload
	if c.splits() {
		c.seg = min(c.seg, limit-len(c.head))
	}
	switch {
	case c.seg <= 0 && c.payload > 0:
		return DropTooBig
	case c.splits() && c.payload > c.seg:
		id, sent := uint16(0), false
		for off := 0; off < c.payload; off += c.seg {
			n := len(c.head) - c.skip + min(c.seg, c.payload-off)
			dst := b.slot(n)
			if dst == nil {
				if d := p.flush(o, b, next, c.ecn, st); d != DropUnset {
					if sent {
						return DropSend
					}
					return d
				}
				sent = true
				if dst = b.slot(n); dst == nil {
					return DropTooBig
				}
			}
			c.segment(dst, off, id)
			id++
		}
		if d := p.flush(o, b, next, c.ecn, st); d == DropRemoved && sent {
			return DropSend
		} else {
			return d
		}
	case o.mode == esp.ModeTunnel && len(c.head)+c.payload > limit:
		if !c.fragments(b, limit, p.fragID.Add(1)) {
			return DropTooBig
		}
		p.count.fragmented.Add(1)
	default:
		dst := b.slot(size)
		if dst == nil || size+o.sa.Overhead(size) > maxESP {
			return DropTooBig
		}
		c.one(dst)
	}
	return p.flush(o, b, next, c.ecn, st)
}

// emitClear sends the packet outside IPsec, cut to the wire's MTU.
func (p *Path) emitClear(c *cutter, f ts.Flow) Drop {
	b := p.getBatch()
	defer p.putBatch(b)
	limit := max(p.caps.MTU, minMTU4)
	if c.v6 {
		limit = max(limit, minMTU6)
	}
	if c.splits() {
		c.seg = min(c.seg, limit-len(c.head))
	}
	switch {
	case c.seg <= 0 && c.payload > 0:
		return DropTooBig
	case c.splits() && c.payload > c.seg:
		id := uint16(0)
		for off := 0; off < c.payload; off += c.seg {
			n := len(c.head) + min(c.seg, c.payload-off)
			dst := b.slot(n)
			if dst == nil {
				p.sendClear(b, f.Dst(), c.ecn)
				if dst = b.slot(n); dst == nil {
					return DropTooBig
				}
			}
			c.segment(dst, off, id)
			id++
		}
	case len(c.head)+c.payload > limit:
		if !c.fragments(b, limit, p.fragID.Add(1)) {
			return DropTooBig
		}
		p.count.fragmented.Add(1)
	default:
		dst := b.slot(len(c.head) + c.payload)
		if dst == nil {
			return DropTooBig
		}
		c.one(dst)
	}
	p.sendClear(b, f.Dst(), c.ecn)
	return DropUnset
}
