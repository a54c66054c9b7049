package iketest

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"slices"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// Credentials are what one end proves itself with and checks the other by.
type Credentials struct {
	// Secret authenticates with a shared key; Key, if not nil, with a signature and a
	// bare key instead.
	Secret auth.PSK
	Key    crypto.Signer
	// Trust are the peers' bare keys that are accepted; nil accepts any (BTNS).
	Trust [][]byte
}

// Answer answers the Work that is cryptography, with private keys from rand. It returns nil
// for what is left to policy.
func (c *Credentials) Answer(w ike.Work, rand io.Reader) ike.WorkResult {
	switch w := w.(type) {
	case *ike.WorkKE:
		return exchange(w, rand)
	case *ike.WorkSign:
		return c.sign(w)
	case *ike.WorkVerify:
		err := c.verify(w)
		return &ike.VerifyResult{OK: err == nil, Err: err, Peer: w.AssertedID.String()}
	}
	return nil
}

func exchange(w *ike.WorkKE, rand io.Reader) *ike.KEResult {
	r := &ike.KEResult{Key: w.Key}
	if r.Key == nil {
		r.Key, r.Err = suite.GenerateKE(w.Group, rand)
	}
	if r.Err == nil && w.Peer != nil {
		r.Shared, r.Err = r.Key.Shared(w.Peer)
	}
	return r
}

func (c *Credentials) sign(w *ike.WorkSign) *ike.SignResult {
	if w.Local.Method == wire.AuthMethodPSK {
		data, err := auth.PSKAuth(w.PRF, c.Secret, w.Octets)
		return &ike.SignResult{Auth: wire.Auth{Method: wire.AuthMethodPSK, Data: data}, Err: err}
	}
	a, err := auth.Sign(c.Key, w.Octets, w.PeerHashes)
	return &ike.SignResult{Auth: a, Err: err}
}

func (c *Credentials) verify(w *ike.WorkVerify) error {
	switch {
	case c.Key == nil:
		return auth.VerifyPSK(w.PRF, c.Secret, &w.Auth, w.Octets)
	case w.SPKI == nil:
		return errors.New("no bare key")
	case c.Trust != nil && !slices.ContainsFunc(c.Trust, func(k []byte) bool { return bytes.Equal(k, w.SPKI) }):
		return errors.New("key is not trusted")
	}
	return auth.VerifySPKI(w.SPKI, &w.Auth, w.Octets, auth.Rules{})
}
