package ts

// Pair is what an SA or a policy covers, from this host's view: packets it may send go from
// Local to Remote, packets it may receive from Remote to Local. The zero Pair covers nothing.
type Pair struct{ Local, Remote Set }

// MatchOut reports whether p covers f as a packet that leaves: source in Local, destination in
// Remote, one protocol in both.
func (p Pair) MatchOut(f Flow) bool {
	return f.IsValid() && matchSides(p.Local, p.Remote, &f)
}

// MatchIn reports whether p covers f as a packet that arrives: source in Remote, destination in
// Local.
func (p Pair) MatchIn(f Flow) bool {
	return f.IsValid() && matchSides(p.Remote, p.Local, &f)
}

// matchSides matches f against the sender's and the receiver's set.
func matchSides(src, dst Set, f *Flow) bool {
	opaque := f.Opaque()
	if !src.match(f.Src(), f.proto, f.sport, opaque) {
		return false
	}
	if OneSelector(f.proto) {
		// RFC 4301, Section 4.4.1.3: the sender's side says what it may send, the other
		// side's value is about what that one may send.
		return dst.matchAddr(f.Dst(), f.proto)
	}
	return dst.match(f.Dst(), f.proto, f.dport, opaque)
}

// Leading returns the first selectors of a proposal, where they describe the packet that
// asks for an SA: one address each, of one protocol, and more behind them (RFC 7296,
// Section 2.9). Else it returns the zero Pair.
func (p Pair) Leading() Pair {
	if len(p.Local) == 0 || len(p.Remote) == 0 || len(p.Local)+len(p.Remote) == 2 {
		return Pair{}
	}
	l, r := p.Local[0], p.Remote[0]
	if l.First != l.Last || r.First != r.Last || l.Proto != r.Proto {
		return Pair{}
	}
	return Pair{Local: Set{l}, Remote: Set{r}}
}

// Swap returns the pair as the peer sees it.
func (p Pair) Swap() Pair { return Pair{Local: p.Remote, Remote: p.Local} }

// Empty reports whether no packet can match p in either direction.
func (p Pair) Empty() bool {
	for _, l := range p.Local {
		for _, r := range p.Remote {
			if l.ok() && r.ok() && l.meets(r) {
				return false
			}
		}
	}
	return true
}

// meets reports whether some packet from or to s is to or from o.
func (s Selector) meets(o Selector) bool {
	proto := max(s.Proto, o.Proto)
	if s.IsV6() != o.IsV6() || s.Proto != 0 && o.Proto != 0 && s.Proto != o.Proto {
		return false
	}
	if proto == 0 || OneSelector(proto) {
		return true // ICMP at least: either side's types will do
	}
	return hasPorts(proto) && !s.Ports.IsOpaque() && !o.Ports.IsOpaque() ||
		s.Ports.has(0, true) && o.Ports.has(0, true)
}

// Intersect returns what both pairs cover, side by side, and whether any packet can match it.
// Selectors that find no partner of their protocol on the other side are left out. Nothing in
// the result is outside either pair; of ICMP it can be less than both, where the two name
// different types for one side.
func (p Pair) Intersect(o Pair) (Pair, bool) {
	r := Pair{Local: p.Local.Intersect(o.Local), Remote: p.Remote.Intersect(o.Remote)}
	r.Local, r.Remote = r.Local.partners(r.Remote), r.Remote.partners(r.Local)
	if r.Empty() {
		return Pair{}, false
	}
	return r, true
}

