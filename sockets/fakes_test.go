package sockets

import (
	"crypto"
	"errors"
	"io"
	"testing"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/tokens"
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pub(k crypto.Signer) []crypto.PublicKey { return []crypto.PublicKey{k.Public()} }

// badSigner is a key whose holder does not answer any more.
type badSigner struct{ crypto.Signer }

func (badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was removed")
}

// demanding is a template that takes nothing but these suites.
func demanding(t testing.TB, suites ...string) *tokens.PToken {
	t.Helper()
	p := new(tokens.PToken)
	if err := p.SetSuites(suites...); err != nil {
		t.Fatal(err)
	}
	return p
}
