package suite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/btns-go/btns/ike/wire"
)

// KeywordError says that a word of a proposal string means nothing, or nothing
// where it stands.
type KeywordError struct {
	Word    string
	Why     string
	Nearest string // the valid keyword that looks most like Word; may be empty
}

// Error implements error.
func (e *KeywordError) Error() string {
	s := fmt.Sprintf("suite: %q %s", e.Word, e.Why)
	if e.Nearest != "" {
		s += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return s
}

// maxString is the longest proposal string read, in octets: every keyword once
// is shorter.
const maxString = 1024

// ParseIKE reads one IKE proposal in strongSwan's notation, keywords joined by
// "-": ciphers, integrity algorithms, PRFs and key exchange methods, each kind
// in order of preference. Without a PRF one is derived from each integrity
// algorithm. With AEAD ciphers integrity algorithms serve only for that; AEAD
// and other ciphers cannot stand in one proposal (RFC 7296, Section 3.3).
// "default" is the first proposal of DefaultIKE. Num is 1. Errors of a word are
// *KeywordError.
func ParseIKE(s string) (wire.Proposal, error) {
	if s == "default" {
		return DefaultIKE()[0], nil
	}
	p, err := parse(s, wire.ProtocolIKE, useIKE)
	if err != nil {
		return wire.Proposal{}, err
	}
	if !p.hasType(wire.TransformPRF) {
		for _, t := range p.of(wire.TransformInteg) {
			p.add(wire.Transform{Type: wire.TransformPRF, ID: prfOf(t.ID)})
		}
	}
	if err := p.settleInteg(s); err != nil {
		return wire.Proposal{}, err
	}
	if !p.hasType(wire.TransformPRF) {
		return wire.Proposal{}, fmt.Errorf("suite: IKE proposal %q has no PRF; add one such as prfsha256", s)
	}
	if !p.hasType(wire.TransformKE) {
		return wire.Proposal{}, fmt.Errorf("suite: IKE proposal %q has no key exchange method; add one such as x25519", s)
	}
	return p.proposal(), nil
}

// ParseESP reads one ESP proposal in strongSwan's notation: ciphers, integrity
// algorithms, key exchange methods (of CREATE_CHILD_SA), esn and noesn. Without
// either of the last two it is noesn. "default" is the first proposal of
// DefaultESP. Num is 1.
func ParseESP(s string) (wire.Proposal, error) {
	if s == "default" {
		return DefaultESP()[0], nil
	}
	p, err := parse(s, wire.ProtocolESP, useESP)
	if err != nil {
		return wire.Proposal{}, err
	}
	if err := p.settleInteg(s); err != nil {
		return wire.Proposal{}, err
	}
	if !p.hasType(wire.TransformESN) {
		p.add(wire.Transform{Type: wire.TransformESN, ID: wire.ESNNo})
	}
	return p.proposal(), nil
}

// DefaultIKE returns the IKE proposals used where none are configured: AEAD
// first, then AES-CBC for peers without (RFC 8247). They are the caller's.
func DefaultIKE() []wire.Proposal {
	return mustList(ParseIKE,
		"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
		"aes256-aes128-sha256-sha384-sha512-x25519-ecp256-ecp384-modp2048")
}

// DefaultESP returns the ESP proposals used where none are configured (RFC
// 8221), without a key exchange method. They are the caller's.
func DefaultESP() []wire.Proposal {
	return mustList(ParseESP,
		"aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn",
		"aes256-aes128-sha256-sha384-sha512-esn-noesn")
}

// mustList parses constants of this file; a test parses each of them.
func mustList(parse func(string) (wire.Proposal, error), ss ...string) []wire.Proposal {
	ps, _ := list(parse, nil, ss)
	return ps
}

// IKEProposals reads a list of proposal strings, each of which may itself be a
// list joined by commas, and numbers the result from 1. "default" stands for
// all of DefaultIKE; so does an empty list.
func IKEProposals(ss ...string) ([]wire.Proposal, error) { return list(ParseIKE, DefaultIKE, ss) }

// ESPProposals is IKEProposals for child SAs.
func ESPProposals(ss ...string) ([]wire.Proposal, error) { return list(ParseESP, DefaultESP, ss) }

func list(parse func(string) (wire.Proposal, error), def func() []wire.Proposal, ss []string) ([]wire.Proposal, error) {
	var ps []wire.Proposal
	if len(ss) == 0 {
		ps = def()
	}
	for _, s := range ss {
		for part := range strings.SplitSeq(s, ",") {
			part = strings.TrimSpace(part)
			if part == "default" {
				ps = append(ps, def()...)
				continue
			}
			p, err := parse(part)
			if err != nil {
				return nil, err
			}
			ps = append(ps, p)
		}
	}
	if len(ps) > wire.MaxProposals {
		return nil, fmt.Errorf("suite: %d proposals; an SA payload takes %d", len(ps), wire.MaxProposals)
	}
	for i := range ps {
		ps[i].Num = uint8(i + 1)
	}
	return ps, nil
}

// String prints a proposal in strongSwan's notation. ParseIKE or ParseESP read
// it back if they could have made it; other transforms appear under their
// registry names. A PRF that follows from the integrity algorithms and a lone
// noesn are left out.
func String(p wire.Proposal) string {
	b := builder{transforms: p.Transforms}
	skipPRF := p.Protocol == wire.ProtocolIKE && b.prfImplied()
	esn := b.of(wire.TransformESN)
	skipESN := len(esn) == 1 && esn[0] == wire.Transform{Type: wire.TransformESN, ID: wire.ESNNo}
	all := keywords()
	var words []string
	for _, t := range b.sorted() {
		if t.Type == wire.TransformPRF && skipPRF || t.Type == wire.TransformESN && skipESN {
			continue
		}
		words = append(words, wordOf(all, t))
	}
	return strings.Join(words, "-")
}

// Strings prints a list of proposals, joined by ", ".
func Strings(ps []wire.Proposal) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = String(p)
	}
	return strings.Join(words, ", ")
}

