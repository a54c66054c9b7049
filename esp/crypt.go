package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

// crypt is the immutable cipher state of one direction, unlinked by Zero. Exactly
// one of aead and etm is set.
type crypt struct {
	spi  uint32
	esn  bool
	salt [saltLen]byte
	aead cipher.AEAD
	etm  *etm
}

func newCrypt(c *Config, outbound bool) (*crypt, error) {
	st := &crypt{spi: c.SPI, esn: c.ESN}
	n := c.Suite.encrKeyLen()
	key, rest := c.Key[:n], c.Key[n:]
	var err error
	switch c.Suite.Encr {
	case EncrAESGCM16:
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			st.aead, err = cipher.NewGCM(block)
		}
		copy(st.salt[:], rest)
	case EncrChaCha20Poly1305:
		st.aead, err = chacha20poly1305.New(key)
		copy(st.salt[:], rest)
	default:
		st.etm, err = newETM(c, key, rest, outbound)
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

// aad builds the additional data, SPI and sequence number: 32 bits of it or,
// extended, all 64 (RFC 4106, Section 5; RFC 7634, Section 2.1).
func (st *crypt) aad(w *Worker, seq uint64) []byte {
	binary.BigEndian.PutUint32(w.aad[:4], st.spi)
	if st.esn {
		binary.BigEndian.PutUint64(w.aad[4:12], seq)
		return w.aad[:12]
	}
	binary.BigEndian.PutUint32(w.aad[4:8], uint32(seq))
	return w.aad[:8]
}

// seal seals one packet under the given sequence number and IV. The n octets at
// p.Off end with the trailer, and there is room for the rest.
func (st *crypt) seal(w *Worker, p *Packet, n int, seq, iv uint64) {
	const head = headerLen + aeadIVLen
	end := p.Off + n + aeadICVLen
	b := p.Buf[p.Off-head : end : end]
	binary.BigEndian.PutUint32(b[0:4], st.spi)
	binary.BigEndian.PutUint32(b[4:8], uint32(seq))
	binary.BigEndian.PutUint64(b[8:16], iv)
	binary.BigEndian.PutUint64(w.nonce[saltLen:], iv)
	st.aead.Seal(b[head:head], w.nonce[:], b[head:head+n], st.aad(w, seq))
	p.Off -= head
	p.Len = len(b)
	p.seq = seq
}

// open authenticates and decrypts one packet whose length was checked and returns
// the plaintext with its trailer.
func (st *crypt) open(w *Worker, p *Packet) ([]byte, bool) {
	const head = headerLen + aeadIVLen
	b := p.Buf[p.Off : p.Off+p.Len : p.Off+p.Len]
	copy(w.nonce[saltLen:], b[headerLen:head])
	plain, err := st.aead.Open(b[head:head], w.nonce[:], b[head:], st.aad(w, p.seq))
	return plain, err == nil
}

// putTrailer fills t, which ends with pad length and next header: padding is
// 1, 2, 3 … (RFC 4303, Section 2.4).
func putTrailer(t []byte, next uint8) {
	pad := len(t) - trailerLen
	for i := range pad {
		t[i] = byte(i + 1)
	}
	t[pad] = byte(pad)
	t[pad+1] = next
}
