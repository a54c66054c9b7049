package datapath

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun/tuntest"
)

// TestADV_L4_RekeyUnderTraffic: SAs are replaced and the policy is published again and again while connections run over a
// wire that loses, doubles and reorders: every byte arrives, no latch moves, nothing is in clear.
func TestADV_L4_RekeyUnderTraffic(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, cb := connect(t, a, b, link{})
	w.net.SetFaults(tuntest.Faults{Seed: 1, Drop: 0.001, Duplicate: 0.01, Reorder: 0.01})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var rekeys atomic.Int32
	const enough = 3
	wg.Go(func() {
		for {
			if !progress(stop, b, 50) {
				return
			}
			na, nb := connect(t, a, b, link{esn: rekeys.Load()%2 == 0})
			a.path.SetPolicy(a.path.Policy())
			if !progress(stop, b, 10) { // what is on its way under the old SA
				return
			}
			a.path.Remove(ca.InSPI)
			b.path.Remove(cb.InSPI)
			ca, cb = na, nb
			rekeys.Add(1)
		}
	})
	l := b.listen(b.in4, 80, latch.Want{}, false)
	var conns sync.WaitGroup
	for range 3 {
		conns.Go(func() {
			up, down := make([]byte, 300_000), make([]byte, 300_000)
			_, _ = rand.Read(up)
			_, _ = rand.Read(down)
			copy(up, secret)
			wait := l.serve(func(c *netstack.TCPConn, s *Socket) {
				// Connections are accepted in any order: each says which it is.
				exchangeEcho(t, c)
				if st := s.Latch(); st.State() != latch.StateEstablished || st.Params().Peer != "fqdn:h1" {
					t.Errorf("accepted latch %v", st.Inquire())
				}
			})
			c, s, err := a.dial(within(t, 10*time.Second), l.ap, latch.Want{})
			if err != nil {
				t.Error(err)
				return
			}
			for begun := false; !begun || rekeys.Load() < enough && !t.Failed(); begun = true {
				exchange(t, c, up, up)
			}
			if st := s.Latch(); st.State() != latch.StateEstablished || st.Params().Peer != "fqdn:h2" {
				t.Errorf("latch %v", st.Inquire())
			}
			_ = c.Close()
			wait()
		})
	}
	conns.Wait()
	close(stop)
	wg.Wait()
	w.net.SetFaults(tuntest.Faults{})
	w.noCleartext(t, a, b)
	if n := a.path.Stats().Now.Children; n > 2 {
		t.Errorf("%d children left", n)
	}
	t.Logf("%d rekeys; a %v, b %v", rekeys.Load(), a.path.Stats().Drops.Map(), b.path.Stats().Drops.Map())
}

// progress waits until n more packets came to h, false if stop comes first.
func progress(stop <-chan struct{}, h *host, n uint64) bool {
	for want := h.path.Stats().InPackets + n; h.path.Stats().InPackets < want; {
		select {
		case <-stop:
			return false
		case <-time.After(100 * time.Microsecond):
		}
	}
	return true
}

// exchangeEcho sends back what comes until the other side is done.
func exchangeEcho(t *testing.T, c *netstack.TCPConn) {
	t.Helper()
	buf := make([]byte, 32<<10)
	for {
		_ = c.SetDeadline(time.Now().Add(patience))
		n, err := c.Read(buf)
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestADV_P43_PolicyUnderTraffic: while the policy flips between protecting and discarding, every packet is judged wholly by
// one of the two; and in the end nothing is left that the last one does not want.
func TestADV_P43_PolicyUnderTraffic(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	protect := a.path.Policy()
	block, err := spd.New([]spd.Policy{{Name: "block", Sel: a.anyTo(), Word: spd.Block}})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s := a.path.NewSocket(SocketConfig{})
			u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(b.in4, 9), nil)
				}
			}
		})
	}
	for range 50 {
		progress(stop, b, 1)
		a.path.SetPolicy(block)
		a.path.SetPolicy(protect)
	}
	a.path.SetPolicy(block)
	close(stop)
	wg.Wait()
	f := ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(a.in4, 1), netip.AddrPortFrom(b.in4, 9))
	if d, _ := a.path.decide(f); d.policy == nil || d.policy.Word != spd.Block || d.child != nil {
		t.Errorf("%+v", d)
	}
	for d, n := range a.path.Stats().Drops {
		if n != 0 && Drop(d) != DropNoPolicy {
			t.Errorf("%d %v", n, Drop(d))
		}
	}
	w.noCleartext(t, a, b)
}

