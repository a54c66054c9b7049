package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

var full = flag.Bool("full", false, "flood with the published number of datagrams")

const (
	server4 = "192.0.2.1:4500"
	server6 = "[2001:db8:1::1]:4500"
)

// server starts the host that is attacked, on IPv4 and IPv6, with a gate of its own
// configuration. It takes anonymous peers.
func server(t testing.TB, n *tuntest.Net, cfg gate.Config) (*testHost, *Engine, *tuntest.Wire) {
	t.Helper()
	w, err := n.Listen(netip.MustParseAddrPort(server4), netip.MustParseAddrPort(server6))
	if err != nil {
		t.Fatal(err)
	}
	h := &testHost{name: "server", wire: w}
	e := h.start(t)
	g, err := gate.New(cfg, rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e.k.door.mu.Lock()
	e.k.door.gate = g
	e.k.door.mu.Unlock()
	return h, e, w
}

// client starts an honest host at an address.
func client(t testing.TB, n *tuntest.Net, name, addr string) *Engine {
	t.Helper()
	h := &testHost{name: name, wire: at(t, n, addr), remotes: []netip.AddrPort{netip.MustParseAddrPort(server4)}}
	return h.start(t)
}

// connect makes a full handshake of a client, and reports whether it succeeded in time.
func connect(t testing.TB, e *Engine, name string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Initiate(ctx, "peer-of-"+name); err != nil {
		t.Logf("%s: %v", name, err)
		return false
	}
	return true
}

// rekeyed rekeys the one IKE SA of a client and its child, and waits until both have new keys.
func rekeyed(t testing.TB, e *Engine, name string) {
	t.Helper()
	now := func() (ikeSPI, childSPI string) {
		for _, s := range e.Status().IKE {
			if s.State == "ESTABLISHED" && len(s.Children) > 0 {
				return s.SPIi, s.Children[0].InSPI
			}
		}
		return "", ""
	}
	for _, what := range []string{"peer-of-" + name, "all"} {
		i0, c0 := now()
		if n, err := e.Rekey(what); n != 1 || err != nil {
			t.Errorf("%d of %s to rekey, %v", n, what, err)
			return
		}
		eventually(t, what+" has new keys", func() bool {
			i1, c1 := now()
			return i1 != "" && (what == "all" && c1 != c0 || what != "all" && i1 != i0)
		})
	}
}

// heapNow is what is reachable.
func heapNow() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// forge sends n forged requests as fast as the host takes them, or until done is closed if
// that is later. None is lost on the way: what does not reach the host is no load. Who else
// sends to it are others.
func forge(net *tuntest.Net, w *tuntest.Wire, others []*Engine, n int, done <-chan struct{}) (sent int) {
	f := &forger{}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	underway := func() int64 {
		in := int64(sent)
		for _, e := range others {
			in += int64(e.Wire().Stats().TxPackets)
		}
		return in - int64(w.Stats().RxPackets)
	}
	before := underway()
	marked := make([]byte, tun.MarkerLen)
	for over := false; !over || sent < n; {
		for range 512 {
			p := f.next()
			marked = append(marked[:tun.MarkerLen], p.Data()...)
			net.Inject(p.Path.Remote, p.Path.Local, marked)
			sent++
		}
		for underway()-before > 2048 {
			<-tick.C
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	return sent
}

// TestADV_H1_WholeHost floods a host with requests from everywhere, which cost it no memory,
// while honest hosts set up SAs with it and one keeps rekeying.
func TestADV_H1_WholeHost(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	_, es, ws := server(t, n, gate.Config{})
	honest, each, forged := 4, 10, 50_000
	if *full {
		honest, each, forged = 8, 100, 1_000_000
	}
	clients := make([]*Engine, honest)
	for i := range clients {
		name := "c" + strconv.Itoa(i)
		clients[i] = client(t, n, name, "198.51.100."+strconv.Itoa(i+1)+":4500")
		if !connect(t, clients[i], name) {
			t.Fatal("no SA without a flood")
		}
	}
	old := client(t, n, "old", "203.0.113.1:4500")
	if !connect(t, old, "old") {
		t.Fatal("no SA without a flood")
	}

	before := heapNow()
	var ok atomic.Int64
	var rekeys int
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i, e := range clients {
		wg.Go(func() {
			name := "c" + strconv.Itoa(i)
			for range each {
				if _, err := e.Terminate("peer-of-" + name); err != nil {
					t.Error(err)
				}
				if connect(t, e, name) {
					ok.Add(1)
				}
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			rekeyed(t, old, "old")
			rekeys++
		}
	})
	go func() { wg.Wait(); close(done) }()
	peak := liveHeap(t, done)
	start := time.Now()
	sent := forge(n, ws, append(clients, old), forged, done)
	rate := float64(sent) / time.Since(start).Seconds()
	grown, most := heapNow()-before, <-peak-before
	st := es.Status().Gate
	t.Logf("%d forged requests, %.0f/s: heap %+d KiB, at most %+d, %d half-open; honest: %d of %d; %d rekeyings; refused %v, lost %d",
		sent, rate, grown>>10, most>>10, st.HalfOpen, ok.Load(), honest*each, rekeys, st.Refused, st.Overflow)
	if ok.Load()*100 < int64(honest*each)*99 {
		t.Errorf("%d of %d honest handshakes", ok.Load(), honest*each)
	}
	// What is allocated while a collection runs counts as alive in that one.
	if grown > 10<<20 || most > 32<<20 {
		t.Errorf("heap grew by %d KiB, and by %d meanwhile", grown>>10, most>>10)
	}
	if *full && rate < 100_000 {
		t.Errorf("%.0f forged requests a second are no flood of 100,000", rate)
	}
	if drops := ws.Stats().Drops[tun.DropQueue]; drops != 0 {
		t.Errorf("%d datagrams never reached the host", drops)
	}
}

// liveHeap watches what garbage collections find alive, and tells the most when the test asks after done.
func liveHeap(t *testing.T, done <-chan struct{}) <-chan int64 {
	peak := make(chan int64, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for most := int64(0); ; {
			metrics.Read(live)
			most = max(most, int64(live[0].Value.Uint64()))
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	t.Cleanup(wg.Wait)
	return peak
}

// A swarm is attackers with real addresses, who do everything right up to the IKE_SA_INIT
// response, and then nothing.
type swarm struct {
	t       testing.TB
	wire    *tuntest.Wire
	mu      sync.Mutex
	waiting map[netip.AddrPort]*ike.Machine
	cfg     *ike.Config
}

func newSwarm(t testing.TB, n *tuntest.Net, at []netip.AddrPort) *swarm {
	t.Helper()
	w, err := n.Listen(at...)
	if err != nil {
		t.Fatal(err)
	}
	s := &swarm{t: t, wire: w, waiting: map[netip.AddrPort]*ike.Machine{}, cfg: &ike.Config{
		Proposals: iketest.MustIKE("default"), Rand: rand.Reader, ForceEncap: true, HashAlgs: auth.Hashes(),
		Local: ike.Local{ID: wire.ID{IType: wire.IDFQDN, Data: []byte("swarm")}, Method: wire.AuthMethodDigitalSignature}}}
	var wg sync.WaitGroup
	wg.Go(s.receive)
	t.Cleanup(func() { _ = w.Close(); wg.Wait() })
	for _, from := range at {
		to := netip.MustParseAddrPort(server4)
		if from.Addr().Is6() {
			to = netip.MustParseAddrPort(server6)
		}
		m, err := ike.NewInitiator(s.cfg, ike.Path{Local: from, Remote: to}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.waiting[from] = m
		m.Start(time.Now(), nil)
		s.drain(m)
		s.mu.Unlock()
	}
	return s
}

func (s *swarm) receive() {
	pkts := make([]tun.Packet, 16)
	for {
		for i := range pkts {
			pkts[i] = tun.Packet{Buf: make([]byte, tun.Headroom+2048)}
		}
		n, err := s.wire.Receive(pkts)
		if err != nil {
			return
		}
		s.mu.Lock()
		for i := range pkts[:n] {
			if m := s.waiting[pkts[i].Path.Local]; m != nil {
				m.Datagram(time.Now(), ike.Path(pkts[i].Path), pkts[i].Data())
				s.drain(m)
			}
		}
		s.mu.Unlock()
	}
}

// tick sends again what was lost.
func (s *swarm) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.waiting {
		m.Tick(time.Now())
		s.drain(m)
	}
}

// drain sends what a machine wants to send, and makes keys for it but no shared secret.
func (s *swarm) drain(m *ike.Machine) {
	for o, ok := m.Next(); ok; o, ok = m.Next() {
		switch o := o.(type) {
		case *ike.Send:
			buf := append(make([]byte, tun.Headroom), o.Data...)
			_, _ = s.wire.Send([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(o.Data), Path: tun.Path(o.Path), Kind: tun.KindIKE}})
		case *ike.WorkKE:
			if o.Peer == nil {
				r := &ike.KEResult{}
				r.Key, r.Err = suite.GenerateKE(o.Group, rand.Reader)
				m.Complete(time.Now(), o.ID, r)
			}
		}
	}
}

// TestADV_H2_WholeHost: with cookies, from one host, one /24 and one /64.
func TestADV_H2_WholeHost(t *testing.T) {
	for name, tc := range map[string]struct {
		at  func(i int) netip.AddrPort
		max int
	}{
		"one host": {func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(20000+i))
		}, gate.DefaultMaxPerAddr},
		"one /24": {func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(20000+i))
		}, gate.DefaultMaxPerPrefix},
		"one /64": {func(i int) netip.AddrPort {
			a := netip.MustParseAddr("2001:db8:2::").As16()
			binary.BigEndian.PutUint64(a[8:], uint64(i+1)*0x9e3779b97f4a7c15)
			return netip.AddrPortFrom(netip.AddrFrom16(a), 4500)
		}, gate.DefaultMaxPerPrefix},
	} {
		t.Run(name, func(t *testing.T) {
			n := tuntest.NewNet(tuntest.Faults{})
			_, e, _ := server(t, n, gate.Config{})
			var from []netip.AddrPort
			for i := range tc.max + 100 {
				from = append(from, tc.at(i))
			}
			s := newSwarm(t, n, from)
			eventually(t, "the share is used up, and cookies are demanded", func() bool {
				s.tick()
				got := e.Status().Gate
				return got.HalfOpen >= tc.max && got.Refused[gate.ReasonCookie.String()] > 0
			})
			if got := e.Status().Gate; got.HalfOpen != tc.max {
				t.Errorf("%+v; want %d half-open", got, tc.max)
			}
			if !connect(t, client(t, n, "honest", "203.0.113.1:4500"), "honest") {
				t.Error("an honest host is kept out")
			}
		})
	}
}

// TestADV_H3_WholeHost: cookie and key exchange, from everywhere, and never IKE_AUTH.
func TestADV_H3_WholeHost(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	const most = 400
	_, e, _ := server(t, n, gate.Config{MaxHalfOpen: most})
	old := client(t, n, "old", "203.0.113.1:4500")
	if !connect(t, old, "old") {
		t.Fatal("no SA without attackers")
	}
	before := heapNow()
	var from []netip.AddrPort
	for i := range most + 200 {
		from = append(from, netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}), 4500))
	}
	s := newSwarm(t, n, from)
	eventually(t, "the cap is reached", func() bool {
		s.tick()
		st := e.Status().Gate
		if st.HalfOpen > most {
			t.Errorf("%d half-open SAs", st.HalfOpen)
		}
		return st.Refused[gate.ReasonFull.String()] > 0
	})
	t.Logf("%d KiB for %d half-open SAs and their attackers", (heapNow()-before)>>10, most)
	rekeyed(t, old, "old")
	_ = s.wire.Close()
	e.ask(func(now time.Time) {
		e.k.door.mu.Lock()
		e.k.door.at = now.Add(gate.DefaultHalfOpenLife) // its clock goes on from there
		e.k.door.mu.Unlock()
		e.k.tick(now)
	})
	if got := e.Status().Gate.HalfOpen; got != 0 {
		t.Errorf("%d half-open SAs after their time", got)
	}
	if !connect(t, client(t, n, "honest", "203.0.113.2:4500"), "honest") {
		t.Error("an honest host is kept out for good")
	}
}

