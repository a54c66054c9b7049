package ts

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

type ext struct {
	proto uint8
	body  []byte // whole header, next header byte filled in by packet6
}

func hdr(proto uint8, units int) ext {
	return ext{proto, append([]byte{0, byte(units)}, make([]byte, 6+8*units)...)}
}

func frag6(off int, more bool, id uint32) ext {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b[2:], uint16(off))
	if more {
		b[3] |= 1
	}
	binary.BigEndian.PutUint32(b[4:], id)
	return ext{44, b}
}

func packet6(upper uint8, payload []byte, exts ...ext) []byte {
	p := make([]byte, 40)
	p[0], p[1], p[7] = 0x60, 0x20, 64 // ECN 2
	p[8], p[23], p[24], p[39] = 0xfd, 1, 0xfd, 2
	next := 6
	for _, e := range exts {
		p[next] = e.proto
		next = len(p)
		p = append(p, e.body...)
	}
	p[next] = upper
	p = append(p, payload...)
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	return p
}

func packet4(proto uint8, payload []byte, fragField uint16, options int) []byte {
	p := make([]byte, 20+options)
	p[0], p[1], p[8], p[9] = 0x40|byte(len(p)/4), 1, 63, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)+len(payload)))
	binary.BigEndian.PutUint16(p[4:], 0xbeef)
	binary.BigEndian.PutUint16(p[6:], fragField)
	copy(p[12:], []byte{10, 0, 0, 1})
	copy(p[16:], []byte{10, 0, 0, 2})
	return append(p, payload...)
}

func portBytes(src, dst uint16) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	return b
}