// TestPolicyOtherPeer: a policy that names another peer, or another mode, breaks the latches of flows that it covers.
func TestPolicyOtherPeer(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	k := establish(t, a, b, latch.Want{})
	old := a.path.Policy()
	for _, pol := range []spd.Policy{
		{Name: "peer", Sel: a.anyTo(), Word: spd.Private, Peer: "sun"},
		{Name: "child", Sel: a.anyTo(), Word: spd.Private, Child: "other"},
		{Name: "mode", Sel: a.anyTo(), Word: spd.Private, Mode: spd.ModeTransport},
	} {
		db, err := spd.New([]spd.Policy{pol})
		if err != nil {
			t.Fatal(err)
		}
		a.path.SetPolicy(db)
		if st := k.cs.Latch().State(); st != latch.StateBroken {
			t.Errorf("%s: %v", pol.Name, st)
		}
		a.path.SetPolicy(old)
		if st := k.cs.Latch().State(); st != latch.StateEstablished {
			t.Errorf("%s: %v with the policy back", pol.Name, st)
		}
	}
	same, err := spd.New([]spd.Policy{{Name: "same", Sel: a.anyTo(), Word: spd.Private, Peer: "h2", Mode: spd.ModeTunnel}})
	if err != nil {
		t.Fatal(err)
	}
	a.path.SetPolicy(same)
	if st := k.cs.Latch().State(); st != latch.StateEstablished {
		t.Errorf("a policy that fits: %v", st)
	}
	say(t, k.c, k.s, "on it goes")
}

// TestADV_L20_DatagramDemand: a datagram that is sent with a received one's tag goes under an SA that protects like that
// one's, whatever the policy would choose now, or not at all; and its own token names the SA it came under.
func TestADV_L20_DatagramDemand(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, _ := connect(t, a, b, link{})
	_, nb := connect(t, a, b, link{suite: "aes256gcm16"}) // newer: what the policy chooses
	open := func(h *host, port uint16) *netstack.UDPConn {
		s := h.path.NewSocket(SocketConfig{})
		u, err := h.st.ListenUDP(s.Tag(), netip.AddrPortFrom(h.in4, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		return u
	}
	ua, ub := open(a, 1), open(b, 2)
	get := func() *Child {
		t.Helper()
		_ = ub.SetReadDeadline(time.Now().Add(patience))
		_, _, _, tag, err := ub.ReadMsg(make([]byte, 10))
		if err != nil {
			t.Fatal(err)
		}
		return tag.V.(*Child)
	}
	to := netip.AddrPortFrom(b.in4, 2)
	_, _ = ua.WriteMsg([]byte("x"), to, nil)
	if c := get(); c != nb {
		t.Errorf("under %v", c.Params)
	}
	_, _ = ua.WriteMsg([]byte("x"), to, ca.Tag())
	if c := get(); c.Params.Suite != "aes128gcm16" {
		t.Errorf("under %v", c.Params)
	}
	// The SA is replaced by one like it, then goes without a successor.
	ra, _ := connect(t, a, b, link{})
	a.path.Remove(ca.InSPI)
	_, _ = ua.WriteMsg([]byte("x"), to, ca.Tag())
	if c := get(); c.Params.Suite != "aes128gcm16" {
		t.Errorf("under %v", c.Params)
	}
	a.path.Remove(ra.InSPI)
	if _, err := ua.WriteMsg([]byte("x"), to, ca.Tag()); err == nil {
		t.Error("sent under another SA than the one asked for")
	}
	if a.path.Stats().Acquires != 0 {
		t.Error("asked for a new one")
	}
	// A demand of its own: only peers and suites that it names.
	picky := a.path.NewSocket(SocketConfig{Want: latch.Want{Peer: "fqdn:sun"}})
	_, _ = ua.WriteMsg([]byte("x"), to, picky.Tag())
	if acq := recv(t, a.acquires, "acquire"); acq.Want.Peer != "fqdn:sun" || acq.Socket != picky {
		t.Errorf("%+v", acq)
	}
}

// TestFragmentECN: RFC 3168, Section 5.3.
func TestFragmentECN(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
	id := uint32(0)
	for _, tt := range []struct {
		ecn  [2]byte
		want int
	}{{[2]byte{0, 0}, 0}, {[2]byte{2, 2}, 2}, {[2]byte{1, 1}, 1}, {[2]byte{2, 3}, 3}, {[2]byte{3, 1}, 3}, {[2]byte{0, 3}, -1},
		{[2]byte{0, 2}, 0}, {[2]byte{1, 2}, 2}} {
		for _, v6 := range []bool{false, true} {
			id++
			fr := fragment(datagramFor(v6, 100), id, 48)
			for i, b := range fr {
				if v6 {
					b[1] |= tt.ecn[i] << 4
				} else {
					b[1] |= tt.ecn[i]
					fixIPv4(b, 20)
				}
			}
			f.send(fr...)
			got := h.take()
			if tt.want < 0 {
				if len(got) != 0 {
					t.Errorf("%v: delivered", tt.ecn)
				}
				continue
			}
			if len(got) != 1 {
				t.Fatalf("%v: %d delivered", tt.ecn, len(got))
			}
			if _, info, _ := ts.ParseFlow(got[0]); int(info.ECN) != tt.want || !netstack.VerifyChecksum(got[0]) {
				t.Errorf("%v: %d", tt.ecn, info.ECN)
			}
		}
	}
}
