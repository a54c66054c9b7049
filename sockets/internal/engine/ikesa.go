package engine

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun"
)

// An ikeSA is one machine and what belongs to it. Only the keyer's goroutine touches it.
type ikeSA struct {
	// Constant.
	m         *ike.Machine
	key       gate.Key
	num       uint64 // as people count them
	made      time.Time
	initiator bool
	conn      *Conn // a responder's first guess until peer is set
	remote    int   // initiator: index into conn.Remotes

	peer     *peer
	est      *ike.Established
	born     birth
	up       time.Time
	path     ike.Path
	children map[uint32]*datapath.Child // by our SPI
	shared   []*latch.Params

	waiting  []uint64 // acquires that this SA is to answer, by ref
	deleted  bool     // we asked for its end
	contact  bool     // it says INITIAL_CONTACT
	stranger bool     // counts as one of keyer.strangers
	yields   bool     // to another one with the same peer: ends when its children have
	next     bool     // made by rekeying another, which still has the children
	rekeyed  bool     // another has taken its place
	err      error    // Failed
	claimed  error    // Unverified

	succession *succession // to another SA that is being made
	succeeding *succession // of which this one is the new SA
	looks      time.Time   // when it is compared with its like; zero: not soon
	trusted    time.Time   // until then nothing is done about a suspicion
	renews     bool        // its peer is to be authenticated anew

	until    time.Time // closed, kept to repeat its last answer until then
	tries    attempt
	links    [chainKinds]link // in keyer.roster
	timer    int              // index in timers, -1 if none
	deadline time.Time
}

// An attempt is one request and how often it was sent.
type attempt struct {
	exchange wire.ExchangeType
	id       uint32
	to       string
	sends    int
	since    time.Time
}

// describe says what was tried, for the message of a deadline that passed.
func (a *attempt) describe(now time.Time) string {
	return fmt.Sprintf("no answer to %s from %s: sent %d times in %s", a.exchange, a.to, a.sends, now.Sub(a.since).Round(100*time.Millisecond))
}

// name is the peer for log lines.
func (s *ikeSA) name() string {
	if s.peer != nil {
		return s.peer.conn.Name + " " + s.peer.canonical
	}
	if !s.initiator { // conn is a guess
		return "unknown " + s.path.Remote.String()
	}
	return s.conn.Name + " " + s.path.Remote.String()
}

// ended tells whether the machine is done, but for repeating its last answer.
func (s *ikeSA) ended() bool {
	return s.m.State() == ike.StateClosed || s.m.State() == ike.StateLinger
}

// intern makes children of one SA with equal parameters share them, so that a latch
// compares pointers.
func (s *ikeSA) intern(p *latch.Params) *latch.Params {
	for _, q := range s.shared {
		if *q == *p {
			return q
		}
	}
	s.shared = append(s.shared, p)
	return p
}

// drain carries out what the machine wants, in its order, and sets its timer.
func (k *keyer) drain(now time.Time, s *ikeSA) {
	for {
		o, ok := s.m.Next()
		if !ok {
			break
		}
		k.carryOut(now, s, o)
	}
	switch _, known := k.sas[s.key]; {
	case !known:
	case !s.until.IsZero():
		k.timers.set(s, s.until)
	default:
		k.timers.set(s, s.m.Deadline())
	}
}

func (k *keyer) carryOut(now time.Time, s *ikeSA, o ike.Output) {
	switch o := o.(type) {
	case *ike.Send:
		k.send(now, s, o)
	case *ike.Keepalive:
		k.dispatch(o.Path, tun.KindESP, []byte{tun.Keepalive}) // ESP, for it has no marker
	case *ike.WorkKE:
		k.keyExchange(s, o)
	case *ike.WorkSign:
		k.sign(now, s, o)
	case *ike.WorkVerify:
		k.verify(now, s, o)
	case *ike.WorkDecide:
		k.decide(now, s, o)
	case *ike.WorkRekey:
		k.rekeyChild(now, s, o)
	case *ike.Established:
		k.established(now, s, o)
	case *ike.ChildInbound:
		k.installInbound(now, s, o)
	case *ike.ChildOutbound:
		k.installOutbound(now, s, o)
	case *ike.ChildRemoved:
		k.removeChild(now, s, o.InSPI, o.Reason)
		k.revive(now, s, o)
	case *ike.SPIReleased:
		k.dp.ReleaseSPI(o.SPI)
	case *ike.ChildFailed:
		k.childFailed(now, s, o)
	case *ike.Rekeying:
		k.rekeying(now, s, o.New)
	case *ike.Rekeyed:
		k.rekeyed(now, s, o)
	case *ike.Wake:
		k.wake(now, o.Machine)
	case *ike.Reauthenticate:
		k.reauthenticate(now, s, o)
	case *ike.Suspect:
		k.suspect(now, s, o)
	case *ike.Cleared:
		k.cleared(now, s)
	case *ike.RekeyFailed:
		k.rekeyFailed(now, s, o)
	case *ike.PathChanged:
		old := s.path.Remote
		k.follow(s, o.Path)
		e := s.event(EventIKEUpdate)
		e.IKE.OldRemote = old
		k.report(now, e)
	case *ike.Unverified:
		s.claimed = o.Err
		k.failed(now, s, o.Err)
	case *ike.Resent:
		k.report(now, s.request(EventRetransmitSend, &o.Request))
	case *ike.Answered:
		k.report(now, s.request(EventRetransmitSendCleared, &o.Request))
	case *ike.Refused:
		k.failed(now, s, o.Err)
	case *ike.Repeated:
		k.report(now, s.request(EventRetransmitReceive, &o.Request))
	case *ike.KeyLog:
		if k.cfg.KeyLog != nil {
			if err := writeKeyLog(k.cfg.KeyLog, o); err != nil {
				k.log.Error("key log", "error", err)
			}
		}
	case *ike.Failed:
		s.err = o.Err
		if !retries(o.Err) {
			k.failed(now, s, o.Err)
		}
		for _, ref := range s.waiting {
			k.failAcquire(now, ref, o.Err)
		}
		s.waiting = nil
	case *ike.Closed:
		k.closed(now, s, o)
	}
}

