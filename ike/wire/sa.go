package wire

import "encoding/binary"

// SA is the security association payload (RFC 7296, Section 3.3).
type SA struct {
	Proposals []Proposal
}

// Proposal is one proposal substructure (RFC 7296, Section 3.3.1).
type Proposal struct {
	Num        uint8
	Protocol   ProtocolID
	SPI        []byte // empty in the initial exchange, 8 octets for an IKE rekey, 4 for ESP and AH
	Transforms []Transform
}

// Transform is one transform substructure (RFC 7296, Section 3.3.2).
type Transform struct {
	Type    TransformType
	ID      uint16
	KeyBits uint16 // Key Length attribute in bits; 0 = attribute absent
	// BadAttr marks a transform with an attribute that is unknown, repeated or
	// in the wrong format: it must not be chosen (RFC 7296, Section 3.3.6). It
	// is set by the parser only and is not encoded.
	BadAttr bool
}

// Type implements Payload.
func (*SA) Type() PayloadType { return PayloadSA }

// attrKeyLength is the Key Length attribute type; attrTV is the format bit that
// says the value stands in the length's place (RFC 7296, Section 3.3.5).
const (
	attrKeyLength = 14
	attrTV        = 0x8000
)

func parseSA(b []byte) (*SA, string) {
	c := cursor{b}
	sa := &SA{}
	for last := false; !last; {
		var more, reserved uint8
		var n uint16
		var body []byte
		if !c.u8(&more) || !c.u8(&reserved) || !c.u16(&n) {
			return nil, "proposal cut short"
		}
		if more != 0 && more != 2 { // RFC 7296, Section 3.3.1
			return nil, "proposal's last flag is neither 0 nor 2"
		}
		last = more == 0
		if !c.bytes(&body, int(n)-4) {
			return nil, "proposal length outside the payload"
		}
		if len(sa.Proposals) == MaxProposals {
			return nil, "too many proposals"
		}
		p, why := parseProposal(body)
		if why != "" {
			return nil, why
		}
		// RFC 7296, Section 3.3.1: each number is one more than the one before.
		// That the first is 1 holds for offers only; see CheckOffer.
		if k := len(sa.Proposals); k > 0 && int(p.Num) != int(sa.Proposals[k-1].Num)+1 {
			return nil, "proposal numbers do not count up by one"
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	if !c.empty() {
		return nil, "octets after the last proposal"
	}
	return sa, ""
}

func parseProposal(b []byte) (Proposal, string) {
	c := cursor{b}
	var p Proposal
	var proto, spiSize, count uint8
	if !c.u8(&p.Num) || !c.u8(&proto) || !c.u8(&spiSize) || !c.u8(&count) {
		return p, "proposal cut short"
	}
	if p.Num == 0 {
		return p, "proposal number is zero"
	}
	p.Protocol = ProtocolID(proto)
	if spiSize > 0 && !c.bytes(&p.SPI, int(spiSize)) {
		return p, "SPI outside the proposal"
	}
	if count == 0 {
		return p, "proposal without transforms"
	}
	// The shortest transform is 8 octets; a larger count cannot be true, and
	// nothing is allocated for it.
	if len(c.b) < 8*int(count) {
		return p, "more transforms announced than there is room for"
	}
	p.Transforms = make([]Transform, 0, count)
	for i := range int(count) {
		var more, reserved uint8
		var n uint16
		var body []byte
		if !c.u8(&more) || !c.u8(&reserved) || !c.u16(&n) {
			return p, "transform cut short"
		}
		want := uint8(3) // RFC 7296, Section 3.3.2: 3 = more, 0 = last
		if i == int(count)-1 {
			want = 0
		}
		if more != want {
			return p, "transform's last flag does not fit the count"
		}
		if !c.bytes(&body, int(n)-4) {
			return p, "transform length outside the proposal"
		}
		t, why := parseTransform(body)
		if why != "" {
			return p, why
		}
		p.Transforms = append(p.Transforms, t)
	}
	if !c.empty() {
		return p, "octets after the last transform"
	}
	return p, ""
}

func parseTransform(b []byte) (Transform, string) {
	c := cursor{b}
	var t Transform
	var typ, reserved uint8
	if !c.u8(&typ) || !c.u8(&reserved) || !c.u16(&t.ID) {
		return t, "transform cut short"
	}
	t.Type = TransformType(typ)
	seen := false
	for !c.empty() {
		var at, v uint16
		if !c.u16(&at) || !c.u16(&v) {
			return t, "attribute cut short"
		}
		if at&attrTV == 0 {
			var value []byte
			if !c.bytes(&value, int(v)) {
				return t, "attribute length outside the transform"
			}
			// No attribute of this format is defined, and Key Length must not use
			// it (RFC 7296, Section 3.3.5).
			t.BadAttr = true
			continue
		}
		if at&^attrTV != attrKeyLength || seen || v == 0 {
			t.BadAttr = true // ADV-B11
			continue
		}
		seen = true
		t.KeyBits = v
	}
	return t, ""
}

// CheckOffer verifies what only holds for an offer, not for the one proposal of
// a response: numbers start at 1 (RFC 7296, Section 3.3.1). Errors are
// *ParseError.
func (s *SA) CheckOffer() error {
	if len(s.Proposals) == 0 || s.Proposals[0].Num != 1 {
		return &ParseError{Payload: PayloadSA, Why: "proposal numbers do not start at 1", Code: NotifyInvalidSyntax}
	}
	return nil
}

func (s *SA) appendBody(dst []byte) []byte {
	for i := range s.Proposals {
		more := byte(2)
		if i == len(s.Proposals)-1 {
			more = 0
		}
		if dst = s.Proposals[i].append(dst, more); dst == nil {
			return nil
		}
	}
	return dst
}

func (p *Proposal) append(dst []byte, more byte) []byte {
	if len(p.SPI) > 255 || len(p.Transforms) > MaxTransforms {
		return nil
	}
	at := len(dst)
	dst = append(dst, more, 0, 0, 0, p.Num, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	dst = append(dst, p.SPI...)
	for i, t := range p.Transforms {
		more := byte(3)
		if i == len(p.Transforms)-1 {
			more = 0
		}
		n := byte(8)
		if t.KeyBits != 0 {
			n = 12
		}
		dst = append(dst, more, 0, 0, n, byte(t.Type), 0)
		dst = binary.BigEndian.AppendUint16(dst, t.ID)
		if t.KeyBits != 0 {
			dst = binary.BigEndian.AppendUint16(dst, attrTV|attrKeyLength)
			dst = binary.BigEndian.AppendUint16(dst, t.KeyBits)
		}
	}
	binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	return dst
}
