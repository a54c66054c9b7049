package ike

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// message is a received message whose payloads fit its transition. It is valid
// during one input only, but the slices of a protected message are private and
// may be kept.
type message struct {
	wire.Header
	path  Path
	raw   []byte // the datagram, borrowed
	ps    []wire.Payload
	first wire.PayloadType // of inner
	inner []byte           // decrypted payloads, for the octets of ID
}

func (m *Machine) drop(d Drop) {
	if c := m.cfg.Counters; c != nil && int(d) < dropCount {
		c.drops[d].Add(1)
	}
}

// Datagram takes one received IKE datagram, borrowed for the call. It returns why the
// datagram changed nothing, or 0.
func (m *Machine) Datagram(now time.Time, path Path, b []byte) Drop {
	m.verified = false
	defer m.caught(now)
	if d := m.receive(now, path.unmapped(), b); d != 0 {
		m.drop(d)
		return d
	}
	m.pump(now)
	return 0
}

// receive does the cheap rejections first and changes nothing before the
// message's integrity is verified.
func (m *Machine) receive(now time.Time, path Path, b []byte) Drop {
	h, err := wire.ParseHeader(b)
	if err != nil {
		return DropShort
	}
	dir := request
	if h.Flags.Response() {
		dir = response
	}
	if r := m.rival(h.SPIr); r != nil && h.SPIi == m.spii && h.Exchange != wire.ExchangeIKESAInit {
		using := m.hs
		m.swap(r)
		d := m.receive(now, path, b)
		if d != 0 {
			m.resume(using)
		}
		return d
	}
	switch {
	case h.Major() != wire.MajorVersion:
		return DropVersion // ADV-A4, ADV-A5
	case uint64(h.Length) != uint64(len(b)):
		return DropLength // ADV-A3
	case h.SPIi != m.spii:
		return DropSPI
	case h.Exchange == wire.ExchangeIKESAInit:
		if dir == request && h.SPIr != 0 { // ADV-A8
			return DropSPI
		}
	case h.SPIr != m.spir:
		return DropSPI
	}
	// RFC 7296, Section 3.1: set by the original initiator, and only by it (ADV-A12).
	if h.Flags.Initiator() == (m.role == Initiator) {
		return DropDirection
	}
	state := m.state
	if state == StateHalfOpen && h.Exchange == wire.ExchangeCreateChildSA && m.faulty(faultEarlyChild) {
		state = StateEstablished
	}
	t, d := cell(state, m.role, h.Exchange, dir)
	if d != 0 {
		return d
	}
	if t.clear {
		return m.receiveClear(now, t, h, path, b)
	}
	switch dir {
	case response:
		if m.req == nil || h.MessageID != m.req.id || h.Exchange != m.req.typ {
			return DropUnasked // ADV-F5
		}
	case request:
		if m.win.serving != nil {
			return DropBusy // a retransmission starts nothing a second time
		}
		if h.MessageID != m.win.next && !m.faulty(faultExecuteTwice) {
			return m.repeat(h, path, b)
		}
		if t.do == actRepeat {
			return DropClosed
		}
		if m.requests.spent(now, requestGap, requestBurst) {
			return DropPace // ADV-H5: the peer sends it again, and so has to wait
		}
	}
	return m.receiveProtected(now, t, h, dir, path, b)
}

// receiveClear handles IKE_SA_INIT.
func (m *Machine) receiveClear(now time.Time, t *transition, h wire.Header, path Path, b []byte) Drop {
	if h.MessageID != 0 {
		return DropWindow // RFC 7296, Section 2.2; ADV-A9
	}
	if t.do == actInitAgain {
		return m.initAgain(path, b)
	}
	msg, err := wire.Parse(b)
	if err != nil {
		return DropSyntax
	}
	return m.initAnswer(now, t, &message{Header: h, path: path, raw: b, ps: t.only(msg.Payloads)})
}

