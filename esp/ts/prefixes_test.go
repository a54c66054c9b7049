package ts

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestRangePrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		if rapid.Bool().Draw(t, "near") {
			b = a + b%5000
		}
		first, last := addr4(min(a, b)), addr4(max(a, b))
		ps := rangePrefixes(first, last)
		if len(ps) == 0 || len(ps) > 64 {
			t.Fatalf("%d prefixes", len(ps))
		}
		at := first
		for i, p := range ps {
			if p != p.Masked() || p.Addr() != at {
				t.Fatalf("prefix %d is %v, want one at %v", i, p, at)
			}
			end := lastOf(p.Addr(), 32-p.Bits())
			if i == len(ps)-1 && end != last {
				t.Fatalf("ends at %v, not %v", end, last)
			}
			at = end.Next()
		}
	})
	for _, p := range []string{"0.0.0.0/0", "::/0", "fd00::/8", "10.0.0.1/32", "fd00::1/128"} {
		want := netip.MustParsePrefix(p)
		if got := rangePrefixes(want.Addr(), lastOf(want.Addr(), want.Addr().BitLen()-want.Bits())); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v", p, got)
		}
	}
	if rangePrefixes(netip.Addr{}, addr4(1)) != nil || rangePrefixes(addr4(2), addr4(1)) != nil {
		t.Error("prefixes of no range")
	}
}

func TestSetPrefixes(t *testing.T) {
	x := FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))
	if got := (Set{x, x}).Prefixes(); len(got) != 1 || got[0].String() != "10.0.0.0/8" {
		t.Error(got)
	}
	if got := (Set{x, FromAddr(netip.MustParseAddr("fd00::1"))}).Prefixes(); len(got) != 2 {
		t.Error(got)
	}
	if got := (Set{}).Prefixes(); len(got) != 0 {
		t.Error(got)
	}
}
