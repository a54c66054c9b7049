// Package engine joins the parts of one host: a wire, the data path, gVisor's TCP/IP, the
// databases, and the machines that key them. It is the composition root: wiring and
// order, the keyer that runs the IKE machines, and the answers to their questions.
//
// The keyer's Decide is the one place where PAD, SPD, latches and live SAs are read
// together (RFC 4301, Section 4.4.3; RFC 5386, Section 2; RFC 5660, Section 2.3).
//
// Concurrency: methods of Engine are safe for concurrent use. Goroutines: the keyer, the
// receiver and the pool of GOMAXPROCS workers; New starts them, Close stops them and waits.
//
// A wire that ends by itself ends the host: Done tells, and Close says why.
//
// Close order: the stack aborts its connections (their resets still find SAs) · peers are
// told that the SAs end (the wire still works) · the keyer ends · the pool and name
// look-ups end, and with them the events · the data path closes the wire, which ends the
// receiver, and erases all keys.
//
// Events: what becomes of SAs, and why not, is told in one place, report: as a log line and
// as an Event to every Watcher. Strangers have an allowance of both.
//
// Ownership: an Engine owns its wire, stack and data path, and Config is not changed after New.
// Received IKE datagrams are borrowed from the data path; what the door lets in for
// the keyer is copied, and free after the machine has seen it. Limits: see limits.go.
package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun"
)

// A Config is what an Engine joins. Everything in it is compiled and checked; it must not
// be modified after New.
type Config struct {
	Wire   tun.Wire // the engine's: Close closes it
	Addrs  []netip.Prefix
	MTU    int
	Policy *spd.DB
	PAD    *pad.DB
	Conns  []*Conn
	Limits Limits
	KeyLog io.Writer
	Log    *slog.Logger // not nil
}

// ErrClosed is returned after Close. It matches net.ErrClosed.
var ErrClosed = fmt.Errorf("engine: host closed: %w", net.ErrClosed)

// An Engine is one running host.
type Engine struct {
	Data    *datapath.Path
	Stack   *netstack.Stack
	Latches *latch.DB

	k        *keyer
	stop     chan error // takes the reason, nil if somebody wished it
	once     sync.Once
	keying   sync.WaitGroup
	receive  sync.WaitGroup
	cancel   context.CancelFunc
	done     chan struct{} // closed at the end of Close
	wireErr  error         // before receive ends
	closeErr error         // before done
}

// New starts a host. On error nothing is left running, and the wire is the caller's again.
func New(cfg Config) (*Engine, error) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{stop: make(chan error, 1), done: make(chan struct{}), cancel: cancel}
	e.Latches = latch.New(latch.Config{Conflicting: func(f ts.Flow, p *latch.Params) bool {
		return e.Data.Conflicting(f, p)
	}})
	k, err := newKeyer(ctx, &cfg, e.Latches)
	if err != nil {
		cancel()
		return nil, err
	}
	e.k = k

	// The data path and the stack call each other: the stack is told of the path's hooks
	// when it is made, the path reaches the stack through e.
	e.Data, err = datapath.New(datapath.Config{
		Wire: cfg.Wire, Policy: cfg.Policy, Latches: e.Latches, MTU: cfg.MTU, Log: cfg.Log,
		Deliver:     func(tag *netstack.Tag, parts ...[]byte) { e.Stack.Deliver(tag, parts...) },
		Exists:      func(f ts.Flow) bool { return e.Stack.Exists(f) },
		Unreachable: func(p *netstack.Packet, cause error) { e.Stack.Unreachable(p, cause) },
		Acquire: func(a datapath.Acquire) {
			k.mail.post(func(now time.Time) { k.acquire(now, a) })
		},
		Alerts: func(as latch.Alerts) {
			k.mail.post(func(now time.Time) { k.alerts(now, as) })
		},
		IKE: k.receive,
		FirstInbound: func(c *datapath.Child) {
			k.mail.post(func(now time.Time) { k.firstInbound(now, c) })
		},
		SoftLimit: func(c *datapath.Child) {
			k.mail.post(func(now time.Time) { k.softLimit(now, c) })
		},
		Exhausted: func(c *datapath.Child) {
			k.mail.post(func(now time.Time) { k.exhausted(now, c) })
		},
		Silent: func(c *datapath.Child) {
			k.mail.post(func(now time.Time) { k.silent(now, c) })
		},
		UnknownSPI: func(from tun.Path, spi uint32, size int) {
			k.mail.post(func(now time.Time) { k.unknownSPI(now, ike.Path(from), spi, size) })
		},
		Moved: func(c *datapath.Child, p tun.Path) {
			k.mail.post(func(now time.Time) { k.moved(now, c, p) })
		},
	})
	if err != nil {
		cancel()
		return nil, err
	}
	k.dp = e.Data
	e.Stack, err = netstack.New(netstack.Config{
		Addrs: cfg.Addrs, MTU: cfg.MTU, Log: cfg.Log,
		Hooks: netstack.Hooks{Output: e.Data.Output, Admit: e.Data.Admit},
	})
	if err != nil {
		cancel()
		return nil, err
	}
	if err := e.installManual(&cfg); err != nil {
		cancel()
		return nil, errors.Join(err, e.Stack.Close())
	}
	k.pool = newPool()
	e.keying.Go(func() { k.run(e.stop) })
	e.receive.Go(func() {
		if err := e.Data.Run(ctx); err != nil { // not Close's doing
			cfg.Log.Error("the wire ended", "error", err)
			e.wireErr = fmt.Errorf("engine: the wire ended: %w", err)
			go func() { _ = e.CloseWith(e.wireErr) }()
		}
	})
	k.mail.post(k.startChildren)
	return e, nil
}

