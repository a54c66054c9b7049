package datapath

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sentPacket is a copy of what a host gave to its wire.
type sentPacket struct {
	kind tun.Kind
	ecn  uint8
	path tun.Path
	data []byte
}

// spy is a wire that remembers what is sent, can lose it, and can carry clear packets.
type spy struct {
	tun.Wire
	clear   bool
	mtu     int
	onClear atomic.Pointer[func(b []byte)] // where clear packets go

	mu   sync.Mutex
	sent []sentPacket
	keep bool
	lose func(tun.Packet) bool // refuse it
}

func (w *spy) Caps() tun.Caps {
	c := w.Wire.Caps()
	c.ClearPackets = w.clear
	if w.mtu > 0 {
		c.MTU = w.mtu
	}
	return c
}

func (w *spy) Send(pkts []tun.Packet) (int, error) {
	for i := range pkts {
		k := &pkts[i]
		w.mu.Lock()
		lose := w.lose
		if w.keep {
			w.sent = append(w.sent, sentPacket{k.Kind, k.ECN, k.Path, bytes.Clone(k.Data())})
		}
		w.mu.Unlock()
		if lose != nil && lose(*k) {
			return i, tun.ErrTooBig
		}
		if k.Kind == tun.KindClear {
			if f := w.onClear.Load(); f != nil {
				(*f)(bytes.Clone(k.Data()))
			}
			continue
		}
		if n, err := w.Wire.Send(pkts[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(pkts), nil
}

func (w *spy) record() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep, w.sent = true, nil
}

func (w *spy) refuse(f func(tun.Packet) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = f
}

func (w *spy) take() []sentPacket {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent
	w.sent = nil
	return s
}

// host is a stack on a data path on a wire, and what an engine would be.
type host struct {
	t        testing.TB
	name     string
	in4, in6 netip.Addr
	outer    netip.AddrPort
	wire     *spy
	path     *Path
	st       *netstack.Stack
	latches  *latch.DB
	acquires chan Acquire
	first    chan *Child
	moved    chan tun.Path
	ike      chan tun.Packet
	alerts   chan latch.Alerts

	catcher  *netstack.Stack // of a rig
	injectMu sync.Mutex      // one injection at a time
	injector *receiver

	onDeliver atomic.Pointer[func(tag *netstack.Tag, parts ...[]byte)]
}

// world is a network in memory whose datagrams are recorded.
type world struct {
	net *tuntest.Net
	rec *tuntest.Recorder
}

func newWorld() *world {
	w := &world{net: tuntest.NewNet(tuntest.Faults{}), rec: tuntest.NewRecorder(256 << 20)}
	w.net.Record(w.rec)
	return w
}

type hostOpt struct {
	mtu    int
	clear  bool
	native bool
	raw    bool // the wire as it is, for speed
	policy []spd.Policy
	cfg    func(*Config)
}

// anyTo is the pair of a host's addresses and all others, of both families.
func (h *host) anyTo() ts.Pair {
	return ts.Pair{
		Local:  ts.Set{ts.FromAddr(h.in4), ts.FromAddr(h.in6)},
		Remote: ts.Set{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), ts.FromPrefix(netip.MustParsePrefix("::/0"))},
	}
}

func (w *world) host(t testing.TB, i int, opt hostOpt) *host {
	t.Helper()
	h := &host{
		t: t, name: fmt.Sprintf("h%d", i),
		in4:      netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
		in6:      netip.MustParseAddr(fmt.Sprintf("fd00::%d", i)),
		outer:    netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:4500", i)),
		latches:  nil,
		acquires: make(chan Acquire, 1024), first: make(chan *Child, 64), moved: make(chan tun.Path, 64),
		ike: make(chan tun.Packet, 64), alerts: make(chan latch.Alerts, 1024),
	}
	listen := w.net.Listen
	if opt.native {
		listen = w.net.ListenNative
	}
	base, err := listen(h.outer)
	if err != nil {
		t.Fatal(err)
	}
	h.wire = &spy{Wire: tuntest.Poison(base), clear: opt.clear, mtu: opt.mtu}
	pols := opt.policy
	if pols == nil {
		pols = []spd.Policy{{Name: "all", Sel: h.anyTo(), Word: spd.Private}}
	}
	db, err := spd.New(pols)
	if err != nil {
		t.Fatal(err)
	}
	h.latches = latch.New(latch.Config{Conflicting: func(f ts.Flow, p *latch.Params) bool { return h.path.Conflicting(f, p) }})
	cfg := Config{
		Wire: h.wire, Policy: db, Latches: h.latches,
		Deliver: func(tag *netstack.Tag, parts ...[]byte) {
			if f := h.onDeliver.Load(); f != nil {
				(*f)(tag, parts...)
			}
			h.st.Deliver(tag, parts...)
		},
		Exists:       func(f ts.Flow) bool { return h.st.Exists(f) },
		Unreachable:  func(p *netstack.Packet, cause error) { h.st.Unreachable(p, cause) },
		Acquire:      func(a Acquire) { offer(h.acquires, a) },
		FirstInbound: func(c *Child) { offer(h.first, c) },
		Moved:        func(_ *Child, to tun.Path) { offer(h.moved, to) },
		IKE: func(pkts []tun.Packet) {
			for _, k := range pkts {
				k.Buf, k.Off = append([]byte(nil), k.Data()...), 0 // they are borrowed
				offer(h.ike, k)
			}
		},
		Alerts: func(as latch.Alerts) { offer(h.alerts, as) },
	}
	if opt.raw {
		cfg.Wire = base
	}
	if opt.cfg != nil {
		opt.cfg(&cfg)
	}
	if h.path, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	h.path.poison = !opt.raw
	if h.st, err = netstack.New(netstack.Config{
		Addrs: []netip.Prefix{netip.PrefixFrom(h.in4, 24), netip.PrefixFrom(h.in6, 64)},
		Hooks: netstack.Hooks{Output: h.path.Output, Admit: h.path.Admit},
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.path.Run(t.Context()) }()
	t.Cleanup(func() {
		_ = h.st.Close()
		_ = h.path.Close()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", h.name, err)
		}
		if p, b := h.path.held.Len(); p != 0 || b != 0 {
			t.Errorf("%s: %d packets, %d bytes still held", h.name, p, b)
		}
		if n := h.path.fragBytes.Load(); n != 0 {
			t.Errorf("%s: %d fragment bytes left", h.name, n)
		}
	})
	return h
}

func (h *host) addr(v6 bool) netip.Addr {
	if v6 {
		return h.in6
	}
	return h.in4
}

// link describes a pair of children between two hosts.
type link struct {
	suite     string
	mode      esp.Mode
	esn       bool
	pairA     ts.Pair // a's view; zero: the hosts' addresses
	anonymous bool
	native    bool
	v6        bool   // transport mode between IPv6 addresses
	peerB     string // what a knows b as
	name      string
	mtu       int
	halfB     bool // b does not send yet
}

// childPair makes SAs between a and b and installs them.
func connect(t testing.TB, a, b *host, l link) (ca, cb *Child) {
	t.Helper()
	ca, cb, install := prepare(t, a, b, l)
	install()
	return ca, cb
}

type sealKey struct{ ab, ba esp.Key }

func prepare(t testing.TB, a, b *host, l link) (ca, cb *Child, install func()) {
	t.Helper()
	ca, cb, _, install = prepareKeys(t, a, b, l)
	return ca, cb, install
}

func prepareKeys(t testing.TB, a, b *host, l link) (ca, cb *Child, keys sealKey, install func()) {
	t.Helper()
	if l.suite == "" {
		l.suite = "aes128gcm16"
	}
	if l.mode == 0 {
		l.mode = esp.ModeTunnel
	}
	if l.peerB == "" {
		l.peerB = b.name
	}
	suite, err := esp.ParseSuite(l.suite)
	if err != nil {
		t.Fatal(err)
	}
	keys.ab, keys.ba = make(esp.Key, suite.KeyLen()), make(esp.Key, suite.KeyLen())
	_, _ = rand.Read(keys.ab)
	_, _ = rand.Read(keys.ba)
	if len(l.pairA.Local) == 0 {
		l.pairA = ts.Pair{Local: ts.Set{ts.FromAddr(a.in4), ts.FromAddr(a.in6)}, Remote: ts.Set{ts.FromAddr(b.in4), ts.FromAddr(b.in6)}}
		if l.mode == esp.ModeTransport {
			l.pairA = ts.Pair{Local: ts.Set{ts.FromAddr(a.addr(l.v6))}, Remote: ts.Set{ts.FromAddr(b.addr(l.v6))}}
		}
	}
	params := func(peer, local string) *latch.Params {
		return &latch.Params{Peer: "fqdn:" + peer, Local: "fqdn:" + local, Protection: latch.Integrity | latch.Confidentiality,
			Mode: uint8(l.mode), Suite: l.suite, Replay: true}
	}
	path := tun.Path{Local: a.outer, Remote: b.outer}
	if l.native {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), 0)
		path.Remote = netip.AddrPortFrom(path.Remote.Addr(), 0)
	}
	spiA, err := a.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	spiB, err := b.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	ca = &Child{Name: l.name, InSPI: spiA, Suite: suite, Mode: l.mode, ESN: l.esn, Pair: l.pairA, MTU: l.mtu,
		Params: params(l.peerB, a.name), Path: path, Peer: &Peer{Name: l.peerB, ID: l.peerB, Method: "psk", Anonymous: l.anonymous}}
	cb = &Child{Name: l.name, InSPI: spiB, Suite: suite, Mode: l.mode, ESN: l.esn, Pair: l.pairA.Swap(), MTU: l.mtu,
		Params: params(a.name, l.peerB), Path: path.Swap(), Peer: &Peer{Name: a.name, ID: a.name, Method: "psk", Anonymous: l.anonymous}}
	return ca, cb, keys, func() {
		t.Helper()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(b.path.InstallInbound(cb, keys.ab))
		must(a.path.InstallInbound(ca, keys.ba))
		if !l.halfB {
			must(b.path.InstallOutbound(cb, spiA, keys.ba))
		}
		must(a.path.InstallOutbound(ca, spiB, keys.ab))
	}
}

