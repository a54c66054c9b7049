package ike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is the responder's part of CREATE_CHILD_SA and of the child SA in
// IKE_AUTH (RFC 7296, Sections 1.3, 2.8, 2.9, 2.17), and what both parts share.

// child is one child SA: what the machine must remember of it, no more.
type child struct {
	ref     uint64
	name    string
	in, out uint32
	old     uint32         // inbound SPI of the child SA this one replaces
	held    *ChildOutbound // waits for proof that the peer receives

	larval    bool // selected, but its key exchange is still being computed
	deleted   bool // our Delete is queued or sent
	rekeying  bool // our request to replace it is queued or sent
	replaced  bool // another child SA has taken its place
	transport bool
	tries     uint8  // rekeyings that failed in a row
	why       Reason // why it is being deleted; 0: by request
	onDead    Action
	onClose   Action

	suite      suite.ESP
	pair       ts.Pair
	soft, hard time.Time // to be rekeyed, expires; zero: never
	used       time.Time // last packet
	inactivity time.Duration
}

// removed is the event for its end. What the owner wants then depends on why.
func (c *child) removed(why Reason) *ChildRemoved {
	if c.why != 0 && (why == ReasonDeleted || why == ReasonPeerDeleted) {
		why = c.why
	}
	r := &ChildRemoved{InSPI: c.in, OutSPI: c.out, Ref: c.ref, Name: c.name, Reason: why}
	switch {
	case c.replaced || c.deleted && why != ReasonExpired:
	case why == ReasonFailed:
		r.Action = c.onDead
	case why == ReasonPeerDeleted || why == ReasonExpired:
		r.Action = c.onClose
	}
	return r
}

func (m *Machine) childIn(spi uint32) *child {
	for _, c := range m.children {
		if c.in == spi {
			return c
		}
	}
	return nil
}

// remove takes a child SA away.
func (m *Machine) remove(c *child, why Reason) {
	i := slices.Index(m.children, c)
	if i < 0 {
		return
	}
	m.children = slices.Delete(m.children, i, i+1)
	if c.larval {
		return // its request ends it
	}
	m.emit(c.removed(why))
}

// offer is a child SA that the peer asks for.
type offer struct {
	proposals []wire.Proposal // those that can be chosen
	asked     ts.Pair         // on the wire, from our view
	pair      ts.Pair         // with NATed addresses replaced, if transport
	transport bool
	rekey     *child
	ni, nr    []byte
	ke        *wire.KE
	first     bool // in IKE_AUTH
}

// readOffer reads SA, TSi, TSr and the notifies of a request. Errors are about
// form only; what is merely unacceptable is refused later.
func (m *Machine) readOffer(msg *message, first bool) (*offer, *wire.ParseError) {
	sa, _ := wire.Get[*wire.SA](msg.ps)
	if err := sa.CheckOffer(); err != nil {
		var bad *wire.ParseError
		errors.As(err, &bad)
		return nil, bad
	}
	tsi, tsr := selector(msg.ps, true), selector(msg.ps, false)
	if tsi == nil || tsr == nil {
		return nil, &wire.ParseError{Payload: wire.PayloadTSi, Why: "without both traffic selectors", Code: wire.NotifyInvalidSyntax}
	}
	o := &offer{first: first, proposals: espOffers(sa.Proposals), transport: findNotify(msg.ps, wire.NotifyUseTransportMode) != nil}
	o.ke, _ = wire.Get[*wire.KE](msg.ps)
	if first {
		// RFC 7296, Section 1.2: IKE_AUTH has no KE, so none can be chosen.
		o.proposals = suite.WithoutKE(o.proposals)
	}
	o.asked = ts.Pair{Local: fromWire(tsr), Remote: fromWire(tsi)}
	o.pair = o.asked
	if o.transport {
		// RFC 7296, Section 2.23.1: the addresses behind a NAT mean nothing here.
		if m.has(flagRemoteNAT) {
			o.pair.Remote = withAddr(o.pair.Remote, m.path.Remote.Addr())
		}
		if m.has(flagLocalNAT) {
			o.pair.Local = withAddr(o.pair.Local, m.path.Local.Addr())
		}
	}
	return o, nil
}

