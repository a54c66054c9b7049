package ike

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is IKE_SA_INIT as the responder has it (RFC 7296, Section 1.2).

// NewResponder returns a machine for an IKE_SA_INIT request. raw is the datagram,
// borrowed for the call. An error means: malformed, drop it and forget it. A
// request that is answered with an error notify gives a machine whose outputs are
// that answer, Failed and Closed.
func NewResponder(cfg *Config, path Path, raw []byte, now time.Time) (*Machine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, role: Responder, heard: now, branch: branch{state: StateInitBusy, path: path.unmapped(), hs: &handshake{}},
		win: window{next: 1}, life: now.Add(cfg.halfOpen())}
	msg, err := wire.Parse(raw)
	var bad *wire.ParseError
	switch {
	case errors.As(err, &bad) && bad.Code == wire.NotifyUnsupportedCriticalPayload:
		h, _ := wire.ParseHeader(raw)
		if d := checkInit(h); d != 0 {
			m.drop(d)
			return nil, fmt.Errorf("ike: IKE_SA_INIT from %v: %s", path.Remote, d)
		}
		m.spii = h.SPIi
		// RFC 7296, Section 2.5: the one error that names the octet (ADV-B4).
		m.initRefuse(now, bad.Code, bad.NotifyData(), bad)
		return m, nil
	case err != nil:
		m.drop(DropSyntax)
		return nil, fmt.Errorf("ike: IKE_SA_INIT from %v: %w", path.Remote, err)
	}
	if d := checkInit(msg.Header); d != 0 {
		m.drop(d)
		return nil, fmt.Errorf("ike: IKE_SA_INIT from %v: %s", path.Remote, d)
	}
	m.spii = msg.SPIi
	return m, m.initRequested(now, msg, raw)
}

// checkInit verifies the header of a request that starts an SA (RFC 7296, Sections
// 2.2 and 3.1; ADV-A7 to A9).
func checkInit(h wire.Header) Drop {
	switch {
	case h.Exchange != wire.ExchangeIKESAInit || h.Flags.Response() || !h.Flags.Initiator():
		return DropDirection
	case h.SPIi == 0 || h.SPIr != 0:
		return DropSPI
	case h.MessageID != 0:
		return DropWindow
	}
	return 0
}

// requestInit is what an IKE_SA_INIT request must have (RFC 7296, Section
// 1.2). The machine is made by it, so it is not in the table.
var requestInit = transition{need: set(wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce)}

// initRequested chooses a suite and asks for the shared secret.
func (m *Machine) initRequested(now time.Time, msg *wire.Message, raw []byte) error {
	drop := func(d Drop, err error) error {
		m.drop(d)
		return fmt.Errorf("ike: IKE_SA_INIT from %v: %w", m.path.Remote, err)
	}
	if bad := requestInit.check(msg.Payloads, request); bad != nil {
		return drop(DropSyntax, bad) // ADV-B1
	}
	sa, _ := wire.Get[*wire.SA](msg.Payloads)
	ke, _ := wire.Get[*wire.KE](msg.Payloads)
	ni, _ := wire.Get[*wire.Nonce](msg.Payloads)
	for _, p := range msg.Payloads {
		switch p.(type) {
		case *wire.Encrypted, *wire.EncryptedFragment:
			return drop(DropClear, errors.New("encrypted payload")) // ADV-G1
		}
	}
	if err := sa.CheckOffer(); err != nil {
		return drop(DropSyntax, err) // ADV-B7
	}
	s, _, chosen, mis := suite.ChooseIKE(sa.Proposals, m.cfg.Proposals)
	if mis != nil {
		m.initRefuse(now, wire.NotifyNoProposalChosen, nil, mis.Detach()) // ADV-B9
		return nil
	}
	if ke.Group != s.Group {
		// RFC 7296, Section 1.2: two octets, the group we accept (ADV-B13, ADV-B14).
		m.initRefuse(now, wire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, s.Group),
			fmt.Errorf("expected a public value of %s, got %s", wire.GroupName(s.Group), wire.GroupName(ke.Group)))
		return nil
	}
	if len(ni.Data) < s.MinNonce() {
		return drop(DropSyntax, errors.New("nonce is too short for the PRF")) // ADV-B17
	}
	if len(ke.Data) != suite.KELen(s.Group) {
		return drop(DropKE, fmt.Errorf("public value of %d octets for %s", len(ke.Data), wire.GroupName(s.Group))) // ADV-B15
	}
	hs := m.hs
	var err error
	if m.spir, err = m.randomSPI(); err != nil {
		return err
	}
	if hs.nr, err = m.random(nonceLen); err != nil {
		return err
	}
	hs.ni = bytes.Clone(ni.Data)
	hs.msg1 = bytes.Clone(raw)
	hs.digest = sha256.Sum256(raw)
	hs.peerHashes = hashAlgs(msg.Payloads)
	m.agreeFragments(findNotify(msg.Payloads, wire.NotifyFragmentationSupported) != nil)
	n := detectNAT(msg.Payloads, m.spii, 0, m.path)
	m.applyNAT(n)
	chosen.Transforms = slices.Clone(chosen.Transforms)
	ask(m, &WorkKE{ID: m.workID(), Group: s.Group, Peer: bytes.Clone(ke.Data)}, func(now time.Time, r *KEResult) {
		m.initRespond(now, s, chosen, n, r)
	})
	return nil
}

