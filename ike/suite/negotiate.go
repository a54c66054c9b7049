package suite

import (
	"slices"

	"github.com/btns-go/btns/ike/wire"
)

// ChooseIKE picks a suite for the initial exchange from the peer's offer: the
// first of ours, by our preference, that some offered proposal matches. num is
// the number of that proposal; chosen is the proposal of the response, without
// an SPI. err is nil on success; mind that it is no error interface.
func ChooseIKE(offer, ours []wire.Proposal) (s IKE, num uint8, chosen wire.Proposal, err *Mismatch) {
	return chooseIKE(offer, ours, 0)
}

// ChooseIKERekey is ChooseIKE for the rekey of an IKE SA, where an offer carries
// the new SPI (RFC 7296, Section 3.3.1).
func ChooseIKERekey(offer, ours []wire.Proposal) (s IKE, num uint8, chosen wire.Proposal, err *Mismatch) {
	return chooseIKE(offer, ours, 8)
}

func chooseIKE(offer, ours []wire.Proposal, spiLen int) (IKE, uint8, wire.Proposal, *Mismatch) {
	chosen, err := choose(wire.ProtocolIKE, offer, ours, func(spi []byte) bool { return len(spi) == spiLen })
	if err != nil {
		return IKE{}, 0, wire.Proposal{}, err
	}
	return ikeOf(chosen), chosen.Num, chosen, nil
}

// ChooseESP is ChooseIKE for a child SA: offers are for ESP with an SPI of 4
// octets above 255 (RFC 4303, Section 2.1). In IKE_AUTH, where there is no key
// exchange, give ours as WithoutKE returns it.
func ChooseESP(offer, ours []wire.Proposal) (s ESP, num uint8, chosen wire.Proposal, err *Mismatch) {
	chosen, err = choose(wire.ProtocolESP, offer, ours, validESPSPI)
	if err != nil {
		return ESP{}, 0, wire.Proposal{}, err
	}
	return espOf(chosen), chosen.Num, chosen, nil
}

// validESPSPI refuses sizes other than 4 and the reserved values 0 to 255 (ADV-E7).
func validESPSPI(spi []byte) bool {
	return len(spi) == 4 && (spi[0]|spi[1]|spi[2] != 0)
}

func ikeOf(p wire.Proposal) IKE {
	var s IKE
	for _, t := range p.Transforms {
		switch t.Type {
		case wire.TransformEncr:
			s.Encr, s.KeyBits = t.ID, t.KeyBits
		case wire.TransformInteg:
			s.Integ = t.ID
		case wire.TransformPRF:
			s.PRF = t.ID
		case wire.TransformKE:
			s.Group = t.ID
		case wire.TransformESN:
		}
	}
	return s
}

func espOf(p wire.Proposal) ESP {
	var s ESP
	for _, t := range p.Transforms {
		switch t.Type {
		case wire.TransformEncr:
			s.Encr, s.KeyBits = t.ID, t.KeyBits
		case wire.TransformInteg:
			s.Integ = t.ID
		case wire.TransformKE:
			s.Group = t.ID
		case wire.TransformESN:
			s.ESN = t.ID == wire.ESNYes
		case wire.TransformPRF:
		}
	}
	return s
}

// choose returns the proposal of the response, numbered as the offered one it
// answers and without an SPI. The offer is a stranger's: the work is bounded by
// its length times that of ours, and nothing is formatted before somebody asks
// the Mismatch.
func choose(proto wire.ProtocolID, offer, ours []wire.Proposal, spiOK func([]byte) bool) (wire.Proposal, *Mismatch) {
	m := &Mismatch{Protocol: proto, Offered: offer, Ours: ours}
	switch {
	case len(offer) == 0:
		m.step = stepNoOffer
		return wire.Proposal{}, m
	case len(ours) == 0:
		m.step = stepNoOurs
		return wire.Proposal{}, m
	case offer[0].Num != 1:
		// RFC 7296, Section 3.3.1: the first proposal has number 1 (ADV-B7).
		m.step = stepNumber
		return wire.Proposal{}, m
	}
	all := types(proto)
	for i := range ours {
		for j := range offer {
			o := &offer[j]
			switch {
			case o.Protocol != proto:
				m.keep(stepProtocol, 0, i, j)
			case !spiOK(o.SPI): // ADV-B8, ADV-E7
				m.keep(stepSPI, 0, i, j)
			default:
				if ts := m.match(all, i, j); ts != nil {
					return wire.Proposal{Num: o.Num, Protocol: proto, Transforms: ts}, nil
				}
			}
		}
	}
	return wire.Proposal{}, m
}

// types returns the transform types of a protocol in the order they are matched
// (RFC 7296, Section 3.3.3). The cipher is first.
func types(proto wire.ProtocolID) []wire.TransformType {
	if proto == wire.ProtocolIKE {
		return []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformPRF, wire.TransformKE}
	}
	return []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformKE, wire.TransformESN}
}

