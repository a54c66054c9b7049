package ike_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func rekeyIKE(s *iketest.Sim, e *iketest.End) {
	e.Do(func(m *ike.Machine) { m.RekeyIKE(s.Now) })
}

// live returns the only established end of a host.
func live(t testing.TB, h *iketest.Host) *iketest.End {
	t.Helper()
	es := h.Established()
	if len(es) != 1 {
		t.Fatalf("%s has %d IKE SAs\n%s", h.Name, len(es), h.Sim.Summary())
	}
	return es[0]
}

// The IKE SA rekeyed by either role, again and again: child SAs, commands and message
// IDs go on, the old SA is gone (RFC 7296, Sections 2.8 and 2.18).
func TestRekeyIKE(t *testing.T) {
	for _, role := range []ike.Role{ike.Initiator, ike.Responder} {
		t.Run(role.String(), func(t *testing.T) {
			s, a, b := hosts(t, 200)
			a.Config.DPDDelay, b.Config.DPDDelay = time.Minute, time.Minute
			e, o := up(t, s, a, b)
			c, d := only(t, e), only(t, o)
			x, other := e, o
			if role == ike.Responder {
				x, other = o, e
			}
			n := s.Datagrams
			rekeyIKE(s, x)
			rekeyIKE(s, x)
			s.Run(time.Second, nil)
			if got := s.Datagrams - n; got != 4 {
				t.Errorf("%d datagrams", got)
			}
			clean(t, s)
			nx, no := x.Last(), other.Last()
			if nx == x || no == other || nx.M.Role() != ike.Initiator || no.M.Role() != ike.Responder {
				t.Fatalf("%v %v\n%s", nx.M.Role(), no.M.Role(), s.Summary())
			}
			for _, old := range []*iketest.End{x, other} {
				if old.Closed == nil || old.Closed.Reason != ike.ReasonReplaced || old.Failed != nil {
					t.Errorf("%+v", old.Closed)
				}
			}
			if c.Removed != nil || d.Removed != nil || only(t, e.Last()) != c || only(t, o.Last()) != d {
				t.Error("child SAs did not go over")
			}
			// Everything works on the new SA, from both ends.
			rekeyChild(s, nx, only(t, nx).InSPI)
			no.CreateChild(no.Host.Request("x", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			s.Run(10*time.Minute, nil)
			for range 3 {
				rekeyIKE(s, live(t, a))
				s.Run(10*time.Second, nil)
				rekeyIKE(s, live(t, b))
				s.Run(10*time.Second, nil)
			}
			s.Settle(10 * time.Minute)
			clean(t, s)
			if len(live(t, a).Children) != 2 {
				t.Errorf("%d child SAs", len(live(t, a).Children))
			}
			live(t, a).Do(func(m *ike.Machine) { m.Delete(s.Now) })
			s.Settle(time.Minute)
			clean(t, s)
		})
	}
}

// A peer that rekeys its IKE SA again and again and never deletes the old ones makes us keep
// one of them, and has no more of our time than one that asks for child SAs (I8; RFC 8019,
// Section 5).
func TestRekeyIKEWithoutDelete(t *testing.T) {
	s, a, b := hosts(t, 231)
	s.Faults.Delay = 0
	up(t, s, a, b)
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if h, err := wire.ParseHeader(d.Data); err == nil && d.From == a.Addr && h.Exchange == wire.ExchangeInformational {
			return nil
		}
		return []iketest.Datagram{d}
	}
	const n = 900
	begun := s.Elapsed()
	for range n {
		if es := a.Established(); len(es) == 1 {
			rekeyIKE(s, es[0])
		}
		s.Run(time.Millisecond, nil)
	}
	kept := 0
	for _, e := range b.Ends {
		if e.M.State() == ike.StateReplaced {
			kept++
		}
	}
	if kept > 1 {
		t.Errorf("%d IKE SAs wait for the Delete of one peer", kept)
	}
	if most := ike.CreateBurst + int((s.Elapsed()-begun)/(10*time.Millisecond)) + 2; len(b.Ends) > most || len(b.Ends) < ike.CreateBurst {
		t.Errorf("%d IKE SAs made in %v; want at most %d", len(b.Ends), s.Elapsed()-begun, most)
	}
	live(t, b)
	only(t, live(t, b))
}

// Another suite and another group, by way of INVALID_KE_PAYLOAD; the old PRF makes the
// new keys (RFC 7296, Section 2.18).
func TestRekeyIKESuites(t *testing.T) {
	s, a, b := hosts(t, 201)
	e, _ := up(t, s, a, b)
	a.Ends[0].Host.Config.Proposals = nil // has no effect: machines have their own copy
	before := e.Established.Suite
	*configOf(e) = withProposals(*configOf(e), "aes128-sha512-x25519-ecp256")
	*configOf(b.Ends[0]) = withProposals(*configOf(b.Ends[0]), "aes128-sha512-ecp256")
	rekeyIKE(s, e)
	s.Settle(time.Minute)
	clean(t, s)
	if got := live(t, a).Established.Suite; got == before || got.Group != wire.GroupECP256 {
		t.Errorf("%v", got)
	}
}

// Lifetimes of the IKE SA: rekeyed with jitter, for days.
func TestIKELifetime(t *testing.T) {
	s, a, b := hosts(t, 202)
	a.Config.Life = ike.IKELife{Rekey: 4 * time.Hour}
	b.Config.Life = ike.IKELife{Rekey: 4 * time.Hour}
	a.Terms.Rekey, b.Terms.Rekey = time.Hour, time.Hour
	a.Config.DPDDelay, b.Config.DPDDelay = 10*time.Minute, 10*time.Minute
	up(t, s, a, b)
	s.Run(72*time.Hour, nil)
	s.Faults.Loss = 0
	s.Run(time.Minute, nil)
	s.CheckQuiet()
	clean(t, s)
	n := len(a.Ends)
	if n < 18 || n > 40 {
		t.Errorf("%d IKE SAs in three days", n)
	}
	live(t, a)
	only(t, live(t, b))
}

// The peer will not: the engine is asked to authenticate anew (ADV-F13), and the SA ends
// at its hard limit.
func TestADV_F13_NoAdditionalSAs(t *testing.T) {
	s, a, b := hosts(t, 203)
	a.Config.Life = ike.IKELife{Rekey: time.Hour}
	a.Terms.CloseAction = ike.ActionStart
	e, _ := up(t, s, a, b)
	c := only(t, e)
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() != "CREATE_CHILD_SA response" {
			return false
		}
		o.Payloads = []wire.Payload{&wire.Notify{NType: wire.NotifyNoAdditionalSAs}}
		return true
	})
	s.Run(61*time.Minute, nil)
	if asked(e) != 1 || !e.Up() || only(t, e) != c || e.Reauth[0].Deadline.IsZero() {
		t.Fatalf("%v", e.Reauth)
	}
	wantNotify(t, e.Reauth[0].Err, wire.NotifyNoAdditionalSAs, true)
	s.Run(time.Hour, nil)
	if e.Closed == nil || e.Closed.Reason != ike.ReasonExpired || c.Removed.Action != ike.ActionStart {
		t.Errorf("%+v %+v", e.Closed, c.Removed)
	}
	clean(t, s)
}

