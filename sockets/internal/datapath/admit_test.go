package datapath

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// params of a child as forge makes them.
func (h *host) inbound(f ts.Flow, tag *netstack.Tag, s *Socket, edit func(*netstack.Inbound)) bool {
	in := netstack.Inbound{Flow: f, Packet: tag, Proto: f.Proto()}
	if s != nil {
		in.Socket = s.Tag()
	}
	if edit != nil {
		edit(&in)
	}
	return h.path.Admit(in)
}

// TestAdmitTags: what the data path did not deliver, or what is not its socket, is nobody's.
func TestAdmitTags(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	f := flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2")
	s := h.path.NewSocket(SocketConfig{})
	for i, ok := range []bool{
		h.inbound(f, nil, s, nil),
		h.inbound(f, &netstack.Tag{}, s, nil),
		h.inbound(f, &netstack.Tag{V: 7}, s, nil),
		h.path.Admit(netstack.Inbound{Flow: f, Socket: &netstack.Tag{V: "x"}}),
	} {
		if ok {
			t.Errorf("case %d is let in", i)
		}
	}
	if drops(h, DropAdmitTag) != 4 {
		t.Errorf("%v", h.path.Stats().Drops.Map())
	}
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	if !h.inbound(f, e.c.Tag(), s, nil) {
		t.Errorf("a good one is kept out: %v", h.path.Stats().Drops.Map())
	}
	h.path.Remove(e.c.InSPI)
	if h.inbound(f, e.c.Tag(), s, nil) {
		t.Error("let in under a removed SA")
	}
}

// TestAdmitPolicy: the policy of now, not of when the SA was made, says whose SAs may carry a datagram.
func TestAdmitPolicy(t *testing.T) {
	w := newWorld()
	pols := []spd.Policy{{Name: "sun only", Word: spd.Private, Peer: "sun", Sel: pairOf("10.0.0.1/32", "10.0.0.2/32")},
		{Name: "ping", Word: spd.Private, Sel: parsePair(t, "10.0.0.1[icmp/8]", "10.0.0.3[icmp/0]")}}
	h := w.host(t, 1, hostOpt{policy: pols})
	moon := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.0/24"), esp.ModeTunnel)
	s := h.path.NewSocket(SocketConfig{})
	if h.inbound(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), moon.c.Tag(), s, nil) || drops(h, DropInPolicy) != 1 {
		t.Errorf("another peer's SA: %v", h.path.Stats().Drops.Map())
	}
	// The answer to a ping has another type than the request: it is the peer's side that says so.
	if !h.inbound(icmpFlow("10.0.0.3", "10.0.0.1", 0, 0), moon.c.Tag(), s, nil) {
		t.Errorf("echo reply: %v", h.path.Stats().Drops.Map())
	}
	if h.inbound(icmpFlow("10.0.0.3", "10.0.0.1", 8, 0), moon.c.Tag(), s, nil) {
		t.Error("echo request")
	}
}

// TestADV_L13_SimultaneousOpen: both ends dial each other from the port that the other dials: one latch on each side.
func TestADV_L13_SimultaneousOpen(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	in := flowOf(ts.ProtoTCP, "10.0.0.2:1000", "10.0.0.1:2000")
	s := h.path.NewSocket(SocketConfig{Kind: SocketConnected})
	defer s.Close()
	// Nothing was sent: nothing can be answered.
	if h.inbound(in, e.c.Tag(), s, func(in *netstack.Inbound) { in.SYN = true }) || drops(h, DropUnlatched) != 1 {
		t.Errorf("before the first packet: %v", h.path.Stats().Drops.Map())
	}
	l, d := s.latchFor(in.Reverse()) // the SYN is held
	if d != DropUnset {
		t.Fatal(d)
	}
	if h.inbound(in, e.c.Tag(), s, nil) || l.State() != latch.StateLarval {
		t.Error("a segment without SYN while the SYN is held")
	}
	if !h.inbound(in, e.c.Tag(), s, func(in *netstack.Inbound) { in.SYN = true }) {
		t.Errorf("the other end's SYN: %v", h.path.Stats().Drops.Map())
	}
	if l.State() != latch.StateEstablished || l.Params().Peer != "fqdn:moon" || s.Child() != e.c {
		t.Errorf("latch %v", l.Inquire())
	}
	if h.inbound(flowOf(ts.ProtoTCP, "10.0.0.2:1001", "10.0.0.1:2000"), e.c.Tag(), s, nil) {
		t.Error("another flow at the same socket")
	}

	// With an identity that the socket does not want: none.
	s2 := h.path.NewSocket(SocketConfig{Kind: SocketConnected, Want: latch.Want{Peer: "fqdn:sun"}})
	defer s2.Close()
	in2 := flowOf(ts.ProtoTCP, "10.0.0.2:1002", "10.0.0.1:2000")
	l2, _ := s2.latchFor(in2.Reverse())
	if h.inbound(in2, e.c.Tag(), s2, func(in *netstack.Inbound) { in.SYN = true }) || l2.State() != latch.StateLarval {
		t.Error("another peer's SYN")
	}
}

