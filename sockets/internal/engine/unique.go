package engine

import (
	"fmt"
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
// in the place of nonces: the SA that has the lowest of the four goes, and the end that
// initiated it deletes it, once the other SA is seen to work and to do all that it did. Two
// hosts with this rule end with one SA. One whose peer has no such rule would wait for
// ever; after twinInsists it gives in and deletes its own.

// A birth is what an IKE SA keeps of its beginning through all rekeying, so that both ends
// speak of the same SA.
type birth struct {
	at        time.Time // established
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
	if s.watched || s.peer == nil || len(k.rivals(s)) == 0 {
		return
	}
	s.watched = true
	k.later(now.Add(twinLook), func(now time.Time) {
		s.watched = false
		k.look(now, s)
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
			switch k.yieldsTo(now, p[0], p[1]) {
			case yieldsNow:
				k.yield(now, p[0], p[1])
				return
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
	yieldsNever yields = iota
	yieldsLater
	yieldsNow
)

// yieldsTo says whether a is to go because of b.
func (k *keyer) yieldsTo(now time.Time, a, b *ikeSA) yields {
	if a.succession != nil || a.succeeding != nil || b.succession != nil || b.succeeding != nil {
		return yieldsNever // a succession has its own end
	}
	rule := a.peer.conn.Unique
	since := a.born.at
	if b.born.at.After(since) {
		since = b.born.at
	}
	age := now.Sub(since)
	twins := a.born.initiator != b.born.initiator
	if rule == UniqueReplace && !(twins && a.born.at.Sub(b.born.at).Abs() < twinWindow) {
		if !a.born.at.Before(b.born.at) {
			return yieldsNever
		}
		if age > twinGivesUp {
			return yieldsNow
		}
	} else {
		switch {
		case rule == UniqueNever, !twins, !a.born.initiator, age > twinGivesUp:
			return yieldsNever
		case b.lowest() < a.lowest() && age < twinInsists:
			return yieldsLater // b is the peer's to delete
		}
	}
	if len(a.waiting) > 0 || !b.covers(a) {
		return yieldsLater
	}
	// b may be what the peer has given up because of a: it must have been heard of since.
	if k.heard(b); !b.m.LastHeard().After(since) {
		b.m.CheckLiveness(now)
		k.drain(now, b)
		return yieldsLater
	}
	return yieldsNow
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

// yield ends an SA that another one replaces. First we send under the other's child SAs,
// then ours go one by one: each still takes what the peer sends until the peer says that it
// has stopped (RFC 7296, Section 1.4.1). Nothing is lost.
func (k *keyer) yield(now time.Time, s, to *ikeSA) {
	e := s.event(EventUniqueReplace)
	e.Reason = "another one with the peer does the same: " + to.spis()
	k.report(now, e)
	s.deleted, s.yields = true, true
	k.redirect(s)
	var spis []uint32
	for spi, c := range s.children {
		spis = append(spis, spi)
		if d := to.covering(c); d != 0 {
			k.dp.Prefer(d)
		}
	}
	for _, spi := range spis {
		s.m.DeleteChild(now, spi)
	}
	k.drain(now, s)
	if len(spis) == 0 {
		k.end(now, s)
	}
}

// end deletes an SA without child SAs.
func (k *keyer) end(now time.Time, s *ikeSA) {
	if s.until.IsZero() && k.byMachine[s.m] == s {
		s.m.Delete(now)
		k.drain(now, s)
	}
}

// spis are the SPIs of an established SA, for log lines.
func (s *ikeSA) spis() string { return fmt.Sprintf("%016x-%016x", s.est.SPIi, s.est.SPIr) }
