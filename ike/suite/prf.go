package suite

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
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
	m := hmac.New(h, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// PRFPlus returns the first n octets of prf+(key, seed[0] | seed[1] | …) (RFC
// 7296, Section 2.13), or nil for an ID that is not implemented or more than
// 255 times the PRF's output.
func PRFPlus(id uint16, key []byte, n int, seed ...[]byte) Secret {
	h, size := prfHash(id), PRFSize(id)
	if h == nil || n < 0 || n > 255*size {
		return nil
	}
	m := hmac.New(h, key)
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
