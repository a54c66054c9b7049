package netstack

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/btns-go/btns/esp/ts"
)

// TestHookGuard: gVisor calls the hook for every protocol of both families, with the endpoint it chose. When this fails, an
// update of gVisor has cut the way by which protection is enforced.
func TestHookGuard(t *testing.T) {
	a, b := newPair(t)
	type key struct {
		proto      uint8
		v6, socket bool
	}
	seen := map[key]int{}
	var mu sync.Mutex
	want := &Tag{V: "the socket's"}
	b.setAdmit(func(in Inbound) bool {
		mu.Lock()
		defer mu.Unlock()
		seen[key{in.Proto, in.Flow.IsV6(), in.Socket != nil}]++
		if in.Socket != nil && in.Socket != want {
			t.Errorf("wrong socket: %+v", in)
		}
		if in.Packet != b.tag {
			t.Errorf("wrong packet tag: %+v", in)
		}
		return true
	})
	for _, dst := range []netip.Addr{b4, b6} {
		ln := must[*TCPListener](t)(b.ListenTCP(want, netip.AddrPortFrom(dst, 80), 0))
		us := must[*UDPConn](t)(b.ListenUDP(want, netip.AddrPortFrom(dst, 53)))
		c := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
		u := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, us.d.local))
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := us.ReadFrom(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Ping(t.Context(), nil, dst); err != nil {
			t.Fatal(err)
		}
		src := a.Addrs()[0]
		if dst.Is6() {
			src = a.Addrs()[1]
		}
		if _, _, err := b.Ping(t.Context(), want, src); err != nil {
			t.Fatal(err)
		}
		_, _ = a.DialTCP(t.Context(), nil, netip.AddrPort{}, netip.AddrPortFrom(dst, 81))
		_, _, _, _ = c.Close(), ln.Close(), u.Close(), us.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, v6 := range []bool{false, true} {
		icmp := uint8(ts.ProtoICMP)
		if v6 {
			icmp = ts.ProtoICMPv6
		}
		for _, k := range []key{{ts.ProtoTCP, v6, true}, {ts.ProtoTCP, v6, false}, {ts.ProtoUDP, v6, true}, {icmp, v6, true}, {icmp, v6, false}} {
			if seen[k] == 0 {
				t.Errorf("the hook was not called for %+v", k)
			}
		}
	}
}

// TestHookBypassed: New would notice.
func TestHookBypassed(t *testing.T) {
	s := mustNew(t, Config{})
	defer func() { _ = s.Close() }()
	if err := s.probeHooks(); err != nil {
		t.Fatal(err)
	}
	// Packets that come past the hook, here because nothing listens, are not counted.
	p := new(probe)
	s.probe.Store(p)
	defer s.probe.Store(nil)
	if err := s.AddAddr(netip.PrefixFrom(a4, 32)); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []tcpip.TransportProtocolNumber{tcp.ProtocolNumber, udp.ProtocolNumber} {
		s.inject(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(probePacket(proto, a4, b4))}))
	}
	if p.tcp.Load() != 0 || p.udp.Load() != 0 {
		t.Error("the probe counts what does not come through the hook")
	}
}

