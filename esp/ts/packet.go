package ts

import (
	"encoding/binary"
	"net/netip"
)

// PacketInfo is what ParseFlow learns beside the flow. Offsets and lengths are in bytes from the
// start of the packet.
type PacketInfo struct {
	HeaderLen     int    // IP header with all extension headers, a fragment header included
	TotalLen      int    // the packet by its own length field; at most len(pkt)
	NextHeaderOff int    // offset of the byte that names Proto
	FragHeaderOff int    // IPv6: offset of the fragment header; 0 without one
	FragNextOff   int    // IPv6: offset of the byte that names the fragment header
	FragOffset    int    // where this fragment's data belongs in the datagram
	FragID        uint32 // IPv4 identification, or the one of the fragment header
	Fragment      bool   // part of a larger datagram; false for an atomic fragment (RFC 6946)
	MoreFragments bool
	DF            bool  // IPv4 don't-fragment; always true for IPv6
	Proto         uint8 // upper-layer protocol; of a non-initial IPv6 fragment, what its header names
	ECN           uint8 // the two ECN bits
	TTL           uint8 // time to live or hop limit
}

// ParseFlow reads the flow of an IPv4 or IPv6 packet without allocating. It reports false for
// anything that is not one whole, well-formed packet: short, of another version, with lengths
// that disagree, IPv4-mapped addresses, a chain of extension headers that is cut, repeated or
// too long. Bytes behind the packet's own length are allowed (RFC 4303, Section 2.7). Checksums
// are not verified.
func ParseFlow(pkt []byte) (f Flow, info PacketInfo, ok bool) {
	if len(pkt) == 0 {
		return Flow{}, PacketInfo{}, false
	}
	switch pkt[0] >> 4 {
	case 4:
		ok = parse4(pkt, &f, &info)
	case 6:
		ok = parse6(pkt, &f, &info)
	}
	if !ok {
		return Flow{}, PacketInfo{}, false
	}
	return f, info, true
}

func parse4(pkt []byte, f *Flow, info *PacketInfo) bool {
	if len(pkt) < 20 {
		return false
	}
	hlen := int(pkt[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(pkt[2:]))
	if hlen < 20 || total < hlen || total > len(pkt) {
		return false
	}
	frag := binary.BigEndian.Uint16(pkt[6:])
	*info = PacketInfo{
		HeaderLen: hlen, TotalLen: total, NextHeaderOff: 9,
		FragOffset: int(frag&0x1fff) * 8, FragID: uint32(binary.BigEndian.Uint16(pkt[4:])),
		MoreFragments: frag&0x2000 != 0, DF: frag&0x4000 != 0,
		Proto: pkt[9], ECN: pkt[1] & 3, TTL: pkt[8],
	}
	info.Fragment = info.MoreFragments || info.FragOffset != 0
	if !fragOK(info) {
		return false
	}
	f.flags = flowValid
	f.proto = pkt[9]
	copy(f.src[:4], pkt[12:16])
	copy(f.dst[:4], pkt[16:20])
	f.readPorts(pkt[hlen:total], info.FragOffset != 0)
	return true
}

// fragOK reports whether the fragment ends inside a 65,535-byte datagram and, unless it is the
// last, carries a multiple of eight bytes (RFC 791, Section 3.2; RFC 8200, Section 4.5).
func fragOK(info *PacketInfo) bool {
	if !info.Fragment {
		return true
	}
	n := info.TotalLen - info.HeaderLen
	if info.MoreFragments && (n == 0 || n%8 != 0) {
		return false
	}
	return info.FragOffset+n <= 65535
}

func parse6(pkt []byte, f *Flow, info *PacketInfo) bool {
	if len(pkt) < 40 {
		return false
	}
	total := 40 + int(binary.BigEndian.Uint16(pkt[4:]))
	if total > len(pkt) {
		return false
	}
	*info = PacketInfo{TotalLen: total, DF: true, ECN: pkt[1] >> 4 & 3, TTL: pkt[7]}
	if mapped(pkt[8:24]) || mapped(pkt[24:40]) {
		return false
	}
	next, nextOff, off := pkt[6], 6, 40
	later := false // a non-initial fragment: what follows is not a header
walk:
	for n := 0; ; n++ {
		var size int
		switch next {
		case 0: // hop-by-hop options, only directly behind the IPv6 header (RFC 8200, Section 4.1)
			if nextOff != 6 {
				return false
			}
			size = 1
		case 43, 60: // routing, destination options
			size = 1
		case 44:
			if info.FragHeaderOff != 0 {
				return false
			}
			size = 8
		default:
			break walk
		}
		if n == MaxExtHeaders || off+8 > total {
			return false
		}
		if size == 8 {
			frag := binary.BigEndian.Uint16(pkt[off+2:])
			info.FragHeaderOff, info.FragNextOff = off, nextOff
			info.FragOffset = int(frag &^ 7)
			info.MoreFragments = frag&1 != 0
			info.FragID = binary.BigEndian.Uint32(pkt[off+4:])
			later = info.FragOffset != 0
		} else {
			size = (int(pkt[off+1]) + 1) * 8
		}
		if off+size > total {
			return false
		}
		next, nextOff, off = pkt[off], off, off+size
		if later {
			break
		}
	}
	info.HeaderLen, info.NextHeaderOff, info.Proto = off, nextOff, next
	info.Fragment = info.MoreFragments || info.FragOffset != 0
	if info.Fragment && !frag6OK(info) {
		return false
	}
	f.flags = flowValid | flowV6
	f.proto = next
	copy(f.src[:], pkt[8:24])
	copy(f.dst[:], pkt[24:40])
	f.readPorts(pkt[off:total], later)
	return true
}

// frag6OK is fragOK for IPv6, where the fragmentable part starts behind the fragment header and
// may hold extension headers of its own.
func frag6OK(info *PacketInfo) bool {
	part := *info
	part.HeaderLen = info.FragHeaderOff + 8
	return fragOK(&part)
}

// mapped reports whether b is an IPv4-mapped IPv6 address, which must not appear on a wire.
func mapped(b []byte) bool {
	return netip.AddrFrom16([16]byte(b)).Is4In6()
}

// readPorts fills in the ports from the upper layer, or marks the flow opaque.
func (f *Flow) readPorts(upper []byte, later bool) {
	switch {
	case later || !hasPorts(f.proto):
	case f.proto == ProtoICMP || f.proto == ProtoICMPv6:
		if len(upper) >= 4 {
			f.sport = binary.BigEndian.Uint16(upper)
			f.dport = f.sport
			return
		}
	case f.proto == ProtoMH: // RFC 6275, Section 6.1.1: the type is the third byte
		if len(upper) >= 4 {
			f.sport = uint16(upper[2]) << 8
			f.dport = f.sport
			return
		}
	case len(upper) >= 4:
		f.sport = binary.BigEndian.Uint16(upper)
		f.dport = binary.BigEndian.Uint16(upper[2:])
		return
	}
	f.flags |= flowOpaque
}
