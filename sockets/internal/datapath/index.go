package datapath

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/btns-go/btns/esp/ts"
)

// childIndex finds the children that may carry an outbound flow: by the flow itself for children that are as narrow as one
// flow, else by the destination, and by the longest prefixes around it. All are read without a lock and hold immutable lists,
// newest child first, so that a search touches only children that cover the destination. Changes are made under Path.mu. Most
// children are for one address, and most hosts of a gateway have one: an immutable tree of them all would copy, and leave to
// the collector, 13 to 20 KiB for each that comes.
type childIndex struct {
	narrow lists[ts.Flow]
	hosts  lists[netip.Addr]
	wide   atomic.Pointer[bart.Table[[]*Child]]
}

func (x *childIndex) init() { x.wide.Store(new(bart.Table[[]*Child])) }

// add makes c findable. c must not be in the index.
func (x *childIndex) add(c *Child) { x.change(c, with) }

// remove undoes add.
func (x *childIndex) remove(c *Child) { x.change(c, without) }

// change replaces each list that c belongs to.
func (x *childIndex) change(c *Child, by func([]*Child, *Child) []*Child) {
	if f, ok := oneFlow(c.Pair); ok {
		x.narrow.set(f, by(x.narrow.at(f), c))
		return
	}
	t := x.wide.Load()
	for _, p := range c.Pair.Remote.Prefixes() {
		if p.IsSingleIP() {
			x.hosts.set(p.Addr(), by(x.hosts.at(p.Addr()), c))
			continue
		}
		list, _ := t.Get(p)
		if list = by(list, c); len(list) > 0 {
			t = t.InsertPersist(p, list)
		} else {
			t = t.DeletePersist(p)
		}
	}
	x.wide.Store(t)
}

// lists are children by what they have in common.
type lists[K comparable] struct{ m sync.Map } // K → []*Child, none empty

func (l *lists[K]) at(k K) []*Child {
	if v, ok := l.m.Load(k); ok {
		return v.([]*Child)
	}
	return nil
}

func (l *lists[K]) set(k K, list []*Child) {
	if len(list) > 0 {
		l.m.Store(k, list)
	} else {
		l.m.Delete(k)
	}
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
	try(x.narrow.at(f))
	dst := f.Dst()
	if !dst.IsValid() {
		return nil
	}
	try(x.hosts.at(dst))
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
