package datapath

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
)

// clearMark is the V of the tag of packets that came in clear.
type clearMark struct{}

// admit judges a packet for the socket that the stack chose (RFC 5660, Section 2.4).
func (p *Path) admit(in netstack.Inbound) bool {
	d := p.judge(&in)
	p.count.dropIf(d)
	return d == DropUnset
}

func (p *Path) judge(in *netstack.Inbound) Drop {
	var s *Socket
	if in.Socket != nil {
		v, ok := in.Socket.V.(*Socket)
		if !ok {
			return DropAdmitTag
		}
		s = v
	}
	flow := in.Flow.Reverse() // from this host's view
	if in.Loopback {
		return p.judgeLoopback(in, s, flow)
	}
	if in.Packet == nil {
		return DropAdmitTag
	}
	switch v := in.Packet.V.(type) {
	case *Child:
		if v.shut.Load() || v.gone.Load() && in.SYN {
			return DropSPI
		}
		return p.judgeUnder(in, s, flow, v)
	case *clearMark:
		return p.judgeClear(in, s, flow)
	}
	return DropAdmitTag
}

// judgeUnder judges a packet that came under c.
func (p *Path) judgeUnder(in *netstack.Inbound, s *Socket, flow ts.Flow, c *Child) Drop {
	if s == nil {
		// Nobody's, or a socket that is going. Its latch holds as long as it is there; without one the stack may answer, and
		// the answer goes where this came from.
		return permits(p.cfg.Latches.Find(flow), c, DropUnset)
	}
	if in.ICMPError {
		// It acts on a connection as much as a segment of it does.
		if s.cfg.Kind == SocketDatagram {
			return p.judgeDatagram(in, s, c)
		}
		return permits(p.cfg.Latches.Find(flow), c, DropUnlatched)
	}
	switch s.cfg.Kind {
	case SocketListener:
		// A connection that was not accepted yet may have lost its latch to the last one of its 5-tuple, which was accepted
		// as it ended: its SYN, when it comes again, makes another.
		l := p.cfg.Latches.Find(flow)
		if in.SYN && (in.Listener || l == nil) {
			return p.judgeSYN(in, s, flow, c)
		}
		return permits(l, c, DropUnlatched)
	case SocketConnected:
		return p.judgeConnected(in, s, flow, c)
	case SocketDatagram:
		return p.judgeDatagram(in, s, c)
	}
	return DropAdmitTag
}

// permits is DropUnset if the latch lets packets under c pass, none if there is no latch.
func permits(l *latch.Latch, c *Child, none Drop) Drop {
	switch {
	case l == nil:
		return none
	case l.Permits(c.Params):
		return DropUnset
	}
	return DropLatch
}

func (p *Path) judgeDatagram(in *netstack.Inbound, s *Socket, c *Child) Drop {
	if !s.wants(in.Flow, c, false) {
		return DropWant
	}
	return p.inPolicy(in.Flow, c)
}

// inPolicy is DropUnset if the policy lets a packet that came be protected by an SA of c's peer and kind. The selectors of c
// were agreed under the policy of then; this is that of now, and names peers.
func (p *Path) inPolicy(in ts.Flow, c *Child) Drop {
	if !agrees(p.decideIn(in), c) {
		return DropInPolicy
	}
	return DropUnset
}

func (p *Path) judgeConnected(in *netstack.Inbound, s *Socket, flow ts.Flow, c *Child) Drop {
	g := s.grip.Load()
	if g == nil {
		if flow.Proto() == ts.ProtoTCP || s.loop {
			return DropUnlatched // nothing was sent yet, so nothing can be answered
		}
		// A connected UDP socket may hear before it speaks.
		if d := p.judgeDatagram(in, s, c); d != DropUnset {
			return d
		}
		if _, d := s.latchFor(flow); d != DropUnset {
			return d
		}
		g = s.grip.Load()
	}
	l := g.l
	if l.Flow() != flow {
		return DropUnlatched
	}
	if l.Permits(c.Params) {
		if in.SYN {
			// Perhaps a new connection of the same 5-tuple while this one is in TIME-WAIT, which gVisor hands to the listener
			// without asking again. It keeps the latch: same peer, same protection.
			p.embryos.share(flow, g, c, p.now())
		}
		return DropUnset
	}
	if l.State() != latch.StateLarval {
		return DropLatch
	}
	if flow.Proto() == ts.ProtoTCP && !in.SYN {
		return DropUnlatched // only a simultaneous open comes before our SYN went out (RFC 5660, Section 4)
	}
	if d := p.judgeDatagram(in, s, c); d != DropUnset {
		return d
	}
	if p.cfg.Latches.Establish(l, c.Params, c.suites...) != nil || !l.Permits(c.Params) {
		return DropLatch
	}
	s.child.Store(c)
	return DropUnset
}

