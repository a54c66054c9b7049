package netstack

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestUDPSizes: every size that IPv4 can carry passes whole, in both families, and reaches Output in one piece.
func TestUDPSizes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			a, b := newPair(t)
			var mu sync.Mutex
			var size int
			a.setOutput(func(_ *Tag, p *Packet) bool {
				mu.Lock()
				defer mu.Unlock()
				ip, th := p.HeaderLens()
				size = p.PayloadLen()
				if th != 8 || p.MSS() != 0 || !p.NeedsCsum() || p.Size() != ip+th+size {
					t.Errorf("headers %d+%d, MSS %d, size %d", ip, th, p.MSS(), p.Size())
				}
				if h := p.Header(); !v6 && h[6]&0x40 != 0 {
					t.Error("DF is set: nobody could fragment it")
				} else if !v6 && h[4] == 0 && h[5] == 0 {
					t.Error("no identification: its fragments could not be told from others'")
				}
				return true
			})
			dst := b4
			if v6 {
				dst = b6
			}
			srv := must[*UDPConn](t)(b.ListenUDP(nil, netip.AddrPortFrom(dst, 53)))
			c := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(dst, 53)))
			buf := make([]byte, 1<<16)
			for _, n := range []int{0, 1, 1232, 1472, 1473, 9000, 65486, 65487, 65488, 65506, 65507} {
				data := bytes.Repeat([]byte{byte(n), byte(n >> 8), 3}, n/3+1)[:n]
				if k, err := c.Write(data); k != n || err != nil {
					t.Fatalf("write %d: %d, %v", n, k, err)
				}
				k, from, to, tag, err := srv.ReadMsg(buf)
				if err != nil || !bytes.Equal(buf[:k], data) || from != c.d.local || to != dst || tag != b.tag {
					t.Fatalf("read %d of %d from %v to %v tag %v: %v", k, n, from, to, tag, err)
				}
				mu.Lock()
				if size != n {
					t.Errorf("Output saw %d bytes of %d", size, n)
				}
				mu.Unlock()
				if _, err := srv.WriteMsg(buf[:k], from, nil); err != nil {
					t.Fatal(err)
				}
				if k, err := c.Read(buf); k != n || err != nil || !bytes.Equal(buf[:k], data) {
					t.Fatalf("back: %d of %d, %v", k, n, err)
				}
			}
			if _, err := c.Write(make([]byte, 65508)); !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("65508 bytes: %v", err)
			}
			if _, err := c.Write([]byte("cut short")); err != nil {
				t.Fatal(err)
			}
			if k, _, err := srv.ReadFrom(buf[:3]); k != 3 || err != nil || string(buf[:3]) != "cut" {
				t.Errorf("short read: %d %v", k, err)
			}
			_, _ = c.Close(), srv.Close()
		})
	}
}