// childRequested takes a CREATE_CHILD_SA request: a new child SA, the rekeying of
// one, or of the IKE SA.
func (m *Machine) childRequested(now time.Time, msg *message) {
	if !m.creates.spend(now, createGap, createBurst) {
		m.respond(now, notify(wire.NotifyTemporaryFailure, nil)) // RFC 8019, Section 5; ADV-H5
		return
	}
	sa, _ := wire.Get[*wire.SA](msg.ps)
	ni, _ := wire.Get[*wire.Nonce](msg.ps)
	if sa.Proposals[0].Protocol == wire.ProtocolIKE {
		m.ikeRekeyRequested(now, msg)
		return
	}
	if m.ownIKE() != nil || m.successor != nil {
		// RFC 7296, Section 2.25.2: not while the IKE SA is being rekeyed.
		m.respond(now, notify(wire.NotifyTemporaryFailure, nil))
		return
	}
	if len(ni.Data) < m.suite.MinNonce() {
		m.refuseRequest(now, msg.Exchange, &wire.ParseError{Payload: wire.PayloadNonce, Why: "too short for the PRF", Code: wire.NotifyInvalidSyntax})
		return
	}
	o, bad := m.readOffer(msg, false)
	if bad != nil {
		m.refuseRequest(now, msg.Exchange, bad)
		return
	}
	o.ni = ni.Data
	if n := findNotify(msg.ps, wire.NotifyRekeySA); n != nil {
		var no *wire.Notify
		if o.rekey, no = m.rekeyed(n); no != nil {
			m.respond(now, no)
			return
		}
	}
	// A rekeyed child SA stays until its Delete, so there is room for one each.
	room := m.maxChildren()
	if o.rekey != nil {
		room *= 2
	}
	if len(m.children) >= room {
		m.respond(now, notify(wire.NotifyNoAdditionalSAs, nil)) // ADV-E11
		return
	}
	var err error
	if o.nr, err = m.random(nonceLen); err != nil {
		m.win.serving = nil
		m.fail(now, err)
		return
	}
	m.decide(now, o, *m.peer)
}

func (m *Machine) maxChildren() int {
	if m.cfg.MaxChildren > 0 {
		return m.cfg.MaxChildren
	}
	return DefaultMaxChildren
}

// rekeyed finds the child SA that REKEY_SA names by the peer's inbound SPI, which
// is our outbound one (RFC 7296, Sections 1.3.3 and 2.25). Nothing of the notify is
// echoed that was not understood (ADV-F10, CVE-2023-38710).
func (m *Machine) rekeyed(n *wire.Notify) (*child, *wire.Notify) {
	spi, ok := n.SPI32()
	if !ok && m.faulty(faultEchoSPI) {
		return nil, &wire.Notify{Protocol: n.Protocol, SPI: bytes.Clone(n.SPI), NType: wire.NotifyChildSANotFound}
	}
	if !ok {
		return nil, notify(wire.NotifyChildSANotFound, nil)
	}
	for _, c := range m.children {
		if c.out == spi && n.Protocol == wire.ProtocolESP {
			if c.deleted || c.larval {
				return nil, notify(wire.NotifyTemporaryFailure, nil)
			}
			return c, nil
		}
	}
	if t := m.request(); t != nil && t.child != nil {
		// It may be the one that our request made: the response is on its way.
		return nil, notify(wire.NotifyTemporaryFailure, nil)
	}
	return nil, &wire.Notify{Protocol: n.Protocol, SPI: bytes.Clone(n.SPI), NType: wire.NotifyChildSANotFound}
}

// decide asks the engine about an offer.
func (m *Machine) decide(now time.Time, o *offer, who identity) {
	switch {
	case len(o.proposals) == 0:
		m.refuseChild(now, o, notify(wire.NotifyNoProposalChosen, nil), errors.New("no ESP proposal with an SPI of its own"))
		return
	case o.pair.Empty():
		m.refuseChild(now, o, notify(wire.NotifyTSUnacceptable, nil), errors.New("no traffic selector that any packet can match"))
		return
	}
	w := &WorkDecide{ID: m.workID(), Peer: who.handle, AssertedID: who.id, SPKI: who.spki, Pair: o.pair, Asked: o.asked,
		Transport: o.transport, Proposals: o.proposals, First: o.first, Path: m.path}
	if o.rekey != nil {
		w.Rekey = o.rekey.in
	}
	ask(m, w, func(now time.Time, r *DecideResult) { m.decided(now, o, r) })
}

