package ike

import (
	"crypto/sha256"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

const digestLen = sha256.Size

// window is our side of the peer's requests. Its size is one (RFC 7296, Section
// 2.3): we announce nothing else.
type window struct {
	next    uint32          // message ID of the next new request
	digest  [digestLen]byte // of the request before it
	answer  []byte          // our response to that, as sent; nil: none
	serving *serving        // the request being worked on; nil: none
}

// serving is an authentic request that is not answered yet.
type serving struct {
	exchange wire.ExchangeType
	path     Path
	digest   [digestLen]byte
}

// repeat handles a request outside the window: the one before is answered again
// if it is bit-identical (RFC 7296, Section 2.1), so that nobody but who saw it
// can make us send.
func (m *Machine) repeat(h wire.Header, path Path, b []byte) Drop {
	if h.MessageID+1 != m.win.next || m.win.answer == nil {
		return DropWindow // ADV-F3
	}
	if sha256.Sum256(b) != m.win.digest && !m.firstFragment(b) {
		return DropRepeat // ADV-F2
	}
	m.count(func(c *Counters) { c.Resends.Add(1) })
	// RFC 7296, Section 2.11: to the address the request came from.
	m.transmit(path, m.win.answer)
	if m.state != StateLinger { // nothing after Closed
		m.emit(&Repeated{Request{Exchange: h.Exchange, MessageID: h.MessageID, Path: path}})
	}
	return 0
}

// respond answers the request being served and keeps the answer.
func (m *Machine) respond(now time.Time, ps ...wire.Payload) {
	s := m.win.serving
	if s == nil {
		return
	}
	id := m.win.next
	raw, err := m.seal(s.exchange, id, wire.FlagResponse, ps)
	if err != nil {
		m.win.serving = nil
		m.fail(now, err)
		return
	}
	m.win = window{next: id + 1, digest: s.digest, answer: raw}
	m.count(func(c *Counters) { c.Responses.Add(1) })
	m.spoke = now
	m.transmit(s.path, raw)
	m.numbered(now, id)
	if id >= maxMessageID {
		m.exhausted(now)
	}
}

// seal makes a protected message: one datagram, or its fragments one after the other.
func (m *Machine) seal(e wire.ExchangeType, id uint32, f wire.Flags, ps []wire.Payload) ([]byte, error) {
	if m.role == Initiator {
		f |= wire.FlagInitiator
	}
	first, inner := wire.AppendPayloads(make([]byte, 0, 512), ps)
	h := wire.Header{SPIi: m.spii, SPIr: m.spir, Exchange: e, Flags: f, MessageID: id}
	raw, err := m.sealFragments(h, first, inner)
	if raw == nil && err == nil {
		raw, err = m.out.SealMessage(h, first, inner, m.cfg.Rand)
	}
	if err != nil {
		m.debug("cannot seal", "error", err)
	}
	return raw, err
}

func (m *Machine) count(f func(*Counters)) {
	if m.cfg.Counters != nil {
		f(m.cfg.Counters)
	}
}
