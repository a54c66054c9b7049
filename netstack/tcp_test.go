package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/btns-go/btns/esp/ts"
)

func TestNettestTCP(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			a, b := newPair(t)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, s := connect(t, a, b, v6)
				return c, s, func() { _ = c.Close(); _ = s.Close() }, nil
			})
		})
	}
}

// TestNettestLoopback: a stack's connection to itself.
func TestNettestLoopback(t *testing.T) {
	a, _ := newPair(t)
	a.setAdmit(func(in Inbound) bool {
		if !in.Loopback || in.Packet != a.LoopbackTag() {
			t.Errorf("not marked as loopback: %+v", in)
		}
		return true
	})
	a.setOutput(func(_ *Tag, p *Packet) bool { t.Errorf("left the process: %v", p.Flow()); return false })
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c, s := connect(t, a, a, false)
		return c, s, func() { _ = c.Close(); _ = s.Close() }, nil
	})
}

func TestTransfer(t *testing.T) {
	for _, tc := range []struct {
		name string
		v6   bool
		size int
		loss float64
	}{{"v4", false, 8 << 20, 0}, {"v6", true, 8 << 20, 0}, {"v4 loss", false, 1 << 20, 0.01}, {"v6 loss", true, 1 << 20, 0.01}} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := newPair(t)
			client, server := connect(t, a, b, tc.v6)
			for _, h := range []*host{a, b} {
				h.mu.Lock()
				h.loss = tc.loss
				h.mu.Unlock()
			}
			data := make([]byte, tc.size)
			src := rand.New(rand.NewPCG(7, 7))
			for i := range data {
				data[i] = byte(src.Uint32())
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := client.Write(data); err != nil {
					t.Error(err)
				}
				if err := client.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { // echoes, until the half-close arrives
				if _, err := io.Copy(server, server); err != nil {
					t.Error(err)
				}
				if err := server.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			got := sha256.New()
			n, err := io.Copy(got, client)
			wg.Wait()
			if err != nil || n != int64(len(data)) {
				t.Fatalf("got %d bytes back, %v", n, err)
			}
			if want := sha256.Sum256(data); !bytes.Equal(got.Sum(nil), want[:]) {
				t.Fatal("the bytes differ")
			}
			if a.supers.Load() == 0 {
				t.Error("no super-packet was seen")
			}
		})
	}
}

// TestDialErrors: causes as package net's, or the very error given from below; nothing is left behind.
func TestDialErrors(t *testing.T) {
	a, _ := newPair(t)
	refusal := errors.New("the peer's certificate was issued on a Tuesday")
	blackHole := func(*Tag, *Packet) bool { return false }
	for _, tc := range []struct {
		name   string
		output func(*Tag, *Packet) bool
		ctx    func() (context.Context, context.CancelFunc)
		is     []error
		isNot  []error
	}{
		{name: "closed port", is: []error{syscall.ECONNREFUSED}},
		{name: "refused in the hook", output: func(_ *Tag, p *Packet) bool { p.Refuse(refusal); return false }, is: []error{refusal}},
		{name: "refused later", output: func(_ *Tag, p *Packet) bool {
			h := p.Hold()
			go func() { a.Unreachable(h, refusal); h.Release() }()
			return false
		}, is: []error{refusal}},
		{name: "time-out", output: blackHole, ctx: func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 20*time.Millisecond)
		}, is: []error{context.DeadlineExceeded, os.ErrDeadlineExceeded}},
		{name: "cancelled", output: blackHole, ctx: func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}, is: []error{context.Canceled}, isNot: []error{os.ErrDeadlineExceeded}},
		{name: "cancelled with a cause", output: blackHole, ctx: func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { cancel(refusal) })
			return ctx, func() { cancel(nil) }
		}, is: []error{refusal}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.setOutput(tc.output)
			defer a.setOutput(nil)
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tc.ctx != nil {
				ctx, cancel = tc.ctx()
			}
			defer cancel()
			c, err := a.DialTCP(ctx, &Tag{}, netip.AddrPort{}, netip.AddrPortFrom(b4, 81))
			if err == nil {
				_ = c.Close()
				t.Fatal("connected")
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" {
				t.Errorf("%T %v is no dial error", err, err)
			}
			for _, want := range tc.is {
				if !errors.Is(err, want) {
					t.Errorf("%v is not %v", err, want)
				}
			}
			for _, no := range tc.isNot {
				if errors.Is(err, no) {
					t.Errorf("%v is %v", err, no)
				}
			}
			eventually(t, "no socket is left", func() bool {
				n := 0
				a.owners.Range(func(_, _ any) bool { n++; return true })
				return n == 0
			})
		})
	}
	if err := func() error {
		_, err := a.DialTCP(t.Context(), nil, netip.AddrPortFrom(b4, 0), netip.AddrPortFrom(b4, 80))
		return err
	}(); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("foreign local address: %v", err)
	}
	if _, err := a.DialTCP(t.Context(), nil, netip.AddrPort{}, netip.AddrPort{}); err == nil {
		t.Error("dialled nothing")
	}
	if _, err := a.DialTCP(t.Context(), nil, netip.AddrPortFrom(a6, 0), netip.AddrPortFrom(b4, 80)); err == nil {
		t.Error("dialled from IPv6 to IPv4")
	}
}

