package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// maxIdle bounds the idle contexts that one SA keeps: more than that many calls
// at once are rare, and cost an allocation each.
const maxIdle = 16

// etm is AES-CBC or NULL followed by HMAC-SHA2 over the result (RFC 4303,
// Section 3.3.2). The standard library's CBC and HMAC objects carry state, so each
// call takes a context of its own from the free list.
type etm struct {
	suite Suite
	block cipher.Block // nil for NULL
	iv    cipher.Block // outbound CBC: counter → unpredictable IV

	mu   sync.Mutex
	key  []byte // HMAC key; nil once closed
	idle []*etmContext
}

// cbcMode is what the standard library's CBC modes also offer.
type cbcMode interface {
	cipher.BlockMode
	SetIV([]byte)
}

type etmContext struct {
	enc, dec cbcMode // nil for NULL
	mac      hash.Hash
}

func newETM(c *Config, key, integ []byte, outbound bool) (*etm, error) {
	e := &etm{suite: c.Suite, key: append([]byte(nil), integ...), idle: make([]*etmContext, 0, maxIdle)}
	if c.Suite.Encr == EncrAESCBC {
		var err error
		if e.block, err = aes.NewCipher(key); err != nil {
			return nil, err
		}
		if outbound {
			if e.iv, err = newIVCipher(c.Rand); err != nil {
				return nil, err
			}
		}
	}
	x, err := e.newContext()
	if err != nil {
		return nil, err
	}
	e.idle = append(e.idle, x)
	return e, nil
}

// newIVCipher returns a block cipher under a fresh random key. The sequence number
// encrypted with it is the IV: unique and unpredictable (RFC 3602, Section 3),
// without reading randomness per packet. The key differs from the SA's, so that an
// IV tells nothing about how the SA encrypts any block.
func newIVCipher(random io.Reader) (cipher.Block, error) {
	if random == nil {
		random = rand.Reader
	}
	var key [16]byte
	defer clear(key[:])
	if _, err := io.ReadFull(random, key[:]); err != nil {
		return nil, fmt.Errorf("esp: key for IVs: %w", err)
	}
	return aes.NewCipher(key[:])
}

func (e *etm) newContext() (*etmContext, error) {
	x := new(etmContext)
	if e.block != nil {
		var zero [cbcBlock]byte
		var ok1, ok2 bool
		x.enc, ok1 = cipher.NewCBCEncrypter(e.block, zero[:]).(cbcMode)
		x.dec, ok2 = cipher.NewCBCDecrypter(e.block, zero[:]).(cbcMode)
		if !ok1 || !ok2 {
			return nil, errors.New("esp: this crypto/cipher has no reusable CBC")
		}
	}
	switch e.suite.Integ {
	case IntegSHA256_128:
		x.mac = hmac.New(sha256.New, e.key)
	case IntegSHA384_192:
		x.mac = hmac.New(sha512.New384, e.key)
	default:
		x.mac = hmac.New(sha512.New, e.key)
	}
	x.mac.Reset() // from here on the padded keys are kept hashed
	return x, nil
}

// get returns a context, nil if the SA was closed. put gives it back.
func (e *etm) get() *etmContext {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.key == nil {
		return nil
	}
	if n := len(e.idle); n > 0 {
		x := e.idle[n-1]
		e.idle = e.idle[:n-1]
		return x
	}
	x, err := e.newContext()
	if err != nil {
		return nil // not reached: the first one was made by newETM
	}
	return x
}

func (e *etm) put(x *etmContext) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.key != nil && len(e.idle) < maxIdle {
		e.idle = append(e.idle, x)
	}
}

func (e *etm) zero() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.key)
	e.key = nil
	clear(e.idle)
	e.idle = nil
}

// sealETM is seal for the suites of this file.
func (st *crypt) sealETM(w *Worker, x *etmContext, p *Packet, n int, seq uint64) {
	s := &st.etm.suite
	head, icv := headerLen+s.ivLen(), s.icvLen()
	end := p.Off + n + icv
	b := p.Buf[p.Off-head : end : end]
	binary.BigEndian.PutUint32(b[0:4], st.spi)
	binary.BigEndian.PutUint32(b[4:8], uint32(seq))
	body := b[head : head+n]
	if x.enc != nil {
		clear(w.mac[:cbcBlock])
		binary.BigEndian.PutUint64(w.mac[8:16], seq)
		st.etm.iv.Encrypt(b[headerLen:head], w.mac[:cbcBlock])
		x.enc.SetIV(b[headerLen:head])
		x.enc.CryptBlocks(body, body)
	}
	copy(b[head+n:], st.sum(w, x, b[:head+n], seq))
	p.Off -= head
	p.Len = len(b)
	p.seq = seq
}

// openETM verifies the ICV and only then decrypts (RFC 4303, Section 3.4.4.1). The
// length was checked.
func (st *crypt) openETM(w *Worker, x *etmContext, p *Packet) ([]byte, bool) {
	s := &st.etm.suite
	head, icv := headerLen+s.ivLen(), s.icvLen()
	b := p.Buf[p.Off : p.Off+p.Len : p.Off+p.Len]
	end := len(b) - icv
	sum := st.sum(w, x, b[:end], p.seq)
	if subtle.ConstantTimeCompare(sum[:icv], b[end:]) != 1 {
		return nil, false
	}
	plain := b[head:end:end]
	if x.dec != nil {
		x.dec.SetIV(b[headerLen:head])
		x.dec.CryptBlocks(plain, plain)
	}
	return plain, true
}

// sum returns the ICV of b in w.mac. With extended sequence numbers the high half
// is covered behind the packet without being sent (RFC 4303, Section 2.2.1).
func (st *crypt) sum(w *Worker, x *etmContext, b []byte, seq uint64) []byte {
	x.mac.Reset()
	_, _ = x.mac.Write(b) // a hash never fails
	if st.esn {
		binary.BigEndian.PutUint32(w.aad[:4], uint32(seq>>32))
		_, _ = x.mac.Write(w.aad[:4])
	}
	return x.mac.Sum(w.mac[:0])[:st.etm.suite.icvLen()]
}