// TestNoHooks: without hooks nothing goes out and nothing comes in.
func TestNoHooks(t *testing.T) {
	s := mustNew(t, Config{Addrs: []netip.Prefix{netip.PrefixFrom(a4, 24)}})
	defer func() { _ = s.Close() }()
	u := must[*UDPConn](t)(s.ListenUDP(nil, netip.AddrPortFrom(a4, 53)))
	s.Deliver(nil, udpPacket(netip.AddrPortFrom(b4, 1), u.d.local, nil))
	if _, err := u.WriteMsg([]byte("x"), netip.AddrPortFrom(b4, 1), nil); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Drops[DropAdmit] != 1 || st.Drops[DropNoHook] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestOrderAndListenerTag: which tag which packet of a connection's life carries, and when the hooks see what.
func TestOrderAndListenerTag(t *testing.T) {
	a, b := newPair(t)
	client, listener, child := &Tag{V: "client"}, &Tag{V: "listener"}, &Tag{V: "child"}
	var mu sync.Mutex
	var sentA, sentB []*Tag
	var inB []Inbound
	a.setOutput(func(tag *Tag, p *Packet) bool { mu.Lock(); defer mu.Unlock(); sentA = append(sentA, tag); return true })
	b.setOutput(func(tag *Tag, p *Packet) bool {
		mu.Lock()
		defer mu.Unlock()
		if p.Unowned() || p.Tag() != tag {
			t.Errorf("unowned %v %x", p.Flow(), p.TCPFlags())
		}
		sentB = append(sentB, tag)
		return true
	})
	b.setAdmit(func(in Inbound) bool { mu.Lock(); defer mu.Unlock(); inB = append(inB, in); return true })
	ln := must[*TCPListener](t)(b.ListenTCP(listener, netip.AddrPortFrom(b4, 80), 0))
	c := must[*TCPConn](t)(a.DialTCP(t.Context(), client, netip.AddrPort{}, ln.addr))
	if _, err := c.Write([]byte("before Accept")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	eventually(t, "the data are acknowledged", func() bool { mu.Lock(); defer mu.Unlock(); return len(sentB) >= 2 })
	s := must[*TCPConn](t)(ln.AcceptTCP())
	if s.Tag() != listener {
		t.Errorf("the child is born with %v", s.Tag())
	}
	s.SetTag(child)
	mu.Lock()
	born := len(sentB)
	mu.Unlock()
	if _, err := s.Read(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("after")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Close(), c.Close()
	eventually(t, "both closed", func() bool { return !b.Exists(s.Flow()) })
	mu.Lock()
	defer mu.Unlock()
	for i, tag := range sentA {
		if tag != client {
			t.Errorf("packet %d of the client carries %v", i, tag)
		}
	}
	for i, tag := range sentB {
		want := listener
		if i >= born {
			want = child
		}
		if tag != want {
			t.Errorf("packet %d of the server carries %v, want %v", i, tag, want)
		}
	}
	syn := inB[0]
	if !syn.SYN || !syn.Listener || syn.Socket != listener || syn.Flow != c.Flow() || syn.Proto != ts.ProtoTCP || syn.ICMPError || syn.Loopback {
		t.Errorf("first packet: %+v", syn)
	}
	for i, in := range inB[1:] {
		if in.SYN || in.Listener || in.Flow != c.Flow() || (in.Socket != listener && in.Socket != child) {
			t.Errorf("packet %d: %+v", i+1, in)
		}
	}
	_ = ln.Close()
}

// TestADV_L1_L8_OtherTag: exact in-window data, FIN, RST, SYN and ICMP errors for a live connection, under another tag: none
// reaches TCP. Each is sent again under the right one and does.
func TestADV_L1_L8_OtherTag(t *testing.T) {
	a, b := newPair(t)
	right := b.tag
	b.setAdmit(func(in Inbound) bool { return in.Packet == right })
	evil := &Tag{V: "mallory, well authenticated"}
	for _, tc := range []struct {
		name   string
		forge  func(c *TCPConn, seq, ack uint32) []byte
		effect func(t *testing.T, s *TCPConn)
	}{
		{"data", func(c *TCPConn, seq, ack uint32) []byte {
			return tcpPacket(c.local, c.remote, seq, ack, 0x18, []byte("evil"))
		}, func(t *testing.T, s *TCPConn) {
			buf := make([]byte, 10)
			if n, err := s.Read(buf); err != nil || string(buf[:n]) != "evil" {
				t.Errorf("%q %v", buf[:n], err)
			}
		}},
		{"fin", func(c *TCPConn, seq, ack uint32) []byte {
			return tcpPacket(c.local, c.remote, seq, ack, 0x11, nil)
		}, func(t *testing.T, s *TCPConn) {
			if _, err := s.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
		}},
		{"rst", func(c *TCPConn, seq, ack uint32) []byte {
			return tcpPacket(c.local, c.remote, seq, ack, 0x04, nil)
		}, func(t *testing.T, s *TCPConn) {
			if _, err := s.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%v", err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var mu sync.Mutex
			var seq, ack uint32
			a.setOutput(func(_ *Tag, p *Packet) bool {
				h := p.Header()
				ip, _ := p.HeaderLens()
				mu.Lock()
				seq, ack = binary.BigEndian.Uint32(h[ip+4:])+uint32(p.PayloadLen()), binary.BigEndian.Uint32(h[ip+8:])
				mu.Unlock()
				return true
			})
			c, s := connect(t, a, b, false)
			a.setOutput(nil)
			mu.Lock()
			pkt := tc.forge(c, seq, ack)
			mu.Unlock()
			before := b.Stats().Drops[DropAdmit]
			b.Deliver(evil, pkt)
			b.Deliver(nil, pkt)
			if d := b.Stats().Drops[DropAdmit] - before; d != 2 {
				t.Errorf("%d of 2 dropped", d)
			}
			if _, err := s.Write([]byte("still fine")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if n, err := c.Read(buf); n != 10 || err != nil {
				t.Fatalf("%d %v", n, err)
			}
			_ = s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := s.Read(buf); n != 0 || !isTimeout(err) {
				t.Fatalf("something reached TCP: %d bytes, %v", n, err)
			}
			_ = s.SetReadDeadline(time.Now().Add(patience))
			b.Deliver(right, pkt)
			tc.effect(t, s)
			c.Abort(nil)
			s.Abort(nil)
			_, _ = c.Close(), s.Close()
		})
	}
}

func isTimeout(err error) bool {
	var to interface{ Timeout() bool }
	return errors.As(err, &to) && to.Timeout()
}

// TestADV_L10_HandshakeOfTwo: SYN under one tag, ACK under another: never accepted.
func TestADV_L10_HandshakeOfTwo(t *testing.T) {
	a, b := newPair(t)
	one := b.tag
	b.setAdmit(func(in Inbound) bool { return in.SYN || in.Packet == one })
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	a.setOutput(func(_ *Tag, p *Packet) bool {
		if p.TCPFlags() != 2 {
			b.setTag(&Tag{V: "two"})
		}
		return true
	})
	c := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	_ = ln.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if s, err := ln.Accept(); err == nil {
		t.Errorf("accepted %v", s)
	}
	c.Abort(nil)
	_, _ = c.Close(), ln.Close()
}

// TestADV_L12_UnwantedSYNs: what Admit refuses takes no slot and no memory.
func TestADV_L12_UnwantedSYNs(t *testing.T) {
	_, b := newPair(t)
	b.setAdmit(func(in Inbound) bool { return false })
	b.setOutput(func(_ *Tag, p *Packet) bool { t.Error("answered"); return false })
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(b4, 80), 0))
	syn := tcpPacket(netip.AddrPortFrom(a4, 1), ln.addr, 1, 0, 2, nil)
	for i := range 10000 {
		binary.BigEndian.PutUint16(syn[20:], uint16(i))
		b.Deliver(b.tag, syn)
	}
	if n := b.Stats().Drops[DropAdmit]; n != 10000 {
		t.Errorf("%d dropped", n)
	}
	if st := b.gv.Stats().TCP; st.ListenOverflowSynDrop.Value() != 0 || st.ValidSegmentsReceived.Value() != 0 {
		t.Error("TCP saw them")
	}
	_ = ln.Close()
}

// TestUnowned: what no socket sends says so, and under which tag its provocation came.
func TestUnowned(t *testing.T) {
	for _, tc := range []struct{ a, b netip.Addr }{{a4, b4}, {a6, b6}} {
		_, b := newPair(t)
		var mu sync.Mutex
		type got struct {
			unowned  bool
			provoker *Tag
			held     *Tag
			proto    uint8
		}
		var out []got
		b.setOutput(func(tag *Tag, p *Packet) bool {
			h := p.Hold()
			mu.Lock()
			out = append(out, got{p.Unowned() && tag == nil, p.Provoker(), h.Provoker(), p.Proto()})
			mu.Unlock()
			h.Release()
			return false
		})
		echo, icmp := uint8(8), uint8(ts.ProtoICMP)
		if tc.a.Is6() {
			echo, icmp = 128, ts.ProtoICMPv6
		}
		ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(tc.b, 80), 0))
		for _, p := range []struct {
			name  string
			pkt   []byte
			proto uint8
		}{
			{"echo", icmpPacket(tc.a, tc.b, echo, 0, 7<<16|1, []byte("ping")), icmp},
			{"closed UDP port", udpPacket(netip.AddrPortFrom(tc.a, 9), netip.AddrPortFrom(tc.b, 9), []byte("x")), icmp},
			{"closed TCP port", tcpPacket(netip.AddrPortFrom(tc.a, 9), netip.AddrPortFrom(tc.b, 9), 1, 0, 2, nil), ts.ProtoTCP},
			{"listener, stray ACK", tcpPacket(netip.AddrPortFrom(tc.a, 9), ln.addr, 1, 77, 0x10, nil), ts.ProtoTCP},
		} {
			mu.Lock()
			out = nil
			mu.Unlock()
			tag := &Tag{V: p.name}
			b.Deliver(tag, p.pkt)
			eventually(t, p.name+" is answered", func() bool { mu.Lock(); defer mu.Unlock(); return len(out) == 1 })
			mu.Lock()
			if o := out[0]; !o.unowned || o.provoker != tag || o.held != tag || o.proto != p.proto {
				t.Errorf("%s (v6 %v): %+v", p.name, tc.a.Is6(), o)
			}
			mu.Unlock()
		}
		_ = ln.Close()
	}
}

