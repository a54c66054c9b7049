package ike_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// forge makes another response of an IKE_SA_INIT response, with a key that nobody has.
func forge(t testing.TB, b []byte, n int) []byte {
	t.Helper()
	m, err := wire.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	m.SPIr += uint64(n)
	for i, p := range m.Payloads {
		if _, ok := p.(*wire.KE); ok {
			k, _ := suite.GenerateKE(wire.GroupX25519, bytes.NewReader(bytes.Repeat([]byte{byte(n)}, 64)))
			m.Payloads[i] = &wire.KE{Group: wire.GroupX25519, Data: k.Public()}
		}
	}
	return iketest.Encode(m)
}

// Forged IKE_SA_INIT responses that look good come before the true one: each is followed,
// and the one whose peer authenticates wins (RFC 7296, Section 2.4). With more of them than
// are followed nothing is established, and the handshake fails like with a silent peer.
func TestADV_C8_ForgedResponseFirst(t *testing.T) {
	for _, work := range []time.Duration{0, 30 * time.Millisecond} {
		for forged := range 6 {
			s, a, b := hosts(t, uint64(600+forged))
			s.Faults.Work = work
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				out := []iketest.Datagram{}
				if h, err := wire.ParseHeader(d.Data); err == nil && d.From == b.Addr && h.Exchange == wire.ExchangeIKESAInit {
					for n := range forged {
						out = append(out, iketest.Datagram{From: d.From, To: d.To, Data: forge(t, d.Data, n+1)})
					}
				}
				return append(out, d, d)
			}
			e := a.Connect(b, nil)
			s.Run(6*time.Minute, nil)
			if forged < 4 {
				if !e.Up() || len(e.Children) != 1 || len(b.Established()) != 1 {
					t.Errorf("%d forged: %s", forged, s.Summary())
				}
			} else if e.Established != nil || e.Failed == nil || len(b.Established()) != 0 {
				t.Errorf("%d forged: %s", forged, s.Summary())
			}
			s.Tap = nil
			if forged >= 4 {
				up(t, s, a, b)
			}
			s.Settle(6 * time.Minute)
			clean(t, s)
		}
	}
}

// The forger has keys and goes on: it refuses our IKE_AUTH, or claims to be the peer, or
// says nothing. Under loss, and whatever comes first, the true peer wins.
func TestADV_C8_ForgerAnswers(t *testing.T) {
	done, all := 0, 0
	for _, how := range []string{"refuses", "lies", "is silent"} {
		for seed := range uint64(60) {
			s, a, b := hosts(t, 6000+seed)
			mallory := s.AddHost("mallory", "192.0.2.66:500")
			mallory.Secret = auth.NewPSK([]byte("not what both ends know"))
			if how == "lies" {
				mallory.Answer = func(_ ike.Work, r ike.WorkResult) ike.WorkResult {
					if v, ok := r.(*ike.VerifyResult); ok {
						v.OK, v.Peer = true, "whoever it is"
					}
					return r
				}
			}
			if seed%2 == 1 {
				s.Faults.Work = 20 * time.Millisecond
			}
			if seed%3 == 0 {
				s.Faults.Loss = 0.2
			}
			forgers := map[uint64]bool{} // their SPIs
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				h, err := wire.ParseHeader(d.Data)
				if err != nil {
					return []iketest.Datagram{d}
				}
				there := d
				switch d.From.Addr() {
				case mallory.Addr.Addr():
					forgers[h.SPIr] = true
					there.From = b.Addr
					if d.From.Port() == 4500 {
						there.From = mustAddrPort("192.0.2.2:4500")
					}
					if h.Exchange == wire.ExchangeIKESAInit {
						return []iketest.Datagram{there}
					}
					if how == "is silent" {
						return nil
					}
					s.After(300*time.Millisecond, func() { s.Inject(there) })
					return nil
				case a.Addr.Addr():
					there.To = mallory.Addr
					if d.To.Port() == 4500 {
						there.To = mustAddrPort("192.0.2.66:4500")
					}
					switch {
					case forgers[h.SPIr]:
						return []iketest.Datagram{there}
					case h.Exchange == wire.ExchangeIKESAInit:
						s.After(50*time.Millisecond, func() { s.Inject(d) })
						return []iketest.Datagram{there}
					}
				}
				return []iketest.Datagram{d}
			}
			e := a.Connect(b, nil)
			s.Run(3*time.Minute, func() bool { return e.Up() || e.Closed != nil })
			all++
			if e.Up() && len(e.Children) > 0 && e.Peer() != nil && e.Peer().Host == b {
				done++
			} else if e.Up() {
				t.Fatalf("%s, seed %d: established with somebody else\n%s", how, seed, s.Summary())
			}
			if s.Panics() != 0 {
				t.Fatal("panic")
			}
		}
	}
	t.Logf("%d of %d handshakes", done, all)
	if done < all*95/100 {
		t.Errorf("%d of %d handshakes", done, all)
	}
}
