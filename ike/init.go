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

// This file is IKE_SA_INIT as the initiator has it (RFC 7296, Section 1.2). Nothing in it is authenticated
// until IKE_AUTH: the initiator believes no error for good (Section 2.21.1).

// initVariant is one IKE_SA_INIT request with its own key. The response tells by
// its group which of them it answers.
type initVariant struct {
	group uint16
	key   *suite.KE
	raw   []byte
}

// Start begins an initiator's IKE_SA_INIT. child, if not nil, is made in IKE_AUTH;
// nil makes a childless IKE SA (RFC 6023).
func (m *Machine) Start(now time.Time, child *ChildRequest) {
	m.verified = true
	defer m.caught(now)
	var t *childTask
	if child != nil {
		m.reserve(child.SPI)
		t = &childTask{req: *child}
	}
	if m.state != StateIdle {
		if t != nil {
			m.childEnds(t, ErrClosed)
		}
		return
	}
	m.hs.child = t
	m.state = StateInitKey
	m.initKey(firstGroup(m.cfg.Proposals))
}

// initKey asks for a key of a group and sends the request with it.
func (m *Machine) initKey(group uint16) {
	ask(m, &WorkKE{ID: m.workID(), Group: group}, func(now time.Time, r *KEResult) {
		switch {
		case r.Err == nil && r.Key != nil:
		case len(m.hs.sent) > 0: // the group was not our idea; go on with ours
			m.state = StateInitSent
			m.req.at = now.Add(m.cfg.Retransmit.wait(m.req.sends))
			return
		default:
			m.fail(now, fmt.Errorf("ike: %s: key for %s: %w", m.peerName(), wire.GroupName(group), orMissing(r.Err)))
			return
		}
		m.hs.sent = append(m.hs.sent, initVariant{group: group, key: r.Key})
		m.hs.current = len(m.hs.sent) - 1
		m.state = StateInitSent
		m.initRetry(now, 0)
	})
}

// initRetry sends the current variant with the current cookie. sends is how often a
// request has been sent before under the same schedule: a retry that was not sent at
// once goes on with the waits where they were.
func (m *Machine) initRetry(now time.Time, sends int) {
	hs := m.hs
	v := &hs.sent[hs.current]
	v.raw = m.initRequest(v)
	x := &exchange{typ: wire.ExchangeIKESAInit, raw: v.raw, since: now}
	if m.req != nil {
		x.since = m.req.since
	}
	hs.stale = false
	hs.origin = m.path
	m.nextID = 1
	m.launch(now, x)
	x.sends += sends
	x.at = now.Add(m.cfg.Retransmit.wait(x.sends))
}

