package wire

import (
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
)

const (
	// PortIKE and PortNATT are the UDP ports of RFC 7296, Section 2.23.
	PortIKE  uint16 = 500
	PortNATT uint16 = 4500
	// NonESPMarkerLen is the length of the four zero octets in front of an IKE
	// message on every port but 500 (RFC 3948, Section 2.2).
	NonESPMarkerLen = 4
	// NATKeepalive is the one octet of a keepalive (RFC 3948, Section 2.3).
	NATKeepalive byte = 0xff
	// NATDHashLen is the length of NAT detection data; others are ignored.
	NATDHashLen = sha1.Size
)

// NATDHash returns the data of a NAT_DETECTION notify for one address and port:
// SHA-1 of SPIi, SPIr, address, port (RFC 7296, Section 2.23). An IPv4-mapped
// address counts as IPv4.
func NATDHash(spii, spir uint64, ap netip.AddrPort) [NATDHashLen]byte {
	var b [34]byte
	binary.BigEndian.PutUint64(b[:], spii)
	binary.BigEndian.PutUint64(b[8:], spir)
	n := 16
	if a := ap.Addr().Unmap(); a.Is4() {
		v := a.As4()
		n += copy(b[n:], v[:])
	} else {
		v := a.As16()
		n += copy(b[n:], v[:])
	}
	binary.BigEndian.PutUint16(b[n:], ap.Port())
	return sha1.Sum(b[:n+2])
}
