package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

type addr = netip.Addr

func portless(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }

// An acquire is one child SA asked for: by a packet that waits for it, or by the
// configuration.
type acquire struct {
	ref  uint64
	conf *ChildConf
	id   uint64          // datapath.Acquire.ID; 0: no packet waits
	flow ts.Flow         // with id: the packet's
	want latch.Want      // what its socket demands
	esp  []wire.Proposal // conf's proposals of the suites in want; nil: all
	pair ts.Pair

	ahead  *acquire   // whose child SA is waited for; nil: its own
	behind []*acquire // those that wait for this one's

	done     chan<- error // takes one answer without blocking; nil: nobody asks
	replaces *succession  // it makes what another IKE SA has
	keep     bool         // the configuration wants it up: silence is no reason to give up
	alone    bool         // the IKE SA without a child SA is wanted
	spi      uint32       // ours, reserved for it; 0: not asked for yet
}

// matters tells whether anybody misses the acquire if it is forgotten.
func (a *acquire) matters() bool {
	return a.id != 0 || a.done != nil || a.keep || len(a.behind) > 0
}

// acquire asks for a child SA for a packet. It runs on the keyer's goroutine.
func (k *keyer) acquire(now time.Time, a datapath.Acquire) {
	cc := k.confs[a.Policy.Child]
	if cc == nil {
		k.dp.FailAcquire(a.ID, fmt.Errorf("engine: policy %s names no child", a.Policy.Name), true)
		return
	}
	if cc.Passive && !k.trapped[cc] {
		// As lost, not refused: a packet that comes again may find the peer's.
		k.dp.FailAcquire(a.ID, fmt.Errorf("engine: child %s is the peer's to set up", cc.Name), false)
		return
	}
	var esp []wire.Proposal
	if len(a.Want.Suites) > 0 {
		if esp = onlySuites(cc.ESP, a.Want.Suites); len(esp) == 0 {
			k.unsuited(now, Event{Connection: cc.Conn.Name, Child: EventChild{Name: cc.Name}}, a.ID, a.Flow,
				&SuiteError{Child: cc.Name, Wanted: a.Want.Suites, Allowed: cc.suites})
			return
		}
	}
	k.request(now, &acquire{ref: k.ref(), conf: cc, id: a.ID, flow: a.Flow, want: a.Want, esp: esp, pair: a.Pair})
}

// request puts the acquire to an IKE SA with the peer, making one if need be. A child SA may
// have come while a packet's was on its way here.
func (k *keyer) request(now time.Time, a *acquire) {
	if a.id != 0 && !k.dp.Waiting(a.id) {
		for _, b := range a.behind {
			k.again(b)
		}
		k.done(now, a)
		return
	}
	k.acquires[a.ref] = a
	for s := range k.preferred(a) {
		if s.lasting() && s.reaches(a) {
			switch {
			case a.alone && s.est != nil:
				k.done(now, a)
			case a.alone, s.brings(a):
				s.waiting = append(s.waiting, a.ref)
			case !k.join(s, a):
				k.createChild(now, s, a)
			}
			return
		}
	}
	if len(a.conf.Conn.Remotes) == 0 {
		k.failAcquire(now, a.ref, fmt.Errorf("engine: connection %s: %s has not come to us, and we do not know where it is", a.conf.Conn.Name, a.pair.Remote))
		return
	}
	k.initiate(now, a.conf.Conn, 0, []*acquire{a})
}

// join lets an acquire wait for the child SA that another one has asked s for, if that is
// likely to do for both. If it does not, k.again asks for another.
func (k *keyer) join(s *ikeSA, a *acquire) bool {
	for _, ref := range s.waiting {
		if o := k.acquires[ref]; o != nil && o.serves(a) {
			for _, b := range append(a.behind, a) {
				b.ahead, o.behind = o, append(o.behind, b)
			}
			a.behind = nil
			return true
		}
	}
	return false
}

