package datapath

import (
	"errors"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
)

// Reasons for which a packet is refused at once: a dial fails with them, a UDP write returns them.
var (
	// ErrDiscard means that no policy lets the packet out (EACCES).
	ErrDiscard = errors.New("datapath: the policy discards this traffic")
	// ErrClear means that the policy lets the packet out in clear only, which the socket did not allow or the wire cannot
	// do (EACCES).
	ErrClear = errors.New("datapath: the policy would send this in clear")
	// ErrBroken means that the socket's latch is broken or its socket closed (ECONNRESET).
	ErrBroken = errors.New("datapath: the flow's latch does not let it pass")
	// ErrLatch means that the flow cannot be latched: it is already, or a conflicting SA exists (EADDRINUSE).
	ErrLatch = errors.New("datapath: the flow cannot be latched")
	// ErrNoChild means that the SA that a datagram was to be sent under is gone (ENETUNREACH).
	ErrNoChild = errors.New("datapath: no SA like the one asked for")
	// ErrTooBig means that the packet does not fit what transport mode can carry (EMSGSIZE).
	ErrTooBig = errors.New("datapath: packet too big for transport mode")
)

// decision is what policy and SAs say of a flow while an epoch lasts.
type decision struct {
	policy *spd.Policy // nil: discard
	child  *Child      // the one for sockets that ask for nothing, nil for none
}

// ownDecision is the child that a socket found for itself when the shared decision's did not suit it.
type ownDecision struct {
	flow  ts.Flow
	epoch uint64
	child *Child
}

// decide returns the shared decision for f, and the epoch for which it holds.
func (p *Path) decide(f ts.Flow) (decision, uint64) {
	// The epoch is read first: what changes after this outdates what is found now.
	e := p.epoch.Load()
	if d, ok := p.cache.Get(f, e); ok {
		return d, e
	}
	var d decision
	d.policy = p.policy.Load().Lookup(true, f)
	if d.policy != nil && d.policy.Word.AllowsSA() {
		d.child = p.index.best(f, func(c *Child) bool { return c.out.Load() != nil && agrees(d.policy, c) })
	}
	p.cache.Put(f, e, d)
	return d, e
}

// decideIn returns the policy for a packet that arrives, nil for none. f is its flow as it came: for ICMP the direction
// matters (RFC 4301, Section 4.4.1.3). No flow that leaves has the same key: its source is ours.
func (p *Path) decideIn(f ts.Flow) *spd.Policy {
	e := p.epoch.Load()
	d, ok := p.cache.Get(f, e)
	if !ok {
		d.policy = p.policy.Load().Lookup(false, f)
		p.cache.Put(f, e, d)
	}
	return d.policy
}

// agrees reports whether a policy's traffic may go under c.
func agrees(pol *spd.Policy, c *Child) bool {
	return pol != nil && pol.Word.AllowsSA() &&
		(pol.Child == "" || pol.Child == c.Name) &&
		(pol.Peer == "" || pol.Peer == c.Peer.Name) &&
		(pol.Mode == spd.ModeUnset || uint8(pol.Mode) == uint8(c.Mode)) &&
		(!c.Peer.Anonymous || pol.BTNSOK) // RFC 5386, Section 2
}

// demand is what one packet asks of the SA that carries it.
type demand struct {
	sock *Socket       // nil for none
	l    *latch.Latch  // the flow's, nil for none
	like *latch.Params // an SA that protects like this one, nil for any
}

// suits reports whether c is what the packet's sender asks for. Whether the policy agrees is another question.
func (d *demand) suits(f ts.Flow, c *Child) bool {
	if c.gone.Load() {
		return false
	}
	if d.l != nil && d.l.State() != latch.StateLarval {
		return d.l.Permits(c.Params)
	}
	if d.like != nil {
		return latch.Congruent(d.like, c.Params, nil)
	}
	if d.sock != nil {
		return d.sock.wants(f, c, true)
	}
	return true
}

// choose returns the child for f that policy and demand agree on, nil for none.
func (p *Path) choose(f ts.Flow, dec decision, e uint64, d *demand) *Child {
	if c := dec.child; c != nil && d.suits(f, c) {
		return c
	}
	if dec.policy == nil || !dec.policy.Word.AllowsSA() {
		return nil
	}
	if d.sock != nil {
		if o := d.sock.own.Load(); o != nil && o.epoch == e && o.flow == f && d.suits(f, o.child) {
			return o.child
		}
	}
	c := p.carrier(f, dec.policy, d)
	if c != nil && d.sock != nil {
		d.sock.own.Store(&ownDecision{f, e, c})
	}
	return c
}

// carrier returns the best child that sends, for f, which policy and demand agree on, nil for none.
func (p *Path) carrier(f ts.Flow, pol *spd.Policy, d *demand) *Child {
	return p.index.best(f, func(c *Child) bool {
		return c.out.Load() != nil && agrees(pol, c) && d.suits(f, c)
	})
}

