package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/btns-go/btns/ike/wire"
)

// computePRF is prf(key, data) of RFC 7296, Section 2.13, for the HMAC-SHA2 family (RFC 4868).
func computePRF(id uint16, key, data []byte) ([]byte, error) {
	var h func() hash.Hash
	switch id {
	case wire.PRFHMACSHA256:
		h = sha256.New
	case wire.PRFHMACSHA384:
		h = sha512.New384
	case wire.PRFHMACSHA512:
		h = sha512.New
	default:
		return nil, fmt.Errorf("auth: PRF %d is not implemented", id)
	}
	m := hmac.New(h, key)
	m.Write(data)
	return m.Sum(nil), nil
}