// serves tells whether a child SA over what a asks for would do for b: the packets of two
// hosts behind a gateway want the same, and where no packet waits any child SA of that name
// will do.
func (a *acquire) serves(b *acquire) bool {
	switch {
	case a.alone || a.conf != b.conf:
		return false
	case a.want.NeedsNarrow() || b.want.NeedsNarrow(): // but what the data path repeats
		return slices.Equal(a.want.Suites, b.want.Suites) && a.pair.Equal(b.pair)
	case b.id != 0:
		return a.pair.MatchOut(b.flow)
	}
	return b.replaces == nil || a.pair.Covers(b.pair)
}

// brings tells whether the SA is about to have a child SA that is likely to do for a packet:
// the peer makes one with it.
func (s *ikeSA) brings(a *acquire) bool { return a.id != 0 && !s.initiator && s.est == nil }

// lasting tells whether more may be made on the SA: it is not on its way out.
func (s *ikeSA) lasting() bool {
	return s.err == nil && !s.deleted && s.m.State() != ike.StateDeleting // of an SA that has expired
}

// again asks once more for what another one's child SA was to do for.
func (k *keyer) again(a *acquire) {
	a.ahead = nil
	k.mail.post(func(now time.Time) { k.request(now, a) })
}

// reaches tells whether the SA's peer may own what the acquire wants. Before the peer is
// known only the connection tells.
func (s *ikeSA) reaches(a *acquire) bool {
	if s.peer == nil {
		return s.initiator
	}
	return s.peer.remote(a.conf).Overlaps(a.pair.Remote)
}

func (k *keyer) createChild(now time.Time, s *ikeSA, a *acquire) {
	req, err := k.childRequest(a)
	if err != nil {
		k.failAcquire(now, a.ref, err)
		return
	}
	s.waiting = append(s.waiting, a.ref)
	s.m.CreateChild(now, *req)
	k.drain(now, s)
}

func (k *keyer) childRequest(a *acquire) (*ike.ChildRequest, error) {
	spi, err := k.dp.ReserveSPI()
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	a.spi = spi
	req := &ike.ChildRequest{
		Name: a.conf.Name, Ref: a.ref, SPI: spi, Proposals: a.proposals(), Pair: a.pair, Transport: a.conf.Transport,
		Terms: a.conf.Terms,
	}
	if a.id != 0 {
		req.Packet = a.flow
	}
	return req, nil
}

func (a *acquire) proposals() []wire.Proposal {
	if a.esp != nil {
		return a.esp
	}
	return a.conf.ESP
}

// initiate starts an IKE SA with one of the connection's addresses. The first acquire
// rides in IKE_AUTH. Host names are resolved beside the keyer's goroutine.
func (k *keyer) initiate(now time.Time, c *Conn, remote int, as []*acquire) {
	apart := as[0].replaces != nil // beside an IKE SA that stands
	if first := k.lookups[c]; first != nil && !apart {
		k.lookups[c] = append(first, as...)
		return
	}
	r := c.Remotes[remote]
	if r.Host == "" {
		k.start(now, c, remote, netip.AddrPortFrom(r.Addr, r.Port), as)
		return
	}
	if !apart {
		k.lookups[c] = as
	}
	k.resolving.Go(func() {
		ctx, cancel := context.WithTimeout(k.ctx, resolveTimeout)
		defer cancel()
		// The outer address of a peer is configuration's business, like Listen: it is not
		// a name that an application dials.
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", r.Host)
		k.mail.post(func(now time.Time) {
			if !apart {
				as = k.lookups[c]
				delete(k.lookups, c)
			}
			switch {
			case err == nil && len(addrs) > 0:
				k.start(now, c, remote, netip.AddrPortFrom(addrs[0].Unmap(), r.Port), as)
			case remote+1 < len(c.Remotes) && !k.stopping:
				k.unknownHost(now, c, r.Host, err)
				k.initiate(now, c, remote+1, as)
			default:
				k.unknownHost(now, c, r.Host, err)
				for _, a := range as {
					k.failAcquire(now, a.ref, fmt.Errorf("engine: connection %s: unknown host %s: %w", c.Name, r.Host, err))
				}
			}
		})
	})
}

