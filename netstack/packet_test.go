package netstack

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

// TestPacketAccess: header, payload cursor, holding; over TCP super-packets and datagrams of both families.
func TestPacketAccess(t *testing.T) {
	a, b := newPair(t)
	var mu sync.Mutex
	var supers, flows int
	var held []*Packet
	check := func(p *Packet) {
		h := p.Header()
		ip, th := p.HeaderLens()
		if len(h) != ip+th || p.Size() != len(h)+p.PayloadLen() {
			t.Errorf("%d+%d of %d, size %d", ip, th, len(h), p.Size())
		}
		whole := make([]byte, p.Size())
		copy(whole, h)
		if n := p.CopyPayload(whole[len(h):]); n != p.PayloadLen() {
			t.Errorf("copied %d of %d", n, p.PayloadLen())
		}
		if n := p.CopyPayload(make([]byte, 10)); n != 0 {
			t.Errorf("%d bytes behind the end", n)
		}
		// The same in odd pieces, after Rewind, with a look at the first bytes in between.
		p.Rewind()
		rng := rand.New(rand.NewPCG(1, uint64(p.Size())))
		piece := make([]byte, 3000)
		for off := len(h); off < len(whole); {
			n := p.CopyPayload(piece[:1+rng.IntN(len(piece)-1)])
			if !bytes.Equal(whole[off:off+n], piece[:n]) {
				t.Fatal("pieces differ from the whole")
			}
			off += n
			_ = p.Flow()
		}
		p.Rewind()
		f, info, ok := ts.ParseFlow(whole)
		if !ok || f != p.Flow() || info.HeaderLen != ip || info.Proto != p.Proto() {
			t.Errorf("%v %v, parsed %v", ok, p.Flow(), f)
		}
		flows++
		if m := p.MSS(); m > 0 {
			supers++
			if m >= p.PayloadLen() || m > 1400 {
				t.Errorf("MSS %d of %d", m, p.PayloadLen())
			}
		}
	}
	hook := func(_ *Tag, p *Packet) bool {
		mu.Lock()
		defer mu.Unlock()
		check(p)
		k := p.Hold()
		check(k)
		if len(held) < 20 {
			held = append(held, k)
		} else {
			k.Release()
			k.Release() // harmless on the zeroed object
		}
		p.Release() // does nothing: it is only lent
		return true
	}
	a.setOutput(hook)
	for _, v6 := range []bool{false, true} {
		c, s := connect(t, a, b, v6)
		go func() { _, _ = c.Write(bytes.Repeat([]byte("0123456789"), 50000)); _ = c.CloseWrite() }()
		buf := make([]byte, 100000)
		for {
			if _, err := s.Read(buf); err != nil {
				break
			}
		}
		_, _ = s.Close(), c.Close()
		u := must[*UDPConn](t)(a.DialUDP(nil, netip.AddrPort{}, s.local))
		_, _ = u.Write(make([]byte, 60000))
		_ = u.Close()
		if _, _, err := a.Ping(t.Context(), nil, s.local.Addr()); err != nil {
			t.Error(err)
		}
	}
	a.setOutput(nil)
	mu.Lock()
	defer mu.Unlock()
	for _, p := range held { // long after their connections are gone
		check(p)
		p.Release()
	}
	if supers == 0 || flows == 0 {
		t.Errorf("%d super-packets, %d packets", supers, flows)
	}
}

// TestOutputAllocs: what this package adds to a packet on its way out is free of allocations, held or not.
func TestOutputAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := mustNew(t, Config{Addrs: []netip.Prefix{netip.PrefixFrom(a4, 32)}, Hooks: Hooks{Output: func(*Tag, *Packet) {}}})
	defer func() { _ = s.Close() }()
	var keep *Packet
	s.cfg.Hooks.Output = func(_ *Tag, p *Packet) {
		if keep == nil {
			keep = p.Hold()
		}
	}
	u := must[*UDPConn](t)(s.DialUDP(&Tag{}, netip.AddrPort{}, netip.AddrPortFrom(b4, 9)))
	if _, err := u.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	s.cfg.Hooks.Output = func(_ *Tag, p *Packet) {
		_, _ = p.Flow(), p.Header()
		p.CopyPayload(buf)
		h := p.Hold()
		h.CopyPayload(buf)
		h.Release()
	}
	pkt := keep.pkt
	if n := testing.AllocsPerRun(1000, func() { s.output(pkt) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	keep.Release()
	_ = u.Close()
}

// TestAdmitAllocs: the hook's own cost on the way in.
func TestAdmitAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newProvokeTable()
	f := ts.MakeFlow(ts.ProtoTCP, netip.AddrPortFrom(a4, 1), netip.AddrPortFrom(b4, 2))
	tag := &Tag{}
	if n := testing.AllocsPerRun(1000, func() {
		p.put(f, tag)
		if p.get(f) != tag || p.get(f.Reverse()) != nil {
			t.Fatal("wrong")
		}
		p.forget(f)
		if p.get(f) != nil {
			t.Fatal("not forgotten")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPullBack: the arithmetic of window.go at and around the edge, across the wrap of sequence numbers.
func TestPullBack(t *testing.T) {
	s := mustNew(t, Config{})
	defer func() { _ = s.Close() }()
	if s.scale != 8 {
		t.Fatalf("scale %d", s.scale)
	}
	c := &TCPConn{s: s}
	src, dst := netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 2)
	for _, ack := range []uint32{1000, 0xffffff80, 0xffffffff} {
		for _, win := range []uint16{0, 1, 65535} {
			c.advertise(tcpBuffer(tcpPacket(dst, src, 7, ack, 0x10, nil)))
			c.advertised.Store(uint64(ack)<<16 | uint64(win))
			edge := ack + uint32(win)<<8
			for _, d := range []int32{-1, 0, 1, 148, 255, 256, 257, 100000} {
				for _, tc := range []struct {
					flags   uint8
					payload []byte
					may     bool
				}{{0x10, nil, true}, {0x11, nil, false}, {0x14, nil, false}, {0x12, nil, false}, {0x10, []byte("x"), false}} {
					seq := edge + uint32(d)
					pkt := tcpBuffer(tcpPacket(src, dst, seq, 9, tc.flags, tc.payload))
					c.unjudged.Store(false)
					c.pullBack(pkt)
					if c.unjudged.Load() != (len(tc.payload) > 0) {
						t.Error("unjudged data")
					}
					want := seq
					if tc.may && d > 0 && d < 256 {
						want = edge
					}
					if got := seqOf(pkt); got != want {
						t.Errorf("ack %d win %d d %d flags %x: %d, want %d", ack, win, d, tc.flags, got, want)
					}
					pkt.DecRef()
				}
			}
		}
	}
}
