package engine

import (
	"slices"

	"github.com/gaissmai/bart"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// holders say which peer has child SAs for which of the other side's addresses, so that one
// nobody vouches for is kept off them. Hosts that know all their peers keep none; nil does
// nothing.
type holders struct{ table bart.Table[[]holding] }

// A holding is the child SAs of one peer for one prefix.
type holding struct {
	peer     string // canonical
	children int
}

func newHolders(conns []*Conn) *holders {
	if slices.ContainsFunc(conns, (*Conn).anonymous) {
		return &holders{}
	}
	return nil
}

func (h *holders) add(c *datapath.Child) {
	h.each(c, func(list []holding, i int) []holding {
		if i < 0 {
			return append(list, holding{c.Peer.ID, 1})
		}
		list[i].children++
		return list
	})
}

func (h *holders) remove(c *datapath.Child) {
	h.each(c, func(list []holding, i int) []holding {
		if i < 0 {
			return list
		}
		if list[i].children--; list[i].children == 0 {
			return slices.Delete(list, i, i+1)
		}
		return list
	})
}

// each changes the lists of the prefixes of c; i is its peer's place in one, or -1.
func (h *holders) each(c *datapath.Child, change func(list []holding, i int) []holding) {
	if h == nil {
		return
	}
	for _, p := range c.Pair.Remote.Prefixes() {
		h.table.Modify(p, func(list []holding, _ bool) ([]holding, bool) {
			list = change(list, slices.IndexFunc(list, func(x holding) bool { return x.peer == c.Peer.ID }))
			return list, len(list) == 0
		})
	}
}

// other is a peer besides this one that holds some address of set, "" if there is none.
func (h *holders) other(set ts.Set, peer string) string {
	if h == nil {
		return ""
	}
	find := func(list []holding) string {
		for _, x := range list {
			if x.peer != peer {
				return x.peer
			}
		}
		return ""
	}
	for _, p := range set.Prefixes() {
		for _, list := range h.table.Supernets(p) {
			if o := find(list); o != "" {
				return o
			}
		}
		for _, list := range h.table.Subnets(p) {
			if o := find(list); o != "" {
				return o
			}
		}
	}
	return ""
}
