package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun/tuntest"
)

// known are two hosts that know each other's keys; a knows where b is.
func known(t testing.TB, n *tuntest.Net) (a, b *testHost) {
	ka, kb := newKey(t), newKey(t)
	b = &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), key: kb, peer: ka.Public(), addr: keyAddr(kb)}
	a = &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), key: ka, peer: kb.Public(), addr: keyAddr(ka),
		remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	return a, b
}

// talking starts both and connects a to b; more is of a's connection.
func talking(t testing.TB, a, b *testHost, more ...func(c *Conn)) (ea, eb *Engine, c *netstack.TCPConn) {
	t.Helper()
	eb = b.start(t)
	echo(t, eb)
	ea = a.start(t, more...)
	c, _ = dial(t, ea, b.addr)
	roundTrip(t, c, []byte("before"))
	return ea, eb, c
}

// lose ends a host so that nobody hears of it.
func lose(t testing.TB, n *tuntest.Net, e *Engine) {
	t.Helper()
	n.SetFaults(tuntest.Faults{Drop: 1})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{})
}

// restart has a host crash and come back.
func (h *testHost) restart(t testing.TB, n *tuntest.Net, e *Engine, more ...func(c *Conn)) *Engine {
	t.Helper()
	where := e.Wire().LocalAddr(netip.Addr{})[0].String()
	lose(t, n, e)
	h.wire = at(t, n, where)
	e = h.start(t, more...)
	echo(t, e)
	return e
}

func askOften(c *Conn) { c.DPDDelay = 300 * time.Millisecond }

// A peer that was restarted, and waits to be called, is called again after a few seconds of
// silence: long before the old SA is dead, which then ends without a word.
func TestRestartedPeerIsCalledAgain(t *testing.T) {
	t.Parallel()
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea, eb, _ := talking(t, a, b, askOften)
	before := ea.Status().IKE[0]

	start := time.Now()
	eb = b.restart(t, n, eb)
	eventually(t, "both have one new SA with one child", func() bool {
		for _, e := range []*Engine{ea, eb} {
			st := e.Status()
			if len(st.IKE) != 1 || st.IKE[0].SPIi == before.SPIi || len(st.IKE[0].Children) != 1 {
				return false
			}
		}
		return true
	})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("after %v", took)
	}
	c, _ := dial(t, ea, b.addr)
	roundTrip(t, c, []byte("after"))
	idle(t, ea)
}

// A peer that was only not heard for a while keeps its SA: what was begun beside it is
// given up, and nothing of it is left.
func TestSilentPeerComesBack(t *testing.T) {
	t.Parallel()
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea, eb, c := talking(t, a, b, askOften)
	before := ea.Status().IKE[0]

	n.SetFaults(tuntest.Faults{Drop: 1})
	eventually(t, "a second SA is being made", func() bool { return len(ea.Status().IKE) == 2 })
	n.SetFaults(tuntest.Faults{})
	eb.ask(func(now time.Time) {
		for _, s := range eb.k.sas {
			s.m.CheckLiveness(now)
			eb.k.drain(now, s)
		}
	})
	roundTrip(t, c, []byte("after"))
	eventually(t, "the old SA alone", func() bool {
		up := 0
		for _, e := range []*Engine{ea, eb} {
			for _, s := range e.Status().IKE { // b may have a half-open one
				if s.State == "ESTABLISHED" && s.SPIi == before.SPIi && len(s.Children) == 1 {
					up++
				} else if s.State != "CONNECTING" {
					return false
				}
			}
		}
		return up == 2 && len(ea.Status().IKE) == 1
	})
	idle(t, ea)
	ea.ask(func(time.Time) {
		for _, s := range ea.k.sas {
			if s.succession != nil || s.succeeding != nil {
				t.Errorf("%s: a succession is left", s.name())
			}
		}
	})
}

// While traffic goes to the restarted peer it says itself that it knows nothing of the SA
// (RFC 7296, Section 1.5): then it takes no silence.
func TestRestartedPeerSaysSo(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea, eb, _ := talking(t, a, b)

	eb = b.restart(t, n, eb)
	// Who was heard a moment ago is only asked.
	eventually(t, "b is silent", func() bool { return time.Since(ea.Status().IKE[0].Children[0].LastHeard) > time.Second })
	start := time.Now()
	c, _ := dial(t, ea, b.addr) // its first packet goes to the old SA
	roundTrip(t, c, []byte("after"))
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("after %v", took)
	}
	eventually(t, "one SA", func() bool { return len(ea.Status().IKE) == 1 && len(eb.Status().IKE) == 1 })
	if got := eb.Status().Gate.Refused["invalid-spi"]; got == 0 {
		t.Error("nobody said so")
	}
	idle(t, ea)
}

