package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/btns-go/btns/esp/ts"
)

// Packet is one outbound IP packet as the stack emitted it: possibly a TCP super-packet of up to 65,535 bytes that must be
// cut into MSS() pieces, or a UDP datagram above any MTU that must be fragmented. netstack gives access and cuts nothing.
// It is borrowed for the call of Hooks.Output; Hold keeps it. Not safe for concurrent use.
type Packet struct {
	s        *Stack
	pkt      *stack.PacketBuffer
	owner    *owner
	tag      *Tag
	provoker *Tag // only of a held packet; see Provoker
	unowned  bool
	held     bool
	proto    uint8
	ipLen    int
	header   []byte
	scratch  [headerScratch]byte // for a Header that gVisor has in two places

	// The payload cursor: left bytes, the next at cur[0].
	started bool
	cur     []byte
	view    *buffer.View
	left    int
}

// headerScratch holds the longest IPv4 header with the longest TCP header.
const headerScratch = 60 + 60

func (p *Packet) init(s *Stack, pkt *stack.PacketBuffer) {
	p.s, p.pkt = s, pkt
	nh := pkt.NetworkHeader().Slice()
	p.ipLen = len(nh)
	p.proto = uint8(pkt.TransportProtocolNumber)
	if len(nh) > 0 {
		switch nh[0] >> 4 {
		case 4:
			p.proto = header.IPv4(nh).Protocol()
		case 6:
			if p.proto == 0 || p.ipLen == header.IPv6MinimumSize {
				p.proto = header.IPv6(nh).NextHeader()
			}
		}
	}
	o, _ := pkt.Owner.(*owner)
	if o == nil && p.proto == ts.ProtoTCP && p.TCPFlags()&uint8(header.TCPFlagRst) == 0 {
		// A connection made from a SYN cookie is without an owner until Accept; its listener answers for it.
		f := p.Flow()
		if l := s.listenerFor(netip.AddrPortFrom(f.Src(), f.SrcPort())); l != nil {
			o = &l.owner
		}
	}
	p.owner = o
	if o == nil {
		p.unowned = true
		return
	}
	p.tag = o.outTag()
}

// recycle forgets the packet and returns p to the pool.
func (p *Packet) recycle() {
	s := p.s
	p.s, p.pkt, p.owner, p.tag, p.provoker = nil, nil, nil, nil, nil
	p.unowned, p.held, p.started = false, false, false
	p.header, p.cur, p.view, p.left = nil, nil, nil, 0
	s.packets.Put(p)
}

// Flow is the packet's flow: source = local.
func (p *Packet) Flow() ts.Flow {
	nh, th := p.pkt.NetworkHeader().Slice(), p.pkt.TransportHeader().Slice()
	var src, dst netip.Addr
	switch {
	case len(nh) >= header.IPv4MinimumSize && nh[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(nh[12:16])), netip.AddrFrom4([4]byte(nh[16:20]))
	case len(nh) >= header.IPv6MinimumSize:
		src, dst = netip.AddrFrom16([16]byte(nh[8:24])), netip.AddrFrom16([16]byte(nh[24:40]))
	}
	var sport, dport uint16
	switch {
	case p.proto == ts.ProtoICMP || p.proto == ts.ProtoICMPv6:
		var b [2]byte
		p.peek(b[:])
		sport = uint16(b[0])<<8 | uint16(b[1])
		dport = sport
	case len(th) >= 4:
		sport, dport = uint16(th[0])<<8|uint16(th[1]), uint16(th[2])<<8|uint16(th[3])
	}
	return ts.MakeFlow(p.proto, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport))
}

// Tag is the sending socket's tag, nil when Unowned or when the socket has none.
func (p *Packet) Tag() *Tag { return p.tag }

// Unowned reports that no socket sent it: a reset for a closed port, an echo reply, an ICMP error.
func (p *Packet) Unowned() bool { return p.unowned }

// Provoker is, for an Unowned packet, the tag of the inbound packet it answers, nil when that is not known any more. What
// the tag stands for may be gone by now.
func (p *Packet) Provoker() *Tag {
	if !p.unowned {
		return nil
	}
	if p.held {
		return p.provoker
	}
	f, ok := p.provokedBy()
	if !ok {
		return nil
	}
	return p.s.provoked.get(f)
}

// Header is the IP header and, for TCP and UDP, the transport header with options, contiguous. Read only.
func (p *Packet) Header() []byte {
	if p.header == nil {
		nh, th := p.pkt.NetworkHeader().Slice(), p.pkt.TransportHeader().Slice()
		n := len(nh) + len(th)
		switch {
		case len(th) == 0:
			p.header = nh
		case cap(nh) >= n && &nh[:len(nh)+1][len(nh)] == &th[0]:
			p.header = nh[:n:n]
		default:
			b := p.scratch[:0]
			p.header = append(append(b, nh...), th...)
		}
	}
	return p.header
}

