package engine

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

// A pair is two hosts that know each other and where they are. IKE SAs are compared only when
// a test says so.
type pair struct {
	t    *testing.T
	n    *tuntest.Net
	hold bool
	a, b *Engine
}

// newPair starts both; each has a child SA for TCP and one for UDP.
func newPair(t *testing.T, hold bool, more ...func(c *Conn)) *pair {
	t.Helper()
	p := &pair{t: t, n: tuntest.NewNet(tuntest.Faults{}), hold: hold}
	a, b := known(t, p.n)
	b.remotes = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4500")}
	p.a, p.b = startWithTwo(t, a, b.addr, more...), startWithTwo(t, b, a.addr, more...)
	return p
}

// startWithTwo runs a host that has a child for TCP and one for UDP with one peer.
func startWithTwo(t *testing.T, h *testHost, to netip.Addr, more ...func(c *Conn)) *Engine {
	t.Helper()
	cfg := h.config(t)
	c := cfg.Conns[0]
	c.Children = []*ChildConf{c.Children[0], {}}
	var policies []spd.Policy
	for i, proto := range []uint8{ts.ProtoTCP, ts.ProtoUDP} {
		sel := ts.Pair{Local: ts.Set{ts.FromAddr(h.addr)}, Remote: ts.Set{ts.FromAddr(to)}}
		sel.Local[0].Proto, sel.Remote[0].Proto = proto, proto
		name := []string{"tcp", "udp"}[i]
		*c.Children[i] = ChildConf{Name: name, Conn: c, ESP: c.Children[0].ESP, Pair: sel}
		policies = append(policies, spd.Policy{Name: name, Child: name, Word: spd.Private, Mode: spd.ModeTunnel, Sel: sel})
	}
	var err error
	if cfg.Policy, err = spd.New(policies); err != nil {
		t.Fatal(err)
	}
	for _, f := range more {
		f(c)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	echo(t, e)
	return e
}

// initiate has a host make one more IKE SA with a child SA, whatever there is, and returns
// the initiator's SPI once both ends have it.
func (p *pair) initiate(e *Engine, child string) uint64 {
	p.t.Helper()
	before := map[uint64]bool{}
	for _, s := range p.list(e) {
		before[s.est.SPIi] = true
	}
	e.ask(func(now time.Time) {
		cc := e.k.confs[child]
		a := &acquire{ref: e.k.ref(), conf: cc, pair: cc.Pair}
		e.k.acquires[a.ref] = a
		e.k.initiate(now, cc.Conn, 0, []*acquire{a})
	})
	var made uint64
	eventually(p.t, "an IKE SA with a child at both ends", func() bool {
		for _, s := range p.list(e) {
			if !before[s.est.SPIi] {
				made = s.est.SPIi
			}
		}
		x, y := p.find(p.a, made), p.find(p.b, made)
		up := 0
		for i, s := range []*ikeSA{x, y} {
			[]*Engine{p.a, p.b}[i].ask(func(time.Time) {
				if s != nil && len(s.children) == 1 && len(s.waiting) == 0 {
					up++
				}
			})
		}
		return up == 2
	})
	return made
}

// held is when IKE SAs are compared that the test compares.
var held = time.Unix(1<<40, 0)

// list are a host's established IKE SAs. If the test says when they are compared, they are not.
func (p *pair) list(e *Engine) (out []*ikeSA) {
	e.ask(func(time.Time) {
		for _, s := range e.k.sas {
			if s.est != nil && s.until.IsZero() && !s.rekeyed {
				if p.hold {
					s.looks = held
				} else if s.looks.Equal(held) {
					s.looks = time.Time{}
				}
				out = append(out, s)
			}
		}
	})
	return out
}

// find is a host's IKE SA with the initiator's SPI, nil if it has none.
func (p *pair) find(e *Engine, spi uint64) *ikeSA {
	for _, s := range p.list(e) {
		if s.est.SPIi == spi {
			return s
		}
	}
	return nil
}

// other is the initiator's SPI of the IKE SA that both ends have beside x, when they have it.
func (p *pair) other(x uint64) (y uint64) {
	p.t.Helper()
	eventually(p.t, "another one", func() bool {
		for _, s := range p.list(p.a) {
			if s.est.SPIi != x {
				y = s.est.SPIi
			}
		}
		return y != 0 && p.find(p.b, y) != nil
	})
	return y
}

// sort gives IKE SAs SPIs in that order: the first one is the one to go.
func (p *pair) sort(spis ...uint64) {
	for _, e := range []*Engine{p.a, p.b} {
		for i, spi := range spis {
			s := p.find(e, spi)
			e.ask(func(time.Time) { s.born.spis = [2]uint64{uint64(i + 1), 1 << 63} })
		}
	}
}

// look has a host compare an IKE SA with the others, as if time had passed, once it has heard
// of all of them.
func (p *pair) look(e *Engine, after time.Duration) {
	for _, s := range p.list(e) {
		e.ask(func(now time.Time) { e.k.look(now.Add(after), s) })
	}
}

// age has it be as if a host's IKE SAs had come up that much earlier.
func (p *pair) age(e *Engine, by time.Duration) {
	for _, s := range p.list(e) {
		e.ask(func(time.Time) { s.born.at = s.born.at.Add(-by) })
	}
}

// hear has both ends hear of every IKE SA.
func (p *pair) hear() {
	p.t.Helper()
	for _, e := range []*Engine{p.a, p.b} {
		start := time.Now()
		for _, s := range p.list(e) {
			e.ask(func(now time.Time) { s.m.CheckLiveness(now); e.k.drain(now, s) })
		}
		for _, s := range p.list(e) {
			eventually(p.t, "heard of", func() (ok bool) {
				e.ask(func(time.Time) { ok = s.m.LastHeard().After(start) })
				return ok
			})
		}
	}
}

// only lets nothing through but these exchanges.
func (p *pair) only(exchanges ...wire.ExchangeType) {
	p.n.SetFaults(tuntest.Faults{Drop: 1, Spare: func(payload []byte) bool {
		h, err := wire.ParseHeader(payload[min(tun.MarkerLen, len(payload)):])
		return err == nil && slices.Contains(exchanges, h.Exchange)
	}})
}

// onlyOne waits until both ends have that IKE SA, with child SAs of these names, and no other.
func (p *pair) onlyOne(spi uint64, children ...string) {
	p.t.Helper()
	p.hold = false
	slices.Sort(children)
	var got [2]string
	one := func() bool {
		for i, e := range []*Engine{p.a, p.b} {
			var have []string
			list := p.list(e)
			e.ask(func(time.Time) {
				for _, s := range list {
					for _, c := range s.children {
						have = append(have, c.Name)
					}
				}
			})
			slices.Sort(have)
			if got[i] = strings.Join(have, " "); len(list) != 1 || list[0].est.SPIi != spi || !slices.Equal(have, children) {
				return false
			}
		}
		return true
	}
	eventually(p.t, "one IKE SA", one)
}

func (p *pair) dial(from, to *Engine) *netstack.TCPConn {
	p.t.Helper()
	c, _ := dial(p.t, from, to.Stack.Addrs()[0])
	return c
}

// Two came up at once, and nothing could be done about it for a long time. It still is.
func TestTwinsHoweverLate(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	c := p.dial(p.a, p.b)
	roundTrip(t, c, []byte("before"))
	for _, e := range []*Engine{p.a, p.b} {
		for _, s := range p.list(e) {
			e.ask(func(time.Time) {
				s.looks = time.Time{}
				s.born.made, s.born.at = s.born.made.Add(-time.Hour), s.born.at.Add(-time.Hour)
			})
		}
	}
	p.look(p.a, 0)
	p.look(p.b, 0)
	p.onlyOne(y, "tcp")
	roundTrip(t, c, []byte("after"))
}

// What the one end has begun to end is not heard of at the other, which does it in its place
// at last: both end the same one.
func TestTwinsEndOnlyOne(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	c := p.dial(p.a, p.b)
	roundTrip(t, c, []byte("before"))
	p.age(p.a, 10*time.Second)
	p.age(p.b, 10*time.Second)
	p.hear()
	p.n.SetFaults(tuntest.Faults{Drop: 1})
	p.look(p.a, 0)
	p.look(p.b, 0)
	p.n.SetFaults(tuntest.Faults{})
	p.onlyOne(y, "tcp")
	roundTrip(t, c, []byte("after"))
}

// The other one may be half of one: while the peer isn't heard on it, nothing yields to it.
func TestTwinsNotHeard(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	p.n.SetFaults(tuntest.Faults{Drop: 1})
	p.look(p.a, 0)
	if s := p.find(p.a, x); s == nil || s.deleted {
		t.Error("yields to what may not work")
	}
	p.n.SetFaults(tuntest.Faults{})
	p.hold = false
	p.list(p.a)
	p.look(p.a, 0)
	p.onlyOne(y, "tcp")
}

// Where a peer that had one for long has made another, it knew what it did.
func TestLaterOnesAreNoTwins(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x := p.initiate(p.a, "tcp")
	for _, e := range []*Engine{p.a, p.b} {
		s := p.find(e, x)
		e.ask(func(time.Time) { s.born.made, s.born.at = s.born.made.Add(-time.Hour), s.born.at.Add(-time.Hour) })
	}
	y := p.initiate(p.b, "tcp")
	p.sort(x, y)
	p.hear()
	for _, e := range []*Engine{p.a, p.b} {
		p.age(e, time.Minute) // both were heard of since
		p.look(e, 0)
	}
	if p.find(p.a, x).deleted || p.find(p.b, x).deleted || len(p.list(p.a)) != 2 {
		t.Error("one has been ended")
	}
}

// Each of the two has a child SA that the other one lacks.
func TestTwinsWithDifferentChildren(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]time.Duration{"the initiator": 0, "the other end": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, true)
			x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "udp")
			p.sort(x, y)
			c := p.dial(p.a, p.b)
			roundTrip(t, c, []byte("before"))
			p.hear()
			who := p.a
			if late > 0 {
				who = p.b // a does nothing
			}
			for _, s := range p.list(who) {
				who.ask(func(time.Time) { s.looks, s.born.at = time.Time{}, s.born.at.Add(-time.Minute) })
			}
			p.look(who, 0)
			p.hold = false
			p.onlyOne(y, "tcp", "udp")
			roundTrip(t, c, []byte("after"))
		})
	}
}

