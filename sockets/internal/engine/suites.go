package engine

import (
	"slices"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// suites are the names of all suites that ESP proposals allow: what a latch on a wide SA
// may be continued with (RFC 5660, Section 2.1).
func suites(ps []wire.Proposal) []string {
	var out []string
	for _, p := range ps {
		eachSuite(p, func(_, _ *wire.Transform, name string) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		})
	}
	return out
}

// eachSuite calls f for every suite of a proposal, with the transforms that make it; integ
// is nil with an AEAD.
func eachSuite(p wire.Proposal, f func(encr, integ *wire.Transform, name string)) {
	for i := range p.Transforms {
		e := &p.Transforms[i]
		if e.Type != wire.TransformEncr {
			continue
		}
		s := esp.Suite{Encr: e.ID, KeyBits: e.KeyBits}
		if s.AEAD() {
			f(e, nil, s.String())
			continue
		}
		for j := range p.Transforms {
			if a := &p.Transforms[j]; a.Type == wire.TransformInteg && a.ID != wire.IntegNone {
				s.Integ = a.ID
				f(e, a, s.String())
			}
		}
	}
}

// again are the proposals for what replaces child SA c: its suite before all others (RFC 7296,
// Section 2.8: not other algorithms), with the groups that the configuration has for it. The
// others are those that latches on c go on with: none if c is narrow (RFC 5660, Section 2.1;
// LATCH-18). Only where the configuration allows nothing of that any more, all that it allows.
func (cc *ChildConf) again(c *datapath.Child) []wire.Proposal {
	own := c.Suite.String()
	out := onlySuites(cc.ESP, []string{own})
	if !c.Narrow() {
		out = append(out, onlySuites(cc.ESP, slices.DeleteFunc(slices.Clone(cc.suites), func(name string) bool {
			s, err := esp.ParseSuite(name)
			return name == own || err != nil || s.Confidential() != c.Suite.Confidential()
		}))...)
	}
	if len(out) == 0 {
		return cc.ESP
	}
	return out
}

// onlySuites are the proposals with nothing but the suites wanted, which a socket named
// (RFC 5660, Section 2.1: a request for a quality of protection implies SAs of its own).
func onlySuites(ps []wire.Proposal, want []string) []wire.Proposal {
	var out []wire.Proposal
	for _, p := range ps {
		keep := map[*wire.Transform]bool{}
		eachSuite(p, func(encr, integ *wire.Transform, name string) {
			if slices.Contains(want, name) {
				keep[encr] = true
				if integ != nil {
					keep[integ] = true
				}
			}
		})
		if len(keep) == 0 {
			continue
		}
		q := p
		q.Transforms = nil
		for i := range p.Transforms {
			t := &p.Transforms[i]
			if (t.Type != wire.TransformEncr && t.Type != wire.TransformInteg) || keep[t] {
				q.Transforms = append(q.Transforms, *t)
			}
		}
		out = append(out, q)
	}
	return out
}