// decided checks the answer: what the engine grants must have been asked for.
func (m *Machine) decided(now time.Time, o *offer, r *DecideResult) {
	if r.Refuse == 0 && r.SPI == 0 {
		r = &DecideResult{Refuse: wire.NotifyTSUnacceptable, Err: errMissing}
	}
	if r.Refuse != 0 {
		m.refuseChild(now, o, notify(r.Refuse, nil), r.Err)
		return
	}
	m.reserve(r.SPI)
	wrong := func(t wire.NotifyType, what string) {
		m.release(r.SPI)
		m.refuseChild(now, o, notify(t, nil), errors.New("ike: decision grants "+what+" that was not asked for"))
	}
	i := slices.IndexFunc(o.proposals, func(p wire.Proposal) bool { return p.Num == r.Chosen.Num })
	asked := o.pair
	if !r.Transport {
		asked = o.asked
	}
	if no := m.rekeyGone(o); no != nil {
		m.release(r.SPI)
		m.refuseChild(now, o, no, errGone)
		return
	}
	switch {
	case i < 0 || r.Suite.KeyLen() == 0:
		wrong(wire.NotifyNoProposalChosen, "a proposal")
		return
	case r.Transport && !o.transport:
		wrong(wire.NotifyNoProposalChosen, "transport mode") // ADV-E6
		return
	case !within(asked, r.Pair):
		wrong(wire.NotifyTSUnacceptable, "traffic")
		return
	case o.rekey != nil && !within(r.Pair, o.rekey.pair) && !(r.Transport && m.has(flagLocalNAT|flagRemoteNAT)):
		// RFC 7296, Section 2.9.2: not narrower than what is in use (ADV-E4).
		m.release(r.SPI)
		m.refuseChild(now, o, notify(wire.NotifyTSUnacceptable, nil), errNarrower)
		return
	}
	out := espSPI(o.proposals[i])
	if r.Suite.Group == wire.GroupNone {
		m.grant(now, o, r, out, nil, nil)
		return
	}
	if o.ke == nil || o.ke.Group != r.Suite.Group {
		// RFC 7296, Section 1.3 (ADV-E12).
		m.release(r.SPI)
		m.refuseChild(now, o, notify(wire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, r.Suite.Group)), nil)
		return
	}
	ask(m, &WorkKE{ID: m.workID(), Group: r.Suite.Group, Peer: o.ke.Data}, func(now time.Time, k *KEResult) {
		if k.Err != nil || k.Key == nil || len(k.Shared) == 0 {
			m.release(r.SPI)
			// RFC 6989, Section 2.5: INVALID_SYNTAX; the SA is not trusted further.
			m.refuseRequest(now, wire.ExchangeCreateChildSA,
				&wire.ParseError{Payload: wire.PayloadKE, Why: "public value is not valid", Code: wire.NotifyInvalidSyntax})
			return
		}
		m.grant(now, o, r, out, k.Key.Public(), k.Shared)
	})
}

// refuseChild answers that there is no child SA. In IKE_AUTH the IKE SA stands
// nevertheless (RFC 7296, Section 1.2).
func (m *Machine) refuseChild(now time.Time, o *offer, n *wire.Notify, why error) {
	m.debug("child SA refused", "notify", n.NType.String(), "error", why)
	if o.first {
		m.authRespond(now, []wire.Payload{n}, nil)
		return
	}
	m.respond(now, n)
}

var (
	errGone     = errors.New("the child SA to be rekeyed is gone, or going")
	errNarrower = errors.New("narrower than the child SA to be rekeyed")
)

// rekeyGone returns the refusal for a rekeying whose old child SA has gone while it was
// being decided (RFC 7296, Section 2.25.1).
func (m *Machine) rekeyGone(o *offer) *wire.Notify {
	switch {
	case o.rekey == nil:
		return nil
	case !slices.Contains(m.children, o.rekey):
		return &wire.Notify{Protocol: wire.ProtocolESP, SPI: spi32(o.rekey.out), NType: wire.NotifyChildSANotFound}
	case o.rekey.deleted:
		return notify(wire.NotifyTemporaryFailure, nil)
	}
	return nil
}

// grant makes the child SA and answers.
func (m *Machine) grant(now time.Time, o *offer, r *DecideResult, out uint32, public []byte, shared suite.Secret) {
	if no := m.rekeyGone(o); no != nil {
		m.release(r.SPI)
		m.refuseChild(now, o, no, errGone)
		return
	}
	itor, rtoi, err := suite.ChildKeys(m.suite, r.Suite, m.skd, o.ni, o.nr, shared)
	shared.Zero()
	if err != nil {
		m.release(r.SPI)
		m.refuseChild(now, o, notify(wire.NotifyNoProposalChosen, nil), err)
		return
	}
	chosen := r.Chosen
	chosen.Protocol, chosen.SPI = wire.ProtocolESP, spi32(r.SPI)
	var ps []wire.Payload
	if r.Transport {
		ps = append(ps, notify(wire.NotifyUseTransportMode, nil)) // RFC 7296, Section 1.3.1
	}
	if r.MoreTS {
		ps = append(ps, notify(wire.NotifyAdditionalTSPossible, nil)) // RFC 7296, Section 2.9
	}
	ps = append(ps, &wire.SA{Proposals: []wire.Proposal{chosen}})
	if !o.first {
		ps = append(ps, &wire.Nonce{Data: o.nr})
	}
	if public != nil {
		ps = append(ps, &wire.KE{Group: r.Suite.Group, Data: public})
	}
	ps = append(ps, toWire(r.Pair.Remote, true), toWire(r.Pair.Local, false))
	c := &child{ref: r.Ref, name: r.Name, in: r.SPI, out: out}
	if o.rekey != nil {
		c.old = o.rekey.in
	}
	made := &made{child: c, pair: r.Pair, suite: r.Suite, transport: r.Transport, terms: r.Terms, inKey: itor, outKey: rtoi}
	if o.first {
		m.authRespond(now, ps, made)
		return
	}
	if o.rekey != nil {
		m.peerRekeyed(o.rekey, o.ni, o.nr)
	}
	m.answerChild(now, ps, made)
}

