package raw_test

import (
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/raw"
	"github.com/btns-go/btns/tun/tuntest"
	"github.com/btns-go/btns/tun/udp"
)

// TestConformance runs the shared cases over the loopback device of a network namespace.
func TestConformance(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip")
	}
	// The thread stays in the namespace and ends with the goroutine. Subtests would run
	// elsewhere, so there are none.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", "2001:db8::1/128", "dev", "lo"},
		{"addr", "add", "2001:db8::2/128", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %v: %s", args, out)
		}
	}
	// A worker of the kernel makes the routes of new IPv6 addresses, when it comes to it.
	for _, addr := range []string{"2001:db8::1", "2001:db8::2"} {
		for ready := false; !ready; {
			out, _ := exec.Command("ip", "-6", "route", "get", addr).CombinedOutput() // an error before there is any route
			ready = strings.HasPrefix(string(out), "local ")
		}
	}
	listen := func(a netip.Addr) (tun.Wire, error) {
		u, err := udp.Listen(udp.Config{Addrs: []netip.AddrPort{netip.AddrPortFrom(a, 4500), netip.AddrPortFrom(a, 500)}})
		if err != nil {
			return nil, err
		}
		w, err := raw.Listen(raw.Config{UDP: u, Addrs: []netip.Addr{a}})
		if err != nil {
			return nil, errors.Join(err, u.Close())
		}
		return tuntest.Poison(w), nil
	}
	for _, c := range []struct {
		a, b string
		port uint16
	}{
		{"127.0.0.1", "127.0.0.2", 0}, {"2001:db8::1", "2001:db8::2", 0},
		{"127.0.0.1", "127.0.0.2", 4500}, {"2001:db8::1", "2001:db8::2", 500},
	} {
		b := netip.MustParseAddr(c.b)
		open := func() (tun.Wire, tun.Wire, tun.Path, error) {
			wa, err := listen(netip.MustParseAddr(c.a))
			if err != nil {
				return nil, nil, tun.Path{}, err
			}
			wb, err := listen(b)
			if err != nil {
				return nil, nil, tun.Path{}, errors.Join(err, wa.Close())
			}
			return wa, wb, tun.Path{Remote: netip.AddrPortFrom(b, c.port)}, nil
		}
		for _, cc := range tuntest.Conformance() {
			if err := cc.Run(open); err != nil {
				t.Errorf("%s, port %d, %s: %v", c.b, c.port, cc.Name, err)
			}
		}
	}
	ecn(t, listen)
}

// ecn sends every value of the field both ways, and both kinds of path in one batch.
func ecn(t *testing.T, listen func(netip.Addr) (tun.Wire, error)) {
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"2001:db8::1", "2001:db8::2"}} {
		a, err := listen(netip.MustParseAddr(ends[0]))
		if err != nil {
			t.Fatal(err)
		}
		b, err := listen(netip.MustParseAddr(ends[1]))
		if err != nil {
			t.Fatal(err)
		}
		var out []tun.Packet
		for i := range 8 {
			p := tun.Packet{Buf: make([]byte, 100), Len: 100, Kind: tun.KindESP, ECN: uint8(i) & 3}
			p.Buf[0], p.Buf[1] = 9, byte(i)
			p.Path = tun.Path{
				Local:  netip.AddrPortFrom(netip.MustParseAddr(ends[0]), uint16(i/4)*4500),
				Remote: netip.AddrPortFrom(netip.MustParseAddr(ends[1]), uint16(i/4)*4500),
			}
			out = append(out, p)
		}
		if n, err := a.Send(out); n != len(out) {
			t.Fatal(n, err)
		}
		in := tun.NewBatch(8, 0)
		for got := 0; got < len(out); {
			pkts, err := in.Receive(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pkts {
				if i := p.Data()[1]; p.ECN != i&3 || p.Path.Swap() != out[i].Path {
					t.Errorf("packet %d came over %v with ECN %d", i, p.Path, p.ECN)
				}
				got++
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}