func TestParseFlow(t *testing.T) {
	tcp := portBytes(1000, 80)
	v4src, v4dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	v6src, v6dst := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	flow4 := func(proto uint8, s, d uint16) Flow {
		return MakeFlow(proto, netip.AddrPortFrom(v4src, s), netip.AddrPortFrom(v4dst, d))
	}
	flow6 := func(proto uint8, s, d uint16) Flow {
		return MakeFlow(proto, netip.AddrPortFrom(v6src, s), netip.AddrPortFrom(v6dst, d))
	}
	info4 := PacketInfo{HeaderLen: 20, TotalLen: 28, NextHeaderOff: 9, FragID: 0xbeef, Proto: 6, ECN: 1, TTL: 63}
	info6 := PacketInfo{HeaderLen: 40, TotalLen: 48, NextHeaderOff: 6, DF: true, Proto: 6, ECN: 2, TTL: 64}
	with := func(i PacketInfo, f func(*PacketInfo)) PacketInfo { f(&i); return i }
	for _, tc := range []struct {
		name string
		pkt  []byte
		flow Flow
		info PacketInfo
	}{
		{"v4 tcp", packet4(6, tcp, 0, 0), flow4(6, 1000, 80), info4},
		{"v4 df options", packet4(6, tcp, 0x4000, 8), flow4(6, 1000, 80),
			with(info4, func(i *PacketInfo) { i.HeaderLen, i.TotalLen, i.DF = 28, 36, true })},
		{"v4 icmp", packet4(1, []byte{8, 3, 0, 0, 0, 0, 0, 0}, 0, 0), flow4(1, 0x803, 0x803),
			with(info4, func(i *PacketInfo) { i.Proto = 1 })},
		{"v4 first fragment", packet4(6, tcp, 0x2000, 0), flow4(6, 1000, 80),
			with(info4, func(i *PacketInfo) { i.Fragment, i.MoreFragments = true, true })},
		{"v4 later fragment", packet4(6, tcp, 0x0010, 0), flow4(6, 0, 0).WithoutPorts(),
			with(info4, func(i *PacketInfo) { i.Fragment, i.FragOffset = true, 128 })},
		{"v4 gre", packet4(47, tcp, 0, 0), flow4(47, 1, 2), with(info4, func(i *PacketInfo) { i.Proto = 47 })},
		{"v4 esp is a next layer", packet4(50, tcp, 0, 0), flow4(50, 0, 0), with(info4, func(i *PacketInfo) { i.Proto = 50 })},
		{"v4 short udp", packet4(17, tcp[:3], 0, 0), flow4(17, 0, 0).WithoutPorts(),
			with(info4, func(i *PacketInfo) { i.Proto, i.TotalLen = 17, 23 })},
		{"v4 no payload", packet4(6, nil, 0, 0), flow4(6, 0, 0).WithoutPorts(), with(info4, func(i *PacketInfo) { i.TotalLen = 20 })},
		{"v6 tcp", packet6(6, tcp), flow6(6, 1000, 80), info6},
		{"v6 icmp", packet6(58, []byte{128, 0, 0, 0, 0, 0, 0, 0}), flow6(58, 0x8000, 0x8000), with(info6, func(i *PacketInfo) { i.Proto = 58 })},
		{"v6 mobility", packet6(135, []byte{59, 0, 5, 0, 0, 0, 0, 0}), flow6(135, 0x500, 0x500), with(info6, func(i *PacketInfo) { i.Proto = 135 })},
		{"v6 no next header", packet6(59, nil), flow6(59, 0, 0), with(info6, func(i *PacketInfo) { i.Proto, i.TotalLen = 59, 40 })},
		{"v6 extension headers", packet6(17, tcp, hdr(0, 0), hdr(60, 1), hdr(43, 0), hdr(60, 0)), flow6(17, 1000, 80),
			with(info6, func(i *PacketInfo) { i.Proto, i.HeaderLen, i.TotalLen, i.NextHeaderOff = 17, 80, 88, 72 })},
		{"v6 ah is a next layer", packet6(51, tcp, hdr(60, 0)), flow6(51, 0, 0),
			with(info6, func(i *PacketInfo) { i.Proto, i.HeaderLen, i.TotalLen, i.NextHeaderOff = 51, 48, 56, 40 })},
		{"v6 first fragment", packet6(6, tcp, hdr(60, 0), frag6(0, true, 7)), flow6(6, 1000, 80),
			with(info6, func(i *PacketInfo) {
				i.HeaderLen, i.TotalLen, i.NextHeaderOff, i.FragHeaderOff, i.FragNextOff = 56, 64, 48, 48, 40
				i.Fragment, i.MoreFragments, i.FragID = true, true, 7
			})},
		{"v6 later fragment", packet6(6, tcp, frag6(1280, false, 7)), flow6(6, 0, 0).WithoutPorts(),
			with(info6, func(i *PacketInfo) {
				i.HeaderLen, i.TotalLen, i.NextHeaderOff, i.FragHeaderOff, i.FragNextOff = 48, 56, 40, 40, 6
				i.Fragment, i.FragOffset, i.FragID = true, 1280, 7
			})},
		{"v6 later fragment of options", packet6(60, tcp, frag6(1280, true, 7)), flow6(60, 0, 0),
			with(info6, func(i *PacketInfo) {
				i.HeaderLen, i.TotalLen, i.NextHeaderOff, i.FragHeaderOff, i.FragNextOff, i.Proto = 48, 56, 40, 40, 6, 60
				i.Fragment, i.MoreFragments, i.FragOffset, i.FragID = true, true, 1280, 7
			})},
		{"v6 atomic fragment", packet6(6, tcp, frag6(0, false, 9)), flow6(6, 1000, 80),
			with(info6, func(i *PacketInfo) {
				i.HeaderLen, i.TotalLen, i.NextHeaderOff, i.FragHeaderOff, i.FragNextOff, i.FragID = 48, 56, 40, 40, 6, 9
			})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, info, ok := ParseFlow(tc.pkt)
			if !ok || f != tc.flow || info != tc.info {
				t.Fatalf("got %v %v\n%+v\nwant %v\n%+v", ok, f, info, tc.flow, tc.info)
			}
			for n := range tc.pkt {
				if f, _, ok := ParseFlow(tc.pkt[:n:n]); ok {
					t.Fatalf("the first %d of %d bytes parse as %v", n, len(tc.pkt), f)
				}
			}
			padded, info2, ok := ParseFlow(append(bytes.Clone(tc.pkt), make([]byte, 33)...))
			if !ok || padded != f || info2 != info {
				t.Error("padding behind the packet changes it") // ADV-P11
			}
			if next := tc.pkt[info.NextHeaderOff]; next != info.Proto {
				t.Errorf("NextHeaderOff %d names %d", info.NextHeaderOff, next)
			}
		})
	}
}

