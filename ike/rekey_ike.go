package ike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is the rekeying of the IKE SA (RFC 7296, Sections 1.3.2, 2.8, 2.8.2 and
// 2.18): a new Machine, the heir, comes out of the old one, which hands over its child
// SAs and commands and ends. When both ends do it at once there are two heirs for a
// while; collision.go says which one gets everything.

// ikeTask is the rekeying of the IKE SA that we start.
type ikeTask struct {
	group uint16
	key   *suite.KE
	tried []uint16
	ni    []byte
	spi   uint64 // ours, of the new SA
	rival []byte // lowest nonce of the peer's exchange that does the same
	taken bool   // answered well: the peer has the new SA
}

// proposals returns our offer as sent, the suite in use first.
func (m *Machine) rekeyProposals(x *ikeTask) []wire.Proposal {
	return numbered(m.cfg.Proposals, binary.BigEndian.AppendUint64(nil, x.spi))
}

// RekeyIKE replaces the IKE SA by one with new keys. Rekeying and Rekeyed follow, or
// Reauthenticate if the peer does not want to. One that is under way is left alone.
func (m *Machine) RekeyIKE(now time.Time) {
	m.verified = true
	defer m.caught(now)
	m.rekeyIKE(now)
	m.pump(now)
}

func (m *Machine) rekeyIKE(now time.Time) {
	if m.state != StateEstablished || m.undecided() || m.ownIKE() != nil ||
		slices.ContainsFunc(m.queue, func(t *task) bool { return t.ike != nil }) {
		return
	}
	m.soft = time.Time{}
	if !m.cfg.Heirs {
		m.rekeyIKEFails(now, errNoHeirs)
		return
	}
	if !m.enqueue(&task{kind: taskRekeyIKE, ike: &ikeTask{}}) {
		m.soft = now.Add(m.backoff(0))
	}
}

// undecided reports whether this is an heir that may not be the one.
func (m *Machine) undecided() bool { return m.older != nil || m.redundant }

// ownIKE finds our request, sent or being prepared, to rekey the IKE SA.
func (m *Machine) ownIKE() *ikeTask {
	if m.req != nil && m.req.task != nil && m.req.task.ike != nil {
		return m.req.task.ike
	}
	if m.prep != nil {
		return m.prep.ike
	}
	return nil
}

// startRekeyIKE asks for a key and sends SA, Ni, KEi.
func (m *Machine) startRekeyIKE(now time.Time, t *task) {
	x := t.ike
	if s := m.win.serving; s != nil && s.exchange == wire.ExchangeCreateChildSA {
		// RFC 7296, Section 2.25.1: it would be refused.
		t.at = now.Add(time.Second)
		m.queue = append(m.queue, t)
		return
	}
	if x.group == wire.GroupNone {
		x.group = m.suite.Group
		if !offersGroup(m.cfg.Proposals, x.group) {
			x.group = firstGroup(m.cfg.Proposals)
		}
	}
	m.prep = t
	ask(m, &WorkKE{ID: m.workID(), Group: x.group}, func(now time.Time, r *KEResult) {
		if m.prep != t {
			return // the peer was first
		}
		m.prep = nil
		if r.Err != nil || r.Key == nil {
			m.rekeyIKEFails(now, fmt.Errorf("ike: %s: key for %s: %w", m.peerName(), wire.GroupName(x.group), orMissing(r.Err)))
			return
		}
		var err error
		x.key = r.Key
		if x.ni, err = m.random(nonceLen); err == nil {
			x.spi, err = m.randomSPI()
		}
		if err != nil {
			m.rekeyIKEFails(now, err)
			return
		}
		m.send(now, wire.ExchangeCreateChildSA, t, &wire.SA{Proposals: m.rekeyProposals(x)},
			&wire.Nonce{Data: x.ni}, &wire.KE{Group: x.group, Data: x.key.Public()})
	})
}

// rekeyIKEFails is a rekeying that came to nothing: another attempt before the hard
// limit if there is one, and the engine may authenticate anew.
func (m *Machine) rekeyIKEFails(now time.Time, err error) {
	if m.state != StateEstablished {
		return
	}
	m.debug("IKE SA not rekeyed", "error", err)
	m.soft = time.Time{}
	m.unfitFor(now, err)
}

// reauthenticate asks for a new SA from scratch, and plans to ask again: whatever comes of
// it, this SA is deleted once there is another.
func (m *Machine) reauthenticate(now time.Time, err error) {
	m.emit(&Reauthenticate{Err: err, Deadline: m.ends(), Again: m.reauths > 0})
	gap := m.backoff(m.reauths)
	if end := m.ends(); !end.IsZero() {
		gap = min(gap, end.Sub(now)/2) // several tries in what is left of a short life
	}
	if m.authSoft = now.Add(gap); gap < lastReauth {
		m.authSoft = time.Time{}
	}
	m.reauths, m.unfit = min(m.reauths, 100)+1, err
}

// unfitFor asks for a new SA because this one is of no more use, if that was not done.
func (m *Machine) unfitFor(now time.Time, err error) {
	if m.reauths == 0 {
		m.reauthenticate(now, err)
	}
}

// heir makes the machine of the new SA.
func (m *Machine) heir(now time.Time, role Role, spii, spir uint64, s suite.IKE, ni, nr []byte, shared suite.Secret) (*Machine, error) {
	keys, err := suite.DeriveRekey(s, m.suite.PRF, m.skd, ni, nr, shared, spii, spir)
	shared.Zero()
	if err != nil {
		return nil, err
	}
	// RFC 7296, Section 1.3.2: message IDs start at 0, in both directions.
	n := &Machine{cfg: m.cfg, role: role, branch: branch{state: StateEstablished, spir: spir, path: m.path,
		flags: m.flags & (flagLocalNAT | flagRemoteNAT | flagEncap | flagFragments | flagConfirmed)},
		requests: m.requests, creates: m.creates,
		spii: spii, peer: m.peer, heard: now, spoke: now, proven: m.proven,
		authUntil: m.authUntil, authSoft: m.authSoft, reauths: m.reauths, unfit: m.unfit}
	if err := n.useKeys(s, keys); err != nil {
		return nil, err
	}
	keys.SKpi.Zero()
	keys.SKpr.Zero()
	n.ikeTimes(now)
	return n, nil
}

// handOver gives everything to the heir and says so through via's outputs. What is left
// waits for a Delete, ours or the peer's.
func (m *Machine) handOver(now time.Time, n, via *Machine) {
	n.older, n.redundant, n.life = nil, false, time.Time{}
	if m.successor == n {
		m.successor = nil
	}
	n.children, m.children = m.children, nil
	n.reserved, m.reserved = m.reserved, nil
	for _, t := range m.queue {
		switch t.kind {
		case taskCreate, taskDelete, taskRekey:
			n.queue = append(n.queue, t)
		case taskClose, taskLiveness, taskRekeyIKE:
		}
	}
	m.queue = nil
	m.state, m.reason = StateReplaced, ReasonReplaced
	m.life = now.Add(replacedLife)
	if e := m.elder; e != nil && e.state == StateReplaced {
		// A peer that rekeys and never deletes makes us keep one SA, not one for each.
		e.finish(now, e.reason)
		via.emit(&Wake{Machine: e})
	}
	m.outlivedBy(n)
	m.orphan()
	if m.prep != nil && !m.prep.ike.isTaken() {
		m.prep = nil
	}
	if m.req != nil && (m.req.task == nil || m.req.task.ike == nil) {
		m.req = nil // a liveness check: that is the heir's business now
	}
	via.emit(&Rekeyed{Old: m, New: n, Role: n.role, SPIi: n.spii, SPIr: n.spir, Suite: n.suite, Path: n.path})
	n.debug("IKE SA rekeyed", "old.spi", fmt.Sprintf("%016x", m.LocalSPI()), "suite", n.suite.String())
	n.pump(now)
}

// outlivedBy notes that n took over from m; nil: m is gone.
func (m *Machine) outlivedBy(n *Machine) {
	if m.younger != nil {
		m.younger.elder = nil
	}
	if m.younger = n; n != nil {
		n.elder = m
	}
}

func (x *ikeTask) isTaken() bool { return x != nil && x.taken }

// orphan makes nobody wait for the answers to Work, but takes SPIs that come with them.
func (m *Machine) orphan() {
	m.asked = slices.DeleteFunc(m.asked, func(a asked) bool { return !a.spi && !a.keep })
	for i := range m.asked {
		if !m.asked[i].keep {
			m.asked[i].then = nil
		}
	}
}

// condemn makes a new SA that is not wanted delete itself at the peer.
func (m *Machine) condemn(now time.Time, why Reason) {
	m.older = nil
	m.life = time.Time{}
	m.reason, m.state = why, StateDeleting
	m.queue = []*task{{kind: taskClose}}
	m.pump(now)
}

// ikeRekeyRequested takes a request to rekey the IKE SA.
func (m *Machine) ikeRekeyRequested(now time.Time, msg *message) {
	sa, _ := wire.Get[*wire.SA](msg.ps)
	ni, _ := wire.Get[*wire.Nonce](msg.ps)
	ke, _ := wire.Get[*wire.KE](msg.ps)
	refuse := func(t wire.NotifyType, data []byte, why error) {
		m.debug("IKE SA rekeying refused", "notify", t.String(), "error", why)
		m.respond(now, notify(t, data))
	}
	if err := sa.CheckOffer(); err != nil {
		var bad *wire.ParseError
		if !errors.As(err, &bad) {
			bad = &wire.ParseError{Payload: wire.PayloadSA, Why: err.Error(), Code: wire.NotifyInvalidSyntax}
		}
		m.refuseRequest(now, msg.Exchange, bad)
		return
	}
	if !m.cfg.Heirs {
		refuse(wire.NotifyNoAdditionalSAs, nil, errNoHeirs)
		return
	}
	if m.childBusy() || m.undecided() || m.successor != nil {
		refuse(wire.NotifyTemporaryFailure, nil, errBusy) // RFC 7296, Section 2.25.1
		return
	}
	s, num, chosen, mis := suite.ChooseIKERekey(sa.Proposals, m.cfg.Proposals)
	if mis != nil {
		refuse(wire.NotifyNoProposalChosen, nil, mis)
		return
	}
	i := slices.IndexFunc(sa.Proposals, func(p wire.Proposal) bool { return p.Num == num })
	theirs := binary.BigEndian.Uint64(sa.Proposals[i].SPI)
	switch {
	case theirs == 0:
		refuse(wire.NotifyNoProposalChosen, nil, errors.New("SPI is zero"))
		return
	case ke == nil || ke.Group != s.Group:
		// RFC 7296, Section 2.18: never without a new key exchange (ADV-E12).
		refuse(wire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, s.Group), nil)
		return
	case len(ni.Data) < max(s.MinNonce(), m.suite.MinNonce()):
		m.refuseRequest(now, msg.Exchange, &wire.ParseError{Payload: wire.PayloadNonce, Why: "too short for the PRF", Code: wire.NotifyInvalidSyntax})
		return
	}
	m.setFlag(flagPeerRekeys, true) // nothing new is started on this SA
	ask(m, &WorkKE{ID: m.workID(), Group: s.Group, Peer: ke.Data}, func(now time.Time, r *KEResult) {
		m.setFlag(flagPeerRekeys, false)
		if r.Err != nil || r.Key == nil || len(r.Shared) == 0 {
			m.refuseRequest(now, wire.ExchangeCreateChildSA,
				&wire.ParseError{Payload: wire.PayloadKE, Why: "public value is not valid", Code: wire.NotifyInvalidSyntax})
			return
		}
		m.ikeRekeyGrant(now, s, chosen, theirs, ni.Data, r)
	})
}