// made is a child SA ready to be installed.
type made struct {
	child         *child
	pair          ts.Pair
	suite         suite.ESP
	transport     bool
	initiator     bool // of the exchange
	terms         Terms
	inKey, outKey suite.Secret
}

// answerChild sends a response as the one that makes a child SA: its inbound half
// stands before the peer hears of it (RFC 7296, Section 2.8).
func (m *Machine) answerChild(now time.Time, ps []wire.Payload, c *made) {
	if c == nil {
		m.respond(now, ps...)
		return
	}
	outbound := m.installInbound(now, c)
	m.respond(now, ps...)
	if m.state != StateEstablished {
		return // the answer could not be made; all is torn down
	}
	if c.child.old != 0 && !m.faulty(faultHasty) {
		// RFC 7296, Section 2.8: go on with the old SA until the peer uses the new
		// one or deletes the old.
		c.child.held = outbound
		return
	}
	m.emit(outbound)
}

// installInbound emits the key log and ChildInbound and returns what ChildOutbound
// will be.
func (m *Machine) installInbound(now time.Time, c *made) *ChildOutbound {
	x := Child{Ref: c.child.ref, Name: c.child.name, InSPI: c.child.in, OutSPI: c.child.out, Suite: c.suite, Pair: c.pair,
		Transport: c.transport, Encap: m.has(flagEncap), Path: m.path, Initiator: c.initiator, Replaces: c.child.old,
		Limits: m.limits(&c.terms.Lifetime)}
	k := c.child
	k.suite, k.pair, k.transport = c.suite, c.pair, c.transport
	k.soft, k.hard = m.times(now, &c.terms.Lifetime)
	k.used, k.inactivity = now, c.terms.Inactivity
	k.onDead, k.onClose = c.terms.DPDAction, c.terms.CloseAction
	if !slices.Contains(m.children, c.child) {
		m.children = append(m.children, c.child)
	}
	c.child.larval = false
	m.install(c.child.in)
	if m.cfg.KeyLog {
		m.emit(&KeyLog{ESP: &ESPKeys{SPI: x.InSPI, Path: m.path, Inbound: true, Suite: c.suite, Key: bytes.Clone(c.inKey)}})
		m.emit(&KeyLog{ESP: &ESPKeys{SPI: x.OutSPI, Path: m.path, Suite: c.suite, Key: bytes.Clone(c.outKey)}})
	}
	if m.debugs() {
		m.debug("child SA", "name", x.Name, "esp.spi", fmt.Sprintf("%08x", x.InSPI), "suite", c.suite.String(), "ts", c.pair.String())
	}
	m.emit(&ChildInbound{Child: x, Key: c.inKey})
	return &ChildOutbound{Child: x, Key: c.outKey}
}

// FirstInbound says that the first good packet came in on the child SA.
func (m *Machine) FirstInbound(now time.Time, inSPI uint32) {
	m.verified = true
	defer m.caught(now)
	m.Heard(now, inSPI)
	if c := m.childIn(inSPI); c != nil {
		m.unhold(c)
	}
}

// Heard says that authentic traffic came in on the child SA with our inbound SPI.
func (m *Machine) Heard(now time.Time, inSPI uint32) {
	c := m.childIn(inSPI)
	if c == nil {
		return
	}
	m.setFlag(flagConfirmed, true)
	if now.After(m.heard) {
		m.heard = now
	}
	c.use(now)
}

// Used says that a packet was sent on the child SA with our inbound SPI. Those with
// Terms.Inactivity need it, and a NAT in front of us, which then needs no keepalive.
func (m *Machine) Used(now time.Time, inSPI uint32) {
	if c := m.childIn(inSPI); c != nil {
		c.use(now)
		if now.After(m.spoke) {
			m.spoke = now
		}
	}
}

func (c *child) use(now time.Time) {
	if now.After(c.used) {
		c.used = now
	}
}

// unhold starts sending on a child SA that replaces another.
func (m *Machine) unhold(c *child) {
	if c.held == nil {
		return
	}
	o := c.held
	c.held = nil
	o.Path, o.Encap = m.path, m.has(flagEncap)
	m.emit(o)
}