// receiveProtected opens the SK payload. From there on the message is the peer's.
func (m *Machine) receiveProtected(now time.Time, t *transition, h wire.Header, dir direction, path Path, b []byte) Drop {
	outer, err := wire.Parse(b)
	if err != nil {
		return DropSyntax
	}
	var enc *wire.Encrypted
	var frag *wire.EncryptedFragment
	for _, p := range outer.Payloads {
		switch p := p.(type) {
		case *wire.Encrypted:
			enc = p
		case *wire.EncryptedFragment:
			frag = p
		case *wire.Unknown, *wire.Vendor:
		case *wire.Notify:
			// ADV-F14: at most a hint.
			if dir == request || len(outer.Payloads) > 1 {
				return DropClear
			}
			return m.unprotected(now, &message{Header: h, path: path, raw: b, ps: outer.Payloads})
		default:
			return DropClear // ADV-D5: IDi, AUTH and the like belong inside
		}
	}
	if frag != nil {
		r, d := m.collect(now, h, dir, b, frag)
		if r == nil {
			return d
		}
		m.verified = true
		m.opened(now, t, &message{Header: h, path: path, raw: b, first: r.first, inner: r.inner()}, dir, r.digest, nil)
		return 0
	}
	if enc == nil {
		return DropClear
	}
	if m.faulty(faultEarlyMove) {
		m.moved(path)
	}
	inner, err := m.in.OpenMessage(b, enc)
	if err != nil && h.Exchange == wire.ExchangeInformational && m.faulty(faultNoICV) {
		inner, err = []byte{}, nil
		enc.First = wire.PayloadNone
	}
	var bad *wire.ParseError
	if err != nil && !errors.As(err, &bad) {
		return DropICV // ADV-D1
	}
	m.verified = true
	if c := m.cfg.Counters; c != nil {
		c.Verified.Add(1)
	}
	m.opened(now, t, &message{Header: h, path: path, raw: b, first: enc.First, inner: inner}, dir, sha256.Sum256(b), bad)
	return 0
}

// opened takes a message that is authentic and fresh. digest is what tells its
// retransmission; bad is what is wrong with it already, or nil.
func (m *Machine) opened(now time.Time, t *transition, msg *message, dir direction, digest [digestLen]byte, bad *wire.ParseError) {
	h := msg.Header
	m.alive(now)
	m.moved(msg.path)
	m.frags[dir] = nil // ADV-G9
	if dir == response {
		m.answered()
	} else {
		m.win.serving = &serving{exchange: h.Exchange, path: msg.path, digest: digest}
		m.requests.spend(now, requestGap, requestBurst)
	}
	if bad == nil {
		var err error
		msg.ps, err = wire.ParsePayloads(msg.first, msg.inner)
		if err != nil && !errors.As(err, &bad) {
			bad = &wire.ParseError{Why: err.Error(), Code: wire.NotifyInvalidSyntax}
		}
	}
	if bad == nil {
		bad = t.check(msg.ps, dir)
		if dir == request && m.faulty(faultMissing) {
			bad = nil
		}
		msg.ps = t.only(msg.ps)
	}
	if m.debugs() {
		m.debug("message", "exchange", h.Exchange.String(), "dir", dir.String(), "msgid", h.MessageID)
	}
	if dir == request {
		m.chosenByPeer(now, msg)
	}
	switch {
	case bad != nil && dir == request:
		m.refuseRequest(now, h.Exchange, bad)
	case bad != nil:
		m.refuseResponse(now, h.Exchange, bad)
	default:
		m.run(now, t.do, msg)
	}
}

// check verifies that the payloads of a message are the ones its transition
// wants.
func (t *transition) check(ps []wire.Payload, dir direction) *wire.ParseError {
	var have payloads
	for _, p := range ps {
		b := bit(p.Type())
		if have&b&once != 0 {
			return &wire.ParseError{Payload: p.Type(), Why: "occurs twice", Code: wire.NotifyInvalidSyntax} // ADV-D9
		}
		have |= b
	}
	if dir == response && errorNotify(ps) != nil {
		return nil
	}
	missing := t.need &^ have
	if missing == 0 {
		return nil
	}
	code := wire.NotifyInvalidSyntax
	if t.do == actAuthRequest && missing&bit(wire.PayloadAuth) != 0 {
		// No AUTH asks for EAP, which we do not offer (RFC 7296, Section 2.16;
		// ADV-D8, ADV-D20).
		code = wire.NotifyAuthenticationFailed
	}
	return &wire.ParseError{Why: "without " + missing.String(), Code: code}
}

