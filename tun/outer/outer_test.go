package outer_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"go.uber.org/goleak"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/outer"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	a4 = netip.MustParsePrefix("192.0.2.1/24")
	b4 = netip.MustParsePrefix("192.0.2.2/24")
	a6 = netip.MustParsePrefix("2001:db8::1/64")
	b6 = netip.MustParsePrefix("2001:db8::2/64")
)

func wires(mtu, batch int) (a, b *outer.Wire, err error) {
	da, db := tuntest.NewDevices(mtu, batch)
	if a, err = outer.New(da, outer.Config{Addrs: []netip.Prefix{a4, a6}}); err == nil {
		b, err = outer.New(db, outer.Config{Addrs: []netip.Prefix{b4, b6}})
	}
	return a, b, err
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name       string
		mtu, batch int
		remote     netip.Addr
		local      uint16
		port       uint16
	}{
		{"v4/native", 1500, 1, b4.Addr(), 0, 0},
		{"v6/native", 1500, 64, b6.Addr(), 0, 0},
		{"v4/4500", 1500, 16, b4.Addr(), 4500, 4500},
		{"v6/4500", 1280, 1, b6.Addr(), 0, 4500},
		{"v4/500", 1500, 1, b4.Addr(), 0, 500},
		{"v6/500", 9000, 128, b6.Addr(), 500, 500},
	} {
		open := func() (tun.Wire, tun.Wire, tun.Path, error) {
			a, b, err := wires(c.mtu, c.batch)
			path := tun.Path{
				Local:  netip.AddrPortFrom(netip.Addr{}, c.local),
				Remote: netip.AddrPortFrom(c.remote, c.port),
			}
			return tuntest.Poison(a), tuntest.Poison(b), path, err
		}
		for _, cc := range tuntest.Conformance() {
			t.Run(c.name+"/"+cc.Name, func(t *testing.T) {
				if err := cc.Run(open); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A bench is a wire at a.. and the other end of its device.
type bench struct {
	t    *testing.T
	w    *outer.Wire
	dev  *tuntest.Device
	bufs [][]byte
}

func newBench(t *testing.T, cfg outer.Config) *bench {
	t.Helper()
	da, db := tuntest.NewDevices(1500, 1)
	if cfg.Addrs == nil {
		cfg.Addrs = []netip.Prefix{a4, a6}
	}
	w, err := outer.New(da, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(); _ = db.Close() })
	return &bench{t: t, w: w, dev: db, bufs: [][]byte{make([]byte, 65536)}}
}

// inject puts an IP packet on the wire.
func (b *bench) inject(pkt []byte) {
	b.t.Helper()
	if _, err := b.dev.Write([][]byte{append(make([]byte, 10), pkt...)}, 10); err != nil {
		b.t.Fatal(err)
	}
}

// sent returns the next IP packet that the wire sent.
func (b *bench) sent() []byte {
	b.t.Helper()
	sizes := []int{0}
	if _, err := b.dev.Read(b.bufs, sizes, 0); err != nil {
		b.t.Fatal(err)
	}
	return bytes.Clone(b.bufs[0][:sizes[0]])
}

func (b *bench) receive() tun.Packet {
	b.t.Helper()
	got, err := tun.NewBatch(1, 0).Receive(b.w)
	if err != nil {
		b.t.Fatal(err)
	}
	return got[0]
}

// marks is a packet that the wire accepts, to see that nothing came before it.
func (b *bench) mark() {
	b.t.Helper()
	b.inject(udp4(b.t, b4.Addr(), a4.Addr(), 4500, 4500, []byte("ESP packet that marks")))
	if p := b.receive(); string(p.Data()) != "ESP packet that marks" {
		b.t.Errorf("accepted %v %q", p.Path, p.Data())
	}
}

func build(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

func ip4(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 9, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func ip6(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func udp4(t *testing.T, src, dst netip.Addr, sport, dport int, payload []byte) []byte {
	t.Helper()
	ip := ip4(src, dst, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := u.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ip, u, gopacket.Payload(payload))
}

func udp6(t *testing.T, src, dst netip.Addr, sport, dport int, payload []byte) []byte {
	t.Helper()
	ip := ip6(src, dst, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := u.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ip, u, gopacket.Payload(payload))
}

func packet(path tun.Path, kind tun.Kind, n int) tun.Packet {
	p := tun.Packet{Buf: make([]byte, tun.Headroom+n), Off: tun.Headroom, Len: n, Path: path, Kind: kind}
	for i, d := 0, p.Data(); i < len(d); i++ {
		d[i] = byte(i) | 1
	}
	return p
}

// TestHeaders lets gopacket read what we build, checksums included.
func TestHeaders(t *testing.T) {
	for _, remote := range []netip.Addr{b4.Addr(), b6.Addr()} {
		for _, ports := range []uint16{0, 500, 4500} {
			for n := 28; n < 60; n++ {
				b := newBench(t, outer.Config{})
				kind := tun.KindESP
				if ports == 500 || ports == 4500 && n%2 == 0 {
					kind = tun.KindIKE
				}
				path := tun.Path{Local: netip.AddrPortFrom(netip.Addr{}, ports), Remote: netip.AddrPortFrom(remote, ports)}
				p := packet(path, kind, n)
				p.ECN = uint8(n) & 3
				if n%3 == 0 {
					p.Buf, p.Off = p.Buf[p.Off:], 0 // no room in front
				}
				if _, err := b.w.Send([]tun.Packet{p}); err != nil {
					t.Fatal(err)
				}
				raw := b.sent()
				first := layers.LayerTypeIPv4
				if remote.Is6() {
					first = layers.LayerTypeIPv6
				}
				pkt := gopacket.NewPacket(raw, first, gopacket.NoCopy)
				var ecn uint8
				var nl gopacket.NetworkLayer
				switch ip := pkt.NetworkLayer().(type) {
				case *layers.IPv4:
					ecn, nl = ip.TOS, ip
					want := ip.Checksum
					fresh := build(t, ip, gopacket.Payload(ip.Payload))
					if got := uint16(fresh[10])<<8 | uint16(fresh[11]); got != want || int(ip.Length) != len(raw) || ip.Flags != 0 {
						t.Errorf("IPv4 checksum %x, want %x; length %d of %d; flags %v", want, got, ip.Length, len(raw), ip.Flags)
					}
				case *layers.IPv6:
					ecn, nl = ip.TrafficClass, ip
					if int(ip.Length)+40 != len(raw) {
						t.Errorf("IPv6 length %d of %d", ip.Length, len(raw))
					}
				}
				if ecn != p.ECN {
					t.Errorf("traffic class %d, want %d", ecn, p.ECN)
				}
				if ports == 0 {
					if got := pkt.Layer(layers.LayerTypeIPSecESP); got == nil || !bytes.Equal(nl.LayerPayload(), p.Data()) {
						t.Errorf("no ESP in % x", raw)
					}
					continue
				}
				u, _ := pkt.Layer(layers.LayerTypeUDP).(*layers.UDP)
				if u == nil || u.SrcPort != layers.UDPPort(ports) || u.DstPort != layers.UDPPort(ports) {
					t.Fatalf("no UDP on port %d: %v", ports, pkt)
				}
				payload := p.Data()
				if kind == tun.KindIKE && ports == 4500 {
					payload = append(make([]byte, 4), payload...)
				}
				if !bytes.Equal(u.Payload, payload) {
					t.Errorf("payload % x, want % x", u.Payload, payload)
				}
				if kind == tun.KindESP && remote.Is4() {
					if u.Checksum != 0 { // RFC 3948, Section 2.1
						t.Errorf("ESP in UDP has checksum %x", u.Checksum)
					}
					continue
				}
				want := u.Checksum
				if err := u.SetNetworkLayerForChecksum(nl); err != nil {
					t.Fatal(err)
				}
				fresh := build(t, u, gopacket.Payload(u.Payload))
				if got := uint16(fresh[6])<<8 | uint16(fresh[7]); got != want {
					t.Errorf("UDP checksum %x, want %x", want, got)
				}
			}
		}
	}
}

func TestADV_A18_Sources(t *testing.T) {
	b := newBench(t, outer.Config{})
	esp := []byte("an ESP packet")
	bad4 := []string{"192.0.2.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "127.0.0.1", "192.0.2.255", "192.0.2.0"}
	for _, s := range bad4 {
		b.inject(udp4(t, netip.MustParseAddr(s), a4.Addr(), 4500, 4500, esp))
		b.inject(build(t, ip4(netip.MustParseAddr(s), a4.Addr(), layers.IPProtocolESP), gopacket.Payload(esp)))
		b.inject(build(t, ip4(netip.MustParseAddr(s), a4.Addr(), layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, gopacket.Payload(esp)))
	}
	bad6 := []string{"2001:db8::1", "ff02::1", "::", "::1", "::ffff:192.0.2.9"}
	for _, s := range bad6 {
		b.inject(udp6(t, netip.AddrFrom16(netip.MustParseAddr(s).As16()), a6.Addr(), 4500, 4500, esp))
	}
	b.inject(udp4(t, b4.Addr(), a4.Addr(), 0, 4500, esp))
	b.mark()
	if d := b.w.Stats().Drops; int(d[tun.DropSource]) != 3*len(bad4)+len(bad6)+1 {
		t.Errorf("dropped %v", d)
	}
}

func TestNotForUs(t *testing.T) {
	b := newBench(t, outer.Config{})
	esp := []byte("an ESP packet")
	b.inject(udp4(t, b4.Addr(), netip.MustParseAddr("192.0.2.3"), 4500, 4500, esp))   // destination
	b.inject(udp4(t, b4.Addr(), netip.MustParseAddr("192.0.2.255"), 4500, 4500, esp)) // destination
	b.inject(udp6(t, b6.Addr(), netip.MustParseAddr("ff02::1"), 4500, 4500, esp))     // destination
	b.inject(udp4(t, b4.Addr(), a4.Addr(), 4500, 53, esp))                            // port
	b.inject(udp6(t, b6.Addr(), a6.Addr(), 4500, 4501, esp))                          // port
	b.inject(build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolTCP), gopacket.Payload(esp)))
	b.inject(build(t, ip6(b6.Addr(), a6.Addr(), layers.IPProtocolICMPv4), gopacket.Payload(esp)))
	b.inject([]byte{0x15, 1, 2, 3}) // protocol: IP version 1
	sum := udp4(t, b4.Addr(), a4.Addr(), 4500, 4500, esp)
	sum[11]++
	b.inject(sum) // checksum of IP
	sum = udp4(t, b4.Addr(), a4.Addr(), 4500, 4500, esp)
	sum[len(sum)-1]++
	b.inject(sum) // checksum of UDP
	sum = udp6(t, b6.Addr(), a6.Addr(), 4500, 4500, esp)
	sum[46], sum[47] = 0, 0
	b.inject(sum)                                                                                  // no checksum in IPv6
	b.inject(build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolESP), gopacket.Payload("short"))) // short
	b.inject(udp4(t, b4.Addr(), a4.Addr(), 500, 500, esp))                                         // short
	b.mark()
	s := b.w.Stats()
	for d, want := range map[tun.Drop]uint64{
		tun.DropDest: 3, tun.DropPort: 2, tun.DropProto: 3, tun.DropChecksum: 3, tun.DropShort: 2,
	} {
		if s.Drops[d] != want {
			t.Errorf("%v: %d, want %d", d, s.Drops[d], want)
		}
	}
}

// TestZeroChecksum: IPv4 may leave it out (RFC 3948, Section 2.1).
func TestADV_P36_ZeroChecksum(t *testing.T) {
	b := newBench(t, outer.Config{})
	pkt := udp4(t, b4.Addr(), a4.Addr(), 4500, 4500, []byte("an ESP packet"))
	pkt[26], pkt[27] = 0, 0
	b.inject(pkt)
	if p := b.receive(); string(p.Data()) != "an ESP packet" {
		t.Errorf("%q", p.Data())
	}
}

// TestTruncated: no prefix of a packet is accepted, whatever it is.
func TestTruncated(t *testing.T) {
	esp := []byte("an ESP packet")
	frag := build(t, ip6(b6.Addr(), a6.Addr(), layers.IPProtocolIPv6Fragment),
		gopacket.Payload(append([]byte{50, 0, 0, 1, 0, 0, 0, 7}, esp[:8]...)))
	for i, pkt := range [][]byte{
		udp4(t, b4.Addr(), a4.Addr(), 4500, 4500, esp),
		udp6(t, b6.Addr(), a6.Addr(), 4500, 4500, esp),
		build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolESP), gopacket.Payload(esp)),
		build(t, ip6(b6.Addr(), a6.Addr(), layers.IPProtocolESP), gopacket.Payload(esp)),
		frag,
	} {
		b := newBench(t, outer.Config{})
		for n := range len(pkt) {
			b.inject(pkt[:n])
		}
		b.mark()
		if s := b.w.Stats(); s.Drops[tun.DropHeader] != uint64(len(pkt)) {
			t.Errorf("packet %d: %v of %d dropped", i, s.Drops, len(pkt))
		}
	}
}

// TestTrailing: what the link adds behind the packet is not part of it.
func TestTrailing(t *testing.T) {
	b := newBench(t, outer.Config{})
	esp := []byte("an ESP packet")
	b.inject(append(udp4(t, b4.Addr(), a4.Addr(), 4500, 4500, esp), 1, 2, 3))
	b.inject(append(build(t, ip6(b6.Addr(), a6.Addr(), layers.IPProtocolESP), gopacket.Payload(esp)), 1, 2, 3))
	for range 2 {
		if p := b.receive(); !bytes.Equal(p.Data(), esp) {
			t.Errorf("%q", p.Data())
		}
	}
}

func TestIPv6Extensions(t *testing.T) {
	esp := []byte("an ESP packet")
	options := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	chain := func(last byte, n int, types ...byte) []byte {
		var b []byte
		for i := range n {
			h := bytes.Clone(options)
			h[0] = last
			if i+1 < n {
				h[0] = types[(i+1)%len(types)]
			}
			b = append(b, h...)
		}
		return append(b, esp...)
	}
	for _, c := range []struct {
		name  string
		first layers.IPProtocol
		body  []byte
		ok    bool
	}{
		{"hop by hop", 0, chain(50, 1), true},
		{"options", 60, chain(50, 3, 60), true},
		{"limit", 60, chain(50, 7, 60), true},
		{"too many", 60, chain(50, 9, 60), false},
		{"routing done", 43, append([]byte{50, 0, 0, 0, 0, 0, 0, 0}, esp...), true},
		{"routing to go", 43, append([]byte{50, 0, 0, 1, 0, 0, 0, 0}, esp...), false},
		{"longer than the packet", 60, append([]byte{50, 9, 1, 4, 0, 0, 0, 0}, esp...), false},
		{"atomic fragment", 44, append([]byte{50, 0, 0, 0, 1, 2, 3, 4}, esp...), true},
		{"atomic in atomic", 44, append([]byte{44, 0, 0, 0, 1, 2, 3, 4, 50, 0, 0, 0, 1, 2, 3, 4}, esp...), false},
		{"no next header", 59, esp, false},
	} {
		b := newBench(t, outer.Config{})
		b.inject(build(t, ip6(b6.Addr(), a6.Addr(), c.first), gopacket.Payload(c.body)))
		if c.ok {
			if p := b.receive(); !bytes.Equal(p.Data(), esp) || p.Kind != tun.KindESP || !p.Path.Native() {
				t.Errorf("%s: %v %q", c.name, p.Kind, p.Data())
			}
			continue
		}
		b.mark()
	}
}

func TestEcho(t *testing.T) {
	b := newBench(t, outer.Config{})
	payload := bytes.Repeat([]byte("ping"), 300)
	b.inject(build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 9}, gopacket.Payload(payload)))
	ip := ip6(b6.Addr(), a6.Addr(), layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b.inject(build(t, ip, icmp, &layers.ICMPv6Echo{Identifier: 7, SeqNumber: 9}, gopacket.Payload(payload)))
	// Neither replies nor broken requests are answered.
	b.inject(build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 7, Seq: 10}, gopacket.Payload(payload)))
	broken := build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 11}, gopacket.Payload(payload))
	broken[30]++
	b.inject(broken)
	b.mark()
	p4 := gopacket.NewPacket(b.sent(), layers.LayerTypeIPv4, gopacket.Default)
	r4, _ := p4.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if r4 == nil || r4.TypeCode.Type() != 0 || r4.Id != 7 || r4.Seq != 9 || !bytes.Equal(r4.Payload, payload) ||
		!p4.NetworkLayer().(*layers.IPv4).DstIP.Equal(net.IP(b4.Addr().AsSlice())) {
		t.Errorf("%v", p4)
	}
	p6 := gopacket.NewPacket(b.sent(), layers.LayerTypeIPv6, gopacket.Default)
	r6, _ := p6.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	e6, _ := p6.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo)
	if r6 == nil || e6 == nil || r6.TypeCode.Type() != 129 || e6.SeqNumber != 9 || !bytes.Equal(r6.Payload[4:], payload) {
		t.Fatalf("%v", p6)
	}
	want := r6.Checksum
	if err := r6.SetNetworkLayerForChecksum(p6.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	fresh := build(t, r6, gopacket.Payload(r6.Payload))
	if got := uint16(fresh[2])<<8 | uint16(fresh[3]); got != want {
		t.Errorf("ICMPv6 checksum %x, want %x", want, got)
	}
	// Nothing else was sent.
	if n, err := b.w.Send([]tun.Packet{packet(tun.Path{Remote: netip.AddrPortFrom(b4.Addr(), 0)}, tun.KindESP, 50)}); n != 1 {
		t.Fatal(err)
	}
	if raw := b.sent(); raw[9] != 50 {
		t.Errorf("sent % x", raw)
	}
}

