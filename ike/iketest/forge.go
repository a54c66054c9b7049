package iketest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// Opened is a protected message with its inside open.
type Opened struct {
	From     *End
	Header   wire.Header
	Payloads []wire.Payload // inside SK
	// Raw, if not nil, is sealed instead of Payloads, as a chain that starts with First.
	Raw   []byte
	First wire.PayloadType
	// Padded says that Raw ends in padding, pad length octet and all.
	Padded bool
}

// Kind is the exchange and the direction, for switches: "IKE_AUTH request".
func (o *Opened) Kind() string {
	if o.Header.Flags.Response() {
		return o.Header.Exchange.String() + " response"
	}
	return o.Header.Exchange.String() + " request"
}

// Drop removes all payloads of a type and reports whether there was one.
func (o *Opened) Drop(t wire.PayloadType) bool {
	n := len(o.Payloads)
	var kept []wire.Payload
	for _, p := range o.Payloads {
		if p.Type() != t {
			kept = append(kept, p)
		}
	}
	o.Payloads = kept
	return len(kept) != n
}

// Double repeats the first payload of a type and reports whether there was one.
func (o *Opened) Double(t wire.PayloadType) bool {
	for _, p := range o.Payloads {
		if p.Type() == t {
			o.Payloads = append(o.Payloads, p)
			return true
		}
	}
	return false
}

// forger closes messages in an end's name.
type forger struct {
	*closer
	sent  uint64
	cache map[string][]byte
}

// iv is one that the machine does not get to: its counter starts at the other end.
func (f *forger) iv() []byte {
	f.sent++
	return grow(nil, -f.sent, f.sent)
}

// forger is the one for an end, with the keys of one responder's SPI; nil if it has none.
func (s *Sim) forger(e *End, spir uint64) *forger {
	k := e.keys[spir]
	if f := e.forgers[spir]; f != nil || k == nil {
		return f
	}
	c, err := newCloser(k, e.role)
	if err != nil {
		e.fail("forger: %v", err)
		return nil
	}
	f := &forger{closer: c, cache: map[string][]byte{}}
	if e.forgers == nil {
		e.forgers = map[uint64]*forger{}
	}
	e.forgers[spir] = f
	return f
}

// Rewrite makes the network open every protected message; change may modify it and
// says whether it did. A retransmission is changed like the first. It takes the place
// of Tap.
func (s *Sim) Rewrite(change func(o *Opened) bool) {
	s.Tap = func(d Datagram) []Datagram {
		e, f := s.sender(d.Data)
		if f == nil {
			return []Datagram{d}
		}
		if b, ok := f.cache[string(d.Data)]; ok {
			d.Data = b
			return []Datagram{d}
		}
		o := s.open(e, d.Data)
		if o == nil {
			return []Datagram{d}
		}
		in := string(d.Data)
		if change(o) {
			d.Data = s.Seal(o)
		}
		f.cache[in] = d.Data
		return []Datagram{d}
	}
}

// sender finds the end that sent a protected message, and a forger with the keys it used:
// an initiator has keys for every response to its IKE_SA_INIT that may be the true one.
func (s *Sim) sender(b []byte) (*End, *forger) {
	h, err := wire.ParseHeader(b)
	if err != nil || h.Exchange == wire.ExchangeIKESAInit {
		return nil, nil
	}
	for _, host := range s.hosts {
		for _, e := range host.Ends {
			if i, _ := e.M.SPIs(); i == h.SPIi && (e.role == ike.Initiator) == h.Flags.Initiator() {
				if f := s.forger(e, h.SPIr); f != nil {
					return e, f
				}
			}
		}
	}
	return nil, nil
}

func (s *Sim) open(e *End, b []byte) *Opened {
	h, err := wire.ParseHeader(b)
	if err != nil || h.Next != wire.PayloadEncrypted {
		return nil
	}
	first, _, inner, _, err := s.forger(e, h.SPIr).open(b)
	if err != nil {
		e.fail("forger: %v", err)
		return nil
	}
	ps, err := wire.ParsePayloads(first, inner)
	if err != nil {
		e.fail("sends what does not parse: %v", err)
		return nil
	}
	return &Opened{From: e, Header: h, Payloads: ps}
}

// Seal closes a message in its end's name.
func (s *Sim) Seal(o *Opened) []byte {
	first, inner := o.First, o.Raw
	if inner == nil {
		first, inner = EncodeChain(o.Payloads)
	}
	f := s.forger(o.From, o.Header.SPIr)
	if f == nil { // an SPI that is a lie
		f = s.forger(o.From, o.From.Keys.SPIr)
	}
	if o.Padded {
		return f.seal(o.Header, first, nil, inner, f.iv())
	}
	return f.close(o.Header, first, nil, inner, f.iv())
}

// Forge sends a message in an end's name, with its keys. Its machine knows nothing of
// it. The header's SPIs and Initiator flag are filled in.
func (s *Sim) Forge(e *End, h wire.Header, ps ...wire.Payload) {
	if s.name(e, &h) == nil {
		return
	}
	b := s.Seal(&Opened{From: e, Header: h, Payloads: ps})
	p := e.M.Path()
	s.Inject(Datagram{From: p.Local, To: p.Remote, Data: b})
}

// name fills in an end's SPIs and Initiator flag, and returns what seals with its keys.
func (s *Sim) name(e *End, h *wire.Header) *forger {
	if h.SPIi, h.SPIr = e.M.SPIs(); e.keys[h.SPIr] == nil && e.Keys != nil {
		h.SPIr = e.Keys.SPIr
	}
	if e.role == ike.Initiator {
		h.Flags |= wire.FlagInitiator
	}
	f := s.forger(e, h.SPIr)
	if f == nil {
		e.fail("no keys to forge with")
	}
	return f
}

// Flip returns a Tap that changes octet i of the nth datagram by x, in every copy of it.
func Flip(n, i int, x byte) func(d Datagram) []Datagram {
	var target []byte
	count := 0
	return func(d Datagram) []Datagram {
		if count == n && target == nil {
			target = bytes.Clone(d.Data)
		}
		count++
		if target != nil && bytes.Equal(d.Data, target) && i < len(d.Data) {
			d.Data = bytes.Clone(d.Data)
			d.Data[i] ^= x
		}
		return []Datagram{d}
	}
}

// FixLength writes the datagram's length into its header.
func FixLength(b []byte) []byte {
	if len(b) >= wire.HeaderLen {
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	}
	return b
}

// Open opens a protected message with its sender's keys; nil if it can't.
func (s *Sim) Open(b []byte) *Opened {
	e, f := s.sender(b)
	if f == nil {
		return nil
	}
	return s.open(e, b)
}

// Rand is the simulation's source of randomness.
func (s *Sim) Rand() *rand.Rand { return s.rand }

// ForgeFragment is Forge for one fragment of a message (RFC 7383), with any numbers.
func (s *Sim) ForgeFragment(e *End, h wire.Header, first wire.PayloadType, num, total uint16, inner []byte) {
	if b := s.SealFragment(e, h, first, num, total, inner); b != nil {
		p := e.M.Path()
		s.Inject(Datagram{From: p.Local, To: p.Remote, Data: b})
	}
}

// SealFragment closes one fragment in an end's name, with its keys; nil if it has none. The
// header's SPIs and Initiator flag are filled in.
func (s *Sim) SealFragment(e *End, h wire.Header, first wire.PayloadType, num, total uint16, inner []byte) []byte {
	f := s.name(e, &h)
	if f == nil {
		return nil
	}
	return f.close(h, first, grow(nil, num, total), inner, f.iv())
}
