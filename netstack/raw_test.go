package netstack

import (
	"encoding/binary"
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
)

// ipPacket builds an IP packet around an upper layer, with checksums.
func ipPacket(src, dst netip.Addr, proto uint8, upper []byte) []byte {
	var b []byte
	ipLen := 20
	if src.Is4() {
		b = make([]byte, 20, 20+len(upper))
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(upper)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
	} else {
		ipLen = 40
		b = make([]byte, 40, 40+len(upper))
		b[0], b[6], b[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(upper)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	}
	b = append(b, upper...)
	SetChecksum(b, ipLen, proto)
	return b
}

func tcpPacket(src, dst netip.AddrPort, seq, ack uint32, flags uint8, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], ack)
	h[12], h[13] = 5<<4, flags
	binary.BigEndian.PutUint16(h[14:], 65535)
	return ipPacket(src.Addr(), dst.Addr(), ts.ProtoTCP, append(h, payload...))
}

func udpPacket(src, dst netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return ipPacket(src.Addr(), dst.Addr(), ts.ProtoUDP, append(h, payload...))
}

func icmpPacket(src, dst netip.Addr, typ, code uint8, rest uint32, body []byte) []byte {
	h := make([]byte, 8, 8+len(body))
	h[0], h[1] = typ, code
	binary.BigEndian.PutUint32(h[4:], rest)
	proto := uint8(ts.ProtoICMP)
	if src.Is6() {
		proto = ts.ProtoICMPv6
	}
	return ipPacket(src, dst, proto, append(h, body...))
}
