package ike

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is IKE_AUTH (RFC 7296, Sections 1.2 and 2.15). An SA becomes
// established in exactly one function, establish, and only WorkVerify's OK leads
// there (ADV-D6, CVE-2014-2338, CVE-2026-78135).

// authRequest is an IKE_AUTH request on its way through verification, signature
// and decision.
type authRequest struct {
	asked    *wire.ID // the IDr asked for
	local    Local
	auth     wire.Auth
	child    *offer // nil: childless
	contact  bool   // INITIAL_CONTACT
	identity identity
}

// signedOctets returns RealMessage | Nonce | prf(SK_p, ID) (RFC 7296, Section 2.15).
func (m *Machine) signedOctets(skp suite.Secret, message, nonce, idBody []byte) []byte {
	mac := suite.PRF(m.suite.PRF, skp, idBody)
	out := make([]byte, 0, len(message)+len(nonce)+len(mac))
	return append(append(append(out, message...), nonce...), mac...)
}

// authSign asks for our AUTH payload; message is our IKE_SA_INIT message, nonce the
// peer's.
func (m *Machine) authSign(message, nonce []byte, remote *wire.ID, peer any) {
	hs := m.hs
	local, skp := m.cfg.Local, hs.keys.SKpi
	if m.role == Responder {
		local, skp = m.hs.auth.local, m.hs.keys.SKpr
	}
	octets := m.signedOctets(skp, message, nonce, local.ID.AppendBody(nil))
	ask(m, &WorkSign{ID: m.workID(), Local: local, Octets: octets, PRF: m.suite.PRF,
		PeerHashes: m.hs.peerHashes, RemoteID: remote, Peer: peer}, func(now time.Time, r *SignResult) {
		if !m.resume(hs) {
			return
		}
		err := r.Err
		if err == nil && (r.Auth.Method == 0 || len(r.Auth.Data) == 0) {
			err = errMissing
		}
		if m.role == Initiator {
			m.authRequest(now, r, err)
		} else {
			m.authSigned(now, r, err)
		}
	})
}

// authRequest sends IDi, [CERT], [N(INITIAL_CONTACT)], [CERTREQ], [IDr], AUTH, and
// what asks for the first child SA.
func (m *Machine) authRequest(now time.Time, r *SignResult, err error) {
	if err != nil {
		m.fail(now, m.refusal(wire.NotifyAuthenticationFailed, wire.ExchangeIKEAuth, false, "cannot make our own AUTH payload", err))
		return
	}
	hs := m.hs
	id := m.cfg.Local.ID
	id.Responder = false
	ps := []wire.Payload{&id}
	ps = appendCerts(ps, m.cfg.Local)
	if m.cfg.InitialContact && !r.Others {
		ps = append(ps, notify(wire.NotifyInitialContact, nil))
	}
	for _, e := range m.cfg.CertRequest {
		ps = append(ps, &wire.CertReq{Encoding: e})
	}
	if m.cfg.RemoteID != nil {
		idr := *m.cfg.RemoteID
		idr.Responder = true
		ps = append(ps, &idr)
	}
	auth := r.Auth
	ps = append(ps, &auth)
	if hs.child != nil && !hs.deferred {
		hs.child.first = true
		ps = m.appendChild(ps, hs.child)
	}
	m.state = StateAuthSent
	m.send(now, wire.ExchangeIKEAuth, nil, ps...)
}

// appendCerts appends our CERT payloads, unless a shared key needs none. The one
// with the key that verifies AUTH is first (RFC 7296, Section 1.2; RFC 5386,
// Section 2).
func appendCerts(ps []wire.Payload, l Local) []wire.Payload {
	if l.Method == wire.AuthMethodPSK || l.Method == wire.AuthMethodNull {
		return ps
	}
	for _, c := range l.Certs {
		ps = append(ps, &c)
	}
	return ps
}