// initRequest composes the request: [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION_*),
// [N(SIGNATURE_HASH_ALGORITHMS)]. All but cookie and KE is the same in every retry.
func (m *Machine) initRequest(v *initVariant) []byte {
	hs := m.hs
	var ps []wire.Payload
	if hs.cookie != nil {
		ps = append(ps, notify(wire.NotifyCookie, hs.cookie)) // RFC 7296, Section 2.6: first
	}
	src, dst := natNotifies(m.spii, 0, m.path, hs.fakeHash)
	ps = append(ps,
		&wire.SA{Proposals: numbered(m.cfg.Proposals, nil)},
		&wire.KE{Group: v.group, Data: v.key.Public()},
		&wire.Nonce{Data: hs.ni}, src, dst)
	if n := m.hashNotify(); n != nil {
		ps = append(ps, n)
	}
	if n := m.fragmentNotify(); n != nil {
		ps = append(ps, n)
	}
	msg := wire.Message{Header: wire.Header{SPIi: m.spii, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: ps}
	return msg.Append(nil)
}

// hashNotify returns SIGNATURE_HASH_ALGORITHMS (RFC 7427, Section 4).
func (m *Machine) hashNotify() *wire.Notify {
	if len(m.cfg.HashAlgs) == 0 {
		return nil
	}
	var b []byte
	for _, h := range m.cfg.HashAlgs {
		b = binary.BigEndian.AppendUint16(b, h)
	}
	return notify(wire.NotifySignatureHashAlgorithms, b)
}

// hashAlgs reads the peer's SIGNATURE_HASH_ALGORITHMS; nil if there is none that
// can be read (ADV-B25).
func hashAlgs(ps []wire.Payload) []uint16 {
	n := findNotify(ps, wire.NotifySignatureHashAlgorithms)
	if n == nil || len(n.Data)%2 != 0 {
		return nil
	}
	out := make([]uint16, 0, min(len(n.Data)/2, maxHashAlgs))
	for i := 0; i < cap(out); i++ {
		out = append(out, binary.BigEndian.Uint16(n.Data[2*i:]))
	}
	return out
}

// initAnswer takes an IKE_SA_INIT response. Until the shared secret stands it
// changes nothing that would keep a later, true response from winning.
func (m *Machine) initAnswer(now time.Time, t *transition, msg *message) Drop {
	// RFC 7296, Section 2.11: it comes from where we asked (ADV-C10).
	if msg.path.Remote != m.hs.origin.Remote {
		return DropAddress
	}
	first := m.state == StateInitSent
	sa, okSA := wire.Get[*wire.SA](msg.ps)
	ke, okKE := wire.Get[*wire.KE](msg.ps)
	nr, okNr := wire.Get[*wire.Nonce](msg.ps)
	if !okSA || !okKE || !okNr {
		if !first {
			return DropLate
		}
		return m.initRefused(now, msg)
	}
	if bad := t.check(msg.ps, response); bad != nil {
		return DropSyntax
	}
	hs := m.hs
	mine := func(v initVariant) bool { return bytes.Equal(v.key.Public(), ke.Data) }
	if msg.SPIr == 0 || msg.SPIr == m.spii || bytes.Equal(nr.Data, hs.ni) || slices.ContainsFunc(hs.sent, mine) {
		return DropReflected // ADV-C7
	}
	s, err := suite.CheckIKE(numbered(m.cfg.Proposals, nil), sa.Proposals)
	if err != nil {
		if first {
			m.unverified(now, m.mismatch(msg.Exchange, "selected proposal", "one of ours", "another", err))
		}
		return DropSelection // ADV-C6
	}
	i := slices.IndexFunc(hs.sent, func(v initVariant) bool { return v.group == ke.Group })
	if ke.Group != s.Group || i < 0 || len(nr.Data) < s.MinNonce() {
		return DropSelection
	}
	n := detectNAT(msg.ps, m.spii, msg.SPIr, msg.path)
	if m.cfg.ForceEncap && !n.seen {
		if !first {
			return DropSelection
		}
		m.unverified(now, m.mismatch(msg.Exchange, "NAT traversal", "NAT_DETECTION notifies, because ESP can only go in UDP here", "none", nil))
		return DropSelection
	}
	a := &initResponse{
		suite: s, spir: msg.SPIr, nat: n, local: msg.path,
		nr: bytes.Clone(nr.Data), raw: bytes.Clone(msg.raw), req: hs.sent[i].raw,
		hashes: hashAlgs(msg.ps), childless: findNotify(msg.ps, wire.NotifyChildlessSupported) != nil,
		fragments: findNotify(msg.ps, wire.NotifyFragmentationSupported) != nil,
	}
	if first {
		hs.init = m.req
		m.req.at = time.Time{} // no more sends while this one may be it
	} else if !m.fork(msg.raw) {
		return DropLate
	}
	hs = m.hs
	m.state, hs.msg2 = StateInitDone, a.raw
	ask(m, &WorkKE{ID: m.workID(), Group: s.Group, Key: hs.sent[i].key, Peer: bytes.Clone(ke.Data)},
		func(now time.Time, r *KEResult) {
			if m.resume(hs) {
				m.initShared(now, a, r)
			}
		})
	return 0
}

// initResponse is an IKE_SA_INIT response that waits for its shared secret.
type initResponse struct {
	suite     suite.IKE
	spir      uint64
	nat       nat
	local     Path
	nr, raw   []byte
	req       []byte // our request that it answers
	hashes    []uint16
	childless bool
	fragments bool
}

// initShared finishes the initiator's IKE_SA_INIT.
func (m *Machine) initShared(now time.Time, a *initResponse, r *KEResult) {
	if r.Err != nil || len(r.Shared) == 0 {
		// The value may be forged: the true one may still come (ADV-B16).
		m.drop(DropKE)
		err := m.mismatch(wire.ExchangeIKESAInit, "public value", "a valid one for "+wire.GroupName(a.suite.Group), "one that is refused", r.Err)
		if m.lose(err) {
			return
		}
		m.unverified(now, err)
		m.state, m.req = StateInitSent, m.hs.init
		m.req.at = now.Add(m.cfg.Retransmit.wait(m.req.sends))
		return
	}
	hs := m.hs
	m.spir = a.spir
	hs.nr, hs.msg1 = a.nr, a.req
	hs.peerHashes, hs.childless = a.hashes, a.childless
	if !m.path.Local.IsValid() || m.path.Local.Addr().IsUnspecified() {
		m.path.Local = a.local.Local
	}
	if m.req != nil {
		m.answered()
	}
	m.req = nil
	m.agreeFragments(a.fragments)
	if err := m.derive(a.suite, r.Shared); err != nil {
		m.fail(now, err)
		return
	}
	m.applyNAT(a.nat)
	// RFC 6023, Section 3: the first child SA may have a CREATE_CHILD_SA of its own.
	hs.deferred = hs.child != nil && hs.childless && m.cfg.Childless >= ChildlessPrefer
	if hs.child == nil && !hs.childless || m.cfg.Childless == ChildlessForce && !hs.childless {
		m.fail(now, m.mismatch(wire.ExchangeIKESAInit, "childless IKE SA", "CHILDLESS_IKEV2_SUPPORTED (RFC 6023)", "none", nil))
		return
	}
	m.authSign(m.hs.msg1, hs.nr, m.cfg.RemoteID, nil)
}

// derive makes the keys of the SA.
func (m *Machine) derive(s suite.IKE, shared suite.Secret) error {
	keys, err := suite.Derive(s, m.hs.ni, m.hs.nr, shared, m.spii, m.spir)
	shared.Zero()
	if err != nil {
		return err
	}
	m.hs.keys = keys
	return m.useKeys(s, keys)
}

// useKeys takes over the keys of the SA but SK_p.
func (m *Machine) useKeys(s suite.IKE, keys *suite.Keys) error {
	i2r, err := suite.NewProtector(s, keys.SKei, keys.SKai)
	if err != nil {
		return err
	}
	r2i, err := suite.NewProtector(s, keys.SKer, keys.SKar)
	if err != nil {
		return err
	}
	if m.role == Initiator {
		m.out, m.in = i2r, r2i
	} else {
		m.out, m.in = r2i, i2r
	}
	m.suite, m.skd = s, keys.SKd
	if m.cfg.KeyLog {
		m.emit(&KeyLog{IKE: &IKEKeys{SPIi: m.spii, SPIr: m.spir, Suite: s,
			SKei: bytes.Clone(keys.SKei), SKer: bytes.Clone(keys.SKer),
			SKai: bytes.Clone(keys.SKai), SKar: bytes.Clone(keys.SKar)}})
	}
	// What only these exchanges needed is gone; SK_d stays (forward secrecy).
	keys.SKei.Zero()
	keys.SKer.Zero()
	keys.SKai.Zero()
	keys.SKar.Zero()
	keys.SKd = nil
	return nil
}

// initRefused handles a response without SA, KE and nonce: COOKIE and
// INVALID_KE_PAYLOAD are acted on, the rest is only remembered.
func (m *Machine) initRefused(now time.Time, msg *message) Drop {
	if n := findNotify(msg.ps, wire.NotifyCookie); n != nil {
		return m.initCookie(now, n.Data)
	}
	n := errorNotify(msg.ps)
	if n == nil {
		return DropSyntax
	}
	if n.NType == wire.NotifyInvalidKEPayload {
		return m.initGroup(now, n)
	}
	why := ""
	if n.NType == wire.NotifyNoProposalChosen {
		why = "we offer " + proposalList(m.cfg.Proposals)
	}
	m.unverified(now, m.refusal(n.NType, msg.Exchange, true, why, nil))
	return DropNotify
}

// initCookie sends the request again with a cookie in front (RFC 7296, Section
// 2.6).
func (m *Machine) initCookie(now time.Time, cookie []byte) Drop {
	if len(cookie) == 0 || len(cookie) > maxCookie {
		return DropSyntax
	}
	if bytes.Equal(cookie, m.hs.cookie) {
		return DropNotify // answers a request sent before we had it
	}
	m.hs.cookie = bytes.Clone(cookie)
	m.initSoon(now)
	return 0
}

// initGroup handles INVALID_KE_PAYLOAD: one retry per group, with the full and
// unchanged SA payload (RFC 7296, Sections 1.2 and 2.6.1). A forged one can only
// make us use a group we offered; a group we had already is tried again at the
// next scheduled send, not at once.
func (m *Machine) initGroup(now time.Time, n *wire.Notify) Drop {
	if len(n.Data) != 2 {
		return DropSyntax
	}
	hs, group := m.hs, binary.BigEndian.Uint16(n.Data)
	if !offersGroup(m.cfg.Proposals, group) || group == wire.GroupNone {
		m.unverified(now, m.refusal(n.NType, wire.ExchangeIKESAInit, true,
			fmt.Sprintf("wants %s, we offer %s", wire.GroupName(group), proposalList(m.cfg.Proposals)), nil))
		return DropNotify // ADV-C2
	}
	if group == hs.sent[hs.current].group {
		return DropNotify // answers an older request
	}
	if i := slices.IndexFunc(hs.sent, func(v initVariant) bool { return v.group == group }); i >= 0 {
		hs.current, hs.stale = i, true // ADV-C3
		return DropNotify
	}
	m.debug("peer wants another group", "group", wire.GroupName(group))
	m.state = StateInitKey
	m.req.at = time.Time{}
	m.initKey(group)
	return 0
}

// initSoon sends a changed request, at once or, if answers make us do so too
// often, when the schedule says so (RFC 7296, Section 2.6; ADV-C4).
func (m *Machine) initSoon(now time.Time) {
	m.hs.stale = true
	if m.hs.instant < maxInstantRetries {
		m.hs.instant++
		m.initRetry(now, 0)
	}
}

// unverified remembers what an unauthenticated response claims and reports each
// kind once.
func (m *Machine) unverified(now time.Time, err error) {
	hs := m.hs
	hs.refusals++
	if hs.refusedAt.IsZero() {
		hs.refusedAt = now
	}
	for i, e := range hs.refused {
		if e.Error() == err.Error() {
			hs.refused = append(slices.Delete(hs.refused, i, i+1), e) // the last one is the newest
			return
		}
	}
	if len(hs.refused) == maxUnverified {
		return
	}
	hs.refused = append(hs.refused, err)
	m.debug("unauthenticated refusal", "error", err)
	m.emit(&Unverified{Err: err})
}

// initGivesUp ends an IKE_SA_INIT that has been refused again and again for some
// time (RFC 7296, Section 2.21.1).
func (m *Machine) initGivesUp(now time.Time) bool {
	hs := m.hs
	if hs.refusals < initRefusals || now.Sub(hs.refusedAt) < initGrace {
		return false
	}
	m.fail(now, hs.refused[len(hs.refused)-1])
	return true
}

func (c *Config) halfOpen() time.Duration {
	if c.HalfOpenLife > 0 {
		return c.HalfOpenLife
	}
	return DefaultHalfOpenLife
}

var errMissing = errors.New("the work was answered with nothing")

func orMissing(err error) error {
	if err == nil {
		return errMissing
	}
	return err
}
