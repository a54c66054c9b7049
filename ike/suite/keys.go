package suite

import (
	"errors"
	"fmt"
)

// Keys are the secrets of an IKE SA (RFC 7296, Section 2.14). SKai and SKar are
// empty with an AEAD. SKd has an array of its own, so that it can outlive the
// others; the rest share one.
type Keys struct {
	SKd                                Secret
	SKai, SKar, SKei, SKer, SKpi, SKpr Secret
}

// Zero overwrites all secrets.
func (k *Keys) Zero() {
	for _, s := range []Secret{k.SKd, k.SKai, k.SKar, k.SKei, k.SKer, k.SKpi, k.SKpr} {
		s.Zero()
	}
}

var (
	errSuite  = errors.New("suite: suite is not implemented")
	errNonce  = errors.New("suite: nonce is shorter than half the key of the PRF")
	errShared = errors.New("suite: shared secret is empty")
)

// Derive computes the keys of a new IKE SA (RFC 7296, Section 2.14):
//
//	SKEYSEED = prf(Ni | Nr, g^ir)
//	{SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)
//
// A nonce shorter than s.MinNonce is refused.
func Derive(s IKE, ni, nr, shared []byte, spii, spir uint64) (*Keys, error) {
	if err := checkDerive(s, ni, nr, shared); err != nil {
		return nil, err
	}
	return expand(s, skeyseed(prfHash(s.PRF), ni, nr, shared), ni, nr, spii, spir), nil
}

// DeriveRekey computes the keys of an IKE SA that replaces another (RFC 7296,
// Section 2.18):
//
//	SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr)
//
// with the old SA's PRF; everything after it uses the new one's. SPIs and
// nonces are those of the rekey exchange.
func DeriveRekey(s IKE, oldPRF uint16, oldSKd Secret, ni, nr, shared []byte, spii, spir uint64) (*Keys, error) {
	if err := checkDerive(s, ni, nr, shared); err != nil {
		return nil, err
	}
	if PRFSize(oldPRF) == 0 || len(oldSKd) == 0 {
		return nil, errSuite
	}
	return expand(s, skeyseedRekey(prfHash(oldPRF), oldSKd, ni, nr, shared), ni, nr, spii, spir), nil
}

func checkDerive(s IKE, ni, nr, shared []byte) error {
	switch {
	case !s.Valid():
		return fmt.Errorf("%w: %v", errSuite, s)
	case len(ni) < s.MinNonce() || len(nr) < s.MinNonce(): // ADV-B17
		return errNonce
	case len(shared) == 0:
		return errShared
	}
	return nil
}

// expand runs prf+ over a SKEYSEED, which it overwrites, and cuts the result.
func expand(s IKE, seed Secret, ni, nr []byte, spii, spir uint64) *Keys {
	e, _ := encrOf(s.Encr, s.KeyBits)
	d, a := PRFSize(s.PRF), integKeyLen(s.Integ)
	out := ikeKeymat(prfHash(s.PRF), seed, 3*d+2*a+2*e.keyLen, ni, nr, spii, spir)
	seed.Zero()
	cut := func(n int) Secret {
		part := out[:n:n]
		out = out[n:]
		return part
	}
	k := &Keys{}
	first := cut(d)
	k.SKd = append(Secret(nil), first...)
	first.Zero()
	k.SKai, k.SKar = cut(a), cut(a)
	k.SKei, k.SKer = cut(e.keyLen), cut(e.keyLen)
	k.SKpi, k.SKpr = cut(d), cut(d)
	return k
}

// ChildKeymat returns n octets of KEYMAT for a child SA (RFC 7296, Section
// 2.17): prf+(SK_d, [g^ir (new) |] Ni | Nr). shared is empty without a new key
// exchange; nonces are those of the exchange that makes the child. nil when n is
// more than prf+ yields or the PRF is not implemented.
func ChildKeymat(s IKE, skd Secret, ni, nr, shared []byte, n int) Secret {
	h := prfHash(s.PRF)
	if h == nil || n < 0 || n > 255*PRFSize(s.PRF) {
		return nil
	}
	return childKeymat(h, skd, n, ni, nr, shared)
}

// ChildKeys cuts KEYMAT for the two SAs of a child: first the one that carries
// data from initiator to responder (of the exchange that makes the child), then
// the other (RFC 7296, Section 2.17). Each is the encryption key with its salt
// and then the integrity key.
func ChildKeys(s IKE, child ESP, skd Secret, ni, nr, shared []byte) (itor, rtoi Secret, err error) {
	n := child.KeyLen()
	if n == 0 || PRFSize(s.PRF) == 0 {
		return nil, nil, fmt.Errorf("%w: %v", errSuite, child)
	}
	k := ChildKeymat(s, skd, ni, nr, shared, 2*n)
	return k[:n:n], k[n:], nil
}