// TestUDPHearsFirst: a connected UDP socket that has not sent yet is latched by what it hears.
func TestUDPHearsFirst(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	in := flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2")
	s := h.path.NewSocket(SocketConfig{Kind: SocketConnected, Want: latch.Want{Peer: "fqdn:sun"}})
	if h.inbound(in, e.c.Tag(), s, nil) || s.Latch() != nil || drops(h, DropWant) != 1 {
		t.Errorf("another peer: %v", h.path.Stats().Drops.Map())
	}
	s = h.path.NewSocket(SocketConfig{Kind: SocketConnected})
	if !h.inbound(in, e.c.Tag(), s, nil) || s.Latch().State() != latch.StateEstablished {
		t.Errorf("%v", h.path.Stats().Drops.Map())
	}
	s.Close()
	if h.latches.Len() != 0 {
		t.Error("a latch is left")
	}
	if h.inbound(in, e.c.Tag(), s, nil) {
		t.Error("let in after Close")
	}
	closed := h.path.NewSocket(SocketConfig{Kind: SocketConnected})
	closed.Close()
	closed.Close()
	if h.inbound(in, e.c.Tag(), closed, nil) {
		t.Error("let in to a closed socket")
	}
}

// TestBegunAsTheLastIsAccepted: a connection begins while the last one of its 5-tuple, which is reset already, is accepted and
// takes the latch with it. The SYN that comes again, now to the connection that it began, makes another.
func TestBegunAsTheLastIsAccepted(t *testing.T) {
	h := newWorld().host(t, 1, hostOpt{})
	ls := h.path.NewSocket(SocketConfig{Kind: SocketListener})
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 80}); err != nil {
		t.Fatal(err)
	}
	defer ls.Close()
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	in := flowOf(ts.ProtoTCP, "10.0.0.2:1000", "10.0.0.1:80")
	syn := func(listener bool) bool {
		return h.inbound(in, e.c.Tag(), ls, func(in *netstack.Inbound) { in.SYN, in.Listener = true, listener })
	}
	for range 2 { // the second one is the next connection's
		if !syn(true) {
			t.Fatal(h.path.Stats().Drops.Map())
		}
	}
	last, err := h.path.Accepted(in.Reverse(), SocketConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if !syn(false) || h.path.embryos.len() != 0 {
		t.Error("a SYN that is repeated makes something of its own")
	}
	last.Close()
	if h.inbound(in, e.c.Tag(), ls, nil) {
		t.Error("data without a latch")
	}
	if !syn(false) || h.path.embryos.len() != 1 {
		t.Fatal(h.path.Stats().Drops.Map())
	}
	next, err := h.path.Accepted(in.Reverse(), SocketConfig{})
	if err != nil || next.Latch().State() != latch.StateEstablished {
		t.Fatal(err)
	}
	next.Close()
}

