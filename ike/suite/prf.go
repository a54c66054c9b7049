package suite

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/btns-go/btns/ike/wire"
)

// prfHash returns the hash of an HMAC-SHA2 PRF (RFC 4868, Section 2.4); nil for
// an ID that is not implemented.
func prfHash(id uint16) func() hash.Hash {
	switch id {
	case wire.PRFHMACSHA256:
		return sha256.New
	case wire.PRFHMACSHA384:
		return sha512.New384
	case wire.PRFHMACSHA512:
		return sha512.New
	}
	return nil
}

// PRFSize returns output and preferred key length of a PRF in octets; 0 for an
// ID that is not implemented.
func PRFSize(id uint16) int {
	switch id {
	case wire.PRFHMACSHA256:
		return 32
	case wire.PRFHMACSHA384:
		return 48
	case wire.PRFHMACSHA512:
		return 64
	}
	return 0
}

// PRF returns prf(key, parts[0] | parts[1] | …), PRFSize octets, or nil for an
// ID that is not implemented.
func PRF(id uint16, key []byte, parts ...[]byte) []byte {
	h := prfHash(id)
	if h == nil {
		return nil
	}
	return prf(h, key, parts...)
}

// PRFPlus returns the first n octets of prf+(key, seed[0] | seed[1] | …) (RFC
// 7296, Section 2.13), or nil for an ID that is not implemented or more than
// 255 times the PRF's output.
func PRFPlus(id uint16, key []byte, n int, seed ...[]byte) Secret {
	h := prfHash(id)
	if h == nil || n < 0 || n > 255*PRFSize(id) {
		return nil
	}
	return prfPlus(h, key, n, seed...)
}

// The functions below take the hash instead of the ID, so that they can be
// tested with vectors for hashes that are not negotiated.

func prf(h func() hash.Hash, key []byte, parts ...[]byte) Secret {
	m := hmac.New(h, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func prfPlus(h func() hash.Hash, key []byte, n int, seed ...[]byte) Secret {
	m := hmac.New(h, key)
	size := m.Size()
	out := make(Secret, 0, (n+size-1)/size*size)
	for i := byte(1); len(out) < n; i++ {
		m.Reset()
		if i > 1 {
			m.Write(out[len(out)-size:])
		}
		for _, s := range seed {
			m.Write(s)
		}
		m.Write([]byte{i})
		out = m.Sum(out)
	}
	return out[:n]
}

// skeyseed is prf(Ni | Nr, g^ir) (RFC 7296, Section 2.14).
func skeyseed(h func() hash.Hash, ni, nr, shared []byte) Secret {
	key := make(Secret, 0, len(ni)+len(nr))
	key = append(append(key, ni...), nr...)
	return prf(h, key, shared)
}

// skeyseedRekey is prf(SK_d (old), g^ir (new) | Ni | Nr) (RFC 7296, Section 2.18).
func skeyseedRekey(h func() hash.Hash, skd, ni, nr, shared []byte) Secret {
	return prf(h, skd, shared, ni, nr)
}

// ikeKeymat is prf+(SKEYSEED, Ni | Nr | SPIi | SPIr) (RFC 7296, Section 2.14).
func ikeKeymat(h func() hash.Hash, seed Secret, n int, ni, nr []byte, spii, spir uint64) Secret {
	var spis [16]byte
	binary.BigEndian.PutUint64(spis[:], spii)
	binary.BigEndian.PutUint64(spis[8:], spir)
	return prfPlus(h, seed, n, ni, nr, spis[:])
}

// childKeymat is prf+(SK_d, [g^ir (new) |] Ni | Nr) (RFC 7296, Section 2.17).
func childKeymat(h func() hash.Hash, skd Secret, n int, ni, nr, shared []byte) Secret {
	return prfPlus(h, skd, n, shared, ni, nr)
}
