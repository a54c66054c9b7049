package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// decide answers whether a peer gets the child SA it asks for. It reads one snapshot of
// everything, and breaks the latches that stand against an authenticated peer before it
// says yes (RFC 5660, Section 2.3).
func (k *keyer) decide(now time.Time, s *ikeSA, w *ike.WorkDecide) {
	if s.yields { // it will be gone in a moment, whatever comes to it now
		s.m.Complete(now, w.ID, refused(wire.NotifyTemporaryFailure))
		return
	}
	r, err := k.judge(now, w)
	if err != nil {
		r.Err = err
		k.refusedChild(now, s, w, r)
	} else if granted := r.Pair; !granted.Covers(w.Pair) {
		e := s.event(EventTSNarrowed)
		e.Child.Name = r.Name
		e.Child.selectors(granted)
		e.Offers.Peer = []string{w.Pair.String()}
		k.report(now, e)
	}
	s.m.Complete(now, w.ID, r)
}

// refusedChild reports a child SA that a peer does not get.
func (k *keyer) refusedChild(now time.Time, s *ikeSA, w *ike.WorkDecide, r *ike.DecideResult) {
	exchange := wire.ExchangeCreateChildSA
	if w.First {
		exchange = wire.ExchangeIKEAuth
	}
	name := r.Name
	if p, _ := w.Peer.(*peer); p != nil && name == "" && len(p.conn.Children) == 1 {
		name = p.conn.Children[0].Name
	}
	k.childFails(now, s, name, nil, &ike.NotifyError{Type: r.Refuse, Peer: s.name(), Exchange: exchange, Err: r.Err})
	if w.First {
		k.kept(now, s, name)
	}
}

func (k *keyer) judge(now time.Time, w *ike.WorkDecide) (*ike.DecideResult, error) {
	p, _ := w.Peer.(*peer)
	if p == nil {
		return refused(wire.NotifyAuthenticationFailed), errors.New("no authenticated peer")
	}
	if w.First && p.conn.Childless == ike.ChildlessForce {
		return refused(wire.NotifyNoAdditionalSAs), fmt.Errorf("connection %s takes child SAs after IKE_AUTH only (RFC 6023)", p.conn.Name)
	}
	if err := k.childRoom(p); err != nil {
		return refused(wire.NotifyNoAdditionalSAs), err
	}
	own := p.mayOwn()
	asked := ts.Pair{Local: w.Pair.Local, Remote: w.Pair.Remote.Intersect(own)}
	first := w.Pair.Leading()
	q := spd.Query{Pair: asked, First: first, Peer: p.canonical, ByID: p.entry.ByID, BTNS: p.data.Anonymous}
	again := "" // rekeyed is what there is, whatever other child overlaps it
	if s := k.byChild[w.Rekey]; s != nil {
		again = s.children[w.Rekey].Name
	}
	var why error
	no := refused(wire.NotifyTSUnacceptable)
	for policy, pair := range k.dp.Policy().Select(q) {
		cc := k.confs[policy.Child]
		if cc == nil || cc.Conn != p.conn || again != "" && cc.Name != again {
			continue
		}
		if !first.Empty() {
			// The packet has said which policy is meant; it is no part of the child SA.
			pair = ts.Pair{Local: pair.Local.Normalize(), Remote: pair.Remote.Normalize()}
		}
		r, err := k.fit(now, p, cc, pair, w)
		if err == nil {
			return r, nil
		}
		if why == nil {
			why, no = err, r // of the first child whose selectors fit
			no.Name = cc.Name
		}
	}
	if why == nil {
		why = selectorError(p, w.Pair)
	}
	return no, why
}

func refused(t wire.NotifyType) *ike.DecideResult { return &ike.DecideResult{Refuse: t} }

