package ike

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is the initiator's part of a child SA, in IKE_AUTH and CREATE_CHILD_SA.

// childTask is a child SA that we ask for.
type childTask struct {
	req   ChildRequest
	first bool // in IKE_AUTH
	over  bool // its end has been told
	wants bool // DeleteChild came before it was there
	group uint16
	key   *suite.KE
	tried []uint16 // groups that INVALID_KE_PAYLOAD has led to
	ni    []byte
	gone  []uint32 // the peer deleted these while our request was out
	rekey uint32   // our inbound SPI of the child SA it is to replace; 0: none
	rival []byte   // lowest nonce of the peer's exchange that replaced the same one
	tries uint8    // answers of TEMPORARY_FAILURE
}

// proposals returns our offer as sent.
func (t *childTask) proposals() []wire.Proposal {
	ps := t.req.Proposals
	if t.first {
		ps = suite.WithoutKE(ps) // RFC 7296, Section 1.2
	}
	return numbered(ps, spi32(t.req.SPI))
}

// appendChild appends [N(REKEY_SA)], [N(USE_TRANSPORT_MODE)], SA, [Ni], [KEi], TSi, TSr.
func (m *Machine) appendChild(ps []wire.Payload, t *childTask) []wire.Payload {
	if t.rekey != 0 {
		// RFC 7296, Section 1.3.3: the SPI on which we receive.
		ps = append(ps, &wire.Notify{Protocol: wire.ProtocolESP, SPI: spi32(t.rekey), NType: wire.NotifyRekeySA})
	}
	if t.req.Transport {
		ps = append(ps, notify(wire.NotifyUseTransportMode, nil))
	}
	ps = append(ps, &wire.SA{Proposals: t.proposals()})
	if !t.first {
		ps = append(ps, &wire.Nonce{Data: t.ni})
	}
	if t.key != nil {
		ps = append(ps, &wire.KE{Group: t.group, Data: t.key.Public()})
	}
	tsi, tsr := t.req.asked()
	return append(ps, toWire(tsi, true), toWire(tsr, false))
}

// CreateChild asks for a further child SA; ends in ChildInbound and ChildOutbound,
// or in SPIReleased and ChildFailed. Before the IKE SA is established it waits.
func (m *Machine) CreateChild(now time.Time, req ChildRequest) {
	m.verified = true
	defer m.caught(now)
	m.reserve(req.SPI)
	t := &childTask{req: req}
	switch {
	case m.over():
		m.childEnds(t, ErrClosed)
	case !m.enqueue(&task{kind: taskCreate, child: t}):
		m.childEnds(t, errQueue)
	}
	m.pump(now)
}

// childEnds tells, once, that a requested child SA will not be. Of one that was to
// replace another nobody has heard: only its SPI goes back.
func (m *Machine) childEnds(t *childTask, err error) {
	if t.over {
		return
	}
	t.over = true
	t.key = nil
	m.release(t.req.SPI)
	if t.rekey != 0 {
		return
	}
	m.emit(&ChildFailed{Ref: t.req.Ref, Name: t.req.Name, Err: err})
}

// startCreate sends a CREATE_CHILD_SA request, with a new key exchange if the first
// proposal that has one names a group (RFC 7296, Section 1.3.1).
func (m *Machine) startCreate(now time.Time, t *task) {
	c := t.child
	if c.group == wire.GroupNone {
		c.group = firstGroup(c.req.Proposals)
	}
	if c.group == wire.GroupNone {
		m.sendCreate(now, t)
		return
	}
	m.prep = t
	ask(m, &WorkKE{ID: m.workID(), Group: c.group}, func(now time.Time, r *KEResult) {
		if m.prep != t {
			return // torn down meanwhile
		}
		m.prep = nil
		if r.Err != nil || r.Key == nil {
			m.createFails(now, c, fmt.Errorf("ike: %s: key for %s: %w", m.peerName(), wire.GroupName(c.group), orMissing(r.Err)))
			return
		}
		c.key = r.Key
		m.sendCreate(now, t)
	})
}

func (m *Machine) sendCreate(now time.Time, t *task) {
	if m.moot(t.child) { // since it was queued
		m.childEnds(t.child, nil)
		return
	}
	var err error
	if t.child.ni, err = m.random(nonceLen); err != nil {
		m.createFails(now, t.child, err)
		return
	}
	m.send(now, wire.ExchangeCreateChildSA, t, m.appendChild(nil, t.child)...)
}

var errNoSelectors = errors.New("without both traffic selectors")

