package udp

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/tun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	loop4 = netip.MustParseAddr("127.0.0.1")
	loop6 = netip.IPv6Loopback()
)

// hasIPv6 reports whether the host has an IPv6 loopback address.
func hasIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// flavour is one implementation of the wire.
type flavour struct {
	name    string
	plain   bool
	offload bool
}

func flavours() []flavour {
	return []flavour{{"fast", false, false}, {"offload", false, true}, {"plain", true, false}}
}

func (f flavour) listen(tb testing.TB, addrs ...netip.AddrPort) *Wire {
	tb.Helper()
	w, err := listen(Config{Addrs: addrs, NoOffload: !f.offload}, f.plain)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

func esp(path tun.Path, n int, seed byte) tun.Packet {
	buf := make([]byte, tun.Headroom+n+tun.Tailroom)
	p := tun.Packet{Buf: buf, Off: tun.Headroom, Len: n, Path: path, Kind: tun.KindESP}
	for i, d := 0, p.Data(); i < len(d); i++ {
		d[i] = seed | 1
	}
	return p
}

func receiveOne(t *testing.T, w *Wire) tun.Packet {
	t.Helper()
	got, err := tun.NewBatch(1, 0).Receive(w)
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

// TestTwoPorts: a wire with two ports answers from the one it was asked on, and chooses a
// socket by Path.Local, or by the port of the other end.
func TestTwoPorts(t *testing.T) {
	for _, f := range flavours() {
		t.Run(f.name, func(t *testing.T) {
			a := f.listen(t, netip.AddrPort{}, netip.AddrPort{})
			b := f.listen(t, netip.AddrPort{})
			pa, pb := a.Caps().Ports, b.Caps().Ports
			for i, port := range pa {
				to := tun.Path{Remote: netip.AddrPortFrom(loop4, port)}
				if _, err := b.Send([]tun.Packet{esp(to, 100, byte(i))}); err != nil {
					t.Fatal(err)
				}
				got := receiveOne(t, a)
				want := tun.Path{Local: netip.AddrPortFrom(loop4, port), Remote: netip.AddrPortFrom(loop4, pb[0])}
				if got.Path != want {
					t.Errorf("came over %v, want %v", got.Path, want)
				}
				if _, err := a.Send([]tun.Packet{esp(got.Path, 100, byte(i))}); err != nil {
					t.Fatal(err)
				}
				if back := receiveOne(t, b); back.Path.Remote.Port() != port {
					t.Errorf("answer from port %d, asked was %d", back.Path.Remote.Port(), port)
				}
			}
		})
	}
	w := &Wire{}
	for _, port := range []uint16{4500, 500} {
		w.socks = append(w.socks, &socket{bound: netip.AddrPortFrom(netip.IPv6Unspecified(), port), v4: true, v6: true})
	}
	for _, c := range []struct{ local, remote, want uint16 }{
		{0, 500, 500}, {0, 4500, 4500}, {0, 7777, 4500}, {500, 4500, 500}, {4500, 500, 4500}, {7777, 500, 0},
	} {
		s := w.choose(tun.Path{Local: netip.AddrPortFrom(netip.Addr{}, c.local), Remote: netip.AddrPortFrom(loop4, c.remote)})
		if s == nil && c.want != 0 || s != nil && s.bound.Port() != c.want {
			t.Errorf("%d to %d: chose %+v, want port %d", c.local, c.remote, s, c.want)
		}
	}
}

// TestMarkerOnTheWire looks at the bytes with a plain socket (RFC 3948, Section 2).
func TestADV_A17_MarkerOnTheWire(t *testing.T) {
	peer, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loop4, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	at := localOf(peer)
	buf := make([]byte, 2000)
	for _, f := range flavours() {
		w := f.listen(t, netip.AddrPortFrom(loop4, 0))
		path := tun.Path{Remote: at}
		ike := esp(path, 40, 5)
		ike.Kind = tun.KindIKE
		data := esp(path, 60, 7)
		alive := tun.Packet{Buf: []byte{tun.Keepalive}, Len: 1, Kind: tun.KindESP, Path: path}
		if n, err := w.Send([]tun.Packet{ike, data, alive}); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		for _, want := range [][]byte{append(make([]byte, 4), ike.Data()...), data.Data(), {0xFF}} {
			n, _, err := peer.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buf[:n], want) {
				t.Errorf("%s: % x on the wire, want % x", f.name, buf[:n], want)
			}
		}
		to := netip.AddrPortFrom(loop4, w.Caps().Ports[0])
		for _, b := range [][]byte{
			{}, {1}, {0xFF}, {0, 0, 0, 0}, {1, 2, 3, 4, 5, 6, 7}, make([]byte, 31), // dropped
			append(make([]byte, 4), ike.Data()...), data.Data(),
		} {
			if _, err := peer.WriteToUDPAddrPort(b, to); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []*tun.Packet{&ike, &data} {
			got := receiveOne(t, w)
			if got.Kind != want.Kind || !bytes.Equal(got.Data(), want.Data()) || got.Path.Remote != at {
				t.Errorf("%s: received %v % x", f.name, got.Kind, got.Data())
			}
		}
		s := w.Stats()
		if s.Drops[tun.DropShort] != 5 || s.Drops[tun.DropKeepalive] != 1 || s.Dropped() != 5 {
			t.Errorf("%s: drops %v", f.name, s.Drops)
		}
	}
}

func TestListenErrors(t *testing.T) {
	w := flavour{}.listen(t, netip.AddrPortFrom(loop4, 0))
	taken := netip.AddrPortFrom(loop4, w.Caps().Ports[0])
	for _, c := range []struct {
		addr netip.AddrPort
		is   error
		says string
	}{
		{taken, errInUse, "udp: " + taken.String() + " is in use by another program"},
		{netip.MustParseAddrPort("192.0.2.77:0"), errNotAvail, "udp: 192.0.2.77 is not an address of this host"},
	} {
		_, err := Listen(Config{Addrs: []netip.AddrPort{netip.AddrPortFrom(loop4, 0), c.addr}})
		var le *ListenError
		if !errors.As(err, &le) || !errors.Is(err, c.is) || le.Addr != c.addr || err.Error() != c.says {
			t.Errorf("%v: %v", c.addr, err)
		}
	}
	for _, err := range []error{errAccess, errors.New("something else")} {
		le := &ListenError{Addr: netip.AddrPortFrom(netip.Addr{}, 500), Err: &net.OpError{Op: "listen", Err: err}}
		if s := le.Error(); !strings.Contains(s, "port 500") || strings.Contains(s, "\n") {
			t.Error(s)
		}
	}
}

func TestLocalAddr(t *testing.T) {
	w := flavour{}.listen(t, netip.AddrPort{}, netip.AddrPortFrom(loop4, 0))
	p := w.Caps().Ports
	got := w.LocalAddr(loop4)
	if len(got) != 2 || got[0] != netip.AddrPortFrom(loop4, p[0]) || got[1] != netip.AddrPortFrom(loop4, p[1]) {
		t.Errorf("to %v: %v", loop4, got)
	}
	if mapped := w.LocalAddr(netip.MustParseAddr("::ffff:127.0.0.1")); len(mapped) != 2 {
		t.Errorf("to a mapped address: %v", mapped)
	}
	if hasIPv6() {
		if got := w.LocalAddr(loop6); len(got) != 1 || got[0] != netip.AddrPortFrom(loop6, p[0]) {
			t.Errorf("to %v: %v", loop6, got)
		}
	}
	if all := w.LocalAddr(netip.Addr{}); len(all) != 2 || !all[0].Addr().IsUnspecified() {
		t.Errorf("all: %v", all)
	}
}

// TestCapsAreACopy: what Caps returns is the caller's.
func TestCapsAreACopy(t *testing.T) {
	w, err := Listen(Config{Log: slog.Default(), MTU: 9000})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c := w.Caps()
	if len(c.Ports) != 1 || c.Ports[0] == 0 || c.NativeESP || c.ClearPackets || c.MTU != 9000 || c.Batch < 1 {
		t.Errorf("%+v", c)
	}
	c.Ports[0] = 1
	if w.Caps().Ports[0] == 1 {
		t.Error("Caps shares its slice")
	}
}

// TestUnsetBuffers: slots that were not set again are refused, not written to.
func TestUnsetBuffers(t *testing.T) {
	w := flavour{}.listen(t)
	if _, err := w.Receive([]tun.Packet{{Buf: make([]byte, tun.Headroom-1)}}); !errors.Is(err, tun.ErrPacket) {
		t.Error(err)
	}
	if n, err := w.Receive(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func BenchmarkLoopback(b *testing.B) {
	for _, f := range flavours() {
		if f.name != "plain" && runtime.GOOS != "linux" {
			continue
		}
		b.Run(f.name, func(b *testing.B) {
			const size, burst = 1452, 64
			from := f.listen(b, netip.AddrPortFrom(loop4, 0))
			to := f.listen(b, netip.AddrPortFrom(loop4, 0))
			path := tun.Path{Remote: netip.AddrPortFrom(loop4, to.Caps().Ports[0])}
			var out []tun.Packet
			for i := range burst {
				out = append(out, esp(path, size, byte(i)))
			}
			in := tun.NewBatch(128, 0)
			b.SetBytes(size)
			b.ReportAllocs()
			b.ResetTimer()
			for sent := 0; sent < b.N; sent += burst {
				if _, err := from.Send(out); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < burst; {
					pkts, err := in.Receive(to)
					if err != nil {
						b.Fatal(err)
					}
					got += len(pkts)
				}
			}
		})
	}
}