// match picks one transform of each type that offer j has, by the preference of
// our proposal i; nil when there is none, and m remembers why.
func (m *Mismatch) match(all []wire.TransformType, i, j int) []wire.Transform {
	offer, ours := m.Offered[j].Transforms, m.Ours[i].Transforms
	for _, t := range offer {
		// RFC 7296, Section 3.3.6: a proposal with a transform type that is not
		// understood is not accepted (ADV-E8).
		if !slices.Contains(all, t.Type) {
			m.keep(stepType, t.Type, i, j)
			return nil
		}
	}
	var picked [4]wire.Transform
next:
	for _, enc := range ours {
		if enc.Type != wire.TransformEncr {
			continue
		}
		if !slices.Contains(offer, enc) {
			m.keep(stepTransform, wire.TransformEncr, i, j)
			continue
		}
		chosen := append(picked[:0], enc)
		for k, typ := range all[1:] {
			t, ok := pick(m.Protocol, typ, enc, offer, ours)
			if !ok {
				m.keep(stepTransform+step(k)+1, typ, i, j)
				continue next
			}
			if hasType(offer, typ) {
				// RFC 7296, Section 3.3: the response has one transform of each
				// type that was offered, NONE included.
				chosen = append(chosen, t)
			}
		}
		return slices.Clone(chosen)
	}
	return nil
}

// optional reports whether a proposal may be without the type, or have NONE of
// it, beside the cipher enc (RFC 7296, Section 3.3.3).
func optional(proto wire.ProtocolID, typ wire.TransformType, enc wire.Transform) bool {
	switch typ {
	case wire.TransformKE:
		return proto == wire.ProtocolESP // an IKE SA never goes without (ADV-B10)
	case wire.TransformInteg:
		e, _ := encrOf(enc.ID, enc.KeyBits)
		return e.aead
	case wire.TransformEncr, wire.TransformPRF, wire.TransformESN:
	}
	return false
}

// pick picks a transform of one type. An optional type that is absent counts as
// NONE.
func pick(proto wire.ProtocolID, typ wire.TransformType, enc wire.Transform, offer, ours []wire.Transform) (wire.Transform, bool) {
	none := wire.Transform{Type: typ} // ID 0
	opt := optional(proto, typ, enc)
	if typ == wire.TransformInteg && opt {
		// RFC 5282, Section 8: with an AEAD no integrity algorithm or NONE alone
		// may be offered (ADV-B12).
		for _, t := range offer {
			if t.Type == typ && t != none {
				return none, false
			}
		}
		return none, true
	}
	theirNone := opt && !hasType(offer, typ)
	accepts := func(t wire.Transform) bool {
		switch {
		case t == none && !opt && typ != wire.TransformESN: // for ESN, 0 is a choice like any other
			return false
		case t == none && theirNone:
			return true
		}
		return slices.Contains(offer, t)
	}
	if opt && !hasType(ours, typ) {
		return none, accepts(none)
	}
	for _, t := range ours {
		if t.Type == typ && accepts(t) {
			return t, true
		}
	}
	return none, false
}

func hasType(ts []wire.Transform, t wire.TransformType) bool {
	return slices.ContainsFunc(ts, func(x wire.Transform) bool { return x.Type == t })
}

// PreferGroup returns ours with group moved to the front of every proposal that
// has it. A responder calls it with the group of the KE payload it has before it
// chooses: a group both accept and that is already paid for beats a round of
// INVALID_KE_PAYLOAD. ours is not changed.
func PreferGroup(ours []wire.Proposal, group uint16) []wire.Proposal {
	want := wire.Transform{Type: wire.TransformKE, ID: group}
	out := slices.Clone(ours)
	for i, p := range out {
		if !slices.Contains(p.Transforms, want) {
			continue
		}
		ts := make([]wire.Transform, 0, len(p.Transforms))
		ts = append(ts, want)
		for _, t := range p.Transforms {
			if t != want {
				ts = append(ts, t)
			}
		}
		out[i].Transforms = ts
	}
	return out
}

// WithoutKE returns ps without key exchange transforms: what IKE_AUTH offers and
// accepts (RFC 7296, Section 1.2). ps is not changed.
func WithoutKE(ps []wire.Proposal) []wire.Proposal {
	out := slices.Clone(ps)
	for i, p := range out {
		out[i].Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t wire.Transform) bool {
			return t.Type == wire.TransformKE
		})
	}
	return out
}

// Groups returns the key exchange methods of a list of proposals in order of
// first appearance, NONE left out: what an initiator may send a KE payload for.
func Groups(ps []wire.Proposal) []uint16 {
	var out []uint16
	for _, p := range ps {
		for _, t := range ofType(p.Transforms, wire.TransformKE) {
			if t.ID != wire.GroupNone && !slices.Contains(out, t.ID) {
				out = append(out, t.ID)
			}
		}
	}
	return out
}
