package datapath

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/hold"
)

// TestHoldFirstPacket: a dial without an SA asks once, waits, and goes on with the very packet that was held.
func TestHoldFirstPacket(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	l := b.listen(b.in4, 80, latch.Want{}, false)
	wait := l.serve(func(c *netstack.TCPConn, _ *Socket) { exchange(t, c, []byte("pong"), []byte("ping")) })
	type dialed struct {
		c   *netstack.TCPConn
		s   *Socket
		err error
	}
	done := make(chan dialed, 1)
	go func() {
		c, s, err := a.dial(within(t, 5*time.Second), l.ap, latch.Want{})
		done <- dialed{c, s, err}
	}()
	acq := recv(t, a.acquires, "acquire")
	if acq.Flow.Dst() != b.in4 || acq.Flow.DstPort() != 80 || acq.Policy.Name != "all" || acq.Socket == nil ||
		!acq.Pair.MatchOut(acq.Flow) || acq.ID == 0 {
		t.Errorf("%+v", acq)
	}
	eventually(t, "the SYN is held", func() bool { return a.path.Stats().Now.HeldPackets == 1 })
	if st := acq.Socket.Latch().State(); st != latch.StateLarval {
		t.Errorf("latch is %v while waiting", st)
	}
	ca, _ := connect(t, a, b, link{})
	if ca.Stats().OutPackets == 0 {
		t.Error("the held packet did not leave with the SA: a retransmission will")
	}
	d := recv(t, done, "connection")
	if d.err != nil {
		t.Fatal(d.err)
	}
	exchange(t, d.c, []byte("ping"), []byte("pong"))
	wait()
	_ = d.c.Close()
	if s := a.path.Stats(); s.Acquires != 1 || s.Held == 0 || s.Now.Requests != 0 || s.Now.HeldPackets != 0 {
		t.Errorf("%+v", s)
	}
	if len(a.acquires) != 0 {
		t.Error("asked twice")
	}
	w.noCleartext(t, a, b)
}

// TestAskedAsTheChildCame: a packet looks for a child just before it comes and asks just after. Nothing is left to ask for,
// unless the packet wants another one.
func TestAskedAsTheChildCame(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ctx, cancel := context.WithCancel(within(t, 10*time.Second))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = a.dial(ctx, netip.AddrPortFrom(b.in4, 80), latch.Want{}) // refused: nobody listens
	}()
	acq := recv(t, a.acquires, "acquire")
	if !a.path.Waiting(acq.ID) {
		t.Error("not waiting before the child came")
	}
	connect(t, a, b, link{})
	recv(t, done, "end of the dial")
	cancel()
	ask := func(dem demand) uint64 {
		return a.path.requests.add(acquireKey{policy: acq.Policy.Name}, acq, dem, time.Now().Add(time.Minute)).ID
	}
	if late := ask(demand{}); a.path.Waiting(late) || a.path.requests.get(late) != nil {
		t.Error("waits for a child that is there")
	}
	if other := ask(demand{like: &latch.Params{Suite: "another"}}); !a.path.Waiting(other) {
		t.Error("takes a child that does not suit")
	}
	if a.path.Waiting(acq.ID) || a.path.Waiting(0) {
		t.Error("waits for what is over")
	}
}