// childAnswer takes a CREATE_CHILD_SA response.
func (m *Machine) childAnswer(now time.Time, msg *message) {
	t := m.req.task
	m.req = nil
	if t != nil && t.ike != nil {
		m.ikeRekeyAnswer(now, msg, t)
		return
	}
	if errorNotify(msg.ps) == nil && (selector(msg.ps, true) == nil || selector(msg.ps, false) == nil) {
		// What the table can't say: only the rekeying of an IKE SA has none.
		if t != nil && t.child != nil {
			m.createFails(now, t.child, errNoSelectors)
		}
		m.refuseResponse(now, msg.Exchange, &wire.ParseError{Payload: wire.PayloadTSi, Why: errNoSelectors.Error(), Code: wire.NotifyInvalidSyntax})
		return
	}
	if t == nil || t.child == nil || t.child.over {
		return // given up meanwhile; the whole IKE SA is being deleted
	}
	var nr []byte
	if n, ok := wire.Get[*wire.Nonce](msg.ps); ok {
		nr = n.Data
	}
	m.childSelected(now, msg, t.child, t.child.ni, nr)
}

// childSelected takes what the peer selected for a child SA we asked for. What it
// may not select is not installed, and deleted at the peer (ADV-E3, ADV-E6).
func (m *Machine) childSelected(now time.Time, msg *message, t *childTask, ni, nr []byte) {
	if n := errorNotify(msg.ps); n != nil {
		m.childRefused(now, msg, t, n)
		return
	}
	sel, err := m.checkSelected(msg, t, nr)
	if err != nil {
		m.disown(now, t, err)
		return
	}
	m.refused = time.Time{}
	if slices.Contains(t.gone, sel.out) {
		m.createFails(now, t, m.deletedAtOnce(msg))
		return
	}
	c := &child{ref: t.req.Ref, name: t.req.Name, in: t.req.SPI, out: sel.out, old: t.rekey, larval: true}
	m.children = append(m.children, c)
	done := func(now time.Time, shared suite.Secret) {
		t.key = nil
		itor, rtoi, err := suite.ChildKeys(m.suite, sel.suite, m.skd, ni, nr, shared)
		shared.Zero()
		if err != nil {
			m.remove(c, ReasonFailed)
			m.disown(now, t, err)
			return
		}
		t.over = true
		outbound := m.installInbound(now, &made{child: c, pair: sel.pair, suite: sel.suite, transport: t.req.Transport,
			initiator: true, terms: t.req.Terms, inKey: rtoi, outKey: itor})
		if t.rekey != 0 {
			m.replace(t, c, outbound, ni, nr)
		} else {
			m.emit(outbound)
		}
		if t.wants {
			m.deleteChild(c)
		}
	}
	if sel.ke == nil {
		done(now, nil)
		return
	}
	// A Delete for it may come while this is out: the larval child is found.
	m.prep = &task{kind: taskCreate, child: t}
	ask(m, &WorkKE{ID: m.workID(), Group: sel.suite.Group, Key: t.key, Peer: sel.ke}, func(now time.Time, r *KEResult) {
		if t.over {
			return // torn down meanwhile
		}
		m.prep = nil
		switch {
		case !slices.Contains(m.children, c):
			m.createFails(now, t, m.deletedAtOnce(msg))
		case r.Err != nil || len(r.Shared) == 0:
			m.remove(c, ReasonFailed)
			m.disown(now, t, m.mismatch(msg.Exchange, "public value", "a valid one", "one that is refused", orMissing(r.Err)))
		default:
			done(now, r.Shared)
		}
	})
}

func (m *Machine) deletedAtOnce(msg *message) error {
	return m.mismatch(msg.Exchange, "child SA", "one that stays", "one that the peer deleted at once", nil)
}

// selected is a verified selection.
type selected struct {
	suite suite.ESP
	out   uint32
	pair  ts.Pair
	ke    []byte
}

