package gate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the obvious gate: one list of half-open SAs, walked for everything.
type model struct {
	cfg  Config
	half []modelSA
	sas  map[Key]bool
}

type modelSA struct {
	key    Key
	remote netip.AddrPort
	req    string
	at     time.Time
}

func (m *model) count(keep func(modelSA) bool) int {
	n := 0
	for _, s := range m.half {
		if keep(s) {
			n++
		}
	}
	return n
}

func (m *model) mayOpen(remote netip.AddrPort) bool {
	addr, prefix := source(remote)
	return len(m.half) < m.cfg.MaxHalfOpen &&
		m.count(func(s modelSA) bool { a, _ := source(s.remote); return a == addr }) < m.cfg.MaxPerAddr &&
		m.count(func(s modelSA) bool { return prefix.Contains(s.remote.Addr().Unmap()) }) < m.cfg.MaxPerPrefix
}

func (m *model) remove(k Key) {
	delete(m.sas, k)
	for i, s := range m.half {
		if s.key == k {
			m.half = append(m.half[:i:i], m.half[i+1:]...)
			return
		}
	}
}

// TestGateAgainstModel does random things with few names, so that they meet.
func TestGateAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{MaxHalfOpen: 8, MaxPerAddr: 3, MaxPerPrefix: 5, CookieThreshold: 1 << 20, HalfOpenLife: 20 * time.Second, InitRate: 1 << 30}
		g, err := New(cfg, seeded(1), epoch())
		if err != nil {
			t.Fatal(err)
		}
		m := &model{cfg: cfg, sas: map[Key]bool{}}
		now := epoch()
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			k := Key{uint64(rapid.IntRange(0, 12).Draw(t, "spi")), rapid.Bool().Draw(t, "initiator")}
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1, 2:
				remote := netip.MustParseAddrPort(fmt.Sprintf("198.51.%d.%d:%d", rapid.IntRange(0, 1).Draw(t, "net"), rapid.IntRange(1, 3).Draw(t, "host"), rapid.IntRange(500, 501).Draw(t, "port")))
				req := initReq(uint64(rapid.IntRange(100, 101).Draw(t, "spii")), nonce(byte(rapid.IntRange(0, 1).Draw(t, "nonce"))))
				v := g.Classify(now, Path{local(), remote}, req)
				var known *modelSA
				for i, s := range m.half {
					if s.remote == remote && s.req == string(req) {
						known = &m.half[i]
					}
				}
				if known != nil {
					if v.Kind != Existing || v.Key != known.key || !v.Retransmit {
						t.Fatalf("a copy: %v %v (%v), want %v", v.Kind, v.Key, v.Reason, known.key)
					}
					continue
				}
				if v.Kind == Drop && v.Reason == ReasonLate {
					continue // the model forgets established requests
				}
				// Half of a share is free of cookies; have one at hand.
				if v.Kind == Reply {
					cookie := v.Reply[36:]
					req = withCookie(uint64(req[7]), req[len(req)-32:], cookie)
					v = g.Classify(now, Path{local(), remote}, req)
					if v.Kind == Existing || v.Reason == ReasonLate {
						continue // the model knows it under the request without the cookie
					}
				}
				if (v.Kind == NewResponder) != m.mayOpen(remote) {
					t.Fatalf("%v: %v (%v), the model says %v", remote, v.Kind, v.Reason, m.mayOpen(remote))
				}
				if v.Kind != NewResponder {
					continue
				}
				k.Initiator = false
				want := k.SPI != 0 && !m.sas[k]
				if g.Open(now, v, k.SPI) != want {
					t.Fatalf("Open(%v) is not %v", k, want)
				}
				if want {
					m.sas[k] = true
					m.half = append(m.half, modelSA{k, remote, string(req), now})
				}
			case 3:
				if want := k.SPI != 0 && !m.sas[k]; g.Add(k) != want {
					t.Fatalf("Add(%v) is not %v", k, want)
				} else if want {
					m.sas[k] = true
				}
			case 4:
				g.Establish(now, k)
				if had := m.sas[k]; had {
					m.remove(k)
					m.sas[k] = true
				}
			case 5:
				g.Remove(k)
				m.remove(k)
			}
			var expired []Key
			for len(m.half) > 0 && !now.Before(m.half[0].at.Add(cfg.HalfOpenLife)) {
				expired = append(expired, m.half[0].key)
				m.remove(m.half[0].key)
			}
			if len(expired) > 0 != (!g.Deadline().IsZero() && !now.Before(g.Deadline())) {
				t.Fatalf("deadline %v at %v, the model expires %v", g.Deadline(), now, expired)
			}
			if got := g.Expire(now, nil); fmt.Sprint(got) != fmt.Sprint(expired) {
				t.Fatalf("expired %v, want %v", got, expired)
			}
			if g.HalfOpen() != len(m.half) || g.Len() != len(m.sas) {
				t.Fatalf("%d half-open of %d, want %d of %d", g.HalfOpen(), g.Len(), len(m.half), len(m.sas))
			}
		}
	})
}
