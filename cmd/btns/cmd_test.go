package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/sockets/config"
)

// TestMain is the command itself too: the demo starts its two hosts from its own binary, and
// tests send signals to processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// command runs the command in this process.
func command(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// Every mistake is one sentence that names what is wrong.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	busyTCP, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busyTCP.Close()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"command", []string{"nosuch"}, "nosuch"},
		{"flag", []string{"demo", "--nope"}, "--nope"},
		{"no file named", []string{"up"}, "config"},
		{"no such file", []string{"up", "-c", filepath.Join(dir, "none.yaml")}, "none.yaml"},
		{"no such key", []string{"up", "-c", file("key.yaml", "key: nokey")}, "key.yaml:1:6: key: auth: key file"},
		{"unknown word", []string{"check", "-c", file("word.yaml", "conections: {}")}, "did you mean connections?"},
		{"port in use", []string{"up", "-c", file("port.yaml", fmt.Sprintf("listen: %q", busy.LocalAddr()))}, "in use"},
		{"forward's port in use", []string{"up", "-c", file("fwd.yaml", fmt.Sprintf("listen: \"127.0.0.1:0\"\nconnections: {m: {}}\nforwards: [{listen: %q, to: \"[fd62:746e:7300::1]:1\"}]", busyTCP.Addr()))}, "fwd.yaml:3:21: forwards[0].listen: listen tcp 127.0.0.1:"},
		{"exposed twice", []string{"up", "-c", file("exp.yaml", "listen: \"127.0.0.1:0\"\nconnections: {m: {}}\nexpose:\n  - {listen: 80, to: 80}\n  - {listen: \"[::]:80\", to: 81}")}, "exp.yaml:5:14: expose[1].listen: listen tcp"},
		{"exposes no host's port", []string{"up", "-c", file("exposed.yaml", "connections: {m: {}}\nexpose: [{listen: 80, to: \"web..invalid:80\"}]")}, "exposed.yaml:2:27: expose[0].to: there is no host web..invalid"},
		{"unknown host", []string{"up", "-c", file("host.yaml", "listen: \"no host:4500\"")}, "unknown host"},
		{"nothing to transfer", []string{"demo", "--megabytes", "0"}, "between 1 and"},
		{"too much to transfer", []string{"demo", "--megabytes", "99999999999"}, "between 1 and"},
		{"no place for the recording", []string{"demo", "--pcap", filepath.Join(dir, "none", "x")}, "recording: open"},
		{"nobody there", []string{"status", "--control", filepath.Join(dir, "none")}, "btns up"},
		{"nobody to watch", []string{"events", "--control", filepath.Join(dir, "none")}, "btns up"},
		{"no control socket", []string{"up", "-c", file("ctl.yaml", "listen: \"127.0.0.1:0\""), "--control", file("file", "")}, "is no socket"},
		{"no name to act on", []string{"terminate"}, "btns terminate needs the name of a child or a connection"},
		{"two names", []string{"rekey", "a", "b"}, "btns rekey NAME"},
		{"no file for a key", []string{"keygen"}, "btns keygen needs the name of a file"},
		{"no such host", []string{"up", "-c", file("peer.yaml", "connections: {moon: {remote_addrs: moon..invalid}}")}, "peer.yaml:1:36: connections.moon.remote_addrs: there is no host moon..invalid"},
		{"key log nowhere", []string{"up", "-c", file("log.yaml", "listen: \"127.0.0.1:0\""), "--keylog", filepath.Join(dir, "none", "keys")}, "key log: open"},
		{"benchmark", []string{"bench", "esq"}, "esq"},
		{"no handshakes", []string{"bench", "ike", "--handshakes", "-1"}, "bench: -1 handshakes"},
		{"handshakes beyond counting", []string{"bench", "ike", "--handshakes", strconv.Itoa(math.MaxInt/2 + 1), "--rounds", "4"}, "want 1 to"},
		{"suite", []string{"bench", "esp", "--suite", "rot13"}, "rot13"},
		{"auth", []string{"bench", "ike", "--auth", "rot13"}, "rot13"},
		{"one profile of two", []string{"bench", "ike", "--cpuprofile", filepath.Join(dir, "cpu")}, "one --auth"},
		{"key kind", []string{"keygen", "--type", "dsa", filepath.Join(dir, "k")}, "dsa"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out, err := command(ctx, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
			if out != "" {
				t.Errorf("it did something first: %q", out)
			}
		})
	}
}