// fit says whether the peer gets child cc over pair, which the PAD and the SPD have
// narrowed (RFC 7296, Section 2.9).
func (k *keyer) fit(now time.Time, p *peer, cc *ChildConf, pair ts.Pair, w *ike.WorkDecide) (*ike.DecideResult, error) {
	if cc.Transport && !w.Transport {
		return refused(wire.NotifyNoProposalChosen), &ModeError{p.canonical, cc.Name}
	}
	ours := cc.ESP
	if s := k.byChild[w.Rekey]; s != nil {
		ours = cc.again(s.children[w.Rekey])
	}
	if w.First {
		ours = suite.WithoutKE(ours) // RFC 7296, Section 1.2: IKE_AUTH has no key exchange of its own
	}
	es, _, chosen, mismatch := suite.ChooseESP(w.Proposals, ours)
	if mismatch != nil {
		return refused(wire.NotifyNoProposalChosen), mismatch
	}
	mode := esp.ModeTunnel
	if cc.Transport {
		mode = esp.ModeTransport
	}
	pair, err := k.clear(now, p, pair, params(p, es, mode))
	if err != nil {
		return refused(wire.NotifyTSUnacceptable), err
	}
	spi, err := k.dp.ReserveSPI()
	if err != nil {
		return refused(wire.NotifyNoAdditionalSAs), err
	}
	return &ike.DecideResult{
		SPI: spi, Pair: pair, Chosen: chosen, Suite: es,
		Transport: cc.Transport, Name: cc.Name, Terms: cc.Terms,
		MoreTS: !pair.Covers(w.Pair) && len(w.Pair.Local.Normalize())+len(w.Pair.Remote.Normalize()) > 2,
	}, nil
}

// clear makes way for a child SA of p over pair, or says who stands in it. What it
// returns is narrowed around latches where that is possible (LATCH-26).
func (k *keyer) clear(now time.Time, p *peer, pair ts.Pair, params *latch.Params) (ts.Pair, error) {
	if p.data.Anonymous {
		// Nobody vouches for this peer: it never takes over what somebody else holds.
		if other := k.holders.other(pair.Remote, p.canonical); other != "" {
			return pair, &TakenError{p.canonical, pair.Remote.String(), other}
		}
	}
	// Another suite alone is no conflict: a narrow SA beside a wide one is what a flow that
	// names its suite gets (RFC 5660, Section 2.1), and its latch keeps it off the wide one.
	conflicts := slices.DeleteFunc(k.latches.Conflicts(pair, *params), func(l *latch.Latch) bool {
		return latch.Congruent(l.Params(), params, []string{params.Suite})
	})
	if len(conflicts) == 0 {
		return pair, nil
	}
	if p.data.Anonymous {
		return pair, &TakenError{Peer: p.canonical, Wanted: conflicts[0].Flow().String()}
	}
	pair, conflicts = latch.NarrowAround(pair, conflicts)
	for _, l := range conflicts {
		k.alerts(now, k.latches.Break(l, latch.ReasonConflict, p.canonical+" was authenticated for this flow"))
	}
	return pair, nil
}

// params is what a latch on such a child SA binds a flow to (RFC 5660, Section 2).
func params(p *peer, s suite.ESP, mode esp.Mode) *latch.Params {
	es := espSuite(s)
	prot := latch.Integrity
	if es.Confidential() {
		prot |= latch.Confidentiality
	}
	return &latch.Params{
		Peer: p.canonical, Local: p.data.LocalID,
		Protection: prot, Mode: uint8(mode), Suite: es.String(), Replay: true,
	}
}

func espSuite(s suite.ESP) esp.Suite {
	return esp.Suite{Encr: s.Encr, KeyBits: s.KeyBits, Integ: s.Integ}
}

// install carries out the two halves of a new child SA.
func (k *keyer) installInbound(now time.Time, s *ikeSA, o *ike.ChildInbound) {
	mode := esp.ModeTunnel
	if o.Transport {
		mode = esp.ModeTransport
	}
	c := &datapath.Child{
		Name: o.Name, InSPI: o.InSPI, Suite: espSuite(o.Suite), Mode: mode, ESN: o.Suite.ESN,
		Pair: o.Pair, Params: s.intern(params(s.peer, o.Suite, mode)), Peer: s.peer.data,
		Path: espPath(o.Encap, o.Path), V: s.peer,
		Limits: datapath.SALimits(o.Limits),
	}
	c.Spare = !o.Initiator && k.spare(s, c)
	if cc := k.confs[o.Name]; cc != nil {
		c.Suites, c.ReplayWindow = cc.suites, cc.ReplayWindow
	}
	if o.Transport {
		c.Local, c.Remote = soleAddr(o.Pair.Local), soleAddr(o.Pair.Remote)
	}
	err := k.dp.InstallInbound(c, esp.Key(o.Key))
	o.Key.Zero()
	if err != nil {
		k.dp.ReleaseSPI(o.InSPI)
		k.uninstalled(now, s, &o.Child, err)
		return
	}
	s.children[o.InSPI] = c
	k.byChild[o.InSPI] = s
	k.holders.add(c)
	k.occupy(c, 1)
}

