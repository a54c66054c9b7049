package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
)

func TestPing(t *testing.T) {
	a, b := newPair(t)
	mine := &Tag{V: "ping"}
	a.setOutput(func(tag *Tag, p *Packet) bool {
		if tag != mine || p.Unowned() || p.NeedsCsum() {
			t.Errorf("%v under %v", p.Flow(), tag)
		}
		return true
	})
	for _, dst := range []netip.Addr{b4, b6} {
		rtt, tag, err := a.Ping(t.Context(), mine, dst)
		if err != nil || tag != a.tag || rtt <= 0 {
			t.Errorf("%v: %v %v %v", dst, rtt, tag, err)
		}
		if _, tag, err := b.Ping(t.Context(), mine, dst); err != nil || tag != b.LoopbackTag() {
			t.Errorf("own address %v: %v %v", dst, tag, err)
		}
	}
	why := errors.New("no such peer")
	a.setOutput(func(_ *Tag, p *Packet) bool { p.Refuse(why); return false })
	if _, _, err := a.Ping(t.Context(), mine, b4); !errors.Is(err, why) {
		t.Errorf("refused: %v", err)
	}
	a.setOutput(func(_ *Tag, p *Packet) bool {
		h := p.Hold()
		go func() { a.Unreachable(h, why); h.Release() }()
		return false
	})
	if _, _, err := a.Ping(t.Context(), mine, b4); !errors.Is(err, why) {
		t.Errorf("refused later: %v", err)
	}
	a.setOutput(func(_ *Tag, p *Packet) bool { return false })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var op *net.OpError
	if _, _, err := a.Ping(ctx, mine, b4); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &op) || !op.Timeout() {
		t.Errorf("silence: %v", err)
	}
	if _, _, err := a.Ping(t.Context(), nil, netip.Addr{}); err == nil {
		t.Error("pinged nothing")
	}
}