// What a request to rekey the IKE SA may not be.
func TestRekeyIKERefused(t *testing.T) {
	tests := map[string]struct {
		change func(o *iketest.Opened)
		want   wire.NotifyType
		dies   bool
	}{
		"ADV-E12 without KE":     {func(o *iketest.Opened) { o.Drop(wire.PayloadKE) }, wire.NotifyInvalidKEPayload, false},
		"ADV-E12 KE NONE":        {func(o *iketest.Opened) { ke(o).Group = 0 }, wire.NotifyInvalidKEPayload, false},
		"other group":            {func(o *iketest.Opened) { ke(o).Group = wire.GroupECP256 }, wire.NotifyInvalidKEPayload, false},
		"SPI zero":               {func(o *iketest.Opened) { sa(o).Proposals[0].SPI = make([]byte, 8) }, wire.NotifyNoProposalChosen, false},
		"SPI of four octets":     {func(o *iketest.Opened) { sa(o).Proposals[0].SPI = make([]byte, 4) }, wire.NotifyNoProposalChosen, false},
		"no SPI":                 {func(o *iketest.Opened) { sa(o).Proposals[0].SPI = nil }, wire.NotifyNoProposalChosen, false},
		"unknown cipher":         {func(o *iketest.Opened) { sa(o).Proposals[0].Transforms[0].ID = 999 }, wire.NotifyNoProposalChosen, false},
		"short nonce":            {func(o *iketest.Opened) { nonce(o).Data = nonce(o).Data[:15] }, wire.NotifyInvalidSyntax, true},
		"zero public value":      {func(o *iketest.Opened) { clear(ke(o).Data) }, wire.NotifyInvalidSyntax, true},
		"ADV-B7 proposal number": {func(o *iketest.Opened) { sa(o).Proposals[0].Num = 2 }, wire.NotifyInvalidSyntax, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, a, b := hosts(t, 204)
			e, o := up(t, s, a, b)
			var got []wire.NotifyType
			s.Rewrite(func(o *iketest.Opened) bool {
				switch o.Kind() {
				case "CREATE_CHILD_SA request":
					tt.change(o)
					return true
				case "CREATE_CHILD_SA response":
					if n, ok := wire.Get[*wire.Notify](o.Payloads); ok {
						got = append(got, n.NType)
					}
				}
				return false
			})
			rekeyIKE(s, e)
			s.Run(2*time.Second, nil)
			if len(got) == 0 || got[0] != tt.want {
				t.Errorf("%v", got)
			}
			if o.Up() == tt.dies {
				t.Errorf("responder: %v", o.M.State())
			}
			if len(b.Ends) != 1 {
				t.Error("a machine was made")
			}
			s.Settle(10 * time.Minute)
			clean(t, s)
		})
	}
}

