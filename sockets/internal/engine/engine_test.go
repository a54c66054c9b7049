package engine

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A testHost is what a test says of one host; start fills in the rest.
type testHost struct {
	name    string
	wire    tun.Wire
	key     crypto.Signer
	addr    netip.Addr // zero: derived from key
	remotes []netip.AddrPort
	peer    crypto.PublicKey // nil: BTNS with anybody
	any     bool             // BTNS peers may own any address
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyAddr(k crypto.Signer) netip.Addr { return pad.KeyAddress(auth.SPKI(k.Public())) }

func testLog(name string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", name)
}

// config compiles h: one connection with one child for everything.
func (h *testHost) config(t testing.TB) Config {
	t.Helper()
	if h.key == nil {
		h.key = newKey(t)
	}
	spki := auth.SPKI(h.key.Public())
	if !h.addr.IsValid() {
		h.addr = keyAddr(h.key)
	}
	ikeProposals, err1 := suite.IKEProposals("default")
	espProposals, err2 := suite.ESPProposals("default")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	id := pad.ID{Type: wire.IDFQDN, Data: h.name + ".example"}
	c := &Conn{Name: "peer-of-" + h.name, IKE: ikeProposals,
		Local: Identity{ID: *id.Wire(false), Key: h.key, SPKI: spki, Canonical: pad.KeyIdentity(spki)}}
	for _, r := range h.remotes {
		c.Remotes = append(c.Remotes, Remote{Addr: r.Addr(), Port: r.Port()})
	}
	c.Entry = pad.Entry{Name: c.Name, Conn: c.Name, Kind: pad.KindWildcard, Method: pad.MethodBTNS}
	c.Entry.Allow.KeyDerived = !h.any
	c.Entry.Allow.Any = h.any
	remote := ts.Set{ts.FromPrefix(pad.KeyPrefix())}
	if h.any {
		remote = ts.Set{ts.FromPrefix(netip.MustParsePrefix("::/0"))}
	}
	if h.peer != nil {
		c.Entry.Kind, c.Entry.Method = pad.KindAuthenticated, pad.MethodPublicKey
		c.Entry.IDs, c.Entry.Keys = []pad.ID{pad.AnyID()}, [][]byte{auth.SPKI(h.peer)}
	}
	child := &ChildConf{Name: "all", Conn: c, ESP: espProposals, Pair: ts.Pair{Local: ts.Set{ts.FromAddr(h.addr)}, Remote: remote}}
	c.Children = []*ChildConf{child}
	db, err1 := pad.New([]pad.Entry{c.Entry})
	policy, err2 := spd.New([]spd.Policy{{Name: "all", Child: "all", Word: spd.Private, BTNSOK: h.peer == nil, Mode: spd.ModeTunnel,
		PFP: spd.PFPRemoteAddr, Sel: ts.Pair{Local: child.Pair.Local, Remote: remote}}})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return Config{Wire: h.wire, Addrs: []netip.Prefix{netip.PrefixFrom(h.addr, 128)}, Policy: policy, PAD: db,
		Conns: []*Conn{c}, Log: testLog(h.name)}
}

// start runs h with more of its connection.
func (h *testHost) start(t testing.TB, more ...func(c *Conn)) *Engine {
	t.Helper()
	cfg := h.config(t)
	for _, f := range more {
		f(cfg.Conns[0])
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("%s: %v", h.name, err)
		}
	})
	return e
}

// at is a place on a network in memory.
func at(t testing.TB, n *tuntest.Net, addr string) *tuntest.Wire {
	t.Helper()
	w, err := n.Listen(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const echoPort = 7

// echo answers on every connection until the host closes.
func echo(t testing.TB, e *Engine) {
	t.Helper()
	s := e.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketListener})
	l, err := e.Stack.ListenTCP(s.Tag(), netip.AddrPortFrom(netip.Addr{}, echoPort), 0)
	if err == nil {
		err = s.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: echoPort})
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			own, err := e.Data.Accepted(c.Flow(), datapath.SocketConfig{Kind: datapath.SocketConnected})
			if err != nil {
				c.Abort(err)
				continue
			}
			c.SetTag(own.Tag())
			c.OnGone(own.Close)
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); _ = e.Close(); wg.Wait() })
}

