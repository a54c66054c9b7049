package spd

import (
	"fmt"
	"strings"

	"github.com/btns-go/btns/esp/ts"
)

// Mode is the encapsulation of a policy's SAs; the numbers are those of esp.Mode. The zero value
// leaves the choice to the connection's configuration.
type Mode uint8

// Tunnel and transport mode.
const (
	ModeUnset Mode = iota
	ModeTunnel
	ModeTransport
)

// String returns "tunnel", "transport" or "unset".
func (m Mode) String() string {
	switch m {
	case ModeUnset:
		return "unset"
	case ModeTunnel:
		return "tunnel"
	case ModeTransport:
		return "transport"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// PFP is the set of "populate from packet" flags of RFC 4301, Section 4.4.1.2: the selectors of
// an SA that are taken from the packet that asked for it instead of from the policy.
type PFP uint8

// The flags, one per selector. A port flag implies the protocol, without which a port means
// nothing.
const (
	PFPLocalAddr PFP = 1 << iota
	PFPRemoteAddr
	PFPProto
	PFPLocalPort
	PFPRemotePort

	PFPAll = PFPLocalAddr | PFPRemoteAddr | PFPProto | PFPLocalPort | PFPRemotePort
)

var pfpNames = [...]string{"local_addr", "remote_addr", "proto", "local_port", "remote_port"}

// String returns the names of the flags, "none" without any.
func (f PFP) String() string {
	var names []string
	for i, name := range pfpNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}

// ParsePFP reads one flag's name, "all" or "none".
func ParsePFP(s string) (PFP, error) {
	switch s {
	case "all":
		return PFPAll, nil
	case "none":
		return 0, nil
	}
	for i, name := range pfpNames {
		if s == name {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("spd: %.40q is not one of %s, all, none", s, strings.Join(pfpNames[:], ", "))
}

// Policy is one entry of the SPD.
type Policy struct {
	Name   string  // for people; unique in a DB
	Sel    ts.Pair // what it applies to, from this host's view
	Word   Word
	Child  string // the child configuration that protects it; "" for none
	Mode   Mode
	BTNSOK bool // peers that are only a key may use it (RFC 5386, Section 2)
	PFP    PFP
	Peer   string  // only for the peer of this canonical identity (RFC 4301, Section 4.4.1.1, "Name"); "" is any
	Manual *Manual // protected by SAs keyed by hand; nil is IKE

	index int
}

// Index returns the policy's place in its DB, from 0.
func (p *Policy) Index() int { return p.index }

// validate returns what is wrong with p.
func (p *Policy) validate() error {
	if p.Word > Private {
		return fmt.Errorf("unknown word %d", p.Word)
	}
	if p.Mode > ModeTransport {
		return fmt.Errorf("unknown mode %d", p.Mode)
	}
	if p.PFP&^PFPAll != 0 {
		return fmt.Errorf("unknown PFP flags %#x", uint8(p.PFP&^PFPAll))
	}
	for _, side := range [...]struct {
		name string
		set  ts.Set
		port PFP
	}{{"local", p.Sel.Local, PFPLocalPort}, {"remote", p.Sel.Remote, PFPRemotePort}} {
		if len(side.set) == 0 || len(side.set) > MaxSelectors {
			return fmt.Errorf("%d %s selectors, want 1 to %d", len(side.set), side.name, MaxSelectors)
		}
		for _, s := range side.set {
			if err := s.Valid(); err != nil {
				return fmt.Errorf("%s selector: %w", side.name, err)
			}
			// RFC 4301, Section 4.4.2.2: PFP with OPAQUE "is an error and SHOULD be prohibited".
			if p.PFP&side.port != 0 && s.Ports.IsOpaque() {
				return fmt.Errorf("%s port is OPAQUE and to be taken from the packet", side.name)
			}
		}
	}
	if p.Sel.Empty() {
		return fmt.Errorf("no packet can match %v: local and remote share no family and protocol", p.Sel)
	}
	if p.Manual != nil {
		if p.Word != Private {
			return fmt.Errorf("keyed by hand, so its word must be private, not %v", p.Word)
		}
		return p.Manual.validate()
	}
	return nil
}

// Narrow returns what an SA for f is to cover: the policy's selectors, those that the PFP flags
// name replaced by the packet's (RFC 4301, Section 4.4.2.2). f is a packet that leaves. It is
// the empty Pair where f is not the policy's, and where a port is to be taken from a packet that
// shows none: such a packet is to be discarded.
func (p *Policy) Narrow(f ts.Flow) ts.Pair {
	if !p.Sel.MatchOut(f) || p.PFP&(PFPLocalPort|PFPRemotePort) != 0 && f.Opaque() {
		return ts.Pair{}
	}
	mask := func(addr bool, a ts.Selector, port bool, n uint16) ts.Selector {
		m := everything(f.IsV6())
		if addr {
			m = a
		}
		if p.PFP&PFPProto != 0 || port {
			m.Proto = f.Proto()
		}
		if port {
			m.Ports = ts.Port(n)
		}
		return m
	}
	local := mask(p.PFP&PFPLocalAddr != 0, ts.FromAddr(f.Src()), p.PFP&PFPLocalPort != 0, f.SrcPort())
	remote := mask(p.PFP&PFPRemoteAddr != 0, ts.FromAddr(f.Dst()), p.PFP&PFPRemotePort != 0, f.DstPort())
	if p.PFP == 0 {
		return p.Sel
	}
	pair, _ := p.Sel.Intersect(ts.Pair{Local: ts.Set{local}, Remote: ts.Set{remote}})
	return pair
}