// TestTimeWaitReuse: a SYN for a connection in TIME-WAIT keeps the latch for the connection that follows, however the two
// holders come and go; another peer's SYN does not (ADV-L17).
func TestTimeWaitReuse(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	ls := h.path.NewSocket(SocketConfig{Kind: SocketListener})
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 80}); err != nil {
		t.Fatal(err)
	}
	defer ls.Close()
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	in := flowOf(ts.ProtoTCP, "10.0.0.2:1000", "10.0.0.1:80")
	syn := func(in *netstack.Inbound) { in.SYN = true }
	if !h.inbound(in, e.c.Tag(), ls, func(in *netstack.Inbound) { in.SYN, in.Listener = true, true }) {
		t.Fatal(h.path.Stats().Drops.Map())
	}
	recv(t, h.alerts, "alert of the listener")
	one, err := h.path.Accepted(in.Reverse(), SocketConfig{})
	if err != nil || one.Kind() != SocketConnected || one.Child() != e.c {
		t.Fatal(err)
	}
	if _, err := h.path.Accepted(in.Reverse(), SocketConfig{}); !errors.Is(err, ErrUnlatched) {
		t.Errorf("accepted twice: %v", err)
	}
	evil := forge(t, h, "mallory", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	if h.inbound(in, evil.c.Tag(), one, syn) || h.path.embryos.len() != 0 {
		t.Error("another peer's SYN")
	}
	h.path.Remove(evil.c.InSPI)
	for range 2 { // a retransmission
		if !h.inbound(in, e.c.Tag(), one, syn) || h.path.embryos.len() != 1 {
			t.Errorf("%d embryos, %v", h.path.embryos.len(), h.path.Stats().Drops.Map())
		}
	}
	l := one.Latch()
	one.Close()
	if l.State() != latch.StateEstablished {
		t.Error("the latch went with the old connection")
	}
	two, err := h.path.Accepted(in.Reverse(), SocketConfig{})
	if err != nil || two.Latch() != l {
		t.Fatal(err)
	}
	two.Close()
	if l.State() != latch.StateClosed || h.latches.Find(in.Reverse()) != nil {
		t.Error("the latch outlives its last holder")
	}
	if one.grip.Load().share() {
		t.Error("a released latch is shared again")
	}
}

// TestAcceptedChecks: a connection whose latch broke, or is not what is demanded, is not handed out.
func TestAcceptedChecks(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	ls := h.path.NewSocket(SocketConfig{Kind: SocketListener})
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 80}); err != nil {
		t.Fatal(err)
	}
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 81}); !errors.Is(err, latch.ErrState) {
		t.Errorf("listening twice: %v", err)
	}
	if err := h.path.NewSocket(SocketConfig{Kind: SocketListener}).Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 80}); !errors.Is(err, latch.ErrExists) {
		t.Errorf("a second listener: %v", err)
	}
	if err := h.path.NewSocket(SocketConfig{}).Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 82}); !errors.Is(err, latch.ErrState) {
		t.Errorf("no listener: %v", err)
	}
	e := forge(t, h, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	begin := func(port string) ts.Flow {
		in := flowOf(ts.ProtoTCP, "10.0.0.2:"+port, "10.0.0.1:80")
		if !h.inbound(in, e.c.Tag(), ls, func(in *netstack.Inbound) { in.SYN, in.Listener = true, true }) {
			t.Fatal(h.path.Stats().Drops.Map())
		}
		return in.Reverse()
	}
	f := begin("1")
	h.latches.Break(h.latches.Find(f), latch.ReasonAdmin, "test")
	if _, err := h.path.Accepted(f, SocketConfig{}); !errors.Is(err, latch.ErrBroken) {
		t.Errorf("broken: %v", err)
	}
	var me *latch.MismatchError
	if _, err := h.path.Accepted(begin("2"), SocketConfig{Want: latch.Want{Peer: "fqdn:sun"}}); !errors.As(err, &me) {
		t.Errorf("other demand: %v", err)
	}
	f = begin("3")
	h.latches.Close(h.latches.Find(f), errors.New("administrator"))
	if _, err := h.path.Accepted(f, SocketConfig{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	ls.Close()
	if h.latches.Len() != 0 {
		t.Errorf("%d latches left", h.latches.Len())
	}
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 83}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after Close: %v", err)
	}
}

// TestLoopback: a host reaches itself without an SA, if nobody asks for protection, and is never mistaken for a peer.
func TestLoopback(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{})
	l := h.listen(h.in4, 80, latch.Want{}, false)
	wait := l.serve(func(c *netstack.TCPConn, s *Socket) {
		if s.Latch() != nil || s.Child() != nil {
			t.Error("a latch on the loopback")
		}
		exchange(t, c, []byte("pong"), []byte("ping"))
	})
	c, s, err := h.dial(within(t, 5*time.Second), l.ap, latch.Want{})
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, []byte("ping"), []byte("pong"))
	if s.Child() != nil || s.Latch() != nil && s.Latch().Params() != nil {
		t.Error("protection that is not there")
	}
	wait()
	_ = c.Close()
	strict := h.listen(h.in4, 81, latch.Want{Peer: "fqdn:h1"}, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := make(chan error, 1)
	go func() { _, _, err := h.dial(ctx, strict.ap, latch.Want{}); errs <- err }()
	eventually(t, "the listener that demands a peer drops it", func() bool { return drops(h, DropWant) > 0 })
	cancel()
	if recv(t, errs, "end of dial") == nil {
		t.Error("reached a listener that demands a peer")
	}
	if n, _, _ := w.rec.Counts(); n != 0 {
		t.Errorf("%d datagrams left", n)
	}
}

