package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"math/big"
	"slices"

	"github.com/btns-go/btns/ike/wire"
)

// Rules says what a peer's signature may be made of. The zero Rules is the strict one.
type Rules struct {
	// Hashes is what we announced in SIGNATURE_HASH_ALGORITHMS; nil means [Hashes]. A
	// signature with any other is refused (RFC 7427, Section 4; ADV-D12).
	Hashes []uint16

	// Legacy accepts the methods of RFC 4754. Set it only if the peer announced no hashes:
	// once both ends have, method 14 "MUST be used" (RFC 7427, Section 3).
	Legacy bool
}

func (r Rules) allows(hash uint16) bool {
	if r.Hashes == nil {
		r.Hashes = Hashes()
	}
	return slices.Contains(r.Hashes, hash)
}

// Verify checks an AUTH payload made with the private half of pub over octets. Every refusal is
// an [*Error]; nil means that the signature is right.
func Verify(pub crypto.PublicKey, a *wire.Auth, octets []byte, rules Rules) error {
	if len(a.Data) > MaxAuthData {
		return refuse(ReasonEncoding, a.Method, "%d octets are too long for a signature", len(a.Data))
	}
	switch a.Method {
	case wire.AuthMethodDigitalSignature:
		return verifyDigital(pub, a, octets, rules)
	case wire.AuthMethodECDSA256, wire.AuthMethodECDSA384:
		if rules.Legacy {
			return verifyLegacy(pub, a, octets, rules)
		}
	default:
		// All others are refused: a shared key or NULL where a signature is wanted, and RSA
		// with the SHA-1 of RFC 7296, Section 3.8.
	}
	return refuse(ReasonMethod, a.Method, "a digital signature (RFC 7427) is wanted from this peer")
}

// VerifySPKI is [Verify] with the key in its encoding, as a CERT payload or a pin has it.
func VerifySPKI(spki []byte, a *wire.Auth, octets []byte, rules Rules) error {
	pub, err := ParseSPKI(spki)
	if err != nil {
		return refuse(ReasonKey, a.Method, "the peer's key: %v", err)
	}
	return Verify(pub, a, octets, rules)
}

// verifyDigital checks the form of RFC 7427, Section 3: length, AlgorithmIdentifier, signature.
func verifyDigital(pub crypto.PublicKey, a *wire.Auth, octets []byte, rules Rules) error {
	if len(a.Data) == 0 || len(a.Data) <= 1+int(a.Data[0]) {
		return refuse(ReasonEncoding, a.Method, "the payload is cut short")
	}
	n := 1 + int(a.Data[0])
	alg, sig := parseAlgorithm(a.Data[1:n]), a.Data[n:]
	switch {
	case alg.scheme == schemeNone:
		return refuse(ReasonEncoding, a.Method, "the algorithm identifier %x is not known", a.Data[1:n])
	case alg.hash == wire.HashSHA1:
		return refuse(ReasonHash, a.Method, "signatures with SHA-1 are refused (RFC 8247, Section 4.2)")
	case !rules.allows(alg.hash):
		return refuse(ReasonHash, a.Method, "a signature with %s, which was not announced", wire.HashName(alg.hash))
	}
	var fits, good bool
	h := cryptoHash(alg.hash)
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if fits = alg.scheme == schemeEd25519 && len(k) == ed25519.PublicKeySize; fits {
			good = ed25519.Verify(k, octets, sig)
		}
	case *ecdsa.PublicKey:
		if fits = alg.scheme == schemeECDSA && KindOf(k) != KindNone; fits {
			good = ecdsa.VerifyASN1(k, sum(h, octets), sig)
		}
	case *rsa.PublicKey:
		switch {
		case checkRSA(k) != nil:
		case alg.scheme == schemePKCS1:
			fits, good = true, rsa.VerifyPKCS1v15(k, h, sum(h, octets), sig) == nil
		case alg.scheme == schemePSS:
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
			fits, good = true, rsa.VerifyPSS(k, h, sum(h, octets), sig, opts) == nil
		}
	}
	switch {
	case !fits:
		return refuse(ReasonKey, a.Method, "the signature's algorithm does not go with the peer's %v key", KindOf(pub))
	case !good:
		return refuse(ReasonWrong, a.Method, "the signature is wrong: made with another key, or the messages were changed on the way")
	}
	return nil
}

// verifyLegacy checks a signature of RFC 4754, Section 4.
func verifyLegacy(pub crypto.PublicKey, a *wire.Auth, octets []byte, rules Rules) error {
	k, ok := pub.(*ecdsa.PublicKey)
	l, known := legacyOf(KindOf(pub))
	switch {
	case !ok || !known || l.method != a.Method:
		return refuse(ReasonKey, a.Method, "the method does not go with the peer's %v key", KindOf(pub))
	case len(a.Data) != 2*l.size:
		return refuse(ReasonEncoding, a.Method, "%d octets instead of %d", len(a.Data), 2*l.size)
	case !rules.allows(l.hash):
		return refuse(ReasonHash, a.Method, "a signature with %s, which is not allowed", wire.HashName(l.hash))
	}
	r, s := new(big.Int).SetBytes(a.Data[:l.size]), new(big.Int).SetBytes(a.Data[l.size:])
	if !ecdsa.Verify(k, sum(cryptoHash(l.hash), octets), r, s) {
		return refuse(ReasonWrong, a.Method, "the signature is wrong: made with another key, or the messages were changed on the way")
	}
	return nil
}

func sum(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}
