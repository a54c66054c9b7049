package outer

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// sum adds b, as 16-bit words, to an unfolded Internet checksum (RFC 1071). The result is
// right modulo 0xFFFF after fold if every part but the last has an even length.
func sum(s uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		s += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	s, carry = bits.Add64(s, binary.BigEndian.Uint64(tail[:]), 0)
	return s + carry
}

// fold returns the 16-bit sum, not inverted.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xFFFFFFFF
	s = s>>16 + s&0xFFFF
	s = s>>16 + s&0xFFFF
	s = s>>16 + s&0xFFFF
	return uint16(s)
}

// pseudo returns the sum of a pseudo-header (RFC 768; RFC 8200, Section 8.1).
func pseudo(src, dst netip.Addr, proto uint8, length int) uint64 {
	s := uint64(proto) + uint64(length)
	for _, a := range [...]netip.Addr{src, dst} {
		if a.Is4() {
			b := a.As4()
			s += uint64(binary.BigEndian.Uint32(b[:]))
			continue
		}
		b := a.As16()
		for i := 0; i < 16; i += 4 {
			s += uint64(binary.BigEndian.Uint32(b[i:]))
		}
	}
	return s
}