// judgeSYN judges a segment that begins a connection at a listener, and latches the connection.
func (p *Path) judgeSYN(in *netstack.Inbound, s *Socket, flow ts.Flow, c *Child) Drop {
	listener := s.listener.Load()
	if listener == nil {
		return DropUnlatched
	}
	if d := p.judgeDatagram(in, s, c); d != DropUnset {
		return d
	}
	e, full := p.embryos.again(flow, c.Params.Peer, p.now())
	switch {
	case e != nil && e.grip != nil:
		return permits(e.grip.l, c, DropUnlatched) // a retransmission
	case full:
		return DropEmbryo
	}
	l, alerts, err := p.cfg.Latches.Accept(listener, flow, c.Params, c.suites...)
	if err != nil {
		if me := (*latch.MismatchError)(nil); errors.As(err, &me) {
			return DropWant
		}
		// An earlier connection of the flow is not forgotten yet: the peer will try again.
		return DropLatch
	}
	if l.State() != latch.StateEstablished {
		p.cfg.Latches.Release(l)
		return DropLatch
	}
	if !p.embryos.put(flow, &embryo{grip: newGrip(l), peer: c.Params.Peer, child: c, born: p.now()}) {
		p.cfg.Latches.Release(l)
		return DropEmbryo
	}
	p.alert(alerts)
	return DropUnset
}

// alert hands alerts to the engine: hooks must not deliver them.
func (p *Path) alert(as latch.Alerts) {
	if len(as) > 0 && p.cfg.Alerts != nil {
		p.cfg.Alerts(as)
	}
}

// judgeClear judges a packet that came in clear, which the policy allows: its socket must allow it too, and its flow must
// never have been protected (ADV-L8).
func (p *Path) judgeClear(in *netstack.Inbound, s *Socket, flow ts.Flow) Drop {
	if l := p.cfg.Latches.Find(flow); l != nil && l.Params() != nil {
		return DropLatch
	}
	if s == nil {
		return DropUnset
	}
	if !p.clearOK(s, nil) {
		return DropClear
	}
	if s.cfg.Kind == SocketListener && in.Listener && in.SYN {
		if !p.embryos.put(flow, &embryo{peer: "clear", born: p.now()}) {
			return DropEmbryo
		}
	}
	return DropUnset
}

// judgeLoopback judges a packet of this stack to itself: nothing protects it and nobody else sees it, so it reaches the
// sockets that ask for no protection and have no latch.
func (p *Path) judgeLoopback(in *netstack.Inbound, s *Socket, flow ts.Flow) Drop {
	if s == nil {
		return DropUnset
	}
	if s.want != "" {
		return DropWant
	}
	if g := s.grip.Load(); g != nil && g.l.Params() != nil {
		return DropLatch
	}
	if s.cfg.Kind == SocketListener && in.Listener && in.SYN {
		if !p.embryos.put(flow, &embryo{loop: true, peer: "loopback", born: p.now()}) {
			return DropEmbryo
		}
	}
	return DropUnset
}

// embryos are the connections that began at a listener and were not accepted yet.
type embryos struct {
	mu   sync.Mutex // guards what follows
	m    map[ts.Flow]*embryo
	peer map[string]int
}

type embryo struct {
	grip  *grip  // nil in clear and on the loopback
	child *Child // that the SYN came under
	peer  string
	born  time.Time // of the last SYN; under embryos.mu
	loop  bool
}

func (x *embryos) init() {
	x.m = make(map[ts.Flow]*embryo)
	x.peer = make(map[string]int)
}

// room reports whether one more may begin. x.mu is held.
func (x *embryos) room(peer string) bool {
	return len(x.m) < maxEmbryos && x.peer[peer] < maxPeerEmbryos
}

