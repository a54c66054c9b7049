package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// This file is about several IKE SAs with one peer: those that the peer has lost, those
// that the configuration does not want, and those that come of both ends initiating at
// once.
//
// RFC 7296 has no rule for the last. Ours is that of Section 2.8.1 for rekeying, with SPIs
// in the place of nonces: the SA that has the lowest of the four goes. The end that
// initiated it ends it, once the other SA is seen to work and to do all that it did. The
// peer may have no such rule, or no chance to follow it: after twinInsists the other end
// does so in its place. What was lost may make either late, but none of them ever ends the
// SA that stays.

// A birth is what an IKE SA keeps of its beginning through all rekeying, so that both ends
// speak of the same SA.
type birth struct {
	made, at  time.Time // begun, and established
	initiator bool      // we initiated it
	spis      [2]uint64
}

// unique does what a new SA means for older ones with the same peer.
func (k *keyer) unique(now time.Time, s *ikeSA, contact bool) {
	if s.peer.data.Anonymous || !contact || s.peer.conn.Unique == UniqueNever {
		return // RFC 7619, Section 2.5 and I1: somebody nobody vouched for replaces nobody
	}
	for _, other := range k.rivals(s) {
		// INITIAL_CONTACT is about SAs from before the peer began this one: it can't have
		// forgotten one that was set up with it since.
		if other.born.at.Before(s.made) {
			k.replace(now, other, "the peer made a new one and says that it has no other")
		}
	}
}

// replace ends an SA that its peer has lost: INITIAL_CONTACT says so, or that it has
// authenticated for another one. What waits for it asks the peer again.
func (k *keyer) replace(now time.Time, s *ikeSA, why string) {
	e := s.event(EventUniqueReplace)
	e.Reason = why
	k.report(now, e)
	k.redirect(s)
	s.m.Replaced(now)
	k.drain(now, s)
}

// redirect puts what waits for s to another SA.
func (k *keyer) redirect(s *ikeSA) {
	for _, a := range k.takeOver(s) {
		k.mail.post(func(now time.Time) { k.request(now, a) })
	}
}

// mayCome says whether the peer of a responder may have one more SA.
func (k *keyer) mayCome(s *ikeSA, p *peer) error {
	if s.initiator || p.conn.Unique != UniqueKeep || p.conn.anonymous() || p.contact {
		return nil
	}
	for other := range k.roster.ofPeer(p) {
		// From where it is already it authenticates again.
		if other != s && other.rivals(p) && other.path.Remote != p.path.Remote {
			return &UniqueError{other.path.Remote}
		}
	}
	return nil
}

// others tells whether we have an SA with the peer that s initiates to, as far as that can
// be known before it is authenticated.
func (k *keyer) others(s *ikeSA) bool {
	for o := range k.roster.ofConn(s.conn) {
		if o != s && o.est != nil && !o.deleted && (o.succession == nil || !o.succession.lost) {
			return true
		}
	}
	return false
}

// rivals are the other SAs with the same peer.
func (k *keyer) rivals(s *ikeSA) []*ikeSA {
	var out []*ikeSA
	for other := range k.roster.ofPeer(s.peer) {
		if other != s && other.rivals(s.peer) {
			out = append(out, other)
		}
	}
	return out
}

// rivals tells whether s stands, with the peer p.
func (s *ikeSA) rivals(p *peer) bool {
	return s.est != nil && s.peer != nil && s.peer.canonical == p.canonical && !s.deleted && s.until.IsZero() && !s.next && !s.rekeyed
}

// watch has s compared with others of its peer a little later, when what was begun at the
// same time is done.
func (k *keyer) watch(now time.Time, s *ikeSA) {
	if !s.looks.IsZero() || s.peer == nil || len(k.rivals(s)) == 0 {
		return
	}
	at := now.Add(twinLook)
	s.looks = at
	k.later(at, func(now time.Time) {
		if s.looks.Equal(at) {
			s.looks = time.Time{}
			k.look(now, s)
		}
	})
}

// look lets s or another SA of its peer go, if one of them is too many.
func (k *keyer) look(now time.Time, s *ikeSA) {
	if s.peer == nil || !s.rivals(s.peer) || k.byMachine[s.m] != s {
		return
	}
	undecided := false
	for _, other := range k.rivals(s) {
		for _, p := range [...][2]*ikeSA{{s, other}, {other, s}} {
			switch a, b := p[0], p[1]; k.yieldsTo(now, a, b) {
			case yieldsNow:
				k.yield(now, a, b)
				k.watch(now, b)
				return
			case yieldsChildren:
				k.succeed(now, a, &succession{old: a, new: b})
				return // to be looked at when that is over
			case yieldsLater:
				undecided = true
			case yieldsNever:
			}
		}
	}
	if undecided {
		k.watch(now, s)
	}
}

type yields uint8

const (
	yieldsNever    yields = iota
	yieldsLater           // the peer is to do it, or something is under way
	yieldsChildren        // the other one is to have its children first
	yieldsNow
)

