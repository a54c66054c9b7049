package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/btns-go/btns/esp/ts"
)

// sumOffset is where a protocol's checksum stands in its header, and the least header; 0, 0 for others.
func sumOffset(proto uint8) (off, least int) {
	switch proto {
	case ts.ProtoTCP:
		return 16, header.TCPMinimumSize
	case ts.ProtoUDP:
		return 6, header.UDPMinimumSize
	case ts.ProtoICMP, ts.ProtoICMPv6:
		return 2, 4
	}
	return 0, 0
}

// upperSum is the ones' complement sum of the upper layer with its pseudo header (none for ICMP: RFC 792).
func upperSum(pkt []byte, proto uint8, upper []byte) uint16 {
	var sum uint16
	if proto != ts.ProtoICMP {
		src, dst := pkt[12:16], pkt[16:20]
		if pkt[0]>>4 == 6 {
			src, dst = pkt[8:24], pkt[24:40]
		}
		sum = checksum.Checksum(src, checksum.Checksum(dst, 0))
		var rest [4]byte
		rest[1] = proto
		binary.BigEndian.PutUint16(rest[2:], uint16(len(upper)))
		sum = checksum.Checksum(rest[:], sum)
	}
	return checksum.Checksum(upper, sum)
}

// VerifyChecksum reports whether the IPv4 header checksum and the TCP, UDP or ICMP checksum of a whole, unfragmented IP
// packet are right; for packets whose origin is not the peer that authenticated them. Other protocols have none to verify.
// A UDP checksum of 0 means none over IPv4 (RFC 768) and is wrong over IPv6 (RFC 8200, Section 8.1).
func VerifyChecksum(pkt []byte) bool {
	f, info, ok := ts.ParseFlow(pkt)
	if !ok || info.Fragment {
		return false
	}
	if !f.IsV6() && checksum.Checksum(pkt[:info.HeaderLen], 0) != 0xffff {
		return false
	}
	upper := pkt[info.HeaderLen:info.TotalLen]
	off, least := sumOffset(info.Proto)
	switch {
	case least == 0:
		return true
	case len(upper) < least:
		return false
	}
	if info.Proto == ts.ProtoUDP {
		// The length of UDP is its own; what follows it is no part of the sum.
		n := int(binary.BigEndian.Uint16(upper[4:]))
		if n < header.UDPMinimumSize || n > len(upper) {
			return false
		}
		upper = upper[:n]
		if binary.BigEndian.Uint16(upper[off:]) == 0 {
			return !f.IsV6()
		}
	}
	return upperSum(pkt, info.Proto, upper) == 0xffff
}

// SetChecksum computes the TCP, UDP or ICMP checksum of a whole, unfragmented IP packet, and the IPv4 header checksum, in
// place. ipLen is the length of the IP header with its extension headers, proto what follows it. It does not allocate.
// Packets too short for their headers are left alone.
func SetChecksum(pkt []byte, ipLen int, proto uint8) {
	least := header.IPv4MinimumSize
	if len(pkt) > 0 && pkt[0]>>4 == 6 {
		least = header.IPv6MinimumSize
	}
	if ipLen < least || len(pkt) < ipLen {
		return
	}
	if pkt[0]>>4 == 4 {
		h := pkt[:ipLen]
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], ^checksum.Checksum(h, 0))
	}
	upper := pkt[ipLen:]
	off, hdr := sumOffset(proto)
	if hdr == 0 || len(upper) < hdr {
		return
	}
	upper[off], upper[off+1] = 0, 0
	sum := ^upperSum(pkt, proto, upper)
	if sum == 0 && proto == ts.ProtoUDP {
		sum = 0xffff // RFC 768: 0 means none
	}
	binary.BigEndian.PutUint16(upper[off:], sum)
}

// Sum adds the 16-bit ones' complement sum of b (RFC 1071) to sum; b must start at an even offset of what is summed.
func Sum(b []byte, sum uint16) uint16 { return checksum.Checksum(b, sum) }
