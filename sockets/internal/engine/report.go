package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// report is the one place where this host says what happens to its SAs: a line in the log,
// and an Event for who watches. What strangers cause is told as often as allowances let it
// be; what anonymous peers do is told, but not always above the debug level.
func (k *keyer) report(now time.Time, e Event) {
	k.tell(now, e, e.Unauthenticated && (!e.IKE.Initiator || kinds[e.Kind].cause == ofAnybody))
}

// tell is report; stranger says that whoever can send a datagram can bring the event about.
func (k *keyer) tell(now time.Time, e Event, stranger bool) {
	level := kinds[e.Kind].level
	if stranger || e.Peer.Anonymous {
		ok, suppressed := k.strange[e.Kind].take(now)
		switch {
		case ok && e.Unauthenticated:
			e.Suppressed = suppressed
		case ok:
		case e.Unauthenticated:
			return
		default:
			level = slog.LevelDebug
		}
	}
	e.Time = now
	if k.log.Enabled(context.Background(), level) {
		k.log.Log(context.Background(), level, e.what(), e.attrs()...)
	}
	k.events.publish(&e)
}

// An allowance bounds how often strangers make us report one kind of event: a bucket of
// strangerBurst, and one more every strangerGap. The zero allowance is full.
type allowance struct {
	used       int
	since      time.Time // used went down last
	suppressed uint64
}

// take reports whether one more may be told, and how many were not since the last.
func (a *allowance) take(now time.Time) (ok bool, suppressed uint64) {
	if n := int(now.Sub(a.since) / strangerGap); n >= a.used {
		a.used, a.since = 0, now
	} else if n > 0 {
		a.used, a.since = a.used-n, a.since.Add(time.Duration(n)*strangerGap)
	}
	if a.used >= strangerBurst {
		a.suppressed++
		return false, 0
	}
	a.used++
	suppressed, a.suppressed = a.suppressed, 0
	return true, suppressed
}

// event is an event of this IKE SA with all that is known of it.
func (s *ikeSA) event(kind EventKind) Event {
	spii, spir := s.m.SPIs()
	e := Event{Kind: kind, Connection: s.conn.Name, IKE: EventIKE{
		Num: s.num, Initiator: s.initiator, SPIi: IKESPI(spii), SPIr: IKESPI(spir),
		Local: s.path.Local, Remote: s.path.Remote,
	}}
	if s.est != nil {
		e.IKE.Suite = s.est.Suite.String()
	}
	switch {
	case s.peer != nil:
		e.Peer = EventPeer{Local: s.conn.Local.Canonical, Remote: s.peer.canonical, Method: s.peer.data.Method, Anonymous: s.peer.data.Anonymous}
	case s.initiator:
		e.Peer.Local = s.conn.Local.Canonical
	default: // whose peer it is, is not known: conn is a guess
		e.Connection = ""
	}
	switch kinds[kind].cause {
	case ofPeer:
		e.Unauthenticated = s.peer == nil
	case ofAnybody:
		e.Unauthenticated = true
	case ofUs:
	}
	return e
}

func (s *ikeSA) request(kind EventKind, r *ike.Request) Event {
	e := s.event(kind)
	e.Request = EventRequest{Exchange: r.Exchange.String(), MessageID: r.MessageID, Sends: r.Sends}
	e.IKE.Local, e.IKE.Remote = r.Path.Local, r.Path.Remote
	return e
}

// childEvent is an event of a child SA of this IKE SA.
func (s *ikeSA) childEvent(kind EventKind, c *datapath.Child) Event {
	e := s.event(kind)
	e.Child = EventChild{Name: c.Name, Mode: c.Mode.String(), Suite: c.Suite.String(), SPIIn: tokens.SPI(c.InSPI), SPIOut: tokens.SPI(c.OutSPI())}
	e.Child.selectors(c.Pair)
	return e
}

func (c *EventChild) selectors(p ts.Pair) {
	c.LocalTS, c.RemoteTS = p.Local.String(), p.Remote.String()
}

