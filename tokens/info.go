package tokens

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/btns-go/btns/esp/ts"
)

// SPI is a security parameter index; it prints as eight hexadecimal digits.
type SPI uint32

// String returns eight hexadecimal digits.
func (s SPI) String() string { return fmt.Sprintf("%08x", uint32(s)) }

// MarshalText makes JSON show what String does.
func (s SPI) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *SPI) UnmarshalText(b []byte) error {
	var v uint32
	if _, err := fmt.Sscanf(string(b), "%08x", &v); err != nil {
		return fmt.Errorf("%w: SPI", ErrValue)
	}
	*s = SPI(v)
	return nil
}

// Source says what an Info reports: what is configured for the flow, or what is latched. A live
// connection always reports what is latched.
type Source uint8

// The sources.
const (
	SourceConfigured Source = iota
	SourceLatched
)

// String returns "configured" or "latched".
func (s Source) String() string {
	if s == SourceLatched {
		return "latched"
	}
	return "configured"
}

// MarshalText makes the source readable in JSON.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Info is one consistent snapshot of how a connection or a datagram is protected. Everything in
// it was proven or is on the wire; the zero Info says unprotected.
type Info struct {
	Source Source // which of configured and latched this is
	Method Method // how the peer was authenticated
	Local  IToken // who we proved to be
	Remote IToken // who the peer proved to be
	Policy string // the name of the policy

	State  string // the latch's, as RFC 5660 writes it: "ESTABLISHED"
	Reason string // why it is broken; else ""

	Integrity       bool
	Confidentiality bool
	Replay          bool // replay protection is on
	Compression     bool
	Mode            Mode
	Suite           string   // in use: "aes256gcm16"
	Suites          []string // what is latched, if more than one will do
	// Indeterminate means that a set of suites is latched, not one (RFC 5660, Section 2.1);
	// Suite is then the one in use now.
	Indeterminate bool

	SPIIn, SPIOut SPI
	Selectors     ts.Pair // what the SAs cover

	// Inner addresses are the connection's own, outer ones those of the protected packets, which
	// NAT may have translated; LocalPublic is how the peer sees us, where it is known.
	InnerLocal, InnerRemote netip.AddrPort
	OuterLocal, OuterRemote netip.AddrPort
	LocalPublic             netip.AddrPort
	Encap                   bool // ESP in UDP
	NAT                     bool // a NAT was found between the ends
}

// Audit returns one line for people and logs.
func (i Info) Audit() string {
	if i.Remote.IsZero() && !i.Integrity && !i.Confidentiality {
		return "unprotected"
	}
	protection := "integrity"
	if i.Confidentiality {
		protection = "privacy"
		if i.Integrity {
			protection = "integrity and privacy"
		}
	}
	suite := i.Suite
	if i.Indeterminate {
		suite += " (indeterminate)"
	}
	return Escape(fmt.Sprintf("%s: peer %s; %s by %s in %s mode", i.State, i.Remote.Audit(), protection, suite, i.Mode), MaxAudit)
}

// String prints everything, one fact a line.
func (i Info) String() string {
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", key, fmt.Sprintf(format, args...))
	}
	state := i.State
	if i.Reason != "" {
		state += ": " + Escape(i.Reason, MaxAudit)
	}
	line("state", "%s (%v)", state, i.Source)
	line("method", "%v", i.Method)
	line("local", "%v", i.Local)
	line("remote", "%v", i.Remote)
	line("protection", "integrity %v, privacy %v, replay protection %v", i.Integrity, i.Confidentiality, i.Replay)
	suite := i.Suite
	if i.Indeterminate {
		suite += ", quality indeterminate among " + strings.Join(i.Suites, ", ")
	}
	line("suite", "%s, %v mode", suite, i.Mode)
	line("spi", "in %v, out %v", i.SPIIn, i.SPIOut)
	line("inner", "%v > %v", i.InnerLocal, i.InnerRemote)
	encap := ""
	if i.Encap {
		encap = ", in UDP"
	}
	line("outer", "%v > %v%s", i.OuterLocal, i.OuterRemote, encap)
	if i.Policy != "" {
		line("policy", "%s", Escape(i.Policy, MaxPolicyName))
	}
	line("selectors", "%v", i.Selectors)
	return b.String()
}

