package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

func TestRFC4754Vectors(t *testing.T) {
	v := vectors(t, "rfc4754.txt")
	for _, tc := range []struct {
		name   string
		curve  elliptic.Curve
		method wire.AuthMethod
		alg    string
	}{
		{"p256", elliptic.P256(), wire.AuthMethodECDSA256, derECDSASHA256},
		{"p384", elliptic.P384(), wire.AuthMethodECDSA384, derECDSASHA384},
	} {
		t.Run(tc.name, func(t *testing.T) {
			point := append(append([]byte{4}, v[tc.name+".gwx"]...), v[tc.name+".gwy"]...)
			pub, err := ecdsa.ParseUncompressedPublicKey(tc.curve, point)
			if err != nil {
				t.Fatal(err)
			}
			priv, err := ecdsa.ParseRawPrivateKey(tc.curve, v[tc.name+".w"])
			if err != nil {
				t.Fatal(err)
			}
			if !priv.PublicKey.Equal(pub) {
				t.Error("the public key is not w times g")
			}
			// The RFC prints the method one octet late, "0009 0000" where RFC 4306,
			// Section 3.8 has "09 000000".
			payload := v[tc.name+".payload"]
			a := &wire.Auth{Method: wire.AuthMethod(payload[5]), Data: payload[8:]}
			if a.Method != tc.method {
				t.Fatalf("method %v, want %v", a.Method, tc.method)
			}
			if err := Verify(pub, a, []byte("abc"), Rules{Legacy: true}); err != nil {
				t.Error(err)
			}
			wantReason(t, Verify(pub, a, []byte("abd"), Rules{Legacy: true}), ReasonWrong)
			wantReason(t, Verify(pub, a, []byte("abc"), Rules{}), ReasonMethod)

			// The same signature in the form of method 14.
			sig := derSignature(v[tc.name+".r"], v[tc.name+".s"])
			if err := Verify(pub, digital(tc.alg, sig), []byte("abc"), Rules{}); err != nil {
				t.Error(err)
			}

			// And ours, as a peer without RFC 7427 gets it.
			ours := mustSign(t, priv, []byte("abc"), nil)
			if ours.Method != tc.method || len(ours.Data) != len(a.Data) {
				t.Errorf("made %v with %d octets", ours.Method, len(ours.Data))
			}
			if err := Verify(pub, &ours, []byte("abc"), Rules{Legacy: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

// derSignature encodes r and s as an Ecdsa-Sig-Value.
func derSignature(r, s []byte) []byte {
	integer := func(b []byte) []byte {
		b = new(big.Int).SetBytes(b).Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return der(2, b)
	}
	return der(0x30, append(integer(r), integer(s)...))
}

func TestRFC8032Vectors(t *testing.T) {
	v := vectors(t, "rfc8032.txt")
	for _, name := range []string{"1", "2", "3", "1024", "SHAabc"} {
		t.Run(name, func(t *testing.T) {
			key := ed25519.NewKeyFromSeed(v[name+".seed"])
			pub, err := ParseSPKI(SPKI(ed25519.PublicKey(v[name+".pub"])))
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(ed25519.PublicKey).Equal(pub) {
				t.Error("the public key is not the seed's")
			}
			a := mustSign(t, key, v[name+".msg"], []uint16{wire.HashSHA256, wire.HashIdentity})
			if want := digital(derEd25519, v[name+".sig"]); !bytes.Equal(a.Data, want.Data) || a.Method != want.Method {
				t.Errorf("made %v %x, want %x", a.Method, a.Data, want.Data)
			}
			if err := Verify(pub, &a, v[name+".msg"], Rules{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRFC7427Objects shows that Appendix A's objects mean what they say, that Ed448 and DSA are
// not known, and that no other octets pass for one of them.
func TestRFC7427Objects(t *testing.T) {
	want := map[string]algorithm{
		"A.1.1": {schemePKCS1, wire.HashSHA1}, "A.1.2": {schemePKCS1, wire.HashSHA256},
		"A.1.3": {schemePKCS1, wire.HashSHA384}, "A.1.4": {schemePKCS1, wire.HashSHA512},
		"A.2.1": {}, "A.2.2": {},
		"A.3.1": {schemeECDSA, wire.HashSHA1}, "A.3.2": {schemeECDSA, wire.HashSHA256},
		"A.3.3": {schemeECDSA, wire.HashSHA384}, "A.3.4": {schemeECDSA, wire.HashSHA512},
		"A.4.1": {schemePSS, wire.HashSHA1}, "A.4.2": {schemePSS, wire.HashSHA1}, "A.4.3": {schemePSS, wire.HashSHA256},
		"ed25519": {schemeEd25519, wire.HashIdentity}, "ed448": {},
	}
	got := vectors(t, "rfc7427.txt")
	if len(got) != len(want) {
		t.Fatalf("%d objects, want %d", len(got), len(want))
	}
	for name, der := range got {
		if a := parseAlgorithm(der); a != want[name] {
			t.Errorf("%s: %+v, want %+v", name, a, want[name])
		}
		for i := range der { // every cut and every changed octet is another object, or none
			if parseAlgorithm(der[:i]) != (algorithm{}) {
				t.Errorf("%s cut to %d octets is accepted", name, i)
			}
			x := bytes.Clone(der)
			x[i] ^= 0x80
			if parseAlgorithm(x) != (algorithm{}) {
				t.Errorf("%s with octet %d changed is accepted", name, i)
			}
		}
		if parseAlgorithm(append(bytes.Clone(der), 0)) != (algorithm{}) {
			t.Errorf("%s with an octet behind is accepted", name)
		}
	}
	if form0 := derPSS(wire.HashSHA256, 0); !bytes.Equal(form0, got["A.4.3"]) {
		t.Errorf("PSS form 0 is %x", form0)
	}
}

func TestRFC7670Vectors(t *testing.T) {
	v := vectors(t, "rfc7670.txt")
	pub, err := ParseSPKI(v["ecdsa.spki"])
	if err != nil {
		t.Fatal(err)
	}
	if KindOf(pub) != KindECDSAP256 {
		t.Errorf("kind %v", KindOf(pub))
	}
	cert := RawCert(pub)
	msg := wire.Message{Payloads: []wire.Payload{cert}}
	if got := msg.Append(nil)[28:]; !bytes.Equal(got, v["ecdsa.cert"]) {
		t.Errorf("CERT payload\n%x, want\n%x", got, v["ecdsa.cert"])
	}
	// Appendix A.2's RSA key has 1024 bits: the encoding is read and the key refused.
	if _, err := ParseSPKI(v["rsa1024.spki"]); err == nil || !bytes.Contains([]byte(err.Error()), []byte("1024 bits")) {
		t.Errorf("RSA with 1024 bits: %v", err)
	}
}

// TestRSAVerify checks both paddings with every hash, in every encoding that is about.
func TestRSAVerify(t *testing.T) {
	key := testRSA(t)
	spki := SPKI(key.Public())
	octets := []byte("octets")
	for _, hash := range []uint16{wire.HashSHA256, wire.HashSHA384, wire.HashSHA512} {
		h := cryptoHash(hash)
		pkcs1, err := rsa.SignPKCS1v15(nil, key, h, sum(h, octets))
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range map[uint16][]string{
			wire.HashSHA256: {derRSASHA256, derRSASHA256Bare},
			wire.HashSHA384: {derRSASHA384, derRSASHA384Bare},
			wire.HashSHA512: {derRSASHA512, derRSASHA512Bare},
		}[hash] {
			if err := VerifySPKI(spki, digital(der, pkcs1), octets, Rules{}); err != nil {
				t.Errorf("PKCS #1 with %v: %v", h, err)
			}
		}
		pss, err := rsa.SignPSS(rand.Reader, key, h, sum(h, octets), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			t.Fatal(err)
		}
		for form := range pssForms {
			alg := string(derPSS(hash, form))
			if err := VerifySPKI(spki, digital(alg, pss), octets, Rules{}); err != nil {
				t.Errorf("PSS with %v, form %d: %v", h, form, err)
			}
			wantReason(t, VerifySPKI(spki, digital(alg, pkcs1), octets, Rules{}), ReasonWrong)
		}
		wantReason(t, VerifySPKI(spki, digital(derRSASHA256, pss), octets, Rules{}), ReasonWrong)
	}
	if _, err := Sign(key, octets, Hashes()); err == nil {
		t.Error("signed with RSA")
	}
}
