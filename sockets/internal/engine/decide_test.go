package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/tun/tuntest"
)

// The size of the replay window is each end's own affair, as its configuration has it in both
// roles (CVE-2006-4436: none as a responder).
func TestReplayWindowOfAChild(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	sizes := map[*testHost]int{a: 64, b: 4096}
	engines := map[*testHost]*Engine{}
	for h, size := range sizes {
		cfg := h.config(t)
		cfg.Conns[0].Children[0].ReplayWindow = size
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		engines[h] = e
	}
	if err := initiate(t, engines[a], b.addr); err != nil {
		t.Fatal(err)
	}
	for h, e := range engines {
		e.ask(func(time.Time) {
			for spi, s := range e.k.byChild {
				if got := s.children[spi].ReplayWindow; got != sizes[h] {
					t.Errorf("%s: %d packets, want %d", h.name, got, sizes[h])
				}
			}
			if len(e.k.byChild) != 1 {
				t.Errorf("%s: %d child SAs", h.name, len(e.k.byChild))
			}
		})
	}
}