func (k *keyer) unknownHost(now time.Time, c *Conn, host string, err error) {
	k.report(now, Event{Kind: EventPeerAddrFailed, Connection: c.Name, Reason: "unknown host " + host, Err: err})
}

func (k *keyer) start(now time.Time, c *Conn, remote int, to netip.AddrPort, as []*acquire) {
	fail := func(err error) {
		for _, a := range as {
			k.failAcquire(now, a.ref, err)
		}
	}
	if k.stopping {
		fail(ErrClosed)
		return
	}
	as = slices.DeleteFunc(as, func(a *acquire) bool { return k.acquires[a.ref] != a })
	if len(as) == 0 {
		return // given up while the name was looked up
	}
	path := ike.Path{Remote: to}
	if locals := k.cfg.Wire.LocalAddr(to.Addr()); len(locals) > 0 {
		path.Local = pickLocal(locals, to.Port())
	}
	cfg := k.config(c)
	x := as[0].replaces
	if x != nil && !x.lost {
		// RFC 7296, Section 2.4: the SA that this one follows is still there.
		cfg.InitialContact = false
	}
	m, err := ike.NewInitiator(cfg, path, now)
	if err != nil {
		fail(fmt.Errorf("engine: connection %s: %w", c.Name, err))
		return
	}
	s := k.add(now, m, gate.Key{SPI: m.LocalSPI(), Initiator: true}, c, path)
	s.remote = remote
	s.succeeds(x)
	k.door.add(s.key)
	k.log.Debug("IKE SA initiated", "connection", c.Name, "path", path.String())
	var first *ike.ChildRequest
	for _, a := range as {
		if a.alone {
			s.waiting = append(s.waiting, a.ref)
			continue
		}
		if a.replaces == nil && k.join(s, a) {
			continue
		}
		req, err := k.childRequest(a)
		if err != nil {
			k.failAcquire(now, a.ref, err)
			continue
		}
		s.waiting = append(s.waiting, a.ref)
		if first == nil {
			first = req
			m.Start(now, first)
		} else {
			m.CreateChild(now, *req)
		}
	}
	if first == nil {
		m.Start(now, nil)
	}
	k.drain(now, s)
}

// pickLocal prefers port 500 towards port 500, and any other port towards any other: the
// two halves of the marker rule (RFC 3948, Section 2.2).
func pickLocal(locals []netip.AddrPort, remotePort uint16) netip.AddrPort {
	i := slices.IndexFunc(locals, func(a netip.AddrPort) bool { return (a.Port() == 500) == (remotePort == 500) })
	return locals[max(i, 0)]
}

// giveUp leaves an address that is silent for the peer's next one. Left to itself the
// machine would try the first for longer than anybody waits.
func (k *keyer) giveUp(now time.Time, s *ikeSA) {
	e := s.event(EventPeerInitUnreachable)
	e.Reason = s.tries.describe(now) + ", trying the next address"
	k.report(now, e)
	as := k.takeOver(s)
	if x := s.succeeding; x != nil {
		x.new, s.succeeding = nil, nil
	}
	s.deleted = true
	s.m.Delete(now)
	if len(as) > 0 && !k.stopping {
		k.initiate(now, s.conn, s.remote+1, as)
	}
}

// takeOver takes the acquires away from s, under new numbers: what becomes of the old ones
// concerns nobody.
func (k *keyer) takeOver(s *ikeSA) (as []*acquire) {
	for _, ref := range s.waiting {
		if a := k.acquires[ref]; a != nil {
			delete(k.acquires, ref)
			a.ref = k.ref()
			k.acquires[a.ref] = a
			as = append(as, a)
		}
	}
	s.waiting = nil
	return as
}