// ErrNoNativeESP says that keys set by hand need a wire that carries ESP without UDP: who
// has no IKE SA has no port to send it to (RFC 3948, Section 2.2).
var ErrNoNativeESP = errors.New("engine: keys set by hand need a wire with native ESP")

// installManual makes the SAs that are keyed by hand (RFC 4301, Section 4.5.1). They stay.
func (e *Engine) installManual(cfg *Config) error {
	var done []uint32
	for i := range cfg.Policy.Len() {
		pol := cfg.Policy.Policy(i)
		if pol.Manual == nil {
			continue
		}
		err := ErrNoNativeESP
		if cfg.Wire.Caps().NativeESP {
			_, err = e.Data.InstallManual(pol)
		}
		if err != nil {
			for _, spi := range done {
				e.Data.Remove(spi)
			}
			return fmt.Errorf("policy %s: %w", pol.Name, err)
		}
		done = append(done, pol.Manual.InSPI)
		cfg.Log.Info("SA keyed by hand", "policy", pol.Name, "remote", pol.Manual.Remote.String(), "suite", pol.Manual.Suite)
	}
	return nil
}

// Close tells the peers, stops everything and waits for it.
func (e *Engine) Close() error { return e.CloseWith(nil) }

// CloseWith is Close for a reason other than that somebody wished it; the event names it.
func (e *Engine) CloseWith(reason error) error {
	e.once.Do(func() {
		e.closeErr = e.Stack.Close()
		e.stop <- reason
		e.keying.Wait()
		e.cancel()
		for _, f := range e.k.mail.close() {
			f(time.Now()) // callers that wait for an answer get one
		}
		e.k.resolving.Wait()
		for _, a := range e.k.acquires {
			a.tell(ErrClosed) // so do those whose answer will not come
		}
		e.k.pool.close()
		e.k.events.close(ErrClosed)
		// The end of ctx has closed the data path already, unless that is still coming.
		if err := e.Data.Close(); !errors.Is(err, net.ErrClosed) {
			e.closeErr = errors.Join(e.closeErr, err)
		}
		e.receive.Wait()
		e.closeErr = errors.Join(e.wireErr, e.closeErr)
		close(e.done)
	})
	return e.closeErr
}

// Done is closed when the host has ended.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Wire is the host's wire.
func (e *Engine) Wire() tun.Wire { return e.k.cfg.Wire }

// Explain says what stands between a flow and its SA right now, nil if nothing is known
// to. It is for the message of a deadline that passed.
func (e *Engine) Explain(f ts.Flow) error {
	var err error
	e.ask(func(now time.Time) { err = e.k.explain(now, f) })
	return err
}

// ask runs f on the keyer's goroutine and waits for it.
func (e *Engine) ask(f func(now time.Time)) {
	done := make(chan struct{})
	if !e.k.mail.post(func(now time.Time) { defer close(done); f(now) }) {
		return
	}
	<-done
}

