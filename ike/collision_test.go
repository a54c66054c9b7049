package ike_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// An operation that may collide with another.
type operation struct {
	name string
	do   func(s *iketest.Sim, e *iketest.End)
	ends bool // takes the child SA away
	adds bool // makes another

	nonces bool // by an exchange that has them
}

var operations = []operation{
	{"rekey child", func(s *iketest.Sim, e *iketest.End) { rekeyChild(s, e, first(e)) }, false, false, true},
	{"rekey IKE", rekeyIKE, false, false, true},
	{"delete child", func(s *iketest.Sim, e *iketest.End) {
		e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, first(e)) })
	}, true, false, false},
	{"delete IKE", func(s *iketest.Sim, e *iketest.End) { e.Do(func(m *ike.Machine) { m.Delete(s.Now) }) }, true, false, false},
	{"create child", func(s *iketest.Sim, e *iketest.End) {
		e.CreateChild(e.Host.Request("more", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	}, false, true, true},
}

func first(e *iketest.End) (any uint32) {
	for spi := range e.Children {
		if any == 0 || spi < any {
			any = spi
		}
	}
	return any
}

// Both ends do something at the same time, with each message lost or delayed (RFC 7296,
// Sections 2.8.1, 2.8.2 and 2.25), and where both make an exchange with nonces, with the
// lowest of them on either side: in the end there is one IKE SA and one child SA, the same at
// both ends, or none where it was deleted.
func TestADV_F11_Collisions(t *testing.T) {
	const seeds = 24 // of which one in two has the other order
	runs, orders := 0, map[order]int{}
	for _, x := range operations {
		for _, y := range operations {
			t.Run(x.name+" and "+y.name, func(t *testing.T) {
				for hit := -1; hit < 8; hit++ {
					for _, delay := range []time.Duration{0, 35 * time.Millisecond, 300 * time.Millisecond} {
						for _, work := range []time.Duration{0, 25 * time.Millisecond} {
							seen := map[order]bool{}
							for seed := range uint64(seeds) {
								o := collide(t, x, y, seed, hit, delay, work)
								runs++
								orders[o]++
								seen[o] = true
								if !x.nonces || !y.nonces || seen[oursLower] && seen[theirsLower] {
									break
								}
							}
							if x.nonces && y.nonces && !(seen[oursLower] && seen[theirsLower]) {
								t.Errorf("datagram %d, delay %v, work %v: nonces in one order only: %v", hit, delay, work, seen)
							}
						}
					}
				}
			})
		}
	}
	t.Logf("%d collisions; the lowest nonce was ours in %d, the peer's in %d", runs, orders[oursLower], orders[theirsLower])
}

// order says in whose first exchange the lowest nonce was.
type order int

const (
	noOrder order = iota // there were not two exchanges with nonces
	oursLower
	theirsLower
)

// collide makes one collision. Datagram hit is lost, or late by delay.
func collide(t *testing.T, x, y operation, seed uint64, hit int, delay, work time.Duration) order {
	t.Helper()
	s, a, b := hosts(t, seed<<8+7)
	a.Config.Log, b.Config.Log = nil, nil // there are thousands
	e, o := up(t, s, a, b)
	start := s.Datagrams
	s.Faults.Work = work
	lowest := map[*iketest.End]string{} // by who made the exchange
	id := map[*iketest.End]uint32{}     // the first one's
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if m := s.Open(d.Data); m != nil && nonce(m) != nil && (m.From == e || m.From == o) {
			by := m.From
			if m.Header.Flags.Response() {
				by = by.Peer()
			}
			n := string(nonce(m).Data)
			if low, ok := lowest[by]; !ok || id[by] == m.Header.MessageID && n < low {
				lowest[by], id[by] = n, m.Header.MessageID
			}
		}
		if d.N != start+hit {
			return []iketest.Datagram{d}
		}
		if delay != 0 {
			s.After(delay, func() { s.Inject(d) })
		}
		return nil
	}
	x.do(s, e)
	y.do(s, o)
	s.Run(90*time.Second, nil)
	s.Settle(10 * time.Minute)
	at := fmt.Sprintf("seed %d, datagram %d, delay %v, work %v", seed, hit, delay, work)
	if len(s.Errors) > 0 {
		t.Fatalf("%s: %v\n%s", at, s.Errors, s.Summary())
	}
	ikes, children := len(a.Established()), 0
	for _, e := range a.Established() {
		children += len(e.Children)
	}
	gone := x.name == "delete IKE" || y.name == "delete IKE"
	switch {
	case gone && ikes != 0:
		t.Fatalf("%s: %d IKE SAs after its deletion\n%s", at, ikes, s.Summary())
	case !gone && ikes != 1:
		t.Fatalf("%s: %d IKE SAs\n%s", at, ikes, s.Summary())
	}
	want := 1
	if x.ends || y.ends {
		want = 0
	}
	for _, z := range []operation{x, y} {
		if z.adds {
			want++
		}
	}
	if !gone && children != want {
		t.Fatalf("%s: %d child SAs, want %d\n%s", at, children, want, s.Summary())
	}
	switch ours, theirs := lowest[e], lowest[o]; {
	case ours == "" || theirs == "":
		return noOrder
	case ours < theirs:
		return oursLower
	}
	return theirsLower
}