// outgoing is one packet on its way through output.
type outgoing struct {
	tag  *netstack.Tag
	pkt  *netstack.Packet
	flow ts.Flow
	// held: pkt is ours to release; hook: gVisor's locks are held.
	held, hook bool
}

// refuse tells the sender that the packet will never go.
func (p *Path) refuse(o *outgoing, cause error) {
	switch {
	case o.hook:
		o.pkt.Refuse(cause)
	case p.cfg.Unreachable != nil:
		p.cfg.Unreachable(o.pkt, cause)
	}
}

func (p *Path) output(tag *netstack.Tag, pkt *netstack.Packet) {
	p.route(&outgoing{tag: tag, pkt: pkt, flow: pkt.Flow(), hook: true})
}

// route sends one packet, holds it or drops it. It reports whether a held packet is held again.
func (p *Path) route(o *outgoing) (kept bool) {
	if !o.flow.IsValid() {
		p.count.drop(DropOutFlow)
		return false
	}
	if p.closed.Load() {
		p.count.drop(DropRemoved)
		return false
	}
	if o.tag == nil {
		d, kept := p.routeUnowned(o)
		p.count.dropIf(d)
		return kept
	}
	switch v := o.tag.V.(type) {
	case *Socket:
		d, kept := p.routeSocket(o, v)
		p.count.dropIf(d)
		return kept
	case *Child:
		d, kept := p.routeLike(o, v)
		p.count.dropIf(d)
		return kept
	}
	p.count.drop(DropOutTag)
	return false
}

// dropIf counts d unless it is DropUnset, which stands for "not dropped, or counted already".
func (c *counters) dropIf(d Drop) {
	if d != DropUnset {
		c.drop(d)
	}
}

// routeSocket is route for a socket's packet.
func (p *Path) routeSocket(o *outgoing, s *Socket) (d Drop, kept bool) {
	dem := demand{sock: s}
	switch s.cfg.Kind {
	case SocketConnected:
		if dem.l, d = s.latchFor(o.flow); d != DropUnset {
			p.refuse(o, dropError(d))
			return d, false
		}
	case SocketListener:
		// A connection that was not accepted yet: its latch was made by its SYN.
		dem.l = p.cfg.Latches.Find(o.flow)
	case SocketDatagram:
	}
	if dem.l != nil {
		if st := dem.l.State(); st != latch.StateLarval && st != latch.StateEstablished {
			// RFC 5660, Section 2.3: BROKEN is silence; what the holder does about it is its disposition.
			if o.flow.Proto() != ts.ProtoTCP {
				p.refuse(o, ErrBroken)
			}
			return DropBroken, false
		}
	}
	for range 3 { // a child may be removed between choice and use
		dec, e := p.decide(o.flow)
		c := p.choose(o.flow, dec, e, &dem)
		if c == nil {
			return p.without(o, s, dec, e, &dem)
		}
		if s.cfg.Kind == SocketListener && dem.l == nil {
			return DropOutUnlatched, false
		}
		if dem.l != nil && dem.l.State() == latch.StateLarval {
			// Born with the first packet that is sent under an SA (RFC 5660, Sections 2.2 and 2.3).
			if err := p.cfg.Latches.Establish(dem.l, c.Params, c.suites...); err != nil || !dem.l.Permits(c.Params) {
				p.refuse(o, ErrLatch)
				return DropConflict, false
			}
		}
		if d = p.sendUnder(c, o); d != DropRemoved {
			if d == DropUnset {
				s.sent(c)
			}
			return d, false
		}
	}
	return DropRemoved, false
}

// without decides what becomes of a socket's packet for which there is no SA.
func (p *Path) without(o *outgoing, s *Socket, dec decision, e uint64, dem *demand) (d Drop, kept bool) {
	if dec.policy == nil || dec.policy.Word == spd.Block {
		p.refuse(o, ErrDiscard)
		return DropNoPolicy, false
	}
	if !dec.policy.Word.Initiates() {
		return p.bypass(o, s, dem.l), false
	}
	if s.cfg.Kind == SocketListener {
		// The peer's SA is gone before the connection was accepted: a retransmission will find the next one.
		if dem.l == nil {
			return DropOutUnlatched, false
		}
	}
	return p.await(o, s, dec, e, dem)
}

// clearOK reports whether a socket's packets may leave in clear where the policy says so: its owner allowed it, asks for no
// protection, and the flow was never protected (RFC 5660, Section 2.3: an established latch is never bypassed).
func (p *Path) clearOK(s *Socket, l *latch.Latch) bool {
	return p.caps.ClearPackets && s.cfg.AllowBypass && s.want == "" && (l == nil || l.Params() == nil)
}

// bypass sends a packet in clear.
func (p *Path) bypass(o *outgoing, s *Socket, l *latch.Latch) Drop {
	if !p.clearOK(s, l) {
		p.refuse(o, ErrClear)
		return DropBypass
	}
	c, ok := newCutter(o.pkt)
	if !ok {
		return DropOutFlow
	}
	s.sent(nil)
	return p.emitClear(&c, o.flow)
}