// TestADV_H4_WholeHost ends half-open SAs in every way: nothing of them is left (I9).
func TestADV_H4_WholeHost(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	_, e, _ := server(t, n, gate.Config{HalfOpenLife: time.Second})
	to := netip.MustParseAddrPort(server4)
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), 4500)
	}
	send := func(i int, b []byte) { n.Inject(from(i), to, append(make([]byte, tun.MarkerLen), b...)) }
	next := 0
	for _, b := range [][]byte{
		initRequest(1), // a public value that is refused: low order
		changed(t, 2, func(m *wire.Message) { sa(m).Proposals[0].Transforms[0].ID = 9999 }), // NO_PROPOSAL_CHOSEN
		changed(t, 3, func(m *wire.Message) { ke(m).Group = wire.GroupMODP2048 }),           // INVALID_KE_PAYLOAD
		changed(t, 4, func(m *wire.Message) { ke(m).Data = ke(m).Data[:31] }),
		changed(t, 5, func(m *wire.Message) { ke(m).Data[31] = 9 }), // a good one, and then silence
		changed(t, 6, func(m *wire.Message) { m.Payloads = append(m.Payloads, &wire.Unknown{PType: 200, Critical: true}) }),
	} {
		next++
		send(next, b)
		send(next, b) // and again
	}
	// AUTH that proves nothing, and an identity nobody knows: real hosts, with the wrong key
	// and the wrong idea of whom they reach.
	stranger := &testHost{name: "stranger", wire: at(t, n, "203.0.113.1:4500"), remotes: []netip.AddrPort{to}, peer: newKey(t).Public()}
	if connect(t, stranger.start(t), "stranger") {
		t.Error("connected to somebody else")
	}
	eventually(t, "requests have been worked on", func() bool { return e.Status().Gate.Responders >= 5 })
	eventually(t, "no half-open SA is left", func() bool { return e.Status().Gate.HalfOpen == 0 })
	eventually(t, "no IKE SA is left", func() bool {
		left := 0
		e.ask(func(time.Time) {
			for _, s := range e.k.sas {
				if s.until.IsZero() { // the others repeat their last answer for a while
					left++
				}
			}
			for range e.k.roster {
				left++
			}
		})
		return left == 0
	})
	e.ask(func(time.Time) {
		if e.k.strangers > 1 || len(e.k.byMachine) != len(e.k.sas) || len(e.k.byChild) != 0 {
			t.Errorf("%d strangers, %d machines of %d SAs, %d children", e.k.strangers, len(e.k.byMachine), len(e.k.sas), len(e.k.byChild))
		}
	})
}