// initRefuse answers with an error and makes nothing. The responder's SPI is zero
// (RFC 7296, Section 2.6).
func (m *Machine) initRefuse(now time.Time, t wire.NotifyType, data []byte, why error) {
	if m.faulty(faultShowSPI) {
		m.spir = 1
	}
	m.respondInit([]wire.Payload{notify(t, data)})
	m.emit(&Failed{Err: m.refusal(t, wire.ExchangeIKESAInit, false, "", why)})
	m.finish(now, ReasonRefused)
}

func (m *Machine) respondInit(ps []wire.Payload) []byte {
	msg := wire.Message{Header: wire.Header{SPIi: m.spii, SPIr: m.spir, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagResponse}, Payloads: ps}
	raw := msg.Append(nil)
	m.count(func(c *Counters) { c.Responses.Add(1) })
	m.emit(&Send{Path: m.path, Data: raw})
	return raw
}

// initRespond sends SAr1, KEr, Nr, N(NAT_DETECTION_*), [CERTREQ],
// [N(SIGNATURE_HASH_ALGORITHMS)], [N(CHILDLESS_IKEV2_SUPPORTED)].
func (m *Machine) initRespond(now time.Time, s suite.IKE, chosen wire.Proposal, n nat, r *KEResult) {
	if r.Err != nil || r.Key == nil || len(r.Shared) == 0 {
		// RFC 6989, Section 2.5; before keys exist a malformed message is dropped.
		m.drop(DropKE)
		m.emit(&Failed{Err: m.mismatch(wire.ExchangeIKESAInit, "public value", "a valid one for "+wire.GroupName(s.Group), "one that is refused", r.Err)})
		m.finish(now, ReasonRefused)
		return
	}
	hs := m.hs
	if err := m.derive(s, r.Shared); err != nil {
		m.fail(now, err)
		return
	}
	ps := []wire.Payload{
		&wire.SA{Proposals: []wire.Proposal{chosen}},
		&wire.KE{Group: s.Group, Data: r.Key.Public()},
		&wire.Nonce{Data: hs.nr},
	}
	if n.seen {
		var fake []byte
		if m.cfg.ForceEncap {
			var err error
			if fake, err = m.random(wire.NATDHashLen); err != nil {
				m.fail(now, err)
				return
			}
		}
		src, dst := natNotifies(m.spii, m.spir, m.path, fake)
		ps = append(ps, src, dst)
	}
	for _, e := range m.cfg.CertRequest {
		ps = append(ps, &wire.CertReq{Encoding: e})
	}
	if h := m.hashNotify(); h != nil {
		ps = append(ps, h)
	}
	if m.has(flagFragments) {
		ps = append(ps, m.fragmentNotify())
	}
	if m.cfg.Childless != ChildlessNever {
		ps = append(ps, notify(wire.NotifyChildlessSupported, nil)) // RFC 6023, Section 3
	}
	m.state = StateHalfOpen
	hs.msg2 = m.respondInit(ps)
}

// initAgain answers a bit-identical retransmission from the same address (RFC 7296,
// Section 2.1; ADV-B18, ADV-B19).
func (m *Machine) initAgain(path Path, raw []byte) Drop {
	if path.Remote != m.path.Remote || sha256.Sum256(raw) != m.hs.digest {
		return DropRepeat
	}
	m.count(func(c *Counters) { c.Resends.Add(1) })
	m.emit(&Send{Path: m.path, Data: m.hs.msg2})
	m.emit(&Repeated{Request{Exchange: wire.ExchangeIKESAInit, Path: path}})
	return 0
}
