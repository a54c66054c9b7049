package sockets

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLogger shows a host's log with -v.
func testLogger() *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newStack(t testing.TB, name string, cfg Config) *Stack {
	t.Helper()
	cfg.Name, cfg.Logger = name, testLogger()
	if cfg.Listen == nil && cfg.Wire == nil {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	st, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return st
}

// pair returns two hosts that key with BTNS over loopback.
func pair(t testing.TB) (a, b *Stack) {
	b = newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a = newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}}}})
	return a, b
}

func inner(st *Stack, port string) string { return net.JoinHostPort(st.Addrs()[0].String(), port) }

// echo serves one connection after the other until the test ends.
func echo(t testing.TB, st *Stack, address string) {
	t.Helper()
	ln, err := st.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _, _ = ln.Close(), st.Close(); <-done }) // Close ends what the peer does not
}

func dial(t testing.TB, st *Stack, network, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := st.DialContext(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// roundTrip sends data and wants it back.
func roundTrip(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	errc := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if cw, ok := c.(interface{ CloseWrite() error }); ok && err == nil {
			err = cw.CloseWrite()
		}
		errc <- err
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes back of %d, sha256 %x and %x", len(got), len(data), sha256.Sum256(got), sha256.Sum256(data))
	}
}

func tokenOf(t testing.TB, c net.Conn) tokens.Info {
	t.Helper()
	pt, err := PTokenFrom(c)
	if err != nil {
		t.Fatal(err)
	}
	info, err := pt.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestBTNS(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	c := dial(t, a, "tcp", inner(b, "7"))
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	roundTrip(t, c, data)
	info := tokenOf(t, c)
	if info.Remote.Fingerprint() != Fingerprint(b.PublicKey()) || info.Local.Fingerprint() != Fingerprint(a.PublicKey()) {
		t.Errorf("the token names the wrong keys:\n%s", info)
	}
	if info.Method != tokens.MethodBTNS || !info.Integrity || !info.Confidentiality || !info.Replay || info.Mode != tokens.ModeTunnel || info.State != "ESTABLISHED" {
		t.Errorf("got\n%s", info)
	}
	st := a.Status()
	if len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 || st.IKE[0].Children[0].InSPI != info.SPIIn.String() {
		t.Errorf("status and token disagree: %+v\n%s", st.IKE, info)
	}
}

// TestMethods walks every method, mode and suite that two hosts can agree on.
func TestMethods(t *testing.T) {
	key := func(k auth.Kind) crypto.Signer {
		s, err := auth.GenerateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	edA, edB, ecA, ecB := key(auth.KindEd25519), key(auth.KindEd25519), key(auth.KindECDSAP256), key(auth.KindECDSAP256)
	psk := auth.NewPSK([]byte("a shared key with enough in it"))
	pub := func(k crypto.Signer) []crypto.PublicKey { return []crypto.PublicKey{k.Public()} }
	tests := []struct {
		name   string
		a, b   Auth
		ike    string
		esp    string
		method tokens.Method
		idB    string
	}{
		{"psk", Auth{Method: AuthPSK, ID: "a.example"}, Auth{Method: AuthPSK, ID: "b.example", Secret: psk},
			"aes256gcm16-prfsha256-x25519", "aes256gcm16", tokens.MethodPreSharedKey, "fqdn:b.example"},
		{"psk cbc modp", Auth{Method: AuthPSK, ID: "a.example"}, Auth{Method: AuthPSK, ID: "192.0.2.7", Secret: psk},
			"aes128-sha256-modp2048", "chacha20poly1305", tokens.MethodPreSharedKey, "ipv4:192.0.2.7"},
		{"ed25519", Auth{Method: AuthPubKey, Key: edA, PublicKeys: pub(edA)}, Auth{Method: AuthPubKey, Key: edB, PublicKeys: pub(edB)},
			"chacha20poly1305-prfsha256-ecp256", "aes128gcm16-esn", tokens.MethodPublicKey, ""},
		{"ecdsa", Auth{Method: AuthPubKey, Key: ecA, PublicKeys: pub(ecA), ID: "a.example"}, Auth{Method: AuthPubKey, Key: ecB, PublicKeys: pub(ecB), ID: "b.example"},
			"aes256gcm16-prfsha384-ecp384", "aes256-sha256", tokens.MethodPublicKey, "fqdn:b.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := func(local, remote Auth, children ...Child) Connection {
				local.PublicKeys, remote.Key = nil, nil
				return Connection{Name: "peer", Local: local, Remote: remote, Proposals: []string{tt.ike}, Children: children}
			}
			b := newStack(t, "b", Config{
				Addrs:       []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")},
				Connections: []Connection{conn(tt.b, tt.a, Child{LocalTS: []string{"10.2.0.0/24"}, RemoteTS: []string{"10.1.0.0/24"}, Proposals: []string{tt.esp}})},
			})
			ca := conn(tt.a, tt.b, Child{LocalTS: []string{"10.1.0.0/24"}, RemoteTS: []string{"10.2.0.0/24"}, Proposals: []string{tt.esp}})
			ca.RemoteAddrs = []string{b.LocalAddr().String()}
			a := newStack(t, "a", Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, Connections: []Connection{ca}})
			echo(t, b, ":7")
			c := dial(t, a, "tcp4", "10.2.0.1:7")
			roundTrip(t, c, bytes.Repeat([]byte("btns "), 100_000))
			info := tokenOf(t, c)
			if info.Method != tt.method || (tt.idB != "" && info.Remote.ID() != tt.idB) {
				t.Errorf("got\n%s", info)
			}
		})
	}
}

