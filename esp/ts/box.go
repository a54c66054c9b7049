package ts

import "net/netip"

// opaquePoint is where OPAQUE lies on the line of ports.
const opaquePoint = 65536

// box is a selector as a plain product of three intervals, so that differences of selectors can
// be computed exactly: protocols are 0–255 and OPAQUE is one more point behind the ports.
type box struct {
	first, last netip.Addr
	plo, phi    int
	lo, hi      int
}

func (s Selector) box() box {
	b := box{first: s.First, last: s.Last, plo: int(s.Proto), phi: int(s.Proto),
		lo: int(s.Ports.First), hi: int(s.Ports.Last)}
	if s.Proto == 0 {
		b.phi = 255
	}
	switch {
	case s.Ports.IsAny():
		b.hi = opaquePoint
	case s.Ports.IsOpaque():
		b.lo, b.hi = opaquePoint, opaquePoint
	}
	return b
}

func (s Set) boxes() []box {
	out := make([]box, 0, len(s))
	for _, x := range s {
		if x.ok() {
			out = append(out, x.box())
		}
	}
	return out
}

// overlaps reports whether a and b share a point.
func (a box) overlaps(b box) bool {
	return a.first.BitLen() == b.first.BitLen() &&
		a.first.Compare(b.last) <= 0 && b.first.Compare(a.last) <= 0 &&
		a.plo <= b.phi && b.plo <= a.phi && a.lo <= b.hi && b.lo <= a.hi
}

// minus appends to out the disjoint pieces of a that are not in b: first what lies outside b's
// addresses, then outside its protocols, then outside its ports.
func (a box) minus(b box, out []box) []box {
	if !a.overlaps(b) {
		return append(out, a)
	}
	if a.first.Less(b.first) {
		piece := a
		piece.last = b.first.Prev()
		out = append(out, piece)
		a.first = b.first
	}
	if b.last.Less(a.last) {
		piece := a
		piece.first = b.last.Next()
		out = append(out, piece)
		a.last = b.last
	}
	if a.plo < b.plo {
		piece := a
		piece.phi = b.plo - 1
		out = append(out, piece)
		a.plo = b.plo
	}
	if b.phi < a.phi {
		piece := a
		piece.plo = b.phi + 1
		out = append(out, piece)
		a.phi = b.phi
	}
	if a.lo < b.lo {
		piece := a
		piece.hi = b.lo - 1
		out = append(out, piece)
	}
	if b.hi < a.hi {
		piece := a
		piece.lo = b.hi + 1
		out = append(out, piece)
	}
	return out
}

// subtract returns the pieces of as outside bs, and false if they would exceed MaxPieces.
func subtract(as, bs []box) ([]box, bool) {
	rest := as
	var next []box
	for _, b := range bs {
		next = make([]box, 0, len(rest))
		for _, a := range rest {
			if next = a.minus(b, next); len(next) > MaxPieces {
				return nil, false
			}
		}
		if rest = next; len(rest) == 0 {
			break
		}
	}
	return rest, true
}

// boxesCover reports whether every point of bs is in as.
func boxesCover(as, bs []box) bool {
	for _, b := range bs {
		if rest, ok := subtract([]box{b}, as); !ok || len(rest) != 0 {
			return false
		}
	}
	return true
}

// selectors appends a as selectors. A protocol interval that is neither one protocol nor all of
// them cannot be said in a selector and is left out.
func (a box) selectors(out Set) Set {
	s := Selector{First: a.first, Last: a.last}
	switch {
	case a.plo == 0 && a.phi == 255:
	case a.plo == a.phi && a.plo != 0:
		s.Proto = uint8(a.plo)
	default:
		return out
	}
	add := func(lo, hi int) {
		s.Ports = Ports{uint16(lo), uint16(hi)}
		out = append(out, s)
	}
	switch {
	case a.lo == opaquePoint:
		s.Ports = OpaquePorts()
		return append(out, s)
	case a.lo == 0 && a.hi == opaquePoint:
		add(0, 65535)
		return out
	case a.hi == opaquePoint:
		s.Ports = OpaquePorts()
		out = append(out, s)
		a.hi = 65535
	}
	if a.lo == 0 && a.hi == 65535 { // all ports but OPAQUE: one range would be ANY
		add(0, 32767)
		a.lo = 32768
	}
	add(a.lo, a.hi)
	return out
}

// Subtract returns a set that has nothing of o, and of s everything outside o that selectors
// can say: "every protocol but one" they cannot, so subtracting a selector with a protocol from
// one without takes all protocols away from the addresses of both. Past MaxPieces it returns
// nil. Either way the result errs towards less.
func (s Set) Subtract(o Set) Set {
	rest, ok := subtract(s.boxes(), o.boxes())
	if !ok {
		return nil
	}
	var out Set
	for _, b := range rest {
		out = b.selectors(out)
	}
	return out.Normalize()
}

// SubtractAddrs returns s without the addresses named in o, whatever o says of protocols and
// ports.
func (s Set) SubtractAddrs(o Set) Set {
	wide := make(Set, len(o))
	for i, x := range o {
		x.Proto, x.Ports = 0, AnyPorts()
		wide[i] = x
	}
	return s.Subtract(wide)
}
