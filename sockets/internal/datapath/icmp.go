package datapath

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
)

const (
	// icmpHeader is what precedes the quoted packet in an ICMP error (RFC 792; RFC 4443, Section 2.1).
	icmpHeader = 8
	// maxQuotedExt bounds the extension headers of a quoted IPv6 packet.
	maxQuotedExt = 4
	// rebuiltTTL is the TTL of headers made for transport-mode packets, whose own one was the outer packet's.
	rebuiltTTL = 64
)

// icmpError reports whether f is an ICMP or ICMPv6 error message. Deprecated source quench counts: nobody wants it.
func icmpError(f ts.Flow) bool {
	if f.Opaque() {
		return false
	}
	t := f.SrcPort() >> 8
	switch f.Proto() {
	case ts.ProtoICMP:
		return t == 3 || t == 4 || t == 11 || t == 12
	case ts.ProtoICMPv6:
		return t < 128
	}
	return false
}

// icmpLocal reports messages that only a neighbour or router on the same link may send: redirects, neighbour and router
// discovery, multicast listener reports. Nobody is a neighbour through a tunnel, and a peer must not configure this host.
func icmpLocal(f ts.Flow) bool {
	if f.Opaque() {
		return false
	}
	t := f.SrcPort() >> 8
	switch f.Proto() {
	case ts.ProtoICMP:
		return t == 5 || t == 9 || t == 10
	case ts.ProtoICMPv6:
		return t >= 130 && t <= 137 || t >= 141 && t <= 143
	}
	return false
}

// quoted reads the flow of the packet that an ICMP error quotes, cut short as it may be: at least its IP header and the
// first eight bytes behind it. A later fragment is refused: it does not show what connection it was of.
func quoted(b []byte, v6 bool) (ts.Flow, bool) {
	if v6 {
		return quoted6(b)
	}
	if len(b) < 20 || b[0]>>4 != 4 {
		return ts.Flow{}, false
	}
	n := int(b[0]&15) * 4
	if n < 20 || len(b) < n+8 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return ts.Flow{}, false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return quotedFlow(b[9], src, dst, b[n:])
}

func quoted6(b []byte) (ts.Flow, bool) {
	if len(b) < 48 || b[0]>>4 != 6 {
		return ts.Flow{}, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	next, b := b[6], b[40:]
	for range maxQuotedExt {
		var n int
		switch next {
		case 0, 43, 60:
			n = (int(b[1]) + 1) * 8
		case protoFragment:
			if binary.BigEndian.Uint16(b[2:])&^7 != 0 {
				return ts.Flow{}, false
			}
			n = 8
		default:
			return quotedFlow(next, src, dst, b)
		}
		next = b[0]
		if len(b) < n+8 {
			return ts.Flow{}, false
		}
		b = b[n:]
	}
	return ts.Flow{}, false
}

// quotedFlow makes the flow from eight bytes of transport header.
func quotedFlow(proto uint8, src, dst netip.Addr, b []byte) (ts.Flow, bool) {
	var sport, dport uint16
	switch proto {
	case ts.ProtoICMP, ts.ProtoICMPv6:
		sport = binary.BigEndian.Uint16(b)
		dport = sport
	default:
		sport, dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	f := ts.MakeFlow(proto, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport))
	return f, f.IsValid()
}
