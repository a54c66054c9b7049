package uml

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestGuest boots one guest and looks at everything that a test may want of it.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	g := ForTest(t, Config{
		Host:  []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
		Guest: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	out := g.MustRun(ctx, t, "uname -rm; echo a line; echo another >&2; ip route; ip -6 route; cat /proc/net/xfrm_stat")
	for _, want := range []string{"6.", "a line\nanother\n", "default via 192.0.2.1", "default via 2001:db8::1", "XfrmInError"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if out, err := g.Run(ctx, "echo before; false; exit 3"); err == nil || !strings.Contains(err.Error(), "3") || out != "before\n" {
		t.Errorf("a failing script: %q, %v", out, err)
	}

	// The machine is read-only, the shared directory is not.
	if out, err := g.Run(ctx, "touch /etc/btns-was-here"); err == nil {
		t.Errorf("the guest wrote to the machine: %s", out)
	}
	g.MustRun(ctx, t, "echo from the guest > "+GuestShare+"/file")
	if b, err := os.ReadFile(filepath.Join(g.Share(), "file")); err != nil || string(b) != "from the guest\n" {
		t.Errorf("%q, %v", b, err)
	}

	// Both ends of the tap, both families, a program and a socket.
	for _, dst := range []string{"192.0.2.2", "2001:db8::2"} {
		if out, err := g.Command(ctx, "ping", "-c", "1", "-W", "5", dst).CombinedOutput(); err != nil {
			t.Errorf("ping %s: %v\n%s", dst, err, out)
		}
	}
	var ln net.Listener
	if err := g.InNetNS(func() (err error) {
		ln, err = net.Listen("tcp", "192.0.2.1:8080")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		b := make([]byte, 100)
		n, _ := c.Read(b)
		got <- string(b[:n])
	}()
	g.MustRun(ctx, t, "bash -c 'echo hello > /dev/tcp/192.0.2.1/8080'")
	if s := <-got; s != "hello\n" {
		t.Errorf("over TCP: %q", s)
	}

	// What stays in the background stays.
	g.MustRun(ctx, t, "sleep 1000 >/dev/null 2>&1 & echo $! > "+GuestShare+"/pid")
	g.MustRun(ctx, t, "kill -0 $(cat "+GuestShare+"/pid)")

	pid := g.cmd.Process.Pid
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(ctx, "true"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := os.Stat(g.Share()); !os.IsNotExist(err) {
		t.Error("the directory is still there")
	}
	if out, err := exec.Command("ip", "netns", "list").Output(); err != nil || strings.Contains(string(out), g.NetNS()) {
		t.Errorf("the namespace is still there: %s, %v", out, err)
	}
	if left, err := exec.Command("ps", "-o", "pid,args", "--no-headers", "-g", strconv.Itoa(pid)).Output(); err == nil && len(strings.TrimSpace(string(left))) > 0 {
		t.Errorf("processes are left:\n%s", left)
	}
}

func TestStartFails(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	// A tap name that can't be: everything is taken down again.
	_, err := Start(t.Context(), Config{NetNS: "btns-uml-bad", Tap: "a-name-far-too-long-for-linux"})
	if err == nil {
		t.Fatal("no error")
	}
	if out, _ := exec.Command("ip", "netns", "list").Output(); strings.Contains(string(out), "btns-uml-bad") {
		t.Error("the namespace is still there")
	}
}