func TestADV_P28_CVE_2024_53259_TooBig(t *testing.T) {
	var got []outer.TooBig
	b := newBench(t, outer.Config{OnTooBig: func(e outer.TooBig) { got = append(got, e) }})
	router4, router6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")
	four := func(mtu uint16, quoted []byte) {
		b.inject(build(t, ip4(router4, a4.Addr(), layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: mtu}, gopacket.Payload(quoted)))
	}
	six := func(mtu uint32, quoted []byte) {
		ip := ip6(router6, a6.Addr(), layers.IPProtocolICMPv6)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(2, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		m := []byte{byte(mtu >> 24), byte(mtu >> 16), byte(mtu >> 8), byte(mtu)}
		b.inject(build(t, ip, icmp, gopacket.Payload(append(m, quoted...))))
	}
	spi := []byte{0xC0, 0xFF, 0xEE, 0x01, 0, 0, 0, 9, 1, 2, 3, 4}
	espOut4 := build(t, ip4(a4.Addr(), b4.Addr(), layers.IPProtocolESP), gopacket.Payload(spi))
	espOut6 := build(t, ip6(a6.Addr(), b6.Addr(), layers.IPProtocolESP), gopacket.Payload(spi))
	natted := udp4(t, a4.Addr(), b4.Addr(), 4500, 4500, spi)
	ike := udp4(t, a4.Addr(), b4.Addr(), 500, 500, make([]byte, 28))

	four(1400, espOut4[:28]) // 8 bytes of ESP are enough
	four(0, espOut4)
	four(1300, natted)
	four(576, natted[:28])
	four(576, ike)
	six(1280, espOut6)
	six(0xFFFFFFFF, espOut6)
	native4 := tun.Path{Local: netip.AddrPortFrom(a4.Addr(), 0), Remote: netip.AddrPortFrom(b4.Addr(), 0)}
	native6 := tun.Path{Local: netip.AddrPortFrom(a6.Addr(), 0), Remote: netip.AddrPortFrom(b6.Addr(), 0)}
	natPath := tun.Path{Local: netip.AddrPortFrom(a4.Addr(), 4500), Remote: netip.AddrPortFrom(b4.Addr(), 4500)}
	ikePath := tun.Path{Local: netip.AddrPortFrom(a4.Addr(), 500), Remote: netip.AddrPortFrom(b4.Addr(), 500)}
	want := []outer.TooBig{
		{Path: native4, SPI: 0xC0FFEE01, From: router4, MTU: 1400},
		{Path: native4, SPI: 0xC0FFEE01, From: router4, MTU: 0},
		{Path: natPath, SPI: 0xC0FFEE01, From: router4, MTU: 1300},
		{Path: natPath, From: router4, MTU: 576},
		{Path: ikePath, From: router4, MTU: 576},
		{Path: native6, SPI: 0xC0FFEE01, From: router6, MTU: 1280},
		{Path: native6, SPI: 0xC0FFEE01, From: router6, MTU: 65535},
	}
	// Not ours: another source, another protocol or port, a later fragment, too little.
	four(1400, build(t, ip4(b4.Addr(), a4.Addr(), layers.IPProtocolESP), gopacket.Payload(spi)))
	four(1400, build(t, ip4(a4.Addr(), b4.Addr(), layers.IPProtocolTCP), gopacket.Payload(spi)))
	four(1400, udp4(t, a4.Addr(), b4.Addr(), 53, 4500, spi))
	four(1400, espOut4[:27])
	four(1400, espOut6)
	later := bytes.Clone(espOut4)
	later[7] = 1
	four(1400, later)
	six(1280, espOut6[:47])
	six(1280, espOut4)
	b.mark()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	if s := b.w.Stats(); s.TooBig != uint64(len(want)) || s.Drops[tun.DropHeader] != 8 {
		t.Errorf("counted %d, dropped %v", s.TooBig, s.Drops)
	}
}

func TestDontFragment(t *testing.T) {
	b := newBench(t, outer.Config{DontFragment: true, MTU: 1400})
	path := tun.Path{Remote: netip.AddrPortFrom(b4.Addr(), 0)}
	n, err := b.w.Send([]tun.Packet{packet(path, tun.KindESP, 1380), packet(path, tun.KindESP, 1381)})
	if n != 1 || !errors.Is(err, tun.ErrTooBig) {
		t.Errorf("%d, %v", n, err)
	}
	if raw := b.sent(); len(raw) != 1400 || raw[6] != 0x40 {
		t.Errorf("%d bytes, flags %x", len(raw), raw[6])
	}
	if c := b.w.Caps(); c.MTU != 1400 || !c.NativeESP || c.ClearPackets {
		t.Errorf("%+v", c)
	}
}

func TestTooLong(t *testing.T) {
	b := newBench(t, outer.Config{})
	for _, c := range []struct {
		path tun.Path
		n    int
	}{
		{tun.Path{Remote: netip.AddrPortFrom(b4.Addr(), 0)}, 65516},
		{tun.Path{Remote: netip.AddrPortFrom(b4.Addr(), 4500)}, 65508},
		{tun.Path{Remote: netip.AddrPortFrom(b6.Addr(), 4500)}, 65528},
		{tun.Path{Remote: netip.AddrPortFrom(b6.Addr(), 0)}, 65536},
		{tun.Path{Remote: netip.AddrPortFrom(b6.Addr(), 0)}, 200000},
	} {
		if n, err := b.w.Send([]tun.Packet{packet(c.path, tun.KindESP, c.n)}); n != 0 || !errors.Is(err, tun.ErrTooBig) {
			t.Errorf("%v, %d bytes: %d, %v", c.path, c.n, n, err)
		}
	}
}

func TestSources(t *testing.T) {
	b := newBench(t, outer.Config{Addrs: []netip.Prefix{
		netip.MustParsePrefix("198.51.100.9/24"), netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("10.9.2.3/16"), a6,
	}, Ports: []uint16{4500}})
	for remote, want := range map[string]string{
		"10.9.77.1": "10.9.2.3", "10.8.0.1": "10.1.2.3", "8.8.8.8": "198.51.100.9", "198.51.100.77": "198.51.100.9",
		"2001:db8:9::9": "2001:db8::1", "::ffff:10.9.0.1": "10.9.2.3",
	} {
		got := b.w.LocalAddr(netip.MustParseAddr(remote))
		if len(got) != 1 || got[0] != netip.AddrPortFrom(netip.MustParseAddr(want), 4500) {
			t.Errorf("to %s: %v", remote, got)
		}
	}
	if all := b.w.LocalAddr(netip.Addr{}); len(all) != 4 {
		t.Errorf("%v", all)
	}
	foreign := tun.Path{Local: netip.MustParseAddrPort("192.0.2.77:4500"), Remote: netip.AddrPortFrom(b4.Addr(), 4500)}
	if n, err := b.w.Send([]tun.Packet{packet(foreign, tun.KindESP, 50)}); n != 0 || !errors.Is(err, tun.ErrPath) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestNewRefuses(t *testing.T) {
	dev, other := tuntest.NewDevices(1000, 1)
	defer dev.Close()
	defer other.Close()
	for name, cfg := range map[string]outer.Config{
		"no address":  {},
		"multicast":   {Addrs: []netip.Prefix{netip.MustParsePrefix("224.0.0.1/32")}},
		"unspecified": {Addrs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
		"loopback":    {Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		"invalid":     {Addrs: []netip.Prefix{{}}},
		"port 0":      {Addrs: []netip.Prefix{a4}, Ports: []uint16{4500, 0}},
		"MTU of IPv6": {Addrs: []netip.Prefix{a4, a6}},
		"MTU of IPv4": {Addrs: []netip.Prefix{a4}, MTU: 575},
		"huge MTU":    {Addrs: []netip.Prefix{a4}, MTU: 70000},
	} {
		if _, err := outer.New(dev, cfg); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if _, err := outer.New(dev, outer.Config{Addrs: []netip.Prefix{a4}}); err != nil {
		t.Error(err)
	}
}

// TestDeviceGone: a device that closes on its own ends Receive as a closed wire does.
func TestDeviceGone(t *testing.T) {
	dev, other := tuntest.NewDevices(1500, 1)
	defer other.Close()
	w, err := outer.New(dev, outer.Config{Addrs: []netip.Prefix{a4}})
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tun.NewBatch(1, 0).Receive(w); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	path := tun.Path{Remote: netip.AddrPortFrom(b4.Addr(), 0)}
	if n, err := w.Send([]tun.Packet{packet(path, tun.KindESP, 50)}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Error(n, err)
	}
}

func TestOpenError(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{os.ErrNotExist, `outer: cannot open TUN device "tun7": this system has none (on Linux, /dev/net/tun)`},
		{os.ErrPermission, `outer: no permission to open TUN device "tun7" (on Linux, CAP_NET_ADMIN)`},
		{errors.New("busy"), `outer: cannot open TUN device "tun7": busy`},
	} {
		e := &outer.OpenError{Name: "tun7", Err: &os.PathError{Op: "open", Path: "x", Err: c.err}}
		if c.err.Error() == "busy" {
			e.Err = c.err
		}
		if e.Error() != c.says || !errors.Is(e, c.err) {
			t.Error(e)
		}
	}
}

// TestBatches: what a device reads at once comes out in order, through buffers large and
// small, many and few, with drops among it.
func TestBatches(t *testing.T) {
	for _, slots := range []struct{ n, size int }{{64, tun.BufSize}, {3, tun.BufSize}, {64, 500}, {1, 500}, {200, 2000}} {
		a, b, err := wires(1500, 32)
		if err != nil {
			t.Fatal(err)
		}
		path := tun.Path{Remote: netip.AddrPortFrom(b6.Addr(), 4500)}
		var out []tun.Packet
		for i := range 100 {
			p := packet(path, tun.KindESP, 100+i)
			if i%7 == 3 {
				p.Path.Remote = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::99"), 4500)
			}
			out = append(out, p)
		}
		if n, err := a.Send(out); n != len(out) {
			t.Fatal(n, err)
		}
		in := tun.NewBatch(slots.n, slots.size)
		for i := 0; i < len(out); {
			pkts, err := in.Receive(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pkts {
				if i%7 == 3 {
					i++
				}
				if !bytes.Equal(p.Data(), out[i].Data()) {
					t.Fatalf("%+v: packet %d has %d bytes, want %d", slots, i, p.Len, out[i].Len)
				}
				i++
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}