func (k *keyer) send(now time.Time, s *ikeSA, o *ike.Send) {
	if h, err := wire.ParseHeader(o.Data); err == nil && s.initiator && h.Flags&wire.FlagResponse == 0 {
		if s.tries.sends == 0 || s.tries.exchange != h.Exchange || s.tries.id != h.MessageID {
			s.tries = attempt{exchange: h.Exchange, id: h.MessageID, to: o.Path.Remote.String(), since: now}
		}
		s.tries.sends++
		if s.est == nil && s.tries.sends > maxSilentSends && s.remote+1 < len(s.conn.Remotes) && !s.deleted {
			k.giveUp(now, s)
			return
		}
	}
	k.transmit(o.Path, o.Data)
}

// transmit sends one IKE datagram. A failure is a lost datagram: the machine repeats it.
func (k *keyer) transmit(path ike.Path, b []byte) { k.dispatch(path, tun.KindIKE, b) }

func (k *keyer) dispatch(path ike.Path, kind tun.Kind, b []byte) {
	buf := k.scratch[:tun.Headroom+len(b)]
	copy(buf[tun.Headroom:], b)
	err := k.dp.SendIKE([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(b), Path: tun.Path(path), Kind: kind}})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		k.log.Debug("IKE datagram not sent", "path", path.String(), "error", err)
	}
}

func (k *keyer) established(now time.Time, s *ikeSA, o *ike.Established) {
	s.est, s.up, s.path = o, now, o.Path
	s.tries = attempt{}
	k.door.establish(now, s.key)
	e := s.event(EventIKEUpDown)
	e.Up = true
	k.report(now, e)
	k.identified(now, s)
	s.born = birth{initiator: s.initiator, spis: [2]uint64{o.SPIi, o.SPIr}, made: s.made, at: now}
	for _, ref := range slices.Clone(s.waiting) {
		switch a := k.acquires[ref]; {
		case a == nil:
		case a.alone:
			s.settle(ref)
			k.done(now, a)
		case !s.initiator && a.id != 0: // see brings
			s.settle(ref)
			k.again(a)
		}
	}
	k.unique(now, s, o.InitialContact)
	k.watch(now, s)
}

func (k *keyer) removeChild(now time.Time, s *ikeSA, inSPI uint32, why ike.Reason) {
	c := s.children[inSPI]
	if c == nil {
		return
	}
	delete(s.children, inSPI)
	delete(k.byChild, inSPI)
	if k.byOut[c.OutSPI()] == inSPI {
		delete(k.byOut, c.OutSPI())
	}
	k.holders.remove(c)
	k.occupy(c, -1)
	if why == ike.ReasonReplaced {
		k.dp.Retire(inSPI)
	} else {
		k.dp.Remove(inSPI)
	}
	k.bare(s)
	if c.OutSPI() == 0 || why == ike.ReasonReplaced && s.m.State() == ike.StateEstablished {
		return // it was never up, or EventChildRekey told
	}
	e := s.childEvent(EventChildUpDown, c)
	e.Reason = why.String()
	k.report(now, e)
}

