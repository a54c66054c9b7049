package ts

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
)

// Flow is a packet's 5-tuple, packed into 38 pointer-free bytes without gaps: comparable, usable as a map
// key, cheap to hash. Build it with MakeFlow or ParseFlow; the zero Flow is invalid and matches
// nothing. For ICMP and ICMPv6 both ports are type<<8|code.
type Flow struct {
	src, dst     [16]byte // IPv4 in the first four bytes, the rest zero
	sport, dport uint16
	proto        uint8
	flags        uint8
}

const (
	flowValid  = 1 << iota // set by MakeFlow and ParseFlow only
	flowV6                 // src and dst are IPv6
	flowOpaque             // the ports cannot be seen
)

// MakeFlow returns the flow of packets from src to dst. Protocols without ports give an opaque
// flow; for ICMP put type<<8|code into both ports. It returns the zero Flow, which is invalid,
// unless both addresses are of one family and free of zones and of the IPv4-mapped form.
func MakeFlow(proto uint8, src, dst netip.AddrPort) Flow {
	sa, da := src.Addr(), dst.Addr()
	if !plain(sa) || !plain(da) || sa.Is4() != da.Is4() {
		return Flow{}
	}
	f := Flow{proto: proto, flags: flowValid}
	if sa.Is4() {
		s4, d4 := sa.As4(), da.As4()
		copy(f.src[:], s4[:])
		copy(f.dst[:], d4[:])
	} else {
		f.src, f.dst = sa.As16(), da.As16()
		f.flags |= flowV6
	}
	if hasPorts(proto) {
		f.sport, f.dport = src.Port(), dst.Port()
	} else {
		f.flags |= flowOpaque
	}
	return f
}

// IsValid reports whether f came from MakeFlow or ParseFlow with good addresses.
func (f Flow) IsValid() bool { return f.flags&flowValid != 0 }

// IsV6 reports whether f is an IPv6 flow.
func (f Flow) IsV6() bool { return f.flags&flowV6 != 0 }

// Opaque reports whether the ports are unknown: a non-initial fragment, an upper layer that is
// cut short, or a protocol without ports.
func (f Flow) Opaque() bool { return f.flags&flowOpaque != 0 }

// Proto returns the IP protocol.
func (f Flow) Proto() uint8 { return f.proto }

// SrcPort returns the source port, 0 if opaque.
func (f Flow) SrcPort() uint16 { return f.sport }

// DstPort returns the destination port, 0 if opaque.
func (f Flow) DstPort() uint16 { return f.dport }

// Src returns the source address; the zero Addr if f is invalid.
func (f Flow) Src() netip.Addr { return f.addr(&f.src) }

// Dst returns the destination address; the zero Addr if f is invalid.
func (f Flow) Dst() netip.Addr { return f.addr(&f.dst) }

func (f *Flow) addr(b *[16]byte) netip.Addr {
	switch {
	case f.flags&flowValid == 0:
		return netip.Addr{}
	case f.flags&flowV6 != 0:
		return netip.AddrFrom16(*b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// Reverse returns the flow of the answers: addresses and ports swapped. The types of ICMP stay.
func (f Flow) Reverse() Flow {
	f.src, f.dst = f.dst, f.src
	f.sport, f.dport = f.dport, f.sport
	return f
}

// WithoutPorts returns f with its ports hidden, as its later fragments show it.
func (f Flow) WithoutPorts() Flow {
	if f.IsValid() {
		f.sport, f.dport = 0, 0
		f.flags |= flowOpaque
	}
	return f
}

// Hash mixes f with a secret seed. It is for tables of this process; with a random seed a peer
// cannot aim at one bucket.
func (f Flow) Hash(seed uint64) uint64 {
	le := binary.LittleEndian
	const k0, k1, k2 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3
	tail := uint64(f.sport) | uint64(f.dport)<<16 | uint64(f.proto)<<32 | uint64(f.flags)<<40
	h := fold(le.Uint64(f.src[0:])^k0^seed, le.Uint64(f.src[8:])^k1^bits.RotateLeft64(seed, 32))
	h = fold(h^le.Uint64(f.dst[0:]), le.Uint64(f.dst[8:])^k2^seed)
	return fold(h^tail, k1^seed)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// String returns "tcp 10.0.0.1:80 > 10.0.0.2:5000", or "invalid".
func (f Flow) String() string {
	switch {
	case !f.IsValid():
		return "invalid"
	case f.Opaque():
		return fmt.Sprintf("%s %v > %v", protoName(f.proto), f.Src(), f.Dst())
	case OneSelector(f.proto):
		return fmt.Sprintf("%s %v > %v type %d code %d", protoName(f.proto), f.Src(), f.Dst(),
			f.sport>>8, f.sport&0xff)
	}
	return fmt.Sprintf("%s %v > %v", protoName(f.proto),
		netip.AddrPortFrom(f.Src(), f.sport), netip.AddrPortFrom(f.Dst(), f.dport))
}
