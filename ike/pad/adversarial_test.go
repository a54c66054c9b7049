package pad

import (
	"crypto"
	"testing"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/wire"
)

// signed is a peer that proves itself by its own key, whatever it says it is.
func signed(t testing.TB, k crypto.Signer, octets []byte) *wire.Auth {
	t.Helper()
	a, err := auth.Sign(k, octets, auth.Hashes())
	if err != nil {
		t.Fatal(err)
	}
	return &a
}

// A peer with valid credentials that says it is another: the entry of the identity that it
// asserts decides, and none of that entry's credentials verifies what the peer can make
// (RFC 4301, Section 4.4.3; ADV-D13).
func TestADV_D13_IdentityOfAnother(t *testing.T) {
	kb, kc := newSigner(t), newSigner(t)
	db := mustDB(t,
		pskEntry(t, "P", "p.example", "10.1.0.0/16"), pskEntry(t, "Q", "q.example", "10.2.0.0/16"),
		keyEntry(t, "B", "b.example", "10.3.0.0/16", auth.SPKI(kb.Public())), keyEntry(t, "C", "c.example", "10.4.0.0/16", auth.SPKI(kc.Public())),
		wildcard(Allow{Any: true}))
	me, octets := mustID(t, "me.example"), []byte("what AUTH covers")
	prf := wire.PRFHMACSHA256

	// By its own secret, with its own identity and the other user's.
	data, err := auth.PSKAuth(prf, auth.NewPSK([]byte("secret of P")), octets)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"p.example": true, "q.example": false} {
		secret, e, o := db.LookupPSK(me, mustID(t, id))
		if e == nil {
			t.Fatal(&o)
		}
		err := auth.VerifyPSK(prf, secret, &wire.Auth{Method: wire.AuthMethodPSK, Data: data}, octets)
		if (err == nil) != want {
			t.Errorf("P as %s: %v", id, err)
		}
	}

	// By its own key: shown, kept back, or another's shown.
	proves := func(id string, shown []byte) bool {
		e, o := db.Lookup(mustID(t, id), MethodPublicKey, shown)
		if e == nil {
			return false
		}
		for _, k := range o.Keys {
			if auth.VerifySPKI(k, signed(t, kc, octets), octets, auth.Rules{}) == nil && e.Kind == KindAuthenticated {
				return true
			}
		}
		return false
	}
	for _, tc := range []struct {
		id    string
		shown []byte
		want  bool
	}{
		{"c.example", auth.SPKI(kc.Public()), true},
		{"c.example", nil, true},
		{"c.example", auth.SPKI(kb.Public()), false},
		{"b.example", auth.SPKI(kc.Public()), false},
		{"b.example", nil, false},
		{"b.example", auth.SPKI(kb.Public()), false},
		{"q.example", auth.SPKI(kc.Public()), false},
		{"nobody.example", auth.SPKI(kc.Public()), false}, // at most a BTNS peer
	} {
		if got := proves(tc.id, tc.shown); got != tc.want {
			t.Errorf("C as %s with %s: %v, want %v", tc.id, Fingerprint(tc.shown), got, tc.want)
		}
	}
}

// An initiator that has dialled one peer gets the identity and the key of another, both valid
// in the PAD: refused, whoever it is (ADV-D14).
func TestADV_D14_AnotherThanDialled(t *testing.T) {
	db := mustDB(t, keyEntry(t, "B", "b.example", "10.3.0.0/16", keyB), keyEntry(t, "C", "c.example", "10.4.0.0/16", keyC),
		pskEntry(t, "Q", "q.example", "10.2.0.0/16"), wildcard(Allow{Any: true}))
	for _, dialled := range []string{"B", "C", "Q", "anybody"} {
		for _, peer := range []struct {
			entry, id string
			method    Method
			key       []byte
		}{{"B", "b.example", MethodPublicKey, keyB}, {"C", "c.example", MethodPublicKey, keyC}, {"Q", "q.example", MethodPSK, nil},
			{"anybody", "x.example", MethodPublicKey, keyQ}} {
			e, o := db.LookupDialled(db.Entry(dialled), mustID(t, peer.id), peer.method, peer.key)
			if (e != nil) != (peer.entry == dialled) || e == nil && o.Verdict != WrongPeer {
				t.Errorf("dialled %s, got %s: %v", dialled, peer.entry, &o)
			}
		}
	}
}

func newSigner(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
