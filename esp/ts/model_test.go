package ts

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// The model enumerates a tiny world: a few addresses of each family, the protocols that differ in
// kind, and the ports at which random ranges begin and end, with one in each gap.
var (
	worldPorts  = []int{0, 1, 2, 3, 30000, 40000, 65535, opaquePoint}
	worldProtos = []uint8{ProtoICMP, ProtoTCP, ProtoUDP, 47, ProtoSCTP, 99}
	endPorts    = []uint16{0, 1, 2, 3, 65535}
)

func worldAddrs() []netip.Addr {
	var out []netip.Addr
	for i := range byte(6) {
		out = append(out, netip.AddrFrom4([4]byte{10, 0, 0, i}))
	}
	for i := range byte(3) {
		out = append(out, netip.AddrFrom16([16]byte{0: 0xfd, 15: i}))
	}
	return out
}

func randSelector(r *rand.Rand) Selector {
	addrs := worldAddrs()
	var s Selector
	if r.IntN(3) > 0 {
		a, b := r.IntN(6), r.IntN(6)
		s.First, s.Last = addrs[min(a, b)], addrs[max(a, b)]
	} else {
		a, b := 6+r.IntN(3), 6+r.IntN(3)
		s.First, s.Last = addrs[min(a, b)], addrs[max(a, b)]
	}
	if r.IntN(3) > 0 {
		s.Proto = []uint8{ProtoICMP, ProtoTCP, ProtoUDP, 47}[r.IntN(4)]
	}
	switch r.IntN(4) {
	case 0:
		s.Ports = AnyPorts()
	case 1:
		s.Ports = OpaquePorts()
	default:
		a, b := endPorts[r.IntN(5)], endPorts[r.IntN(5)]
		s.Ports = Ports{min(a, b), max(a, b)}
	}
	return s
}

func randSet(r *rand.Rand, n int) Set {
	s := make(Set, r.IntN(n+1))
	for i := range s {
		s[i] = randSelector(r)
	}
	return s
}

type worldPoint struct {
	addr  netip.Addr
	proto uint8
	port  int
}

func worldPoints() []worldPoint {
	var out []worldPoint
	for _, a := range worldAddrs() {
		for _, proto := range worldProtos {
			for _, port := range worldPorts {
				out = append(out, worldPoint{a, proto, port})
			}
		}
	}
	return out
}

// slowHas is what a selector means, said plainly.
func slowHas(s Selector, p worldPoint) bool {
	if s.First.Is4() != p.addr.Is4() || p.addr.Less(s.First) || s.Last.Less(p.addr) {
		return false
	}
	if s.Proto != 0 && s.Proto != p.proto {
		return false
	}
	switch s.Ports {
	case Ports{0, 65535}:
		return true
	case Ports{65535, 0}:
		return p.port == opaquePoint
	}
	return p.port != opaquePoint && int(s.Ports.First) <= p.port && p.port <= int(s.Ports.Last)
}

func slowIn(s Set, p worldPoint) bool {
	for _, x := range s {
		if slowHas(x, p) {
			return true
		}
	}
	return false
}

func rounds(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() || raceEnabled { // one goroutine: nothing to race
		return n / 20
	}
	return n
}

func TestModelSelector(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	points := worldPoints()
	for range rounds(t, 8000) {
		a, b := randSelector(r), randSelector(r)
		x, ok := a.Intersect(b)
		some, inside := false, true
		for _, p := range points {
			both := slowHas(a, p) && slowHas(b, p)
			if got := ok && slowHas(x, p); got != both {
				t.Fatalf("%v ∩ %v = %v, %v: wrong at %v", a, b, x, ok, p)
			}
			some = some || both
			inside = inside && (slowHas(a, p) || !slowHas(b, p))
			if p.port != opaquePoint && a.Contains(p.addr, p.proto, uint16(p.port)) != slowHas(a, p) {
				t.Fatalf("%v contains %v: wrong", a, p)
			}
		}
		if ok != some {
			t.Fatalf("%v ∩ %v: ok %v, model %v", a, b, ok, some)
		}
		if a.Covers(b) != inside {
			t.Fatalf("%v covers %v: %v, model %v", a, b, a.Covers(b), inside)
		}
	}
}

func TestModelSet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	points := worldPoints()
	for range rounds(t, 2500) {
		a, b := randSet(r, 5), randSet(r, 5)
		cut, norm, minus, addrs := a.Intersect(b), a.Normalize(), a.Subtract(b), a.SubtractAddrs(b)
		covers, overlaps := true, false
		for _, p := range points {
			inA, inB := slowIn(a, p), slowIn(b, p)
			covers = covers && (inA || !inB)
			overlaps = overlaps || inA && inB
			if slowIn(cut, p) != (inA && inB) {
				t.Fatalf("%v ∩ %v = %v: wrong at %v", a, b, cut, p)
			}
			if slowIn(norm, p) != inA {
				t.Fatalf("normalize %v = %v: wrong at %v", a, norm, p)
			}
			if p.port != opaquePoint && a.Contains(p.addr, p.proto, uint16(p.port)) != inA {
				t.Fatalf("%v contains %v: wrong", a, p)
			}
			if got := slowIn(minus, p); got && (inB || !inA) {
				t.Fatalf("%v − %v = %v: has %v", a, b, minus, p)
			} else if !got && inA && !inB && !unsayable(a, b, p) {
				t.Fatalf("%v − %v = %v: lacks %v", a, b, minus, p)
			}
			if got := slowIn(addrs, p); got != (inA && !b.ContainsAddr(p.addr)) {
				t.Fatalf("%v − addresses of %v = %v: wrong at %v", a, b, addrs, p)
			}
		}
		if a.Covers(b) != covers || a.Overlaps(b) != overlaps {
			t.Fatalf("%v and %v: covers %v overlaps %v, model %v %v", a, b, a.Covers(b), a.Overlaps(b), covers, overlaps)
		}
		if !a.Equal(norm) {
			t.Fatalf("%v is not equal to its normal form %v", a, norm)
		}
	}
}

