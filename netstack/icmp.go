package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/btns-go/btns/esp/ts"
)

const (
	icmpHeader = 8       // type, code, checksum, rest (RFC 792; RFC 4443, Section 2.1)
	maxQuote   = 60 + 40 // of the quoted packet, what is looked at: any IPv4 header, or IPv6 and the ports
)

// screenICMP decides about an inbound ICMP message before gVisor sees it: which types a host behind a tunnel has use for,
// and for an error whether the connection that it would act on admits it. An echo reply is left to the hook, where its
// socket is known.
func (s *Stack) screenICMP(f ts.Flow, tag *Tag, msg []byte) Drop {
	if len(msg) < icmpHeader || f.Opaque() {
		return DropMalformed
	}
	typ, code := msg[0], msg[1]
	var isErr bool
	if f.IsV6() {
		switch header.ICMPv6Type(typ) {
		case header.ICMPv6EchoReply:
			return DropUnset
		case header.ICMPv6EchoRequest:
		case header.ICMPv6DstUnreachable, header.ICMPv6PacketTooBig, header.ICMPv6TimeExceeded, header.ICMPv6ParamProblem:
			isErr = true
		default:
			return DropProtocol
		}
	} else {
		switch header.ICMPv4Type(typ) {
		case header.ICMPv4EchoReply:
			return DropUnset
		case header.ICMPv4Echo:
		case header.ICMPv4DstUnreachable, header.ICMPv4TimeExceeded, header.ICMPv4ParamProblem:
			isErr = true
		default:
			return DropProtocol
		}
	}
	if !s.callAdmit(Inbound{Flow: f, Packet: tag, Proto: f.Proto()}) {
		return DropAdmit
	}
	if !isErr {
		return DropUnset
	}
	about, ok := quotedFlow(msg[icmpHeader:])
	if !ok || about.IsV6() != f.IsV6() || !s.owns(about.Src()) || absurdMTU(f.IsV6(), typ, code, msg) {
		return DropICMPQuote
	}
	in := Inbound{Flow: about.Reverse(), Packet: tag, Proto: about.Proto(), ICMPError: true}
	if ep, o := s.find(about); o != nil {
		in.Socket = o.tag.Load()
	} else if ep != nil { // not accepted yet
		if l := s.listenerFor(netip.AddrPortFrom(about.Src(), about.SrcPort())); l != nil {
			in.Socket = l.owner.tag.Load()
		}
	}
	if !s.callAdmit(in) {
		return DropAdmit
	}
	return DropUnset
}

// absurdMTU reports a "packet too big" below what any path has (RFC 8201, Section 4 for IPv6).
func absurdMTU(v6 bool, typ, code uint8, msg []byte) bool {
	if v6 {
		return header.ICMPv6Type(typ) == header.ICMPv6PacketTooBig && binary.BigEndian.Uint32(msg[4:]) < minPathMTU6
	}
	return header.ICMPv4Type(typ) == header.ICMPv4DstUnreachable && header.ICMPv4Code(code) == header.ICMPv4FragmentationNeeded &&
		binary.BigEndian.Uint16(msg[6:]) < minPathMTU4
}

// quotedFlow reads the flow of a packet quoted, cut short, in an ICMP error: source = the one who is told.
func quotedFlow(b []byte) (ts.Flow, bool) {
	var src, dst netip.Addr
	var proto uint8
	var upper []byte
	switch {
	case len(b) >= header.IPv4MinimumSize && b[0]>>4 == 4:
		hl := int(b[0]&15) * 4
		if hl < header.IPv4MinimumSize || len(b) < hl || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return ts.Flow{}, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		proto, upper = b[9], b[hl:]
	case len(b) >= header.IPv6MinimumSize && b[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		proto, upper = b[6], b[40:]
	}
	if len(upper) < 4 {
		return ts.Flow{}, false
	}
	var sport, dport uint16
	switch proto {
	case ts.ProtoTCP, ts.ProtoUDP:
		sport, dport = binary.BigEndian.Uint16(upper), binary.BigEndian.Uint16(upper[2:])
	case ts.ProtoICMP, ts.ProtoICMPv6:
		sport = binary.BigEndian.Uint16(upper)
		dport = sport
	default:
		return ts.Flow{}, false
	}
	f := ts.MakeFlow(proto, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport))
	return f, f.IsValid()
}

// tooBig is the transport error that lowers one connection's MTU; the value is without the IP header.
type tooBig int

var _ stack.TransportError = tooBig(0)

func (tooBig) Origin() tcpip.SockErrOrigin    { return tcpip.SockExtErrorOriginLocal }
func (tooBig) Type() uint8                    { return 0 }
func (tooBig) Code() uint8                    { return 0 }
func (t tooBig) Info() uint32                 { return uint32(t) }
func (tooBig) Kind() stack.TransportErrorKind { return stack.PacketTooBigTransportError }
