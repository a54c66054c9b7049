//go:build linux

package interop

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The hosts of a pair, as far as anybody outside the tunnels sees.
const (
	NearAddr = "192.0.2.1" // where btns runs
	FarAddr  = "192.0.2.2" // where the peer runs
)

// The same, with the ports of IKE and of IKE and ESP in UDP (RFC 3948).
var (
	NearIKE  = netip.MustParseAddrPort(NearAddr + ":500")
	FarIKE   = netip.MustParseAddrPort(FarAddr + ":500")
	NearNATT = netip.MustParseAddrPort(NearAddr + ":4500")
	FarNATT  = netip.MustParseAddrPort(FarAddr + ":4500")
)

// link is the name of the link in both hosts of a pair.
const link = "eth0"

// An NS is a network namespace: a host.
type NS struct {
	Name string
	Addr string // on the link
	Peer string // the other host's
	Link string // the link's name
}

var pairs atomic.Uint32 // for unique names

// NewPair makes two hosts joined by a link, near with NearAddr and far with FarAddr.
func NewPair(t testing.TB) (near, far *NS) {
	t.Helper()
	Need(t, "ip", "unshare")
	base := fmt.Sprintf("btns-%d-%d", os.Getpid(), pairs.Add(1))
	near, far = newNS(t, base+"a"), newNS(t, base+"b")
	near.Addr, near.Peer, near.Link = NearAddr, FarAddr, link
	far.Addr, far.Peer, far.Link = FarAddr, NearAddr, link
	run(t, "ip", "link", "add", link, "netns", near.Name, "type", "veth", "peer", "name", link, "netns", far.Name)
	for _, ns := range []*NS{near, far} {
		ns.IP(t, "addr", "add", ns.Addr+"/24", "dev", link)
		ns.IP(t, "link", "set", link, "up")
	}
	return near, far
}

func newNS(t testing.TB, name string) *NS {
	t.Helper()
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		Missing(t, "network namespaces: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del %s: %v: %s", name, err, out)
		}
	})
	ns := &NS{Name: name}
	ns.IP(t, "link", "set", "lo", "up")
	return ns
}

// IP runs ip with arguments about the host.
func (ns *NS) IP(t testing.TB, args ...string) {
	t.Helper()
	run(t, "ip", append([]string{"-n", ns.Name}, args...)...)
}

// Command is a command to be run on the host. It replaces its wrapper: its process is the
// command's own.
func (ns *NS) Command(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns.Name}, args...)...)
}

// Run runs a command on the host to its end and returns what it printed.
func (ns *NS) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := ns.Command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// enter runs f on a thread that is on the host. Sockets stay on the host they were made on.
func (ns *NS) enter(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen listens on the host.
func (ns *NS) Listen(t testing.TB, addr string) (ln net.Listener) {
	t.Helper()
	err := ns.enter(func() (err error) { ln, err = net.Listen("tcp", addr); return err })
	if err != nil {
		t.Fatalf("listen %s: %v", addr, err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// ListenUDP makes a UDP socket on the host.
func (ns *NS) ListenUDP(t testing.TB, addr string) (pc *net.UDPConn) {
	t.Helper()
	err := ns.enter(func() error {
		a, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return err
		}
		pc, err = net.ListenUDP("udp", a)
		return err
	})
	if err != nil {
		t.Fatalf("listen %s: %v", addr, err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

// DialUDP makes a connected UDP socket on the host.
func (ns *NS) DialUDP(t testing.TB, addr string) (c net.Conn) {
	t.Helper()
	err := ns.enter(func() (err error) { c, err = net.Dial("udp", addr); return err })
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