// routeLike is route for a datagram that is to go under an SA like v: the token it was given is a received packet's.
func (p *Path) routeLike(o *outgoing, v *Child) (d Drop, kept bool) {
	dem := demand{like: v.Params}
	for range 3 {
		dec, e := p.decide(o.flow)
		if dec.policy == nil || !dec.policy.Word.AllowsSA() {
			p.refuse(o, ErrDiscard)
			return DropNoPolicy, false
		}
		c := p.choose(o.flow, dec, e, &dem)
		if c == nil && p.arriving(o.flow, dec.policy, &dem) {
			return p.keepAnswer(o, dec.policy.Name, e)
		}
		if c == nil {
			p.refuse(o, ErrNoChild)
			return DropUnowned, false
		}
		if d = p.sendUnder(c, o); d != DropRemoved {
			return d, false
		}
	}
	return DropRemoved, false
}

// keepAnswer holds the answer to a packet that came before we may send under its SA: it asks for nothing, and goes when the
// SA's other half is there. e is an epoch in which it was not.
func (p *Path) keepAnswer(o *outgoing, policy string, e uint64) (d Drop, kept bool) {
	pkt, held := p.keep(p.now(), o, acquireKey{policy: policy, peer: peerKey{dst: o.flow.Dst()}})
	if !held {
		return DropPending, false
	}
	if p.epoch.Load() != e {
		p.missed(o, pkt)
	}
	return DropUnset, true
}

// routeUnowned is route for a packet that no socket sent. It goes under the flow's latch if there is one, else under the SA
// of the packet that provoked it, or not at all.
func (p *Path) routeUnowned(o *outgoing) (d Drop, kept bool) {
	prov := o.pkt.Provoker()
	if l := p.cfg.Latches.Find(o.flow); l != nil {
		dem := demand{l: l}
		if l.State() != latch.StateEstablished {
			return DropBroken, false
		}
		dec, e := p.decide(o.flow)
		if c := p.choose(o.flow, dec, e, &dem); c != nil {
			return p.sendUnder(c, o), false
		}
		return DropUnowned, false
	}
	if prov == nil {
		return DropUnowned, false
	}
	switch v := prov.V.(type) {
	case *Child:
		e := p.epoch.Load()
		if v.gone.Load() || !p.replies(v, o) {
			return DropUnowned, false
		}
		if v.out.Load() == nil {
			return p.keepAnswer(o, "", e)
		}
		return p.sendUnder(v, o), false
	case *clearMark:
		dec, _ := p.decide(o.flow)
		if !p.caps.ClearPackets || dec.policy == nil || dec.policy.Word.Action() != spd.Bypass {
			return DropBypass, false
		}
		c, ok := newCutter(o.pkt)
		if !ok {
			return DropOutFlow, false
		}
		return p.emitClear(&c, o.flow), false
	}
	return DropUnowned, false
}

// replies reports whether an answer may go under the SA of what provoked it: the SA covers it, or it is an ICMP error about
// a packet that the SA covers (RFC 4301, Section 6.2).
func (p *Path) replies(c *Child, o *outgoing) bool {
	if c.Pair.MatchOut(o.flow) {
		return true
	}
	if !icmpError(o.flow) {
		return false
	}
	var quote [128]byte
	ipLen, tl := o.pkt.HeaderLens()
	head := o.pkt.Header()
	if ipLen > len(head) {
		return false
	}
	n := copy(quote[:], head[ipLen:])
	if tl == len(head)-ipLen && n < len(quote) {
		o.pkt.Rewind()
		n += o.pkt.CopyPayload(quote[n:])
	}
	if n <= icmpHeader {
		return false
	}
	f, ok := quoted(quote[icmpHeader:n], o.flow.IsV6())
	return ok && c.Pair.MatchIn(f) && f.Src() == o.flow.Dst()
}

// sendUnder sends a packet under c.
func (p *Path) sendUnder(c *Child, o *outgoing) Drop {
	out := c.out.Load()
	st := c.path.Load()
	if out == nil || st == nil {
		return DropRemoved
	}
	cut, ok := newCutter(o.pkt)
	if !ok {
		return DropOutFlow
	}
	switch d := p.emit(out, &cut, st); d {
	case DropUnset:
		now := p.coarse()
		p.alone(c, c.sent.Swap(now), now)
		p.remember(c, o, now)
		return DropUnset
	case DropExhausted:
		return DropUnset // counted for each packet already; the next child will carry the retransmission
	case DropTooBig:
		p.refuse(o, ErrTooBig)
		return d
	default:
		return d
	}
}

// dropError is the error for a packet that latchFor refused.
func dropError(d Drop) error {
	if d == DropBroken {
		return ErrBroken
	}
	return ErrLatch
}