// dial makes a connected Socket and dials.
func (h *host) dial(ctx context.Context, to netip.AddrPort, want latch.Want) (*netstack.TCPConn, *Socket, error) {
	s := h.path.NewSocket(SocketConfig{Kind: SocketConnected, Want: want})
	c, err := h.st.DialTCP(ctx, s.Tag(), netip.AddrPort{}, to)
	if err != nil {
		s.Close()
		return nil, s, err
	}
	c.OnGone(s.Close)
	return c, s, nil
}

// listener accepts connections and adopts their latches.
type listener struct {
	h  *host
	l  *netstack.TCPListener
	s  *Socket
	ap netip.AddrPort
}

func (h *host) listen(addr netip.Addr, port uint16, want latch.Want, bypass bool) *listener {
	h.t.Helper()
	s := h.path.NewSocket(SocketConfig{Kind: SocketListener, Want: want, AllowBypass: bypass})
	l, err := h.st.ListenTCP(s.Tag(), netip.AddrPortFrom(addr, port), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	ap := netip.MustParseAddrPort(l.Addr().String())
	if err := s.Listen(latch.Key3{Addr: addr, Proto: ts.ProtoTCP, Port: ap.Port()}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close(); s.Close() })
	return &listener{h, l, s, ap}
}

func (l *listener) accept() (*netstack.TCPConn, *Socket, error) {
	_ = l.l.SetDeadline(time.Now().Add(patience))
	c, err := l.l.AcceptTCP()
	if err != nil {
		return nil, nil, err
	}
	s, err := l.h.path.Accepted(c.Flow(), l.s.cfg)
	if err != nil {
		c.Abort(err)
		return nil, nil, err
	}
	c.SetTag(s.Tag())
	c.OnGone(s.Close)
	return c, s, nil
}