// SAState returns the state as an SADB_SASTATE of RFC 2367, Section 2.3.1: larval 0, mature 1,
// dying 2, dead 3.
func (i Info) SAState() uint8 {
	switch i.State {
	case "LARVAL":
		return 0
	case "ESTABLISHED", "LISTENER":
		return 1
	case "BROKEN":
		return 2
	}
	return 3
}

// Equivalent reports whether both cover identical SPD ranges with equivalent cryptographic
// properties: ipsec_cmp_pToken. SPIs, keys, lifetimes, outer addresses and the IKE SA may differ.
func (i Info) Equivalent(o Info) bool {
	return i.Selectors.Equal(o.Selectors) &&
		i.Local == o.Local && i.Remote == o.Remote && i.Method == o.Method &&
		i.Integrity == o.Integrity && i.Confidentiality == o.Confidentiality &&
		i.Replay == o.Replay && i.Compression == o.Compression && i.Mode == o.Mode &&
		i.Indeterminate == o.Indeterminate && sameSuites(i, o)
}

// sameSuites compares what is latched: one suite, or the set of those that will do.
func sameSuites(i, o Info) bool {
	if !i.Indeterminate {
		return i.Suite == o.Suite
	}
	a, b := slices.Clone(i.Suites), slices.Clone(o.Suites)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

type jsonIdentity struct {
	Method      Method `json:"method"`
	ID          string `json:"id,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Authority   string `json:"authority,omitempty"`
	Holder      string `json:"holder,omitempty"`
	Audit       string `json:"audit"`
	Token       IToken `json:"token"`
}

func identityOf(t IToken) *jsonIdentity {
	if t.IsZero() {
		return nil
	}
	return &jsonIdentity{t.method, t.id, t.Fingerprint(), t.authority, t.holder, t.Audit(), t}
}

// MarshalJSON writes the snapshot for programs; the keys do not change.
func (i Info) MarshalJSON() ([]byte, error) {
	port := func(a netip.AddrPort) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	set := func(s ts.Set) []string {
		out := make([]string, len(s))
		for n, x := range s {
			out[n] = x.String()
		}
		return out
	}
	return json.Marshal(struct {
		Source          Source        `json:"source"`
		State           string        `json:"state"`
		Reason          string        `json:"reason,omitempty"`
		Method          Method        `json:"method"`
		Local           *jsonIdentity `json:"local"`
		Remote          *jsonIdentity `json:"remote"`
		Policy          string        `json:"policy,omitempty"`
		Integrity       bool          `json:"integrity"`
		Confidentiality bool          `json:"confidentiality"`
		Replay          bool          `json:"replay"`
		Compression     bool          `json:"compression"`
		Mode            Mode          `json:"mode"`
		Suite           string        `json:"suite"`
		Suites          []string      `json:"suites,omitempty"`
		Indeterminate   bool          `json:"indeterminate"`
		SPIIn           SPI           `json:"spi_in"`
		SPIOut          SPI           `json:"spi_out"`
		LocalTS         []string      `json:"local_ts"`
		RemoteTS        []string      `json:"remote_ts"`
		InnerLocal      string        `json:"inner_local"`
		InnerRemote     string        `json:"inner_remote"`
		OuterLocal      string        `json:"outer_local"`
		OuterRemote     string        `json:"outer_remote"`
		LocalPublic     string        `json:"local_public,omitempty"`
		Encap           bool          `json:"encap"`
		NAT             bool          `json:"nat"`
		Audit           string        `json:"audit"`
	}{
		i.Source, i.State, Escape(i.Reason, MaxAudit), i.Method, identityOf(i.Local), identityOf(i.Remote),
		Escape(i.Policy, MaxPolicyName), i.Integrity, i.Confidentiality, i.Replay, i.Compression, i.Mode,
		i.Suite, i.Suites, i.Indeterminate, i.SPIIn, i.SPIOut, set(i.Selectors.Local), set(i.Selectors.Remote),
		port(i.InnerLocal), port(i.InnerRemote), port(i.OuterLocal), port(i.OuterRemote), port(i.LocalPublic),
		i.Encap, i.NAT, i.Audit(),
	})
}