// yieldsTo says whether a is to go because of b.
func (k *keyer) yieldsTo(now time.Time, a, b *ikeSA) yields {
	if a.succession != nil || a.succeeding != nil || b.succession != nil || b.succeeding != nil {
		return yieldsNever // a succession has its own end
	}
	rule, both := a.peer.conn.Unique, twins(a, b)
	patience := time.Duration(0)
	switch {
	case rule == UniqueNever:
		return yieldsNever
	case both:
		if a.lowest() >= b.lowest() {
			return yieldsNever
		}
		if !a.born.initiator {
			patience = twinInsists
		}
	case a.born.initiator && b.born.initiator, rule == UniqueReplace:
		// Who initiates twice knows of the first. Of two that the peer initiated only our
		// configuration tells that they aren't of two hosts with one name.
		if !a.born.made.Before(b.born.made) {
			return yieldsNever
		}
	default:
		return yieldsNever
	}
	since, covered := a.born.at, b.covers(a)
	if b.born.at.After(since) {
		since = b.born.at
	}
	since = since.Add(patience)
	if now.Before(since) || len(a.waiting) > 0 || !covered && now.Sub(since) < twinInsists {
		return yieldsLater
	}
	// Whether the peer has b as well, and still has it, is known when it was heard of since.
	if k.heard(b); !b.m.LastHeard().After(since) {
		b.m.CheckLiveness(now)
		k.drain(now, b)
		return yieldsLater
	}
	if !covered && (both || rule != UniqueReplace) {
		return yieldsChildren
	}
	return yieldsNow
}

// twins tells whether a and b come of both ends initiating at once: of one each, neither was
// begun so long after the other was up that its initiator must have known.
func twins(a, b *ikeSA) bool {
	return a.born.initiator != b.born.initiator &&
		a.born.made.Sub(b.born.at) < twinWindow && b.born.made.Sub(a.born.at) < twinWindow
}

func (s *ikeSA) lowest() uint64 { return min(s.born.spis[0], s.born.spis[1]) }

// covers tells whether s has a child SA that can take over from each of o's.
func (s *ikeSA) covers(o *ikeSA) bool {
	for _, c := range o.children {
		if s.covering(c) == 0 {
			return false
		}
	}
	return true
}

// covering is our SPI of the child SA of s that can take over from c; 0: none.
func (s *ikeSA) covering(c *datapath.Child) uint32 {
	for spi, d := range s.children {
		if d.Name == c.Name && d.OutSPI() != 0 && d.Pair.Covers(c.Pair) && latch.Congruent(c.Params, d.Params, []string{d.Params.Suite}) {
			return spi
		}
	}
	return 0
}

// spare tells whether c, which the peer has asked for, has a twin that we have just asked for:
// what we send goes on under that until the peer sends under c, for before it may not be
// ready to receive.
func (k *keyer) spare(s *ikeSA, c *datapath.Child) bool {
	return slices.ContainsFunc(k.rivals(s), func(o *ikeSA) bool {
		return o.born.initiator && s.made.Sub(o.made).Abs() < twinInsists && o.covering(c) != 0
	})
}

// yield ends an SA that another one replaces. First we send under the other's child SAs;
// when what is on its way has come to the peer, ours go one by one: each still takes what the
// peer sends until the peer says that it has stopped (RFC 7296, Section 1.4.1). Nothing is lost.
func (k *keyer) yield(now time.Time, s, to *ikeSA) {
	e := s.event(EventUniqueReplace)
	e.Reason = "another one with the peer does the same: " + to.spis()
	k.report(now, e)
	s.deleted, s.yields = true, true
	k.redirect(s)
	k.prefer(s, to)
	k.later(now.Add(yieldPause), func(now time.Time) { k.leave(now, s) })
}

// leave deletes what is left of an SA that yields.
func (k *keyer) leave(now time.Time, s *ikeSA) {
	if !s.yields || !s.until.IsZero() || k.byMachine[s.m] != s {
		return // rekeyed or gone meanwhile
	}
	for _, spi := range slices.Collect(maps.Keys(s.children)) {
		s.m.DeleteChild(now, spi)
	}
	k.drain(now, s)
	k.bare(s)
}

// prefer has us send under the child SAs of another one in the place of those of s.
func (k *keyer) prefer(s, to *ikeSA) {
	for _, c := range s.children {
		if d := to.covering(c); d != 0 {
			k.dp.Prefer(d)
		}
	}
}

// bare deletes an SA that yields, once it has no child SAs: a little later, for its machine
// may be at work.
func (k *keyer) bare(s *ikeSA) {
	if !s.yields || len(s.children) > 0 {
		return
	}
	k.mail.post(func(now time.Time) {
		if s.until.IsZero() && k.byMachine[s.m] == s {
			s.m.Delete(now)
			k.drain(now, s)
		}
	})
}

// spis are the SPIs of an established SA, for log lines.
func (s *ikeSA) spis() string { return fmt.Sprintf("%016x-%016x", s.est.SPIi, s.est.SPIr) }
