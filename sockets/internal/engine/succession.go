package engine

import (
	"iter"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
)

// A succession is an IKE SA that is to take over from another one, which stands until then:
// made before broken. It is what reauthentication is (RFC 7296, Section 2.8.3), and what is
// done about a peer that may have been restarted. Then the new one is made from scratch. Of
// two that are there it gets the children that only the other one has.
type succession struct {
	old *ikeSA
	new *ikeSA // nil until its peer's address is known
	// lost: the peer is suspected to have lost old. Then the new one says INITIAL_CONTACT,
	// and old ends without an exchange.
	lost bool
	over bool // nothing is left to be done
	// refused are those of its child SAs that could not be made.
	refused []*acquire
}

// reauthenticate has an IKE SA followed by one that is authenticated anew. What is under way
// goes on, and what came to nothing is tried again when the machine asks again: all of it, or
// the child SAs that are missing. A responder that does not know where the peer is can only
// hope that the peer does it.
func (k *keyer) reauthenticate(now time.Time, s *ikeSA, o *ike.Reauthenticate) {
	e := s.event(EventIKEReauth)
	e.Err, e.Retry = o.Err, o.Deadline
	x := s.succession
	switch {
	case k.stopping || s.deleted:
		return
	case len(s.conn.Remotes) == 0:
		if e.Reason = "the peer has to do it"; !o.Again {
			k.report(now, e)
		}
		return
	case x == nil:
		x = &succession{old: s}
	case x.lost || !x.made() || k.pending(x):
		return
	}
	s.renews = true
	k.report(now, e)
	k.succeed(now, s, x)
}

// suspect has an IKE SA followed by another that the peer may have lost. Whatever comes of
// it, the old one ends only of its own liveness check, or when the same peer has
// authenticated again. Hints can be forged: an IKE SA and those that follow it do this once
// in suspectGap.
func (k *keyer) suspect(now time.Time, s *ikeSA, o *ike.Suspect) {
	if now.Before(s.trusted) {
		return
	}
	e := s.event(EventPeerSuspect)
	e.Err = o.Err
	k.report(now, e)
	for _, o := range k.rivals(s) {
		if k.heard(o); o.m.LastHeard().After(s.m.LastHeard()) && o.covers(s) {
			k.prefer(s, o) // the peer has that one
			return
		}
	}
	s.trusted = now.Add(suspectGap)
	if !k.stopping && !s.deleted && s.succession == nil && len(s.children) > 0 && len(s.conn.Remotes) > 0 {
		k.succeed(now, s, &succession{old: s, lost: true})
	}
}

// cleared gives up the successor of an IKE SA that the peer knows after all, unless it has
// been authenticated to already: then the peer may have ended the old one because of it.
func (k *keyer) cleared(now time.Time, s *ikeSA) {
	x := s.succession
	if x == nil || !x.lost || x.new != nil && x.new.m.State() >= ike.StateAuthSent {
		return
	}
	for _, a := range k.acquires {
		if a.replaces == x && a.matters() {
			return // somebody has come to count on it
		}
	}
	k.report(now, s.event(EventPeerCleared))
	k.endSuccession(now, x)
	if n := x.new; n != nil {
		n.deleted = true
		n.m.Delete(now)
		k.drain(now, n)
	}
}

// succeed has x.new, or else a new IKE SA with the peer, get children like those of s: all
// that it lacks, or once it was asked for them those that were refused. One without children
// is followed by one without (RFC 6023).
func (k *keyer) succeed(now time.Time, s *ikeSA, x *succession) {
	var as []*acquire
	for _, c := range s.children {
		if cc := k.confs[c.Name]; cc != nil && (x.new == nil || x.new.covering(c) == 0 && x.lacks(cc, c.Pair)) {
			as = append(as, &acquire{ref: k.ref(), conf: cc, pair: c.Pair, replaces: x})
		}
	}
	if len(as) == 0 && len(s.conn.Children) > 0 {
		as = append(as, &acquire{ref: k.ref(), conf: s.conn.Children[0], replaces: x, alone: true})
	}
	if len(as) == 0 {
		return
	}
	for _, a := range as {
		k.acquires[a.ref] = a
	}
	s.succession, x.refused = x, nil
	switch {
	case x.new == nil:
		k.initiate(now, s.conn, s.remote, as)
	case as[0].alone:
		k.done(now, as[0])
	default:
		x.new.succeeding = x
		for _, a := range as {
			k.createChild(now, x.new, a)
		}
	}
}