// We were restarted and know where the peer is, which goes on sending: it is called, once.
func TestRestartedHostCallsBack(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	toB := func(c *Conn) { c.Children[0].Pair.Remote = ts.Set{ts.FromAddr(b.addr)} }
	ea, eb, _ := talking(t, a, b, toB)

	ea = a.restart(t, n, ea, toB)
	start := time.Now()
	c, _ := dial(t, eb, a.addr) // under the old SA: b knows of no restart
	roundTrip(t, c, []byte("after"))
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("after %v", took)
	}
	eventually(t, "one SA", func() bool { return len(ea.Status().IKE) == 1 && len(eb.Status().IKE) == 1 })
	idle(t, ea)

	// Not again for the same address, nor for one that nobody configured.
	ea.ask(func(now time.Time) {
		for _, s := range ea.k.sas {
			s.m.Delete(now)
			ea.k.drain(now, s)
		}
	})
	eventually(t, "no SA", func() bool { return len(ea.Status().IKE) == 0 })
	ea.ask(func(now time.Time) {
		ea.k.callBack(now, netip.MustParseAddr("192.0.2.2"))
		ea.k.callBack(now, netip.MustParseAddr("192.0.2.3"))
		if len(ea.k.acquires) != 0 {
			t.Error("called again")
		}
		ea.k.callBack(now.Add(suspectGap), netip.MustParseAddr("192.0.2.2"))
		if len(ea.k.acquires) != 1 {
			t.Error("not called again")
		}
	})
	eventually(t, "an SA again", func() bool { return len(ea.Status().IKE) == 1 && len(ea.Status().IKE[0].Children) == 1 })
}

// Traffic that nobody answers is reason enough to ask, whatever dpd_delay is (RFC 7296,
// Section 2.4).
func TestTrafficIntoSilence(t *testing.T) {
	t.Parallel()
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea, _, c := talking(t, a, b, func(c *Conn) { c.DPDDelay = time.Hour })
	n.SetFaults(tuntest.Faults{Drop: 1})
	if _, err := c.Write([]byte("anybody there?")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another SA is being made", func() bool { return len(ea.Status().IKE) == 2 })
}

// What the configuration wants up is tried again and again while nobody answers.
func TestWantedChildIsTriedAgain(t *testing.T) {
	t.Parallel()
	k := &keyer{wanted: wanted{}, roster: roster{}, acquires: map[uint64]*acquire{}}
	now := time.Unix(0, 0)
	cc := &ChildConf{Name: "net", Conn: &Conn{}} // without an address every try fails at once
	var gaps []time.Duration
	k.want(cc, now.Add(time.Second))
	k.want(cc, now)
	for range 8 {
		k.overdue(now)
		next := k.wanted[cc].at
		k.overdue(next.Add(-1))
		if !k.wanted[cc].at.Equal(next) {
			t.Error("tried early")
		}
		gaps = append(gaps, next.Sub(now))
		now = next
	}
	if gaps[0] != retryFirst || gaps[1] != 2*retryFirst || gaps[7] != retryMost {
		t.Errorf("%v", gaps)
	}
	if len(k.delays) != 1 {
		t.Errorf("%d tries ahead", len(k.delays))
	}
	delete(k.wanted, cc) // it is up
	k.overdue(now)
	if len(k.wanted)+len(k.delays)+len(k.acquires) != 0 {
		t.Error("not forgotten")
	}

	// Nobody is there at first, and the machine gives up at once.
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea := a.start(t, func(c *Conn) {
		c.Children[0].StartNow = true
		c.Children[0].Pair.Remote = ts.Set{ts.FromAddr(b.addr)}
	})
	ea.ask(func(now time.Time) {
		for _, s := range ea.k.sas {
			for _, ref := range s.waiting {
				ea.k.failAcquire(now, ref, errSilent)
			}
			s.waiting, s.deleted = nil, true
			s.m.Delete(now)
			ea.k.drain(now, s)
		}
	})
	b.start(t)
	eventually(t, "an SA without anybody asking", func() bool {
		st := ea.Status()
		return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1
	})
}

var errSilent = &ike.TimeoutError{Peer: "b", Exchange: wire.ExchangeIKESAInit}
