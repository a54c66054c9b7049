package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/tun"
)

func (p *Path) installInbound(c *Child, key esp.Key) error {
	if c.Peer == nil || c.Params == nil {
		return errors.New("datapath: child without peer or parameters")
	}
	if len(c.Pair.Local) == 0 || len(c.Pair.Remote) == 0 {
		return errors.New("datapath: child without selectors")
	}
	if c.Mode == esp.ModeTransport {
		if !c.Local.IsValid() {
			c.Local = oneAddr(c.Pair.Local)
		}
		if !c.Remote.IsValid() {
			c.Remote = oneAddr(c.Pair.Remote)
		}
		if !c.Local.IsValid() || !c.Remote.IsValid() || c.Local.Is4() != c.Remote.Is4() {
			return fmt.Errorf("datapath: transport mode between %v: not one address on each side", c.Pair)
		}
	}
	in, err := esp.NewInbound(esp.Config{SPI: c.InSPI, Suite: c.Suite, Key: key, Mode: c.Mode, ESN: c.ESN,
		ReplayWindow: c.ReplayWindow})
	if err != nil {
		return fmt.Errorf("datapath: child %q: %w", c.Name, err)
	}
	// What comes from here on waits for what came before.
	c.gate.Lock()
	defer c.gate.Unlock()
	if err := p.enter(c, in); err != nil {
		in.Zero()
		return err
	}
	p.arrived(c)
	return nil
}

// enter makes c findable.
func (p *Path) enter(c *Child, in *esp.Inbound) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return net.ErrClosed
	}
	if c.in != nil {
		return errors.New("datapath: child is installed already")
	}
	c.in, c.since = in, p.coarse()
	c.Limits = c.Limits.numbered(c.ESN)
	c.tag.V = c
	c.narrow, _ = oneFlow(c.Pair)
	if !c.narrow.IsValid() {
		c.suites = c.Suites
	}
	c.verify = c.VerifyInner || c.Mode == esp.ModeTunnel && !oneAddr(c.Pair.Remote).IsValid()
	c.path.Store(&pathState{path: c.Path})
	if err := p.sad.Install(c.InSPI, c); err != nil {
		c.in = nil
		return fmt.Errorf("datapath: child %q: %w", c.Name, err)
	}
	// Conflicting sees the child from here on (RFC 5660, Section 2.3).
	p.index.add(c)
	return nil
}

// oneAddr returns the only address of s, the zero Addr if there are more.
func oneAddr(s ts.Set) netip.Addr {
	var a netip.Addr
	for _, x := range s {
		if x.First != x.Last || a.IsValid() && a != x.First {
			return netip.Addr{}
		}
		a = x.First
	}
	return a
}

func (p *Path) installOutbound(c *Child, spi uint32, key esp.Key) error {
	sa, err := esp.NewOutbound(esp.Config{SPI: spi, Suite: c.Suite, Key: key, Mode: c.Mode, ESN: c.ESN, Rand: p.cfg.Rand})
	if err != nil {
		return fmt.Errorf("datapath: child %q: %w", c.Name, err)
	}
	o := &outboundSA{child: c, sa: sa, spi: spi, mode: c.Mode}
	p.mu.Lock()
	switch {
	case p.closed.Load() || c.gone.Load():
		err = net.ErrClosed
	case c.in == nil:
		err = fmt.Errorf("datapath: child %q sends before it receives", c.Name)
	case c.out.Load() != nil:
		err = fmt.Errorf("datapath: child %q sends already", c.Name)
	}
	if err != nil {
		p.mu.Unlock()
		sa.Zero()
		return err
	}
	if !c.Spare {
		p.serial++
		c.serial.Store(p.serial)
	}
	c.path.Store(p.stateFor(o, c.CurrentPath()))
	c.out.Store(o)
	p.epoch.Add(1)
	p.mu.Unlock()
	p.log.Debug("child sends", "child", c.Name, "in_spi", c.InSPI, "out_spi", spi, "peer", c.Peer.ID)
	p.served(c)
	return nil
}

// prefer puts a child before those that came later.
func (p *Path) prefer(inSPI uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.sad.Lookup(inSPI); c != nil && c.out.Load() != nil {
		p.serial++
		c.serial.Store(p.serial)
		p.epoch.Add(1)
	}
}

// stateFor returns what sending over path needs.
func (p *Path) stateFor(o *outboundSA, path tun.Path) *pathState {
	st := &pathState{path: path}
	if path.Remote.IsValid() {
		st.limit4, st.limit6 = p.limit(o, path, false), p.limit(o, path, true)
	}
	return st
}

func (p *Path) setPath(c *Child, path tun.Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.told.Store(nil)
	if o := c.out.Load(); o != nil {
		c.path.Store(p.stateFor(o, path))
	} else {
		c.path.Store(&pathState{path: path})
	}
}