// revive does what the configuration says about a child SA that is gone (swanctl.conf's
// dpd_action and close_action). The policy of one that packets bring up is always there. What
// is to be up from the start stays so if nobody ended it but its time, which is what the peer
// says as well of an authentication that was not done anew (RFC 4478, Section 2).
func (k *keyer) revive(now time.Time, s *ikeSA, o *ike.ChildRemoved) {
	cc := k.confs[o.Name]
	if cc == nil {
		return
	}
	action := o.Action
	if cc.StartNow && (o.Reason == ike.ReasonExpired || o.Reason == ike.ReasonPeerDeleted && s.renews) {
		action = ike.ActionStart
	}
	switch {
	case action == ike.ActionTrap && cc.Passive:
		k.trapped[cc] = true
	case action == ike.ActionStart && len(cc.Conn.Remotes) > 0 && !k.revived(s, cc):
		k.want(cc, now) // later: the IKE SA may be on its way out as well
	}
}

func (k *keyer) childFailed(now time.Time, s *ikeSA, o *ike.ChildFailed) {
	if s.m.State() == ike.StateEstablished && !errors.Is(o.Err, ike.ErrClosed) { // else the IKE SA's end tells, or it was given up
		k.childFails(now, s, o.Name, k.acquires[o.Ref], o.Err)
		if first(o.Err) {
			k.kept(now, s, o.Name)
		}
	}
	s.settle(o.Ref)
	if a := k.acquires[o.Ref]; a != nil {
		a.behind = slices.DeleteFunc(a.behind, func(b *acquire) bool {
			if b.pair.Equal(a.pair) {
				return false // the answer would be the same
			}
			k.again(b)
			return true
		})
	}
	k.failAcquire(now, o.Ref, o.Err)
}

// retries tells whether an initiator was only told which group to use: it comes again
// (RFC 7296, Section 1.2).
func retries(err error) bool {
	var no *ike.NotifyError
	return errors.As(err, &no) && !no.Remote && no.Type == wire.NotifyInvalidKEPayload
}

// first tells whether a child SA was refused that IKE_AUTH had asked for.
func first(err error) bool {
	var no *ike.NotifyError
	var mis *ike.MismatchError
	return errors.As(err, &no) && no.Exchange == wire.ExchangeIKEAuth || errors.As(err, &mis) && mis.Exchange == wire.ExchangeIKEAuth
}

// kept reports an IKE SA that stands without the child SA it was made for (RFC 7296,
// Section 1.2).
func (k *keyer) kept(now time.Time, s *ikeSA, child string) {
	e := s.event(EventKeepOnChildSAFailure)
	e.Child.Name = child
	k.report(now, e)
}

func (k *keyer) rekeyFailed(now time.Time, s *ikeSA, o *ike.RekeyFailed) {
	e := s.event(kindOf(o.Err, true))
	if c := s.children[o.InSPI]; c != nil {
		e = s.childEvent(e.Kind, c)
	}
	e.Child.Name, e.Reason, e.Retry = o.Name, "not rekeyed", o.Next
	k.blame(now, s, e, nil, o.Err)
}

// settle ends the wait for an acquire that is answered.
func (s *ikeSA) settle(ref uint64) {
	s.waiting = slices.DeleteFunc(s.waiting, func(r uint64) bool { return r == ref })
}

func (k *keyer) closed(now time.Time, s *ikeSA, o *ike.Closed) {
	for spi := range s.children {
		k.removeChild(now, s, spi, o.Reason)
	}
	for _, ref := range s.waiting {
		k.failAcquire(now, ref, fmt.Errorf("engine: IKE SA with %s closed: %s", s.name(), o.Reason))
	}
	s.waiting = nil
	k.orphaned(now, s)
	k.roster.strike(s)
	if s.est != nil && !s.rekeyed {
		k.down(now, s, o.Reason)
	}
	if s.until = o.Until; s.until.IsZero() || k.stopping {
		k.drop(s)
	}
}

// down reports the end of an IKE SA that was up.
func (k *keyer) down(now time.Time, s *ikeSA, why ike.Reason) {
	e := s.event(EventIKEUpDown)
	e.Reason, e.Err = why.String(), s.err
	if why == ike.ReasonExpired {
		expired := e
		expired.Kind = EventIKESAExpired
		k.report(now, expired)
	}
	k.report(now, e)
}

// drop lets go of a closed SA that need not repeat its last answer any more.
func (k *keyer) drop(s *ikeSA) {
	k.door.remove(s.key)
	k.timers.set(s, time.Time{})
	delete(k.sas, s.key)
	delete(k.byMachine, s.m)
	if s.stranger {
		k.strangers--
	}
}

// espPath is where a child SA's packets go: IKE's path, or its addresses alone.
func espPath(encap bool, p ike.Path) tun.Path {
	if encap {
		return tun.Path(p)
	}
	t := tun.Path(p)
	t.Local, t.Remote = portless(t.Local), portless(t.Remote)
	return t
}

// soleAddr is the one address of a transport mode selector, or the zero Addr.
func soleAddr(s ts.Set) (a addr) {
	for i, sel := range s {
		if sel.First != sel.Last || (i > 0 && sel.First != a) {
			return addr{}
		}
		a = sel.First
	}
	return a
}
