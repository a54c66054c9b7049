package suite

import (
	"crypto/aes"
	"crypto/cipher"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-go/btns/ike/wire"
)

const (
	aeadSalt  = 4
	aeadNonce = 12 // salt, then the IV of the message (RFC 5282, Section 4; RFC 7634, Section 2)
)

// aead expands the key. It is not kept: see the package comment.
func (p *Protector) aead() (cipher.AEAD, error) {
	key := p.ske[:len(p.ske)-aeadSalt]
	if p.suite.Encr == wire.EncrChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func (p *Protector) nonce(iv []byte) (n [aeadNonce]byte) {
	copy(n[:], p.ske[len(p.ske)-aeadSalt:])
	copy(n[aeadSalt:], iv)
	return n
}

// sealAEAD encrypts body in place and appends the tag to it, for which there is
// room. Associated data is everything before the IV (RFC 5282, Section 5.1).
func (p *Protector) sealAEAD(aad, iv, body []byte) error {
	a, err := p.aead()
	if err != nil {
		return err
	}
	n := p.nonce(iv)
	a.Seal(body[:0], n[:], body, aad)
	return nil
}

func (p *Protector) openAEAD(aad, iv, sealed []byte) ([]byte, error) {
	a, err := p.aead()
	if err != nil {
		return nil, err
	}
	n := p.nonce(iv)
	plain, err := a.Open(make([]byte, 0, len(sealed)), n[:], sealed, aad)
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}
