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
	initiator bool
	conn      *Conn // a responder's first guess until peer is set
	remote    int   // initiator: index into conn.Remotes

	peer     *peer
	est      *ike.Established
	up       time.Time
	path     ike.Path
	children map[uint32]*datapath.Child // by our SPI
	shared   map[latch.Params]*latch.Params

	waiting  []uint64 // acquires that this SA is to answer, by ref
	deleted  bool     // we asked for its end
	stranger bool     // counts as one of keyer.strangers
	next     bool     // made by rekeying another, which still has the children
	err      error    // Failed
	claimed  error    // Unverified

	until    time.Time // closed, kept to repeat its last answer until then
	tries    attempt
	timer    int // index in timers, -1 if none
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

// intern makes children of one SA with equal parameters share them, so that a latch
// compares pointers.
func (s *ikeSA) intern(p *latch.Params) *latch.Params {
	if q := s.shared[*p]; q != nil {
		return q
	}
	s.shared[*p] = p
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
		k.installInbound(s, o)
	case *ike.ChildOutbound:
		k.installOutbound(now, s, o)
	case *ike.ChildRemoved:
		k.removeChild(s, o.InSPI, o.Reason)
		k.revive(o)
	case *ike.SPIReleased:
		k.dp.ReleaseSPI(o.SPI)
	case *ike.ChildFailed:
		k.childFailed(s, o)
	case *ike.Rekeying:
		k.rekeying(now, s, o.New)
	case *ike.Rekeyed:
		k.rekeyed(now, s, o)
	case *ike.Wake:
		k.wake(now, o.Machine)
	case *ike.Reauthenticate:
		k.reauthenticate(now, s, o)
	case *ike.RekeyFailed:
		k.log.Warn("child SA not rekeyed", "peer", s.name(), "child", o.Name, "error", o.Err, "next", o.Next)
	case *ike.PathChanged:
		s.path = o.Path
		for _, c := range s.children {
			k.dp.SetPath(c, espPath(c.CurrentPath().Native(), o.Path))
		}
	case *ike.Unverified:
		s.claimed = o.Err
		k.log.Debug("unauthenticated claim", "peer", s.name(), "claim", o.Err)
	case *ike.KeyLog:
		if k.cfg.KeyLog != nil {
			if err := writeKeyLog(k.cfg.KeyLog, o); err != nil {
				k.log.Error("key log", "error", err)
			}
		}
	case *ike.Failed:
		s.err = o.Err
		k.log.Warn("IKE SA failed", "peer", s.name(), "error", o.Err)
		for _, ref := range s.waiting {
			k.failAcquire(ref, o.Err)
		}
		s.waiting = nil
	case *ike.Closed:
		k.closed(s, o)
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
func (k *keyer) transmit(path ike.Path, b []byte) {
	buf := k.scratch[:tun.Headroom+len(b)]
	copy(buf[tun.Headroom:], b)
	err := k.dp.SendIKE([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(b), Path: tun.Path(path), Kind: tun.KindIKE}})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		k.log.Debug("IKE datagram not sent", "path", path.String(), "error", err)
	}
}

func (k *keyer) established(now time.Time, s *ikeSA, o *ike.Established) {
	s.est, s.up, s.path = o, now, o.Path
	s.tries = attempt{}
	k.gate.Establish(now, s.key)
	k.log.Info("IKE SA established", "peer", s.name(), "path", o.Path.String(), "suite", o.Suite.String(),
		"spi", fmt.Sprintf("%016x-%016x", o.SPIi, o.SPIr), "encap", o.Encap)
	if !o.InitialContact || s.peer.data.Anonymous {
		// RFC 7619, Section 2.5 and I1: somebody nobody vouched for replaces nobody.
		return
	}
	// A copy: an SA that closes leaves the list.
	for _, other := range slices.Clone(k.sasOf(s.peer.conn)) {
		if other != s && other.peer != nil && other.est != nil && other.peer.canonical == s.peer.canonical {
			k.replace(now, other)
		}
	}
}

// replace ends an SA that its peer has lost. What waits for it asks the peer again.
func (k *keyer) replace(now time.Time, s *ikeSA) {
	k.log.Info("replaced after initial contact", "peer", s.name())
	for _, a := range k.takeOver(s) {
		k.mail.post(func(now time.Time) { k.request(now, a) })
	}
	s.m.Replaced(now)
	k.drain(now, s)
}

func (k *keyer) removeChild(s *ikeSA, inSPI uint32, why ike.Reason) {
	c := s.children[inSPI]
	if c == nil {
		return
	}
	delete(s.children, inSPI)
	delete(k.byChild, inSPI)
	k.dp.Remove(inSPI)
	k.log.Info("child SA down", "peer", s.name(), "child", c.Name, "in", fmt.Sprintf("%08x", inSPI), "reason", why.String())
}

// revive makes a child SA again that is gone, if its configuration says so (swanctl.conf's
// dpd_action and close_action). A trap needs nothing done: the policy is always there.
func (k *keyer) revive(o *ike.ChildRemoved) {
	cc := k.confs[o.Name]
	if o.Action != ike.ActionStart || cc == nil || k.stopping || len(cc.Conn.Remotes) == 0 {
		return
	}
	// Later: the IKE SA may be on its way out as well.
	k.mail.post(func(now time.Time) {
		if !k.stopping {
			k.request(now, &acquire{ref: k.ref(), conf: cc, pair: cc.Pair})
		}
	})
}

func (k *keyer) childFailed(s *ikeSA, o *ike.ChildFailed) {
	if s.est != nil {
		k.log.Warn("child SA refused", "peer", s.name(), "child", o.Name, "error", o.Err)
	}
	s.settle(o.Ref)
	k.failAcquire(o.Ref, o.Err)
}

// settle ends the wait for an acquire that is answered.
func (s *ikeSA) settle(ref uint64) {
	s.waiting = slices.DeleteFunc(s.waiting, func(r uint64) bool { return r == ref })
}

func (k *keyer) closed(s *ikeSA, o *ike.Closed) {
	for spi := range s.children {
		k.removeChild(s, spi, o.Reason)
	}
	for _, ref := range s.waiting {
		k.failAcquire(ref, fmt.Errorf("engine: IKE SA with %s closed: %s", s.name(), o.Reason))
	}
	s.waiting = nil
	k.forget(s)
	if s.est != nil {
		k.log.Info("IKE SA closed", "peer", s.name(), "reason", o.Reason.String())
	}
	if s.until = o.Until; s.until.IsZero() || k.stopping {
		k.drop(s)
	}
}

// drop lets go of a closed SA that need not repeat its last answer any more.
func (k *keyer) drop(s *ikeSA) {
	k.gate.Remove(s.key)
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