// TestPingNotAdmitted: the reply's tag is judged too.
func TestPingNotAdmitted(t *testing.T) {
	a, b := newPair(t)
	a.setAdmit(func(in Inbound) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, _, err := a.Ping(ctx, nil, b4); done <- err }()
	eventually(t, "the reply is dropped", func() bool { return a.Stats().Drops[DropAdmit] > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	b.setAdmit(func(in Inbound) bool { return in.Flow.SrcPort()>>8 != 8 && in.Flow.SrcPort()>>8 != 128 })
	a.setAdmit(nil)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := a.Ping(ctx, nil, b6); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestADV_L8_ICMPErrors: an ICMP error acts on a connection only if Admit lets this tag act on it, whoever's address it
// comes from.
func TestADV_L8_ICMPErrors(t *testing.T) {
	a, _ := newPair(t)
	right := &Tag{V: "the gateway"}
	var mu sync.Mutex
	var asked []Inbound
	a.setAdmit(func(in Inbound) bool {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, in)
		return !in.ICMPError || in.Packet == right
	})
	for _, tc := range []struct {
		src, dst netip.Addr
		typ      uint8
		code     uint8
		is       error
	}{
		{a4, b4, 3, 1, syscall.EHOSTUNREACH},
		{a4, b4, 3, 0, syscall.ENETUNREACH},
		{a4, b4, 3, 3, syscall.ECONNREFUSED},
		{a6, b6, 1, 0, syscall.ENETUNREACH},
		{a6, b6, 1, 4, syscall.ECONNREFUSED},
	} {
		syn := make(chan []byte, 1)
		a.setOutput(func(_ *Tag, p *Packet) bool {
			b := append([]byte(nil), p.Header()...)
			select {
			case syn <- b:
			default:
			}
			return false
		})
		res := make(chan error, 1)
		go func() {
			_, err := a.DialTCP(t.Context(), &Tag{V: "dialler"}, netip.AddrPort{}, netip.AddrPortFrom(tc.dst, 80))
			res <- err
		}()
		quote := <-syn
		router := netip.MustParseAddr("192.0.2.254")
		if tc.src.Is6() {
			router = netip.MustParseAddr("2001:db8::fe")
		}
		pkt := icmpPacket(router, tc.src, tc.typ, tc.code, 0, quote)
		a.Deliver(&Tag{V: "mallory"}, pkt)
		select {
		case err := <-res:
			t.Fatalf("a foreign ICMP error ended the dial: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		mu.Lock()
		asked = nil
		mu.Unlock()
		a.Deliver(right, pkt)
		if err := <-res; !errors.Is(err, tc.is) {
			t.Errorf("%d/%d: %v, want %v", tc.typ, tc.code, err, tc.is)
		}
		mu.Lock()
		if len(asked) != 2 || asked[0].ICMPError || asked[0].Flow.Src() != router || !asked[1].ICMPError ||
			asked[1].Proto != ts.ProtoTCP || asked[1].Flow.Src() != tc.dst || asked[1].Flow.DstPort() == 0 || asked[1].Socket == nil {
			t.Errorf("asked %+v", asked)
		}
		mu.Unlock()
	}
}

// TestICMPScreen: what never gets as far as gVisor.
func TestICMPScreen(t *testing.T) {
	a, _ := newPair(t)
	ours4 := tcpPacket(netip.AddrPortFrom(a4, 5), netip.AddrPortFrom(b4, 6), 1, 0, 2, nil)
	ours6 := tcpPacket(netip.AddrPortFrom(a6, 5), netip.AddrPortFrom(b6, 6), 1, 0, 2, nil)
	foreign := tcpPacket(netip.AddrPortFrom(b4, 5), netip.AddrPortFrom(a4, 6), 1, 0, 2, nil)
	for _, tc := range []struct {
		name string
		pkt  []byte
		want Drop
	}{
		{"redirect", icmpPacket(b4, a4, 5, 0, 0, ours4), DropProtocol},
		{"timestamp", icmpPacket(b4, a4, 13, 0, 0, nil), DropProtocol},
		{"router advertisement", icmpPacket(b6, a6, 134, 0, 0, make([]byte, 8)), DropProtocol},
		{"neighbour solicitation", icmpPacket(b6, a6, 135, 0, 0, make([]byte, 16)), DropProtocol},
		{"listener query", icmpPacket(b6, a6, 130, 0, 0, make([]byte, 16)), DropProtocol},
		{"ICMPv6 in IPv4", ipPacket(b4, a4, ts.ProtoICMPv6, make([]byte, 8)), DropProtocol},
		{"quotes a packet to us", icmpPacket(b4, a4, 3, 1, 0, foreign), DropICMPQuote},
		{"quotes the other family", icmpPacket(b4, a4, 3, 1, 0, ours6), DropICMPQuote},
		{"quotes nothing", icmpPacket(b4, a4, 3, 1, 0, nil), DropICMPQuote},
		{"quotes too little", icmpPacket(b4, a4, 3, 1, 0, ours4[:23]), DropICMPQuote},
		{"absurd MTU", icmpPacket(b4, a4, 3, 4, 68, ours4), DropICMPQuote},
		{"absurd IPv6 MTU", icmpPacket(b6, a6, 2, 0, 1279, ours6), DropICMPQuote},
		{"short", ipPacket(b4, a4, ts.ProtoICMP, make([]byte, 7)), DropMalformed},
		{"IGMP", ipPacket(b4, a4, 2, make([]byte, 8)), DropProtocol},
		{"ESP in it", ipPacket(b4, a4, 50, make([]byte, 40)), DropProtocol},
		{"own source", ipPacket(a4, a4, ts.ProtoICMP, make([]byte, 8)), DropMartian},
		{"loopback source", udpPacket(netip.MustParseAddrPort("127.0.0.1:1"), netip.AddrPortFrom(a4, 1), nil), DropMartian},
		{"multicast source", udpPacket(netip.MustParseAddrPort("[ff02::1]:1"), netip.AddrPortFrom(a6, 1), nil), DropMartian},
		{"not to us", udpPacket(netip.AddrPortFrom(b4, 1), netip.MustParseAddrPort("10.9.0.99:1"), nil), DropMartian},
		{"to all nodes", udpPacket(netip.AddrPortFrom(b6, 1), netip.MustParseAddrPort("[ff02::1]:1"), nil), DropMartian},
	} {
		before := a.Stats()
		a.Deliver(a.tag, tc.pkt)
		after := a.Stats()
		if after.Drops[tc.want] != before.Drops[tc.want]+1 || after.Delivered != before.Delivered {
			t.Errorf("%s: not dropped as %v: %v", tc.name, tc.want, after.Drops)
		}
	}
	if s := Drop(200).String(); s != "unknown" {
		t.Error(s)
	}
	for d := DropUnset; d < numDrops; d++ {
		if d.String() == "" {
			t.Errorf("drop %d has no name", d)
		}
	}
}

// TestPacketTooBig: by ICMP and by SetFlowMTU the segments of one connection get smaller, and bytes in flight are resent.
func TestPacketTooBig(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, how := range []string{"icmp", "flow"} {
			a, b := newPair(t)
			c, s := connect(t, a, b, v6)
			const limit = 1290
			var mu sync.Mutex
			told, most := false, 0
			b.mu.Lock()
			b.peer.mangle = nil
			b.mu.Unlock()
			a.mu.Lock()
			a.mangle = func(p []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if len(p) <= limit {
					most = max(most, len(p))
					return p
				}
				if !told {
					told = true
					q := append([]byte(nil), p[:100]...)
					go func() {
						switch {
						case how == "flow":
							a.SetFlowMTU(c.Flow(), limit)
						case v6:
							a.Deliver(a.tag, icmpPacket(b6, a6, 2, 0, limit, q))
						default:
							a.Deliver(a.tag, icmpPacket(b4, a4, 3, 4, limit, q))
						}
					}()
				}
				return nil
			}
			a.mu.Unlock()
			go func() { _, _ = c.Write(make([]byte, 100000)); _ = c.CloseWrite() }()
			n, buf := 0, make([]byte, 65536)
			_ = s.SetReadDeadline(time.Now().Add(patience))
			for {
				k, err := s.Read(buf)
				n += k
				if err != nil {
					break
				}
			}
			mu.Lock()
			if n != 100000 || !told || most > limit || most < limit-60 {
				t.Errorf("v6 %v, %s: %d bytes, told %v, largest packet %d", v6, how, n, told, most)
			}
			mu.Unlock()
			_, _ = c.Close(), s.Close()
		}
	}
}