// A start that fails does not begin: it is no host that stops, and peers hear nothing of it.
func TestFailedStart(t *testing.T) {
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for want, more := range map[string]string{
		"forwards[0].listen": fmt.Sprintf("forwards: [{listen: %q, to: \"[fd62:746e:7300::1]:1\"}]", busy.Addr()),
		"is no socket":       "control: up.yaml",
	} {
		file := filepath.Join(t.TempDir(), "up.yaml")
		text := fmt.Sprintf("listen: \"127.0.0.1:0\"\nconnections: {m: {remote_addrs: %q, children: {c: {start_action: start}}}}\n%s", peer.LocalAddr(), more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		cmd := root()
		cmd.SetArgs([]string{"up", "-c", file, "--verbose"})
		cmd.SetErr(&log)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if log.Len() != 0 {
			t.Errorf("%s: it logs\n%s", want, &log)
		}
	}
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, _, err := peer.ReadFrom(make([]byte, 2000)); err == nil {
		t.Errorf("the peer hears %d octets", n)
	}
}

func TestBenchIKE(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cpu")
	out, err := command(t.Context(), "bench", "ike", "--auth", "psk", "--handshakes", "4", "--rounds", "1", "--tunnels", "4", "--json", "--cpuprofile", profile)
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Results []struct{ Name string } }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var names []string
	for _, r := range report.Results {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "ike/handshake ike/heap ike/rss ike/peak" {
		t.Error(got)
	}
	if b, err := os.ReadFile(profile); err != nil || len(b) == 0 {
		t.Errorf("%d octets of a profile, %v", len(b), err)
	}
}

// Who stops a command is told that, and not what broke off.
func TestInterrupted(t *testing.T) {
	signal := errors.New("interrupt signal received")
	for _, args := range [][]string{
		{"demo", "--megabytes", "64"},
		{"bench", "esp"},
		{"bench", "ike", "--auth", "psk"},
	} {
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { stop(signal) })
		if _, err := command(ctx, args...); !errors.Is(interrupted(ctx, err), signal) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := interrupted(t.Context(), net.ErrClosed); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestKeygenLeavesNoHalfKey(t *testing.T) {
	key := filepath.Join(t.TempDir(), "k")
	if out, err := command(t.Context(), "keygen", key); err != nil || !strings.Contains(out, "fd62:746e:73") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := command(t.Context(), "keygen", key); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("twice: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t.Context(), "keygen", key); err == nil {
		t.Error("overwrote the public half")
	}
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a private key without its public half is left: %v", err)
	}
}

// TestUp runs a host until it is told to stop, and asks it what it does.
func TestUp(t *testing.T) {
	dir := t.TempDir()
	file, ctl, keys := filepath.Join(dir, "up.yaml"), filepath.Join(dir, "ctl"), filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte("listen: \"127.0.0.1:0\"\nconnections: {anybody: {}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := command(ctx, "up", "-c", file, "--control", ctl, "--keylog", keys); done <- err }()
	var out string
	eventually(t, "the host answers", func() (ok bool) {
		o, err := command(t.Context(), "status", "--control", ctl)
		out = o
		return err == nil
	})
	if !strings.Contains(out, "IKE SAs: 0 authenticated") {
		t.Errorf("status: %s", out)
	}
	if out, err := command(t.Context(), "status", "--json", "--control", ctl); err != nil || !strings.Contains(out, `"ike_sas":[]`) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := command(t.Context(), "rekey", "anybody", "--control", ctl); err == nil || !strings.Contains(err.Error(), "nothing to rekey: no SA of anybody is up") {
		t.Errorf("%v: %s", err, out)
	}
	if fi, err := os.Stat(keys); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key log: %v, %v", fi, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ctl); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// tunnel is two hosts and what stops their forwards.
func tunnel(t *testing.T) (a, b *sockets.Stack, start func(f config.Forward, from, to side) (addr string)) {
	t.Helper()
	b, err := sockets.New(sockets.Config{Listen: []string{"127.0.0.1:0"}, Connections: []sockets.Connection{{}}})
	if err != nil {
		t.Fatal(err)
	}
	a, err = sockets.New(sockets.Config{Listen: []string{"127.0.0.1:0"}, Connections: []sockets.Connection{{RemoteAddrs: []string{b.LocalAddr().String()}}}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var closers []io.Closer
	t.Cleanup(func() {
		for _, c := range closers {
			_ = c.Close()
		}
		_, _ = a.Close(), b.Close()
		wg.Wait()
	})
	return a, b, func(f config.Forward, from, to side) string {
		fw, err := take(f, from, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		fw.serve(to, &wg)
		closers = append(closers, fw)
		switch l := fw.port.(type) {
		case net.Listener:
			return l.Addr().String()
		case packetConn:
			return l.LocalAddr().String()
		}
		return ""
	}
}

func inner(st *sockets.Stack, port string) string {
	return net.JoinHostPort(st.Addrs()[0].String(), port)
}

// A local client reaches a local service of the other side, through both forwards.
func TestForwardTCP(t *testing.T) {
	a, b, start := tunnel(t)
	service, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	go func() {
		for {
			c, err := service.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c) // until the client has said everything
			_, _ = c.Write(bytes.ToUpper(b))
			_ = c.Close()
		}
	}()
	start(config.Forward{Network: "tcp", Listen: ":80", To: service.Addr().String()}, tunnels(b), machine())
	at := start(config.Forward{Network: "tcp", Listen: "127.0.0.1:0", To: inner(b, "80")}, machine(), tunnels(a))
	c, err := net.Dial("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("half-close passes through "), 40_000)
	go func() { _, _ = c.Write(data); _ = c.(*net.TCPConn).CloseWrite() }()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, bytes.ToUpper(data)) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	// Where nobody listens the client is reset, not kept waiting.
	nowhere := start(config.Forward{Network: "tcp", Listen: "127.0.0.1:0", To: inner(b, "81")}, machine(), tunnels(a))
	c, err = net.Dial("tcp4", nowhere)
	if errors.Is(err, syscall.ECONNRESET) {
		return // sooner than Dial could return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("got %v", err)
	}
}

func TestForwardUDP(t *testing.T) {
	a, b, start := tunnel(t)
	service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := service.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = service.WriteToUDPAddrPort(bytes.ToUpper(buf[:n]), from)
		}
	}()
	start(config.Forward{Network: "udp", Listen: ":53", To: service.LocalAddr().String()}, tunnels(b), machine())
	at := start(config.Forward{Network: "udp", Listen: "127.0.0.1:0", To: inner(b, "53")}, machine(), tunnels(a))
	for i := range 3 {
		c, err := net.Dial("udp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		for _, size := range []int{1, 1400, 20_000} {
			data := bytes.Repeat([]byte{byte('a' + i)}, size)
			buf := make([]byte, maxDatagram)
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], bytes.ToUpper(data)) {
				t.Fatalf("%d bytes: read %d, %v", size, n, err)
			}
		}
	}
}

// A destination that takes its time to be found keeps nobody waiting but who goes there.
func TestForwardUDPDialsAside(t *testing.T) {
	service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := service.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = service.WriteToUDPAddrPort(bytes.ToUpper(buf[:n]), from)
		}
	}()
	found := make(chan struct{})
	var dials atomic.Int32
	var d net.Dialer
	aside := side{dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			<-found
		}
		return d.DialContext(ctx, network, addr)
	}}
	fw, err := take(config.Forward{Network: "udp", Listen: "127.0.0.1:0", To: service.LocalAddr().String()}, machine(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	fw.serve(aside, &wg)
	defer func() { _ = fw.Close(); wg.Wait() }()
	var clients [2]net.Conn
	for i, word := range []string{"late", "soon"} {
		if clients[i], err = net.Dial("udp4", fw.port.(packetConn).LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
		if _, err := clients[i].Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is dialled", func() bool { return int(dials.Load()) == i+1 })
	}
	for i, want := range []string{"SOON", "LATE"} {
		c := clients[1-i]
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 100)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if i == 0 {
			close(found)
		}
	}
}

// failing is a socket that fails each time, as one whose interface is gone.
type failing struct {
	packetConn
	reads atomic.Int64
	once  sync.Once
	done  chan struct{}
}

func (f *failing) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	f.reads.Add(1)
	select {
	case <-f.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	default:
		return 0, netip.AddrPort{}, errors.New("network is down")
	}
}

func (f *failing) Close() error { f.once.Do(func() { close(f.done) }); return nil }

func TestForwardThatFailsIsIdle(t *testing.T) {
	in := &failing{done: make(chan struct{})}
	var wg sync.WaitGroup
	c, err := take(config.Forward{Network: "udp"}, side{listenPacket: func(string, string) (packetConn, error) { return in, nil }},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.serve(side{}, &wg)
	<-time.After(50 * time.Millisecond)
	if n := in.reads.Load(); n > 200 {
		t.Errorf("%d reads in 50 ms", n)
	}
	_ = c.Close()
	wg.Wait()
}
