package gate

import (
	"bytes"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// FuzzClassify wants: no panic, no answer longer than the question, nothing changed by what is
// dropped, and the same opinion as the real parser about every chain that one accepts.
func FuzzClassify(f *testing.F) {
	req := initReq(1, nonce(1))
	f.Add(req)
	f.Add(withCookie(1, nonce(1), make([]byte, 17)))
	f.Add(initMsg(1, append(good(nonce(1)), &wire.Vendor{Data: []byte("x")}, &wire.Notify{NType: wire.NotifyCookie})...))
	f.Add(encrypted(1, 2, wire.ExchangeIKEAuth, wire.FlagInitiator, 1))
	f.Add(encrypted(3, 4, wire.ExchangeInformational, wire.FlagResponse, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, cfg := range []Config{{}, {CookieThreshold: -1}} {
			g := newGate(t, cfg)
			g.Add(Key{SPI: 2})
			g.Add(Key{SPI: 3, Initiator: true})
			in := bytes.Clone(b)
			v := g.Classify(epoch(), peer(), b)
			if !bytes.Equal(in, b) {
				t.Fatal("the datagram was changed")
			}
			if len(v.Reply) > len(b) || (v.Kind == Reply) != (v.Reply != nil) {
				t.Fatalf("%d octets answered with %d", len(b), len(v.Reply))
			}
			if v.Kind == Reply {
				if m, err := wire.Parse(v.Reply); err != nil || !m.Flags.Response() {
					t.Fatalf("the answer %x does not parse: %v", v.Reply, err)
				}
			}
			if v.Kind == Existing && v.Key.SPI != 2 && v.Key.SPI != 3 {
				t.Fatalf("an SA %v that nobody made", v.Key)
			}
			if g.Len() != 2 || g.HalfOpen() != 0 || len(g.byInit) != 0 {
				t.Fatal("a datagram was remembered")
			}
			if v.Kind == NewResponder && !g.Open(epoch(), v, 77) {
				t.Fatal("what may start a responder cannot be opened")
			}
		}
		m, err := wire.Parse(b)
		if err != nil || m.Major() != 2 {
			return
		}
		got, reason := scanInit(b)
		_, hasSA := wire.Get[*wire.SA](m.Payloads)
		_, hasKE := wire.Get[*wire.KE](m.Payloads)
		n, hasNonce := wire.Get[*wire.Nonce](m.Payloads)
		_, hasSK := wire.Get[*wire.Encrypted](m.Payloads)
		_, hasSKF := wire.Get[*wire.EncryptedFragment](m.Payloads)
		if want := hasSA && hasKE && hasNonce && !hasSK && !hasSKF; want != (reason == ReasonNone) {
			t.Fatalf("the parser sees SA %v, KE %v, nonce %v, SK %v/%v; the gate says %v", hasSA, hasKE, hasNonce, hasSK, hasSKF, reason)
		} else if want && !bytes.Equal(got.nonce, n.Data) {
			t.Fatal("another nonce")
		}
	})
}
