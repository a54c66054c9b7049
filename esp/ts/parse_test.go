package ts

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	a := netip.MustParseAddr
	for _, tc := range []struct {
		in, out string // out "" means the same
		want    Selector
	}{
		{"10.1.0.0/24[tcp/80]", "", Selector{a("10.1.0.0"), a("10.1.0.255"), 6, Port(80)}},
		{"10.0.0.1-10.0.0.9[17]", "10.0.0.1-10.0.0.9[udp]", Selector{a("10.0.0.1"), a("10.0.0.9"), 17, AnyPorts()}},
		{"fd00::/64[udp/5000-5010]", "", Selector{a("fd00::"), a("fd00::ffff:ffff:ffff:ffff"), 17, Ports{5000, 5010}}},
		{"10.0.0.1[icmp/8]", "10.0.0.1/32[icmp/8]", Selector{a("10.0.0.1"), a("10.0.0.1"), 1, Ports{0x800, 0x8ff}}},
		{"10.0.0.1[icmp/8/0]", "10.0.0.1/32[icmp/8(0)]", Selector{a("10.0.0.1"), a("10.0.0.1"), 1, Port(0x800)}},
		{"10.0.0.1[icmp/3(4)]", "10.0.0.1/32[icmp/3(4)]", Selector{a("10.0.0.1"), a("10.0.0.1"), 1, Port(0x304)}},
		{"10.0.0.1[icmp/2048]", "10.0.0.1/32[icmp/8(0)]", Selector{a("10.0.0.1"), a("10.0.0.1"), 1, Port(0x800)}},
		{"10.0.0.1[icmp/0-2047]", "10.0.0.1/32[icmp/0-2047]", Selector{a("10.0.0.1"), a("10.0.0.1"), 1, Ports{0, 2047}}},
		{"fd00::1[ipv6-icmp/128]", "fd00::1/128[ipv6-icmp/128]", Selector{a("fd00::1"), a("fd00::1"), 58, ICMP(128, -1)}},
		{"fd00::1[icmpv6/135(0)]", "fd00::1/128[ipv6-icmp/135(0)]", Selector{a("fd00::1"), a("fd00::1"), 58, ICMP(135, 0)}},
		{"10.1.2.3/16", "10.1.0.0/16", FromPrefix(netip.MustParsePrefix("10.1.0.0/16"))},
		{"0.0.0.0/0", "", Selector{a("0.0.0.0"), a("255.255.255.255"), 0, AnyPorts()}},
		{"::/0", "", Selector{a("::"), a("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0, AnyPorts()}},
		{"10.0.0.0/8[any]", "10.0.0.0/8", Selector{a("10.0.0.0"), a("10.255.255.255"), 0, AnyPorts()}},
		{"10.0.0.0/8[%any/53]", "10.0.0.0/8[any/53]", Selector{a("10.0.0.0"), a("10.255.255.255"), 0, Port(53)}},
		{"10.0.0.0/8[tcp/opaque]", "", Selector{a("10.0.0.0"), a("10.255.255.255"), 6, OpaquePorts()}},
		{"10.0.0.0/8[tcp/any]", "10.0.0.0/8[tcp]", Selector{a("10.0.0.0"), a("10.255.255.255"), 6, AnyPorts()}},
		{"10.0.0.0-10.0.0.255", "10.0.0.0/24", FromPrefix(netip.MustParsePrefix("10.0.0.0/24"))},
		{"10.0.0.1[99]", "10.0.0.1/32[99]", Selector{a("10.0.0.1"), a("10.0.0.1"), 99, AnyPorts()}},
		{" 10.0.0.1[gre] ", "10.0.0.1/32[gre]", Selector{a("10.0.0.1"), a("10.0.0.1"), 47, AnyPorts()}},
	} {
		got, err := Parse(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tc.in, got, err, tc.want)
			continue
		}
		out := tc.out
		if out == "" {
			out = tc.in
		}
		if got.String() != out {
			t.Errorf("%q prints as %q, want %q", tc.in, got.String(), out)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q reads back as %v, %v", got.String(), again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"", "[tcp]", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "fe80::1%eth0", "fe80::1%eth0-fe80::2",
		"::ffff:10.0.0.1", "::ffff:10.0.0.0/120", "::ffff:10.0.0.1-::ffff:10.0.0.9", "10.0.0.1[tcp/80", "10.0.0.1[tcp/80]x",
		"10.0.0.1[nope]", "10.0.0.1[256]", "10.0.0.1[-1]", "10.0.0.1[tcp/65536]", "10.0.0.1[tcp/80-79]", "10.0.0.1[tcp/]",
		"10.0.0.1[tcp/+80]", "10.0.0.1[tcp/080]", "10.0.0.1[icmp/8/]", "10.0.0.1[icmp/8(256)]", "10.0.0.1[icmp/256(0)]", "10.0.0.1[icmp/8(0]",
		"10.0.0.1[]", "10.0.0.1/", "host.example", "10.0.0.1 - 10.0.0.2", "10.0.0.1[tcp/http]", strings.Repeat("9", 100000),
	} {
		if s, err := Parse(in); err == nil {
			t.Errorf("Parse(%.40q) = %v", in, s)
		} else if len(err.Error()) > 300 || !strings.HasPrefix(err.Error(), "ts: ") {
			t.Errorf("Parse(%.40q): error %.400q", in, err)
		}
	}
}

func TestADV_P45_OneFormOfAddress(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	zoned := netip.MustParseAddr("fe80::1%eth0")
	plain4 := netip.MustParseAddr("10.0.0.1")
	for _, s := range []Selector{FromAddr(mapped), FromAddr(zoned), FromAddr(netip.Addr{}),
		FromPrefix(netip.PrefixFrom(mapped, 120)), FromPrefix(netip.Prefix{})} {
		if s != (Selector{}) || s.Valid() == nil {
			t.Errorf("got %+v", s)
		}
	}
	all6 := FromPrefix(netip.MustParsePrefix("::/0"))
	all4 := FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	if all4.Contains(mapped, 6, 80) || all6.Contains(plain4, 6, 80) {
		t.Error("a selector of one family contains an address of the other")
	}
	for _, f := range []Flow{
		MakeFlow(6, netip.AddrPortFrom(mapped, 1), netip.AddrPortFrom(mapped, 2)),
		MakeFlow(6, netip.AddrPortFrom(zoned, 1), netip.AddrPortFrom(zoned, 2)),
		MakeFlow(6, netip.AddrPortFrom(plain4, 1), netip.AddrPortFrom(netip.MustParseAddr("fd00::1"), 2)),
		MakeFlow(6, netip.AddrPort{}, netip.AddrPort{}),
	} {
		if f != (Flow{}) || f.IsValid() {
			t.Errorf("flow %v", f)
		}
	}
}

func TestZeroValuesMatchNothing(t *testing.T) {
	all := Pair{Set{FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))}, Set{FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))}}
	if all.MatchOut(Flow{}) || all.MatchIn(Flow{}) {
		t.Error("everything matches the zero flow")
	}
	f := MakeFlow(6, netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("0.0.0.0:0"))
	if !f.IsValid() || !all.MatchOut(f) {
		t.Error("0.0.0.0 is an address too")
	}
	for _, p := range []Pair{{}, {Set{{}}, Set{{}}}, {all.Local, nil}} {
		if p.MatchOut(f) || p.MatchIn(f) || !p.Empty() || p.Overlaps(all) || !all.Covers(p) {
			t.Errorf("%v covers something", p)
		}
	}
	if (Selector{}).Contains(netip.Addr{}, 0, 0) || (Set{{}}).ContainsAddr(netip.Addr{}) {
		t.Error("the zero selector contains the zero address")
	}
}

