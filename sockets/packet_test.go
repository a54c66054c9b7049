package sockets

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

func listenPacket(t testing.TB, st *Stack, address string) *PacketConn {
	t.Helper()
	pc, err := st.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	return pc
}

// drained wants nothing to be left of st's connections. What a peer began and gave up before
// it was accepted is forgotten later, by the data path.
func drained(t testing.TB, st *Stack) {
	t.Helper()
	eventually(t, "every latch is released", func() bool {
		left := 0
		st.e.Latches.Each(func(l *latch.Latch) bool {
			if l.State() != latch.StateListener && (l.Listener() == nil || st.e.Stack.Exists(l.Flow())) {
				left++
			}
			return true
		})
		return left == 0
	})
}

// patience is when a test gives up. No test that passes waits for its end, however slow the
// machine is.
const patience = time.Minute

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

// nettest asks for a stream in its first two tests; the others hold for datagrams too.
func TestNettestPacketConn(t *testing.T) {
	a, b := pair(t)
	// b cannot call a before a came to it, and no test's first datagram is a's for certain.
	server := listenPacket(t, b, ":4999")
	first := dial(t, a, "udp", inner(b, "4999"))
	if _, err := first.Write([]byte("here I am")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.ReadFrom(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	made := 0
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		if made++; made <= 2 {
			c1, c2 := net.Pipe()
			return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
		}
		port := uint16(5000 + made)
		toA, toB := netip.AddrPortFrom(a.Addrs()[0], port), netip.AddrPortFrom(b.Addrs()[0], port)
		da, db := Dialer{Stack: a, LocalAddr: toA}, Dialer{Stack: b, LocalAddr: toB}
		c1, err := da.Dial("udp", toB.String())
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err := db.Dial("udp", toA.String())
		if err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
	})
	_ = first.Close()
	drained(t, a)
	drained(t, b)
}

func TestConnectedPacketConnKeepsItsLatch(t *testing.T) {
	a, b := pair(t)
	pc := listenPacket(t, b, ":53")
	c, ok := dial(t, a, "udp", inner(b, "53")).(*PacketConn)
	if !ok {
		t.Fatal("no *PacketConn")
	}
	if _, err := c.PToken().Info(); !errors.Is(err, tokens.ErrNotYet) {
		t.Errorf("before the first packet: %v", err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = pc.SetReadDeadline(time.Now().Add(patience))
	if _, _, _, err := pc.ReadMsg(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the latch is there", func() bool { _, err := c.PToken().Info(); return err == nil })
	var op *net.OpError
	if _, err := c.WriteMsg([]byte("y"), netip.AddrPort{}, c.PToken()); !errors.Is(err, tokens.ErrLatched) || !errors.As(err, &op) {
		t.Errorf("a token on a latched socket: %v", err)
	}
	pt := c.PToken()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pt.Info(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	drained(t, a)
}

// What one datagram asks for never loosens what its socket asked for.
func TestDatagramDemandsTighten(t *testing.T) {
	a, b := pair(t)
	_ = listenPacket(t, b, ":53")
	echo(t, b, ":7")
	live, err := PTokenFrom(dial(t, a, "tcp", inner(b, "7")))
	if err != nil {
		t.Fatal(err)
	}
	info, err := live.Info()
	if err != nil {
		t.Fatal(err)
	}
	strict := new(tokens.PToken)
	if err := strict.SetPeer(info.Local); err != nil { // a itself: b it is not
		t.Fatal(err)
	}
	lc := ListenConfig{Stack: a, PToken: strict}
	pc, err := lc.ListenPacket(t.Context(), "udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	to := netip.MustParseAddrPort(inner(b, "53"))
	template := new(tokens.PToken)
	if err := template.SetPeer(info.Remote); err != nil {
		t.Fatal(err)
	}
	for name, pt := range map[string]*tokens.PToken{"live": live, "template": template} {
		var mismatch *latch.MismatchError
		if _, err := pc.WriteMsg([]byte("x"), to, pt); !errors.As(err, &mismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	free := listenPacket(t, a, ":0")
	if _, err := free.WriteMsg([]byte("x"), to, live); err != nil {
		t.Error(err)
	}
}

// A datagram of the host to itself may be answered with its token.
func TestAnswerOnLoopback(t *testing.T) {
	a, _ := pair(t)
	pc := listenPacket(t, a, ":53")
	c := dial(t, a, "udp", inner(a, "53"))
	buf := make([]byte, 10)
	for range 2 {
		if _, err := c.Write([]byte("self")); err != nil {
			t.Fatal(err)
		}
		_ = pc.SetReadDeadline(time.Now().Add(patience))
		n, from, pt, err := pc.ReadMsg(buf)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := pt.Info(); err != nil || !info.Remote.IsZero() || info.Integrity {
			t.Errorf("%v\n%s", err, info)
		}
		if _, err := pc.WriteMsg(buf[:n], from, pt); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "self" {
			t.Fatal(n, err)
		}
	}
}

// I3: whatever crosses between two hosts, nothing of what they say is in it; what is there
// proves that the search finds things.
func TestI3_NothingInClear(t *testing.T) {
	secret, control := []byte("the plaintext that nobody else sees"), []byte("in clear, to be found")
	n := tuntest.NewNet(tuntest.Faults{Seed: 7, Drop: 0.02, Duplicate: 0.05, Reorder: 0.1})
	rec := tuntest.NewRecorder(64<<20, secret, control)
	n.Record(rec)
	wire := func(addr string) *tuntest.Wire {
		w, err := n.Listen(netip.MustParseAddrPort(addr))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	b := newStack(t, "b", Config{Wire: wire("192.0.2.2:4500"), Connections: []Connection{{}}})
	a := newStack(t, "a", Config{Wire: wire("192.0.2.1:4500"), Connections: []Connection{{RemoteAddrs: []string{"192.0.2.2"}}}})
	echo(t, b, ":7")
	pc := listenPacket(t, b, ":53")
	u := dial(t, a, "udp", inner(b, "53"))
	for range 20 {
		if _, err := u.Write(bytes.Repeat(secret, 100)); err != nil {
			t.Fatal(err)
		}
	}
	roundTrip(t, dial(t, a, "tcp", inner(b, "7")), bytes.Repeat(secret, 20_000))
	_ = pc.SetReadDeadline(time.Now().Add(patience))
	if _, _, _, err := pc.ReadMsg(make([]byte, 4096)); err != nil {
		t.Error(err)
	}
	// Neither is what comes too late for its SA.
	_ = b.Close()
	_, _ = u.Write(bytes.Repeat(secret, 100))
	_ = a.Close()
	w := wire("192.0.2.3:4500")
	defer w.Close()
	n.SetFaults(tuntest.Faults{})
	n.Inject(netip.MustParseAddrPort("192.0.2.4:4500"), w.Addr(), append([]byte("xxxx"), control...))
	if datagrams, size, _ := rec.Counts(); datagrams < 100 || size < 20_000*len(secret) {
		t.Fatalf("only %d datagrams, %d bytes were seen", datagrams, size)
	}
	if n := rec.Watched(0); n != 0 {
		t.Errorf("the plaintext is in %d datagrams", n)
	}
	if rec.Watched(1) == 0 {
		t.Error("the control was not found: the search proves nothing")
	}
}