// Of two exchanges that replace the same SA the one with the lowest of the four nonces
// loses, at both ends (RFC 7296, Sections 2.8.1 and 2.8.2).
func TestADV_F11_ROW_54_RightLoser(t *testing.T) {
	for _, what := range []string{"child", "IKE"} {
		wins := map[string]int{}
		for seed := range uint64(20) {
			s, a, b := hosts(t, 500+seed)
			e, o := up(t, s, a, b)
			lowest := map[uint32]string{} // by message ID and role of the request
			key := func(m *iketest.Opened) uint32 {
				k := m.Header.MessageID << 1
				if (m.From == e) != m.Header.Flags.Response() {
					k++
				}
				return k
			}
			s.Rewrite(func(m *iketest.Opened) bool {
				if n := nonce(m); n != nil {
					if k := key(m); lowest[k] == "" || string(n.Data) < lowest[k] {
						lowest[k] = string(n.Data)
					}
				}
				return false
			})
			if what == "child" {
				rekeyChild(s, e, first(e))
				rekeyChild(s, o, first(o))
			} else {
				rekeyIKE(s, e)
				rekeyIKE(s, o)
			}
			s.Run(5*time.Second, nil)
			if len(lowest) != 2 {
				t.Fatalf("%s: %d exchanges", what, len(lowest))
			}
			s.Settle(5 * time.Minute)
			clean(t, s)
			var ours, theirs string
			for k, n := range lowest {
				if k&1 == 1 {
					ours = n
				} else {
					theirs = n
				}
			}
			byUs := live(t, a).M.Role() == ike.Initiator
			if what == "child" {
				byUs = only(t, e).Initiator
			}
			if byUs != (ours > theirs) {
				t.Errorf("%s, seed %d: ours survives %v, ours is lower %v", what, seed, byUs, ours < theirs)
			}
			wins[fmt.Sprint(byUs)]++
		}
		if len(wins) != 2 {
			t.Errorf("%s: only one order of the nonces: %v", what, wins)
		}
	}
}

// Our end, or its peer, goes away while two new IKE SAs stand and it is not decided
// which is the one: nothing is left at either end.
func TestEndsWhileUndecided(t *testing.T) {
	undecided := 0
	for _, how := range []string{"delete", "dead", "replaced"} {
		for seed := range uint64(8) {
			for ms := 10; ms < 200; ms += 15 {
				s, a, b := hosts(t, 900+seed)
				a.Config.Log, b.Config.Log = nil, nil
				a.Config.DPDDelay, b.Config.DPDDelay = time.Minute, time.Minute
				e, o := up(t, s, a, b)
				s.Faults.Work = 20 * time.Millisecond
				s.Tap = func(d iketest.Datagram) []iketest.Datagram {
					if d.From.Addr() == b.Addr.Addr() && !isRequest(d) && s.Elapsed() < 2*time.Second {
						return nil // no answer for our end: it can't decide
					}
					return []iketest.Datagram{d}
				}
				rekeyIKE(s, e)
				rekeyIKE(s, o)
				s.After(time.Duration(ms)*time.Millisecond, func() {
					if len(a.Ends) > len(a.Established()) && e.Up() {
						undecided++
					}
					switch how {
					case "delete":
						e.Last().Do(func(m *ike.Machine) { m.Delete(s.Now) })
					case "replaced":
						e.Last().Do(func(m *ike.Machine) { m.Replaced(s.Now) })
					case "dead":
						s.Faults.Loss = 1
						s.After(20*time.Minute, func() { s.Faults.Loss = 0 })
					}
				})
				s.Run(21*time.Minute, nil)
				s.Settle(20 * time.Minute)
				if len(s.Errors) > 0 || len(a.Established())+len(b.Established()) != 0 {
					t.Fatalf("%s, seed %d, after %d ms: %v\n%s", how, seed, ms, s.Errors, s.Summary())
				}
			}
		}
	}
	if undecided == 0 {
		t.Error("never undecided")
	}
	t.Logf("%d undecided", undecided)
}

// A Delete has no place in CREATE_CHILD_SA: who makes a child SA on an IKE SA that is not
// decided on has decided for it, whatever else is in the message.
func TestUnnamedPayloadDecidesNothing(t *testing.T) {
	s, a, b := hosts(t, 950)
	e, o := up(t, s, a, b)
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if h, err := wire.ParseHeader(d.Data); err == nil && d.From.Addr() == b.Addr.Addr() &&
			(!isRequest(d) || h.Exchange == wire.ExchangeInformational) {
			return nil // our end can't decide, and the peer's Delete does not decide for it
		}
		return []iketest.Datagram{d}
	}
	rekeyIKE(s, e)
	rekeyIKE(s, o)
	var heir *iketest.End // that the peer's exchange made
	if !s.Run(time.Second, func() bool {
		for _, x := range a.Ends {
			if x != e && x.M.Role() == ike.Responder && x.Peer() != nil && x.Peer().Keys != nil {
				heir = x
			}
		}
		return heir != nil
	}) || e.Next != nil {
		t.Fatalf("decided: %s", s.Summary())
	}
	p := iketest.MustESP("aes256gcm16")[0]
	p.Num, p.SPI = 1, spi32(0x5000)
	sel := wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.3.0.0"), End: mustAddr("10.3.255.255")}
	s.Forge(heir.Peer(), wire.Header{Exchange: wire.ExchangeCreateChildSA}, &wire.SA{Proposals: []wire.Proposal{p}},
		&wire.Nonce{Data: make([]byte, 32)}, &wire.TS{Initiator: true, Selectors: []wire.TrafficSelector{sel}},
		&wire.TS{Selectors: []wire.TrafficSelector{sel}}, &wire.Delete{Protocol: wire.ProtocolIKE})
	s.Run(15*time.Millisecond, nil)
	if e.Next != heir || len(heir.Children) != 2 {
		t.Errorf("e.Next %v, %d child SAs", e.Next, len(heir.Children))
	}
	clean(t, s)
}