// While something else is done about one of them the two are left alone, and no longer.
func TestTwinsAfterASuccession(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	over := map[*Engine]*succession{}
	for _, e := range []*Engine{p.a, p.b} {
		s := p.find(e, x)
		over[e] = &succession{old: s, lost: true}
		e.ask(func(time.Time) { s.succession = over[e] })
	}
	p.look(p.a, 0)
	p.look(p.b, time.Minute)
	p.hold = false
	p.list(p.a)
	p.list(p.b)
	for e, x := range over {
		e.ask(func(now time.Time) { e.k.cleared(now, x.old) })
	}
	p.onlyOne(y, "tcp")
}

// The peer asks for a child SA on the IKE SA that is about to go: it is told to wait, and the
// SA goes.
func TestNoChildOnAnSAThatYields(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	p.hear()
	p.only(wire.ExchangeCreateChildSA)
	p.look(p.a, 0)
	s, done, start := p.find(p.b, x), make(chan error, 1), time.Now()
	p.b.ask(func(now time.Time) {
		cc := p.b.k.confs["udp"]
		a := &acquire{ref: p.b.k.ref(), conf: cc, pair: cc.Pair, done: done}
		p.b.k.acquires[a.ref] = a
		p.b.k.createChild(now, s, a)
	})
	eventually(t, "answered", func() (ok bool) {
		p.b.ask(func(time.Time) { ok = s.m.LastHeard().After(start) })
		return ok
	})
	p.n.SetFaults(tuntest.Faults{})
	p.onlyOne(y, "tcp")
	if err := <-done; err == nil {
		t.Error("there is a child SA on an IKE SA that is no more")
	}
}