func dialFor(ctx context.Context, e *Engine, to netip.Addr) (*netstack.TCPConn, *datapath.Socket, error) {
	s := e.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketConnected})
	c, err := e.Stack.DialTCP(ctx, s.Tag(), netip.AddrPort{}, netip.AddrPortFrom(to, echoPort))
	if err != nil {
		s.Close()
		return nil, s, err
	}
	c.OnGone(s.Close)
	return c, s, nil
}

func dial(t testing.TB, e *Engine, to netip.Addr) (*netstack.TCPConn, *datapath.Socket) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, s, err := dialFor(ctx, e, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

func roundTrip(t testing.TB, c *netstack.TCPConn, data []byte) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	errc := make(chan error, 1)
	go func() { _, err := c.Write(data); errc <- err }()
	got := make([]byte, len(data))
	_, err := io.ReadFull(c, got)
	if werr := <-errc; err == nil {
		err = werr
	}
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("echo of %d bytes: %v", len(data), err)
	}
}

// patience is when a test gives up. No test that passes waits for its end, however slow the
// machine is.
const patience = time.Minute

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// idle wants nothing to be left of what was asked for.
func idle(t testing.TB, e *Engine) {
	t.Helper()
	var acquires, waiting int
	eventually(t, "every acquire is answered", func() bool {
		waiting = 0
		e.ask(func(time.Time) {
			acquires = len(e.k.acquires)
			for _, s := range e.k.sas {
				waiting += len(s.waiting)
			}
		})
		return acquires+waiting == 0
	})
}

func TestFaultyNetwork(t *testing.T) {
	// One in five IKE datagrams is lost; of segments that would cost TCP minutes now and then.
	isESP := func(payload []byte) bool { return !bytes.HasPrefix(payload, make([]byte, tun.MarkerLen)) }
	n := tuntest.NewNet(tuntest.Faults{Seed: 1, Drop: 0.2, Spare: isESP, Duplicate: 0.2, Reorder: 0.2})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	echo(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	c, s := dial(t, ea, b.addr)
	roundTrip(t, c, bytes.Repeat([]byte("through loss, duplicates and disorder "), 1000))
	if id := s.Child().Peer.ID; id != pad.KeyIdentity(auth.SPKI(b.key.Public())) {
		t.Errorf("talked to %s", id)
	}
	n.SetFaults(tuntest.Faults{})
	idle(t, ea)
}

func TestWrongPeerIsRefused(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	echo(t, b.start(t))
	// a wants the holder of another key at b's address.
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")},
		peer: newKey(t).Public()}
	ea := a.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := dialFor(ctx, ea, b.addr)
	if err == nil || ctx.Err() != nil {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "peer-of-a") {
		t.Errorf("%q does not name the peer", err)
	}
	for _, s := range ea.Status().IKE {
		if s.State == "ESTABLISHED" {
			t.Errorf("established: %+v", s)
		}
	}
}

// RFC 5386, Section 2: whoever nobody vouched for owns its key's address and no other.
func TestADV_E5_AnonymousOwnsOnlyItsAddress(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	echo(t, eb)
	victim := keyAddr(newKey(t))
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}, addr: victim}
	ea := a.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := dialFor(ctx, ea, b.addr)
	var refusal *ike.NotifyError
	if !errors.As(err, &refusal) || refusal.Type != wire.NotifyTSUnacceptable {
		t.Fatalf("got %v", err)
	}
	for _, s := range eb.Status().IKE {
		if len(s.Children) != 0 {
			t.Errorf("b made %+v", s.Children)
		}
	}
}

// Where anonymous peers may own any address, the first who has one keeps it.
func TestADV_L2_AnonymousTakesNobodysAddress(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), any: true}
	echo(t, b.start(t))
	to := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}
	shared := netip.MustParseAddr("2001:db8::1")
	first := &testHost{name: "first", wire: at(t, n, "192.0.2.1:4500"), remotes: to, addr: shared, any: true}
	c1, _ := dial(t, first.start(t), b.addr)
	roundTrip(t, c1, []byte("mine"))
	second := &testHost{name: "second", wire: at(t, n, "192.0.2.3:4500"), remotes: to, addr: shared, any: true}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := dialFor(ctx, second.start(t), b.addr); err == nil || ctx.Err() != nil {
		t.Fatalf("the second got %v", err)
	}
	roundTrip(t, c1, []byte("still mine"))
}

