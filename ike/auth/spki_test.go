package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

func TestSPKIRoundTrip(t *testing.T) {
	for _, kind := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		pub := generate(t, kind).Public()
		spki := SPKI(pub)
		back, err := ParseSPKI(spki)
		if err != nil {
			t.Fatal(err)
		}
		if KindOf(back) != kind || !bytes.Equal(SPKI(back), spki) {
			t.Errorf("%v came back as %v", kind, KindOf(back))
		}
		for i := range spki {
			if _, err := ParseSPKI(spki[:i]); err == nil {
				t.Errorf("%v cut to %d of %d octets is accepted", kind, i, len(spki))
			}
		}
		if _, err := ParseSPKI(append(bytes.Clone(spki), 0)); err == nil {
			t.Errorf("%v with an octet behind is accepted", kind)
		}
		cert := RawCert(pub)
		if cert.Encoding != wire.CertRawPublicKey || !bytes.Equal(cert.Data, spki) {
			t.Errorf("CERT %+v", cert)
		}
	}
	rk := testRSA(t)
	if back, err := ParseSPKI(SPKI(rk.Public())); err != nil || KindOf(back) != KindRSA {
		t.Errorf("RSA: %v, %v", KindOf(back), err)
	}
	if SPKI(nil) != nil || SPKI("key") != nil || RawCert(nil) != nil {
		t.Error("encoded something that is no key")
	}
}

// TestSPKIOneEncoding has encodings of good keys that some readers accept.
func TestSPKIOneEncoding(t *testing.T) {
	spki := SPKI(generate(t, KindECDSAP256).Public())
	point := spki[len(spki)-65:]
	alg := spki[2:23]
	y := point[64] & 1
	compressed := append([]byte{2 + y}, point[1:33]...)
	hybrid := append([]byte{6 + y}, point[1:]...)
	bits := func(b []byte, unused byte) []byte { return der(3, append([]byte{unused}, b...)) }
	cat := func(bs ...[]byte) []byte { return bytes.Join(bs, nil) }
	off := bytes.Clone(point)
	off[64] ^= 1
	for name, b := range map[string][]byte{
		"long form length": cat([]byte{0x30, 0x81, byte(len(spki) - 2)}, spki[2:]),
		"indefinite":       cat([]byte{0x30, 0x80}, spki[2:], []byte{0, 0}),
		"compressed":       der(0x30, cat(alg, bits(compressed, 0))),
		"hybrid":           der(0x30, cat(alg, bits(hybrid, 0))),
		"infinity":         der(0x30, cat(alg, bits([]byte{0}, 0))),
		"zero point":       der(0x30, cat(alg, bits(append([]byte{4}, make([]byte, 64)...), 0))),
		"off the curve":    der(0x30, cat(alg, bits(off, 0))),
		"unused bits":      der(0x30, cat(alg, bits(point, 1))),
		"third element":    der(0x30, cat(alg, bits(point, 0), []byte{5, 0})),
		"no parameters":    der(0x30, cat([]byte("\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"), bits(point, 0))),
		"NULL parameters":  der(0x30, cat([]byte("\x30\x0b\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x05\x00"), bits(point, 0))),
		"Ed25519, NULL parameters": der(0x30, cat([]byte("\x30\x07\x06\x03\x2b\x65\x70\x05\x00"),
			bits(generate(t, KindEd25519).Public().(ed25519.PublicKey), 0))),
	} {
		if _, err := ParseSPKI(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSPKIOtherKeys(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(p521.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSPKI(b); err == nil || !strings.Contains(err.Error(), "P-256 or P-384") {
		t.Errorf("P-521: %v", err)
	}
	if _, err := ParseSPKI(make([]byte, MaxSPKI+1)); err == nil {
		t.Error("a long one is read")
	}
}

func TestKinds(t *testing.T) {
	for k := KindNone; k <= KindRSA; k++ {
		got, err := ParseKind(k.String())
		if k == KindNone || k == KindRSA {
			if err == nil {
				t.Errorf("%v can be made", k)
			}
			if _, err := GenerateKey(k); err == nil {
				t.Errorf("%v was made", k)
			}
		} else if err != nil || got != k {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
	if _, err := ParseKind("ed448"); err == nil || !strings.Contains(err.Error(), "ed25519, ecdsa-p256, ecdsa-p384") {
		t.Errorf("%v", err)
	}
}

func TestFingerprint(t *testing.T) {
	const want = "SHA256:6bqHGoMEc8Y6a72Jt0/SOFyGGdCyrOXY1iwlA/6vPcw" // sha256sum of the octets, in Base64
	if got := Fingerprint(vectors(t, "rfc7670.txt")["ecdsa.spki"]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