func TestTransportMode(t *testing.T) {
	wa, wb := tuntest.Pair()
	both := []Child{{Mode: esp.ModeTransport}}
	outer := Auth{Owns: OwnsOuterAddress}
	host := func(w *tuntest.Wire) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(w.Addr().Addr(), 32)} }
	b := newStack(t, "b", Config{Wire: wb, Addrs: host(wb), Connections: []Connection{{Name: "anybody", Remote: outer, Children: both}}})
	a := newStack(t, "a", Config{Wire: wa, Addrs: host(wa),
		Connections: []Connection{{Name: "b", RemoteAddrs: []string{wb.Addr().String()}, Remote: outer, Children: both}}})
	echo(t, b, ":7")
	c := dial(t, a, "tcp", net.JoinHostPort(wb.Addr().Addr().String(), "7"))
	roundTrip(t, c, bytes.Repeat([]byte("transport "), 50_000))
	if info := tokenOf(t, c); info.Mode != tokens.ModeTransport {
		t.Errorf("got\n%s", info)
	}
}

func TestNettestConn(t *testing.T) {
	a, b := pair(t)
	ln, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}()
		c1, err := a.Dial("tcp", inner(b, "80"))
		if err != nil {
			return nil, nil, nil, err
		}
		c2, ok := <-accepted
		if !ok {
			return nil, nil, nil, errors.New("not accepted")
		}
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
	})
}

func TestHTTPKnowsTheCaller(t *testing.T) {
	a, b := pair(t)
	ln, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ConnContext: ConnContext, ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pt, err := PTokenFromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		info, err := pt.Info()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(w, info.Remote.Fingerprint())
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close(); <-done }()
	tr := &http.Transport{DialContext: a.DialContext}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + inner(b, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != Fingerprint(a.PublicKey()) {
		t.Fatalf("got %q, %v", body, err)
	}
}

func TestDatagramsCarryTheirToken(t *testing.T) {
	a, b := pair(t)
	pc, err := b.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c := dial(t, a, "udp", inner(b, "53"))
	for _, size := range []int{1, 1400, 9000, 65507} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		if _, err := c.Write(data); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		buf := make([]byte, 65536)
		_ = pc.SetReadDeadline(time.Now().Add(patience))
		n, from, pt, err := pc.ReadMsg(buf)
		if err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("%d bytes: read %d, %v", size, n, err)
		}
		info, err := pt.Info()
		if err != nil || info.Remote.Fingerprint() != Fingerprint(a.PublicKey()) {
			t.Fatalf("%d bytes: %v\n%s", size, err, info)
		}
		if _, err := pc.WriteMsg(buf[:n], from, pt); err != nil {
			t.Fatalf("%d bytes back: %v", size, err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, err = c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("%d bytes back: read %d, %v", size, n, err)
		}
	}
	if _, err := PTokenFrom(c); err != nil {
		t.Error(err)
	}
}

