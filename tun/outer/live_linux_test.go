package outer_test

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/outer"
)

// TestKernel puts a real TUN device between the wire and this host's kernel, in a network
// namespace of its own: the kernel's UDP and ping judge what we build.
func TestKernel(t *testing.T) {
	for _, tool := range []string{"ip", "ping"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s", tool)
		}
	}
	// The thread stays in the namespace and ends with the goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	dev, err := outer.Open("btnstest0", 1400)
	if err != nil {
		t.Skip(err)
	}
	w, err := outer.New(dev, outer.Config{Addrs: []netip.Prefix{
		netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("ip", "addr", "add", "192.0.2.1/24", "dev", "btnstest0")
	run("ip", "addr", "add", "2001:db8::1/64", "dev", "btnstest0", "nodad")
	// A worker of the kernel makes the route of a new IPv6 address, when it comes to it;
	// until then nothing is delivered there.
	for ready := false; !ready; {
		out, _ := exec.Command("ip", "-6", "route", "get", "2001:db8::1").CombinedOutput() // an error before there is any route
		ready = strings.HasPrefix(string(out), "local ")
	}

	// Everything that arrives is echoed, so that both directions are judged.
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := tun.NewBatch(w.Caps().Batch, 0)
		for {
			pkts, err := in.Receive(w)
			if err != nil {
				return
			}
			for len(pkts) > 0 {
				n, err := w.Send(pkts)
				if err != nil {
					t.Error(err)
					n++
				}
				pkts = pkts[n:]
			}
		}
	}()
	defer func() { _ = w.Close(); <-done }()

	for _, c := range []struct {
		network string
		to      string
	}{{"udp4", "192.0.2.2:4500"}, {"udp6", "[2001:db8::2]:4500"}, {"udp4", "192.0.2.2:500"}} {
		conn, err := net.Dial(c.network, c.to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, n := range []int{32, 1372, 1373, 9000, 60000} { // from whole to 44 fragments
			for _, marker := range []bool{false, true} {
				msg := bytes.Repeat([]byte{0x5A}, n)
				if marker {
					clear(msg[:4])
				}
				if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(msg); err != nil {
					t.Fatalf("%s, %d bytes: %v", c.to, n, err)
				}
				got := make([]byte, 65536)
				k, err := conn.Read(got)
				if err != nil || !bytes.Equal(got[:k], msg) {
					t.Errorf("%s, %d bytes, marker %v: %d bytes back, %v; %+v", c.to, n, marker, k, err, w.Stats())
				}
			}
		}
	}
	run("ping", "-c", "2", "-i", "0.2", "-W", "5", "192.0.2.2")
	run("ping", "-c", "1", "-W", "5", "-s", "20000", "192.0.2.2")
	run("ping", "-c", "1", "-W", "5", "2001:db8::2")
	run("ping", "-c", "1", "-W", "5", "-s", "20000", "2001:db8::2")

	raw, err := net.ListenIP("ip4:50", &net.IPAddr{IP: net.IPv4(192, 0, 2, 1)})
	if err != nil {
		t.Skipf("no raw socket: %v", err)
	}
	defer raw.Close()
	esp := []byte{1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9}
	if _, err := raw.WriteToIP(esp, &net.IPAddr{IP: net.IPv4(192, 0, 2, 2)}); err != nil {
		t.Fatal(err)
	}
	if err := raw.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	if k, _, err := raw.ReadFromIP(got); err != nil || !bytes.Equal(got[:k], esp) {
		t.Errorf("native ESP: % x, %v", got[:k], err)
	}
}