func changed(t *testing.T, spii uint64, change func(m *wire.Message)) []byte {
	t.Helper()
	m, err := wire.Parse(initRequest(spii))
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	return m.Append(nil)
}

func sa(m *wire.Message) *wire.SA { p, _ := wire.Get[*wire.SA](m.Payloads); return p }
func ke(m *wire.Message) *wire.KE { p, _ := wire.Get[*wire.KE](m.Payloads); return p }

// TestADV_H6_WholeHost weighs what strangers get for what they send (I12).
func TestADV_H6_WholeHost(t *testing.T) {
	good := func(spii uint64) []byte {
		return changed(t, spii, func(m *wire.Message) { ke(m).Data[31] = 9 })
	}
	header := func(spir uint64, typ wire.ExchangeType, f wire.Flags) []byte {
		m := wire.Message{Header: wire.Header{SPIi: 77, SPIr: spir, Exchange: typ, Flags: f, MessageID: 1},
			Payloads: []wire.Payload{&wire.Encrypted{Body: make([]byte, 40)}}}
		return m.Append(nil)
	}
	version := good(5)
	version[17] = 0x30
	for _, tc := range []struct {
		name string
		data []byte
		cfg  gate.Config
		most float64
	}{
		{"IKE_SA_INIT, answered", good(1), gate.Config{}, 1.5}, // the exception, measured
		{"IKE_SA_INIT, asked for a cookie", good(2), gate.Config{CookieThreshold: -1}, 1},
		{"IKE_SA_INIT, no proposal chosen", changed(t, 3, func(m *wire.Message) { sa(m).Proposals[0].Transforms[0].ID = 9999 }), gate.Config{}, 1},
		{"IKE_SA_INIT, another group", changed(t, 4, func(m *wire.Message) { ke(m).Group = wire.GroupMODP2048 }), gate.Config{}, 1},
		{"version 3", version, gate.Config{}, 1},
		{"IKE_AUTH of no SA", header(99, wire.ExchangeIKEAuth, wire.FlagInitiator), gate.Config{}, 1},
		{"INFORMATIONAL of no SA", header(99, wire.ExchangeInformational, wire.FlagInitiator), gate.Config{}, 1},
		{"a response to nothing", header(99, wire.ExchangeInformational, wire.FlagResponse), gate.Config{}, 0},
		{"half a header", good(6)[:14], gate.Config{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := tuntest.NewNet(tuntest.Faults{})
			_, e, w := server(t, n, tc.cfg)
			from := netip.MustParseAddrPort("198.51.100.1:4500")
			n.Inject(from, netip.MustParseAddrPort(server4), append(make([]byte, tun.MarkerLen), tc.data...))
			in := len(tc.data)
			eventually(t, "it is received", func() bool { s := w.Stats(); return s.RxPackets+s.Dropped() == 1 })
			if tc.most > 1 {
				eventually(t, "it is answered", func() bool { return w.Stats().TxPackets >= 1 })
			}
			// The door answers before it rings, and the keyer in the order of its calls.
			for range 3 {
				e.ask(func(time.Time) {})
			}
			out := w.Stats().TxBytes
			ratio := float64(out) / float64(in)
			t.Logf("%d octets in, %d out: %.2f", in, out, ratio)
			if ratio > tc.most {
				t.Errorf("%d octets answered with %d", in, out)
			}
		})
	}
}