// We have asked for a child SA on the IKE SA that is about to go: it comes about with the
// other one.
func TestChildAskedForBeforeAnSAYields(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	s, to := p.find(p.a, x), p.find(p.a, y)
	p.n.SetFaults(tuntest.Faults{Drop: 1})
	p.a.ask(func(now time.Time) {
		cc := p.a.k.confs["udp"]
		a := &acquire{ref: p.a.k.ref(), conf: cc, pair: cc.Pair}
		p.a.k.acquires[a.ref] = a
		p.a.k.createChild(now, s, a)
		p.a.k.yield(now, s, to)
	})
	p.n.SetFaults(tuntest.Faults{})
	p.onlyOne(y, "tcp", "udp")
}

// An IKE SA that yields is rekeyed just as its last child SA goes: what it has become goes too.
func TestYieldingIsInherited(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	s := p.find(p.a, x)
	p.a.ask(func(now time.Time) {
		s.m.DeleteChild(now, slices.Collect(maps.Keys(s.children))[0])
		p.a.k.drain(now, s)
	})
	eventually(t, "no child", func() (ok bool) {
		p.a.ask(func(time.Time) { ok = len(s.children) == 0 })
		return ok
	})
	p.a.ask(func(now time.Time) {
		s.deleted, s.yields = true, true
		s.m.RekeyIKE(now)
		p.a.k.drain(now, s)
	})
	p.onlyOne(y, "tcp")
}