// builder collects the transforms of a proposal while it is parsed or printed.
type builder struct {
	proto      wire.ProtocolID
	transforms []wire.Transform
}

func parse(s string, proto wire.ProtocolID, u use) (*builder, error) {
	p := &builder{proto: proto}
	if s == "" {
		return nil, fmt.Errorf("suite: empty %v proposal", proto)
	}
	if len(s) > maxString {
		return nil, fmt.Errorf("suite: %v proposal is longer than %d octets", proto, maxString)
	}
	all := keywords()
	for word := range strings.SplitSeq(s, "-") {
		i := slices.IndexFunc(all, func(k keyword) bool { return k.word == word })
		switch {
		case i < 0:
			return nil, &KeywordError{Word: word, Why: "is no " + proto.String() + " proposal keyword", Nearest: nearest(word, u)}
		case all[i].use == useNone:
			return nil, &KeywordError{Word: word, Why: "is not implemented", Nearest: nearest(word, u)}
		case all[i].use&u == 0:
			return nil, &KeywordError{Word: word, Why: "cannot be used in an " + proto.String() + " proposal", Nearest: nearest(word, u)}
		}
		p.add(all[i].t)
	}
	if !p.hasType(wire.TransformEncr) {
		return nil, fmt.Errorf("suite: %v proposal %q has no cipher", proto, s)
	}
	return p, nil
}

// add appends a transform unless it is there.
func (p *builder) add(t wire.Transform) {
	if !slices.Contains(p.transforms, t) {
		p.transforms = append(p.transforms, t)
	}
}

// of returns the transforms of a type in order of preference.
func (p *builder) of(t wire.TransformType) []wire.Transform {
	return ofType(p.transforms, t)
}

func (p *builder) hasType(t wire.TransformType) bool { return hasType(p.transforms, t) }

// settleInteg enforces RFC 7296, Section 3.3, and RFC 5282, Section 8: AEAD
// ciphers without an integrity algorithm, others with one, never mixed (ADV-B12).
func (p *builder) settleInteg(s string) error {
	ciphers, aeads := p.of(wire.TransformEncr), 0
	for _, t := range ciphers {
		if e, _ := encrOf(t.ID, t.KeyBits); e.aead {
			aeads++
		}
	}
	switch {
	case aeads == len(ciphers):
		p.transforms = slices.DeleteFunc(p.transforms, func(t wire.Transform) bool { return t.Type == wire.TransformInteg })
	case aeads > 0:
		return fmt.Errorf("suite: %v proposal %q mixes AEAD and other ciphers; make it two proposals", p.proto, s)
	case !p.hasType(wire.TransformInteg):
		return fmt.Errorf("suite: %v proposal %q has no integrity algorithm; add one such as sha256", p.proto, s)
	}
	return nil
}

// prfImplied reports whether the PRFs are just those that ParseIKE would derive
// from the integrity algorithms.
func (p *builder) prfImplied() bool {
	integ, prf := p.of(wire.TransformInteg), p.of(wire.TransformPRF)
	return len(prf) > 0 && slices.EqualFunc(integ, prf, func(i, f wire.Transform) bool {
		return f == wire.Transform{Type: wire.TransformPRF, ID: prfOf(i.ID)} && f.ID != 0
	})
}

// printOrder is the order of transform types in a proposal and in its string.
func printOrder() []wire.TransformType {
	return []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformPRF, wire.TransformKE, wire.TransformESN}
}

// sorted returns the transforms by type, unknown types last, each type in order
// of preference.
func (p *builder) sorted() []wire.Transform {
	ts := slices.Clone(p.transforms)
	rank := func(t wire.Transform) int {
		if i := slices.Index(printOrder(), t.Type); i >= 0 {
			return i
		}
		return 256 + int(t.Type)
	}
	slices.SortStableFunc(ts, func(a, b wire.Transform) int { return rank(a) - rank(b) })
	return ts
}

func (p *builder) proposal() wire.Proposal {
	return wire.Proposal{Num: 1, Protocol: p.proto, Transforms: p.sorted()}
}

// prfOf returns the PRF with the hash of an integrity algorithm; 0 for none.
func prfOf(integ uint16) uint16 {
	switch integ {
	case wire.IntegHMACSHA256:
		return wire.PRFHMACSHA256
	case wire.IntegHMACSHA384:
		return wire.PRFHMACSHA384
	case wire.IntegHMACSHA512:
		return wire.PRFHMACSHA512
	}
	return 0
}

func ofType(ts []wire.Transform, t wire.TransformType) []wire.Transform {
	var out []wire.Transform
	for _, x := range ts {
		if x.Type == t {
			out = append(out, x)
		}
	}
	return out
}
