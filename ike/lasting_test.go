package ike_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// Authentic but malformed after establishment: INVALID_SYNTAX, and both ends close the SA with
// all that hangs on it (RFC 7296, Section 2.21.3).
func TestADV_F15_MalformedClosesBothEnds(t *testing.T) {
	for _, kind := range []string{"INFORMATIONAL request", "CREATE_CHILD_SA request"} {
		for name, raw := range map[string][]byte{
			"length 0":     {0, 0, 0, 0},
			"past the end": {0, 0, 1, 0, 1, 2},
			"cut":          {41, 0, 0},
		} {
			s, a, b := hosts(t, 840)
			e, o := up(t, s, a, b)
			answers := watchInto(s, kind, func(m *iketest.Opened) { m.First, m.Raw = wire.PayloadNotify, raw })
			if strings.HasPrefix(kind, "INFORMATIONAL") {
				e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
			} else {
				e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			}
			s.Run(time.Second, nil)
			if len(*answers) != 1 || (*answers)[0] != wire.NotifyInvalidSyntax {
				t.Errorf("%s, %s: answers %v", kind, name, *answers)
			}
			for _, x := range []*iketest.End{e, o} {
				if x.Failed == nil || x.Closed == nil || len(x.Children) != 0 {
					t.Errorf("%s, %s: %v is %v: %v", kind, name, x, x.M.State(), x.Failed)
				}
			}
			wantNotify(t, e.Failed, wire.NotifyInvalidSyntax, true)
			wantNotify(t, o.Failed, wire.NotifyInvalidSyntax, false)
			s.Settle(time.Minute)
			clean(t, s)
		}
	}
}

// watchInto changes messages of a kind and collects the error notifies of their answers.
func watchInto(s *iketest.Sim, kind string, change func(o *iketest.Opened)) *[]wire.NotifyType {
	got := watch(s, strings.Replace(kind, "request", "response", 1))
	collect := s.Tap
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() != kind {
			return false
		}
		change(o)
		return true
	})
	rewrite := s.Tap
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.Data[19]&byte(wire.FlagResponse) != 0 {
			return collect(d)
		}
		return rewrite(d)
	}
	return got
}

// All deadlines go by the monotonic clock: they keep its reading, so that no jump of the wall
// clock ends an SA, forgets a half-open one or keeps it for ever.
func TestADV_F20_DeadlinesAreMonotonic(t *testing.T) {
	monotonic := func(at time.Time) bool { return strings.Contains(at.String(), " m=") }
	s, a, b := hosts(t, 841)
	s.Now = time.Now() // with its monotonic reading; Add keeps it
	b.Gate = newGate(t, s, gate.Config{})
	a.Config.DPDDelay, b.Config.DPDDelay = time.Minute, time.Minute
	a.Config.Life = ike.IKELife{Rekey: time.Hour, Reauth: 5 * time.Hour}
	b.Config.Life = ike.IKELife{Rekey: 2 * time.Hour, Reauth: 3 * time.Hour}
	a.Terms = ike.Terms{Lifetime: ike.Lifetime{Rekey: 20 * time.Minute, Life: time.Hour}, Inactivity: 40 * time.Minute}
	seen := map[string]bool{}
	look := func() bool {
		for _, h := range []*iketest.Host{a, b} {
			for _, e := range h.Ends {
				at := e.M.Deadline()
				if at.IsZero() {
					continue
				}
				seen[fmt.Sprint(e.M.State())] = true
				if !monotonic(at) {
					t.Fatalf("%v in %v: deadline %v", e, e.M.State(), at)
				}
			}
			if at := h.Gate.Deadline(); h == b && !at.IsZero() {
				seen["gate"] = true
				if !monotonic(at) {
					t.Fatalf("gate: %v", at)
				}
			}
		}
		return false
	}
	s.Faults.Loss = 0.3
	e := a.Connect(b, nil)
	s.Run(time.Minute, look)
	s.Faults.Loss = 0
	s.Run(5*time.Hour, look)
	s.Faults.Loss = 1
	e.Last().Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Run(time.Minute, look)
	for _, state := range []string{"gate", ike.StateInitSent.String(), ike.StateHalfOpen.String(), ike.StateAuthSent.String(), ike.StateEstablished.String(), ike.StateDeleting.String()} {
		if !seen[state] {
			t.Errorf("no deadline in %s: %v", state, seen)
		}
	}
}

// Every SA has keys of its own in each direction, whichever end made it, however often it was
// rekeyed, and after either end has forgotten all and begun again.
func TestCVE_2024_28860_EverySAHasItsOwnKeys(t *testing.T) {
	s, a, b := hosts(t, 842)
	a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519", "aes256gcm16"), iketest.MustESP("aes256gcm16-x25519", "aes256gcm16")
	c := s.AddHost("venus", "192.0.2.3:500")
	users := map[string]string{} // key to who seals with it
	count := 0
	take := func() {
		for _, h := range []*iketest.Host{a, b, c} {
			for _, e := range h.Ends {
				for _, x := range e.Made {
					if !x.Outbound {
						continue
					}
					who := fmt.Sprintf("%s %08x", h.Name, x.OutSPI)
					if old, ok := users[string(x.OutKey)]; ok && old != who {
						t.Errorf("%s and %s seal with one key", old, who)
					}
					if bytes.Equal(x.OutKey, x.InKey) {
						t.Errorf("%s: one key for both directions", who)
					}
					if _, ok := users[string(x.OutKey)]; !ok {
						users[string(x.OutKey)] = who
						count++
					}
				}
				if k := e.Keys; k != nil {
					for _, sk := range [][]byte{k.SKei, k.SKer} {
						who := fmt.Sprintf("IKE %x %x", k.SPIi, k.SPIr)
						if old, ok := users[string(sk)]; ok && old != who {
							t.Errorf("%s and %s have one key", old, who)
						}
						users[string(sk)] = who
					}
					if bytes.Equal(k.SKei, k.SKer) {
						t.Error("one IKE key for both directions")
					}
				}
			}
		}
	}
	for round := range 4 {
		for _, h := range []*iketest.Host{a, c} {
			e := h.Connect(b, nil)
			both(t, s, e)
			for range 3 {
				rekeyChild(s, e.Last(), first(e.Last()))
				s.Run(time.Second, nil)
				rekeyIKE(s, e.Last())
				s.Run(time.Second, nil)
			}
			take()
		}
		for i, h := range []*iketest.Host{a, b, c} {
			if i <= round {
				h.Crash()
			}
		}
	}
	if count < 4*2*2*3 {
		t.Errorf("only %d keys", count)
	}
}