// TestDialLeavesNothing: a dial that was given up sends nothing afterwards and its late SYN-ACK is answered with a reset.
func TestDialLeavesNothing(t *testing.T) {
	a, b := newPair(t)
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	var mu sync.Mutex
	var held *Packet
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.setOutput(func(_ *Tag, p *Packet) bool {
		mu.Lock()
		defer mu.Unlock()
		if p.TCPFlags() == 2 {
			if held == nil {
				held = p.Hold()
				cancel()
			}
			return false
		}
		return true
	})
	if _, err := a.DialTCP(ctx, nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 80)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if a.Exists(held.Flow()) {
		t.Error("the socket is still there")
	}
	reset := make(chan bool, 10)
	a.setOutput(func(_ *Tag, p *Packet) bool {
		reset <- p.Unowned() && p.TCPFlags()&4 != 0
		return true
	})
	a.send(held)
	held.Release()
	if !<-reset {
		t.Error("the late SYN-ACK was not answered with a reset of nobody")
	}
	if err := ln.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("accepted %v, %v", c, err)
	}
}

// TestHoldFirstSYN: the packet is kept, released later, and the connection comes about.
func TestHoldFirstSYN(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		a, b := newPair(t)
		a.setOutput(func(_ *Tag, p *Packet) bool {
			if p.TCPFlags() != 2 {
				return true
			}
			h := p.Hold()
			time.AfterFunc(20*time.Millisecond, func() { a.send(h); h.Release() })
			return false
		})
		c, s := connect(t, a, b, v6)
		_, _ = c.Close(), s.Close()
	}
}

// TestReplaceHeld: a hook keeps the newest packet only and releases the one before, from within.
func TestReplaceHeld(t *testing.T) {
	a, b := newPair(t)
	var mu sync.Mutex
	var held *Packet
	n := 0
	twice := make(chan struct{}) // the SYN was sent a second time
	a.setOutput(func(_ *Tag, p *Packet) bool {
		mu.Lock()
		defer mu.Unlock()
		if held != nil {
			held.Release()
		}
		held = p.Hold()
		if n++; n == 1002 {
			close(twice)
		}
		return false
	})
	u := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 9)))
	for range 1000 { // far above the send buffer if they were all kept
		if _, err := u.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	go func() {
		<-twice
		a.setOutput(nil)
		mu.Lock()
		defer mu.Unlock()
		a.send(held)
		held.Release()
	}()
	c := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	_, _, _ = u.Close(), c.Close(), ln.Close()
}

func TestListenErrors(t *testing.T) {
	a, b := newPair(t)
	ln := must[*TCPListener](t)(a.ListenTCP(nil, netip.MustParseAddrPort("[::]:80"), 0))
	for _, addr := range []string{"[::]:80", "0.0.0.0:80", "10.9.0.1:80"} {
		if _, err := a.ListenTCP(nil, netip.MustParseAddrPort(addr), 0); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen %s twice: %v", addr, err)
		}
	}
	if _, err := a.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on a foreign address: %v", err)
	}
	if _, err := a.ListenUDP(nil, netip.AddrPortFrom(b6, 80)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on a foreign address: %v", err)
	}
	if _, err := a.ListenTCP(nil, netip.AddrPort{}, -1); err == nil {
		t.Error("negative backlog taken")
	}
	for _, dst := range []netip.Addr{a4, a6} { // dual stack
		c := must[*TCPConn](t)(b.DialTCP(t.Context(), nil, netip.AddrPort{}, netip.AddrPortFrom(dst, 80)))
		s := must[*TCPConn](t)(ln.AcceptTCP())
		if got := s.LocalAddr().(*net.TCPAddr).AddrPort(); got != netip.AddrPortFrom(dst, 80) {
			t.Errorf("accepted on %v, want %v", got, dst)
		}
		if c.Flow() != s.Flow().Reverse() {
			t.Errorf("flows %v and %v", c.Flow(), s.Flow())
		}
		_, _ = s.Close(), c.Close() // the server first: it keeps the port in TIME-WAIT
	}
	done := make(chan error)
	go func() { _, err := ln.Accept(); done <- err }()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	again := must[*TCPListener](t)(a.ListenTCP(nil, netip.MustParseAddrPort("[::]:80"), 0))
	_ = again.Close()
}

