package ike_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func rekeyChild(s *iketest.Sim, e *iketest.End, spi uint32) {
	e.Do(func(m *ike.Machine) { m.RekeyChild(s.Now, spi) })
}

// only returns the one child SA of an end.
func only(t testing.TB, e *iketest.End) *iketest.Child {
	t.Helper()
	if len(e.Children) != 1 {
		t.Fatalf("%v has %d child SAs", e, len(e.Children))
	}
	for _, c := range e.Children {
		return c
	}
	return nil
}

// A child SA rekeyed by either role, with and without a new key exchange: make before
// break at both ends (RFC 7296, Section 2.8).
func TestRekeyChild(t *testing.T) {
	for _, role := range []ike.Role{ike.Initiator, ike.Responder} {
		for _, pfs := range []string{"", "aes256gcm16-x25519", "aes256gcm16-ecp256-x25519"} {
			t.Run(fmt.Sprint(role, pfs), func(t *testing.T) {
				s, a, b := hosts(t, 100)
				if pfs != "" {
					a.RekeyESP, b.RekeyESP = iketest.MustESP(pfs), iketest.MustESP(pfs)
					a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
				}
				e, o := up(t, s, a, b)
				if role == ike.Responder {
					e, o = o, e
				}
				old := only(t, e)
				n := s.Datagrams
				rekeyChild(s, e, old.InSPI)
				rekeyChild(s, e, old.InSPI) // starts nothing twice
				s.Run(time.Second, nil)
				want := 4
				if pfs == "aes256gcm16-ecp256-x25519" {
					want = 6 // the wrong group first
				}
				if got := s.Datagrams - n; got != want {
					t.Errorf("%d datagrams", got)
				}
				clean(t, s)
				fresh, peer := only(t, e), only(t, o)
				if fresh == old || fresh.Replaces != old.InSPI || peer.Replaces != old.OutSPI || !fresh.Outbound || !peer.Outbound {
					t.Fatalf("%+v\n%+v", fresh, peer)
				}
				if fresh.Name != old.Name || fresh.Ref != old.Ref || (fresh.Suite.Group != 0) != (pfs != "") {
					t.Errorf("%+v", fresh.Child)
				}
				for _, c := range []*iketest.Child{old, o.Made[0]} {
					if c.Removed == nil || c.Removed.Reason != ike.ReasonReplaced || c.Removed.Action != 0 {
						t.Errorf("old: %+v", c.Removed)
					}
				}
				for _, x := range []*iketest.End{e, o} {
					out, gone := -1, -1
					for i, ev := range x.Events {
						switch ev := ev.(type) {
						case *ike.ChildOutbound:
							out = i
						case *ike.ChildRemoved:
							gone = i
							_ = ev
						}
					}
					if out < 0 || gone < out {
						t.Errorf("%v: outbound at %d, removed at %d: a gap", x, out, gone)
					}
				}
				// And again, from the other end.
				rekeyChild(s, o, peer.InSPI)
				s.Run(time.Second, nil)
				only(t, e)
				s.Settle(5 * time.Minute)
				clean(t, s)
			})
		}
	}
}