// failAcquire ends an acquire, and those behind it. What the peer said under the SA's keys,
// and what we decided ourselves, is final and fails a pending Dial; silence and what
// anybody could have sent is loss (RFC 5660, Section 2: LATCH-13).
func (k *keyer) failAcquire(now time.Time, ref uint64, err error) {
	a := k.acquires[ref]
	if a == nil {
		return
	}
	delete(k.acquires, ref)
	a.tell(err)
	if a.keep {
		k.retry(a.conf, now)
	}
	if x := a.replaces; x != nil {
		x.refused = append(x.refused, a)
		k.mail.post(func(now time.Time) { k.succeeded(now, x) })
	}
	if a.id != 0 {
		k.dp.FailAcquire(a.id, err, final(err))
	}
	for _, b := range a.behind {
		k.failAcquire(now, b.ref, err)
	}
}

// done ends an acquire that got what it wants.
func (k *keyer) done(now time.Time, a *acquire) {
	delete(k.acquires, a.ref)
	a.tell(nil)
	if !a.alone {
		delete(k.wanted, a.conf)
	}
	k.succeeded(now, a.replaces)
}

// tell answers who asked by name.
func (a *acquire) tell(err error) {
	if a.done != nil {
		a.done <- err
	}
}

// final tells whether an error ends what waits for an SA at once: our own, and a refusal that
// came protected, which nobody sent but who answered our IKE_SA_INIT. What anybody could have
// sent is loss (RFC 5660, Section 2), and so are silence and goodbyes.
func final(err error) bool {
	var silent *ike.TimeoutError
	var gone *ike.PeerClosedError
	if errors.As(err, &silent) || errors.As(err, &gone) {
		return false // a peer that says goodbye refuses nothing: the next packet asks again
	}
	var refusal *ike.NotifyError
	if errors.As(err, &refusal) {
		return refusal.Verified || !refusal.Remote
	}
	return true
}

// config is what machines of a connection are made with.
func (k *keyer) config(c *Conn) *ike.Config {
	cfg := &ike.Config{
		Name: c.Name, Proposals: c.IKE, Local: c.Local.local(), RemoteID: c.RemoteID,
		HashAlgs: k.hashes, ForceEncap: !c.NativeESP, InitialContact: c.greets(),
		Childless: c.Childless, Fragments: c.Fragments, FragmentSize: c.FragmentSize,
		DPDDelay: c.DPDDelay, DPDTimeout: c.DPDTimeout,
		Retransmit: ike.Retransmit{Max: longestWait}, Life: c.Life, Heirs: true, Rand: rand.Reader, Counters: &k.counters, KeyLog: k.cfg.KeyLog != nil, Log: k.log,
	}
	if c.PSK.Empty() {
		cfg.CertRequest = []wire.CertEncoding{wire.CertRawPublicKey}
	}
	return cfg
}

// explain says what stands between a flow and its SA right now, nil if nothing does.
func (k *keyer) explain(now time.Time, f ts.Flow) error {
	for _, a := range k.acquires {
		if a.pair.MatchOut(f) {
			return k.standing(now, a)
		}
	}
	return nil
}

// standing says what became of an acquire so far.
func (k *keyer) standing(now time.Time, a *acquire) error {
	if a.ahead != nil {
		a = a.ahead
	}
	for s := range k.roster.ofConn(a.conf.Conn) {
		if slices.Contains(s.waiting, a.ref) && s.tries.sends > 0 {
			err := fmt.Errorf("connection %s: %s", a.conf.Conn.Name, s.tries.describe(now))
			if s.claimed != nil {
				err = fmt.Errorf("%w; somebody who did not authenticate says: %w", err, s.claimed)
			}
			return err
		}
	}
	return fmt.Errorf("connection %s: its child SA %s is not up yet", a.conf.Conn.Name, a.conf.Name)
}