// TestAcquireRefused: a refusal that came protected fails a pending dial at once, and the next one without a question.
func TestAcquireRefused(t *testing.T) {
	w := newWorld()
	clk := newClock() // a failure is remembered for a second of it
	a := w.host(t, 1, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	to := netip.MustParseAddrPort("10.0.0.9:80")
	refusal := errors.New("AUTHENTICATION_FAILED")
	errs := make(chan error, 1)
	dial := func() {
		_, s, err := a.dial(within(t, 10*time.Second), to, latch.Want{})
		if ae := (*AcquireError)(nil); !errors.As(s.LastFailure(), &ae) || !ae.Final {
			t.Errorf("last failure %v", s.LastFailure())
		}
		errs <- err
	}
	go dial()
	acq := recv(t, a.acquires, "acquire")
	a.path.FailAcquire(acq.ID, refusal, true)
	if err := recv(t, errs, "error"); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	go dial()
	if err := recv(t, errs, "error"); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if len(a.acquires) != 0 {
		t.Error("asked again")
	}
	if n, _, _ := w.rec.Counts(); n != 0 {
		t.Errorf("%d datagrams left", n)
	}
	// A new policy is a new question.
	a.path.SetPolicy(a.path.Policy())
	go dial()
	acq = recv(t, a.acquires, "acquire")
	a.path.FailAcquire(acq.ID, refusal, true)
	recv(t, errs, "error")
}

// TestAcquireSilent: LATCH-13: what nobody authenticated is loss: the dial goes on until its end and can say why.
func TestLATCH13_SilenceIsLoss(t *testing.T) {
	w := newWorld()
	a := w.host(t, 1, hostOpt{})
	silence := errors.New("no answer from 192.0.2.9")
	type result struct {
		s   *Socket
		err error
	}
	res := make(chan result, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, s, err := a.dial(ctx, netip.MustParseAddrPort("10.0.0.9:80"), latch.Want{})
		res <- result{s, err}
	}()
	acq := recv(t, a.acquires, "acquire")
	a.path.FailAcquire(acq.ID, silence, false)
	select {
	case r := <-res:
		t.Fatalf("ended with %v before it was given up", r.err)
	case <-time.After(500 * time.Millisecond):
	}
	cancel()
	r := recv(t, res, "end of dial")
	if !errors.Is(r.err, context.Canceled) {
		t.Errorf("got %v", r.err)
	}
	if !errors.Is(r.s.LastFailure(), silence) {
		t.Errorf("last failure %v", r.s.LastFailure())
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// TestADV_P44_AcquireStorm: many flows, few peers: bounded memory, one request for each peer, nothing leaves.
func TestADV_P44_AcquireStorm(t *testing.T) {
	w := newWorld()
	a := w.host(t, 1, hostOpt{cfg: func(c *Config) { c.Hold = hold.Limits{Packets: 256} }})
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for peer := range 10 {
		for port := range 200 {
			_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(peer)}), uint16(1000+port)), nil)
		}
	}
	st := a.path.Stats()
	if st.Acquires != 10 || len(a.acquires) != 10 {
		t.Errorf("%d requests for 10 peers", st.Acquires)
	}
	if st.Now.HeldPackets != 256 || st.Drops[DropPending] != 2000-256 {
		t.Errorf("held %d, drops %v", st.Now.HeldPackets, st.Drops.Map())
	}
	if n, _, _ := w.rec.Counts(); n != 0 {
		t.Errorf("%d datagrams left", n)
	}
}

// TestHoldLimits: one packet for each flow, 64 for each peer, 30 seconds.
func TestHoldLimits(t *testing.T) {
	clk := newClock()
	w := newWorld()
	a := w.host(t, 1, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	to := netip.MustParseAddr("10.9.0.1")
	for range 3 {
		for port := range 100 {
			_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(to, uint16(1000+port)), nil)
		}
	}
	st := a.path.Stats()
	if st.Now.HeldPackets != hold.DefaultPerPeer {
		t.Errorf("%d held for one peer", st.Now.HeldPackets)
	}
	if want := uint64(2 * hold.DefaultPerPeer); st.Drops[DropHoldExpired] != want {
		t.Errorf("%d replaced, want %d", st.Drops[DropHoldExpired], want)
	}
	clk.advance(hold.DefaultLifetime)
	a.path.Tick()
	if st = a.path.Stats(); st.Now.HeldPackets != 0 || st.Now.Requests != 0 {
		t.Errorf("after the lifetime: %+v", st.Now)
	}
	// The request is forgotten, so it is made again.
	_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(to, 1), nil)
	if n := a.path.Stats().Acquires; n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestUnownedNeverAcquire: a reset, an echo reply and a port unreachable go under the SA of what provoked them, and without
