package engine

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

// behindNAT is a place on a network in memory behind a NAT, which shows the outside ones.
func behindNAT(t testing.TB, n *tuntest.Net, inside string, outside ...string) *tuntest.NATWire {
	t.Helper()
	var at []netip.AddrPort
	for _, a := range outside {
		at = append(at, netip.MustParseAddrPort(a))
	}
	w, err := n.ListenBehind(netip.MustParseAddrPort(inside), at...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// dialWith is dial for a socket with demands, which gets a child SA of its own.
func dialWith(t testing.TB, e *Engine, to netip.Addr, want latch.Want) (*netstack.TCPConn, *datapath.Socket) {
	t.Helper()
	s := e.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketConnected, Want: want})
	c, err := e.Stack.DialTCP(t.Context(), s.Tag(), netip.AddrPort{}, netip.AddrPortFrom(to, echoPort))
	if err != nil {
		t.Fatal(err)
	}
	c.OnGone(s.Close)
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

// rebinding is a, behind a NAT that can forget, connected to b: by a child SA for everything
// and a narrow one.
func rebinding(t *testing.T) (ea, eb *Engine, natA, wireB *tuntest.NATWire, wide, narrow *netstack.TCPConn) {
	t.Helper()
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	if err := a.wire.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.wire.Close(); err != nil {
		t.Fatal(err)
	}
	natA = behindNAT(t, n, "10.0.0.1:4500", "198.51.100.1:1001", "198.51.100.1:1002", "198.51.100.7:1003")
	wireB = behindNAT(t, n, "192.0.2.2:4500", "192.0.2.2:4500", "192.0.2.2:666")
	wireB.Lenient = true // no NAT, but somebody may carry a packet elsewhere
	a.wire, b.wire = natA, wireB
	ea, eb, wide = talking(t, a, b)
	narrow, _ = dialWith(t, ea, b.addr, latch.Want{Suites: []string{"aes256gcm16"}})
	roundTrip(t, narrow, []byte("before"))
	eventually(t, "two child SAs", func() bool { return len(paths(eb)) == 3 })
	ea.ask(func(time.Time) {
		for _, s := range ea.k.sas {
			if !s.est.LocalNAT || !s.est.RemoteNAT {
				t.Errorf("a sees NATs %v %v: the test is about both", s.est.LocalNAT, s.est.RemoteNAT)
			}
		}
	})
	return ea, eb, natA, wireB, wide, narrow
}

// paths are where a host sends what it sends: IKE, then ESP of each child SA.
func paths(e *Engine) (out []tun.Path) {
	e.ask(func(time.Time) {
		for _, s := range e.k.those(e.k.cfg.Conns[0], nil, (*ikeSA).ours) {
			out = append(out, tun.Path(s.m.Path()))
			for _, c := range s.children {
				out = append(out, c.CurrentPath())
			}
		}
	})
	return out
}

// allRekeyed rekeys what has the name and waits until it has new SPIs.
func allRekeyed(t *testing.T, e *Engine, name string) {
	t.Helper()
	spis := func() (out []string) {
		for _, s := range e.Status().IKE {
			if name != "all" {
				out = append(out, s.SPIi)
				continue
			}
			for _, c := range s.Children {
				out = append(out, c.InSPI)
			}
		}
		return out
	}
	before := spis()
	if n, err := e.Rekey(name); n != len(before) || err != nil {
		t.Fatalf("%d of %s to rekey, %v", n, name, err)
	}
	eventually(t, name+" has new keys", func() bool {
		after := spis()
		return len(after) == len(before) && !slices.ContainsFunc(after, func(x string) bool { return slices.Contains(before, x) })
	})
}

// sentTo tells whether all that a host sends goes to one place.
func sentTo(e *Engine, to netip.AddrPort) bool {
	return !slices.ContainsFunc(paths(e), func(p tun.Path) bool { return p.Remote != to })
}

// A NAT's new mapping that one child SA's ESP shows is the peer's: IKE goes there, and what all
// the other child SAs carry (RFC 7296, Section 2.23). Nothing is sent into the void.
func TestADV_P37_ESPMovesEverything(t *testing.T) {
	ea, eb, natA, _, wide, narrow := rebinding(t)
	ear := listen(t, eb)
	for i := 1; i <= 2; i++ {
		before := natA.Outside()
		natA.Rebind(i)
		roundTrip(t, wide, []byte("from elsewhere"))
		if !sentTo(eb, natA.Outside()) {
			t.Errorf("b sends to %v, a is at %v", paths(eb), natA.Outside())
		}
		e := ear.await(EventIKEUpdate, i, "moved", before.String(), natA.Outside().String())
		if e.IKE.Remote != natA.Outside() || e.IKE.OldRemote != before {
			t.Errorf("%+v", e)
		}
		if got := eb.Status().IKE[0].Remote; got != natA.Outside().String() {
			t.Errorf("status says %s, a is at %v", got, natA.Outside())
		}
		resends := eb.Status().Counts.Resends
		allRekeyed(t, eb, "all")
		allRekeyed(t, eb, "peer-of-b")
		if st := eb.Status().Counts; st.Resends != resends {
			t.Errorf("%d requests went to the old mapping", st.Resends-resends)
		}
		roundTrip(t, narrow, []byte("too"))
	}
	if n := len(ear.all(EventIKEUpdate)); n != 2 {
		t.Errorf("%d moves told", n)
	}
	idle(t, ea)
}

// So does IKE's: the child SAs follow, in UDP as before.
func TestADV_P37_IKEMovesEverything(t *testing.T) {
	ea, eb, natA, _, wide, _ := rebinding(t)
	natA.Rebind(1)
	ea.ask(func(now time.Time) {
		for _, s := range ea.k.sas {
			s.m.CheckLiveness(now)
			ea.k.drain(now, s)
		}
	})
	eventually(t, "b has followed", func() bool { return sentTo(eb, natA.Outside()) })
	roundTrip(t, wide, []byte("after"))
}

// Who is behind a NAT follows nobody: one packet from elsewhere would be enough to cut it off
// (RFC 7296, Section 2.23). The peer's faked NAT is no reason.
func TestADV_F18_BehindANATNobodyIsFollowed(t *testing.T) {
	ea, _, _, wireB, wide, _ := rebinding(t)
	ear := listen(t, ea)
	before := wireB.Outside()
	wireB.Rebind(1)
	roundTrip(t, wide, []byte("answered from elsewhere"))
	wireB.Rebind(0)
	if !sentTo(ea, before) {
		t.Errorf("a sends to %v", paths(ea))
	}
	roundTrip(t, wide, []byte("after"))
	if got := ear.all(EventIKEUpdate); len(got) != 0 {
		t.Errorf("a follows: %v", got)
	}
}
