package suite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btns-go/btns/ike/wire"
)

// ErrAuth says that a protected message is not the peer's: too short, not a
// whole number of blocks, or its ICV is wrong. It is to be dropped (RFC 7296,
// Section 2.21).
var ErrAuth = errors.New("suite: message does not authenticate")

// ErrExhausted says that a Protector has used up its IVs.
var ErrExhausted = errors.New("suite: IV counter is exhausted")

// Protector seals or opens the messages of one direction of an IKE SA.
type Protector struct {
	suite IKE
	sent  uint64 // AEAD messages sealed so far; the IV of the next is one more
	ske   Secret // key and salt
	ska   Secret // integrity key; empty with an AEAD
}

// NewProtector makes the protector of one direction from SK_e and SK_a of that
// direction, of which it keeps copies.
func NewProtector(s IKE, ske, ska Secret) (*Protector, error) {
	e, ok := encrOf(s.Encr, s.KeyBits)
	if !ok || !s.Valid() {
		return nil, fmt.Errorf("%w: %v", errSuite, s)
	}
	if len(ske) != e.keyLen || len(ska) != integKeyLen(s.Integ) {
		return nil, errors.New("suite: key length does not fit the suite")
	}
	k := make(Secret, 0, len(ske)+len(ska))
	k = append(append(k, ske...), ska...)
	return &Protector{suite: s, ske: k[:len(ske):len(ske)], ska: k[len(ske):]}, nil
}

// Zero overwrites the keys. The Protector must not be used afterwards.
func (p *Protector) Zero() { p.ske.Zero(); p.ska.Zero() }

// Format keeps the keys out of logs, whatever the verb.
func (p Protector) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, p.suite.String()+" "+redacted)
}

// Overhead returns the octets that sealing adds to n octets of payloads: header,
// SK payload header, IV, padding and ICV.
func (p *Protector) Overhead(n int) int {
	e, _ := encrOf(p.suite.Encr, p.suite.KeyBits)
	return wire.HeaderLen + 4 + e.iv + padding(n, e.block) + 1 + p.icv(e)
}

func (p *Protector) icv(e encr) int { return e.icv + integKeyLen(p.suite.Integ)/2 }

// padding returns the pad octets that bring n octets and the pad length octet to
// a multiple of block (RFC 7296, Section 3.14).
func padding(n, block int) int { return (block - (n+1)%block) % block }

// SealMessage returns the datagram that carries inner, a chain of payloads whose
// first type is first, in one SK payload: header, SK, ICV. Next and Length of h
// are set here. rand is read for the IV of CBC only. inner is not kept.
func (p *Protector) SealMessage(h wire.Header, first wire.PayloadType, inner []byte, rand io.Reader) ([]byte, error) {
	h.Next = wire.PayloadEncrypted
	return p.seal(h, first, nil, inner, rand)
}

// SealFragment is SealMessage for fragment num of total (RFC 7383, Section
// 2.5). first is the type of the first payload in fragment 1 and PayloadNone in
// the others.
func (p *Protector) SealFragment(h wire.Header, first wire.PayloadType, num, total uint16, inner []byte, rand io.Reader) ([]byte, error) {
	h.Next = wire.PayloadEncryptedFragment
	var f [4]byte
	binary.BigEndian.PutUint16(f[:], num)
	binary.BigEndian.PutUint16(f[2:], total)
	return p.seal(h, first, f[:], inner, rand)
}

// OpenMessage authenticates and decrypts the SK payload enc of datagram, as
// wire.Parse returned it, and returns the payloads inside in a slice of their
// own. datagram is not changed. The error is ErrAuth, or a *wire.ParseError for
// a message that does authenticate but is padded wrongly (ADV-D4).
func (p *Protector) OpenMessage(datagram []byte, enc *wire.Encrypted) ([]byte, error) {
	return p.open(wire.PayloadEncrypted, datagram, enc.Off, enc.Body)
}

// OpenFragment is OpenMessage for one fragment.
func (p *Protector) OpenFragment(datagram []byte, f *wire.EncryptedFragment) ([]byte, error) {
	return p.open(wire.PayloadEncryptedFragment, datagram, f.Off, f.Body)
}

// seal lays out header, generic payload header, extra, IV, inner, padding and
// room for the ICV, and closes it in place.
func (p *Protector) seal(h wire.Header, first wire.PayloadType, extra, inner []byte, rand io.Reader) ([]byte, error) {
	e, _ := encrOf(p.suite.Encr, p.suite.KeyBits)
	pad, icv := padding(len(inner), e.block), p.icv(e)
	aad := wire.HeaderLen + 4 + len(extra)
	total := aad + e.iv + len(inner) + pad + 1 + icv
	if total > wire.MaxMessage {
		return nil, fmt.Errorf("suite: message of %d octets is longer than %d", total, wire.MaxMessage)
	}
	h.Length = uint32(total)
	b := h.Append(make([]byte, 0, total))
	b = append(b, byte(first), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(total-wire.HeaderLen))
	b = append(b, extra...)
	b = b[:total]
	iv := b[aad : aad+e.iv]
	body := b[aad+e.iv : total-icv]
	copy(body, inner)
	body[len(body)-1] = byte(pad)
	if e.aead {
		// RFC 5282, Section 3.1: a counter of our own makes (key, IV) unique.
		if p.sent == 1<<64-1 {
			return nil, ErrExhausted
		}
		p.sent++
		binary.BigEndian.PutUint64(iv, p.sent)
		return b, p.sealAEAD(b[:aad], iv, body)
	}
	// RFC 3602, Section 3: the IV is unpredictable.
	if rand == nil {
		return nil, errors.New("suite: CBC needs a random source")
	}
	if _, err := io.ReadFull(rand, iv); err != nil {
		return nil, fmt.Errorf("suite: random source: %w", err)
	}
	return b, p.sealCBC(b, iv, body)
}

// open is the reverse of seal. off is where the IV starts.
func (p *Protector) open(t wire.PayloadType, b []byte, off int, enc []byte) ([]byte, error) {
	e, _ := encrOf(p.suite.Encr, p.suite.KeyBits)
	icv := p.icv(e)
	n := len(enc) - e.iv - icv
	// At least the pad length octet must be there, in whole blocks (ADV-D3).
	// That the body ends the datagram is wire.Parse's promise; a caller who
	// breaks it gets a refusal.
	if n < 1 || n%e.block != 0 || off < wire.HeaderLen || off+len(enc) != len(b) {
		return nil, ErrAuth
	}
	var plain []byte
	var err error
	if e.aead {
		plain, err = p.openAEAD(b[:off], enc[:e.iv], enc[e.iv:])
	} else {
		plain, err = p.openCBC(b, enc[:e.iv], enc[e.iv:e.iv+n])
	}
	if err != nil {
		return nil, err
	}
	// RFC 7296, Section 3.14: pad octets may have any value.
	pad := int(plain[n-1])
	if pad > n-1 {
		return nil, &wire.ParseError{Payload: t, Off: off, Why: "padding longer than the content", Code: wire.NotifyInvalidSyntax}
	}
	return plain[: n-1-pad : n-1-pad], nil
}
