package spd

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/esp/ts"
)

// The index answers "which is the first policy that covers this packet" without asking each. One
// entry per combination of a local and a remote selector is a box in five dimensions. Boxes of
// about one size go into one tree, because a tree that mixes hosts with whole networks cannot
// tell them apart; the trees are balanced, each node knows the box around its entries and the
// lowest policy number below it. A search skips what cannot contain the packet or cannot be
// earlier than what is found, and asks the policy itself at the leaves, so a box may be too large
// but never too small.

// leafSize is the number of entries of a leaf; small, because boxes are cheap and policies not.
const leafSize = 4

// opaquePort is where OPAQUE lies on the line of ports.
const opaquePort = 65536

// The dimensions of a box.
const (
	dimRemote = iota
	dimLocal
	dimRemotePort
	dimLocalPort
	dimProto
	dims
)

// addr is an address as a number: IPv4 in lo.
type addr struct{ hi, lo uint64 }

func addrOf(a netip.Addr) addr {
	if a.Is4() {
		b := a.As4()
		return addr{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a addr) less(b addr) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// box is a closed interval in each dimension.
type box struct {
	addrs [2][2]addr // dimRemote, dimLocal
	nums  [3][2]uint32
}

// point is a packet, seen from this host.
type point struct {
	addrs [2]addr
	nums  [3]uint32
	// skip marks a port that is not consulted; 0 is dimRemotePort.
	skip [2]bool
}

func (b *box) contains(p *point) bool {
	for d := range b.addrs {
		if p.addrs[d].less(b.addrs[d][0]) || b.addrs[d][1].less(p.addrs[d]) {
			return false
		}
	}
	for d := range b.nums {
		if (d == 2 || !p.skip[d]) && (p.nums[d] < b.nums[d][0] || b.nums[d][1] < p.nums[d]) {
			return false
		}
	}
	return true
}

func (b *box) overlaps(o *box) bool {
	for d := range b.addrs {
		if o.addrs[d][1].less(b.addrs[d][0]) || b.addrs[d][1].less(o.addrs[d][0]) {
			return false
		}
	}
	for d := range b.nums {
		if o.nums[d][1] < b.nums[d][0] || b.nums[d][1] < o.nums[d][0] {
			return false
		}
	}
	return true
}

// grow widens b to hold o.
func (b *box) grow(o *box) {
	for d := range b.addrs {
		if o.addrs[d][0].less(b.addrs[d][0]) {
			b.addrs[d][0] = o.addrs[d][0]
		}
		if b.addrs[d][1].less(o.addrs[d][1]) {
			b.addrs[d][1] = o.addrs[d][1]
		}
	}
	for d := range b.nums {
		b.nums[d][0] = min(b.nums[d][0], o.nums[d][0])
		b.nums[d][1] = max(b.nums[d][1], o.nums[d][1])
	}
}

// span returns the interval of a dimension, for sorting.
func (b *box) span(d int) (lo, hi addr) {
	if d < dimRemotePort {
		return b.addrs[d][0], b.addrs[d][1]
	}
	n := b.nums[d-dimRemotePort]
	return addr{lo: uint64(n[0])}, addr{lo: uint64(n[1])}
}

// setSide fills in the dimensions of one side.
func (b *box) setSide(d int, s ts.Selector) {
	b.addrs[d] = [2]addr{addrOf(s.First), addrOf(s.Last)}
	ports := [2]uint32{uint32(s.Ports.First), uint32(s.Ports.Last)}
	switch {
	case s.Ports.IsAny():
		ports[1] = opaquePort
	case s.Ports.IsOpaque():
		ports = [2]uint32{opaquePort, opaquePort}
	}
	b.nums[d] = ports
}

// boxOf returns the box of a combination, and false if no packet is in it.
func boxOf(local, remote ts.Selector) (box, bool) {
	var b box
	b.setSide(dimRemote, remote)
	b.setSide(dimLocal, local)
	switch {
	case local.Proto == 0 && remote.Proto == 0:
		b.nums[2] = [2]uint32{0, 255}
	case local.Proto == 0:
		b.nums[2] = [2]uint32{uint32(remote.Proto), uint32(remote.Proto)}
	default:
		b.nums[2] = [2]uint32{uint32(local.Proto), uint32(local.Proto)}
	}
	return b, local.IsV6() == remote.IsV6() &&
		(local.Proto == 0 || remote.Proto == 0 || local.Proto == remote.Proto)
}

// boxesOf calls f with boxes that together hold all packets of the pair and the family.
func boxesOf(pair ts.Pair, v6 bool, f func(box)) {
	if len(pair.Local)*len(pair.Remote) > maxCombos {
		var hull box
		first := true
		for _, l := range pair.Local {
			for _, r := range pair.Remote {
				if b, ok := boxOf(l, r); ok && l.IsV6() == v6 {
					if first {
						hull, first = b, false
					}
					hull.grow(&b)
				}
			}
		}
		if !first {
			f(hull)
		}
		return
	}
	for _, l := range pair.Local {
		for _, r := range pair.Remote {
			if b, ok := boxOf(l, r); ok && l.IsV6() == v6 {
				f(b)
			}
		}
	}
}

type entry struct {
	box    box
	policy int32
}

// node is a node of a tree. The two children of an inner node are neighbours in the slice.
type node struct {
	box    box
	lowest int32 // the lowest policy below
	first  int32 // of the children, or of a leaf's entries
	count  int32 // of a leaf's entries; 0 for an inner node
	_      int32
}

// tree is the index of one address family.
type tree struct {
	roots   []int32 // sorted by lowest
	nodes   []node
	entries []entry
}

// index builds the trees.
func (db *DB) index() {
	for _, v6 := range [...]bool{false, true} {
		groups := make(map[uint32][]entry)
		n := 0
		for i := range db.policies {
			boxesOf(db.policies[i].Sel, v6, func(b box) {
				g := b.size()
				groups[g] = append(groups[g], entry{b, int32(i)})
				n++
			})
		}
		t := &db.v4
		if v6 {
			t = &db.v6
		}
		t.entries = make([]entry, 0, n)
		for _, g := range groups {
			start := len(t.entries)
			t.entries = append(t.entries, g...)
			root := int32(len(t.nodes))
			t.nodes = append(t.nodes, node{})
			t.build(root, start, len(t.entries))
			t.roots = append(t.roots, root)
		}
		slices.SortFunc(t.roots, func(a, b int32) int { return cmp.Compare(t.nodes[a].lowest, t.nodes[b].lowest) })
	}
}

// size puts boxes of about one shape into one group.
func (b *box) size() uint32 {
	group := uint32(0)
	for d := range b.addrs {
		diff := addr{b.addrs[d][1].hi ^ b.addrs[d][0].hi, b.addrs[d][1].lo ^ b.addrs[d][0].lo}
		n := bits.Len64(diff.lo)
		if diff.hi != 0 {
			n = 64 + bits.Len64(diff.hi)
		}
		group = group<<5 | uint32((n+7)/8)
	}
	for _, n := range b.nums {
		wide := uint32(0)
		if n[1]-n[0] > 127 {
			wide = 1
		}
		group = group<<1 | wide
	}
	return group
}

// build makes the tree of entries[start:end] at nodes[at].
func (t *tree) build(at int32, start, end int) {
	part := t.entries[start:end]
	n := node{box: part[0].box, lowest: part[0].policy, first: int32(start), count: int32(len(part))}
	for i := range part {
		n.box.grow(&part[i].box)
		n.lowest = min(n.lowest, part[i].policy)
	}
	if len(part) > leafSize {
		mid := len(part) / 2
		nth(part, mid, bestDim(part))
		n.first, n.count = int32(len(t.nodes)), 0
		t.nodes = append(t.nodes, node{}, node{})
		t.build(n.first, start, start+mid)
		t.build(n.first+1, start+mid, end)
	}
	t.nodes[at] = n
}

// bestDim returns the dimension in which a sample of the entries, cut at the median, overlaps
// least.
func bestDim(part []entry) int {
	const samples = 33
	best, bestCost := 0, samples+1
	var spans [samples][2]addr
	for d := range dims {
		n := min(samples, len(part))
		for i := range n {
			spans[i][0], spans[i][1] = part[i*len(part)/n].box.span(d)
		}
		s := spans[:n]
		slices.SortFunc(s, func(a, b [2]addr) int { return compare(a[0], b[0]) })
		cut, cost := s[n/2][0], 0
		for _, x := range s[:n/2] {
			if !x[1].less(cut) {
				cost++
			}
		}
		if cost < bestCost {
			best, bestCost = d, cost
		}
	}
	return best
}

func compare(a, b addr) int {
	switch {
	case a.less(b):
		return -1
	case b.less(a):
		return 1
	}
	return 0
}

// nth reorders the entries so that those before k start no later in dimension d than those from
// k on.
func nth(part []entry, k, d int) {
	for len(part) > 1 {
		pivot, _ := part[len(part)/2].box.span(d)
		i, j := 0, len(part)-1
		for i <= j {
			for lo, _ := part[i].box.span(d); lo.less(pivot); lo, _ = part[i].box.span(d) {
				i++
			}
			for lo, _ := part[j].box.span(d); pivot.less(lo); lo, _ = part[j].box.span(d) {
				j--
			}
			if i <= j {
				part[i], part[j] = part[j], part[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			part = part[:j+1]
		case k >= i:
			part, k = part[i:], k-i
		default:
			return
		}
	}
}

// lookup returns the first policy that covers f.
func (t *tree) lookup(db *DB, out bool, f ts.Flow) *Policy {
	s := search{t: t, db: db, flow: f, out: out, best: int32(len(db.policies))}
	src, dst := addrOf(f.Src()), addrOf(f.Dst())
	sport, dport := uint32(f.SrcPort()), uint32(f.DstPort())
	if f.Opaque() {
		sport, dport = opaquePort, opaquePort
	}
	s.at.nums[2] = uint32(f.Proto())
	if out {
		s.at.addrs = [2]addr{dst, src}
		s.at.nums[0], s.at.nums[1] = dport, sport
		s.at.skip[0] = ts.OneSelector(f.Proto())
	} else {
		s.at.addrs = [2]addr{src, dst}
		s.at.nums[0], s.at.nums[1] = sport, dport
		s.at.skip[1] = ts.OneSelector(f.Proto())
	}
	for _, root := range t.roots {
		if t.nodes[root].lowest >= s.best {
			break
		}
		s.visit(root)
	}
	if int(s.best) == len(db.policies) {
		return nil
	}
	return &db.policies[s.best]
}

// search is one lookup under way.
type search struct {
	t    *tree
	db   *DB
	flow ts.Flow
	out  bool
	at   point
	best int32
}

func (s *search) visit(at int32) {
	n := &s.t.nodes[at]
	if n.lowest >= s.best || !n.box.contains(&s.at) {
		return
	}
	if n.count == 0 {
		a, b := n.first, n.first+1
		if s.t.nodes[b].lowest < s.t.nodes[a].lowest {
			a, b = b, a
		}
		s.visit(a)
		s.visit(b)
		return
	}
	for i := n.first; i < n.first+n.count; i++ {
		e := &s.t.entries[i]
		if e.policy < s.best && e.box.contains(&s.at) && s.db.policies[e.policy].matches(s.out, s.flow) {
			s.best = e.policy
		}
	}
}

func (p *Policy) matches(out bool, f ts.Flow) bool {
	if out {
		return p.Sel.MatchOut(f)
	}
	return p.Sel.MatchIn(f)
}

// overlapping appends the numbers of the policies whose boxes overlap b.
func (t *tree) overlapping(at int32, b *box, out []int32) []int32 {
	n := &t.nodes[at]
	if !n.box.overlaps(b) {
		return out
	}
	if n.count == 0 {
		return t.overlapping(n.first+1, b, t.overlapping(n.first, b, out))
	}
	for i := n.first; i < n.first+n.count; i++ {
		if e := &t.entries[i]; e.box.overlaps(b) {
			out = append(out, e.policy)
		}
	}
	return out
}