var errNoHeirs = errors.New("ike: rekeying the IKE SA is not enabled")

var errBusy = errors.New("a child SA is being made or deleted, or the IKE SA replaced")

// childBusy reports whether a child SA is being created, rekeyed or closed by us.
func (m *Machine) childBusy() bool {
	for _, t := range []*task{m.prep, m.request()} {
		if t == nil {
			continue
		}
		switch t.kind {
		case taskCreate, taskDelete, taskRekey:
			return true
		case taskClose, taskLiveness, taskRekeyIKE:
		}
	}
	return false
}

// request is what our outstanding request is for; nil if there is none.
func (m *Machine) request() *task {
	if m.req == nil {
		return nil
	}
	return m.req.task
}

// ikeRekeyGrant makes the heir and answers SA, Nr, KEr.
func (m *Machine) ikeRekeyGrant(now time.Time, s suite.IKE, chosen wire.Proposal, theirs uint64, ni []byte, r *KEResult) {
	nr, err := m.random(nonceLen)
	var spi uint64
	if err == nil {
		spi, err = m.randomSPI()
	}
	var n *Machine
	if err == nil {
		n, err = m.heir(now, Responder, theirs, spi, s, ni, nr, r.Shared)
	}
	if err != nil {
		m.win.serving = nil
		m.fail(now, err)
		return
	}
	chosen.Protocol, chosen.SPI = wire.ProtocolIKE, binary.BigEndian.AppendUint64(nil, spi)
	// The heir must be known before the peer hears of it.
	m.emit(&Rekeying{New: n})
	m.peerHeir(now, n, ni, nr)
	m.respond(now, &wire.SA{Proposals: []wire.Proposal{chosen}}, &wire.Nonce{Data: nr}, &wire.KE{Group: s.Group, Data: r.Key.Public()})
}

