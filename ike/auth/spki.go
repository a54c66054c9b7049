package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/btns-go/btns/ike/wire"
)

// Kind is a kind of key. The zero Kind is none.
type Kind uint8

// The kinds of key. RSA keys are only verified with.
const (
	KindNone Kind = iota
	KindEd25519
	KindECDSAP256
	KindECDSAP384
	KindRSA
)

// String returns the name that [ParseKind] reads.
func (k Kind) String() string {
	switch k {
	case KindNone:
		return "none"
	case KindEd25519:
		return "ed25519"
	case KindECDSAP256:
		return "ecdsa-p256"
	case KindECDSAP384:
		return "ecdsa-p384"
	case KindRSA:
		return "rsa"
	}
	return "invalid"
}

// ParseKind reads the name of a kind of key that [GenerateKey] makes.
func ParseKind(s string) (Kind, error) {
	for _, k := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		if s == k.String() {
			return k, nil
		}
	}
	return KindNone, fmt.Errorf("auth: key type %q is not one of ed25519, ecdsa-p256, ecdsa-p384", s)
}

// KindOf returns the kind of a public key, KindNone if it is not one of ours.
func KindOf(pub crypto.PublicKey) Kind {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return KindEd25519
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return KindECDSAP256
		case elliptic.P384():
			return KindECDSAP384
		}
	case *rsa.PublicKey:
		return KindRSA
	}
	return KindNone
}

// ParseSPKI reads a DER SubjectPublicKeyInfo: Ed25519 (RFC 8410), ECDSA on P-256 and P-384 with
// an uncompressed point (RFC 5480), RSA of 2048 to 8192 bits (RFC 3279). It accepts exactly one
// encoding per key, so that equal keys are equal octets, and none that is degenerate: no RSA exponent
// that is even, below 3 or above 2^31, no point off the curve or at infinity, no Ed25519 point of small
// order, for which anybody could sign.
func ParseSPKI(spki []byte) (crypto.PublicKey, error) {
	if len(spki) > MaxSPKI {
		return nil, fmt.Errorf("auth: public key of %d octets is too long", len(spki))
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("auth: not a SubjectPublicKeyInfo with a key that can be used")
	}
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if err := checkRSA(k); err != nil {
			return nil, err
		}
	case ed25519.PublicKey:
		if err := checkEd25519(k); err != nil {
			return nil, err
		}
	}
	if KindOf(pub) == KindNone {
		return nil, errors.New("auth: public key is not Ed25519, ECDSA on P-256 or P-384, or RSA")
	}
	if !bytes.Equal(SPKI(pub), spki) {
		return nil, errors.New("auth: public key is not in the one encoding that it has")
	}
	return pub, nil
}

func checkRSA(k *rsa.PublicKey) error {
	switch n := k.N.BitLen(); {
	case n < MinRSABits || n > MaxRSABits:
		return fmt.Errorf("auth: RSA key of %d bits; %d to %d are accepted", n, MinRSABits, MaxRSABits)
	case k.N.Bit(0) == 0:
		return errors.New("auth: RSA key with an even modulus")
	case k.E < 3 || k.E > 1<<31-1 || k.E%2 == 0: // an int has 32 bits somewhere
		return fmt.Errorf("auth: RSA key with exponent %d", k.E)
	}
	return nil
}

// Encodings of y of the Ed25519 points of order 1, 2, 4 and 8, sign bit cleared. Signatures by
// such a "key" verify without any secret.
const ed25519SmallOrder = "" +
	"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05" +
	"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a"

// checkEd25519 refuses y >= p, a second encoding of a point (RFC 8032, Section 5.1.3, step 1),
// and points of small order. Whether y is on the curve at all is seen when a signature is checked.
func checkEd25519(k ed25519.PublicKey) error {
	y := [ed25519.PublicKeySize]byte(k)
	y[31] &= 0x7f
	high := y[31] == 0x7f
	for _, b := range y[1:31] {
		high = high && b == 0xff
	}
	if high && y[0] >= 0xed { // p = 2^255 - 19
		return errors.New("auth: Ed25519 key is not in its one encoding")
	}
	for i := 0; i < len(ed25519SmallOrder); i += len(y) {
		if string(y[:]) == ed25519SmallOrder[i:i+len(y)] {
			return errors.New("auth: Ed25519 key of small order: anybody could sign for it")
		}
	}
	return nil
}

// SPKI returns the DER SubjectPublicKeyInfo of a public key, or nil if it is not of a [Kind] of
// this package.
func SPKI(pub crypto.PublicKey) []byte {
	if KindOf(pub) == KindNone {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	return der
}

// Fingerprint returns "SHA256:" and the unpadded Base64 of the SHA-256 of a SubjectPublicKeyInfo.
func Fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// RawCert returns the CERT payload that carries a bare public key (RFC 7670, Section 3), or nil
// if the key is not of a [Kind] of this package.
func RawCert(pub crypto.PublicKey) *wire.Cert {
	spki := SPKI(pub)
	if spki == nil {
		return nil
	}
	return &wire.Cert{Encoding: wire.CertRawPublicKey, Data: spki}
}