// HeaderLens are the lengths of the IP header and of the transport header inside Header.
func (p *Packet) HeaderLens() (ip, transport int) {
	return p.ipLen, len(p.pkt.TransportHeader().Slice())
}

// Proto is the IP protocol.
func (p *Packet) Proto() uint8 { return p.proto }

// PayloadLen is how many bytes follow Header.
func (p *Packet) PayloadLen() int { return p.pkt.Data().Size() }

// CopyPayload copies the next payload bytes and moves the cursor; it returns less than len(dst) only at the end.
func (p *Packet) CopyPayload(dst []byte) int {
	if !p.started {
		p.Rewind()
	}
	if len(dst) > p.left {
		dst = dst[:p.left]
	}
	done := 0
	for done < len(dst) {
		for len(p.cur) == 0 {
			p.view = p.view.Next()
			if p.view == nil { // gVisor's sizes disagree: the caller sees a short copy
				p.left = 0
				return done
			}
			p.cur = p.view.AsSlice()
		}
		n := copy(dst[done:], p.cur)
		p.cur = p.cur[n:]
		done += n
	}
	p.left -= done
	return done
}

// Rewind moves the cursor back to the start of the payload.
func (p *Packet) Rewind() {
	views, off := p.pkt.AsViewList()
	off += p.pkt.HeaderSize()
	v := views.Front()
	for v != nil && off >= v.Size() {
		off -= v.Size()
		v = v.Next()
	}
	p.started, p.view, p.cur = true, v, nil
	p.left = 0
	if v != nil {
		p.cur = v.AsSlice()[off:]
		p.left = p.pkt.Data().Size()
	}
}

// MSS is the largest TCP payload of one segment when the packet must be cut, 0 when it goes as it is.
func (p *Packet) MSS() int {
	if g := &p.pkt.GSOOptions; g.Type != stack.GSONone && g.MSS > 0 && p.PayloadLen() > int(g.MSS) {
		return int(g.MSS)
	}
	return 0
}

// NeedsCsum reports that the transport checksum field holds nothing of use and must be computed over each packet that is
// sent. True for all TCP and UDP.
func (p *Packet) NeedsCsum() bool { return p.proto == ts.ProtoTCP || p.proto == ts.ProtoUDP }

// Size is len(Header) + PayloadLen.
func (p *Packet) Size() int { return p.pkt.Size() }

// TCPFlags are the flags of the TCP header (FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16), 0 for other protocols.
func (p *Packet) TCPFlags() uint8 {
	th := p.pkt.TransportHeader().Slice()
	if p.proto != ts.ProtoTCP || len(th) < header.TCPMinimumSize {
		return 0
	}
	return uint8(header.TCP(th).Flags())
}

// Refuse tells the sender, from inside Hooks.Output, that its packet will never go: a pending DialTCP fails with cause, a
// UDP write returns it. Nothing happens to an established TCP connection: for it this is loss.
func (p *Packet) Refuse(cause error) {
	p.s.drop(DropRefused)
	if p.owner != nil && cause != nil {
		p.owner.refuse(cause)
	}
}

// Hold keeps the packet beyond Output: the result stays valid, with its own cursor, until its Release. A held UDP datagram
// stays charged to its socket's send buffer.
func (p *Packet) Hold() *Packet {
	h := p.s.packets.Get().(*Packet)
	h.s, h.pkt = p.s, p.pkt.IncRef()
	h.owner, h.tag, h.unowned, h.proto, h.ipLen = p.owner, p.tag, p.unowned, p.proto, p.ipLen
	h.provoker, h.held = p.Provoker(), true
	return h
}

// Release gives a held packet back; it must not be used afterwards. It may be called from a hook, so that a newer packet can
// replace an older one there. On a packet that is only lent it does nothing.
func (p *Packet) Release() {
	if p.pkt == nil || !p.held {
		return
	}
	p.pkt.DecRef()
	p.recycle()
}

// peek copies the first bytes behind the IP header, wherever gVisor has them, and leaves the cursor alone.
func (p *Packet) peek(dst []byte) int {
	n := copy(dst, p.pkt.TransportHeader().Slice())
	if n == len(dst) {
		return n
	}
	started, cur, view, left := p.started, p.cur, p.view, p.left
	p.Rewind()
	n += p.CopyPayload(dst[n:])
	p.started, p.cur, p.view, p.left = started, cur, view, left
	return n
}

func (p *Packet) icmpType() uint8 {
	var b [1]byte
	p.peek(b[:])
	return b[0]
}