func newKeyer(ctx context.Context, cfg *Config, latches *latch.DB) (*keyer, error) {
	now := time.Now()
	g, err := gate.New(cfg.Limits, rand.Reader, now)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	k := &keyer{
		cfg: cfg, log: cfg.Log, latches: latches, ctx: ctx, door: newDoor(g, now), mail: newMailbox(),
		conns:  map[string]*Conn{},
		confs:  map[string]*ChildConf{},
		hashes: auth.Hashes(), decoy: decoy(),
		sas: map[gate.Key]*ikeSA{}, roster: roster{},
		greetings: newGreetings(cfg.Conns), holders: newHolders(cfg.Conns),
		byMachine: map[*ike.Machine]*ikeSA{}, byChild: map[uint32]*ikeSA{}, byOut: map[uint32]uint32{}, called: map[*Conn]time.Time{}, acquires: map[uint64]*acquire{},
		lookups: map[*Conn][]*acquire{}, wanted: wanted{}, trapped: map[*ChildConf]bool{},
		scratch: make([]byte, tun.Headroom+tun.MaxPacket),
	}
	for _, c := range cfg.Conns {
		k.conns[c.Name] = c
		for _, cc := range c.Children {
			cc.suites = suites(cc.ESP)
			k.confs[cc.Name] = cc
		}
	}
	return k, nil
}

// receive takes datagrams from the data path, on the goroutine that receives.
func (k *keyer) receive(pkts []tun.Packet) {
	replies := k.door.knock(pkts)
	if len(replies) == 0 {
		return
	}
	if err := k.dp.SendIKE(replies); err != nil && !errors.Is(err, net.ErrClosed) {
		k.log.Debug("strangers not answered", "error", err) // they ask again
	}
}

func (k *keyer) startChildren(now time.Time) {
	for _, c := range k.cfg.Conns {
		for _, cc := range c.Children {
			if cc.StartNow && len(c.Remotes) > 0 {
				k.want(cc, now)
			}
		}
	}
}

func (k *keyer) firstInbound(now time.Time, c *datapath.Child) {
	if s := k.owner(c); s != nil {
		if c.Spare {
			k.dp.Prefer(c.InSPI)
		}
		s.m.FirstInbound(now, c.InSPI)
		k.drain(now, s)
	}
}

// softLimit has an SA replaced that has carried what it should.
func (k *keyer) softLimit(now time.Time, c *datapath.Child) {
	if s := k.owner(c); s != nil {
		s.m.SoftLimit(now, c.InSPI)
		k.drain(now, s)
	}
}

// exhausted has an SA replaced whose sequence numbers, or whose hard limit, are used up.
func (k *keyer) exhausted(now time.Time, c *datapath.Child) {
	if s := k.owner(c); s != nil {
		s.m.Exhausted(now, c.InSPI)
		k.drain(now, s)
	}
}

// silent asks a peer to which packets go, and from which none come, whether it lives (RFC
// 7296, Section 2.4).
func (k *keyer) silent(now time.Time, c *datapath.Child) {
	if s := k.owner(c); s != nil && s.conn.DPDDelay > 0 {
		k.heard(s)
		s.m.CheckLiveness(now)
		k.drain(now, s)
	}
}

// moved tells the machine that a child's newest packet, which was authentic, came over another
// path. Whether the peer is followed there is the machine's to say, with PathChanged (RFC
// 7296, Section 2.23).
func (k *keyer) moved(now time.Time, c *datapath.Child, p tun.Path) {
	if s := k.owner(c); s != nil {
		s.m.Moved(now, ike.Path(p))
		k.drain(now, s)
	}
}

// follow has all that the SA sends go along a path, ESP as well.
func (k *keyer) follow(s *ikeSA, path ike.Path) {
	s.path = path
	for _, c := range s.children {
		if p := espPath(s.est.Encap, path); p != c.CurrentPath() {
			k.dp.SetPath(c, p)
		}
	}
}

// owner is the IKE SA of a child that is still installed.
func (k *keyer) owner(c *datapath.Child) *ikeSA {
	if s := k.byChild[c.InSPI]; s != nil && s.children[c.InSPI] == c {
		return s
	}
	return nil
}

func newIKESA(now time.Time, m *ike.Machine, key gate.Key, c *Conn, path ike.Path, num uint64) *ikeSA {
	return &ikeSA{
		m: m, key: key, initiator: key.Initiator, conn: c, path: path, num: num, made: now, timer: -1,
		children: map[uint32]*datapath.Child{},
	}
}
