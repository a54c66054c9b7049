package suite

import (
	"fmt"
	"strings"

	"github.com/btns-go/btns/ike/wire"
)

// Mismatch says why a negotiation failed. A nil *Mismatch is success: do not
// store one in an error before comparing it. Its lists are shared with the
// arguments of the call that failed; Detach copies them.
type Mismatch struct {
	Protocol      wire.ProtocolID
	Offered, Ours []wire.Proposal
	Type          wire.TransformType // what did not match; 0 when no transform was compared

	step       step // how far the pair below got
	ours, peer int  // indexes of the pair of proposals that got furthest
}

// step is how far a pair of proposals got before it failed.
type step uint8

const (
	stepNone step = iota
	stepNoOffer
	stepNoOurs
	stepNumber
	stepProtocol
	stepSPI
	stepType
	stepTransform // and above: one for each transform type that did match
)

// keep remembers the pair if it got further than all before.
func (m *Mismatch) keep(s step, t wire.TransformType, ours, peer int) {
	if s > m.step {
		m.step, m.Type, m.ours, m.peer = s, t, ours, peer
	}
}

// First names the first thing that did not match, in the pair of proposals that
// agreed on most: "KE: peer offers modp1024, we accept x25519 ecp256".
func (m *Mismatch) First() string {
	switch m.step {
	case stepNone:
		return "nothing was compared"
	case stepNoOffer:
		return "peer offers no proposal"
	case stepNoOurs:
		return "we have no proposal"
	case stepNumber:
		return "peer's proposal numbers do not start at 1"
	case stepProtocol:
		return "peer offers protocol " + m.Offered[m.peer].Protocol.String()
	case stepSPI:
		return fmt.Sprintf("peer's SPI of %d octets cannot be used", len(m.Offered[m.peer].SPI))
	case stepType:
		return "peer requires transform type " + m.Type.String()
	case stepTransform:
	}
	return m.Type.String() + ": peer offers " + words(m.Offered[m.peer].Transforms, m.Type) +
		", we accept " + words(m.Ours[m.ours].Transforms, m.Type)
}

// Error names the first thing that did not match and both sides' lists.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("suite: no %v proposal matches: %s; peer offers %s; we accept %s",
		m.Protocol, m.First(), short(m.Offered), short(m.Ours))
}

// Lists returns both sides' proposals as text, within the bounds of what Error prints.
func (m *Mismatch) Lists() (offered, ours []string) { return listed(m.Offered), listed(m.Ours) }

// Detach returns a copy that aliases neither a received datagram nor the
// arguments of the call that failed.
func (m *Mismatch) Detach() *Mismatch {
	c := *m
	c.Offered, c.Ours = cloneProposals(m.Offered), cloneProposals(m.Ours)
	return &c
}

func cloneProposals(ps []wire.Proposal) []wire.Proposal {
	out := make([]wire.Proposal, len(ps))
	for i, p := range ps {
		p.SPI = append([]byte(nil), p.SPI...)
		p.Transforms = append([]wire.Transform(nil), p.Transforms...)
		out[i] = p
	}
	return out
}

// Bounds of what an error prints of a peer's list.
const (
	listedProposals  = 8
	listedTransforms = 40 // per proposal; strongSwan's widest default has about 35
)

func short(ps []wire.Proposal) string {
	if len(ps) == 0 {
		return "nothing"
	}
	return "[" + strings.Join(listed(ps), ", ") + "]"
}

// listed is a peer's list as text, cut to what an operator can read.
func listed(ps []wire.Proposal) []string {
	out := make([]string, 0, min(len(ps), listedProposals+1))
	for i, p := range ps {
		if i == listedProposals {
			return append(out, fmt.Sprintf("and %d more", len(ps)-i))
		}
		cut := ""
		if len(p.Transforms) > listedTransforms {
			p.Transforms, cut = p.Transforms[:listedTransforms], "-…"
		}
		out = append(out, String(p)+cut)
	}
	return out
}

// words lists the transforms of a type.
func words(ts []wire.Transform, t wire.TransformType) string {
	all := keywords()
	var w []string
	for _, x := range ts {
		if x.Type != t {
			continue
		}
		if len(w) == listedTransforms {
			w = append(w, "…")
			break
		}
		w = append(w, wordOf(all, x))
	}
	if len(w) == 0 {
		return "none"
	}
	return strings.Join(w, " ")
}