// Soft limits in time rekey with jitter, hard ones end the SA at once.
func TestChildLifetime(t *testing.T) {
	s, a, b := hosts(t, 101)
	a.Terms = ike.Terms{Lifetime: ike.Lifetime{Rekey: time.Hour}}
	e, _ := up(t, s, a, b)
	start := s.Elapsed()
	var made []time.Duration
	for len(made) < 20 {
		n := len(e.Made)
		if !s.Run(2*time.Hour, func() bool { return len(e.Made) > n }) {
			t.Fatal("not rekeyed")
		}
		made = append(made, s.Elapsed()-start)
		start = s.Elapsed()
	}
	different := map[time.Duration]bool{}
	for _, d := range made {
		different[d.Round(time.Second)] = true
		if d < 53*time.Minute || d > time.Hour+time.Second {
			t.Errorf("rekeyed after %v", d)
		}
	}
	if len(different) < 10 {
		t.Errorf("no jitter: %v", made)
	}
	s.Settle(time.Minute)
	clean(t, s)
	only(t, e)

	// The peer refuses: retried with growing waits, then over.
	b.Refuse = wire.NotifyTSUnacceptable
	c := only(t, e)
	s.Run(2*time.Hour, func() bool { return c.Removed != nil })
	if c.Removed == nil || c.Removed.Reason != ike.ReasonExpired {
		t.Fatalf("%+v", c.Removed)
	}
	if n := len(e.RekeyErrors); n < 3 || n > 30 {
		t.Errorf("%d attempts", n)
	}
	wantNotify(t, e.RekeyErrors[0], wire.NotifyTSUnacceptable, true)
	s.Settle(time.Minute)
	clean(t, s)
	if !e.Up() || len(e.Children) != 0 {
		t.Error("not just the child SA")
	}
}

// Limits are handed to the data plane with jitter; its signals rekey and end.
func TestChildLimits(t *testing.T) {
	s, a, b := hosts(t, 102)
	a.Terms.Lifetime = ike.Lifetime{RekeyBytes: 1000, LifeBytes: 2000, RekeyPackets: 100, LifePackets: 100, RandPackets: 10}
	a.Terms.CloseAction = ike.ActionStart
	e, o := up(t, s, a, b)
	c := only(t, e)
	if l := c.Limits; l.HardBytes != 2000 || l.HardPackets != 100 || l.SoftBytes > 1000 || l.SoftBytes < 500 || l.SoftPackets < 90 || l.SoftPackets > 100 {
		t.Errorf("%+v", l)
	}
	if (only(t, o).Limits != ike.Limits{}) {
		t.Error("limits nobody asked for")
	}
	e.Do(func(m *ike.Machine) { m.SoftLimit(s.Now, c.InSPI) })
	e.Do(func(m *ike.Machine) { m.SoftLimit(s.Now, c.InSPI) })
	s.Run(time.Second, nil)
	fresh := only(t, e)
	if fresh == c {
		t.Fatal("not rekeyed")
	}
	// Exhausted while the rekeying is under way: the old one goes, the new one comes.
	e.Do(func(m *ike.Machine) { m.SoftLimit(s.Now, fresh.InSPI) })
	e.Do(func(m *ike.Machine) { m.Exhausted(s.Now, fresh.InSPI) })
	if fresh.Removed == nil || fresh.Removed.Reason != ike.ReasonExpired || fresh.Removed.Action != ike.ActionStart {
		t.Errorf("%+v", fresh.Removed)
	}
	s.Run(time.Second, nil)
	last := only(t, e)
	if !last.Outbound {
		t.Error("the new one is not used")
	}
	// Exhausted without one.
	e.Do(func(m *ike.Machine) { m.Exhausted(s.Now, last.InSPI); m.Exhausted(s.Now, 1) })
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children)+len(o.Children) != 0 || !e.Up() {
		t.Error("still there")
	}
	if o.Made[len(o.Made)-1].Removed.Reason != ike.ReasonPeerDeleted {
		t.Error("peer's reason")
	}
}

func TestInactivity(t *testing.T) {
	s, a, b := hosts(t, 103)
	a.Terms.Inactivity = 10 * time.Minute
	e, _ := up(t, s, a, b)
	c := only(t, e)
	for range 5 {
		s.Run(8*time.Minute, nil)
		e.Do(func(m *ike.Machine) { m.Heard(s.Now, c.InSPI) })
		s.Run(8*time.Minute, nil)
		e.Do(func(m *ike.Machine) { m.Used(s.Now, c.InSPI) })
	}
	if c.Removed != nil {
		t.Fatal("removed while in use")
	}
	s.Run(11*time.Minute, nil)
	if c.Removed == nil || c.Removed.Reason != ike.ReasonInactive || c.Removed.Action != 0 {
		t.Errorf("%+v", c.Removed)
	}
	s.Settle(time.Minute)
	clean(t, s)
}

