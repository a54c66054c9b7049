package tun_test

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/btns-go/btns/tun"
)

func path(local, remote uint16) tun.Path {
	return tun.Path{
		Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), local),
		Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2}), remote),
	}
}

func TestADV_A17_Marked(t *testing.T) {
	for _, c := range []struct {
		local, remote uint16
		want          bool
	}{
		{500, 500, false}, {500, 4500, false}, {4500, 500, false}, {40000, 500, false}, {500, 40000, false},
		{4500, 4500, true}, {40000, 4500, true}, {4500, 40000, true}, {40000, 40001, true},
	} {
		p := path(c.local, c.remote)
		if p.Marked() != c.want || p.Swap().Marked() != c.want {
			t.Errorf("%v: marked %v", p, p.Marked())
		}
	}
}

func TestADV_A1_A2_P36_Classify(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	data := func(n int) []byte {
		b := zeros(n)
		for i := range b {
			b[i] = byte(i + 1)
		}
		return b
	}
	for n := range 28 {
		if k, _, d := tun.Classify(path(500, 500), data(n)); k != tun.KindInvalid || d != tun.DropShort {
			t.Errorf("%d bytes on 500: %v, %v", n, k, d)
		}
	}
	for n := range 8 {
		if k, _, d := tun.Classify(path(4500, 4500), data(n)); k != tun.KindInvalid || d != tun.DropShort {
			t.Errorf("%d bytes on 4500: %v, %v", n, k, d)
		}
	}
	for n := range 32 {
		if k, _, d := tun.Classify(path(4500, 4500), zeros(n)); k != tun.KindInvalid || d != tun.DropShort {
			t.Errorf("%d zeros on 4500: %v, %v", n, k, d)
		}
	}
	for _, c := range []struct {
		name string
		path tun.Path
		b    []byte
		kind tun.Kind
		skip int
		drop tun.Drop
	}{
		{"IKE on 500", path(500, 500), data(28), tun.KindIKE, 0, tun.DropUnset},
		{"marker on 500 is left for the IKE parser", path(500, 500), zeros(32), tun.KindIKE, 0, tun.DropUnset},
		{"IKE with marker", path(4500, 4500), zeros(32), tun.KindIKE, 4, tun.DropUnset},
		{"IKE without marker is looked up as ESP", path(4500, 4500), data(28), tun.KindESP, 0, tun.DropUnset},
		{"ESP", path(40000, 4500), data(8), tun.KindESP, 0, tun.DropUnset},
		{"SPI 1", path(4500, 4500), []byte{0, 0, 0, 1, 0, 0, 0, 0}, tun.KindESP, 0, tun.DropUnset},
		{"keepalive", path(4500, 4500), []byte{0xFF}, tun.KindInvalid, 0, tun.DropKeepalive},
		{"keepalive on 500", path(500, 500), []byte{0xFF}, tun.KindInvalid, 0, tun.DropKeepalive},
		{"other single byte", path(4500, 4500), []byte{0xFE}, tun.KindInvalid, 0, tun.DropShort},
	} {
		if k, skip, d := tun.Classify(c.path, c.b); k != c.kind || skip != c.skip || d != c.drop {
			t.Errorf("%s: %v, %d, %v", c.name, k, skip, d)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(uint16(4500), uint16(4500), []byte{0xFF})
	f.Add(uint16(500), uint16(500), make([]byte, 28))
	f.Add(uint16(4500), uint16(1), make([]byte, 32))
	f.Fuzz(func(t *testing.T, local, remote uint16, b []byte) {
		k, skip, d := tun.Classify(path(local, remote), b)
		switch k {
		case tun.KindIKE, tun.KindESP:
			if d != tun.DropUnset || skip > len(b) || len(b)-skip < 8 {
				t.Errorf("%v, skip %d of %d, %v", k, skip, len(b), d)
			}
		default:
			if d == tun.DropUnset {
				t.Error("dropped without a reason")
			}
		}
	})
}

func TestCheckSend(t *testing.T) {
	buf := make([]byte, 100)
	for _, c := range []struct {
		name   string
		p      tun.Packet
		marker bool
		want   error
	}{
		{"IKE on 500", tun.Packet{Buf: buf, Len: 28, Kind: tun.KindIKE, Path: path(500, 500)}, false, nil},
		{"IKE on 4500", tun.Packet{Buf: buf, Len: 28, Kind: tun.KindIKE, Path: path(4500, 4500)}, true, nil},
		{"ESP", tun.Packet{Buf: buf, Off: 50, Len: 50, Kind: tun.KindESP, Path: path(4500, 4500)}, false, nil},
		{"ESP to 500", tun.Packet{Buf: buf, Len: 50, Kind: tun.KindESP, Path: path(4500, 500)}, false, tun.ErrPath},
		{"zero value", tun.Packet{}, false, tun.ErrPacket},
		{"no kind", tun.Packet{Buf: buf, Len: 28, Path: path(4500, 4500)}, false, tun.ErrKind},
		{"clear", tun.Packet{Buf: buf, Len: 28, Kind: tun.KindClear, Path: path(4500, 4500)}, false, tun.ErrKind},
		{"native", tun.Packet{Buf: buf, Len: 28, Kind: tun.KindESP, Path: path(0, 0)}, false, tun.ErrPath},
		{"no remote", tun.Packet{Buf: buf, Len: 28, Kind: tun.KindESP}, false, tun.ErrPath},
		{"offset", tun.Packet{Buf: buf, Off: 101, Kind: tun.KindESP, Path: path(4500, 4500)}, false, tun.ErrPacket},
		{"overflow", tun.Packet{Buf: buf, Off: 1, Len: math.MaxInt, Kind: tun.KindESP, Path: path(4500, 4500)}, false, tun.ErrPacket},
	} {
		marker, err := c.p.CheckSend()
		if marker != c.marker || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, %v", c.name, marker, err)
		}
		if err != nil && !errors.Is(err, tun.ErrPacket) && c.p.Data() == nil {
			t.Errorf("%s: no data", c.name)
		}
	}
}

func TestADV_A18_Plausible(t *testing.T) {
	local := netip.MustParseAddrPort("192.0.2.1:4500")
	for s, want := range map[string]bool{
		"192.0.2.2:4500": true, "192.0.2.1:4501": true, "127.0.0.1:1": true, "[2001:db8::1]:500": true, "[fe80::1%1]:500": true,
		"192.0.2.2:0": false, "192.0.2.1:4500": false, "0.0.0.0:4500": false, "[::]:500": false,
		"224.0.0.1:4500": false, "255.255.255.255:4500": false, "[ff02::1]:500": false,
	} {
		p := tun.Path{Local: local, Remote: netip.MustParseAddrPort(s)}
		if p.Plausible() != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
	native := tun.Path{Local: netip.AddrPortFrom(local.Addr(), 0), Remote: netip.MustParseAddrPort("192.0.2.2:0")}
	if !native.Plausible() || native.Swap().Swap() != native || (tun.Path{Local: local}).Plausible() {
		t.Error("native or empty path")
	}
}

// TestADV_P31_ECN walks RFC 6040, Figure 4: rows by inner, columns by outer field.
func TestADV_P31_ECN(t *testing.T) {
	const drop = 0xFF
	order := []uint8{tun.ECNNotECT, tun.ECNECT0, tun.ECNECT1, tun.ECNCE}
	want := [4][4]uint8{
		{tun.ECNNotECT, tun.ECNNotECT, tun.ECNNotECT, drop},
		{tun.ECNECT0, tun.ECNECT0, tun.ECNECT1, tun.ECNCE},
		{tun.ECNECT1, tun.ECNECT1, tun.ECNECT1, tun.ECNCE},
		{tun.ECNCE, tun.ECNCE, tun.ECNCE, tun.ECNCE},
	}
	for i, inner := range order {
		if tun.EncapECN(inner|0xFC) != inner {
			t.Errorf("normal mode copies %d", inner)
		}
		for j, outer := range order {
			ecn, ok := tun.DecapECN(inner, outer)
			if ok != (want[i][j] != drop) || ok && ecn != want[i][j] {
				t.Errorf("inner %d, outer %d: %d, %v", inner, outer, ecn, ok)
			}
		}
	}
}

func TestCounters(t *testing.T) {
	var c tun.Counters
	c.Received(3, 300)
	c.Sent(2, 20)
	c.TooBig()
	c.Drop(tun.DropKeepalive)
	c.DropN(tun.DropShort, 4)
	c.Drop(tun.NumDrops + 5)
	s := c.Snapshot()
	if s.RxPackets != 3 || s.RxBytes != 300 || s.TxPackets != 2 || s.TxBytes != 20 || s.TooBig != 1 ||
		s.Drops[tun.DropShort] != 4 || s.Drops[tun.DropUnset] != 1 || s.Dropped() != 5 {
		t.Errorf("%+v", s)
	}
	names := map[string]bool{}
	for d := range tun.NumDrops {
		if n := d.String(); names[n] || strings.Contains(n, "(") {
			t.Errorf("name of %d: %s", d, n)
		}
		names[d.String()] = true
	}
	for _, k := range []tun.Kind{tun.KindInvalid, tun.KindIKE, tun.KindESP, tun.KindClear} {
		if strings.Contains(k.String(), "(") {
			t.Errorf("name of kind %d: %v", k, k)
		}
	}
	if tun.NumDrops.String() != "drop(14)" || tun.Kind(9).String() != "kind(9)" {
		t.Error("out of range", tun.NumDrops, tun.Kind(9))
	}
}

// TestRoom: what the wires put in front of a packet fits the room, and the ESP header too.
func TestRoom(t *testing.T) {
	const library, ipv6, fragment, udp, esp = 10, 40, 8, 8, 32
	if library+ipv6+fragment+udp+tun.MarkerLen > tun.WireRoom || tun.WireRoom+esp > tun.Headroom {
		t.Error("no room")
	}
}