func TestADV_P12_P13_BadPacketsRefused(t *testing.T) {
	tcp := portBytes(1, 2)
	edit := func(p []byte, f func([]byte)) []byte { f(p); return p }
	many := make([]ext, MaxExtHeaders+1)
	for i := range many {
		many[i] = hdr(60, 0)
	}
	for name, pkt := range map[string][]byte{
		"empty":                 {},
		"version 0":             edit(packet4(6, tcp, 0, 0), func(p []byte) { p[0] = 0x05 }),
		"version 5":             edit(packet4(6, tcp, 0, 0), func(p []byte) { p[0] = 0x55 }),
		"version 15":            edit(packet4(6, tcp, 0, 0), func(p []byte) { p[0] = 0xf5 }),
		"header length 16":      edit(packet4(6, tcp, 0, 0), func(p []byte) { p[0] = 0x44 }),
		"header beyond packet":  edit(packet4(6, tcp, 0, 0), func(p []byte) { p[0] = 0x4f }),
		"total below header":    edit(packet4(6, tcp, 0, 8), func(p []byte) { binary.BigEndian.PutUint16(p[2:], 24) }),
		"total beyond packet":   edit(packet4(6, tcp, 0, 0), func(p []byte) { binary.BigEndian.PutUint16(p[2:], 29) }),
		"fragment past 65535":   packet4(6, tcp, 0x1fff, 0),
		"odd middle fragment":   packet4(6, tcp[:7], 0x2001, 0),
		"empty middle fragment": packet4(6, nil, 0x2001, 0),
		"v6 payload beyond":     edit(packet6(6, tcp), func(p []byte) { binary.BigEndian.PutUint16(p[4:], 9) }),
		"v6 mapped source":      edit(packet6(6, tcp), func(p []byte) { copy(p[8:], make([]byte, 10)); p[18], p[19] = 0xff, 0xff }),
		"v6 mapped destination": edit(packet6(6, tcp), func(p []byte) { copy(p[24:], make([]byte, 10)); p[34], p[35] = 0xff, 0xff }),
		"v6 hop-by-hop later":   packet6(6, tcp, hdr(60, 0), hdr(0, 0)),
		"v6 two fragment":       packet6(6, tcp, frag6(0, true, 1), frag6(0, true, 1)),
		"v6 too many headers":   packet6(6, tcp, many...),
		"v6 header cut":         edit(packet6(6, nil, hdr(60, 0)), func(p []byte) { p[41] = 1 }),
		"v6 odd middle":         packet6(6, tcp[:7], frag6(8, true, 1)),
		"v6 chain in fragments": packet6(60, []byte{6, 1, 0, 0, 0, 0, 0, 0}, frag6(0, true, 1)), // RFC 7112
	} {
		if f, info, ok := ParseFlow(pkt); ok || f != (Flow{}) || info != (PacketInfo{}) {
			t.Errorf("%s: %v %+v %v", name, f, info, ok)
		}
	}
	if _, _, ok := ParseFlow(packet6(6, tcp, many[1:]...)); !ok {
		t.Errorf("%d extension headers are refused", MaxExtHeaders)
	}
}

// TestParseFlowAgainstGopacket reads packets that another library wrote.
func TestParseFlowAgainstGopacket(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			var ip gopacket.NetworkLayer
			proto := layers.IPProtocolTCP
			if udp {
				proto = layers.IPProtocolUDP
			}
			if v6 {
				ip = &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
			} else {
				ip = &layers.IPv4{Version: 4, TTL: 9, Protocol: proto, SrcIP: net.IPv4(192, 0, 2, 1), DstIP: net.IPv4(192, 0, 2, 2)}
			}
			var l4 gopacket.SerializableLayer
			if udp {
				u := &layers.UDP{SrcPort: 5353, DstPort: 53}
				_ = u.SetNetworkLayerForChecksum(ip)
				l4 = u
			} else {
				c := &layers.TCP{SrcPort: 5353, DstPort: 53, SYN: true}
				_ = c.SetNetworkLayerForChecksum(ip)
				l4 = c
			}
			buf := gopacket.NewSerializeBuffer()
			err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
				ip.(gopacket.SerializableLayer), l4, gopacket.Payload("hello"))
			if err != nil {
				t.Fatal(err)
			}
			f, info, ok := ParseFlow(buf.Bytes())
			src, _ := netip.AddrFromSlice(ip.NetworkFlow().Src().Raw())
			dst, _ := netip.AddrFromSlice(ip.NetworkFlow().Dst().Raw())
			if !ok || f != MakeFlow(uint8(proto), netip.AddrPortFrom(src, 5353), netip.AddrPortFrom(dst, 53)) ||
				info.TotalLen != len(buf.Bytes()) || info.TTL != 9 {
				t.Errorf("v6 %v udp %v: %v %+v", v6, udp, f, info)
			}
		}
	}
}

