package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun/tuntest"
)

// spis are the initiators' SPIs of a host's IKE SAs.
func spis(e *Engine) (out []string) {
	for _, s := range e.Status().IKE {
		out = append(out, s.SPIi)
	}
	return out
}

// INITIAL_CONTACT of somebody nobody vouched for closes nothing, not even SAs of the same key:
// anybody who shows that key first would be thrown out by whoever comes second.
func TestADV_D21_InitialContactOfAStranger(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	ka, kb := newKey(t), newKey(t)
	to := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), key: kb}
	eb := b.start(t)
	echo(t, eb)
	// Both know b's key, so they say INITIAL_CONTACT; b knows neither.
	first := (&testHost{name: "first", wire: at(t, n, "192.0.2.1:4500"), key: ka, peer: kb.Public(), remotes: to}).start(t)
	c, _ := dial(t, first, b.addr)
	roundTrip(t, c, []byte("first"))
	before := spis(eb)
	second := (&testHost{name: "second", wire: at(t, n, "192.0.2.3:4500"), key: ka, peer: kb.Public(), remotes: to}).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _, _, _ = dialFor(ctx, second, b.addr) }) // whether it gets the first one's address is another matter
	eventually(t, "the second is there as well", func() bool { return len(spis(eb)) == 2 && len(spis(second)) == 1 })
	if after := spis(eb); len(before) != 1 || !slices.Contains(after, before[0]) {
		t.Errorf("before %v, after %v", before, after)
	}
	if len(spis(first)) != 1 {
		t.Error("the first was told to go")
	}
}

// INITIAL_CONTACT of an authenticated peer closes that peer's other SAs and nobody else's.
func TestADV_D21_InitialContactClosesOnlyItsOwn(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	ka, kb, kc := newKey(t), newKey(t), newKey(t)
	to := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}
	known := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), key: kb, peer: ka.Public()}
	cfg := known.config(t)
	cfg.Conns[0].Entry.IDs = []pad.ID{{Type: wire.IDFQDN, Data: "a.example"}}
	strangers := (&testHost{name: "any", key: kb}).config(t).Conns[0]
	strangers.Children[0].Name = "others"
	cfg.Conns = append(cfg.Conns, strangers)
	own := ts.Set{ts.FromAddr(known.addr)}
	var err1, err2 error
	cfg.PAD, err1 = pad.New([]pad.Entry{cfg.Conns[0].Entry, strangers.Entry})
	cfg.Policy, err2 = spd.New([]spd.Policy{
		{Name: "a", Child: "all", Word: spd.Private, Mode: spd.ModeTunnel, Sel: ts.Pair{Local: own, Remote: ts.Set{ts.FromAddr(keyAddr(ka))}}},
		{Name: "rest", Child: "others", Word: spd.Private, BTNSOK: true, Mode: spd.ModeTunnel, PFP: spd.PFPRemoteAddr,
			Sel: ts.Pair{Local: own, Remote: ts.Set{ts.FromPrefix(pad.KeyPrefix())}}},
	})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	eb, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eb.Close() })
	echo(t, eb)
	c := (&testHost{name: "c", wire: at(t, n, "192.0.2.3:4500"), key: kc, peer: kb.Public(), remotes: to}).start(t)
	cc, _ := dial(t, c, known.addr)
	roundTrip(t, cc, []byte("c"))
	others := spis(eb)
	newA := func() *Engine {
		return (&testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), key: ka, peer: kb.Public(), remotes: to}).start(t)
	}
	a := newA()
	ca, _ := dial(t, a, known.addr)
	roundTrip(t, ca, []byte("a"))
	both := spis(eb)
	if len(others) != 1 || len(both) != 2 {
		t.Fatalf("%v, %v", others, both)
	}
	n.SetFaults(tuntest.Faults{Drop: 1}) // nothing of the end is heard
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{})
	ca, _ = dial(t, newA(), known.addr)
	roundTrip(t, ca, []byte("again"))
	eventually(t, "a's old SA is gone", func() bool {
		now := spis(eb)
		return len(now) == 2 && slices.Contains(now, others[0]) &&
			!slices.ContainsFunc(now, func(s string) bool { return s != others[0] && slices.Contains(both, s) })
	})
	roundTrip(t, cc, []byte("c goes on"))
}

// Each packet comes twice: whoever began, both ends drop the copy (RFC 4303, Section 3.4.3).
func TestCVE_2006_4436_ReplayProtectionInBothRoles(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{Seed: 3, Duplicate: 1})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	echo(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	c, _ := dial(t, ea, b.addr)
	for range 20 {
		roundTrip(t, c, []byte("once"))
	}
	only := func(e *Engine) ChildStatus {
		st := e.Status()
		if len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
			t.Fatalf("%+v", st.IKE)
		}
		return st.IKE[0].Children[0]
	}
	eventually(t, "one of each two is dropped at both ends", func() bool {
		x, y := only(ea), only(eb)
		return x.InPackets == y.OutPackets && x.InDropped == x.InPackets && y.InPackets == x.OutPackets && y.InDropped == y.InPackets && x.InPackets >= 20
	})
	if d := ea.Status().Data.Drops; d[datapath.DropESP] == 0 {
		t.Errorf("%v", d.Map())
	}
}
