package iketest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// This file closes and opens SK and SKF payloads a second time; see octets.go.

// closer is one direction of an IKE SA.
type closer struct {
	aead  cipher.AEAD // RFC 5282
	salt  []byte
	block cipher.Block // CBC, with
	mac   func() hash.Hash
	key   []byte
	icv   int // in octets
}

// newCloser reads the keys with which an end in a role sends.
func newCloser(k *ike.IKEKeys, role ike.Role) (*closer, error) {
	e, a := []byte(k.SKei), []byte(k.SKai)
	if role == ike.Responder {
		e, a = k.SKer, k.SKar
	}
	c := &closer{key: a}
	var err error
	switch k.Suite.Encr { // RFC 7296, Section 3.3.2; RFC 5282; RFC 7634
	case 20: // ENCR_AES_GCM_16
		c.icv, c.salt = 16, e[len(e)-4:]
		if c.block, err = aes.NewCipher(e[:len(e)-4]); err == nil {
			c.aead, err = cipher.NewGCM(c.block)
		}
	case 28: // ENCR_CHACHA20_POLY1305
		c.icv, c.salt = 16, e[len(e)-4:]
		c.aead, err = chacha20poly1305.New(e[:len(e)-4])
	case 12: // ENCR_AES_CBC
		switch k.Suite.Integ { // RFC 4868: half of the hash
		case 12:
			c.mac, c.icv = sha256.New, 16
		case 13:
			c.mac, c.icv = sha512.New384, 24
		case 14:
			c.mac, c.icv = sha512.New, 32
		default:
			return nil, errors.New("no such integrity algorithm")
		}
		c.block, err = aes.NewCipher(e)
	default:
		return nil, errors.New("no such cipher")
	}
	return c, err
}

// close makes the datagram of Figure 21 of RFC 7296; with the numbers of a fragment, that of
// Figure 2 of RFC 7383. Of iv the first eight or sixteen octets are used.
func (c *closer) close(h wire.Header, first wire.PayloadType, fragment, inner, iv []byte) []byte {
	pad := 0
	if c.aead == nil {
		pad = (16 - (len(inner)+1)%16) % 16
	}
	return c.seal(h, first, fragment, grow(nil, inner, zero(pad), uint8(pad)), iv)
}

// seal is close for a text with its padding, whatever that is.
func (c *closer) seal(h wire.Header, first wire.PayloadType, fragment, text, iv []byte) []byte {
	kind, size := wire.PayloadType(46), 8
	if len(fragment) > 0 {
		kind = 53
	}
	if c.aead == nil {
		size = 16
	}
	n := 4 + len(fragment) + size + len(text) + c.icv
	b := grow(headed(h, kind, n), uint8(first), uint8(0), uint16(n), fragment)
	if c.aead != nil {
		return c.aead.Seal(grow(bytes.Clone(b), iv[:8]), grow(nil, c.salt, iv[:8]), text, b)
	}
	b = grow(b, iv[:16], text)
	text = b[len(b)-len(text):]
	cipher.NewCBCEncrypter(c.block, iv[:16]).CryptBlocks(text, text)
	return grow(b, c.sum(b))
}

func (c *closer) sum(b []byte) []byte {
	m := hmac.New(c.mac, c.key)
	m.Write(b)
	return m.Sum(nil)[:c.icv]
}

var errClosed = errors.New("does not open")

// open is the reverse, of a datagram with nothing but an SK or SKF payload.
func (c *closer) open(b []byte) (first wire.PayloadType, fragment, inner, iv []byte, err error) {
	at, size := 32, 8
	if b[16] == 53 {
		at = 36
	}
	if c.aead == nil {
		size = 16
	}
	end := len(b) - c.icv
	if (b[16] != 46 && b[16] != 53) || end < at+size+1 {
		return 0, nil, nil, nil, errClosed
	}
	first, fragment, iv = wire.PayloadType(b[28]), b[32:at], b[at:at+size]
	var text []byte
	if c.aead != nil {
		if text, err = c.aead.Open(nil, grow(nil, c.salt, iv), b[at+size:], b[:at]); err != nil {
			return 0, nil, nil, nil, errClosed
		}
	} else {
		if (end-at)%16 != 0 || !hmac.Equal(c.sum(b[:end]), b[end:]) {
			return 0, nil, nil, nil, errClosed
		}
		text = zero(end - at - size)
		cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(text, b[at+size:end])
	}
	pad := int(text[len(text)-1])
	if pad >= len(text) {
		return 0, nil, nil, nil, errClosed
	}
	return first, fragment, text[:len(text)-1-pad], iv, nil
}