// failed reports why an IKE SA will not be.
func (k *keyer) failed(now time.Time, s *ikeSA, err error) {
	e := s.event(kindOf(err, false))
	if s.claimed != nil && s.err != nil && s.claimed.Error() == s.err.Error() {
		e.Reason = "given up" // what was only a claim is believed now
	}
	k.blame(now, s, e, nil, err)
}

// childFails reports why a child SA will not be; name is "" where no one child was meant,
// and a nil unless we asked for it.
func (k *keyer) childFails(now time.Time, s *ikeSA, name string, a *acquire, err error) {
	e := s.event(kindOf(err, true))
	e.Child.Name = name
	k.blame(now, s, e, a, err)
}

// blame fills in what an error says, and reports.
func (k *keyer) blame(now time.Time, s *ikeSA, e Event, a *acquire, err error) {
	e.Err = err
	var auth *AuthError
	if errors.As(err, &auth) {
		e.Peer.Claimed, e.Peer.Asked, e.Peer.Method = auth.Claimed, auth.Asked, auth.Method
	}
	var in *AdmissionError
	if errors.As(err, &in) {
		e.Connection, e.Peer.Remote, e.Peer.Anonymous, e.Unauthenticated = in.Conn, in.Peer, in.Anonymous, false
	}
	var no *ike.NotifyError
	e.Protected = e.Unauthenticated && errors.As(err, &no) && no.Remote && no.Verified
	e.Offers = k.offers(s, &e, a, err)
	k.report(now, e)
}

// offers is what both sides wanted, as far as we know it.
func (k *keyer) offers(s *ikeSA, e *Event, a *acquire, err error) Offers {
	var mis *suite.Mismatch
	if errors.As(err, &mis) {
		peer, ours := mis.Lists()
		return Offers{Peer: peer, Ours: ours, First: mis.First()}
	}
	var sel *SelectorError
	if errors.As(err, &sel) {
		return sel.offers()
	}
	var mode *ModeError
	if errors.As(err, &mode) {
		return mode.offers()
	}
	// The peer says only that nothing fits.
	var no *ike.NotifyError
	if !errors.As(err, &no) || !no.Remote {
		return Offers{}
	}
	if e.Kind == EventProposalMismatchIKE {
		return Offers{Ours: proposals(s.conn.IKE)}
	}
	cc := k.confs[e.Child.Name]
	if cc == nil || e.Kind != EventProposalMismatchChild && e.Kind != EventTSMismatch {
		return Offers{}
	}
	esp, pair := cc.ESP, cc.Pair
	if a != nil { // a socket may demand one suite, a packet its own selectors
		esp, pair = a.proposals(), a.pair
	}
	if e.Kind == EventTSMismatch {
		return Offers{Ours: []string{pair.String()}}
	}
	return Offers{Ours: proposals(esp)}
}

func proposals(ps []wire.Proposal) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = suite.String(p)
	}
	return out
}