// made tells whether the new IKE SA is there, if not all of its children.
func (x *succession) made() bool { return x.new != nil && x.new.est != nil }

// lacks tells whether a child SA was not asked for yet, or could not be made.
func (x *succession) lacks(cc *ChildConf, pair ts.Pair) bool {
	return x.refused == nil || slices.ContainsFunc(x.refused, func(a *acquire) bool { return a.conf == cc && a.pair.Equal(pair) })
}

// pending tells whether something of a succession is being made.
func (k *keyer) pending(x *succession) bool {
	for _, a := range k.acquires {
		if a.replaces == x {
			return true
		}
	}
	return false
}

// succeeds notes that s is the new one.
func (s *ikeSA) succeeds(x *succession) {
	if x != nil {
		x.new, s.succeeding, s.trusted = s, x, x.old.trusted
	}
}

// orphaned ends the succession that a closed SA had a part in. What the new one is to make
// for an old one that has died is made nevertheless.
func (k *keyer) orphaned(now time.Time, s *ikeSA) {
	for _, x := range []*succession{s.succession, s.succeeding} {
		if x != nil {
			k.endSuccession(now, x)
		}
	}
}

// revived reports whether a child that was lost with s is being made by its successor. If
// that fails it is tried again.
func (k *keyer) revived(s *ikeSA, cc *ChildConf) (yes bool) {
	for _, a := range k.acquires {
		if a.conf == cc && a.replaces != nil && a.replaces == s.succession {
			a.keep, yes = true, true
		}
	}
	return yes
}

// identified ends a succession to somebody else: it is an IKE SA like any other.
func (k *keyer) identified(now time.Time, s *ikeSA) {
	if x := s.succeeding; x != nil && (x.old.peer == nil || x.old.peer.canonical != s.peer.canonical) {
		k.endSuccession(now, x)
	}
}

// succeeded ends the old SA when the children of the new one are there. If the peer refuses
// some of them, an old SA that it knows goes on, and they are asked for again with the next
// Reauthenticate; one that it has lost is of no use. Where there is no new SA nothing has
// changed.
func (k *keyer) succeeded(now time.Time, x *succession) {
	if x == nil || x.over || k.pending(x) {
		return
	}
	old, heir := x.old, x.new
	if x.made() && len(x.refused) > 0 && !x.lost {
		return
	}
	k.endSuccession(now, x)
	switch {
	case !x.made() || old.deleted || !old.until.IsZero():
	case x.lost && heir.contact:
		k.replace(now, old, "the peer has authenticated again and seems to have lost this one")
	default:
		k.yield(now, old, heir)
	}
}

// endSuccession leaves each SA to itself. Acquires that only repeat the old one's children
// are forgotten while the new one has not begun to make them.
func (k *keyer) endSuccession(now time.Time, x *succession) {
	x.over = true
	if x.old.succession == x {
		x.old.succession = nil
	}
	k.watch(now, x.old)
	if x.new != nil {
		x.new.succeeding = nil
		k.watch(now, x.new)
	}
	for ref, a := range k.acquires {
		if a.replaces != x {
			continue
		}
		a.replaces = nil
		if x.new == nil && !a.matters() {
			delete(k.acquires, ref)
		}
	}
}

// inherit passes on what is known of an IKE SA that was rekeyed.
func (k *keyer) inherit(from, to *ikeSA) {
	to.born, to.deleted, to.yields, from.yields = from.born, from.deleted, from.yields, false
	to.trusted, to.renews = from.trusted, from.renews
	if x := from.succession; x != nil {
		x.old, to.succession, from.succession = to, x, nil
	}
	if x := from.succeeding; x != nil {
		x.new, to.succeeding, from.succeeding = to, x, nil
	}
}

// preferred are the IKE SAs that may do for an acquire, with those that their peers may have
// lost last.
func (k *keyer) preferred(a *acquire) iter.Seq[*ikeSA] {
	return func(yield func(*ikeSA) bool) {
		for _, doubtful := range []bool{false, true} {
			for s := range k.roster.reaching(a.conf.Conn, a.pair.Remote) {
				if (s.succession != nil && s.succession.lost) == doubtful && !yield(s) {
					return
				}
			}
		}
	}
}