// unsayable reports whether p may be lost because a selector cannot say "every protocol but one":
// a selector of any protocol in a meets one with a protocol in b at p's address.
func unsayable(a, b Set, p worldPoint) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Proto == 0 && y.Proto != 0 && x.hasAddr(p.addr) && y.hasAddr(p.addr) {
				return true
			}
		}
	}
	return false
}

func worldFlows() []Flow {
	var out []Flow
	add := func(f Flow) { out = append(out, f) }
	for _, src := range worldAddrs() {
		for _, dst := range worldAddrs() {
			if src.Is4() != dst.Is4() {
				continue
			}
			for _, proto := range worldProtos {
				f := MakeFlow(proto, netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, 1)).WithoutPorts()
				add(f)
				if !hasPorts(proto) {
					continue
				}
				for _, sp := range worldPorts[:len(worldPorts)-1] {
					for _, dp := range worldPorts[:len(worldPorts)-1] {
						if OneSelector(proto) {
							dp = sp
						}
						add(MakeFlow(proto, netip.AddrPortFrom(src, uint16(sp)), netip.AddrPortFrom(dst, uint16(dp))))
						if OneSelector(proto) {
							break
						}
					}
				}
			}
		}
	}
	return out
}

// slowMatch is what a pair means for a packet from one side to the other.
func slowMatch(from, to Set, f Flow) bool {
	sp, dp := int(f.SrcPort()), int(f.DstPort())
	if f.Opaque() {
		sp, dp = opaquePoint, opaquePoint
	}
	if !slowIn(from, worldPoint{f.Src(), f.Proto(), sp}) {
		return false
	}
	if f.Proto() == ProtoICMP { // any type of the receiver's will do
		for _, port := range worldPorts {
			if slowIn(to, worldPoint{f.Dst(), f.Proto(), port}) {
				return true
			}
		}
		return false
	}
	return slowIn(to, worldPoint{f.Dst(), f.Proto(), dp})
}

func TestModelPair(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	flows := worldFlows()
	for range rounds(t, 250) {
		p := Pair{randSet(r, 3), randSet(r, 3)}
		q := Pair{randSet(r, 3), randSet(r, 3)}
		if r.IntN(2) == 0 { // make them related more often
			q.Local = append(Set{}, p.Local...)
		}
		x, ok := p.Intersect(q)
		covers, overlaps, empty := true, false, true
		for _, f := range flows {
			po, qo := slowMatch(p.Local, p.Remote, f), slowMatch(q.Local, q.Remote, f)
			pi, qi := slowMatch(p.Remote, p.Local, f), slowMatch(q.Remote, q.Local, f)
			if p.MatchOut(f) != po || p.MatchIn(f) != pi {
				t.Fatalf("%v: %v: out %v in %v, model %v %v", p, f, p.MatchOut(f), p.MatchIn(f), po, pi)
			}
			if p.Swap().MatchOut(f) != pi {
				t.Fatalf("%v swapped: %v", p, f)
			}
			covers = covers && (po || !qo) && (pi || !qi)
			overlaps = overlaps || po && qo || pi && qi
			empty = empty && !po && !pi
			xo, xi := slowMatch(x.Local, x.Remote, f), slowMatch(x.Remote, x.Local, f)
			if xo && (!po || !qo) || xi && (!pi || !qi) {
				t.Fatalf("%v ∩ %v = %v: wrongly has %v", p, q, x, f)
			}
			if f.Proto() != ProtoICMP && (xo != (po && qo) || xi != (pi && qi)) {
				t.Fatalf("%v ∩ %v = %v: wrongly lacks %v", p, q, x, f)
			}
		}
		if p.Covers(q) != covers {
			t.Fatalf("%v covers %v: %v, model %v", p, q, p.Covers(q), covers)
		}
		if p.Overlaps(q) != overlaps {
			t.Fatalf("%v overlaps %v: %v, model %v", p, q, p.Overlaps(q), overlaps)
		}
		if p.Empty() != empty {
			t.Fatalf("%v is empty: %v, model %v", p, p.Empty(), empty)
		}
		if ok && !overlaps {
			t.Fatalf("%v ∩ %v = %v, but nothing matches both", p, q, x)
		}
	}
}

func TestHostileSetsStayBounded(t *testing.T) {
	// Many overlapping boxes cut one another into pieces; the answer must come, and err to less.
	r := rand.New(rand.NewPCG(7, 8))
	var many Set
	for range 255 {
		a, b := r.Uint32(), r.Uint32()
		p, q := uint16(r.Uint32()), uint16(r.Uint32())
		many = append(many, Selector{v4(min(a, b)), v4(max(a, b)), uint8(r.IntN(3)), Ports{min(p, q), max(p, q)}})
	}
	all := Set{FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))}
	if many.Covers(all) {
		t.Error("ports never cover OPAQUE")
	}
	if rest := all.Subtract(many); rest.Overlaps(many) {
		t.Error("something of the subtrahend is left")
	}
	if n := len(many.Normalize()); n > 255 {
		t.Errorf("%d selectors in the normal form", n)
	}
}

func v4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
