// Package suite is the cryptography of an IKE SA below authentication:
// proposals and their negotiation (RFC 7296, Sections 2.7 and 3.3), key exchange
// (RFC 3526, 5903, 8031, with the checks of RFC 6989), pseudorandom functions
// and the key schedule (RFC 7296, Sections 2.13, 2.14, 2.17, 2.18; RFC 4868),
// and the protection of SK and SKF payloads (RFC 7296, Section 3.14; RFC 5282;
// RFC 7634; RFC 7383).
//
// # Use
//
// ParseIKE and ParseESP read strongSwan's proposal strings. The responder calls
// ChooseIKE or ChooseESP, the initiator CheckIKE or CheckESP on the answer.
// GenerateKE, KE.Shared and Derive make the keys; NewProtector takes one
// direction's.
//
// # Ownership
//
// Nothing returned aliases an argument, except that proposals share the SPI and
// transform slices they were built from where the comment says so. Secrets are
// of type Secret, which prints as [redacted]; who holds one calls Zero.
//
// # Concurrency
//
// Functions are pure. A KE and a Protector belong to one goroutine at a time.
//
// # Limits
//
// A Protector seals at most 2⁶⁴−1 messages under an AEAD and then refuses. It
// keeps raw keys, not expanded ones: an IKE SA sends a message every few seconds
// at most, and an expanded AES-GCM key is 20 times as large as the key.
//
// # Design notes
//
// MODP-2048 uses math/big, which is not constant-time; the exponent is used for
// one exchange and forgotten. X25519 and the NIST curves are the standard
// library's and constant-time; they come first in every default.
package suite

import "github.com/btns-go/btns/ike/wire"

// IKE is a negotiated IKE suite, in IANA transform IDs.
type IKE struct {
	Encr    uint16
	KeyBits uint16 // of AES in bits; 0 for ciphers of fixed key length
	Integ   uint16 // wire.IntegNone with an AEAD
	PRF     uint16
	Group   uint16 // key exchange method
}

// ESP is a negotiated child suite, in IANA transform IDs.
type ESP struct {
	Encr    uint16
	KeyBits uint16
	Integ   uint16 // wire.IntegNone with an AEAD
	Group   uint16 // wire.GroupNone without a new key exchange
	ESN     bool   // extended sequence numbers
}

// String returns the suite as a proposal string, e.g. "aes256gcm16-prfsha256-x25519".
func (s IKE) String() string { return String(s.proposal()) }

// String returns the suite as a proposal string, e.g. "aes256gcm16-esn".
func (s ESP) String() string { return String(s.proposal()) }

func (s IKE) proposal() wire.Proposal {
	p := wire.Proposal{Protocol: wire.ProtocolIKE}
	p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformEncr, ID: s.Encr, KeyBits: s.KeyBits})
	if s.Integ != wire.IntegNone {
		p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformInteg, ID: s.Integ})
	}
	p.Transforms = append(p.Transforms,
		wire.Transform{Type: wire.TransformPRF, ID: s.PRF},
		wire.Transform{Type: wire.TransformKE, ID: s.Group})
	return p
}

func (s ESP) proposal() wire.Proposal {
	p := wire.Proposal{Protocol: wire.ProtocolESP}
	p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformEncr, ID: s.Encr, KeyBits: s.KeyBits})
	if s.Integ != wire.IntegNone {
		p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformInteg, ID: s.Integ})
	}
	if s.Group != wire.GroupNone {
		p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformKE, ID: s.Group})
	}
	esn := wire.ESNNo
	if s.ESN {
		esn = wire.ESNYes
	}
	p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformESN, ID: esn})
	return p
}

// Valid reports whether this package implements the suite: every transform
// known, an integrity algorithm exactly when the cipher is no AEAD (RFC 5282,
// Section 8), and a key exchange.
func (s IKE) Valid() bool {
	e, ok := encrOf(s.Encr, s.KeyBits)
	return ok && s.Encr != wire.EncrNull && e.aead == (s.Integ == wire.IntegNone) &&
		(e.aead || integKeyLen(s.Integ) != 0) && PRFSize(s.PRF) != 0 && KELen(s.Group) != 0
}

// Valid reports whether the suite is one this implementation can use.
func (s ESP) Valid() bool {
	e, ok := encrOf(s.Encr, s.KeyBits)
	return ok && e.aead == (s.Integ == wire.IntegNone) && (e.aead || integKeyLen(s.Integ) != 0) &&
		(s.Group == wire.GroupNone || KELen(s.Group) != 0)
}

// AEAD reports whether the cipher needs no integrity algorithm.
func (s IKE) AEAD() bool { e, _ := encrOf(s.Encr, s.KeyBits); return e.aead }

// KeyLen returns the octets of KEYMAT for one direction: the encryption key with
// its salt, then the integrity key (RFC 7296, Section 2.17). 0 = not valid.
func (s ESP) KeyLen() int {
	e, ok := encrOf(s.Encr, s.KeyBits)
	if !ok || !s.Valid() {
		return 0
	}
	return e.keyLen + integKeyLen(s.Integ)
}

// MinNonce returns the octets both nonces must have at least: half the key size
// of the PRF and never fewer than 16 (RFC 7296, Section 2.10).
func (s IKE) MinNonce() int { return max(wire.MinNonce, PRFSize(s.PRF)/2) }

// encr describes a cipher. Lengths are in octets.
type encr struct {
	keyLen int // key and salt
	salt   int
	iv     int
	icv    int // 0 without an AEAD
	block  int // ciphertext is a multiple of it
	aead   bool
}

// encrOf returns the description of a cipher; ok is false for an ID or key
// length that is not implemented.
func encrOf(id, keyBits uint16) (e encr, ok bool) {
	switch {
	case id == wire.EncrAESGCM16 && (keyBits == 128 || keyBits == 256):
		return encr{keyLen: int(keyBits)/8 + 4, salt: 4, iv: 8, icv: 16, block: 1, aead: true}, true // RFC 5282, RFC 4106
	case id == wire.EncrChaCha20Poly1305 && keyBits == 0:
		return encr{keyLen: 36, salt: 4, iv: 8, icv: 16, block: 1, aead: true}, true // RFC 7634
	case id == wire.EncrAESCBC && (keyBits == 128 || keyBits == 256):
		return encr{keyLen: int(keyBits) / 8, iv: 16, block: 16}, true // RFC 3602
	case id == wire.EncrNull && keyBits == 0:
		return encr{block: 1}, true // RFC 2410; ESP only
	}
	return encr{}, false
}

// integKeyLen returns the key length of an integrity algorithm in octets (RFC
// 4868, Section 2.1.1); the tag is half of it. 0 = not implemented.
func integKeyLen(id uint16) int {
	switch id {
	case wire.IntegHMACSHA256:
		return 32
	case wire.IntegHMACSHA384:
		return 48
	case wire.IntegHMACSHA512:
		return 64
	}
	return 0
}