// One end has made two, as it may when it suspects two at once. The peer can't know that they
// are of one host, and leaves both; who made them does not.
func TestTwoOfOurs(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.a, "tcp")
	p.sort(y, x) // SPIs say nothing here
	c := p.dial(p.a, p.b)
	roundTrip(t, c, []byte("before"))
	p.hear()
	p.look(p.b, time.Hour)
	p.look(p.b, time.Hour)
	if len(p.list(p.b)) != 2 {
		t.Error("the peer has ended one")
	}
	p.look(p.a, 0)
	p.onlyOne(y, "tcp")
	roundTrip(t, c, []byte("after"))
}

// A third one, of three that come of loss and suspicion: all know which one stays.
func TestThreeAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y, z := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp"), p.initiate(p.a, "tcp")
	p.sort(x, y, z)
	p.hold = false
	for _, e := range []*Engine{p.a, p.b} {
		p.list(e)
		p.look(e, 0)
	}
	p.onlyOne(z, "tcp")
}

// An SA that the peer makes to follow ours is no twin of it for us to end, whatever its SPIs.
func TestSuccessorIsNoTwin(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x := p.initiate(p.b, "tcp")
	s := p.find(p.a, x)
	c := p.dial(p.a, p.b)
	roundTrip(t, c, []byte("before"))
	p.hear()
	p.only(wire.ExchangeIKESAInit, wire.ExchangeIKEAuth) // x does not end yet
	p.a.ask(func(now time.Time) { p.a.k.reauthenticate(now, s, &ike.Reauthenticate{}) })
	y := p.other(x)
	p.sort(y, x)
	p.age(p.b, twinInsists/2)
	p.look(p.b, 0)
	p.n.SetFaults(tuntest.Faults{})
	p.onlyOne(y, "tcp")
	roundTrip(t, c, []byte("after"))
}

// A suspect that another one can stand in for has no successor made.
func TestSuspectWithATwin(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	x, y := p.initiate(p.a, "tcp"), p.initiate(p.b, "tcp")
	p.sort(x, y)
	s := p.find(p.a, x)
	p.hear()
	p.a.ask(func(now time.Time) {
		o := p.a.k.rivals(s)[0]
		o.m.CheckLiveness(now)
		p.a.k.drain(now, o)
	})
	eventually(t, "the other one is heard of", func() (ok bool) {
		p.a.ask(func(time.Time) { ok = p.a.k.rivals(s)[0].m.LastHeard().After(s.m.LastHeard()) })
		return ok
	})
	p.a.ask(func(now time.Time) { p.a.k.suspect(now, s, &ike.Suspect{Err: errSilent}) })
	if len(p.list(p.a)) != 2 || s.succession != nil {
		t.Error("a third one is made")
	}
	p.look(p.a, 0)
	p.onlyOne(y, "tcp")
}

// A peer that was suspected wrongly, and that nobody says INITIAL_CONTACT to, is told that
// the old one ends.
func TestSuspectIsTold(t *testing.T) {
	t.Parallel()
	p := newPair(t, false, func(c *Conn) { c.Unique = UniqueNever })
	x := p.initiate(p.a, "tcp")
	s := p.find(p.a, x)
	c := p.dial(p.a, p.b)
	roundTrip(t, c, []byte("before"))
	p.a.ask(func(now time.Time) { p.a.k.suspect(now, s, &ike.Suspect{Err: errSilent}) })
	y := p.other(x)
	p.onlyOne(y, "tcp")
	roundTrip(t, c, []byte("after"))
}

// Two anonymous peers behind one NAT are two, though we initiate to the one and the other
// one to us.
func TestStrangersAreNoTwins(t *testing.T) {
	t.Parallel()
	n := tuntest.NewNet(tuntest.Faults{})
	first := &testHost{name: "first", wire: at(t, n, "192.0.2.1:4500")}
	ef := first.start(t)
	echo(t, ef)
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4500")}}
	eb := b.start(t)
	echo(t, eb)
	second := &testHost{name: "second", wire: at(t, n, "192.0.2.1:4501"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	es := second.start(t)
	c1, _ := dial(t, eb, first.addr)
	roundTrip(t, c1, []byte("to the first"))
	c2, _ := dial(t, es, b.addr)
	roundTrip(t, c2, []byte("from the second"))
	eb.ask(func(now time.Time) {
		for _, s := range eb.k.sas {
			if r := eb.k.rivals(s); len(r) != 0 {
				t.Errorf("%s: %d more of the same peer", s.name(), len(r))
			}
			eb.k.look(now.Add(time.Hour), s)
		}
	})
	for _, c := range []*netstack.TCPConn{c1, c2} {
		roundTrip(t, c, []byte("both go on"))
	}
	if st := eb.Status().IKE; len(st) != 2 {
		t.Errorf("%+v", st)
	}
}
