package suite

import (
	"fmt"

	"github.com/btns-go/btns/ike/wire"
)

// Mismatch says why a negotiation failed. A nil *Mismatch is success: do not
// store one in an error before comparing it.
type Mismatch struct {
	Protocol      wire.ProtocolID
	Offered, Ours []wire.Proposal    // shared with the arguments of the call that failed
	Type          wire.TransformType // what did not match; 0 when no transform was compared
	First         string             // the first thing that did not match, of the pair that got furthest
}

// listed bounds how many of a peer's proposals an error prints.
const listed = 8

// Error names the first thing that did not match and both sides' lists.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("suite: no %v proposal matches: %s; peer offers %s; we accept %s",
		m.Protocol, m.First, short(m.Offered), short(m.Ours))
}

// Detach returns m without anything that aliases a received datagram.
func (m *Mismatch) Detach() *Mismatch {
	c := *m
	c.Offered = make([]wire.Proposal, len(m.Offered))
	for i, p := range m.Offered {
		p.SPI = append([]byte(nil), p.SPI...)
		c.Offered[i] = p
	}
	return &c
}

func short(ps []wire.Proposal) string {
	if len(ps) == 0 {
		return "nothing"
	}
	s := "[" + Strings(ps[:min(len(ps), listed)])
	if len(ps) > listed {
		s += fmt.Sprintf(", and %d more", len(ps)-listed)
	}
	return s + "]"
}