func TestTwoClients(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	echo(t, eb)
	var wg sync.WaitGroup
	for i := range 8 {
		a := &testHost{name: "a" + strconv.Itoa(i), wire: at(t, n, "192.0.2."+strconv.Itoa(10+i)+":4500"),
			remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
		ea := a.start(t)
		for range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				c, _, err := dialFor(ctx, ea, b.addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, err := c.Write([]byte(a.name)); err != nil {
					t.Error(err)
				}
				buf := make([]byte, 16)
				if n, err := c.Read(buf); err != nil || string(buf[:n]) != a.name {
					t.Errorf("%s read %q, %v", a.name, buf[:n], err)
				}
			})
		}
	}
	wg.Wait()
	st := eb.Status()
	if len(st.IKE) != 8 {
		t.Errorf("%d IKE SAs", len(st.IKE))
	}
	for _, s := range st.IKE {
		if len(s.Children) != 1 {
			t.Errorf("%s has %d child SAs", s.RemoteID, len(s.Children))
		}
	}
}

// A peer that lost its memory comes back, says so, and is believed because it proved to be
// the same (RFC 7296, Section 2.4).
func TestADV_F17_InitialContact(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	ka, kb := newKey(t), newKey(t)
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), key: kb, peer: ka.Public(), addr: keyAddr(kb)}
	b.peer = ka.Public()
	eb := b.start(t)
	echo(t, eb)
	newA := func() *Engine {
		a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), key: ka, peer: kb.Public(),
			remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
		return a.start(t)
	}
	ea := newA()
	c, _ := dial(t, ea, b.addr)
	roundTrip(t, c, []byte("before"))
	before := eb.Status().IKE[0].SPIi
	n.SetFaults(tuntest.Faults{Drop: 1}) // nothing of the end is heard
	if err := ea.Close(); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{})
	c, _ = dial(t, newA(), b.addr)
	roundTrip(t, c, []byte("after"))
	eventually(t, "b has the new SA alone", func() bool {
		st := eb.Status()
		return len(st.IKE) == 1 && st.IKE[0].SPIi != before && len(st.IKE[0].Children) == 1
	})
}

func TestSecondAddressIsTriedWhenTheFirstIsSilent(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	echo(t, b.start(t))
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"),
		remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:4500"), netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	c, _ := dial(t, ea, b.addr)
	roundTrip(t, c, []byte("found"))
	idle(t, ea)
	if st := ea.Status(); len(st.IKE) != 1 {
		t.Errorf("%+v", st.IKE)
	}
}

// An unknown host is no reason to leave out the address behind it.
func TestSecondAddressIsTriedWhenTheFirstIsUnknown(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	echo(t, b.start(t))
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t, func(c *Conn) {
		// A label of more than 63 bytes: no resolver is asked.
		c.Remotes = append([]Remote{{Host: strings.Repeat("x", 70) + ".invalid", Port: 4500}}, c.Remotes...)
	})
	c, _ := dial(t, ea, b.addr)
	roundTrip(t, c, []byte("found"))
	idle(t, ea)
}

// Hosts behind one gateway share its child SA, also when all are dialled at once.
func TestOneChildForAllHostsBehindAGateway(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{Delay: 20 * time.Millisecond})
	kb := newKey(t)
	const hosts = 20
	behind := func(i int) netip.Addr { return netip.MustParseAddr("2001:db8:2::" + strconv.Itoa(i+1)) }
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500"), key: kb, any: true, addr: behind(0)}
	cb := b.config(t)
	cb.Addrs = nil
	for i := range hosts {
		cb.Addrs = append(cb.Addrs, netip.PrefixFrom(behind(i), 64))
	}
	net2 := ts.Set{ts.FromPrefix(netip.MustParsePrefix("2001:db8:2::/64"))}
	setPair := func(c *Config, pair ts.Pair) {
		c.Conns[0].Children[0].Pair = pair
		p := *c.Policy.Policy(0)
		p.Sel, p.PFP = pair, 0
		var err error
		if c.Policy, err = spd.New([]spd.Policy{p}); err != nil {
			t.Fatal(err)
		}
	}
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), any: true, addr: netip.MustParseAddr("2001:db8:1::1"),
		remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ca := a.config(t)
	net1 := ts.Set{ts.FromAddr(a.addr)}
	setPair(&cb, ts.Pair{Local: net2, Remote: net1})
	setPair(&ca, ts.Pair{Local: net1, Remote: net2})
	eb, err1 := New(cb)
	ea, err2 := New(ca)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ea.Close(), eb.Close() })
	echo(t, eb)
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, _, err := dialFor(ctx, ea, behind(i))
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	idle(t, ea)
	if st := ea.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
		t.Errorf("%d IKE SAs, %+v", len(st.IKE), st.IKE[0].Children)
	}
}