// again returns what the flow has begun already, which begins anew: the answer to its SYN is awaited from now on. Without any,
// full says that there is no room for one.
func (x *embryos) again(f ts.Flow, peer string, now time.Time) (e *embryo, full bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e = x.m[f]; e != nil {
		e.born = now
		return e, false
	}
	return nil, !x.room(peer)
}

// put adds e unless there is no room. If the flow has one already, that one is replaced and its grip let go by the caller's
// release; it is a retransmission in clear, which has none.
func (x *embryos) put(f ts.Flow, e *embryo) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.m[f]; old != nil {
		if old.grip != nil || e.grip != nil {
			return false
		}
		x.drop(f, old)
	}
	if !x.room(e.peer) {
		return false
	}
	x.m[f] = e
	x.peer[e.peer]++
	return true
}

// share makes an embryo that holds on to a latch that lives already.
func (x *embryos) share(f ts.Flow, g *grip, c *Child, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.m[f]; e != nil {
		e.born = now
		return
	}
	if !x.room(c.Params.Peer) || !g.share() {
		return
	}
	x.m[f] = &embryo{grip: g, peer: c.Params.Peer, child: c, born: now}
	x.peer[c.Params.Peer]++
}

func (x *embryos) drop(f ts.Flow, e *embryo) {
	delete(x.m, f)
	if x.peer[e.peer]--; x.peer[e.peer] == 0 {
		delete(x.peer, e.peer)
	}
}

// take removes what the flow has begun, nil if there is nothing.
func (x *embryos) take(f ts.Flow) *embryo {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.m[f]
	if e != nil {
		x.drop(f, e)
	}
	return e
}

// takeOld is take of what has begun before t.
func (x *embryos) takeOld(f ts.Flow, t time.Time) *embryo {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.m[f]
	if e == nil || !e.born.Before(t) {
		return nil
	}
	x.drop(f, e)
	return e
}

// old returns the flows that began before t.
func (x *embryos) old(t time.Time) (fs []ts.Flow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for f, e := range x.m {
		if e.born.Before(t) {
			fs = append(fs, f)
		}
	}
	return fs
}

func (x *embryos) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.m)
}

// sweepEmbryos forgets connections that came to nothing.
func (p *Path) sweepEmbryos(now time.Time) {
	ago := now.Add(-embryoGrace)
	for _, f := range p.embryos.old(ago) {
		if p.cfg.Exists != nil && p.cfg.Exists(f) {
			continue
		}
		if e := p.embryos.takeOld(f, ago); e != nil && e.grip != nil {
			e.grip.release(p.cfg.Latches)
		}
	}
}

// Errors of Accepted.
var (
	// ErrUnlatched means that the data path knows nothing of the connection's beginning (ECONNABORTED).
	ErrUnlatched = errors.New("datapath: connection without a latch")
)

func (p *Path) accepted(f ts.Flow, cfg SocketConfig) (*Socket, error) {
	if p.closed.Load() {
		return nil, net.ErrClosed
	}
	e := p.embryos.take(f)
	if e == nil {
		return nil, ErrUnlatched
	}
	cfg.Kind = SocketConnected
	s := p.newSocket(cfg)
	s.loop = e.loop
	if e.grip == nil {
		if !e.loop && !p.clearOK(s, nil) || e.loop && s.want != "" {
			return nil, ErrUnlatched
		}
		return s, nil
	}
	l := e.grip.l
	err := l.Err()
	if err == nil && l.Params() == nil {
		err = ErrUnlatched
	}
	if err == nil {
		err = s.cfg.Want.Check(l.Params())
	}
	if err != nil {
		e.grip.release(p.cfg.Latches)
		return nil, err
	}
	l.SetAlert(cfg.Alert)
	s.child.Store(e.child)
	s.grip.Store(e.grip)
	return s, nil
}

// clearPolicy is DropUnset if the policy lets a packet arrive in clear (RFC 4301, Section 5.2, step 3b).
func (p *Path) clearPolicy(f ts.Flow) Drop {
	pol := p.policy.Load().Lookup(false, f)
	if pol == nil || pol.Word == spd.Block || !pol.Word.AllowsClear() {
		return DropClear
	}
	return DropUnset
}
