package datapath

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/hold"
)

// An Acquire asks for a child: a packet of Flow is protected by Policy and no child fits it. It ends with InstallOutbound
// of a child that does, or with FailAcquire; without either it is repeated for the first packet after 30 s.
type Acquire struct {
	// ID names the request to FailAcquire.
	ID uint64
	// Flow is the packet's, from this host's view.
	Flow ts.Flow
	// Policy asks for protection. It is immutable.
	Policy *spd.Policy
	// Pair is what the child should cover: the policy's selectors with its PFP flags applied to Flow; or Flow alone if Want
	// needs a narrow child.
	Pair ts.Pair
	// Want is what the socket demands beyond the policy.
	Want latch.Want
	// Socket is the socket that waits.
	Socket *Socket
}

// acquireKey is what one request is made for: all packets with an equal key wait for the same one.
type acquireKey struct {
	policy string
	want   string
	peer   peerKey
	flow   ts.Flow // where the child is to be narrow, else zero
}

// peerKey is what the per-peer limit of held packets counts for: the peer that the policy names, else the destination.
type peerKey struct {
	peer string
	dst  netip.Addr
}

// heldPacket is a packet that waits.
type heldPacket struct {
	tag *netstack.Tag
	pkt *netstack.Packet
	key acquireKey // zero of a copy
	// sent: a copy of what was sent under this child, in vain so far.
	sent *Child
}

// AcquireError is why no child could be had.
type AcquireError struct {
	Err error
	// Final: we refused, or who answered our IKE_SA_INIT did, in an SK payload; else anybody
	// may have caused it.
	Final bool
}

// Error returns the cause's text.
func (e *AcquireError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *AcquireError) Unwrap() error { return e.Err }

// request is one Acquire that was made.
type request struct {
	key   acquireKey
	acq   Acquire
	dem   demand // the packet's
	until time.Time
}

// requests are the Acquires that are out.
type requests struct {
	mu   sync.Mutex // guards what follows
	last uint64
	out  map[uint64]*request
}

func (r *requests) add(key acquireKey, acq Acquire, dem demand, until time.Time) Acquire {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	acq.ID = r.last
	r.out[acq.ID] = &request{key, acq, dem, until}
	return acq
}

func (r *requests) take(id uint64) *request {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.out[id]
	delete(r.out, id)
	return q
}

func (r *requests) get(id uint64) *request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out[id]
}

// takeMatch removes the requests that match accepts and returns their keys.
func (r *requests) takeMatch(match func(*request) bool) (keys []acquireKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, q := range r.out {
		if match(q) {
			delete(r.out, id)
			keys = append(keys, q.key)
		}
	}
	return keys
}

func (r *requests) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.out)
}

// await holds a socket's packet and asks for a child, unless that was refused or failed a short while ago.
func (p *Path) await(o *outgoing, s *Socket, dec decision, e uint64, dem *demand) (d Drop, kept bool) {
	pair := dec.policy.Narrow(o.flow)
	narrow := s.cfg.Want.NeedsNarrow()
	if narrow {
		pair = flowPair(o.flow)
	}
	if len(pair.Local) == 0 || len(pair.Remote) == 0 {
		// A port is to come from the packet, which shows none (RFC 4301, Section 4.4.2.2).
		p.refuse(o, ErrDiscard)
		return DropNoPolicy, false
	}
	key := acquireKey{policy: dec.policy.Name, want: s.want, peer: peerKey{peer: dec.policy.Peer}}
	if key.peer.peer == "" {
		key.peer.dst = o.flow.Dst()
	}
	switch pfp := dec.policy.PFP; {
	case narrow, pfp&(spd.PFPLocalPort|spd.PFPRemotePort) != 0:
		key.flow = o.flow
	case pfp != 0:
		key.flow = o.flow.WithoutPorts()
	}

	now := p.now()
	verdict, err := hold.Pending, error(nil)
	arriving := p.arriving(o.flow, dec.policy, dem)
	if !arriving {
		verdict, err = p.backoff.Start(now, key)
	}
	switch verdict {
	case hold.Full:
		return DropPending, false
	case hold.Failed:
		s.failed(err)
		if dec.policy.Word == spd.PrivateOrClear && p.clearOK(s, dem.l) {
			return p.bypass(o, s, dem.l), false
		}
		if ae := (*AcquireError)(nil); errors.As(err, &ae) && ae.Final {
			p.refuse(o, ae.Err)
		}
		return DropRefused, false
	case hold.Pending, hold.Go:
	}

	pkt, held := p.keep(now, o, key)
	if verdict == hold.Go {
		p.count.acquires.Add(1)
		acq := p.requests.add(key, Acquire{Flow: o.flow, Policy: dec.policy, Pair: pair, Want: s.cfg.Want, Socket: s},
			*dem, now.Add(p.pendingFor()))
		if p.cfg.Acquire != nil {
			p.cfg.Acquire(acq)
		}
	}
	if !held {
		return DropPending, false
	}
	if p.epoch.Load() != e || !arriving && !p.backoff.Pending(key) {
		p.missed(o, pkt)
	}
	return DropUnset, true
}

