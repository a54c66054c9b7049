package esp

import (
	"fmt"
	"strings"
)

// Encryption transforms (IANA, IKEv2 Transform Type 1).
const (
	EncrNull             uint16 = 11
	EncrAESCBC           uint16 = 12
	EncrAESGCM16         uint16 = 20
	EncrChaCha20Poly1305 uint16 = 28
)

// Integrity transforms (IANA, IKEv2 Transform Type 3).
const (
	IntegNone       uint16 = 0
	IntegSHA256_128 uint16 = 12
	IntegSHA384_192 uint16 = 13
	IntegSHA512_256 uint16 = 14
)

// Suite names the algorithms of an SA by their IKEv2 transform numbers. It is
// comparable. KeyBits is 0 for a cipher whose key has one size only, as on the
// wire (ChaCha20-Poly1305, NULL); Integ is 0 exactly for an AEAD.
type Suite struct {
	Encr    uint16
	KeyBits uint16
	Integ   uint16
}

// suiteNames lists every valid suite once; the first of two names is the one that
// String returns.
func suiteNames() []struct {
	name  string
	suite Suite
} {
	type row = struct {
		name  string
		suite Suite
	}
	rows := []row{
		{"chacha20poly1305", Suite{Encr: EncrChaCha20Poly1305}},
	}
	for _, bits := range []uint16{128, 192, 256} {
		gcm := Suite{Encr: EncrAESGCM16, KeyBits: bits}
		rows = append(rows, row{fmt.Sprintf("aes%dgcm16", bits), gcm}, row{fmt.Sprintf("aes%dgcm128", bits), gcm})
	}
	for _, integ := range []struct {
		name, alias string
		id          uint16
	}{
		{"sha256", "sha2_256", IntegSHA256_128},
		{"sha384", "sha2_384", IntegSHA384_192},
		{"sha512", "sha2_512", IntegSHA512_256},
	} {
		for _, n := range []string{integ.name, integ.alias} {
			for _, bits := range []uint16{128, 192, 256} {
				rows = append(rows, row{fmt.Sprintf("aes%d-%s", bits, n), Suite{Encr: EncrAESCBC, KeyBits: bits, Integ: integ.id}})
			}
			rows = append(rows, row{"null-" + n, Suite{Encr: EncrNull, Integ: integ.id}})
		}
	}
	return rows
}

// String returns the suite's name in strongSwan's words, such as "aes256gcm16",
// "chacha20poly1305", "aes128-sha256" or "null-sha512".
func (s Suite) String() string {
	switch s { // those in daily use, without allocating
	case Suite{Encr: EncrAESGCM16, KeyBits: 128}:
		return "aes128gcm16"
	case Suite{Encr: EncrAESGCM16, KeyBits: 256}:
		return "aes256gcm16"
	case Suite{Encr: EncrChaCha20Poly1305}:
		return "chacha20poly1305"
	}
	for _, r := range suiteNames() {
		if r.suite == s {
			return r.name
		}
	}
	return fmt.Sprintf("suite(%d,%d,%d)", s.Encr, s.KeyBits, s.Integ)
}

// ParseSuite is the inverse of String. It knows strongSwan's aliases
// ("aes256gcm128", "sha2_256"), and takes no notice of case.
func ParseSuite(name string) (Suite, error) {
	low := strings.ToLower(strings.TrimSpace(name))
	for _, r := range suiteNames() {
		if r.name == low {
			return r.suite, nil
		}
	}
	return Suite{}, fmt.Errorf("esp: unknown suite %q", name)
}

// AEAD reports whether one algorithm does both encryption and integrity.
func (s Suite) AEAD() bool { return s.Encr == EncrAESGCM16 || s.Encr == EncrChaCha20Poly1305 }

// Confidential reports whether the payload is encrypted.
func (s Suite) Confidential() bool { return s.Encr != EncrNull && s.Valid() == nil }

// Valid returns nil if the package implements s.
func (s Suite) Valid() error {
	aes := s.KeyBits == 128 || s.KeyBits == 192 || s.KeyBits == 256
	hmac := s.Integ >= IntegSHA256_128 && s.Integ <= IntegSHA512_256
	var ok bool
	switch s.Encr {
	case EncrAESGCM16:
		ok = aes && s.Integ == IntegNone
	case EncrChaCha20Poly1305:
		ok = s.KeyBits == 0 && s.Integ == IntegNone
	case EncrAESCBC:
		ok = aes && hmac
	case EncrNull:
		ok = s.KeyBits == 0 && hmac // RFC 4303, Section 3.2: never NULL with NONE
	}
	if !ok {
		return fmt.Errorf("esp: no such suite: encr %d, key bits %d, integ %d", s.Encr, s.KeyBits, s.Integ)
	}
	return nil
}

// KeyLen returns the octets of keying material that one direction takes: key and
// salt, or key and integrity key. It returns 0 for an invalid suite.
func (s Suite) KeyLen() int {
	if s.Valid() != nil {
		return 0
	}
	return s.encrKeyLen() + s.saltLen() + s.integKeyLen()
}

func (s Suite) encrKeyLen() int {
	if s.Encr == EncrChaCha20Poly1305 {
		return 32
	}
	return int(s.KeyBits) / 8
}

func (s Suite) saltLen() int {
	if s.AEAD() {
		return saltLen
	}
	return 0
}

// integKeyLen returns the length of the HMAC key: the hash's output (RFC 4868,
// Section 2.1.1).
func (s Suite) integKeyLen() int {
	switch s.Integ {
	case IntegSHA256_128:
		return 32
	case IntegSHA384_192:
		return 48
	case IntegSHA512_256:
		return 64
	}
	return 0
}

func (s Suite) ivLen() int {
	switch s.Encr {
	case EncrAESGCM16, EncrChaCha20Poly1305:
		return aeadIVLen
	case EncrAESCBC:
		return cbcBlock
	}
	return 0
}

// icvLen returns the octets of the ICV; HMAC is truncated to half of its output
// (RFC 4868, Section 2.1).
func (s Suite) icvLen() int {
	if s.AEAD() {
		return aeadICVLen
	}
	return s.integKeyLen() / 2
}

// align returns what payload, padding and trailer must fill whole multiples of.
func (s Suite) align() int {
	if s.Encr == EncrAESCBC {
		return cbcBlock
	}
	return wordAlign
}

// overhead returns what ESP adds to a payload of that length.
func (s Suite) overhead(payload int) int {
	pad := -(payload + trailerLen) & (s.align() - 1)
	return headerLen + s.ivLen() + pad + trailerLen + s.icvLen()
}
