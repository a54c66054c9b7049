package netstack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestConfig(t *testing.T) {
	for _, c := range []Config{
		{MTU: 100}, {MTU: 1279}, {MTU: 70000}, {MTU: -1}, {ReceiveBuffer: 1000}, {SendBuffer: -1}, {SendBuffer: 1<<30 + 1},
		{UDPReceiveBuffer: -1}, {TimeWait: -1},
		{Addrs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, {Addrs: []netip.Prefix{netip.MustParsePrefix("224.0.0.1/32")}},
		{Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}, {Addrs: []netip.Prefix{netip.MustParsePrefix("::1/128")}},
		{Addrs: []netip.Prefix{netip.MustParsePrefix("255.255.255.255/32")}}, {Addrs: []netip.Prefix{{}}},
	} {
		if s, err := New(c); err == nil {
			_ = s.Close()
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestAddrs(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	extra := netip.MustParseAddr("10.9.0.77")
	if err := a.AddAddr(netip.PrefixFrom(extra, 24)); err != nil {
		t.Fatal(err)
	}
	if err := a.AddAddr(netip.PrefixFrom(extra, 24)); err != nil {
		t.Errorf("again: %v", err)
	}
	if got := a.Addrs(); !slices.Equal(got, []netip.Addr{a4, extra, a6}) {
		t.Errorf("%v", got)
	}
	if _, _, err := b.Ping(t.Context(), nil, extra); err != nil {
		t.Errorf("the new address: %v", err)
	}
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	d := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPortFrom(extra, 4444), ln.addr))
	if d.local != netip.AddrPortFrom(extra, 4444) {
		t.Errorf("dialled from %v", d.local)
	}
	_, _ = d.Close(), ln.Close()
	if err := a.RemoveAddr(extra); err != nil {
		t.Fatal(err)
	}
	if err := a.RemoveAddr(extra); err != nil {
		t.Errorf("again: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := b.Ping(ctx, nil, extra); err == nil {
		t.Error("the removed address answers")
	}
	// Replacing the set keeps what stays, and its connections.
	if err := a.SetAddrs([]netip.Prefix{netip.PrefixFrom(a4, 32), netip.MustParsePrefix("fd62::9/64")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(err)
	}
	// The /24 makes no broadcast address of its last one.
	if err := a.SetAddrs([]netip.Prefix{netip.MustParsePrefix("10.9.0.255/24")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Ping(t.Context(), nil, netip.MustParseAddr("10.9.0.255")); err != nil {
		t.Errorf("the last address of a subnet: %v", err)
	}
	c.Abort(nil)
	_, _ = c.Close(), s.Close()
}

// TestErrno: every gVisor error has a number, and the usual ones the usual.
func TestErrno(t *testing.T) {
	for _, tc := range []struct {
		e    tcpip.Error
		want syscall.Errno
	}{
		{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED}, {&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
		{&tcpip.ErrAborted{}, syscall.ECONNABORTED}, {&tcpip.ErrConnectionAborted{}, syscall.ECONNABORTED},
		{&tcpip.ErrTimeout{}, syscall.ETIMEDOUT}, {&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH},
		{&tcpip.ErrHostDown{}, syscall.EHOSTDOWN}, {&tcpip.ErrNetworkUnreachable{}, syscall.ENETUNREACH},
		{&tcpip.ErrNoNet{}, syscall.ENETUNREACH}, {&tcpip.ErrPortInUse{}, syscall.EADDRINUSE},
		{&tcpip.ErrNoPortAvailable{}, syscall.EADDRNOTAVAIL}, {&tcpip.ErrBadLocalAddress{}, syscall.EADDRNOTAVAIL},
		{&tcpip.ErrMessageTooLong{}, syscall.EMSGSIZE}, {&tcpip.ErrClosedForSend{}, syscall.EPIPE},
		{&tcpip.ErrNotConnected{}, syscall.ENOTCONN}, {&tcpip.ErrNoBufferSpace{}, syscall.ENOBUFS},
		{&tcpip.ErrDestinationRequired{}, syscall.EDESTADDRREQ}, {&tcpip.ErrNotPermitted{}, syscall.EPERM},
		{&tcpip.ErrBroadcastDisabled{}, syscall.EACCES}, {&tcpip.ErrAlreadyConnected{}, syscall.EISCONN},
		{&tcpip.ErrAlreadyConnecting{}, syscall.EALREADY}, {&tcpip.ErrAddressFamilyNotSupported{}, syscall.EAFNOSUPPORT},
		{&tcpip.ErrUnknownProtocolOption{}, syscall.ENOPROTOOPT}, {&tcpip.ErrNotSupported{}, syscall.EOPNOTSUPP},
		{&tcpip.ErrBadBuffer{}, syscall.EINVAL},
	} {
		if got := errno(tc.e); got != tc.want {
			t.Errorf("%v is %v, want %v", tc.e, got, tc.want)
		}
		if err := sysErr("x", tc.e); !errors.Is(err, tc.want) {
			t.Errorf("%v", err)
		}
	}
}

// TestDeadline: set, moved, passed, removed; those who wait see each change.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deadline
		if d.isPast() {
			t.Fatal("zero value has passed")
		}
		start := time.Now()
		waiting := d.done()
		d.set(time.Now().Add(time.Second))
		d.set(time.Now().Add(2 * time.Second)) // moves those who wait
		<-waiting
		if e := time.Since(start); e != 2*time.Second || !d.isPast() {
			t.Fatalf("after %v", e)
		}
		d.set(time.Time{})
		if d.isPast() || isClosed(d.done()) {
			t.Fatal("still past after its removal")
		}
		waiting = d.done()
		d.set(time.Now().Add(-time.Second))
		<-waiting
		d.set(time.Now().Add(-time.Hour))
		d.set(time.Now().Add(time.Second))
		if d.isPast() {
			t.Fatal("past")
		}
		<-d.done()
		d.set(time.Now().Add(time.Hour))
		waiting = d.done()
		d.set(time.Time{})
		time.Sleep(2 * time.Hour)
		if isClosed(waiting) {
			t.Fatal("a removed deadline passed")
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for k := range 50 {
					d.set(time.Now().Add(time.Duration(i*k%7-3) * time.Millisecond))
					_ = d.isPast()
				}
			})
		}
		wg.Wait()
		d.set(time.Unix(1, 0))
		<-d.done()
	})
}

func TestCtxErr(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	err := fmt.Errorf("wrapped: %w", ctxErr(ctx))
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if te := (timeoutError{}); !te.Timeout() || !te.Temporary() || te.Error() != "i/o timeout" {
		t.Error("timeoutError")
	}
}