// keep holds a packet until an SA comes for it.
func (p *Path) keep(now time.Time, o *outgoing, key acquireKey) (pkt *netstack.Packet, held bool) {
	pkt = o.pkt
	if !o.held {
		pkt = pkt.Hold()
	}
	r := p.held.Put(now, key.peer, o.flow, pkt.Size(), heldPacket{tag: o.tag, pkt: pkt, key: key})
	switch {
	case r.Held():
		p.count.held.Add(1)
	case !o.held:
		pkt.Release()
	}
	return pkt, r.Held()
}

// missed wakes a packet if a child came, or what it was to wait for ended, since that was looked at: neither saw the packet.
func (p *Path) missed(o *outgoing, pkt *netstack.Packet) {
	p.wake(p.held.TakeMatch(func(f ts.Flow, h heldPacket) bool { return f == o.flow && h.pkt == pkt }), o.hook)
}

// arriving reports whether a child for the packet receives already and is about to send: its first packet came, FirstInbound
// was called, and InstallOutbound is the answer (RFC 7296, Section 2.8). A request would make a second one.
func (p *Path) arriving(f ts.Flow, pol *spd.Policy, dem *demand) bool {
	return p.index.best(f, func(c *Child) bool {
		return c.out.Load() == nil && c.heardAny.Load() && agrees(pol, c) && dem.suits(f, c)
	}) != nil
}

func (p *Path) pendingFor() time.Duration {
	if d := p.cfg.Backoff.Pending; d > 0 {
		return d
	}
	return hold.DefaultLifetime
}

// wake sends packets that were held. They are held again if there is still no SA for them.
func (p *Path) wake(hs []heldPacket, hook bool) {
	for _, h := range hs {
		if !p.route(&outgoing{tag: h.tag, pkt: h.pkt, flow: h.pkt.Flow(), held: true, hook: hook}) {
			h.pkt.Release()
		}
	}
}

// served ends the requests that c answers, and sends what waits for it. What waited for one of them and does not fit c asks
// for itself.
func (p *Path) served(c *Child) {
	keys := p.requests.takeMatch(func(q *request) bool {
		return agrees(q.acq.Policy, c) && c.Pair.MatchOut(q.acq.Flow) && q.acq.Socket.wants(q.acq.Flow, c, true)
	})
	for _, key := range keys {
		p.backoff.Done(key)
	}
	p.wake(p.held.TakeMatch(func(f ts.Flow, h heldPacket) bool {
		return c.Pair.MatchOut(f) || slices.Contains(keys, h.key)
	}), false)
}

// waiting also ends a request whose packet looked for a child just before it came, and asked just after.
func (p *Path) waiting(id uint64) bool {
	q := p.requests.get(id)
	if q == nil {
		return false
	}
	if p.carrier(q.acq.Flow, q.acq.Policy, &q.dem) == nil {
		return true
	}
	if p.requests.take(id) != nil {
		p.backoff.Done(q.key)
		p.wake(p.held.TakeMatch(func(_ ts.Flow, h heldPacket) bool { return h.key == q.key }), false)
	}
	return false
}

func (p *Path) failAcquire(id uint64, err error, final bool) {
	q := p.requests.take(id)
	if q == nil {
		return
	}
	if err == nil {
		err = ErrNoChild
	}
	ae := &AcquireError{Err: err, Final: final}
	p.backoff.Fail(p.now(), q.key, ae)
	for _, h := range p.held.TakeMatch(func(_ ts.Flow, h heldPacket) bool { return h.key == q.key }) {
		s, _ := h.tag.V.(*Socket)
		switch {
		case q.acq.Policy.Word == spd.PrivateOrClear && s != nil && p.clearOK(s, s.Latch()):
			p.wake([]heldPacket{h}, false)
			continue
		case s != nil:
			s.failed(ae)
		}
		if final && p.cfg.Unreachable != nil {
			p.cfg.Unreachable(h.pkt, err)
		}
		p.count.drop(DropHoldFailed)
		h.pkt.Release()
	}
}

// flowPair is the pair of a flow alone, empty if it shows no ports.
func flowPair(f ts.Flow) ts.Pair {
	if f.Opaque() {
		return ts.Pair{}
	}
	l, r := ts.FromAddr(f.Src()), ts.FromAddr(f.Dst())
	l.Proto, r.Proto = f.Proto(), f.Proto()
	l.Ports, r.Ports = ts.Port(f.SrcPort()), ts.Port(f.DstPort())
	return ts.Pair{Local: ts.Set{l}, Remote: ts.Set{r}}
}