// kindOf is the alert that an error is.
func kindOf(err error, child bool) EventKind {
	var silent *ike.TimeoutError
	if errors.As(err, &silent) { // first: it wraps what an unauthenticated refusal said
		switch {
		case silent.Waited:
			return EventHalfOpenTimeout
		case silent.Exchange == wire.ExchangeIKESAInit:
			return EventPeerInitUnreachable
		}
		return EventRetransmitSendTimeout
	}
	var own *signError
	var room *RoomError
	var kept *UniqueError
	var taken *TakenError
	var mis *suite.Mismatch
	var answer *suite.AnswerError
	var sel *SelectorError
	var wide *ike.MismatchError
	var no *ike.NotifyError
	var parse *wire.ParseError
	mismatch := EventProposalMismatchIKE
	if child {
		mismatch = EventProposalMismatchChild
	}
	switch {
	case errors.As(err, &own):
		return EventLocalAuthFailed
	case errors.As(err, &room):
		return EventAuthorizationFailed
	case errors.As(err, &kept):
		return EventUniqueKeep
	case errors.As(err, &taken):
		return EventAnonymousConflict
	case errors.As(err, &mis), errors.As(err, &answer):
		return mismatch
	case errors.As(err, &sel), errors.As(err, &wide) && wide.What == ike.WhatSelectors:
		return EventTSMismatch
	case errors.As(err, &no):
		switch no.Type {
		case wire.NotifyAuthenticationFailed:
			if no.Remote {
				return EventLocalAuthFailed
			}
			return EventPeerAuthFailed
		case wire.NotifyNoProposalChosen, wire.NotifyInvalidKEPayload:
			return mismatch
		case wire.NotifyTSUnacceptable, wire.NotifySinglePairRequired:
			return EventTSMismatch
		case wire.NotifyInvalidIKESPI:
			return EventInvalidIKESPI
		case wire.NotifyInvalidSyntax, wire.NotifyUnsupportedCriticalPayload:
			return EventParseErrorBody
		case wire.NotifyInvalidMajorVersion:
			return EventParseErrorHeader
		default:
		}
	case errors.As(err, &parse):
		return EventParseErrorBody
	}
	if child {
		return EventInstallChildSAFailed
	}
	return EventIKEFailed
}

// stray reports a datagram of no IKE SA that the gate did not let in.
func (k *keyer) stray(now time.Time, s *stray) {
	k.strange[s.kind].suppressed += s.more
	k.report(now, Event{Kind: s.kind, Unauthenticated: true, IKE: EventIKE{Local: s.path.Local, Remote: s.path.Remote}, Reason: s.reason.String()})
}

// malformed reports a datagram that claimed to be of s and was not what the peer could have
// sent. It changed nothing.
func (k *keyer) malformed(now time.Time, s *ikeSA, path ike.Path, kind EventKind, d ike.Drop) {
	e := s.event(kind)
	e.IKE.Local, e.IKE.Remote = path.Local, path.Remote
	e.Unauthenticated, e.Reason = true, d.String()
	k.tell(now, e, true)
}

// malformedKind is what a datagram that an IKE SA dropped is told of as, EventUnknown if it
// is not: the network may repeat, delay and reorder what is well formed.
func malformedKind(d ike.Drop) EventKind {
	switch d {
	case ike.DropShort, ike.DropVersion, ike.DropLength:
		return EventParseErrorHeader
	case ike.DropSyntax, ike.DropClear, ike.DropICV:
		return EventParseErrorBody
	default:
		return EventUnknown
	}
}

// strayKind is what a datagram that the gate did not let in is told of as, EventUnknown if
// it is not: load is no mistake of anybody's, and Status counts it.
func strayKind(r gate.Reason) EventKind {
	switch r {
	case gate.ReasonShort, gate.ReasonLength, gate.ReasonOldVersion, gate.ReasonInvalidVersion, gate.ReasonZeroSPI,
		gate.ReasonExchange, gate.ReasonInitSPI, gate.ReasonInitMessageID:
		return EventParseErrorHeader
	case gate.ReasonInitSize, gate.ReasonChain, gate.ReasonPayloads, gate.ReasonNonce, gate.ReasonClear:
		return EventParseErrorBody
	case gate.ReasonInvalidIKESPI:
		return EventInvalidIKESPI
	default:
		return EventUnknown
	}
}

// alerts tells of latches that broke, and then their holders.
func (k *keyer) alerts(now time.Time, as latch.Alerts) {
	for _, a := range as {
		if a.State != latch.StateBroken {
			continue
		}
		e := Event{Kind: EventLatchBroken, Flow: a.Flow.String(), Reason: a.Reasons.String()}
		if a.Detail != "" {
			e.Reason += ": " + a.Detail
		}
		if p := a.Latch.Params(); p != nil {
			e.Peer.Remote, e.Peer.Local = p.Peer, p.Local
		}
		k.report(now, e)
	}
	as.Deliver()
}

func orNothing(s string) string {
	if strings.TrimSpace(s) == "" {
		return "nothing"
	}
	return s
}
