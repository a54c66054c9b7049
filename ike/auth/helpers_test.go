package auth

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// vectors reads "name = hex" lines.
func vectors(t testing.TB, name string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	v := make(map[string][]byte)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		k, h, ok := strings.Cut(lines.Text(), " = ")
		if strings.HasPrefix(lines.Text(), "#") || !ok {
			continue
		}
		if v[k], err = hex.DecodeString(strings.TrimSpace(h)); err != nil {
			t.Fatalf("%s: %s: %v", name, k, err)
		}
	}
	return v
}

func generate(t testing.TB, k Kind) crypto.Signer {
	t.Helper()
	key, err := GenerateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustSign(t testing.TB, key crypto.Signer, octets []byte, hashes []uint16) wire.Auth {
	t.Helper()
	a, err := Sign(key, octets, hashes)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// digital builds AUTH data of method 14.
func digital(alg string, sig []byte) *wire.Auth {
	return &wire.Auth{
		Method: wire.AuthMethodDigitalSignature,
		Data:   append(append([]byte{byte(len(alg))}, alg...), sig...),
	}
}

// wantReason fails unless err is an *Error with this reason and the code every refusal has.
func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.Reason != want {
		t.Errorf("reason %v (%v), want %v", e.Reason, e, want)
	}
	if e.Code() != wire.NotifyAuthenticationFailed {
		t.Errorf("code %v", e.Code())
	}
}

// rsaKey is made once: it takes a quarter of a second.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func testRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rawRSASPKI encodes an RSA key that the library would refuse to make.
func rawRSASPKI(t testing.TB, n, e *big.Int) []byte {
	t.Helper()
	pub, err := asn1.Marshal(struct{ N, E *big.Int }{n, e})
	if err != nil {
		t.Fatal(err)
	}
	alg := asn1.RawValue{FullBytes: []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00")}
	spki, err := asn1.Marshal(struct {
		Alg asn1.RawValue
		Key asn1.BitString
	}{alg, asn1.BitString{Bytes: pub, BitLength: 8 * len(pub)}})
	if err != nil {
		t.Fatal(err)
	}
	return spki
}