// TestADV_L20_DatagramTags: each datagram read comes with the tag of that very datagram, and each written with its own.
func TestADV_L20_DatagramTags(t *testing.T) {
	a, b := newPair(t)
	socketTag, other := &Tag{V: "socket"}, &Tag{V: "this one only"}
	var mu sync.Mutex
	var sent []*Tag
	a.setOutput(func(tag *Tag, p *Packet) bool { mu.Lock(); sent = append(sent, tag); mu.Unlock(); return true })
	srv := must[*UDPConn](t)(b.ListenUDP(nil, netip.AddrPortFrom(b4, 53)))
	c := must[*UDPConn](t)(a.ListenUDP(socketTag, netip.AddrPort{}))
	in := []*Tag{{V: "SA 1"}, {V: "SA 2"}, nil, {V: "SA 3"}}
	for i, tag := range in {
		b.setTag(tag)
		per := socketTag
		if i%2 == 1 {
			per = other
		}
		if _, err := c.WriteMsg([]byte{byte(i)}, netip.AddrPortFrom(b4, 53), map[bool]*Tag{true: other}[i%2 == 1]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it arrived", func() bool { srv.d.qmu.Lock(); defer srv.d.qmu.Unlock(); return len(srv.d.queue) == i+1 })
		mu.Lock()
		if sent[i] != per {
			t.Errorf("datagram %d left under %v, want %v", i, sent[i], per)
		}
		mu.Unlock()
	}
	b.setTag(&Tag{V: "later"})
	for i, want := range in {
		buf := make([]byte, 10)
		n, _, _, got, err := srv.ReadMsg(buf)
		if err != nil || n != 1 || buf[0] != byte(i) || got != want {
			t.Errorf("datagram %d (%d) came under %v, want %v: %v", i, buf[0], got, want, err)
		}
	}
	c.SetTag(other)
	if c.Tag() != other {
		t.Error("SetTag")
	}
	_, _ = c.Close(), srv.Close()
}

// TestUDPErrors: what the packet's fate is, its sender is told.
func TestUDPErrors(t *testing.T) {
	a, _ := newPair(t)
	denied := errors.New("no policy")
	c := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 9)))
	u := must[*UDPConn](t)(a.ListenUDP(nil, netip.AddrPort{}))
	buf := make([]byte, 10)

	// Nobody listens: an ICMP error, seen by the connected socket.
	if _, err := c.Write(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read: %v", err)
	}

	// Refused in the hook: this very call.
	a.setOutput(func(_ *Tag, p *Packet) bool { p.Refuse(denied); return false })
	if _, err := c.Write(buf); !errors.Is(err, denied) {
		t.Errorf("write: %v", err)
	}
	if _, err := u.WriteMsg(buf, netip.AddrPortFrom(b4, 9), nil); !errors.Is(err, denied) {
		t.Errorf("write: %v", err)
	}

	// Refused later: the next call; on an unconnected socket only a write to the same place.
	var mu sync.Mutex
	var held []*Packet
	a.setOutput(func(_ *Tag, p *Packet) bool { mu.Lock(); held = append(held, p.Hold()); mu.Unlock(); return false })
	for _, err := range []error{
		second(c.Write(buf)), second(u.WriteMsg(buf, netip.AddrPortFrom(b4, 9), nil)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan error)
	go func() { _, err := c.Read(buf); read <- err }()
	mu.Lock()
	for _, p := range held {
		a.Unreachable(p, denied)
		p.Release()
	}
	mu.Unlock()
	if err := <-read; !errors.Is(err, denied) {
		t.Errorf("blocked read: %v", err)
	}
	a.setOutput(func(*Tag, *Packet) bool { return false })
	if _, err := u.WriteMsg(buf, netip.AddrPortFrom(b4, 10), nil); err != nil {
		t.Errorf("write elsewhere: %v", err)
	}
	if _, err := u.WriteMsg(buf, netip.AddrPortFrom(b4, 9), nil); !errors.Is(err, denied) {
		t.Errorf("write there: %v", err)
	}
	if _, err := u.WriteMsg(buf, netip.AddrPortFrom(b4, 9), nil); err != nil {
		t.Errorf("write there again: %v", err)
	}

	// Misuse.
	if _, err := u.Write(buf); !errors.Is(err, syscall.EDESTADDRREQ) {
		t.Errorf("write without a destination: %v", err)
	}
	if _, err := c.WriteTo(buf, net.UDPAddrFromAddrPort(netip.AddrPortFrom(b4, 9))); !errors.Is(err, net.ErrWriteToConnected) {
		t.Errorf("WriteTo on a connected socket: %v", err)
	}
	if _, err := u.WriteTo(buf, &net.TCPAddr{}); err == nil {
		t.Error("WriteTo a TCP address")
	}
	if _, err := a.ListenUDP(nil, u.d.local); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("same port twice: %v", err)
	}

	// Ends.
	why := errors.New("latch broken")
	c.Abort(why)
	if _, err := c.Write(buf); !errors.Is(err, why) {
		t.Errorf("write after abort: %v", err)
	}
	if a.Exists(c.Flow()) {
		t.Error("exists after abort")
	}
	for _, conn := range []*UDPConn{c, u} {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := conn.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if err := conn.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SetDeadline after close: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestUDPDeadlines(t *testing.T) {
	a, _ := newPair(t)
	c := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 9)))
	defer func() { _ = c.Close() }()
	buf := make([]byte, 1000)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := c.Read(buf)
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan error)
	go func() { _, err := c.Read(buf); done <- err }()
	_ = c.SetReadDeadline(time.Unix(1, 0))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	// Writes block when held packets fill the send buffer.
	var mu sync.Mutex
	var held []*Packet
	a.setOutput(func(_ *Tag, p *Packet) bool { mu.Lock(); held = append(held, p.Hold()); mu.Unlock(); return false })
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n := 0
	for ; err == nil || n == 0; n++ {
		if _, err = c.Write(buf); n > 10000 {
			t.Fatal("held packets are not charged")
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	go func() { _, err := c.Write(buf); done <- err }()
	mu.Lock()
	for _, p := range held {
		p.Release()
	}
	held = nil
	mu.Unlock()
	if err := <-done; err != nil {
		t.Errorf("write after release: %v", err)
	}
	mu.Lock()
	for _, p := range held {
		p.Release()
	}
	mu.Unlock()
}

// TestUDPQueueBounded: a flood fills the queue and no more, empty datagrams included.
func TestUDPQueueBounded(t *testing.T) {
	a, b := newPair(t, func(_, b *Config) { b.UDPReceiveBuffer = 10 * (datagramOverhead + 100) })
	srv := must[*UDPConn](t)(b.ListenUDP(nil, netip.AddrPortFrom(b4, 53)))
	c := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 53)))
	for _, size := range []int{100, 0} {
		want := 10 * (datagramOverhead + 100) / (datagramOverhead + size)
		before := b.Stats().Drops[DropQueueFull]
		for range 50 {
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the rest is dropped", func() bool { return b.Stats().Drops[DropQueueFull]-before == uint64(50-want) })
		buf := make([]byte, 200)
		for range want {
			if n, err := srv.Read(buf); n != size || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	_, _ = c.Close(), srv.Close()
}

// TestUDPDualStack: a socket on [::] serves both families.
func TestUDPDualStack(t *testing.T) {
	a, b := newPair(t)
	srv := must[*UDPConn](t)(b.ListenUDP(nil, netip.MustParseAddrPort("[::]:53")))
	buf := make([]byte, 10)
	for _, dst := range []netip.Addr{b4, b6} {
		c := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(dst, 53)))
		if _, err := c.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		n, from, to, _, err := srv.ReadMsg(buf)
		if err != nil || n != 2 || from != c.d.local || to != dst {
			t.Fatalf("%v to %v: %v", from, to, err)
		}
		if _, err := srv.WriteToUDPAddrPort(buf[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); n != 2 || err != nil {
			t.Fatal(err)
		}
		if !a.Exists(c.Flow()) || b.Exists(c.Flow().Reverse()) {
			t.Error("Exists is wrong")
		}
		_ = c.Close()
	}
	v4 := must[*UDPConn](t)(b.ListenUDP(nil, netip.MustParseAddrPort("0.0.0.0:0")))
	if _, err := v4.WriteMsg(buf, netip.AddrPortFrom(a6, 1), nil); !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("IPv6 from an IPv4 socket: %v", err)
	}
	_, _ = srv.Close(), v4.Close()
}

// TestConnMemory: what an idle connection and a UDP socket cost, both ends' gVisor state included.
func TestConnMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("sizes differ under the race detector")
	}
	a, b := newPair(t)
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 1000
	conns := make([]interface{ Close() error }, 0, 2*n)
	g := runtime.NumGoroutine()
	before := heap()
	for range n {
		conns = append(conns, must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr)))
		conns = append(conns, must[*TCPConn](t)(ln.AcceptTCP()))
	}
	per := (heap() - before) / (2 * n)
	t.Logf("%d bytes per idle TCP connection", per)
	if per > 10<<10 {
		t.Errorf("an idle TCP connection takes %d bytes", per)
	}
	if d := runtime.NumGoroutine() - g; d > 10 {
		t.Errorf("%d more goroutines", d)
	}
	before = heap()
	for range n {
		conns = append(conns, must[*UDPConn](t)(a.ListenUDP(nil, netip.AddrPort{})))
	}
	per = (heap() - before) / n
	t.Logf("%d bytes per UDP socket", per)
	if per > 8<<10 {
		t.Errorf("a UDP socket takes %d bytes", per)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	_ = ln.Close()
}