func TestDialToSilenceSaysWhatWasTried(t *testing.T) {
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "moon", RemoteAddrs: []string{silent.LocalAddr().String()}}}})
	_, err = a.DialContext(until(t, a, EventRetransmitSend), "tcp", "[fd62:746e:7300::1]:80")
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("not a time-out: %v", err)
	}
	for _, want := range []string{"moon", silent.LocalAddr().String(), "IKE_SA_INIT", "sent "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// A wrong shared key is refused inside an SK payload, so at once, and before anybody has
// authenticated, which the event says of it; TestRefusedInit has the unprotected refusal.
func TestDialToProtectedRefusalGivesItsReason(t *testing.T) {
	b := newStack(t, "b", Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")}, Connections: []Connection{{Name: "known",
		Local: Auth{Method: AuthPSK, ID: "b"}, Remote: Auth{Method: AuthPSK, ID: "a", Secret: auth.NewPSK([]byte("one secret of some length"))},
		Children: []Child{{RemoteTS: []string{"10.1.0.0/24"}}}}}})
	a := newStack(t, "a", Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, Connections: []Connection{{Name: "moon", RemoteAddrs: []string{b.LocalAddr().String()},
		Local: Auth{Method: AuthPSK, ID: "a"}, Remote: Auth{Method: AuthPSK, ID: "b", Secret: auth.NewPSK([]byte("another secret of some length"))},
		Children: []Child{{RemoteTS: []string{"10.2.0.1/32"}}}}}})
	events := a.Watch()
	defer events.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := a.DialContext(ctx, "tcp", "10.2.0.1:80")
	if ctx.Err() != nil {
		t.Error("a protected refusal did not fail the dial at once")
	}
	for {
		e, err := events.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != EventLocalAuthFailed {
			continue
		}
		if !e.Unauthenticated || !e.Protected || !strings.HasSuffix(e.String(), "(protected, but the peer is not authenticated)") {
			t.Errorf("the event: %+v", e)
		}
		break
	}
	var refusal *ike.NotifyError
	if !errors.As(err, &refusal) || refusal.Type != wire.NotifyAuthenticationFailed {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "moon") {
		t.Errorf("%q does not name the peer", err)
	}
}

func TestNothingWithoutPolicy(t *testing.T) {
	a := newStack(t, "a", Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, network := range []string{"tcp", "udp"} {
		c, err := a.DialContext(ctx, network, "[2001:db8::1]:80")
		if err == nil {
			_, err = c.Write([]byte("x"))
			_ = c.Close()
		}
		if err == nil {
			t.Errorf("%s: sent without a policy", network)
		}
	}
	if s := a.e.Wire().Stats(); s.TxPackets != 0 {
		t.Errorf("%d packets left", s.TxPackets)
	}
}

func TestNamesAreNotGivenToTheSystem(t *testing.T) {
	a := newStack(t, "a", Config{Hosts: map[string][]netip.Addr{"known": {netip.MustParseAddr("fd62:746e:7300::1")}}})
	if _, err := a.Dial("tcp", "localhost:80"); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("got %v", err)
	}
	if addrs, err := a.resolve(t.Context(), "known"); err != nil || len(addrs) != 1 {
		t.Errorf("got %v, %v", addrs, err)
	}
}

func TestPTokenFromForeignConn(t *testing.T) {
	c1, c2 := net.Pipe()
	defer c1.Close()
	defer c2.Close()
	if _, err := PTokenFrom(c1); !errors.Is(err, ErrNotIPsec) {
		t.Errorf("got %v", err)
	}
	if _, err := PTokenFromContext(t.Context()); !errors.Is(err, ErrNotIPsec) {
		t.Errorf("got %v", err)
	}
}

func TestCloseIsClean(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	c := dial(t, a, "tcp", inner(b, "7"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) && err == nil {
		t.Errorf("write after close: %v", err)
	}
	if _, err := a.Dial("tcp", inner(b, "7")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
	eventually(t, "the peer, who was told, has no SA", func() bool { return len(b.Status().IKE) == 0 })
}

// TestDialAgain: who dials again from the port of a connection that was just cut finds its latch no longer in the way. The
// peer may not have heard yet that the connection was cut, and refuse.
func TestDialAgain(t *testing.T) {
	a, b := pair(t)
	echo(t, b, ":7")
	for _, network := range []string{"tcp", "udp"} {
		d := Dialer{Stack: a, LocalAddr: netip.AddrPortFrom(a.Addrs()[0], 4711)}
		for i := range 20 {
			c, err := d.Dial(network, inner(b, "7"))
			if err == nil {
				_, err = c.Write([]byte("x"))
			}
			if errors.Is(err, datapath.ErrLatch) {
				t.Fatalf("%s, dial %d: %v", network, i, err)
			}
			if c == nil {
				continue
			}
			if tc, ok := c.(*Conn); ok {
				_ = tc.SetLinger(0)
			}
			_ = c.Close()
		}
	}
}
