package suite

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/btns-go/btns/ike/wire"
)

// mac returns the truncated HMAC over the message without its ICV (RFC 7296,
// Section 3.14; RFC 4868, Section 2.3).
func (p *Protector) mac(msg []byte) []byte {
	var h func() hash.Hash
	switch p.suite.Integ {
	case wire.IntegHMACSHA384:
		h = sha512.New384
	case wire.IntegHMACSHA512:
		h = sha512.New
	default:
		h = sha256.New
	}
	m := hmac.New(h, p.ska)
	m.Write(msg)
	return m.Sum(nil)[:len(p.ska)/2]
}

// sealCBC encrypts body in place and writes the ICV behind it, the end of msg.
func (p *Protector) sealCBC(msg, iv, body []byte) error {
	b, err := aes.NewCipher(p.ske)
	if err != nil {
		return err
	}
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(body, body)
	end := len(msg) - len(p.ska)/2
	copy(msg[end:], p.mac(msg[:end]))
	return nil
}

// openCBC verifies before it decrypts.
func (p *Protector) openCBC(msg, iv, body []byte) ([]byte, error) {
	end := len(msg) - len(p.ska)/2
	if !hmac.Equal(msg[end:], p.mac(msg[:end])) {
		return nil, ErrAuth
	}
	b, err := aes.NewCipher(p.ske)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(body))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, body)
	return plain, nil
}