// TestSYNCookieTag: with the backlog full gVisor answers with cookies; those and the connection made from one still speak in
// the listener's name.
func TestSYNCookieTag(t *testing.T) {
	a, b := newPair(t)
	v := tcpip.TCPAlwaysUseSynCookies(true)
	if err := b.gv.SetTransportProtocolOption(tcp.ProtocolNumber, &v); err != nil {
		t.Fatal(err)
	}
	tag := &Tag{V: "listener"}
	var closing atomic.Bool // what comes after the socket is gone is nobody's
	b.setOutput(func(got *Tag, p *Packet) bool {
		if (got != tag || p.Unowned()) && !closing.Load() {
			t.Errorf("%x carries %v, unowned %v", p.TCPFlags(), got, p.Unowned())
		}
		return true
	})
	b.setAdmit(func(in Inbound) bool {
		if in.Socket != tag && !(closing.Load() && in.Socket == nil) {
			t.Errorf("%+v", in)
		}
		return true
	})
	ln := must[*TCPListener](t)(b.ListenTCP(tag, netip.AddrPortFrom(b4, 80), 0))
	c := must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	if _, err := c.Write([]byte("before Accept")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "acknowledged", func() bool { return b.Stats().Output >= 2 })
	s := must[*TCPConn](t)(ln.AcceptTCP())
	if n, err := s.Read(make([]byte, 100)); n != 13 || err != nil {
		t.Error(n, err)
	}
	closing.Store(true)
	_, _ = c.Close(), s.Close()
	eventually(t, "closed", func() bool { return !b.Exists(s.Flow()) })
	_ = ln.Close()
}

