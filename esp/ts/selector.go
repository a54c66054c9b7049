package ts

import (
	"errors"
	"fmt"
	"net/netip"
)

// Selector is one traffic selector: an inclusive address range, a protocol and a port range.
// It is comparable. The zero value matches nothing.
type Selector struct {
	First, Last netip.Addr
	Proto       uint8 // 0 is any protocol
	Ports       Ports
}

// FromPrefix returns the selector for every packet to or from the prefix. An invalid or
// IPv4-mapped prefix gives the zero Selector.
func FromPrefix(p netip.Prefix) Selector {
	if !p.IsValid() || !plain(p.Addr()) {
		return Selector{}
	}
	p = p.Masked()
	return Selector{First: p.Addr(), Last: lastAddr(p), Ports: AnyPorts()}
}

// FromAddr returns the selector for every packet to or from one address. An invalid,
// IPv4-mapped or zoned address gives the zero Selector.
func FromAddr(a netip.Addr) Selector {
	if !plain(a) {
		return Selector{}
	}
	return Selector{First: a, Last: a, Ports: AnyPorts()}
}

// plain reports whether a is a valid address in its one canonical form.
func plain(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

// Valid returns nil if s is well formed: both ends of one family and in order, no zone, no
// IPv4-mapped address, ports ANY, OPAQUE or ascending.
func (s Selector) Valid() error {
	switch {
	case !s.First.IsValid() || !s.Last.IsValid():
		return errors.New("ts: selector without addresses")
	case !plain(s.First) || !plain(s.Last):
		return fmt.Errorf("ts: %v-%v: zones and IPv4-mapped addresses are not allowed", s.First, s.Last)
	case s.First.Is4() != s.Last.Is4():
		return fmt.Errorf("ts: %v-%v: both ends must be of one address family", s.First, s.Last)
	case s.Last.Less(s.First):
		return fmt.Errorf("ts: %v-%v: the range ends before it starts", s.First, s.Last)
	case !s.Ports.valid():
		return fmt.Errorf("ts: ports %d-%d: the range ends before it starts", s.Ports.First, s.Ports.Last)
	}
	return nil
}

// ok is Valid without the error.
func (s Selector) ok() bool {
	return plain(s.First) && plain(s.Last) && s.First.Is4() == s.Last.Is4() &&
		s.First.Compare(s.Last) <= 0 && s.Ports.valid()
}

// IsV6 reports whether s selects IPv6 packets.
func (s Selector) IsV6() bool { return s.First.Is6() }

// hasAddr reports whether a, which is plain, lies in the range of s. Of the ends it asks only
// that they are of a's family: selectors are checked where they are made, not per packet.
func (s *Selector) hasAddr(a netip.Addr) bool {
	n := a.BitLen()
	return s.First.BitLen() == n && s.Last.BitLen() == n &&
		s.First.Compare(a) <= 0 && a.Compare(s.Last) <= 0
}

// match is Contains for a plain address, with the ports possibly hidden.
func (s *Selector) match(a netip.Addr, proto uint8, port uint16, opaque bool) bool {
	return (s.Proto == 0 || s.Proto == proto) && s.Ports.has(port, opaque) && s.hasAddr(a)
}

// Contains reports whether a packet with this address, protocol and visible port is selected.
func (s Selector) Contains(a netip.Addr, proto uint8, port uint16) bool {
	return plain(a) && s.match(a, proto, port, false) && s.ok()
}

// Intersect returns the selector of what both select, and whether there is anything.
func (s Selector) Intersect(o Selector) (Selector, bool) {
	if !s.ok() || !o.ok() || s.IsV6() != o.IsV6() {
		return Selector{}, false
	}
	r := Selector{First: s.First, Last: s.Last, Proto: s.Proto}
	if r.First.Less(o.First) {
		r.First = o.First
	}
	if o.Last.Less(r.Last) {
		r.Last = o.Last
	}
	if r.Last.Less(r.First) {
		return Selector{}, false
	}
	if s.Proto == 0 {
		r.Proto = o.Proto
	} else if o.Proto != 0 && o.Proto != s.Proto {
		return Selector{}, false
	}
	var some bool
	if r.Ports, some = s.Ports.intersect(o.Ports); !some {
		return Selector{}, false
	}
	return r, true
}

// Covers reports whether s selects everything that o selects. An invalid o is covered by
// nothing.
func (s Selector) Covers(o Selector) bool {
	r, ok := s.Intersect(o)
	return ok && r == o
}

// lastAddr returns the highest address of a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As16()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	for i := range a {
		switch left := bits - 8*i; {
		case left <= 0:
			a[i] = 0xff
		case left < 8:
			a[i] |= 0xff >> left
		}
	}
	last := netip.AddrFrom16(a)
	if p.Addr().Is4() {
		return last.Unmap()
	}
	return last
}

// prefix returns the range of s as a prefix if it is one.
func (s Selector) prefix() (netip.Prefix, bool) {
	first, last := s.First.As16(), s.Last.As16()
	bits := 0
	for bits < 128 && first[bits/8]>>(7-bits%8)&1 == last[bits/8]>>(7-bits%8)&1 {
		bits++
	}
	if s.First.Is4() {
		bits -= 96
	}
	p, err := s.First.Prefix(bits)
	if err != nil || p.Addr() != s.First || lastAddr(p) != s.Last {
		return netip.Prefix{}, false
	}
	return p, true
}