func TestICMPPorts(t *testing.T) {
	if ICMP(-1, -1) != AnyPorts() || ICMP(-1, 3) != AnyPorts() || ICMP(8, -1) != (Ports{0x800, 0x8ff}) || ICMP(8, 0) != Port(0x800) {
		t.Error("ICMP ranges")
	}
	// RFC 4301, Section 4.4.1.3: may send echo requests, may receive replies.
	p := pairOf(t, "10.0.0.1[icmp/8]", "10.0.0.2[icmp/0]")
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	flow := func(src, dst netip.Addr, typ uint16) Flow {
		return MakeFlow(1, netip.AddrPortFrom(src, typ<<8), netip.AddrPortFrom(dst, typ<<8))
	}
	if !p.MatchOut(flow(a, b, 8)) || !p.MatchIn(flow(b, a, 0)) {
		t.Error("a ping does not match")
	}
	if p.MatchOut(flow(a, b, 0)) || p.MatchIn(flow(b, a, 8)) {
		t.Error("a ping the other way matches")
	}
	// Case C: OPAQUE for the remote side means that nothing may be received.
	p = pairOf(t, "10.0.0.1[icmp/8]", "10.0.0.2[icmp/opaque]")
	if !p.MatchOut(flow(a, b, 8)) || p.MatchIn(flow(b, a, 8)) || p.MatchIn(flow(b, a, 0)) {
		t.Error("send only")
	}
}

func TestADV_P24_NonInitialFragmentNeedsAnyOrOpaque(t *testing.T) {
	f := MakeFlow(6, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:80")).WithoutPorts()
	for sel, want := range map[string]bool{
		"10.0.0.2[tcp/80]": false, "10.0.0.2[tcp/0-65534]": false, "10.0.0.2[tcp]": true, "10.0.0.2[tcp/opaque]": true, "10.0.0.2": true,
	} {
		if got := pairOf(t, "10.0.0.1", sel).MatchOut(f); got != want {
			t.Errorf("%s: %v", sel, got)
		}
	}
	whole := MakeFlow(6, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:80"))
	if pairOf(t, "10.0.0.1", "10.0.0.2[tcp/opaque]").MatchOut(whole) {
		t.Error("OPAQUE matches a packet that shows its ports")
	}
}

func pairOf(t *testing.T, local, remote string) Pair {
	t.Helper()
	l, err1 := Parse(local)
	r, err2 := Parse(remote)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return Pair{Set{l}, Set{r}}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.1.0.0/24[tcp/80]", "fd00::/64[udp/5000-5010]", "10.0.0.1-10.0.0.9[17]", "10.0.0.1[icmp/8(0)]", "::/0[any/opaque]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := Parse(in)
		if err != nil {
			return
		}
		if err := s.Valid(); err != nil {
			t.Fatalf("%q parses to an invalid selector: %v", in, err)
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Fatalf("%q: %q reads back as %v, %v", in, s.String(), again, err)
		}
	})
}
