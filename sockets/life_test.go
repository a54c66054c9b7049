package sockets

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

// A wire that is taken away, as a TUN device can be, ends the host and everything on it.
func TestWireEnds(t *testing.T) {
	wa, wb := tuntest.Pair()
	defer wb.Close()
	st, err := New(Config{Wire: wa, Logger: testLogger(), Connections: []Connection{{RemoteAddrs: []string{wb.Addr().String()}}}})
	if err != nil {
		t.Fatal(err)
	}
	watch := st.Watch()
	defer watch.Close()
	dialled := make(chan error, 1)
	go func() {
		_, err := st.Dial("tcp", "[fd62:746e:7300::1]:80") // waits: nobody answers
		dialled <- err
	}()
	eventually(t, "the dial asks for an SA", func() bool { return st.e.Data.Stats().Acquires > 0 })
	_ = wa.Close()
	select {
	case <-st.Done():
	case <-time.After(patience):
		t.Fatal("the host goes on without a wire")
	}
	if err := <-dialled; !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	why := st.Close()
	if why == nil {
		t.Error("Close does not say why")
	}
	for {
		e, err := watch.Next(t.Context())
		if err != nil {
			t.Fatalf("no event says that the host stops: %v", err)
		}
		if e.Kind == EventShutdown {
			if e.Err == nil || !errors.Is(why, e.Err) {
				t.Errorf("it stops because of %v, Close says %v", e.Err, why)
			}
			break
		}
	}
}

func TestDoneAfterClose(t *testing.T) {
	st := newStack(t, "a", Config{})
	select {
	case <-st.Done():
		t.Fatal("done at once")
	default:
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	<-st.Done()
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	st.Status()
	if _, err := st.Listen("tcp", ":1"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen: %v", err)
	}
	if _, err := st.ListenPacket("udp", ":1"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ListenPacket: %v", err)
	}
}

func TestPing(t *testing.T) {
	a, b := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if rtt, err := a.Ping(ctx, b.Addrs()[0].String()); err != nil || rtt <= 0 {
		t.Errorf("%v, %v", rtt, err)
	}
	var op *net.OpError
	if _, err := a.Ping(ctx, "nobody.example"); !errors.As(err, &op) {
		t.Errorf("got %v", err)
	}
}

// ADV-L42: a dial that is given up, at whatever step, leaves nothing behind.
func TestADV_L42_CancelledDialsLeaveNothing(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
			defer cancel()
			c, err := a.DialContext(ctx, "tcp", inner(b, "7"))
			if err == nil {
				_ = c.(*Conn).SetLinger(0)
				_ = c.Close()
				return
			}
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	drained(t, a)
	drained(t, b)
	roundTrip(t, dial(t, a, "tcp", inner(b, "7")), []byte("and the next one works"))
}

func TestListenerCloseLeavesAcceptedConnections(t *testing.T) {
	a, b := pair(t)
	ln, err := b.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c1 := dial(t, a, "tcp", inner(b, "7"))
	c2 := <-accepted
	late := dial(t, a, "tcp", inner(b, "7")) // nobody accepts it
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	_ = late.SetReadDeadline(time.Now().Add(patience))
	if _, err := late.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that nobody accepted lives on")
	}
	_ = late.Close()
	if _, err := c1.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = c2.SetReadDeadline(time.Now().Add(patience))
	if _, err := c2.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	info := tokenOf(t, c2)
	if info.State != "ESTABLISHED" || info.Remote.Fingerprint() != Fingerprint(a.PublicKey()) {
		t.Errorf("got\n%s", info)
	}
	for _, c := range []net.Conn{c1, c2} {
		_ = c.(*Conn).SetLinger(0)
		_ = c.Close()
	}
	drained(t, a)
	drained(t, b)
	// The transport forgets a connection a moment before its latch is let go.
	eventually(t, "the token of a connection that is gone is closed", func() bool {
		_, err := tokenErr(c2)
		return errors.Is(err, net.ErrClosed)
	})
}

func tokenErr(c net.Conn) (tokens.Info, error) {
	pt, err := PTokenFrom(c)
	if err != nil {
		return tokens.Info{}, err
	}
	return pt.Info()
}

// A latch that breaks resets its connection, and the token says so; also if it broke before
// anybody could be told.
func TestBrokenLatch(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	for _, early := range []bool{false, true} {
		c, _ := dial(t, a, "tcp", inner(b, "7")).(*Conn)
		if early {
			c.s.abort.Store(nil)
		}
		a.e.Latches.Break(c.s.data.Latch(), latch.ReasonConflict, "somebody else").Deliver()
		if early {
			c = newConn(c.s, c.stream.(*netstack.TCPConn))
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, ErrLatchBroken) || !errors.Is(err, latch.ErrBroken) {
			t.Errorf("early %v: %v", early, err)
		}
		_ = c.Close()
	}
}