// one they are dropped: no request, nothing held.
func TestUnownedReplies(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	_, cb := connect(t, a, b, link{})

	if _, _, err := a.dial(within(t, 5*time.Second), netip.AddrPortFrom(b.in4, 81), latch.Want{}); err == nil || isTimeout(err) {
		t.Errorf("closed port: %v", err)
	}
	ping := a.path.NewSocket(SocketConfig{})
	for _, v6 := range []bool{false, true} {
		_, tag, err := a.st.Ping(within(t, 5*time.Second), ping.Tag(), b.addr(v6))
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := tag.V.(*Child); c == nil || c.Peer.ID != b.name {
			t.Errorf("echo reply under %v", tag.V)
		}
	}
	sa := a.path.NewSocket(SocketConfig{Kind: SocketConnected})
	ua, err := a.st.DialUDP(sa.Tag(), netip.AddrPort{}, netip.AddrPortFrom(b.in4, 2001))
	if err != nil {
		t.Fatal(err)
	}
	defer sa.Close()
	defer ua.Close()
	_, _ = ua.Write([]byte("x"))
	_ = ua.SetReadDeadline(time.Now().Add(patience))
	if _, err := ua.Read(make([]byte, 10)); err == nil || isTimeout(err) {
		t.Errorf("closed UDP port: %v", err)
	}
	// The provoking SA is gone: the answer is not for anybody else's.
	before := b.path.Stats()
	b.path.Remove(cb.InSPI)
	_, _ = ua.Write([]byte("y"))
	eventually(t, "drop", func() bool { return drops(b, DropSPI) > before.Drops[DropSPI] })
	if st := b.path.Stats(); st.Acquires != 0 || st.Held != 0 {
		t.Errorf("%+v", st)
	}
	w.noCleartext(t, a, b)
}

// TestNoPolicyRefuses: what the policy discards fails at once, and leaves nothing behind.
func TestNoPolicyRefuses(t *testing.T) {
	w := newWorld()
	a := w.host(t, 1, hostOpt{policy: []spd.Policy{{Name: "block", Word: spd.Block, Sel: pairOf("10.0.0.1/32", "10.9.0.0/16")},
		{Name: "clear", Word: spd.Clear, Sel: pairOf("10.0.0.1/32", "10.8.0.0/16")}}})
	for _, tt := range []struct {
		to   string
		want error
	}{{"10.9.0.1:80", ErrDiscard}, {"10.7.0.1:80", ErrDiscard}, {"10.8.0.1:80", ErrClear}} {
		_, s, err := a.dial(within(t, 5*time.Second), netip.MustParseAddrPort(tt.to), latch.Want{})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.to, err)
		}
		if l := s.Latch(); l != nil && l.State() != latch.StateClosed {
			t.Errorf("%s: latch %v left", tt.to, l.State())
		}
		ds := a.path.NewSocket(SocketConfig{})
		u, err := a.st.ListenUDP(ds.Tag(), netip.AddrPortFrom(a.in4, 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.WriteMsg([]byte("x"), netip.MustParseAddrPort(tt.to), nil); !errors.Is(err, tt.want) {
			t.Errorf("udp %s: %v", tt.to, err)
		}
		_ = u.Close()
	}
	if n, _, _ := w.rec.Counts(); n != 0 || a.path.Stats().Acquires != 0 {
		t.Errorf("%d datagrams left, %d requests", n, a.path.Stats().Acquires)
	}
}

