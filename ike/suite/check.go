package suite

import (
	"fmt"
	"slices"

	"github.com/btns-go/btns/ike/wire"
)

// AnswerError says that a response chose what was not offered (ADV-C6).
type AnswerError struct {
	Protocol     wire.ProtocolID
	Offered, Got []wire.Proposal // shared with the arguments of the call that failed
	Why          string
}

// Error implements error.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("suite: %v answer is not one of our offers: %s; we offered %s; peer answered %s",
		e.Protocol, e.Why, short(e.Offered), short(e.Got))
}

// CheckIKE verifies the proposals of a response to our initial offer and returns
// the suite: exactly one proposal, numbered as one of ours, with exactly one
// transform of each type that one has, each from it (RFC 7296, Sections 2.7 and
// 3.3.6). The error is an *AnswerError.
func CheckIKE(offered, got []wire.Proposal) (IKE, error) {
	return checkIKE(offered, got, 0)
}

// CheckIKERekey is CheckIKE for the rekey of an IKE SA, where the response
// carries the new SPI.
func CheckIKERekey(offered, got []wire.Proposal) (IKE, error) {
	return checkIKE(offered, got, 8)
}

func checkIKE(offered, got []wire.Proposal, spiLen int) (IKE, error) {
	p, err := check(wire.ProtocolIKE, offered, got, func(spi []byte) bool { return len(spi) == spiLen })
	if err != nil {
		return IKE{}, err
	}
	s := ikeOf(p)
	if !s.Valid() {
		return IKE{}, &AnswerError{wire.ProtocolIKE, offered, got, "the combination cannot be used"}
	}
	return s, nil
}

// CheckESP is CheckIKE for a child SA.
func CheckESP(offered, got []wire.Proposal) (ESP, error) {
	p, err := check(wire.ProtocolESP, offered, got, validESPSPI)
	if err != nil {
		return ESP{}, err
	}
	s := espOf(p)
	if !s.Valid() {
		return ESP{}, &AnswerError{wire.ProtocolESP, offered, got, "the combination cannot be used"}
	}
	return s, nil
}

func check(proto wire.ProtocolID, offered, got []wire.Proposal, spiOK func([]byte) bool) (wire.Proposal, error) {
	fail := func(why string) (wire.Proposal, error) {
		return wire.Proposal{}, &AnswerError{proto, offered, got, why}
	}
	if len(got) != 1 {
		return fail(fmt.Sprintf("it has %d proposals, not one", len(got)))
	}
	g := got[0]
	i := slices.IndexFunc(offered, func(p wire.Proposal) bool { return p.Num == g.Num })
	if i < 0 {
		return fail(fmt.Sprintf("we offered no proposal number %d", g.Num))
	}
	o := offered[i]
	if g.Protocol != proto || o.Protocol != proto {
		return fail("it is for protocol " + g.Protocol.String())
	}
	if !spiOK(g.SPI) {
		return fail("its SPI has a size or value that cannot be used")
	}
	var seen []wire.TransformType
	for _, t := range g.Transforms {
		if !slices.Contains(o.Transforms, t) {
			return fail("we did not offer " + wordOf(keywords(), t))
		}
		if slices.Contains(seen, t.Type) {
			return fail("it has two transforms of type " + t.Type.String())
		}
		seen = append(seen, t.Type)
	}
	for _, t := range o.Transforms {
		if !slices.Contains(seen, t.Type) {
			return fail("it has no transform of type " + t.Type.String())
		}
	}
	return g, nil
}
