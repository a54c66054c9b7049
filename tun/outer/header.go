package outer

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-go/btns/tun"
)

// IANA's protocol numbers.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoESP      = 50
	protoICMPv6   = 58
	protoOptions  = 60
)

// Sizes of headers.
const (
	ip4Len      = 20 // without options; we send none
	ip6Len      = 40
	fragmentLen = 8
	udpLen      = 8
)

// A header is what an IP packet says of itself.
type header struct {
	src, dst netip.Addr
	proto    uint8 // of the payload, behind extension headers
	ecn      uint8
	off, end int // the payload is packet[off:end]

	fragment bool   // it is part of a packet: more or offset is not 0
	more     bool   // it is not the last part
	offset   int    // of the part, in bytes
	id       uint32 // of the whole
}

// parse reads the headers of one IP packet, up to the payload or the fragment header.
func parse(b []byte) (h header, drop tun.Drop) {
	if len(b) == 0 {
		return h, tun.DropHeader
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return h, tun.DropProto
}

// parse4 reads an IPv4 header (RFC 791, Section 3.1). Options are skipped.
func parse4(b []byte) (h header, drop tun.Drop) {
	if len(b) < ip4Len {
		return h, tun.DropHeader
	}
	h.off = int(b[0]&15) * 4
	h.end = int(binary.BigEndian.Uint16(b[2:]))
	if h.off < ip4Len || h.off > h.end || h.end > len(b) {
		return h, tun.DropHeader
	}
	if fold(sum(0, b[:h.off])) != 0xFFFF {
		return h, tun.DropChecksum
	}
	h.ecn = b[1] & 3
	h.id = uint32(binary.BigEndian.Uint16(b[4:]))
	flags := binary.BigEndian.Uint16(b[6:])
	h.more = flags&0x2000 != 0
	h.offset = int(flags&0x1FFF) * 8
	h.fragment = h.more || h.offset != 0
	h.proto = b[9]
	h.src = netip.AddrFrom4([4]byte(b[12:16]))
	h.dst = netip.AddrFrom4([4]byte(b[16:20]))
	return h, tun.DropUnset
}

// parse6 reads an IPv6 header (RFC 8200, Section 3) and what extends it.
func parse6(b []byte) (h header, drop tun.Drop) {
	if len(b) < ip6Len {
		return h, tun.DropHeader
	}
	h.off = ip6Len
	h.end = ip6Len + int(binary.BigEndian.Uint16(b[4:]))
	if h.end > len(b) {
		return h, tun.DropHeader
	}
	h.ecn = b[1] >> 4 & 3
	h.src = netip.AddrFrom16([16]byte(b[8:24]))
	h.dst = netip.AddrFrom16([16]byte(b[24:40]))
	h.proto, h.off, drop = extensions(b[:h.end], b[6], h.off)
	if drop != tun.DropUnset || h.proto != protoFragment {
		return h, drop
	}
	if h.end-h.off < fragmentLen {
		return h, tun.DropHeader
	}
	f := b[h.off:]
	h.off += fragmentLen
	h.proto = f[0]
	flags := binary.BigEndian.Uint16(f[2:])
	h.more = flags&1 != 0
	h.offset = int(flags &^ 7)
	h.id = binary.BigEndian.Uint32(f[4:])
	h.fragment = h.more || h.offset != 0
	if !h.fragment {
		// An atomic fragment is whole, whatever else has its number: RFC 6946, Section 4.
		h.proto, h.off, drop = extensions(b[:h.end], h.proto, h.off)
		if h.proto == protoFragment {
			drop = tun.DropFragment
		}
	}
	return h, drop
}

// extensions walks IPv6 extension headers from off on, where the header is of type next.
// It stops at a fragment header and at anything that is not an extension header.
func extensions(b []byte, next uint8, off int) (proto uint8, at int, drop tun.Drop) {
	for range maxExtensions {
		switch next {
		case protoHopByHop, protoRouting, protoOptions:
		default:
			return next, off, tun.DropUnset
		}
		if len(b)-off < 8 {
			return next, off, tun.DropHeader
		}
		n := int(b[off+1])*8 + 8
		if len(b)-off < n {
			return next, off, tun.DropHeader
		}
		if next == protoRouting && b[off+3] != 0 {
			// We are no waypoint: RFC 8200, Section 4.4; RFC 5095 for type 0.
			return next, off, tun.DropHeader
		}
		next = b[off]
		off += n
	}
	return next, off, tun.DropHeader
}

// put4 writes an IPv4 header in front of a payload of n bytes. frag is the word with the
// flags and the offset.
func put4(b []byte, src, dst netip.Addr, proto, ecn uint8, n int, id uint32, frag uint16) {
	b[0], b[1] = 0x45, ecn
	binary.BigEndian.PutUint16(b[2:], uint16(ip4Len+n))
	binary.BigEndian.PutUint16(b[4:], uint16(id))
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9], b[10], b[11] = hopLimit, proto, 0, 0
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:ip4Len])))
}

// put6 writes an IPv6 header in front of n bytes.
func put6(b []byte, src, dst netip.Addr, next, ecn uint8, n int) {
	b[0], b[1], b[2], b[3] = 0x60, ecn<<4, 0, 0
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	b[6], b[7] = next, hopLimit
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
}

// hopLimit is IANA's recommendation for TTL and hop limit.
const hopLimit = 64
