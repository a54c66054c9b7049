package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// FuzzParseSPKI wants: no panic, and what is accepted is the one encoding of a key that works.
func FuzzParseSPKI(f *testing.F) {
	for _, v := range vectors(f, "rfc7670.txt") {
		f.Add(v)
	}
	for _, k := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		f.Add(SPKI(generate(f, k).Public()))
	}
	f.Add(SPKI(testRSA(f).Public()))
	f.Fuzz(func(t *testing.T, b []byte) {
		pub, err := ParseSPKI(b)
		if err != nil {
			return
		}
		if KindOf(pub) == KindNone || !bytes.Equal(SPKI(pub), b) {
			t.Errorf("%x was accepted and is another key", b)
		}
	})
}

// FuzzVerify feeds AUTH data to every kind of key: no panic, and nothing verifies but what was
// signed. The keys and right signatures are the RFCs' own, so that all fuzzing processes agree.
func FuzzVerify(f *testing.F) {
	octets := []byte("abc")
	v := vectors(f, "rfc4754.txt")
	ed := ed25519.NewKeyFromSeed(vectors(f, "rfc8032.txt")["1.seed"])
	edAuth := mustSign(f, ed, octets, Hashes())
	keys, right := []crypto.PublicKey{ed.Public()}, []*wire.Auth{&edAuth}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()} {
		priv, err := ecdsa.ParseRawPrivateKey(curve, v[name+".w"])
		if err != nil {
			f.Fatal(err)
		}
		payload := v[name+".payload"]
		alg := map[string]string{"p256": derECDSASHA256, "p384": derECDSASHA384}[name]
		keys = append(keys, priv.Public())
		right = append(right, &wire.Auth{Method: wire.AuthMethod(payload[5]), Data: payload[8:]},
			digital(alg, derSignature(v[name+".r"], v[name+".s"])))
	}
	for _, a := range right {
		f.Add(uint8(a.Method), a.Data)
	}
	keys = append(keys, testRSA(f).Public())
	for form := range pssForms {
		f.Add(uint8(14), digital(string(derPSS(wire.HashSHA512, form)), make([]byte, 256)).Data)
	}
	for _, der := range vectors(f, "rfc7427.txt") {
		f.Add(uint8(14), digital(string(der), make([]byte, 64)).Data)
	}
	f.Fuzz(func(t *testing.T, method uint8, data []byte) {
		a := &wire.Auth{Method: wire.AuthMethod(method), Data: data}
		for _, k := range keys {
			if Verify(k, a, octets, Rules{Legacy: true}) != nil {
				continue
			}
			known := false
			for _, r := range right {
				known = known || r.Method == a.Method && bytes.Equal(r.Data, data)
			}
			if !known {
				t.Errorf("method %d, %x verifies with %T", method, data, k)
			}
		}
	})
}

// FuzzParseKeys feeds files to the PEM readers.
func FuzzParseKeys(f *testing.F) {
	for _, k := range []Kind{KindEd25519, KindECDSAP256} {
		key := generate(f, k)
		b, err := MarshalPrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(MarshalPublicKey(SPKI(key.Public())))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParsePrivateKey(b); err == nil && KindOf(key.Public()) == KindNone {
			t.Errorf("accepted a %T", key)
		}
		if spki, err := ParsePublicKey(b); err == nil {
			if _, err := ParseSPKI(spki); err != nil {
				t.Error(err)
			}
		}
	})
}