// TestAbort: the cause from below is what the holder sees, at once, and the peer gets a reset.
func TestAbort(t *testing.T) {
	a, b := newPair(t)
	broken := errors.New("the latch broke")
	for name, abort := range map[string]func(*TCPConn){
		"conn":  func(c *TCPConn) { c.Abort(broken) },
		"stack": func(c *TCPConn) { b.Abort(c.Flow(), broken) },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := connect(t, a, b, false)
			gone := make(chan struct{})
			s.OnGone(func() { close(gone) })
			if !b.Exists(s.Flow()) || b.Exists(c.Flow()) {
				t.Error("Exists is wrong")
			}
			if _, err := c.Write([]byte("never read")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if _, err := s.Read(buf[:1]); err != nil { // the rest waits in the buffer
				t.Fatal(err)
			}
			blocked := make(chan error, 1)
			go func() {
				for {
					if _, err := s.Write(make([]byte, 1<<20)); err != nil {
						blocked <- err
						return
					}
				}
			}()
			abort(s)
			<-gone
			if _, err := s.Read(buf); !errors.Is(err, broken) {
				t.Errorf("read: %v", err)
			}
			if err := <-blocked; !errors.Is(err, broken) {
				t.Errorf("write: %v", err)
			}
			if b.Exists(s.Flow()) {
				t.Error("still exists")
			}
			late := make(chan struct{})
			s.OnGone(func() { close(late) })
			<-late
			if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer reads %v", err)
			}
			if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer reads again %v: a reset must not turn into an end", err)
			}
			if _, err := c.Write(buf); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer writes %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close after an abort: %v", err)
			}
			if _, err := s.Read(buf); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after close: %v", err)
			}
			_ = c.Close()
		})
	}
}

// TestAbortAfterClose: what Close left to be sent stops too.
func TestAbortAfterClose(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	defer func() { _ = s.Close() }()
	a.setOutput(func(_ *Tag, p *Packet) bool { return false }) // nothing gets through any more
	if _, err := c.Write([]byte("for another identity")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if !a.Abort(c.Flow(), errors.New("broken")) {
		t.Fatal("gone already")
	}
	var mu sync.Mutex
	var payload int
	a.setOutput(func(_ *Tag, p *Packet) bool { mu.Lock(); payload += p.PayloadLen(); mu.Unlock(); return true })
	eventually(t, "forgotten", func() bool { return !a.Exists(c.Flow()) })
	<-time.After(300 * time.Millisecond) // more than one retransmission time-out
	mu.Lock()
	defer mu.Unlock()
	if payload != 0 {
		t.Errorf("%d bytes left after the abort", payload)
	}
}

// TestAbortUnaccepted: a connection in the accept queue that is killed from below is never accepted.
func TestAbortUnaccepted(t *testing.T) {
	a, b := newPair(t)
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	dead := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	eventually(t, "queued", func() bool { return b.Exists(dead.Flow().Reverse()) })
	if !b.Abort(dead.Flow().Reverse(), errors.New("broken")) {
		t.Fatal("nothing to abort")
	}
	alive := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	s := must[*TCPConn](t)(ln.AcceptTCP())
	if s.Flow() != alive.Flow().Reverse() {
		t.Errorf("accepted %v, want %v", s.Flow(), alive.Flow().Reverse())
	}
	_, _, _, _ = s.Close(), alive.Close(), dead.Close(), ln.Close()
}

// TestUnreachableSYNACK: an answer that can't be sent takes its half-open connection with it.
func TestUnreachableSYNACK(t *testing.T) {
	a, b := newPair(t)
	ln := must[*TCPListener](t)(b.ListenTCP(&Tag{}, netip.AddrPortFrom(b4, 80), 0))
	held := make(chan *Packet, 10)
	b.setOutput(func(_ *Tag, p *Packet) bool { held <- p.Hold(); return false })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _, _ = a.DialTCP(ctx, nil, netip.AddrPort{}, ln.addr); close(done) }()
	p := <-held
	if p.TCPFlags() != 0x12 || p.Tag() != ln.Tag() || !b.Exists(p.Flow()) {
		t.Errorf("flags %x", p.TCPFlags())
	}
	b.Unreachable(p, errors.New("no way back"))
	if b.Exists(p.Flow()) {
		t.Error("still half open")
	}
	p.Release()
	b.Unreachable(p, nil) // released: nothing happens
	b.Unreachable(nil, nil)
	if b.Abort(ts.MakeFlow(ts.ProtoTCP, ln.addr, netip.AddrPortFrom(a4, 9)), nil) {
		t.Error("aborted a listener")
	}
	cancel()
	<-done
	b.setOutput(nil)
	_ = ln.Close()
	for len(held) > 0 {
		(<-held).Release()
	}
}

