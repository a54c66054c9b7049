package engine

import (
	"iter"

	"github.com/btns-go/btns/esp/ts"
)

// A roster finds IKE SAs by whose they are, in the order in which they came. Entering one,
// and striking one out, cost the same among 100,000 as among two.
type roster map[group]*chain

// A group is what the SAs of a chain have in common.
type group struct {
	kind int
	conn *Conn
	id   string // byPeer: canonical
	own  addr   // byOwn: all that the peer may own; zero: more than one address, or not known yet
}

// Every SA is in one chain of each kind at most.
const (
	byConn = iota // a connection's
	byPeer        // a peer's that has proven who it is
	byOwn         // an anonymous connection's, of which there may be many, by what their peers may own
	chainKinds
)

// A chain is the SAs of one group.
type chain struct {
	group       group
	first, last *ikeSA
}

// link is an SA's place in a chain.
type link struct {
	in         *chain
	prev, next *ikeSA
}

// enter puts s under its connection, and under its peer once that is known.
func (r roster) enter(s *ikeSA) {
	r.strike(s)
	r.push(group{kind: byConn, conn: s.conn}, s)
	g := group{kind: byOwn, conn: s.conn}
	if s.peer != nil {
		r.push(s.peer.group(), s)
		g.own = s.peer.sole
	}
	if s.conn.anonymous() && (s.peer != nil || s.initiator) {
		r.push(g, s)
	}
}

func (r roster) push(g group, s *ikeSA) {
	c := r[g]
	if c == nil {
		c = &chain{group: g}
		r[g] = c
	}
	s.links[g.kind] = link{in: c, prev: c.last}
	if c.last == nil {
		c.first = s
	} else {
		c.last.links[g.kind].next = s
	}
	c.last = s
}

// strike takes s out, wherever it is.
func (r roster) strike(s *ikeSA) {
	for kind, l := range s.links {
		if l.in == nil {
			continue
		}
		if l.prev == nil {
			l.in.first = l.next
		} else {
			l.prev.links[kind].next = l.next
		}
		if l.next == nil {
			l.in.last = l.prev
		} else {
			l.next.links[kind].prev = l.prev
		}
		if l.in.first == nil {
			delete(r, l.in.group)
		}
		s.links[kind] = link{}
	}
}

// ofConn are the IKE SAs of a connection, and of a responder not yet known to be another's.
func (r roster) ofConn(c *Conn) iter.Seq[*ikeSA] { return r[group{conn: c}].all() }

// reaching are those of a connection whose peers may own part of set; it yields few others.
func (r roster) reaching(c *Conn, set ts.Set) iter.Seq[*ikeSA] {
	to := soleAddr(set)
	if !c.anonymous() || !to.IsValid() {
		return r.ofConn(c)
	}
	return func(yield func(*ikeSA) bool) {
		for _, own := range [...]addr{to, {}} {
			for s := range r[group{kind: byOwn, conn: c, own: own}].all() {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// ofPeer are the IKE SAs with a peer.
func (r roster) ofPeer(p *peer) iter.Seq[*ikeSA] { return r[p.group()].all() }

func (p *peer) group() group { return group{kind: byPeer, conn: p.conn, id: p.canonical} }

// all yields the SAs of a chain, which may be nil. The one yielded last may be struck out.
func (c *chain) all() iter.Seq[*ikeSA] {
	return func(yield func(*ikeSA) bool) {
		if c == nil {
			return
		}
		for s := c.first; s != nil; {
			next := s.links[c.group.kind].next
			if !yield(s) {
				return
			}
			s = next
		}
	}
}