// A response to the rekeying of the IKE SA that does not fit ends the SA: the peer has
// one that we can't have.
func TestRekeyIKEBadResponse(t *testing.T) {
	tests := map[string]func(o, req *iketest.Opened){
		"without KE":    func(o, _ *iketest.Opened) { o.Drop(wire.PayloadKE) },
		"SPI zero":      func(o, _ *iketest.Opened) { sa(o).Proposals[0].SPI = make([]byte, 8) },
		"our own SPI":   func(o, req *iketest.Opened) { sa(o).Proposals[0].SPI = sa(req).Proposals[0].SPI },
		"our own value": func(o, req *iketest.Opened) { ke(o).Data = ke(req).Data },
		"our own nonce": func(o, req *iketest.Opened) { nonce(o).Data = nonce(req).Data },
		"other group":   func(o, _ *iketest.Opened) { ke(o).Group = wire.GroupECP256 },
		"short nonce":   func(o, _ *iketest.Opened) { nonce(o).Data = nonce(o).Data[:15] },
		"two proposals": func(o, _ *iketest.Opened) { sa(o).Proposals = append(sa(o).Proposals, sa(o).Proposals[0]) },
		"bad value":     func(o, _ *iketest.Opened) { clear(ke(o).Data) },
	}
	for name, change := range tests {
		s, a, b := hosts(t, 205)
		e, _ := up(t, s, a, b)
		var req *iketest.Opened
		s.Rewrite(func(o *iketest.Opened) bool {
			switch o.Kind() {
			case "CREATE_CHILD_SA request":
				req = o
			case "CREATE_CHILD_SA response":
				change(o, req)
				return true
			}
			return false
		})
		rekeyIKE(s, e)
		s.Run(5*time.Second, nil)
		if e.Failed == nil || e.Next != nil {
			t.Errorf("%s: %v", name, e.M.State())
		}
		if s.Panics() != 0 {
			t.Errorf("%s: panic", name)
		}
	}
}

func ke(o *iketest.Opened) *wire.KE       { x, _ := wire.Get[*wire.KE](o.Payloads); return x }
func sa(o *iketest.Opened) *wire.SA       { x, _ := wire.Get[*wire.SA](o.Payloads); return x }
func nonce(o *iketest.Opened) *wire.Nonce { x, _ := wire.Get[*wire.Nonce](o.Payloads); return x }

func configOf(e *iketest.End) *ike.Config { return e.M.ConfigForTest() }