// TestNothingUnsolicited: a stack that is left alone says nothing, also when addresses and sockets come and go.
func TestNothingUnsolicited(t *testing.T) {
	a, b := newPair(t)
	silent := func(_ *Tag, p *Packet) bool { t.Errorf("said %v", p.Flow()); return false }
	a.setOutput(silent)
	b.setOutput(silent)
	for _, p := range []string{"fe80::1/64", "2001:db8::1/64", "10.9.0.77/16"} {
		if err := a.AddAddr(netip.MustParsePrefix(p)); err != nil {
			t.Fatal(err)
		}
	}
	ln := must[*TCPListener](t)(a.ListenTCP(nil, netip.AddrPort{}, 0))
	u := must[*UDPConn](t)(a.ListenUDP(nil, netip.AddrPort{}))
	d := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, netip.AddrPortFrom(b6, 53)))
	<-time.After(1200 * time.Millisecond) // longer than the first retransmission of a solicitation (RFC 4861, Section 10)
	_, _, _ = ln.Close(), u.Close(), d.Close()
	for _, h := range []*host{a, b} {
		if st := h.Stats(); st.Drops[DropUnsolicited] != 0 || st.Output != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// TestHookPanic: a panic in a hook costs one packet; the stack's locks stay sound.
func TestHookPanic(t *testing.T) {
	a, b := newPair(t)
	c, s := connect(t, a, b, false)
	var once sync.Once
	a.setOutput(func(_ *Tag, p *Packet) bool { once.Do(func() { panic("boom") }); return true })
	b.setAdmit(func(in Inbound) bool { panic("boom") })
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a panic in Admit", func() bool { return b.Stats().Panics > 0 })
	b.setAdmit(nil)
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
	if p := a.Stats().Panics; p != 1 {
		t.Errorf("%d panics counted", p)
	}
	_, _ = c.Close(), s.Close()
	a.counters.panics.Store(0)
	b.counters.panics.Store(0)
}

// TestBroken: after a panic through gVisor every call returns, with ErrBroken, and touches gVisor no more.
func TestBroken(t *testing.T) {
	s := mustNew(t, Config{Addrs: []netip.Prefix{netip.PrefixFrom(a4, 24)}})
	u := must[*UDPConn](t)(s.ListenUDP(nil, netip.AddrPort{}))
	read := make(chan error)
	go func() { _, err := u.Read(nil); read <- err }()
	s.inject(nil) // as good a panic as any
	if err := <-read; !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	if s.Stats().Panics != 1 {
		t.Error("not counted")
	}
	if _, err := s.ListenUDP(nil, netip.AddrPort{}); err == nil {
		t.Error("a socket of a broken stack")
	}
	s.Deliver(nil, make([]byte, 40))
	if _, err := u.WriteMsg(nil, netip.AddrPortFrom(b4, 1), nil); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	_, _ = u.Close(), s.Close()
	s.gv.Destroy() // what Close can't risk; for the leak check
}

// TestROW_90_InWindowReset: only a reset at exactly the expected number closes (RFC 5961, Section 3.2).
func TestROW_90_InWindowReset(t *testing.T) {
	a, b := newPair(t)
	var mu sync.Mutex
	var seq uint32
	var challenges int
	a.setOutput(func(_ *Tag, p *Packet) bool {
		h := p.Header()
		ip, _ := p.HeaderLens()
		mu.Lock()
		seq = binary.BigEndian.Uint32(h[ip+4:]) + uint32(p.PayloadLen())
		mu.Unlock()
		return true
	})
	c, s := connect(t, a, b, false)
	a.setOutput(nil)
	b.setOutput(func(_ *Tag, p *Packet) bool { mu.Lock(); challenges++; mu.Unlock(); return true })
	for _, off := range []uint32{1, 2, 3, 100, 1000, 1359, 1360, 10000, 32767, 60000, 65535, 100000, 262143, 1 << 20} {
		b.Deliver(b.tag, tcpPacket(c.local, c.remote, seq+off, 0, 4, nil))
	}
	_ = s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := s.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatalf("an inexact reset closed the connection: %v", err)
	}
	_ = s.SetReadDeadline(time.Time{})
	b.Deliver(b.tag, tcpPacket(c.local, c.remote, seq, 0, 4, nil))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the exact one: %v", err)
	}
	c.Abort(nil)
	_, _ = c.Close(), s.Close()
}

