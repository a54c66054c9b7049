package suite

import (
	"slices"
	"strings"

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
// answers and without an SPI.
func choose(proto wire.ProtocolID, offer, ours []wire.Proposal, spiOK func([]byte) bool) (wire.Proposal, *Mismatch) {
	best := failure{}
	for i := range ours {
		for j := range offer {
			o := &offer[j]
			switch {
			case o.Protocol != proto:
				best.keep(failure{step: 1, why: "peer offers protocol " + o.Protocol.String()})
				continue
			case !spiOK(o.SPI):
				best.keep(failure{step: 2, why: "peer's SPI has a size or value that cannot be used"}) // ADV-B8
				continue
			}
			ts, f := match(proto, o.Transforms, ours[i].Transforms)
			if f.step == 0 {
				return wire.Proposal{Num: o.Num, Protocol: proto, Transforms: ts}, nil
			}
			best.keep(f)
		}
	}
	if best.step == 0 {
		best.why = "one side has no proposal"
	}
	return wire.Proposal{}, &Mismatch{Protocol: proto, Offered: offer, Ours: ours, Type: best.typ, First: best.why}
}

// failure is how far a pair of proposals got. The pair that got furthest is the
// one worth telling about.
type failure struct {
	step int
	typ  wire.TransformType
	why  string
}

func (f *failure) keep(g failure) {
	if g.step > f.step {
		*f = g
	}
}

// types returns the transform types of a protocol in the order they are matched
// and which of them a proposal must have (RFC 7296, Section 3.3.3).
func types(proto wire.ProtocolID) (all, must []wire.TransformType) {
	if proto == wire.ProtocolIKE {
		return []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformPRF, wire.TransformKE},
			[]wire.TransformType{wire.TransformEncr, wire.TransformPRF, wire.TransformKE}
	}
	return []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformKE, wire.TransformESN},
		[]wire.TransformType{wire.TransformEncr, wire.TransformESN}
}

// match picks one transform of each type the offer has, by our preference. A
// failure has a step; on success it is zero.
func match(proto wire.ProtocolID, offer, ours []wire.Transform) ([]wire.Transform, failure) {
	all, must := types(proto)
	for _, t := range offer {
		// RFC 7296, Section 3.3.6: a proposal with a transform type that is not
		// understood is not accepted (ADV-E8).
		if !slices.Contains(all, t.Type) {
			return nil, failure{step: 3, typ: t.Type, why: "peer offers transform type " + t.Type.String()}
		}
	}
	const first = 4
	best := failure{}
	for _, enc := range ofType(ours, wire.TransformEncr) {
		if !slices.Contains(offer, enc) {
			best.keep(mismatch(first, wire.TransformEncr, offer, ours))
			continue
		}
		chosen, f := []wire.Transform{enc}, failure{}
		for i, typ := range all[1:] {
			theirs, mine := ofType(offer, typ), ofType(ours, typ)
			pick, ok := pickOne(proto, typ, enc, theirs, mine, slices.Contains(must, typ))
			if !ok {
				f = mismatch(first+1+i, typ, offer, ours)
				break
			}
			if len(theirs) > 0 {
				// RFC 7296, Section 3.3: the response has one transform of each
				// type that was offered, NONE included.
				chosen = append(chosen, pick)
			}
		}
		if f.step == 0 {
			return chosen, f
		}
		best.keep(f)
	}
	return nil, best
}

// pickOne picks a transform of one type. A type that is absent counts as NONE
// where it is optional (RFC 7296, Section 3.3.3).
func pickOne(proto wire.ProtocolID, typ wire.TransformType, enc wire.Transform, theirs, mine []wire.Transform, must bool) (wire.Transform, bool) {
	none := wire.Transform{Type: typ}
	if typ == wire.TransformInteg {
		if e, _ := encrOf(enc.ID, enc.KeyBits); e.aead {
			// RFC 5282, Section 8: with an AEAD no integrity algorithm or NONE
			// alone may be offered (ADV-B12).
			for _, t := range theirs {
				if t != none {
					return t, false
				}
			}
			return none, true
		}
		// Other ciphers never go without (ADV-B10).
		must = true
	}
	if !must {
		if len(theirs) == 0 {
			theirs = []wire.Transform{none}
		}
		if len(mine) == 0 {
			mine = []wire.Transform{none}
		}
	}
	// ID 0 is NONE, except for ESN, where it is a choice like any other. Where
	// NONE cannot be, not even our own list makes it acceptable (ADV-B10).
	for _, t := range mine {
		if t.BadAttr || must && t == none && typ != wire.TransformESN {
			continue
		}
		if typ == wire.TransformKE && proto == wire.ProtocolIKE && t.ID == wire.GroupNone {
			continue
		}
		if slices.Contains(theirs, t) {
			return t, true
		}
	}
	return none, false
}

func mismatch(step int, typ wire.TransformType, offer, ours []wire.Transform) failure {
	return failure{step: step, typ: typ,
		why: typ.String() + ": peer offers " + words(ofType(offer, typ)) + ", we accept " + words(ofType(ours, typ))}
}

func words(ts []wire.Transform) string {
	if len(ts) == 0 {
		return "none"
	}
	w := make([]string, len(ts))
	for i, t := range ts {
		w[i] = wordOf(t)
	}
	return strings.Join(w, " ")
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
