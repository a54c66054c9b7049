package latch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/btns-go/btns/esp/ts"
)

// Protection is the type of protection, a set of bits; none is the zero value.
type Protection uint8

// The types of protection of RFC 5660, Section 2.
const (
	Integrity Protection = 1 << iota
	Confidentiality
)

// String returns "none", "integrity", "confidentiality" or "integrity+confidentiality".
func (p Protection) String() string {
	var parts []string
	if p&Integrity != 0 {
		parts = append(parts, "integrity")
	}
	if p&Confidentiality != 0 {
		parts = append(parts, "confidentiality")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "+")
}

// Params are the five things that are latched (RFC 5660, Section 2). They are comparable and
// carry no SPI, key or lifetime, which may change.
type Params struct {
	Peer       string // the peer's proven identity in canonical text: "key:SHA256:…", "fqdn:moon.example"
	Local      string // the identity we proved to it
	Protection Protection
	Mode       uint8  // 1 tunnel, 2 transport, as esp.Mode
	Suite      string // algorithms and key lengths: "aes256gcm16"
	Replay     bool   // replay protection is on
}

// String prints the parameters on one line.
func (p Params) String() string {
	replay := "replay protection"
	if !p.Replay {
		replay = "no replay protection"
	}
	return fmt.Sprintf("peer %s, local %s, %v, %s, %s, %s", p.Peer, p.Local, p.Protection, modeName(p.Mode), p.Suite, replay)
}

// modeName is the word of configurations for a mode.
func modeName(m uint8) string {
	switch m {
	case 1:
		return "tunnel"
	case 2:
		return "transport"
	}
	return fmt.Sprintf("mode(%d)", m)
}

// differs names the first parameter, the suite aside, in which p and q differ; "" if none.
func (p *Params) differs(q *Params) string {
	switch {
	case p.Peer != q.Peer:
		return "peer identity"
	case p.Local != q.Local:
		return "local identity"
	case p.Protection != q.Protection:
		return "type of protection"
	case p.Mode != q.Mode:
		return "mode"
	case p.Replay != q.Replay:
		return "replay protection"
	}
	return ""
}

// Congruent reports whether an SA with parameters q may replace one with p in a flow: all equal,
// but the suite may be any of suites (nil: only p's).
func Congruent(p, q *Params, suites []string) bool {
	if p == q {
		return p != nil
	}
	if p == nil || q == nil || p.differs(q) != "" {
		return false
	}
	return p.Suite == q.Suite || slices.Contains(suites, q.Suite)
}

func (b *binding) congruent(q *Params) bool { return Congruent(b.params, q, b.suites) }

// Disposition is what becomes of a connection whose latch breaks (RFC 5660, Section 5.5). The
// zero value leaves it to the protocol.
type Disposition uint8

// The dispositions. Failover to another path is for multi-homed protocols, of which there are
// none here yet.
const (
	DispositionDefault Disposition = iota // reset for TCP, wait for the others
	DispositionReset                      // as if the peer had reset it
	DispositionWait                       // silence until the conflict is gone
)

// String returns "default", "reset" or "wait".
func (d Disposition) String() string {
	switch d {
	case DispositionDefault:
		return "default"
	case DispositionReset:
		return "reset"
	case DispositionWait:
		return "wait"
	}
	return fmt.Sprintf("disposition(%d)", uint8(d))
}

// For resolves the default: RFC 5660, Section 5.5 recommends reset for TCP.
func (d Disposition) For(proto uint8) Disposition {
	if d != DispositionDefault {
		return d
	}
	if proto == ts.ProtoTCP {
		return DispositionReset
	}
	return DispositionWait
}

// Want is what an owner asks of a latch before it exists. The zero Want takes any protected SA
// and latches what it finds.
type Want struct {
	Peer, Local string     // identities in canonical text; "" is any
	Suites      []string   // suites that will do; nil is any
	Protection  Protection // bits that must be there
	Mode        uint8      // 1 tunnel, 2 transport; 0 is any
	Narrow      bool       // SAs for this flow alone
	Disposition Disposition
}

// NeedsNarrow reports whether the owner wants SAs of its own. Naming a suite or an own identity
// implies it: on a shared SA neither could be kept (RFC 5660, Section 2.1).
func (w *Want) NeedsNarrow() bool { return w.Narrow || len(w.Suites) != 0 || w.Local != "" }

// Check returns a *MismatchError if an SA with these parameters is not what is wanted. Replay
// protection is not asked for: it is on unless both ends turned it off, and latched either way.
func (w *Want) Check(p *Params) error {
	switch {
	case p == nil:
		return &MismatchError{Field: "protection", Want: "any", Got: "none"}
	case w.Peer != "" && w.Peer != p.Peer:
		return &MismatchError{Field: "peer identity", Want: w.Peer, Got: p.Peer}
	case w.Local != "" && w.Local != p.Local:
		return &MismatchError{Field: "local identity", Want: w.Local, Got: p.Local}
	case p.Protection&w.Protection != w.Protection || p.Protection == 0:
		return &MismatchError{Field: "type of protection", Want: w.Protection.String(), Got: p.Protection.String()}
	case w.Mode != 0 && w.Mode != p.Mode:
		return &MismatchError{Field: "mode", Want: modeName(w.Mode), Got: modeName(p.Mode)}
	case len(w.Suites) != 0 && !slices.Contains(w.Suites, p.Suite):
		return &MismatchError{Field: "suite", Want: strings.Join(w.Suites, ","), Got: p.Suite}
	}
	return nil
}