// checkSelected verifies a selection against what we asked for.
func (m *Machine) checkSelected(msg *message, t *childTask, nr []byte) (selected, error) {
	var s selected
	sa, ok := wire.Get[*wire.SA](msg.ps)
	tsi, tsr := selector(msg.ps, true), selector(msg.ps, false)
	if !ok || tsi == nil || tsr == nil {
		return s, m.mismatch(msg.Exchange, "response", "SA, TSi and TSr", "not all of them", nil)
	}
	offered := t.proposals()
	var err error
	if s.suite, err = suite.CheckESP(offered, sa.Proposals); err != nil {
		return s, m.mismatch(msg.Exchange, "selected proposal", "one of "+proposalList(offered), proposalList(sa.Proposals), err)
	}
	if s.out = espSPI(sa.Proposals[0]); s.out == 0 {
		return s, m.mismatch(msg.Exchange, "SPI", "four octets from 256", fmt.Sprintf("%x", sa.Proposals[0].SPI), nil) // ADV-E7
	}
	got := findNotify(msg.ps, wire.NotifyUseTransportMode) != nil
	if got != t.req.Transport {
		return s, m.mismatch(msg.Exchange, "mode", mode(t.req.Transport), mode(got), nil) // ADV-E6
	}
	if findNotify(msg.ps, wire.NotifyIPCompSupported) != nil {
		return s, m.mismatch(msg.Exchange, "response", "no compression", "IPCOMP_SUPPORTED", nil) // ADV-E9
	}
	s.pair = ts.Pair{Local: fromWire(tsi), Remote: fromWire(tsr)}
	if t.req.Packet.IsValid() {
		// The packet has served its purpose: rekeying is about the whole (RFC 7296,
		// Section 2.9.2).
		s.pair = ts.Pair{Local: s.pair.Local.Normalize(), Remote: s.pair.Remote.Normalize()}
	}
	if t.req.Transport {
		// RFC 7296, Section 2.23.1: the responder's view, back into ours.
		if a, ok := oneAddr(t.req.Pair.Local); ok && m.has(flagLocalNAT) {
			s.pair.Local = withAddr(s.pair.Local, a)
		}
		if a, ok := oneAddr(t.req.Pair.Remote); ok && m.has(flagRemoteNAT) {
			s.pair.Remote = withAddr(s.pair.Remote, a)
		}
	}
	if !within(t.req.Pair, s.pair) && !m.faulty(faultWiden) {
		// RFC 7296, Section 2.9: a subset and nothing else (ADV-E3).
		return s, m.mismatch(msg.Exchange, WhatSelectors, "within "+t.req.Pair.String(), s.pair.String(), nil)
	}
	if t.rekey != 0 && !within(s.pair, t.req.Pair) {
		// RFC 7296, Section 2.9.2 (ADV-E4).
		return s, m.mismatch(msg.Exchange, WhatSelectors, "all of "+t.req.Pair.String(), s.pair.String(), nil)
	}
	if t.first {
		return s, nil
	}
	if len(nr) < m.suite.MinNonce() {
		return s, m.mismatch(msg.Exchange, "nonce", fmt.Sprintf("%d octets", m.suite.MinNonce()), fmt.Sprintf("%d", len(nr)), nil)
	}
	if s.suite.Group == wire.GroupNone {
		return s, nil
	}
	ke, ok := wire.Get[*wire.KE](msg.ps)
	if !ok || ke.Group != s.suite.Group || t.key == nil || t.group != s.suite.Group {
		return s, m.mismatch(msg.Exchange, "key exchange", wire.GroupName(s.suite.Group), "none or another", nil) // ADV-E12
	}
	s.ke = ke.Data
	return s, nil
}

func mode(transport bool) string {
	if transport {
		return "transport"
	}
	return "tunnel"
}

// childRefused handles an error notify instead of a child SA. INVALID_KE_PAYLOAD is
// retried once per group, TEMPORARY_FAILURE after a while.
func (m *Machine) childRefused(now time.Time, msg *message, t *childTask, n *wire.Notify) {
	if n.NType == wire.NotifyInvalidKEPayload && !t.first && len(n.Data) == 2 {
		g := binary.BigEndian.Uint16(n.Data)
		if g != wire.GroupNone && g != t.group && offersGroup(t.req.Proposals, g) && !slices.Contains(t.tried, g) {
			t.tried = append(t.tried, t.group, g)
			t.group, t.key = g, nil
			m.again(t, time.Time{})
			return
		}
	}
	switch {
	case n.NType == wire.NotifyChildSANotFound && t.rekey != 0:
		m.notFound(t)
		return
	case t.rekey != 0 && m.moot(t):
		// The peer has replaced or deleted it meanwhile, and had to refuse (RFC 7296,
		// Section 2.8.1).
		m.childEnds(t, nil)
		return
	case n.NType == wire.NotifyTemporaryFailure && !t.first:
		if !m.temporary(now, msg) || t.rekey != 0 {
			m.createFails(now, t, m.refusal(n.NType, msg.Exchange, true, "", nil))
			return
		}
		m.again(t, now.Add(m.backoff(t.tries)))
		t.tries++
		return
	}
	why := ""
	if n.NType == wire.NotifyNoProposalChosen {
		why = "we offer " + proposalList(t.req.Proposals)
	}
	if n.NType == wire.NotifyTSUnacceptable {
		why = "we ask for " + t.req.Pair.String()
	}
	err := m.refusal(n.NType, msg.Exchange, true, why, nil)
	m.createFails(now, t, err)
	if n.NType == wire.NotifyNoAdditionalSAs && t.rekey != 0 {
		m.unfitFor(now, err) // RFC 7296, Section 1.3: it takes none on this SA (ADV-F13)
	}
	if n.NType == wire.NotifyInvalidSyntax && !t.first {
		// RFC 7296, Section 2.21.3: fatal at both ends.
		m.fail(now, m.refusal(n.NType, msg.Exchange, true, "", errMalformed))
	}
}

// disown gives up a child SA that the peer believes in, and tells it so.
func (m *Machine) disown(now time.Time, t *childTask, err error) {
	spi := t.req.SPI
	m.createFails(now, t, err)
	m.queue = slices.Insert(m.queue, 0, &task{kind: taskDelete, spi: spi})
	m.pump(now)
}