func withProposals(c ike.Config, p ...string) ike.Config {
	c.Proposals = iketest.MustIKE(p...)
	return c
}

// A Delete at every moment of rekeying the IKE SA, by either end, with and without slow
// work: nothing is left.
func TestDeleteDuringIKERekey(t *testing.T) {
	for _, byA := range []bool{true, false} {
		for _, work := range []time.Duration{0, 30 * time.Millisecond} {
			for ms := 0; ms < 120; ms += 3 {
				t.Run(fmt.Sprint(byA, work, ms), func(t *testing.T) {
					s, a, b := hosts(t, uint64(ms))
					a.Config.DPDDelay, b.Config.DPDDelay = time.Minute, time.Minute
					e, o := up(t, s, a, b)
					s.Faults.Work = work
					rekeyIKE(s, e)
					x := e
					if !byA {
						x = o
					}
					s.After(time.Duration(ms)*time.Millisecond, func() {
						last := x.Last()
						last.Do(func(m *ike.Machine) { m.Delete(s.Now) })
					})
					s.Run(time.Second, nil)
					s.Settle(15 * time.Minute)
					clean(t, s)
					if len(a.Established())+len(b.Established()) != 0 {
						t.Errorf("left: %s", s.Summary())
					}
				})
			}
		}
	}
}

// Where nobody can take a new machine over, nobody rekeys: peers are told, and our own
// limit asks for reauthentication.
func TestRekeyIKENotEnabled(t *testing.T) {
	s, a, b := hosts(t, 206)
	b.Config.Heirs = false
	b.Config.Life.Rekey = time.Hour
	e, o := up(t, s, a, b)
	answers := watch(s, "CREATE_CHILD_SA response")
	rekeyIKE(s, e)
	s.Run(time.Second, nil)
	if len(*answers) != 1 || (*answers)[0] != wire.NotifyNoAdditionalSAs || asked(e) != 1 || len(b.Ends) != 1 {
		t.Errorf("%v, %v", *answers, e.Reauth)
	}
	s.Run(time.Hour, nil)
	if asked(o) != 1 || o.Reauth[0].Err == nil || !o.Up() {
		t.Errorf("%v", o.Reauth)
	}
	clean(t, s)
}

// The same for a child SA: the peer takes no others on this IKE SA. The old one goes on,
// and the engine is asked for a new IKE SA.
func TestADV_F13_NoAdditionalSAsForChild(t *testing.T) {
	s, a, b := hosts(t, 207)
	e, _ := up(t, s, a, b)
	b.Refuse = wire.NotifyNoAdditionalSAs
	c := only(t, e)
	rekeyChild(s, e, c.InSPI)
	s.Run(5*time.Minute, nil)
	if only(t, e) != c || asked(e) != 1 || len(e.RekeyErrors) < 2 {
		t.Errorf("%v, %v", e.Reauth, e.RekeyErrors)
	}
	fresh := a.Connect(b, nil)
	b.Refuse = 0
	both(t, s, fresh)
	e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Settle(time.Minute)
	clean(t, s)
	if len(only(t, fresh).Name) == 0 {
		t.Error("no new child SA")
	}
}

// Message IDs that come near their end make the SA be rekeyed: they start at 0 again.
func TestADV_F4_MessageIDsStartAgain(t *testing.T) {
	for _, mine := range []bool{true, false} {
		s, a, b := hosts(t, 208)
		e, o := up(t, s, a, b)
		const id = 1<<32 - 1<<20
		e.Do(func(m *ike.Machine) { m.SetMessageIDs(id-1, 0) })
		o.Do(func(m *ike.Machine) { m.SetMessageIDs(0, id-1) })
		configOf(o).Heirs = true
		configOf(e).Heirs = mine // the other end's
		for range 4 {
			e.Last().Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
			s.Run(time.Second, nil)
		}
		s.Settle(time.Minute)
		clean(t, s)
		if mine && (e.Next == nil || len(a.Ends) > 3) {
			t.Errorf("not rekeyed, or too often: %d", len(a.Ends))
		}
		if !e.Last().Up() {
			t.Error("gone")
		}
	}
}
