package sockets

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/btns-go/btns/tun/tuntest"
)

// gateway returns two hosts of which b has three children where a has one.
func gateway(t *testing.T, start StartAction) (a, b *Stack) {
	wa, wb := tuntest.Pair()
	prefixes := func(ps ...string) (out []netip.Prefix) {
		for _, p := range ps {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	cb := known("b", "a", "what both of them know")
	for name, ts := range map[string]string{"two": "10.2.0.1", "three": "10.3.0.1", "http": "10.3.0.1[tcp/80]"} {
		cb.Children = append(cb.Children, Child{Name: name, LocalTS: []string{ts}, RemoteTS: []string{"10.1.0.1"}})
	}
	b = newStack(t, "b", Config{Wire: wb, Addrs: prefixes("10.2.0.1/24", "10.3.0.1/24"), Connections: []Connection{cb}})
	ca := known("a", "b", "what both of them know")
	ca.RemoteAddrs = []string{wb.Addr().String()}
	ca.Children = []Child{{Name: "all", RemoteTS: []string{"10.2.0.1", "10.3.0.1"}, Start: start}}
	a = newStack(t, "a", Config{Wire: wa, Addrs: prefixes("10.1.0.1/24"), Connections: []Connection{ca}})
	echo(t, b, ":7")
	return a, b
}

// TestPacketChoosesChild: what is asked for at once fits no single child of the peer, so the
// packet that comes first among the selectors chooses (RFC 7296, Section 2.9). It leaves no
// trace in what stands, nor in what is rekeyed.
func TestPacketChoosesChild(t *testing.T) {
	a, b := gateway(t, StartTrap)
	for i, want := range []struct{ to, child string }{{"10.3.0.1:7", "three"}, {"10.2.0.1:7", "two"}} {
		roundTrip(t, dial(t, a, "tcp", want.to), []byte("hello"))
		for _, when := range []string{"made", "rekeyed"} {
			st := b.Status().IKE
			if len(st) != 1 || len(st[0].Children) != i+1 {
				t.Fatalf("b's SAs when %s: %+v", when, st)
			}
			got := st[0].Children[i]
			for _, c := range st[0].Children {
				if c.Name == want.child {
					got = c
				}
			}
			addr := netip.MustParseAddrPort(want.to).Addr().String() + "/32"
			if got.Name != want.child || got.LocalTS != addr || got.RemoteTS != "10.1.0.1/32" {
				t.Errorf("to %s, %s: %s with %s === %s", want.to, when, got.Name, got.LocalTS, got.RemoteTS)
			}
			if when == "made" {
				if _, err := a.e.Rekey("all"); err != nil {
					t.Error(err)
				}
				eventually(t, "rekeyed", func() bool {
					st := b.Status().IKE
					for _, c := range st[0].Children {
						if c.InSPI == got.InSPI {
							return false
						}
					}
					return len(st[0].Children) == i+1
				})
			}
		}
	}
}

// TestLeftOutAsksAgain: what waits for a child SA that the peer then narrows to something
// else gets its own.
func TestLeftOutAsksAgain(t *testing.T) {
	for name, start := range map[string]StartAction{"dials": StartTrap, "start and dials": StartNow} {
		t.Run(name, func(t *testing.T) {
			a, b := gateway(t, start)
			var all sync.WaitGroup
			for _, to := range []string{"10.3.0.1:7", "10.2.0.1:7"} {
				all.Go(func() {
					c, err := a.Dial("tcp", to)
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.Close()
				})
			}
			all.Wait()
			for _, st := range []*Stack{a, b} {
				if sas := st.Status().IKE; len(sas) != 1 {
					t.Errorf("%+v", sas)
				}
			}
		})
	}
}
