package ike

import (
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/wire"
)

// toWire makes a TSi or TSr payload. Selectors that are not well formed, and those
// beyond what a payload can carry, are left out.
func toWire(s ts.Set, initiator bool) *wire.TS {
	out := &wire.TS{Initiator: initiator, Selectors: make([]wire.TrafficSelector, 0, len(s))}
	for _, x := range s {
		if x.Valid() != nil || len(out.Selectors) == wire.MaxSelectors {
			continue
		}
		w := wire.TrafficSelector{Type: wire.TSIPv4AddrRange, Proto: x.Proto,
			StartPort: x.Ports.First, EndPort: x.Ports.Last, Start: x.First, End: x.Last}
		if x.IsV6() {
			w.Type = wire.TSIPv6AddrRange
		}
		out.Selectors = append(out.Selectors, w)
	}
	return out
}

// asked returns what goes into TSi and TSr: the packet that asks for the child SA, if one
// does, before all that is wanted. A responder that must choose takes a part that the
// packet fits (RFC 7296, Section 2.9).
func (r *ChildRequest) asked() (tsi, tsr ts.Set) {
	tsi, tsr = r.Pair.Local, r.Pair.Remote
	f := r.Packet
	if !r.Pair.MatchOut(f) {
		return tsi, tsr
	}
	local, remote := ts.FromAddr(f.Src()), ts.FromAddr(f.Dst())
	local.Proto, remote.Proto = f.Proto(), f.Proto()
	if !f.Opaque() {
		local.Ports, remote.Ports = ts.Port(f.SrcPort()), ts.Port(f.DstPort())
	}
	return lead(local, tsi), lead(remote, tsr)
}

// lead puts a selector before a set that is more than that, and of the set what holds the
// selector before the rest: strongSwan 5.9.8 weighs the first ones most.
func lead(first ts.Selector, s ts.Set) ts.Set {
	if len(s) == 1 && s[0] == first {
		return s
	}
	out := append(make(ts.Set, 0, len(s)+1), first)
	for _, holds := range []bool{true, false} {
		for _, x := range s {
			if x.Covers(first) == holds {
				out = append(out, x)
			}
		}
	}
	return out
}

// fromWire reads a TS payload. Selectors of unknown type are ignored (RFC 7296,
// Section 2.9), and so is what no packet can match.
func fromWire(t *wire.TS) ts.Set {
	if t == nil {
		return nil
	}
	out := make(ts.Set, 0, len(t.Selectors))
	for _, w := range t.Selectors {
		if !w.Known() {
			continue
		}
		x := ts.Selector{First: w.Start, Last: w.End, Proto: w.Proto, Ports: ts.Ports{First: w.StartPort, Last: w.EndPort}}
		if x.Valid() == nil {
			out = append(out, x)
		}
	}
	return out
}

// oneAddr returns the address of a set that names exactly one.
func oneAddr(s ts.Set) (netip.Addr, bool) {
	if len(s) == 0 {
		return netip.Addr{}, false
	}
	a := s[0].First
	for _, x := range s {
		if x.First != a || x.Last != a {
			return netip.Addr{}, false
		}
	}
	return a, true
}

// withAddr returns s with its one address replaced; s itself if it has not exactly
// one, or a is of no use (RFC 7296, Section 2.23.1).
func withAddr(s ts.Set, a netip.Addr) ts.Set {
	old, ok := oneAddr(s)
	a = a.Unmap().WithZone("")
	if !ok || !a.IsValid() || a.IsUnspecified() || old == a || old.Is4() != a.Is4() {
		return s
	}
	out := make(ts.Set, len(s))
	for i, x := range s {
		x.First, x.Last = a, a
		out[i] = x
	}
	return out
}

// within reports whether got is something, and nothing beyond offered.
func within(offered, got ts.Pair) bool {
	return len(got.Local) > 0 && len(got.Remote) > 0 && !got.Empty() &&
		offered.Local.Covers(got.Local) && offered.Remote.Covers(got.Remote)
}
