package ts

import (
	"net/netip"
	"slices"
	"strings"
)

// Set is a union of selectors, which are to be Valid; those without addresses match nothing. The
// nil Set is empty.
type Set []Selector

// Contains reports whether some selector contains the packet's address, protocol and port.
func (s Set) Contains(a netip.Addr, proto uint8, port uint16) bool {
	return plain(a) && s.match(a, proto, port, false)
}

// ContainsAddr reports whether some selector names the address, for any protocol and port.
func (s Set) ContainsAddr(a netip.Addr) bool {
	for i := range s {
		if plain(a) && s[i].ok() && s[i].hasAddr(a) {
			return true
		}
	}
	return false
}

func (s Set) match(a netip.Addr, proto uint8, port uint16, opaque bool) bool {
	for i := range s {
		if s[i].match(a, proto, port, opaque) {
			return true
		}
	}
	return false
}

// matchAddr is match for the side whose ports are not consulted.
func (s Set) matchAddr(a netip.Addr, proto uint8) bool {
	for i := range s {
		if (s[i].Proto == 0 || s[i].Proto == proto) && s[i].hasAddr(a) {
			return true
		}
	}
	return false
}

// Intersect returns what both sets select, normalized.
func (s Set) Intersect(o Set) Set {
	var out Set
	for _, a := range s {
		for _, b := range o {
			if r, ok := a.Intersect(b); ok && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out.Normalize()
}

// Overlaps reports whether some packet is in both sets.
func (s Set) Overlaps(o Set) bool {
	for _, a := range s {
		for _, b := range o {
			if _, ok := a.Intersect(b); ok {
				return true
			}
		}
	}
	return false
}

// Covers reports whether s selects everything that o selects, possibly by several selectors
// together. Every Set covers the empty one.
func (s Set) Covers(o Set) bool {
	return boxesCover(s.boxes(), o.boxes())
}

// Equal reports whether both sets select the same packets.
func (s Set) Equal(o Set) bool { return s.Covers(o) && o.Covers(s) }

// Normalize returns an equal set that is sorted, without invalid and redundant selectors, and
// with neighbours joined. It returns nil for an empty set and never changes s.
func (s Set) Normalize() Set {
	out := make(Set, 0, len(s))
	for _, x := range s {
		if x.ok() {
			out = append(out, x)
		}
	}
	for joined := true; joined; {
		joined = false
		slices.SortFunc(out, compare)
		for i := 0; i < len(out); i++ {
			for j := i + 1; j < len(out); {
				if m, ok := join(out[i], out[j]); ok {
					out[i] = m
					out = slices.Delete(out, j, j+1)
					joined = true
					continue
				}
				j++
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// compare orders selectors by family, address, protocol and port; wider ones first.
func compare(a, b Selector) int {
	if c := a.First.Compare(b.First); c != 0 {
		return c
	}
	if c := b.Last.Compare(a.Last); c != 0 {
		return c
	}
	if c := int(a.Proto) - int(b.Proto); c != 0 {
		return c
	}
	if c := int(a.Ports.First) - int(b.Ports.First); c != 0 {
		return c
	}
	return int(b.Ports.Last) - int(a.Ports.Last)
}

// join returns one selector for exactly the packets of both, if there is one.
func join(a, b Selector) (Selector, bool) {
	switch {
	case a.IsV6() != b.IsV6():
		return Selector{}, false
	case a.Covers(b):
		return a, true
	case b.Covers(a):
		return b, true
	case a.Proto != b.Proto:
		return Selector{}, false
	case a.Ports == b.Ports:
		if b.First.Less(a.First) {
			a, b = b, a
		}
		if next := a.Last.Next(); b.First.Compare(a.Last) <= 0 || next == b.First {
			if a.Last.Less(b.Last) {
				a.Last = b.Last
			}
			return a, true
		}
	case a.First == b.First && a.Last == b.Last && !a.Ports.IsOpaque() && !b.Ports.IsOpaque():
		if b.Ports.First < a.Ports.First {
			a, b = b, a
		}
		last := max(a.Ports.Last, b.Ports.Last)
		// 0-65535 would be ANY, which has OPAQUE in it too.
		if int(b.Ports.First) <= int(a.Ports.Last)+1 && (a.Ports.First != 0 || last != 65535) {
			a.Ports.Last = last
			return a, true
		}
	}
	return Selector{}, false
}

// String returns the selectors separated by spaces, "none" for an empty set.
func (s Set) String() string {
	if len(s) == 0 {
		return "none"
	}
	parts := make([]string, len(s))
	for i, x := range s {
		parts[i] = x.String()
	}
	return strings.Join(parts, " ")
}