// TestClearTransfer: where policies, sockets and wires all allow it, packets pass in clear; a socket that did not allow it
// fails at once.
func TestClearTransfer(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, word := range []spd.Word{spd.Clear, spd.ClearOrPrivate} {
			w := newWorld()
			var hs [2]*host
			for i := range hs {
				h := &host{in4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), in6: netip.MustParseAddr("fd00::" + string(rune('1'+i)))}
				hs[i] = w.host(t, i+1, hostOpt{clear: true, policy: []spd.Policy{{Name: "clear", Sel: h.anyTo(), Word: word}}})
			}
			a, b := hs[0], hs[1]
			for i := range hs {
				h, peer := hs[i], hs[1-i]
				ch := make(chan []byte, 4096)
				var wg sync.WaitGroup
				wg.Go(func() {
					for p := range ch {
						peer.inject(tun.Packet{Buf: p, Len: len(p), Kind: tun.KindClear})
					}
				})
				var mu sync.Mutex
				open := true
				f := func(p []byte) {
					mu.Lock()
					defer mu.Unlock()
					if open {
						offer(ch, p)
					}
				}
				h.wire.onClear.Store(&f)
				t.Cleanup(func() {
					mu.Lock()
					open = false
					mu.Unlock()
					close(ch)
					wg.Wait()
				})
			}
			l := b.listen(b.addr(v6), 80, latch.Want{}, true)
			wait := l.serve(func(c *netstack.TCPConn, s *Socket) {
				if s.Child() != nil {
					t.Error("a child in clear")
				}
				exchange(t, c, bytes.Repeat([]byte("b"), 200000), bytes.Repeat([]byte("a"), 200000))
			})
			s := a.path.NewSocket(SocketConfig{Kind: SocketConnected, AllowBypass: true})
			c, err := a.st.DialTCP(within(t, 5*time.Second), s.Tag(), netip.AddrPort{}, l.ap)
			if err != nil {
				t.Fatal(err)
			}
			c.OnGone(s.Close)
			exchange(t, c, bytes.Repeat([]byte("a"), 200000), bytes.Repeat([]byte("b"), 200000))
			wait()
			_ = c.Close()
			if _, _, err := a.dial(within(t, 5*time.Second), l.ap, latch.Want{}); !errors.Is(err, ErrClear) {
				t.Errorf("a socket that did not allow it: %v", err)
			}
			// Larger than the wire's MTU: fragments, put together by the clear side's own reassembly.
			sa, sb := a.path.NewSocket(SocketConfig{AllowBypass: true}), b.path.NewSocket(SocketConfig{AllowBypass: true})
			ua, err := a.st.ListenUDP(sa.Tag(), netip.AddrPortFrom(a.addr(v6), 1))
			if err != nil {
				t.Fatal(err)
			}
			ub, err := b.st.ListenUDP(sb.Tag(), netip.AddrPortFrom(b.addr(v6), 2))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ua.WriteMsg(make([]byte, 9000), netip.AddrPortFrom(b.addr(v6), 2), nil); err != nil {
				t.Fatal(err)
			}
			_ = ub.SetReadDeadline(time.Now().Add(patience))
			if n, _, _, tag, err := ub.ReadMsg(make([]byte, 10000)); err != nil || n != 9000 || tag.V.(*clearMark) == nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if _, err := ub.WriteMsg([]byte("x"), netip.AddrPortFrom(a.addr(v6), 9), nil); err != nil {
				t.Error(err) // port unreachable comes back in clear: unowned, provoked by a clear packet
			}
			eventually(t, "an answer in clear to a clear packet", func() bool { return b.path.Stats().ClearIn > 8 })
			_, _ = ua.Close(), ub.Close()
			if st := a.path.Stats(); st.ClearOut == 0 || st.ClearIn == 0 || st.Acquires != 0 {
				t.Errorf("%+v", st)
			}
		}
	}
}

