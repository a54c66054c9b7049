package esp

import "encoding/binary"

// padding is what padding must look like, as long as it can be (RFC 4303,
// Section 2.4).
const padding = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10" +
	"\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20" +
	"\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f\x30" +
	"\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\x3c\x3d\x3e\x3f\x40" +
	"\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4a\x4b\x4c\x4d\x4e\x4f\x50" +
	"\x51\x52\x53\x54\x55\x56\x57\x58\x59\x5a\x5b\x5c\x5d\x5e\x5f\x60" +
	"\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f\x70" +
	"\x71\x72\x73\x74\x75\x76\x77\x78\x79\x7a\x7b\x7c\x7d\x7e\x7f\x80" +
	"\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90" +
	"\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0" +
	"\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\xb0" +
	"\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf\xc0" +
	"\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf\xd0" +
	"\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xdb\xdc\xdd\xde\xdf\xe0" +
	"\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xec\xed\xee\xef\xf0" +
	"\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"

// strip judges an authentic plaintext that ends with its trailer, and sets Len and
// Next for the payload in it.
func (i *Inbound) strip(p *Packet, plain []byte) Drop {
	n := len(plain) - trailerLen
	if n < 0 {
		return DropShort
	}
	next := plain[n+1]
	p.Next = next
	if next == protoNoNext {
		return DropDummy // whatever it contains (RFC 4303, Section 2.6)
	}
	pad := int(plain[n])
	if pad > n || string(plain[n-pad:n]) != padding[:pad] {
		return DropPad
	}
	plain = plain[:n-pad]
	p.Len = len(plain)
	if i.mode == ModeTransport {
		if !transportNext(next) {
			return DropNextHeader
		}
		return Pass
	}
	var ok bool
	switch next {
	case protoIPv4:
		p.Len, ok = ipv4Len(plain)
	case protoIPv6:
		p.Len, ok = ipv6Len(plain)
	default:
		return DropNextHeader
	}
	if !ok {
		return DropInner
	}
	return Pass
}

// transportNext reports whether a header may follow ESP in transport mode. Those
// that stand in front of ESP may not, nor fragments (RFC 4303, Sections 3.1.1 and
// 3.3.4), nor another ESP or AH: SAs are not nested here.
func transportNext(next uint8) bool {
	switch next {
	case protoHopByHop, protoRouting, protoFragment, protoESP, protoAH, protoNoNext:
		return false
	}
	return true
}

// ipv4Len returns the length of the IPv4 packet at the start of b, which may be
// followed by traffic flow confidentiality padding (RFC 4303, Section 2.7).
func ipv4Len(b []byte) (int, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return 0, false
	}
	ihl := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:4]))
	if ihl < 20 || total < ihl || total > len(b) {
		return 0, false
	}
	var sum uint64
	for h := b[:ihl]; len(h) >= 4; h = h[4:] {
		sum += uint64(binary.BigEndian.Uint32(h))
	}
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return total, sum == 0xffff
}

// ipv6Len is ipv4Len for IPv6. Jumbograms are not known here.
func ipv6Len(b []byte) (int, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return 0, false
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:6]))
	return total, total <= len(b)
}
