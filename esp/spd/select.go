package spd

import (
	"iter"
	"slices"

	"github.com/btns-go/btns/esp/ts"
)

// Query is a peer's proposal, for which the SPD is searched (RFC 4301, Section 4.4.3.4).
type Query struct {
	Pair ts.Pair // the proposed selectors, from this host's view, after the PAD has narrowed them
	// First is the first selector of each side where they describe the packet that asked for the
	// SA (RFC 7296, Section 2.9); policies that overlap it come before the others. The zero Pair
	// is none.
	First ts.Pair
	Peer  string // the peer's identity in canonical text
	ByID  bool   // its PAD entry says: only policies that name it
	BTNS  bool   // it is only a key: only policies with BTNS_OK (RFC 5386, Section 2)
}

// Select returns, in order, the policies under which the proposal may become SAs, each with what
// an SA may cover: the proposal narrowed to the policy. Where policies overlap, an earlier one
// can still claim packets inside such an SA, so what arrives on it is to be looked up too
// (RFC 4301, Section 4.4.1, "Decorrelation").
func (db *DB) Select(q Query) iter.Seq2[*Policy, ts.Pair] {
	return func(yield func(*Policy, ts.Pair) bool) {
		candidates := db.candidates(&q)
		hasFirst := len(q.First.Local) != 0 && len(q.First.Remote) != 0
		for _, wantFirst := range [...]bool{true, false} {
			if !hasFirst && !wantFirst {
				return
			}
			for _, p := range candidates {
				if hasFirst && p.Sel.Overlaps(q.First) != wantFirst {
					continue
				}
				if pair, ok := q.Pair.Intersect(p.Sel); ok && !yield(p, pair) {
					return
				}
			}
		}
	}
}

// candidates returns the policies that may fit, in order.
func (db *DB) candidates(q *Query) []*Policy {
	var out []*Policy
	add := func(p *Policy) {
		if p.Word.AllowsSA() && p.Manual == nil && (p.BTNSOK || !q.BTNS) && (p.Peer == "" || p.Peer == q.Peer) {
			out = append(out, p)
		}
	}
	if q.ByID {
		for _, p := range db.byPeer[q.Peer] {
			add(p)
		}
		return out
	}
	var found []int32
	for _, v6 := range [...]bool{false, true} {
		t := &db.v4
		if v6 {
			t = &db.v6
		}
		boxesOf(q.Pair, v6, func(b box) {
			// With one selector the other side's type is not consulted, so ports decide nothing
			// here; Intersect does.
			b.nums[0], b.nums[1] = [2]uint32{0, opaquePort}, [2]uint32{0, opaquePort}
			for _, root := range t.roots {
				found = t.overlapping(root, &b, found)
			}
		})
	}
	slices.Sort(found)
	for _, i := range slices.Compact(found) {
		add(&db.policies[i])
	}
	return out
}