// partners returns the selectors of s that share family and protocol with one of o.
func (s Set) partners(o Set) Set {
	var out Set
	for _, a := range s {
		for _, b := range o {
			if a.IsV6() == b.IsV6() && (a.Proto == 0 || b.Proto == 0 || a.Proto == b.Proto) {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

// class is one slice of the packet space in which the two sides of a pair are independent: one
// family, one protocol, ports seen or not.
type class struct {
	v6     bool
	proto  int // -1 stands for all protocols that nobody names
	lo, hi int // on the line of ports
}

// classes lists the slices in which p and o can differ.
func classes(p, o Pair) []class {
	var named [256]bool
	// Protocols with one selector keep OPAQUE beside their types: there it means "may not
	// send", not "cannot be seen".
	named[ProtoICMP], named[ProtoICMPv6], named[ProtoMH] = true, true, true
	var v4, v6 bool
	for _, set := range [...]Set{p.Local, p.Remote, o.Local, o.Remote} {
		for _, s := range set {
			named[s.Proto] = true
			v4 = v4 || !s.IsV6()
			v6 = v6 || s.IsV6()
		}
	}
	named[0] = false
	var out []class
	add := func(proto int, lo, hi int) {
		if v4 {
			out = append(out, class{false, proto, lo, hi})
		}
		if v6 {
			out = append(out, class{true, proto, lo, hi})
		}
	}
	add(-1, 0, 65535)
	add(-1, opaquePoint, opaquePoint)
	for n, is := range named {
		switch {
		case !is:
		case OneSelector(uint8(n)):
			add(n, 0, opaquePoint)
		default:
			if hasPorts(uint8(n)) {
				add(n, 0, 65535)
			}
			add(n, opaquePoint, opaquePoint)
		}
	}
	return out
}

// boxesIn returns the boxes of s inside c, with the protocol forgotten.
func (s Set) boxesIn(c class) []box {
	var out []box
	for _, x := range s {
		if !x.ok() || x.IsV6() != c.v6 || (x.Proto != 0 && int(x.Proto) != c.proto) {
			continue
		}
		b := x.box()
		b.lo, b.hi = max(b.lo, c.lo), min(b.hi, c.hi)
		b.plo, b.phi = 0, 0
		if b.lo <= b.hi {
			out = append(out, b)
		}
	}
	return out
}

// Covers reports whether p covers every packet that o covers. An empty o is covered by every
// pair. Past MaxPieces the answer is false.
func (p Pair) Covers(o Pair) bool {
	for _, c := range classes(p, o) {
		ol, or := o.Local.boxesIn(c), o.Remote.boxesIn(c)
		if len(ol) == 0 || len(or) == 0 {
			continue
		}
		if !boxesCover(p.Local.boxesIn(c), ol) || !boxesCover(p.Remote.boxesIn(c), or) {
			return false
		}
	}
	return true
}

// Overlaps reports whether some packet is covered by both.
func (p Pair) Overlaps(o Pair) bool {
	for _, c := range classes(p, o) {
		pl, pr, ol, or := p.Local.boxesIn(c), p.Remote.boxesIn(c), o.Local.boxesIn(c), o.Remote.boxesIn(c)
		local, remote := anyOverlap(pl, ol), anyOverlap(pr, or)
		if local && remote {
			return true
		}
		// With one selector the receiver's types are not consulted: its addresses are enough.
		if c.proto >= 0 && OneSelector(uint8(c.proto)) &&
			(local && anyOverlap(anyPort(pr), anyPort(or)) || remote && anyOverlap(anyPort(pl), anyPort(ol))) {
			return true
		}
	}
	return false
}

// anyPort widens boxes to every port.
func anyPort(bs []box) []box {
	for i := range bs {
		bs[i].lo, bs[i].hi = 0, opaquePoint
	}
	return bs
}

func anyOverlap(as, bs []box) bool {
	for _, a := range as {
		for _, b := range bs {
			if a.overlaps(b) {
				return true
			}
		}
	}
	return false
}

// Equal reports whether both pairs cover the same packets.
func (p Pair) Equal(o Pair) bool { return p.Covers(o) && o.Covers(p) }

// String returns "LOCAL === REMOTE", the form operators know from strongSwan.
func (p Pair) String() string { return p.Local.String() + " === " + p.Remote.String() }