// peerCerts returns the peer's CERT payloads and the first bare key among them.
func peerCerts(ps []wire.Payload) (certs []wire.Cert, spki []byte) {
	for _, p := range ps {
		c, ok := p.(*wire.Cert)
		if !ok || len(certs) == maxPeerCerts {
			continue
		}
		if c.Encoding == wire.CertRawPublicKey && spki == nil {
			spki = c.Data
		}
		certs = append(certs, *c)
	}
	return certs, spki
}

// authAnswer takes the IKE_AUTH response.
func (m *Machine) authAnswer(now time.Time, msg *message) {
	m.req = nil
	auth, ok := wire.Get[*wire.Auth](msg.ps)
	idr := identification(msg.ps, true)
	if !ok || idr == nil {
		// Known to be from the other end of the key exchange, whoever that is
		// (RFC 7296, Section 2.21.2; ADV-D24).
		n := errorNotify(msg.ps)
		m.fail(now, m.refusal(n.NType, msg.Exchange, true, "it did not accept us as "+m.cfg.Local.ID.String(), nil))
		return
	}
	hs := m.hs
	certs, spki := peerCerts(msg.ps)
	octets := m.signedOctets(hs.keys.SKpr, hs.msg2, hs.ni, rawBody(msg.first, msg.inner, wire.PayloadIDr))
	m.state = StateAuthCheck
	who := identity{id: *idr, spki: spki}
	ask(m, &WorkVerify{ID: m.workID(), AssertedID: *idr, AskedID: m.cfg.RemoteID, Auth: *auth, SPKI: spki,
		Certs: certs, Octets: octets, PRF: m.suite.PRF, PeerHashes: hs.peerHashes, Path: m.path}, func(now time.Time, r *VerifyResult) {
		if !m.resume(hs) {
			return
		}
		if !r.OK && !m.faulty(faultNoVerify) {
			// RFC 7296, Section 2.21.2: told in an exchange of its own.
			m.abort(now, m.refusal(wire.NotifyAuthenticationFailed, wire.ExchangeIKEAuth, false,
				"peer claims to be "+who.id.String(), r.Err), wire.NotifyAuthenticationFailed)
			return
		}
		who.handle = r.Peer
		m.authAccepted(now, msg, who)
	})
}

// authAccepted finishes the initiator's handshake.
func (m *Machine) authAccepted(now time.Time, msg *message, who identity) {
	hs := m.hs
	t := hs.child
	ni, nr := hs.ni, hs.nr
	if m.reason == ReasonDeleted { // Delete came in between
		m.startDelete(now, ErrClosed, ReasonDeleted, 0)
		return
	}
	m.establish(now, who, m.cfg.Local.ID, false)
	m.setFlag(flagConfirmed, true)
	m.authTimes(now)
	m.authLifetime(now, msg.ps)
	if t != nil && hs.deferred {
		m.queue = slices.Insert(m.queue, 0, &task{kind: taskCreate, child: t})
		return
	}
	if t == nil {
		return
	}
	// A child SA that was refused does not hurt the IKE SA (ADV-D23).
	m.childSelected(now, msg, t, ni, nr)
}

// establish is the only way into StateEstablished.
func (m *Machine) establish(now time.Time, who identity, local wire.ID, contact bool) {
	m.state = StateEstablished
	m.life = time.Time{}
	// A long-lived SA keeps no message alive.
	m.peer = &identity{spki: bytes.Clone(who.spki), handle: who.handle,
		id: wire.ID{IType: who.id.IType, Data: bytes.Clone(who.id.Data), Responder: who.id.Responder}}
	m.emit(&Established{
		Role: m.role, SPIi: m.spii, SPIr: m.spir, LocalID: local, RemoteID: m.peer.id, Suite: m.suite, Path: m.path,
		Encap: m.has(flagEncap), LocalNAT: m.has(flagLocalNAT), RemoteNAT: m.has(flagRemoteNAT),
		InitialContact: contact, Peer: who.handle,
	})
	if m.debugs() {
		m.debug("IKE SA established", "id", m.peer.id.String(), "suite", m.suite.String())
	}
	m.dropHandshake()
	m.ikeTimes(now)
}

