package datapath

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/btns-go/btns/esp/ts"
)

// childIndex finds the children that may carry an outbound flow: by the flow itself for children that are as narrow as one
// flow, else by the longest prefixes around its destination. Both are read without a lock and hold immutable lists, newest
// child first, so that a search touches only children that cover the destination. Changes are made under Path.mu.
type childIndex struct {
	narrow sync.Map // ts.Flow → []*Child
	wide   atomic.Pointer[bart.Table[[]*Child]]
}

func (x *childIndex) init() { x.wide.Store(new(bart.Table[[]*Child])) }

// add makes c findable. c must not be in the index.
func (x *childIndex) add(c *Child) {
	if f, ok := oneFlow(c.Pair); ok {
		x.narrow.Store(f, with(x.at(f), c))
		return
	}
	t := x.wide.Load()
	for _, p := range c.Pair.Remote.Prefixes() {
		list, _ := t.Get(p)
		t = t.InsertPersist(p, with(list, c))
	}
	x.wide.Store(t)
}

// remove undoes add.
func (x *childIndex) remove(c *Child) {
	if f, ok := oneFlow(c.Pair); ok {
		if list := without(x.at(f), c); len(list) > 0 {
			x.narrow.Store(f, list)
		} else {
			x.narrow.Delete(f)
		}
		return
	}
	t := x.wide.Load()
	for _, p := range c.Pair.Remote.Prefixes() {
		list, _ := t.Get(p)
		if list = without(list, c); len(list) > 0 {
			t = t.InsertPersist(p, list)
		} else {
			t = t.DeletePersist(p)
		}
	}
	x.wide.Store(t)
}

func (x *childIndex) at(f ts.Flow) []*Child {
	if v, ok := x.narrow.Load(f); ok {
		return v.([]*Child)
	}
	return nil
}

// best returns the child that is to carry f among those that fits accepts, nil if there is none: one of an authenticated
// peer before an anonymous one's, then the newest.
func (x *childIndex) best(f ts.Flow, fits func(*Child) bool) *Child {
	var best *Child
	try := func(list []*Child) {
		for _, c := range list {
			if (best == nil || better(c, best)) && c.Pair.MatchOut(f) && fits(c) {
				best = c
			}
		}
	}
	try(x.at(f))
	dst := f.Dst()
	if !dst.IsValid() {
		return nil
	}
	for _, list := range x.wide.Load().Supernets(netip.PrefixFrom(dst, dst.BitLen())) {
		try(list)
	}
	return best
}

func better(a, b *Child) bool {
	if a.Peer.Anonymous != b.Peer.Anonymous {
		return b.Peer.Anonymous
	}
	return a.serial.Load() > b.serial.Load()
}

func with(list []*Child, c *Child) []*Child {
	return append(append(make([]*Child, 0, len(list)+1), c), list...)
}

func without(list []*Child, c *Child) []*Child {
	out := make([]*Child, 0, len(list))
	for _, x := range list {
		if x != c {
			out = append(out, x)
		}
	}
	return out
}

// oneFlow reports whether p is a single 5-tuple, and returns it as an outbound flow.
func oneFlow(p ts.Pair) (ts.Flow, bool) {
	if len(p.Local) != 1 || len(p.Remote) != 1 {
		return ts.Flow{}, false
	}
	l, r := p.Local[0], p.Remote[0]
	if l.First != l.Last || r.First != r.Last || l.Proto == 0 || l.Proto != r.Proto ||
		l.Ports.First != l.Ports.Last || r.Ports.First != r.Ports.Last {
		return ts.Flow{}, false
	}
	f := ts.MakeFlow(l.Proto, netip.AddrPortFrom(l.First, l.Ports.First), netip.AddrPortFrom(r.First, r.Ports.First))
	return f, f.IsValid() && p.MatchOut(f)
}