// ikeRekeyAnswer takes the response to our request.
func (m *Machine) ikeRekeyAnswer(now time.Time, msg *message, t *task) {
	x := t.ike
	if n := errorNotify(msg.ps); n != nil {
		m.ikeRekeyRefused(now, msg, t, n)
		return
	}
	s, theirs, ke, nr, err := m.checkIKERekey(msg, x)
	if err != nil {
		if m.state == StateEstablished {
			m.abort(now, err, 0) // the peer has an SA that we can't have
		}
		return
	}
	m.refused = time.Time{}
	x.taken = true
	m.prep = t
	ask(m, &WorkKE{ID: m.workID(), Group: s.Group, Key: x.key, Peer: ke}, func(now time.Time, r *KEResult) {
		if m.prep == t {
			m.prep = nil
		}
		var n *Machine
		switch {
		case m.state == StateClosed || m.state == StateLinger:
			return
		case r.Err != nil || len(r.Shared) == 0:
			err = m.mismatch(msg.Exchange, "public value", "a valid one", "one that is refused", orMissing(r.Err))
		default:
			n, err = m.heir(now, Initiator, x.spi, theirs, s, x.ni, nr, r.Shared)
		}
		if err != nil {
			if m.state == StateEstablished {
				m.abort(now, err, 0)
			}
			return
		}
		m.emit(&Rekeying{New: n})
		m.ownHeir(now, n, x, nr)
	})
	m.asked[len(m.asked)-1].keep = true
}

