package auth

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/btns-go/btns/ike/wire"
)

// Sign makes an AUTH payload with a private key over octets (see [SignedOctets]). peerHashes is
// the peer's SIGNATURE_HASH_ALGORITHMS, of which one is picked (RFC 7427, Section 4). If it is
// empty the peer knows no method 14, and only ECDSA can be used, as RFC 4754 has it.
//
// The key may live elsewhere: anything that is a crypto.Signer will do. An [*Error] says that no
// signature with this key can be made for this peer.
func Sign(key crypto.Signer, octets []byte, peerHashes []uint16) (wire.Auth, error) {
	kind := KindOf(key.Public())
	if kind == KindNone || kind == KindRSA {
		return wire.Auth{}, refuse(ReasonKey, wire.AuthMethodDigitalSignature, "the private key is not Ed25519 or ECDSA on P-256 or P-384")
	}
	if len(peerHashes) == 0 {
		return signLegacy(key, kind, octets)
	}
	for _, c := range choices(kind) {
		if !slices.Contains(peerHashes, c.hash) {
			continue
		}
		sig, err := signWith(key, c.hash, octets)
		if err != nil {
			return wire.Auth{}, fmt.Errorf("auth: signing: %w", err)
		}
		data := make([]byte, 0, 1+len(c.der)+len(sig))
		data = append(data, byte(len(c.der))) // RFC 7427, Section 3: ASN.1 Length
		data = append(data, c.der...)
		return wire.Auth{Method: wire.AuthMethodDigitalSignature, Data: append(data, sig...)}, nil
	}
	return wire.Auth{}, refuse(ReasonHash, wire.AuthMethodDigitalSignature,
		"the peer announces no hash that goes with our %v key (it announces %s)", kind, hashNames(peerHashes))
}

type choice struct {
	hash uint16
	der  string
}

// choices lists what a kind of key signs with, best first: the hash of the curve's own strength
// before longer ones, shorter ones last (RFC 7427, Section 6).
func choices(kind Kind) []choice {
	sha256, sha384, sha512 := choice{wire.HashSHA256, derECDSASHA256}, choice{wire.HashSHA384, derECDSASHA384}, choice{wire.HashSHA512, derECDSASHA512}
	switch kind {
	case KindEd25519:
		return []choice{{wire.HashIdentity, derEd25519}} // RFC 8420, Section 2: nothing else
	case KindECDSAP256:
		return []choice{sha256, sha384, sha512}
	case KindECDSAP384:
		return []choice{sha384, sha512, sha256}
	case KindNone, KindRSA:
	}
	return nil
}

// signWith signs octets as DER (ECDSA) or 64 octets (Ed25519, which takes them unhashed).
func signWith(key crypto.Signer, hash uint16, octets []byte) ([]byte, error) {
	h := cryptoHash(hash)
	if h == 0 {
		return key.Sign(rand.Reader, octets, crypto.Hash(0))
	}
	d := h.New()
	d.Write(octets)
	return key.Sign(rand.Reader, d.Sum(nil), h)
}

// signLegacy makes a signature of RFC 4754, Section 4: the method fixes curve and hash, the data
// is r and s at full width.
func signLegacy(key crypto.Signer, kind Kind, octets []byte) (wire.Auth, error) {
	l, ok := legacyOf(kind)
	if !ok {
		return wire.Auth{}, refuse(ReasonHash, wire.AuthMethodDigitalSignature,
			"the peer announces no signature hashes (RFC 7427), so our %v key cannot be used with it", kind)
	}
	sig, err := signWith(key, l.hash, octets)
	if err != nil {
		return wire.Auth{}, fmt.Errorf("auth: signing: %w", err)
	}
	r, s := new(big.Int), new(big.Int)
	in, seq := cryptobyte.String(sig), cryptobyte.String(nil)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || max(r.BitLen(), s.BitLen()) > 8*l.size {
		return wire.Auth{}, fmt.Errorf("auth: signing: the key returned something that is no ECDSA signature")
	}
	data := make([]byte, 2*l.size)
	r.FillBytes(data[:l.size])
	s.FillBytes(data[l.size:])
	return wire.Auth{Method: l.method, Data: data}, nil
}

// legacy is a method of RFC 4754.
type legacy struct {
	method wire.AuthMethod
	hash   uint16
	size   int // octets of r and of s
}

func legacyOf(kind Kind) (legacy, bool) {
	switch kind {
	case KindECDSAP256:
		return legacy{wire.AuthMethodECDSA256, wire.HashSHA256, 32}, true
	case KindECDSAP384:
		return legacy{wire.AuthMethodECDSA384, wire.HashSHA384, 48}, true
	case KindNone, KindEd25519, KindRSA:
	}
	return legacy{}, false
}

func hashNames(ids []uint16) string {
	const shown = 8 // a hostile list is long
	out := ""
	for i, id := range ids {
		if i == shown {
			return out + " …"
		}
		if i > 0 {
			out += " "
		}
		out += wire.HashName(id)
	}
	return out
}