// TestGone: OnGone fires once TIME-WAIT is over and on both sides, and the table forgets.
func TestGone(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, true)
	var wg sync.WaitGroup
	wg.Add(2)
	c.OnGone(wg.Done)
	s.OnGone(wg.Done)
	_, _ = c.Close(), s.Close()
	wg.Wait()
	if a.Exists(c.Flow()) || b.Exists(s.Flow()) || a.ownerOf(c.ep) != nil || b.ownerOf(s.ep) != nil {
		t.Error("not forgotten")
	}
}

// TestDialAfterGone: a connection is begun on a port when its last one has gone for those, too, who wait to hear of that.
func TestDialAfterGone(t *testing.T) {
	a, b := newPair(t)
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 0), 0))
	defer func() { _ = ln.Close() }()
	var told atomic.Bool
	told.Store(true)
	a.setOutput(func(_ *Tag, p *Packet) bool {
		if p.TCPFlags() == 2 && !told.Load() {
			t.Error("a SYN leaves before the port's last connection has gone")
		}
		return true
	})
	for range 20 {
		c := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPortFrom(a4, 4711), ln.addr))
		told.Store(false)
		c.OnGone(func() {
			for range 100 {
				runtime.Gosched()
			}
			told.Store(true)
		})
		c.Abort(nil)
	}
}

func TestCloseConcurrently(t *testing.T) {
	a, b := newPair(t)
	for range 20 {
		c, s := connect(t, a, b, false)
		var wg sync.WaitGroup
		var mu sync.Mutex
		nils := 0
		for range 8 {
			wg.Go(func() {
				if c.Close() == nil {
					mu.Lock()
					nils++
					mu.Unlock()
				}
			})
			wg.Go(func() { _, _ = c.Read(make([]byte, 10)) })
			wg.Go(func() { _, _ = c.Write(make([]byte, 1<<16)) })
			wg.Go(func() { c.Abort(io.ErrUnexpectedEOF) })
			wg.Go(func() { _ = c.SetDeadline(time.Now()) })
			wg.Go(func() { _ = c.CloseWrite(); _ = c.SetNoDelay(false); _ = c.SetLinger(1) })
		}
		wg.Wait()
		if nils != 1 {
			t.Fatalf("%d of 8 closes succeeded", nils)
		}
		_ = s.Close()
	}
}

// TestStackClose: everything blocked returns net.ErrClosed, and so does everything later.
func TestStackClose(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	ln := must[*TCPListener](t)(a.ListenTCP(nil, netip.AddrPort{}, 0))
	u := must[*UDPConn](t)(a.ListenUDP(nil, netip.AddrPort{}))
	a.setOutput(func(_ *Tag, p *Packet) bool { return p.TCPFlags() != 2 })
	errs := make(chan error, 5)
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := ln.Accept(); errs <- err }()
	go func() { _, _, err := u.ReadFrom(make([]byte, 1)); errs <- err }()
	go func() {
		_, err := a.DialTCP(context.Background(), nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 1))
		errs <- err
	}()
	go func() {
		_, _, err := a.Ping(context.Background(), nil, netip.MustParseAddr("10.77.0.1"))
		errs <- err
	}()
	var gone sync.WaitGroup
	gone.Add(1)
	c.OnGone(gone.Done)
	eventually(t, "all are waiting", func() bool {
		n := 0
		a.owners.Range(func(_, _ any) bool { n++; return true })
		return n == 5
	})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	gone.Wait()
	for range 5 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if _, err := a.DialTCP(t.Context(), nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if _, err := a.ListenTCP(nil, netip.AddrPort{}, 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen: %v", err)
	}
	if _, err := a.ListenUDP(nil, netip.AddrPort{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer sees %v", err)
	}
	a.Deliver(nil, make([]byte, 40)) // no more than a counter
	for _, conn := range []io.Closer{c, ln, u, s} {
		_ = conn.Close()
	}
}

func TestKeepAliveAndOptions(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	probes := make(chan struct{}, 100)
	a.setOutput(func(_ *Tag, p *Packet) bool { probes <- struct{}{}; return true })
	for _, err := range []error{c.SetNoDelay(false), c.SetNoDelay(true), c.SetLinger(-1), c.SetKeepAlive(false),
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: -1, Count: 3})} {
		if err != nil {
			t.Error(err)
		}
	}
	select {
	case <-probes:
	case <-time.After(patience):
		t.Error("no keep-alive probe")
	}
	if err := s.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // linger 0: a reset
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %v", err)
	}
	_ = c.Close()
	if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SetDeadline after close: %v", err)
	}
}

// TestHalfClose: after CloseWrite the other direction lives; after CloseRead reads end.
func TestHalfClose(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	if _, err := s.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "back" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	if err := c.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf); !errors.Is(err, io.EOF) {
		t.Errorf("read after CloseRead: %v", err)
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("empty read: %d %v", n, err)
	}
	_, _ = c.Close(), s.Close()
}