// run calls the handler of a transition.
func (m *Machine) run(now time.Time, a action, msg *message) {
	switch a {
	case actAuthRequest:
		m.authRequested(now, msg)
	case actAuthAnswer:
		m.authAnswer(now, msg)
	case actChildRequest:
		m.childRequested(now, msg)
	case actChildAnswer:
		m.childAnswer(now, msg)
	case actChildNotNow:
		m.respond(now, notify(wire.NotifyTemporaryFailure, nil))
	case actInformational:
		m.informational(now, msg)
	case actInformationalAck:
		m.informationalAck(now, msg)
	case actMisplaced:
		m.refuseRequest(now, msg.Exchange, &wire.ParseError{Why: "not in this state", Code: wire.NotifyInvalidSyntax})
	case actInitAnswer, actInitAgain, actRepeat: // handled before
	}
}

// refuseRequest answers an authentic request that is malformed. Only
// UNSUPPORTED_CRITICAL_PAYLOAD leaves an established SA alive (RFC 7296, Sections
// 2.5, 2.21.2 and 2.21.3; ADV-D25, ADV-F15).
func (m *Machine) refuseRequest(now time.Time, e wire.ExchangeType, bad *wire.ParseError) {
	m.respond(now, notify(bad.Code, bad.NotifyData()))
	err := m.refusal(bad.Code, e, false, bad.Why, bad)
	if bad.Code == wire.NotifyUnsupportedCriticalPayload && (m.state == StateEstablished || m.state == StateDeleting || m.state == StateReplaced) {
		m.emit(&Refused{Err: err})
		return
	}
	m.fail(now, err)
}

// refuseResponse ends the SA after an authentic response that is malformed: the
// peer is told by a Delete (RFC 7296, Section 2.21).
func (m *Machine) refuseResponse(now time.Time, e wire.ExchangeType, bad *wire.ParseError) {
	m.req = nil
	m.abort(now, m.mismatch(e, "response", "a well-formed message", bad.Error(), bad), 0)
}

// errorNotify returns the first error notify.
func errorNotify(ps []wire.Payload) *wire.Notify {
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.NType.IsError() {
			return n
		}
	}
	return nil
}

// findNotify returns the first notify of a type.
func findNotify(ps []wire.Payload, t wire.NotifyType) *wire.Notify {
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.NType == t {
			return n
		}
	}
	return nil
}

func notify(t wire.NotifyType, data []byte) *wire.Notify { return &wire.Notify{NType: t, Data: data} }

// selector returns the TSi or TSr payload.
func selector(ps []wire.Payload, initiator bool) *wire.TS {
	for _, p := range ps {
		if t, ok := p.(*wire.TS); ok && t.Initiator == initiator {
			return t
		}
	}
	return nil
}

// identification returns the IDi or IDr payload.
func identification(ps []wire.Payload, responder bool) *wire.ID {
	for _, p := range ps {
		if id, ok := p.(*wire.ID); ok && id.Responder == responder {
			return id
		}
	}
	return nil
}

// rawBody returns the octets of the first payload of a type without its generic
// header, as received: AUTH covers its reserved octets too. The chain has been
// parsed before.
func rawBody(first wire.PayloadType, b []byte, t wire.PayloadType) []byte {
	for next := first; next != wire.PayloadNone && len(b) >= 4; {
		n := int(b[2])<<8 | int(b[3])
		if n < 4 || n > len(b) {
			return nil
		}
		if next == t {
			return b[4:n]
		}
		next, b = wire.PayloadType(b[0]), b[n:]
	}
	return nil
}