// authRequested takes the IKE_AUTH request.
func (m *Machine) authRequested(now time.Time, msg *message) {
	hs := m.hs
	a := &authRequest{local: m.cfg.Local, contact: findNotify(msg.ps, wire.NotifyInitialContact) != nil}
	if idr := identification(msg.ps, true); idr != nil {
		a.asked = idr
	}
	var bad *wire.ParseError
	if a.child, bad = m.firstOffer(msg); bad != nil {
		m.refuseRequest(now, msg.Exchange, bad)
		return
	}
	auth, _ := wire.Get[*wire.Auth](msg.ps)
	idi := identification(msg.ps, false)
	certs, spki := peerCerts(msg.ps)
	a.identity = identity{id: *idi, spki: spki}
	hs.auth = a
	m.state = StateAuthBusy
	octets := m.signedOctets(hs.keys.SKpi, hs.msg1, hs.nr, rawBody(msg.first, msg.inner, wire.PayloadIDi))
	ask(m, &WorkVerify{ID: m.workID(), AssertedID: *idi, AskedID: a.asked, Auth: *auth, SPKI: spki, Certs: certs,
		Octets: octets, PRF: m.suite.PRF, PeerHashes: hs.peerHashes, Path: m.path,
		Contact: a.contact, Childless: a.child == nil}, func(now time.Time, r *VerifyResult) {
		if !r.OK && !m.faulty(faultNoVerify) {
			m.authRefuse(now, r.Err)
			return
		}
		a.identity.handle = r.Peer
		if r.Local != nil {
			a.local = *r.Local
		}
		m.authSign(hs.msg2, hs.ni, &a.identity.id, r.Peer)
	})
}

// firstOffer returns the child SA that an IKE_AUTH request asks for. Without the
// three payloads it is childless, which must have been announced (RFC 6023, Section
// 4; ADV-D8).
func (m *Machine) firstOffer(msg *message) (*offer, *wire.ParseError) {
	var have payloads
	for _, p := range msg.ps {
		have |= bit(p.Type())
	}
	all := set(wire.PayloadSA, wire.PayloadTSi, wire.PayloadTSr)
	if have&all == 0 && m.cfg.Childless != ChildlessNever {
		return nil, nil
	}
	if missing := all &^ have; missing != 0 {
		return nil, &wire.ParseError{Why: "without " + missing.String(), Code: wire.NotifyInvalidSyntax}
	}
	return m.readOffer(msg, true)
}

// authRefuse tells the peer no more than that it failed (ADV-D17).
func (m *Machine) authRefuse(now time.Time, why error) {
	who := m.hs.auth.identity.id.String()
	m.respond(now, notify(wire.NotifyAuthenticationFailed, nil))
	m.fail(now, m.refusal(wire.NotifyAuthenticationFailed, wire.ExchangeIKEAuth, false, "peer claims to be "+who, why))
}

// authSigned goes on with our AUTH payload to the child SA.
func (m *Machine) authSigned(now time.Time, r *SignResult, err error) {
	a := m.hs.auth
	if err != nil {
		m.authRefuse(now, errors.Join(errors.New("cannot make our own AUTH payload"), err))
		return
	}
	a.auth = r.Auth
	if a.child == nil {
		m.authRespond(now, nil, nil)
		return
	}
	a.child.ni, a.child.nr = m.hs.ni, m.hs.nr
	m.decide(now, a.child, a.identity)
}

// authRespond sends IDr, [CERT], AUTH and either the child SA's payloads or why
// there is none (RFC 7296, Section 2.21.2), and finishes the responder's
// handshake. install, if not nil, emits the child's events around the answer.
func (m *Machine) authRespond(now time.Time, child []wire.Payload, install *made) {
	a := m.hs.auth
	id := a.local.ID
	id.Responder = true
	ps := appendCerts([]wire.Payload{&id}, a.local)
	auth := a.auth
	ps = append(ps, &auth)
	ps = slices.Concat(ps, child)
	m.establish(now, a.identity, id, a.contact)
	if n := m.authTimes(now); n != nil {
		ps = append(ps, n)
	}
	m.answerChild(now, ps, install)
}