// checkIKERekey verifies the response to a rekeying of the IKE SA.
func (m *Machine) checkIKERekey(msg *message, x *ikeTask) (s suite.IKE, spi uint64, public, nr []byte, err error) {
	sa, ok1 := wire.Get[*wire.SA](msg.ps)
	ke, ok2 := wire.Get[*wire.KE](msg.ps)
	n, ok3 := wire.Get[*wire.Nonce](msg.ps)
	if !ok1 || !ok2 || !ok3 {
		return s, 0, nil, nil, m.mismatch(msg.Exchange, "response", "SA, Nr and KEr", "not all of them", nil)
	}
	offered := m.rekeyProposals(x)
	if s, err = suite.CheckIKERekey(offered, sa.Proposals); err != nil {
		return s, 0, nil, nil, m.mismatch(msg.Exchange, "selected proposal", "one of "+proposalList(offered), proposalList(sa.Proposals), err)
	}
	spi = binary.BigEndian.Uint64(sa.Proposals[0].SPI)
	switch {
	case spi == 0 || spi == x.spi:
		err = m.mismatch(msg.Exchange, "SPI", "one of its own", fmt.Sprintf("%016x", spi), nil)
	case ke.Group != s.Group || x.group != s.Group:
		err = m.mismatch(msg.Exchange, "key exchange", wire.GroupName(s.Group), wire.GroupName(ke.Group), nil) // ADV-E12
	case bytes.Equal(ke.Data, x.key.Public()) || bytes.Equal(n.Data, x.ni):
		err = m.mismatch(msg.Exchange, "values", "the peer's", "our own", nil)
	case len(n.Data) < max(s.MinNonce(), m.suite.MinNonce()):
		err = m.mismatch(msg.Exchange, "nonce", fmt.Sprintf("%d octets", s.MinNonce()), fmt.Sprint(len(n.Data)), nil)
	}
	return s, spi, ke.Data, n.Data, err
}

// ikeRekeyRefused handles an error notify instead.
func (m *Machine) ikeRekeyRefused(now time.Time, msg *message, t *task, n *wire.Notify) {
	x := t.ike
	switch {
	case m.state != StateEstablished:
	case m.successor != nil:
		// RFC 7296, Section 2.8.2: the peer has finished its own and did not see that
		// there were two.
		m.handOver(now, m.successor, m)
	case n.NType == wire.NotifyInvalidKEPayload && len(n.Data) == 2 && m.otherGroup(x, binary.BigEndian.Uint16(n.Data)):
		m.queue = slices.Insert(m.queue, 0, t)
	case n.NType == wire.NotifyTemporaryFailure:
		if m.temporary(now, msg) {
			m.queue = append(m.queue, &task{kind: taskRekeyIKE, ike: &ikeTask{}, at: now.Add(m.backoff(m.tries))})
			m.tries++
		}
	case n.NType == wire.NotifyInvalidSyntax:
		m.fail(now, m.refusal(n.NType, msg.Exchange, true, "", errMalformed))
	default:
		m.rekeyIKEFails(now, m.refusal(n.NType, msg.Exchange, true, "", nil))
	}
}

// otherGroup goes over to the group the peer wants, once for each.
func (m *Machine) otherGroup(x *ikeTask, g uint16) bool {
	if g == wire.GroupNone || g == x.group || !offersGroup(m.cfg.Proposals, g) || slices.Contains(x.tried, g) {
		return false
	}
	x.tried = append(x.tried, x.group, g)
	x.group, x.key = g, nil
	return true
}