func (p *Path) remove(inSPI uint32) *Child {
	p.mu.Lock()
	c := p.sad.Remove(inSPI, p.now())
	if c == nil {
		p.mu.Unlock()
		return nil
	}
	c.gone.Store(true)
	c.shut.Store(true)
	p.index.remove(c)
	p.unretire(c)
	p.epoch.Add(1)
	p.mu.Unlock()

	// Without p.mu: whoever holds the gate or the send lock may be on its way to it.
	c.mute()
	if c.out.Load() == nil && c.heardAny.Load() { // see arriving
		p.wake(p.held.TakeMatch(func(f ts.Flow, _ heldPacket) bool { return c.Pair.MatchOut(f) }), false)
	}
	c.gate.Lock()
	c.closed = true
	c.gate.Unlock()
	c.in.Zero()
	p.count.dropN(DropFragmentTime, c.reasm.close(p))
	p.log.Debug("child removed", "child", c.Name, "in_spi", c.InSPI, "peer", c.Peer.ID)
	return c
}

func (p *Path) children(f func(*Child) bool) {
	p.sad.Range(func(_ uint32, c *Child) bool { return c.gone.Load() || f(c) })
}

// conflicting: see Path.Conflicting. Another suite alone is no conflict: a narrow SA beside a wide one is what RFC 5660,
// Section 2.1 wants for a flow that names its suite, and Permits keeps the flow off the wide one.
func (p *Path) conflicting(f ts.Flow, params *latch.Params) bool {
	return p.index.best(f, func(c *Child) bool {
		return !c.gone.Load() && !latch.Congruent(params, c.Params, []string{c.Params.Suite})
	}) != nil
}

// keeps reports whether db lets a latched flow go on: it is to be protected, in the mode that is latched, and by a peer such
// as the one that it has SAs with. While there is no SA, who the policy's peer is shows when there is one.
func (p *Path) keeps(db *spd.DB, f ts.Flow, params *latch.Params) bool {
	pol := db.Lookup(true, f)
	if pol == nil || !pol.Word.AllowsSA() || pol.Mode != spd.ModeUnset && uint8(pol.Mode) != params.Mode {
		return false
	}
	congruent := func(c *Child) bool { return latch.Congruent(params, c.Params, []string{c.Params.Suite}) }
	return p.index.best(f, func(c *Child) bool { return congruent(c) && agrees(pol, c) }) != nil || p.index.best(f, congruent) == nil
}

func (p *Path) setPolicy(db *spd.DB) {
	if db == nil {
		db = p.nothing
	}
	p.policyMu.Lock()
	defer p.policyMu.Unlock()
	keeps := func(f ts.Flow, params *latch.Params) bool { return p.keeps(db, f, params) }
	// Before, so that nothing passes under the new policy that it would break; after, for those born between (RFC 5660,
	// Section 2.3).
	p.cfg.Latches.Judge(keeps, "policy changed").Deliver()
	p.policy.Store(db)
	p.epoch.Add(1)
	p.cfg.Latches.Judge(keeps, "policy changed").Deliver()

	// What failed or waits is judged anew.
	p.requests.takeMatch(func(*request) bool { return true })
	p.backoff.Reset()
	p.wake(p.held.TakeMatch(func(ts.Flow, heldPacket) bool { return true }), false)
}

func (p *Path) installManual(pol *spd.Policy) (*Child, error) {
	m := pol.Manual
	if m == nil {
		return nil, fmt.Errorf("datapath: policy %q is not keyed by hand", pol.Name)
	}
	if err := m.Check(p.cfg.AllowManualAEAD); err != nil {
		return nil, fmt.Errorf("datapath: policy %q: %w", pol.Name, err)
	}
	suite, err := esp.ParseSuite(m.Suite)
	if err != nil {
		return nil, fmt.Errorf("datapath: policy %q: %w", pol.Name, err)
	}
	local, remote := m.Local.Unmap(), m.Remote.Unmap()
	prot := latch.Integrity
	if suite.Confidential() {
		prot |= latch.Confidentiality
	}
	c := &Child{
		Name: pol.Child, InSPI: m.InSPI, Suite: suite, Mode: esp.Mode(m.Mode), ESN: m.ESN, ReplayWindow: m.ReplayWindow,
		Pair: pol.Sel, Local: oneAddr(pol.Sel.Local), Remote: oneAddr(pol.Sel.Remote),
		Path: tun.Path{Local: netip.AddrPortFrom(local, 0), Remote: netip.AddrPortFrom(remote, 0)},
		// Without an identity the address is all that a latch can hold on to.
		Params: &latch.Params{Peer: "manual:" + remote.String(), Local: "manual:" + local.String(), Protection: prot,
			Mode: uint8(m.Mode), Suite: suite.String(), Replay: true},
		Peer: &Peer{Name: pol.Peer, ID: "manual:" + remote.String(), LocalID: "manual:" + local.String(), Method: "manual"},
	}
	if c.Mode == esp.ModeTransport {
		c.Local, c.Remote = local, remote
	}
	if err := p.installInbound(c, esp.Key(m.InKey)); err != nil {
		return nil, err
	}
	if err := p.installOutbound(c, m.OutSPI, esp.Key(m.OutKey)); err != nil {
		p.remove(c.InSPI)
		return nil, err
	}
	return c, nil
}