func TestFlow(t *testing.T) {
	f := MakeFlow(6, netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:80"))
	if f.Reverse().Reverse() != f || f.Reverse() == f || f.Reverse().Src() != f.Dst() || f.Reverse().SrcPort() != 80 {
		t.Error("reverse")
	}
	if f.Hash(1) == f.Hash(2) || f.Hash(1) == f.Reverse().Hash(1) || f.Hash(1) != f.Reverse().Reverse().Hash(1) {
		t.Error("hash")
	}
	if got := f.String(); got != "tcp 10.0.0.1:1000 > 10.0.0.2:80" {
		t.Error(got)
	}
	if got := f.WithoutPorts().String(); got != "tcp 10.0.0.1 > 10.0.0.2" {
		t.Error(got)
	}
	if got := MakeFlow(1, netip.MustParseAddrPort("10.0.0.1:2048"), netip.MustParseAddrPort("10.0.0.2:2048")).String(); got != "icmp 10.0.0.1 > 10.0.0.2 type 8 code 0" {
		t.Error(got)
	}
	if (Flow{}).String() != "invalid" || (Flow{}).Src().IsValid() || (Flow{}).WithoutPorts() != (Flow{}) {
		t.Error("zero flow")
	}
	// The two families never meet: 10.0.0.1 and a00:1:: have the same first bytes.
	v6 := MakeFlow(6, netip.MustParseAddrPort("[a00:1::]:1000"), netip.MustParseAddrPort("[a00:2::]:80"))
	if v6 == f || v6.IsV6() == f.IsV6() {
		t.Error("families")
	}
}

func TestHashSpreads(t *testing.T) {
	const buckets = 1024
	var n [buckets]int
	for i := range 64 * buckets {
		f := MakeFlow(6, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(1024+i)), netip.MustParseAddrPort("10.0.0.2:80"))
		n[f.Hash(42)>>54]++
	}
	for i, c := range n {
		if c < 16 || c > 160 {
			t.Fatalf("bucket %d has %d flows, about 64 expected", i, c)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	pkt4 := packet4(6, portBytes(1, 80), 0, 0)
	pkt6 := packet6(6, portBytes(1, 80), hdr(60, 0), frag6(0, false, 1))
	p := pairOf(t, "10.0.0.0/24[tcp]", "10.0.0.0/24[tcp/80]")
	var sink uint64
	if n := testing.AllocsPerRun(100, func() {
		for _, pkt := range [...][]byte{pkt4, pkt6} {
			f, _, ok := ParseFlow(pkt)
			if !ok {
				panic("parse")
			}
			if p.MatchOut(f) || p.MatchIn(f.Reverse()) {
				sink++
			}
			sink += f.Hash(sink)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseFlow(f *testing.F) {
	tcp := portBytes(1000, 80)
	for _, p := range [][]byte{
		packet4(6, tcp, 0, 0), packet4(17, tcp, 0x2000, 4), packet4(1, tcp, 0x10, 0),
		packet6(6, tcp), packet6(58, tcp, hdr(0, 1), hdr(43, 0), frag6(0, true, 1), hdr(60, 0)), packet6(59, nil),
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		f, info, ok := ParseFlow(pkt)
		if !ok {
			return
		}
		switch {
		case !f.IsValid() || f.Src().Is4In6() || f.Proto() != info.Proto:
			t.Fatalf("%v %+v", f, info)
		case info.HeaderLen < 20 || info.TotalLen < info.HeaderLen || info.TotalLen > len(pkt):
			t.Fatalf("lengths %+v", info)
		case pkt[info.NextHeaderOff] != info.Proto || info.FragHeaderOff != 0 && pkt[info.FragNextOff] != 44:
			t.Fatalf("offsets %+v", info)
		case info.FragOffset != 0 && !f.Opaque():
			t.Fatalf("a later fragment shows ports: %+v", info)
		}
		g, info2, ok := ParseFlow(pkt[:info.TotalLen:info.TotalLen])
		if !ok || g != f || info2 != info {
			t.Fatal("another answer without the bytes behind")
		}
		if _, _, ok := ParseFlow(pkt[:info.TotalLen-1]); ok {
			t.Fatal("a cut packet parses")
		}
	})
}

func BenchmarkParseFlow(b *testing.B) {
	pkt := packet4(6, portBytes(1, 80), 0, 0)
	for b.Loop() {
		ParseFlow(pkt)
	}
}

func BenchmarkMatchOut(b *testing.B) {
	p := Pair{Set{FromPrefix(netip.MustParsePrefix("10.0.0.0/24"))}, Set{FromPrefix(netip.MustParsePrefix("10.0.0.0/24"))}}
	f, _, _ := ParseFlow(packet4(6, portBytes(1, 80), 0, 0))
	for b.Loop() {
		p.MatchOut(f)
	}
}
