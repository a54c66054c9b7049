package engine

import "iter"

// A roster finds IKE SAs by whose they are, in the order in which they came. Entering one,
// and striking one out, cost the same among 100,000 as among two.
type roster map[group]*chain

// A group is what the SAs of a chain have in common: a connection or, with an identity, a
// peer of it that has proven who it is.
type group struct {
	conn *Conn
	id   string // canonical
}

// Every SA is in one chain of each kind at most.
const (
	byConn = iota
	byPeer
	chainKinds
)

func (g group) kind() int {
	if g.id == "" {
		return byConn
	}
	return byPeer
}

// A chain is the SAs of one group.
type chain struct {
	group       group
	kind        int
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
	r.push(group{conn: s.conn}, s)
	if s.peer != nil {
		r.push(s.peer.group(), s)
	}
}

func (r roster) push(g group, s *ikeSA) {
	c := r[g]
	if c == nil {
		c = &chain{group: g, kind: g.kind()}
		r[g] = c
	}
	s.links[c.kind] = link{in: c, prev: c.last}
	if c.last == nil {
		c.first = s
	} else {
		c.last.links[c.kind].next = s
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

// ofPeer are the IKE SAs with a peer.
func (r roster) ofPeer(p *peer) iter.Seq[*ikeSA] { return r[p.group()].all() }

func (p *peer) group() group { return group{conn: p.conn, id: p.canonical} }

// all yields the SAs of a chain, which may be nil. The one yielded last may be struck out.
func (c *chain) all() iter.Seq[*ikeSA] {
	return func(yield func(*ikeSA) bool) {
		if c == nil {
			return
		}
		for s := c.first; s != nil; {
			next := s.links[c.kind].next
			if !yield(s) {
				return
			}
			s = next
		}
	}
}