// What the owner wants when a child SA goes.
func TestActions(t *testing.T) {
	terms := ike.Terms{DPDAction: ike.ActionStart, CloseAction: ike.ActionTrap}
	for _, how := range []string{"peer deletes", "peer closes", "dead", "we delete"} {
		s, a, b := hosts(t, 104)
		a.Terms = terms
		a.Config.DPDDelay = time.Minute
		e, o := up(t, s, a, b)
		c := only(t, e)
		want := ike.ActionTrap
		switch how {
		case "peer deletes":
			o.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.OutSPI) })
		case "peer closes":
			o.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		case "dead":
			s.Faults.Loss = 1
			want = ike.ActionStart
		case "we delete":
			e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.InSPI) })
			want = ike.ActionNone
		}
		s.Run(10*time.Minute, nil)
		if c.Removed == nil || c.Removed.Action != want {
			t.Errorf("%s: %+v", how, c.Removed)
		}
		clean(t, s)
	}
}

// The peer answers TEMPORARY_FAILURE for ever: few attempts, then the SA goes.
func TestADV_F12_TemporaryFailureForEver(t *testing.T) {
	for _, what := range []string{"rekey", "create"} {
		s, a, b := hosts(t, 105)
		e, _ := up(t, s, a, b)
		b.Refuse = wire.NotifyTemporaryFailure
		answers := watch(s, "CREATE_CHILD_SA response")
		if what == "rekey" {
			rekeyChild(s, e, only(t, e).InSPI)
		} else {
			e.CreateChild(a.Request("x", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		}
		start := s.Elapsed()
		s.Run(20*time.Minute, func() bool { return e.Failed != nil })
		took := s.Elapsed() - start
		if e.Failed == nil || took < 3*time.Minute || took > 8*time.Minute {
			t.Errorf("%s: %v after %v", what, e.Failed, took)
		}
		if n := len(*answers); n < 4 || n > 20 {
			t.Errorf("%s: %d attempts", what, n)
		}
		s.Settle(time.Minute)
		clean(t, s)
	}
}

// It passes: the child SA is made after all.
func TestTemporaryFailurePasses(t *testing.T) {
	s, a, b := hosts(t, 106)
	e, _ := up(t, s, a, b)
	b.Refuse = wire.NotifyTemporaryFailure
	e.CreateChild(a.Request("x", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	rekeyChild(s, e, only(t, e).InSPI)
	s.Run(30*time.Second, nil)
	b.Refuse = 0
	s.Settle(5 * time.Minute)
	clean(t, s)
	if len(e.Children) != 2 || len(e.Made) != 3 || len(e.ChildErrors)+len(e.RekeyErrors) != 0 {
		t.Errorf("%d of %d, %v %v", len(e.Children), len(e.Made), e.ChildErrors, e.RekeyErrors)
	}
}

// The peer does not know what we rekey: a new one from scratch (RFC 7296, Section 2.25).
func TestRekeyOfWhatThePeerLost(t *testing.T) {
	s, a, b := hosts(t, 107)
	e, _ := up(t, s, a, b)
	old := only(t, e)
	s.Rewrite(func(o *iketest.Opened) bool {
		for _, p := range o.Payloads {
			if n, ok := p.(*wire.Notify); ok && n.NType == wire.NotifyRekeySA {
				n.SPI = spi32(0x11223344)
				return true
			}
		}
		return false
	})
	rekeyChild(s, e, old.InSPI)
	s.Run(time.Second, nil)
	c := only(t, e)
	if c == old || c.Replaces != 0 || !c.Outbound || old.Removed.Reason != ike.ReasonLost {
		t.Errorf("%+v, %+v", c.Child, old.Removed)
	}
}

// No SPI to be had, or no key: the old one stays and another attempt is made.
func TestRekeyWithoutMeans(t *testing.T) {
	for _, what := range []string{"spi", "key"} {
		s, a, b := hosts(t, 108)
		a.RekeyESP = iketest.MustESP("aes256gcm16-x25519")
		b.ESP = iketest.MustESP("aes256gcm16-x25519")
		e, _ := up(t, s, a, b)
		old := only(t, e)
		a.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			switch w.(type) {
			case *ike.WorkRekey:
				if what == "spi" {
					return nil
				}
			case *ike.WorkKE:
				return nil
			}
			return r
		}
		leak := len(a.SPIs)
		rekeyChild(s, e, old.InSPI)
		s.Run(time.Second, nil)
		if len(e.RekeyErrors) != 1 || only(t, e) != old {
			t.Fatalf("%s: %v", what, e.RekeyErrors)
		}
		a.Answer = nil
		s.Run(time.Minute, nil)
		if only(t, e) == old {
			t.Errorf("%s: not rekeyed later", what)
		}
		if what == "spi" {
			for spi, st := range a.SPIs { // the stand-in reserved one that it did not hand out
				if st == iketest.SPIReserved {
					a.SPIs[spi] = iketest.SPIReleased
					leak--
				}
			}
		}
		s.Settle(time.Minute)
		clean(t, s)
	}
}

// A rekeying that asks for everything gets what the policy allows, no more than is in use
// needs, and the old selectors stay covered (ADV-E4).
func TestADV_E4_RekeyWider(t *testing.T) {
	s, a, b := hosts(t, 112)
	e, o := up(t, s, a, b)
	b.Allow = iketest.Pair("10.2.0.0/15", "10.0.0.0/15")
	s.Rewrite(func(m *iketest.Opened) bool {
		if m.Kind() != "CREATE_CHILD_SA request" {
			return false
		}
		for _, p := range m.Payloads {
			if x, ok := p.(*wire.TS); ok {
				x.Selectors = []wire.TrafficSelector{{Type: 7, EndPort: 65535, Start: mustAddr("0.0.0.0"), End: mustAddr("255.255.255.255")}}
			}
		}
		return true
	})
	rekeyChild(s, e, only(t, e).InSPI)
	s.Run(50*time.Millisecond, nil)
	if len(o.Made) != 2 {
		t.Fatalf("%s", s.Summary())
	}
	if got := o.Made[1].Pair; !b.Allow.Covers(got) || !got.Covers(o.Made[0].Pair) {
		t.Errorf("granted %v", got)
	}
	// Our end asked for less: it takes no more than that (ADV-E3).
	for _, c := range e.Children {
		if !iketest.DefaultPair().Covers(c.Pair) {
			t.Errorf("taken %v", c.Pair)
		}
	}
}

// A selection narrower than what is in use is not taken (ADV-E4), nor is one granted.
func TestADV_E4_RekeyNarrower(t *testing.T) {
	for _, who := range []string{"initiator", "responder"} {
		s, a, b := hosts(t, 109)
		e, _ := up(t, s, a, b)
		old := only(t, e)
		s.Rewrite(func(o *iketest.Opened) bool {
			kind := "CREATE_CHILD_SA request"
			if who == "initiator" {
				kind = "CREATE_CHILD_SA response"
			}
			if o.Kind() != kind {
				return false
			}
			for _, p := range o.Payloads {
				if x, ok := p.(*wire.TS); ok {
					x.Selectors[0].End = x.Selectors[0].Start
				}
			}
			return true
		})
		rekeyChild(s, e, old.InSPI)
		s.Run(2*time.Second, nil)
		if len(e.RekeyErrors) != 1 || only(t, e) != old {
			t.Errorf("%s: %v", who, e.RekeyErrors)
		}
		s.Tap = nil
		s.Settle(5 * time.Minute)
		clean(t, s)
		if only(t, e) == old {
			t.Errorf("%s: not rekeyed later", who)
		}
	}
}

// TEMPORARY_FAILURE now and then is no reason to give up.
func TestTemporaryFailureNowAndThen(t *testing.T) {
	s, a, b := hosts(t, 110)
	e, _ := up(t, s, a, b)
	for range 5 {
		b.Refuse = wire.NotifyTemporaryFailure
		rekeyChild(s, e, first(e))
		s.Run(10*time.Millisecond, nil)
		e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, first(e)) })
		s.Run(time.Second, nil)
		b.Refuse = 0
		e.CreateChild(a.Request("net", iketest.DefaultPair()))
		s.Run(time.Hour, nil)
	}
	b.Refuse = wire.NotifyTemporaryFailure
	e.CreateChild(a.Request("x", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(time.Minute, nil)
	if !e.Up() {
		t.Errorf("%v", e.Failed)
	}
	clean(t, s)
}

// Transport mode behind a NAT: rekeyed from both ends, and after the NAT has changed its
// address (RFC 7296, Section 2.23.1).
func TestRekeyTransportBehindNAT(t *testing.T) {
	s, a, b := hosts(t, 111)
	a.Outside, a.Addr = mustAddr("198.51.100.1"), mustAddrPort("10.9.9.9:500")
	b.Allow = iketest.Pair("192.0.2.2[tcp]", "198.51.100.0/24")
	a.Allow = iketest.Pair("10.9.9.9", "192.0.2.2")
	req := a.Request("host", iketest.Pair("10.9.9.9[tcp]", "192.0.2.2[tcp/80]"))
	req.Transport = true
	e := a.Connect(b, req)
	o := both(t, s, e)
	for i, x := range []*iketest.End{e, o, e, o, e} {
		if i == 2 {
			a.Outside = mustAddr("198.51.100.9")
			e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
			s.Run(time.Second, nil)
		}
		old := only(t, x)
		rekeyChild(s, x, old.InSPI)
		s.Run(2*time.Second, nil)
		if c := only(t, x); c == old || !c.Transport || len(x.RekeyErrors) != 0 {
			t.Fatalf("rekeying %d: %v", i, x.RekeyErrors)
		}
	}
	s.Settle(time.Minute)
	clean(t, s)
}

// Both ends replace the child SA and the IKE SA again and again, at their own pace, while
// packets pass both ways. The network keeps their order: every packet arrives.
func TestRekeyLosesNothing(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		s, a, b := hosts(t, seed)
		s.Faults.Work = 20 * time.Millisecond
		a.Terms.Lifetime = ike.Lifetime{Rekey: 2 * time.Second, Life: time.Minute, Rand: time.Second}
		b.Terms.Lifetime = ike.Lifetime{Rekey: 3 * time.Second, Life: time.Minute, Rand: time.Second}
		a.Config.Life = ike.IKELife{Rekey: 7 * time.Second, Over: time.Minute, Rand: time.Second}
		b.Config.Life = ike.IKELife{Rekey: 5 * time.Second, Over: time.Minute, Rand: time.Second}
		for _, h := range []*iketest.Host{a, b} {
			h.ESP = iketest.MustESP("aes256gcm16-x25519")
			h.RekeyESP = h.ESP
		}
		e, _ := up(t, s, a, b)
		a.Talk(7 * time.Millisecond)
		b.Talk(11 * time.Millisecond)
		s.Run(30*time.Second, nil)
		a.Quiet()
		b.Quiet()
		s.Run(100*time.Millisecond, nil)
		clean(t, s)
		if tr := s.Traffic; tr.Delivered != tr.Offered || tr.Held != 0 || tr.Offered < 6000 {
			t.Errorf("seed %d: %+v", seed, tr)
		}
		made := 0
		for _, x := range a.Ends {
			made += len(x.Made)
		}
		if e.Last() == e || made < 8 {
			t.Errorf("seed %d: %d child SAs, %v", seed, made, e.RekeyErrors)
		}
	}
}