// A broken latch that waits shows its state and who the peer is.
func TestTokenOfBrokenLatch(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	wait := new(tokens.PToken)
	if err := wait.SetDisposition(tokens.DispositionWait); err != nil {
		t.Fatal(err)
	}
	d := Dialer{Stack: a, PToken: wait}
	nc, err := d.Dial("tcp", inner(b, "7"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := nc.(*Conn)
	defer c.Close()
	a.e.Latches.Break(c.s.data.Latch(), latch.ReasonConflict, "somebody else").Deliver()
	info := tokenOf(t, c)
	if info.State != "BROKEN" || info.Reason == "" || info.Remote.Fingerprint() != Fingerprint(b.PublicKey()) {
		t.Errorf("got\n%s", info)
	}
}

// Between two SAs the token still names the peer, and no SPI that is gone.
func TestTokenWithoutSA(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()},
		Children: []Child{{Name: "net", Start: StartNone}}}}}) // no late acknowledgement keys again
	echo(t, b, ":7")
	if err := a.Initiate(t.Context(), "net"); err != nil {
		t.Fatal(err)
	}
	c := dial(t, a, "tcp", inner(b, "7"))
	roundTripOnce(t, c)
	before := tokenOf(t, c)
	if _, err := a.Terminate("b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the SAs are gone", func() bool { return len(a.Status().IKE) == 0 })
	after := tokenOf(t, c)
	if after.Remote != before.Remote || after.Local != before.Local || after.Method != before.Method || after.State != "ESTABLISHED" {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if after.SPIIn != 0 || after.SPIOut != 0 || after.Suite != before.Suite {
		t.Errorf("got\n%s", after)
	}
}

// roundTripOnce sends a few bytes and waits for their echo.
func roundTripOnce(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
}

func TestNamesBecomePlainAddresses(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.2.0.1")
	hosts := map[string][]netip.Addr{"h": {mapped}}
	a := newStack(t, "a", Config{Hosts: hosts, Resolver: func(ctx context.Context, host string) ([]netip.Addr, error) {
		if host == "slow" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []netip.Addr{mapped}, nil
	}})
	delete(hosts, "h") // the host has its own copy
	for _, name := range []string{"h", "r"} {
		if addrs, err := a.resolve(t.Context(), name); err != nil || len(addrs) != 1 || !addrs[0].Is4() {
			t.Errorf("%s: %v, %v", name, addrs, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := a.DialContext(ctx, "tcp", "slow:80")
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("not a time-out: %v", err)
	}
}

// A silent address leaves time for the next one.
func TestDialTriesEveryAddress(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	echo(t, b, ":7")
	nobody, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	silent := netip.MustParseAddr("2001:db8::1")
	other, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	a := newStack(t, "a", Config{
		Hosts: map[string][]netip.Addr{"b": {silent, b.Addrs()[0]}},
		Connections: []Connection{
			{RemoteAddrs: []string{nobody.LocalAddr().String()}, Children: []Child{{RemoteTS: []string{silent.String()}}},
				Remote: Auth{Method: AuthPubKey, PublicKeys: []crypto.PublicKey{other.Public()}}},
			{RemoteAddrs: []string{b.LocalAddr().String()}},
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // half of it is the silent one's
	defer cancel()
	c, err := a.DialContext(ctx, "tcp", "b:7")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestCheckFindsContradictions(t *testing.T) {
	one, two := auth.NewPSK([]byte("one shared key of length")), auth.NewPSK([]byte("another shared key of length"))
	for name, c := range map[string]Connection{
		"two secrets":  {Local: Auth{Method: AuthPSK, ID: "a", Secret: one}, Remote: Auth{Method: AuthPSK, ID: "b", Secret: two}, RemoteAddrs: []string{"192.0.2.1"}},
		"two children": {Children: []Child{{Name: "x"}, {Name: "x"}}},
	} {
		_, err := Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}, Connections: []Connection{c}}.Check()
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Path == "policies" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Config{Connections: []Connection{{Remote: Auth{ID: "%any"}}}}).Check(); err != nil {
		t.Errorf("btns with %%any: %v", err)
	}
}

// Nobody who holds a connection can move it to other SAs, or take its tag for something
// else (RFC 5660, Section 2).
func TestConnKeepsItsTag(t *testing.T) {
	for _, c := range []any{&Conn{}, &PacketConn{}} {
		_, set := c.(interface{ SetTag(tag *netstack.Tag) })
		_, get := c.(interface{ Tag() *netstack.Tag })
		_, abort := c.(interface{ Abort(cause error) })
		if set || get || abort {
			t.Errorf("%T: SetTag %t, Tag %t, Abort %t", c, set, get, abort)
		}
	}
}