// TestPrivateOrClear: protection is asked for first; when that fails, what waited goes in clear, for sockets that allow it.
func TestPrivateOrClear(t *testing.T) {
	w := newWorld()
	h := &host{in4: netip.AddrFrom4([4]byte{10, 0, 0, 1}), in6: netip.MustParseAddr("fd00::1")}
	a := w.host(t, 1, hostOpt{clear: true, policy: []spd.Policy{{Name: "try", Sel: h.anyTo(), Word: spd.PrivateOrClear}}})
	a.wire.record()
	open := func(bypass bool) func(port uint16) {
		s := a.path.NewSocket(SocketConfig{AllowBypass: bypass})
		u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		return func(port uint16) {
			_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), port), nil)
		}
	}
	lax, strict := open(true), open(false)
	lax(1)
	strict(2)
	acq := recv(t, a.acquires, "acquire")
	if len(a.wire.take()) != 0 {
		t.Fatal("sent before the answer")
	}
	a.path.FailAcquire(acq.ID, errors.New("silence"), false)
	sent := a.wire.take()
	if len(sent) != 1 || sent[0].kind != tun.KindClear || drops(a, DropHoldFailed) != 1 {
		t.Errorf("%d sent, drops %v", len(sent), a.path.Stats().Drops.Map())
	}
	lax(3)
	strict(4)
	if sent := a.wire.take(); len(sent) != 1 || drops(a, DropRefused) != 1 {
		t.Errorf("%d sent, drops %v", len(sent), a.path.Stats().Drops.Map())
	}
}

// TestReplyOutsideSelectors: a port unreachable goes back under an SA for UDP alone, because the packet it is about came
// under it (RFC 4301, Section 6.2), and the sender takes it.
func TestReplyOutsideSelectors(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		w := newWorld()
		a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
		pair := ts.Pair{Local: ts.Set{ts.FromAddr(a.addr(v6))}, Remote: ts.Set{ts.FromAddr(b.addr(v6))}}
		pair.Local[0].Proto, pair.Remote[0].Proto = ts.ProtoUDP, ts.ProtoUDP
		connect(t, a, b, link{pairA: pair})
		s := a.path.NewSocket(SocketConfig{Kind: SocketConnected})
		u, err := a.st.DialUDP(s.Tag(), netip.AddrPort{}, netip.AddrPortFrom(b.addr(v6), 9))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = u.Write([]byte("anybody?"))
		_ = u.SetReadDeadline(time.Now().Add(patience))
		if _, err := u.Read(make([]byte, 10)); err == nil || isTimeout(err) {
			t.Errorf("v6 %t: %v; a %v, b %v", v6, err, a.path.Stats().Drops.Map(), b.path.Stats().Drops.Map())
		}
		_ = u.Close()
		s.Close()
	}
}

// TestResponderWaits: a responder's child receives before it sends: what it wants to send meanwhile is held and no second
// child is asked for (RFC 7296, Section 2.8).
func TestResponderWaits(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	_, cb, keys, install := prepareKeys(t, a, b, link{halfB: true})
	install()
	l := b.listen(b.in4, 80, latch.Want{}, false)
	wait := l.serve(func(c *netstack.TCPConn, _ *Socket) { exchange(t, c, []byte("pong"), []byte("ping")) })
	errs := make(chan error, 1)
	go func() {
		c, _, err := a.dial(within(t, 5*time.Second), l.ap, latch.Want{})
		if err == nil {
			exchange(t, c, []byte("ping"), []byte("pong"))
			_ = c.Close()
		}
		errs <- err
	}()
	if c := recv(t, b.first, "first inbound packet"); c != cb {
		t.Error("of another child")
	}
	eventually(t, "the SYN-ACK is held", func() bool { return b.path.Stats().Now.HeldPackets == 1 })
	if b.path.Stats().Acquires != 0 {
		t.Error("asked for another child")
	}
	if err := b.path.InstallOutbound(cb, a.spiOf(t, b), keys.ba); err != nil {
		t.Fatal(err)
	}
	if err := recv(t, errs, "dial"); err != nil {
		t.Error(err)
	}
	wait()
}

