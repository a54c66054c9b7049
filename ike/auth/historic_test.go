package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"math/big"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// Moduli of every size below the least, one bit at a time, from the wire and from anywhere: the
// fix for a forgery once did its arithmetic with them.
func TestCVE_2018_17540_TinyModuli(t *testing.T) {
	n := testRSA(t).N
	for bits := 1; bits < 2048; bits++ {
		small := new(big.Int).SetBit(new(big.Int).Rsh(n, uint(2048-bits)), 0, 1)
		if small.BitLen() != bits {
			t.Fatalf("%d bits, not %d", small.BitLen(), bits)
		}
		spki := rawRSASPKI(t, small, big.NewInt(3))
		if _, err := ParseSPKI(spki); err == nil {
			t.Errorf("%d bits are accepted", bits)
		}
		size := (bits + 7) / 8
		for _, sig := range [][]byte{{0}, {1}, make([]byte, size), bytes.Repeat([]byte{0xff}, size)} {
			for _, alg := range []string{derRSASHA256, string(derPSS(wire.HashSHA256, 0))} {
				wantReason(t, Verify(&rsa.PublicKey{N: small, E: 3}, digital(alg, sig), []byte("octets"), Rules{}), ReasonKey)
			}
		}
	}
}

// Keys and signatures of every length around the right one, whole and as a peer encodes them.
func TestCVE_2020_9283_ShortKeys(t *testing.T) {
	octets := []byte("octets")
	key := generate(t, KindEd25519)
	a := mustSign(t, key, octets, Hashes())
	pub := key.Public().(ed25519.PublicKey)
	for n := range 2 * ed25519.PublicKeySize {
		k := append(bytes.Clone(pub), make([]byte, ed25519.PublicKeySize)...)[:n]
		if n == ed25519.PublicKeySize {
			continue
		}
		wantReason(t, Verify(ed25519.PublicKey(k), &a, octets, Rules{}), ReasonKey)
		alg := []byte{0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}
		spki := der(0x30, append(bytes.Clone(alg), der(3, append([]byte{0}, k...))...))
		if _, err := ParseSPKI(spki); err == nil {
			t.Errorf("a key of %d octets is accepted", n)
		}
		wantReason(t, VerifySPKI(spki, &a, octets, Rules{}), ReasonKey)
	}
	for _, kind := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		key := generate(t, kind)
		right := mustSign(t, key, octets, Hashes())
		for n := range 2 * len(right.Data) {
			data := append(bytes.Clone(right.Data), make([]byte, len(right.Data))...)[:n]
			if err := Verify(key.Public(), &wire.Auth{Method: right.Method, Data: data}, octets, Rules{}); (err == nil) != (n == len(right.Data)) {
				t.Errorf("%v: AUTH of %d octets: %v", kind, n, err)
			}
		}
	}
}

// DER that repeats, nests and says nothing of its length, as long as a message can carry it.
func TestCVE_2017_9023_DERTerminates(t *testing.T) {
	long := func(part ...byte) []byte { return bytes.Repeat(part, 60000/len(part)) }
	nested := []byte{5, 0}
	for len(nested) < 20000 {
		nested = der(0x30, nested)
	}
	key := generate(t, KindECDSAP256)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for name, b := range map[string][]byte{
			"empty elements":    long(0x30, 0),
			"indefinite length": long(0x30, 0x80),
			"choice of itself":  long(0xa0, 0x80),
			"empty sets":        der(0x30, long(0x31, 0)),
			"lengths of 4":      long(0x30, 0x84, 0, 0, 0, 0),
			"largest length":    long(0x30, 0x84, 0xff, 0xff, 0xff, 0xff),
			"long tag":          long(0x1f, 0xff),
			"long OID":          der(0x30, der(6, long(0x80))),
			"long integer":      der(0x30, der(2, long(0))),
			"nested":            nested,
		} {
			if _, err := ParseSPKI(b); err == nil {
				t.Errorf("%s: a key", name)
			}
			for _, a := range []*wire.Auth{digital(string(b[:min(len(b), 255)]), b), digital(derECDSASHA256, b)} {
				if Verify(key.Public(), a, nil, Rules{Legacy: true}) == nil {
					t.Errorf("%s: a signature", name)
				}
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("still reading")
	}
}
