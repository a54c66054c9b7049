package datapath

import (
	"encoding/binary"
	"math/bits"

	"github.com/btns-go/btns/esp/ts"
)

// sum adds b to a running sum of 16-bit words in ones' complement (RFC 1071), kept in 64 bits and in the byte order of a
// little-endian machine, which fold puts right at the end. All pieces of a packet but the last must have even lengths.
func sum(b []byte, acc uint64) uint64 {
	le := binary.LittleEndian
	var carry uint64
	for len(b) >= 64 {
		acc, carry = bits.Add64(acc, le.Uint64(b), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[32:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[40:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[48:]), carry)
		acc, carry = bits.Add64(acc, le.Uint64(b[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, le.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		acc, carry = bits.Add64(acc, le.Uint64(tail[:]), carry)
	}
	acc, carry = bits.Add64(acc, 0, carry)
	return acc + carry
}

// fold returns the checksum of what was summed.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return ^bits.ReverseBytes16(uint16(acc))
}

// pseudo sums the pseudo header of a packet with this IP header (RFC 9293, Section 3.1; RFC 8200, Section 8.1).
func pseudo(ip []byte, proto uint8, length int) uint64 {
	acc := uint64(bits.ReverseBytes16(uint16(proto))) + uint64(bits.ReverseBytes16(uint16(length)))
	if ip[0]>>4 == 4 {
		return sum(ip[12:20], acc)
	}
	return sum(ip[8:40], acc)
}

// checksumOffset is where proto has its checksum, -1 for those that are left alone.
func checksumOffset(proto uint8) int {
	switch proto {
	case ts.ProtoTCP:
		return 16
	case ts.ProtoUDP:
		return 6
	}
	return -1
}

// putChecksum writes a transport checksum. UDP says "none" with 0, so a sum of 0 is sent as its other form (RFC 768).
func putChecksum(b []byte, proto uint8, c uint16) {
	if proto == ts.ProtoUDP && c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b, c)
}

// fixIPv4 writes the checksum of an IPv4 header of n bytes.
func fixIPv4(b []byte, n int) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], fold(sum(b[:n], 0)))
}

// setLength writes the length of the IP packet in b, with an IP header of n bytes, and the header's checksum.
func setLength(b []byte, n int) {
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		fixIPv4(b, n)
		return
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
}