// TestCVE_2024_10026_CVE_2024_10603_Entropy: ports, initial sequence numbers and IPv4 identifications don't follow from one another.
func TestCVE_2024_10026_CVE_2024_10603_Entropy(t *testing.T) {
	a, _ := newPair(t)
	var mu sync.Mutex
	var ports, isns, ids []uint32
	a.setOutput(func(_ *Tag, p *Packet) bool {
		h := p.Header()
		ip, _ := p.HeaderLens()
		mu.Lock()
		defer mu.Unlock()
		switch {
		case p.TCPFlags() == 2:
			ports = append(ports, uint32(p.Flow().SrcPort()))
			isns = append(isns, binary.BigEndian.Uint32(h[ip+4:]))
			p.Refuse(io.ErrNoProgress)
		case p.Proto() == ts.ProtoUDP:
			ids = append(ids, uint32(binary.BigEndian.Uint16(h[4:])))
		}
		return false
	})
	const n = 400
	for range n {
		_, _ = a.DialTCP(t.Context(), nil, netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
	}
	u := must[*UDPConn](t)(a.ListenUDP(nil, netip.AddrPort{}))
	for range n {
		if _, err := u.WriteMsg([]byte("x"), netip.AddrPortFrom(b4, 9), nil); err != nil {
			t.Fatal(err)
		}
	}
	_ = u.Close()
	mu.Lock()
	defer mu.Unlock()
	for name, v := range map[string][]uint32{"ports": ports, "isns": isns, "ids": ids} {
		if len(v) < n/2 {
			t.Fatalf("%d %s", len(v), name)
		}
		distinct := slices.Compact(slices.Sorted(slices.Values(v)))
		if len(distinct) < len(v)*95/100 {
			t.Errorf("%s: %d distinct of %d", name, len(distinct), len(v))
		}
		// Steps between neighbours must not repeat: no counter, no linear generator.
		steps := map[uint32]int{}
		most := 0
		for i := 1; i < len(v); i++ {
			d := v[i] - v[i-1]
			steps[d]++
			most = max(most, steps[d])
		}
		if most > 4 {
			t.Errorf("%s: one step occurs %d times", name, most)
		}
		// Every top bit is set about half the time.
		bits := map[string]int{"ports": 14, "isns": 32, "ids": 16}[name]
		base := uint32(0)
		if name == "ports" {
			base = 16384 // gVisor's range starts there, not at a power of two
		}
		for bit := bits - 3; bit < bits; bit++ {
			ones := 0
			for _, x := range v {
				ones += int((x - base) >> bit & 1)
			}
			if name != "ports" && (ones < len(v)/3 || ones > len(v)*2/3) {
				t.Errorf("%s: bit %d is set %d times of %d", name, bit, ones, len(v))
			}
		}
	}
}
