package auth

import (
	"bytes"
	"crypto"

	"github.com/btns-go/btns/ike/wire"
)

// scheme is a family of signatures.
type scheme uint8

const (
	schemeNone scheme = iota
	schemeEd25519
	schemeECDSA
	schemePKCS1
	schemePSS
)

// algorithm is what an AlgorithmIdentifier says.
type algorithm struct {
	scheme scheme
	hash   uint16 // IANA IKEv2 hash algorithm
}

// AlgorithmIdentifiers in DER: RFC 7427, Appendix A, and RFC 8420, Appendix A.1.
const (
	derEd25519 = "\x30\x05\x06\x03\x2b\x65\x70"

	derECDSASHA1   = "\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01"
	derECDSASHA256 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	derECDSASHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	derECDSASHA512 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"

	derRSASHA1   = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00"
	derRSASHA256 = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
	derRSASHA384 = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00"
	derRSASHA512 = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00"

	// The same without parameters: RFC 4055, Section 5: "Implementations MUST accept the
	// parameters being absent as well as present."
	derRSASHA256Bare = "\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	derRSASHA384Bare = "\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	derRSASHA512Bare = "\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"

	// RSASSA-PSS with the default parameters, which are SHA-1's: spelled as nothing and in full
	// (RFC 7427, Appendices A.4.1 and A.4.2).
	derPSSEmpty = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00"
	derPSSSHA1  = "\x30\x3e\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x31\xa0" +
		"\x0b\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\xa1\x18\x30\x16" +
		"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x09\x06\x05\x2b" +
		"\x0e\x03\x02\x1a\x05\x00\xa2\x03\x02\x01\x14\xa3\x03\x02\x01\x01"
)

// parseAlgorithm recognises an AlgorithmIdentifier by comparing octets (RFC 7427, Section 3
// allows exactly that). The zero algorithm stands for one that is not known.
func parseAlgorithm(der []byte) algorithm {
	switch string(der) {
	case derEd25519:
		return algorithm{schemeEd25519, wire.HashIdentity}
	case derECDSASHA1:
		return algorithm{schemeECDSA, wire.HashSHA1}
	case derECDSASHA256:
		return algorithm{schemeECDSA, wire.HashSHA256}
	case derECDSASHA384:
		return algorithm{schemeECDSA, wire.HashSHA384}
	case derECDSASHA512:
		return algorithm{schemeECDSA, wire.HashSHA512}
	case derRSASHA1:
		return algorithm{schemePKCS1, wire.HashSHA1}
	case derRSASHA256, derRSASHA256Bare:
		return algorithm{schemePKCS1, wire.HashSHA256}
	case derRSASHA384, derRSASHA384Bare:
		return algorithm{schemePKCS1, wire.HashSHA384}
	case derRSASHA512, derRSASHA512Bare:
		return algorithm{schemePKCS1, wire.HashSHA512}
	case derPSSEmpty, derPSSSHA1:
		return algorithm{schemePSS, wire.HashSHA1}
	}
	for _, hash := range []uint16{wire.HashSHA256, wire.HashSHA384, wire.HashSHA512} {
		for form := range pssForms {
			if bytes.Equal(der, derPSS(hash, form)) {
				return algorithm{schemePSS, hash}
			}
		}
	}
	return algorithm{}
}

// pssForms counts the encodings of one set of PSS parameters that are about: with and without
// NULL in either hash identifier (RFC 4055, Section 2.1 wants both accepted), with and without
// the trailer field, which is a default that DER omits and RFC 7427, Appendix A.4.3 spells out.
const pssForms = 8

const (
	pssHashAbsent = 1 << iota // no NULL in hashAlgorithm
	pssMaskAbsent             // no NULL in the hash of maskGenAlgorithm
	pssNoTrailer              // no trailerField
)

// derPSS returns the AlgorithmIdentifier of RSASSA-PSS (RFC 4055, Section 3.1) with hash for
// the message and for MGF1, and a salt as long as the hash, which RFC 4055 recommends and which
// every IKE peer uses. Form 0 is RFC 7427, Appendix A.4.3.
func derPSS(hash uint16, form int) []byte {
	sha := func(absent bool) []byte {
		oid := []byte{0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, byte(hash) - 1}
		if !absent {
			oid = append(oid, 0x05, 0x00)
		}
		return der(0x30, oid)
	}
	mgf1 := []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08")
	params := der(0xa0, sha(form&pssHashAbsent != 0))
	params = append(params, der(0xa1, der(0x30, append(mgf1, sha(form&pssMaskAbsent != 0)...)))...)
	params = append(params, der(0xa2, []byte{0x02, 0x01, byte(cryptoHash(hash).Size())})...)
	if form&pssNoTrailer == 0 {
		params = append(params, der(0xa3, []byte{0x02, 0x01, 0x01})...)
	}
	oid := []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a")
	return der(0x30, append(oid, der(0x30, params)...))
}

// der wraps content of fewer than 128 octets in a DER element.
func der(tag byte, content []byte) []byte {
	return append([]byte{tag, byte(len(content))}, content...)
}

// cryptoHash maps an IANA hash to the library's. Identity and what is too weak or unknown map to
// zero.
func cryptoHash(id uint16) crypto.Hash {
	switch id {
	case wire.HashSHA256:
		return crypto.SHA256
	case wire.HashSHA384:
		return crypto.SHA384
	case wire.HashSHA512:
		return crypto.SHA512
	}
	return 0
}

// Hashes returns what this package verifies, as SIGNATURE_HASH_ALGORITHMS announces it (RFC 7427,
// Section 4). Identity stands for Ed25519 (RFC 8420, Section 2).
func Hashes() []uint16 {
	return []uint16{wire.HashIdentity, wire.HashSHA256, wire.HashSHA384, wire.HashSHA512}
}