func (k *keyer) installOutbound(now time.Time, s *ikeSA, o *ike.ChildOutbound) {
	defer o.Key.Zero()
	c := s.children[o.InSPI]
	if c == nil {
		return
	}
	if err := k.dp.InstallOutbound(c, o.OutSPI, esp.Key(o.Key)); err != nil {
		k.uninstalled(now, s, &o.Child, err)
		return
	}
	k.byOut[o.OutSPI] = o.InSPI
	e := s.childEvent(EventChildUpDown, c)
	if e.Up = true; o.Replaces != 0 {
		e.Kind, e.Up, e.Child.OldSPIIn = EventChildRekey, false, tokens.SPI(o.Replaces)
	}
	k.report(now, e)
	if a := k.acquires[o.Ref]; a != nil && !o.Pair.Covers(a.pair) {
		e := s.childEvent(EventTSNarrowed, c)
		e.Offers.Ours = []string{a.pair.String()}
		k.report(now, e)
	}
	k.answered(now, s, o.Ref, c)
	if s.yields {
		s.m.DeleteChild(now, o.InSPI) // we had asked for it before; drain, which called us, carries it out
	}
}

// uninstalled gives up a child SA of which a half could not be installed. Its SPI is reserved
// and its suite one that we can do, so there is a bug here; but the SA must not stand with one
// direction only, nor at the peer alone.
func (k *keyer) uninstalled(now time.Time, s *ikeSA, c *ike.Child, err error) {
	k.childFailed(now, s, &ike.ChildFailed{Ref: c.Ref, Name: c.Name, Err: err})
	s.m.DeleteChild(now, c.InSPI) // drain, which called us, carries it out
}

// answered ends the acquire that child c came for, and those behind it that it serves. A
// packet that the peer's narrowing left out, or whose socket demands more, would wait for
// ever: its dial is told, and a child that repeats another one is given back.
func (k *keyer) answered(now time.Time, s *ikeSA, ref uint64, c *datapath.Child) {
	a := k.acquires[ref]
	delete(k.acquires, ref)
	s.settle(ref)
	if a == nil {
		return
	}
	k.done(now, a)
	k.watch(now, s)
	helps := false
	for _, b := range a.behind {
		if b.id != 0 && k.dp.Waiting(b.id) {
			k.again(b)
			continue
		}
		helps = true
		k.done(now, b)
	}
	if a.id == 0 {
		return
	}
	if c.Pair.MatchOut(a.flow) {
		if k.dp.Waiting(a.id) { // the child has not served it
			err := a.want.Check(c.Params)
			if err == nil {
				err = errWide
			}
			k.unsuited(now, s.childEvent(EventUnknown, c), a.id, a.flow,
				fmt.Errorf("engine: the socket does not accept child SA %s with %s: %w", c.Name, s.name(), err))
		}
		return
	}
	err := fmt.Errorf("engine: %s narrowed child SA %s to %s, which leaves out %s", s.name(), c.Name, c.Pair, a.flow)
	k.dp.FailAcquire(a.id, err, true)
	if helps {
		return
	}
	e := s.childEvent(EventTSMismatch, c)
	e.Err, e.Offers = err, Offers{Peer: []string{c.Pair.String()}, Ours: []string{a.pair.String()}, First: "packet: " + a.flow.String()}
	k.report(now, e)
	for _, other := range s.children {
		if other != c && other.Name == c.Name && other.OutSPI() != 0 && other.Pair.Covers(c.Pair) {
			s.m.DeleteChild(now, c.InSPI) // drain, which called us, carries it out
			return
		}
	}
}