// A silent peer that wakes up is asked for everything that waits, beyond what the machine
// queues: each request ends, one way or another (ADV-L39).
func TestADV_L39_EveryAcquireEnds(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	to := netip.MustParseAddrPort("192.0.2.2:4500")
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{to}}
	ea := a.start(t)
	const flows = 300
	for i := range flows {
		dst := netip.MustParseAddr("fd62:746e:7300::" + strconv.FormatInt(int64(i+1), 16))
		s := ea.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketDatagram})
		u, err := ea.Stack.DialUDP(s.Tag(), netip.AddrPort{}, netip.AddrPortFrom(dst, 9))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are asked for", func() bool { return ea.Data.Stats().Acquires == flows })
	(&testHost{name: "b", wire: at(t, n, to.String())}).start(t) // owns none of them
	idle(t, ea)
}

func TestDialAgainAfterThePeerDeleted(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	kb := newKey(t)
	to := netip.MustParseAddrPort("192.0.2.2:4500")
	b := &testHost{name: "b", wire: at(t, n, to.String()), key: kb}
	eb := b.start(t)
	echo(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{to}}
	ea := a.start(t)
	c, _ := dial(t, ea, keyAddr(kb))
	roundTrip(t, c, []byte("one"))
	idle(t, ea)
	// With its connection reset a has nothing more to say: a late acknowledgement would call
	// b again while b is away.
	_ = c.SetLinger(0)
	_ = c.Close()
	eventually(t, "the connection is gone", func() bool { return !ea.Stack.Exists(c.Flow()) })
	if err := eb.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a knows that b is gone", func() bool { return len(ea.Status().IKE) == 0 })
	echo(t, (&testHost{name: "b", wire: at(t, n, to.String()), key: kb}).start(t))
	c, _ = dial(t, ea, keyAddr(kb))
	roundTrip(t, c, []byte("two"))
}

// Until it has authenticated, a peer is not said to belong to the connection it might.
func TestStatusGuessesNobody(t *testing.T) {
	h := &testHost{name: "b"}
	cfg := h.config(t)
	k := &keyer{cfg: &cfg, log: cfg.Log}
	path := ike.Path{Local: netip.MustParseAddrPort("192.0.2.2:4500"), Remote: netip.MustParseAddrPort("192.0.2.1:4500")}
	m, err := ike.NewInitiator(k.config(cfg.Conns[0]), path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := newIKESA(time.Now(), m, gate.Key{}, cfg.Conns[0], path, 1)
	if st := s.look(time.Now()).status(); st.Name != "" || st.LocalID != "" || strings.Contains(s.name(), cfg.Conns[0].Name) {
		t.Errorf("%s: %+v", s.name(), st)
	}
	s.initiator = true
	if st := s.look(time.Now()).status(); st.Name != cfg.Conns[0].Name || !strings.Contains(s.name(), cfg.Conns[0].Name) {
		t.Errorf("%s: %+v", s.name(), st)
	}
}

// Close from many goroutines, while others dial and look.
func TestROW_92_CloseIsConcurrent(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	echo(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	dial(t, ea, b.addr)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				ea.Status()
				_ = ea.Explain(ts.MakeFlow(6, netip.AddrPortFrom(a.addr, 1), netip.AddrPortFrom(b.addr, 2)))
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for {
				c, _, err := dialFor(ctx, ea, b.addr)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("got %v", err)
					}
					return
				}
				_ = c.Close()
			}
		})
		wg.Go(func() {
			eventually(t, "", func() bool { return true })
			if err := ea.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