// serve accepts one connection in the background and gives it to f.
func (l *listener) serve(f func(*netstack.TCPConn, *Socket)) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		c, s, err := l.accept()
		if err != nil {
			l.h.t.Errorf("accept: %v", err)
			return
		}
		f(c, s)
		_ = c.Close()
	})
	return wg.Wait
}

// patience is when a test gives up. No test that passes waits for its end, however slow the
// machine is.
const patience = time.Minute

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// transfer sends n random bytes each way over a new connection from a to b and compares them.
func transfer(t *testing.T, a, b *host, v6 bool, n int) {
	t.Helper()
	l := b.listen(b.addr(v6), 0, latch.Want{}, false)
	up, down := make([]byte, n), make([]byte, n)
	_, _ = rand.Read(up)
	_, _ = rand.Read(down)
	copy(up, secret)
	copy(down, secret)
	wait := l.serve(func(c *netstack.TCPConn, s *Socket) {
		if s.Latch().State() != latch.StateEstablished {
			t.Errorf("accepted latch is %v", s.Latch().State())
		}
		exchange(t, c, down, up)
	})
	c, s, err := a.dial(within(t, 10*time.Second), l.ap, latch.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Latch().State() != latch.StateEstablished {
		t.Errorf("dialled latch is %v", s.Latch().State())
	}
	exchange(t, c, up, down)
	wait()
	_ = c.Close()
}

// secret is what must not be seen on a wire.
const secret = "the-plaintext-that-must-not-be-on-the-wire"

// exchange writes out and reads want at the same time.
func exchange(t *testing.T, c net.Conn, out, want []byte) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(out); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	got := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Errorf("read: %v", err)
	} else if !bytes.Equal(got, want) {
		t.Error("what arrived is not what was sent")
	}
	wg.Wait()
}

// noCleartext checks that nothing that left any wire shows the secret or inner addresses.
func (w *world) noCleartext(t *testing.T, hosts ...*host) {
	t.Helper()
	n, _, kept := w.rec.Counts()
	if n == 0 || kept != n {
		t.Errorf("%d datagrams recorded, %d kept: nothing can be said", n, kept)
	}
	needles := [][]byte{[]byte(secret)}
	for _, h := range hosts {
		needles = append(needles, h.in6.AsSlice())
	}
	for i, x := range hosts {
		for k, y := range hosts {
			if i != k {
				needles = append(needles, append(x.in4.AsSlice(), y.in4.AsSlice()...))
			}
		}
	}
	for _, b := range needles {
		if hits := w.rec.Search(b); hits != 0 {
			t.Errorf("%q is in %d datagrams in clear", b, hits)
		}
	}
}

// offer is how a callback hands something over: without blocking.
func offer[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// recv waits for a value.
func recv[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
	panic("unreachable")
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	late := time.After(patience)
	for !f() {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// clock is a time that the test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

var errClosed = net.ErrClosed

func parseAP(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return ap
}

func drops(h *host, d Drop) uint64 { s := h.path.Stats(); return s.Drops[d] }