// TestResponderWaitsInVain: the child that was about to send is removed before it does: what waited for it is asked for.
func TestResponderWaitsInVain(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	_, cb := connect(t, a, b, link{halfB: true})
	if _, _, err := a.st.Ping(within(t, 50*time.Millisecond), a.path.NewSocket(SocketConfig{}).Tag(), b.in4); err == nil {
		t.Error("answered under a child that does not send")
	}
	recv(t, b.first, "first inbound packet")
	u, err := b.st.ListenUDP(b.path.NewSocket(SocketConfig{}).Tag(), netip.AddrPortFrom(b.in4, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(a.in4, 1), nil)
	if st := b.path.Stats(); st.Now.HeldPackets != 2 || st.Acquires != 0 {
		t.Errorf("%+v", st)
	}
	b.path.Remove(cb.InSPI)
	if acq := recv(t, b.acquires, "acquire"); acq.Flow.Dst() != a.in4 {
		t.Errorf("asked for %v", acq.Flow)
	}
	if n := b.path.Stats().Now.HeldPackets; n != 1 { // the echo reply asks for nothing
		t.Errorf("%d packets held", n)
	}
}

// spiOf is the SPI under which h receives from o.
func (h *host) spiOf(t *testing.T, o *host) (spi uint32) {
	t.Helper()
	h.path.Children(func(c *Child) bool {
		if c.Peer.ID == o.name {
			spi = c.InSPI
		}
		return true
	})
	return spi
}

// TestInstallErrors: what cannot work is refused, and leaves nothing.
func TestInstallErrors(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	suite, _ := esp.ParseSuite("aes128gcm16")
	key := make(esp.Key, suite.KeyLen())
	good := func() *Child {
		c, _, _ := prepare(t, a, b, link{})
		return c
	}
	for name, edit := range map[string]func(*Child){
		"peer":      func(c *Child) { c.Peer = nil },
		"params":    func(c *Child) { c.Params = nil },
		"selectors": func(c *Child) { c.Pair = ts.Pair{} },
		"suite":     func(c *Child) { c.Suite = esp.Suite{} },
		"mode":      func(c *Child) { c.Mode = 0 },
		"SPI":       func(c *Child) { c.InSPI = 7 },
		"transport": func(c *Child) {
			c.Mode = esp.ModeTransport
			c.Pair.Remote = ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.0.0.0/24"))}
		},
		"families": func(c *Child) { c.Mode, c.Local, c.Remote = esp.ModeTransport, a.in4, b.in6 },
	} {
		c := good()
		edit(c)
		if err := a.path.InstallInbound(c, key); err == nil {
			t.Errorf("bad %s is installed", name)
		}
	}
	c := good()
	if err := a.path.InstallOutbound(c, 300, key); err == nil {
		t.Error("sends before it receives")
	}
	if err := a.path.InstallInbound(c, key); err != nil {
		t.Fatal(err)
	}
	if err := a.path.InstallInbound(c, key); err == nil {
		t.Error("installed twice")
	}
	twin := good()
	twin.InSPI = c.InSPI
	if err := a.path.InstallInbound(twin, key); err == nil {
		t.Error("two children with one SPI")
	}
	if err := a.path.InstallOutbound(c, 300, key[1:]); err == nil {
		t.Error("short key")
	}
	if err := a.path.InstallOutbound(c, 300, key); err != nil {
		t.Fatal(err)
	}
	if err := a.path.InstallOutbound(c, 301, key); err == nil {
		t.Error("sends twice")
	}
	if c.OutSPI() != 300 || a.path.Child(c.InSPI) != c {
		t.Error("not what was installed")
	}
	a.path.Remove(c.InSPI)
	if err := a.path.InstallOutbound(c, 302, key); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Remove: %v", err)
	}
	spi, err := a.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	a.path.ReleaseSPI(spi)
	if a.path.Stats().Now.Children != 0 {
		t.Error("children are left")
	}
}

// TestStatsJSON: names are stable and unique, and what did not happen is left out.
func TestStatsJSON(t *testing.T) {
	seen := map[string]Drop{}
	for d := range numDrops {
		if other, dup := seen[d.String()]; dup || d.String() == "invalid" {
			t.Errorf("%d and %d are both %q", other, d, d)
		}
		seen[d.String()] = d
	}
	var s Stats
	s.Drops[DropSPI] = 3
	b, err := json.Marshal(s)
	if err != nil || !bytes.Contains(b, []byte(`"drops":{"in_spi":3}`)) {
		t.Errorf("%s %v", b, err)
	}
}