// TestNarrowAcquire: a socket that names a suite asks for a child of its own flow and uses no other (LATCH-17).
func TestLATCH17_Narrow(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	l := b.listen(b.in4, 80, latch.Want{}, false)
	wait := l.serve(func(c *netstack.TCPConn, _ *Socket) { exchange(t, c, []byte("pong"), []byte("ping")) })
	errs := make(chan error, 1)
	go func() {
		c, s, err := a.dial(within(t, 5*time.Second), l.ap, latch.Want{Suites: []string{"aes256gcm16"}})
		if err == nil {
			exchange(t, c, []byte("ping"), []byte("pong"))
			if q, indet := s.Latch().Quality(); q != "aes256gcm16" || indet {
				t.Errorf("quality %s, indeterminate %t", q, indet)
			}
			_ = c.Close()
		}
		errs <- err
	}()
	acq := recv(t, a.acquires, "acquire")
	if f, ok := oneFlow(acq.Pair); !ok || f != acq.Flow {
		t.Fatalf("asked for %v", acq.Pair)
	}
	if wide := acq.Pair; len(acq.Want.Suites) != 1 || wide.Local[0].Proto != ts.ProtoTCP {
		t.Errorf("%+v", acq)
	}
	connect(t, a, b, link{suite: "aes256gcm16", pairA: acq.Pair})
	if err := recv(t, errs, "dial"); err != nil {
		t.Error(err)
	}
	wait()
}

func pairOf(local, remote string) ts.Pair {
	return ts.Pair{Local: ts.Set{ts.FromPrefix(netip.MustParsePrefix(local))}, Remote: ts.Set{ts.FromPrefix(netip.MustParsePrefix(remote))}}
}

// TestHeldAsTheRequestFails: a packet that finds a request out, and is kept just after that failed, is not kept for nothing.
func TestHeldAsTheRequestFails(t *testing.T) {
	clk := newClock()
	a := newWorld().host(t, 1, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	s := a.path.NewSocket(SocketConfig{})
	var us [4]*netstack.UDPConn // one sends at a time
	for i := range us {
		u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, uint16(1000+i)))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		us[i] = u
	}
	to := netip.MustParseAddr("10.9.0.1")
	for round := range 400 {
		_, _ = us[0].WriteMsg([]byte("x"), netip.AddrPortFrom(to, 1), nil)
		acq := recv(t, a.acquires, "acquire")
		var wg sync.WaitGroup
		for _, u := range us {
			wg.Go(func() {
				for port := range 4 {
					_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(to, uint16(2+port)), nil)
				}
			})
		}
		a.path.FailAcquire(acq.ID, errors.New("no answer"), false)
		wg.Wait()
		if st := a.path.Stats(); st.Now.HeldPackets != 0 || st.Now.Requests != 0 {
			t.Fatalf("round %d: %d packets wait for %d requests", round, st.Now.HeldPackets, st.Now.Requests)
		}
		clk.advance(2 * hold.DefaultRetryMax)
	}
}

// TestNarrowChildEndsTheWait: packets to two hosts of one peer wait for one request, and the peer grants a child for the first
// alone. The second is asked for by itself, whether the child comes before or after that is known.
func TestNarrowChildEndsTheWait(t *testing.T) {
	w := newWorld()
	a := w.host(t, 1, hostOpt{policy: []spd.Policy{{Name: "net", Word: spd.Private, Peer: "h2", Sel: pairOf("10.0.0.1/32", "10.0.0.0/24")}}})
	b := w.host(t, 2, hostOpt{})
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	second := func() Acquire {
		t.Helper()
		acq := recv(t, a.acquires, "acquire for the second host")
		if acq.Flow.Dst() != netip.MustParseAddr("10.0.0.3") {
			t.Fatalf("asked for %v", acq.Flow)
		}
		return acq
	}
	_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(b.in4, 1), nil)
	first := recv(t, a.acquires, "acquire")
	_, _ = u.WriteMsg([]byte("x"), netip.MustParseAddrPort("10.0.0.3:1"), nil)
	if len(a.acquires) != 0 {
		t.Fatal("asked twice")
	}
	connect(t, a, b, link{})
	again := second()
	if st := a.path.Stats().Now; st.HeldPackets != 1 || st.Requests != 1 {
		t.Errorf("%+v", st)
	}
	// One more for the first host was on its way when the child came.
	key := a.path.requests.get(again.ID).key
	a.path.requests.take(again.ID)
	late := a.path.requests.add(key, first, demand{}, time.Now().Add(time.Minute))
	if a.path.Waiting(late.ID) {
		t.Error("waits for a child that is there")
	}
	second()
}
