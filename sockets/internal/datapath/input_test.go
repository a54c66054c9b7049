package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// bare is a path without a stack: what it delivers is collected.
type bare struct {
	*host
	mu  sync.Mutex
	got [][]byte
	tag []*netstack.Tag
}

func (w *world) bare(t *testing.T, opt hostOpt) *bare {
	b := &bare{}
	cfg := opt.cfg
	opt.cfg = func(c *Config) {
		c.Deliver = func(tag *netstack.Tag, parts ...[]byte) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.got = append(b.got, bytes.Join(parts, nil))
			b.tag = append(b.tag, tag)
		}
		if cfg != nil {
			cfg(c)
		}
	}
	b.host = w.host(t, 1, opt)
	return b
}

func (b *bare) take() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.got
	b.got, b.tag = nil, nil
	return g
}

func flowOf(proto uint8, src, dst string) ts.Flow {
	return ts.MakeFlow(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
}

func icmpFlow(src, dst string, typ, code uint16) ts.Flow {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	proto := uint8(ts.ProtoICMP)
	if s.Is6() {
		proto = ts.ProtoICMPv6
	}
	return ts.MakeFlow(proto, netip.AddrPortFrom(s, typ<<8|code), netip.AddrPortFrom(d, typ<<8|code))
}

func parsePair(t testing.TB, local, remote string) ts.Pair {
	t.Helper()
	l, err := ts.Parse(local)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ts.Parse(remote)
	if err != nil {
		t.Fatal(err)
	}
	return ts.Pair{Local: ts.Set{l}, Remote: ts.Set{r}}
}

// TestADV_P19_Selectors: P19, P20, P30, P45: what an SA may carry to us, judged on whole inner packets.
func TestADV_P19_Selectors(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", parsePair(t, "10.0.0.1[tcp/80]", "10.1.0.0/16[tcp]"), esp.ModeTunnel)
	icmp := func(src, dst string, typ, code uint16, quoted []byte) []byte {
		return ipPacket(icmpFlow(src, dst, typ, code), append([]byte{byte(typ), byte(code), 0, 0, 0, 0, 0, 0}, quoted...))
	}
	ours := tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.1:80", "10.1.2.3:999"), tcpACK, 1, 1, nil)
	for _, tt := range []struct {
		name string
		pkt  []byte
		want Drop
	}{
		{"inside", tcpPacket(flowOf(ts.ProtoTCP, "10.1.2.3:999", "10.0.0.1:80"), tcpACK, 1, 1, nil), DropUnset},
		{"other source", tcpPacket(flowOf(ts.ProtoTCP, "10.2.2.3:999", "10.0.0.1:80"), tcpACK, 1, 1, nil), DropSelector},
		{"other destination", tcpPacket(flowOf(ts.ProtoTCP, "10.1.2.3:999", "10.0.0.2:80"), tcpACK, 1, 1, nil), DropSelector},
		{"other port", tcpPacket(flowOf(ts.ProtoTCP, "10.1.2.3:999", "10.0.0.1:81"), tcpACK, 1, 1, nil), DropSelector},
		{"other protocol", udpPacket(flowOf(ts.ProtoUDP, "10.1.2.3:999", "10.0.0.1:80"), nil), DropSelector},
		{"other family", tcpPacket(flowOf(ts.ProtoTCP, "[fd00::9]:999", "[fd00::1]:80"), tcpACK, 1, 1, nil), DropSelector},
		{"echo", icmp("10.1.2.3", "10.0.0.1", 8, 0, nil), DropSelector},
		{"error about ours", icmp("10.1.2.3", "10.0.0.1", 3, 1, ours), DropUnset},
		{"error of a router behind", icmp("172.16.0.1", "10.0.0.1", 11, 0, ours[:28]), DropUnset},
		{"error about another's", icmp("10.1.2.3", "10.0.0.1", 3, 1, tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.1:80", "10.2.2.3:999"), 0, 0, 0, nil)), DropICMP},
		{"error about another port", icmp("10.1.2.3", "10.0.0.1", 3, 1, tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.1:81", "10.1.2.3:999"), 0, 0, 0, nil)), DropICMP},
		{"error to another address", icmp("10.1.2.3", "10.0.0.7", 3, 1, ours), DropICMP},
		{"error about nothing", icmp("10.1.2.3", "10.0.0.1", 3, 1, nil), DropICMP},
		{"error cut short", icmp("10.1.2.3", "10.0.0.1", 3, 1, ours[:27]), DropICMP},
		{"redirect", icmp("10.1.2.3", "10.0.0.1", 5, 1, ours), DropICMP},
		{"from multicast", tcpPacket(flowOf(ts.ProtoTCP, "224.0.0.1:999", "10.0.0.1:80"), tcpACK, 1, 1, nil), DropSelector},
		{"from loopback", tcpPacket(flowOf(ts.ProtoTCP, "127.0.0.1:999", "10.0.0.1:80"), tcpACK, 1, 1, nil), DropSelector},
		{"bad checksum", func() []byte {
			b := tcpPacket(flowOf(ts.ProtoTCP, "10.1.2.3:999", "10.0.0.1:80"), tcpACK, 1, 1, []byte("data"))
			b[len(b)-1] ^= 1
			return b
		}(), DropChecksum},
		{"TTL 0", func() []byte {
			b := tcpPacket(flowOf(ts.ProtoTCP, "10.1.2.3:999", "10.0.0.1:80"), tcpACK, 1, 1, nil)
			b[8] = 0
			fixIPv4(b, 20)
			return b
		}(), DropInner},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.path.Stats()
			f.send(tt.pkt)
			after := h.path.Stats()
			got := h.take()
			if tt.want == DropUnset {
				if len(got) != 1 || !bytes.Equal(got[0], tt.pkt) || after.Drops != before.Drops {
					t.Errorf("delivered %d, drops %v", len(got), after.Drops.Map())
				}
				return
			}
			if len(got) != 0 || after.Drops[tt.want] != before.Drops[tt.want]+1 || after.Drops.Total() != before.Drops.Total()+1 {
				t.Errorf("delivered %d, drops %v", len(got), after.Drops.Map())
			}
		})
	}
}

// TestIPv6Local: nobody is a neighbour through a tunnel.
func TestIPv6LocalMessages(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", parsePair(t, "::/0", "::/0"), esp.ModeTunnel)
	for typ := range uint16(256) {
		f.send(ipPacket(icmpFlow("fd00::2", "fd00::1", typ, 0), []byte{byte(typ), 0, 0, 0, 0, 0, 0, 0}))
	}
	if n := len(h.take()); n != 128-8-3 {
		t.Errorf("%d delivered, drops %v", n, h.path.Stats().Drops.Map())
	}
}

// TestADV_P31_ECN: all sixteen pairs of inner and outer field, both families (RFC 6040, Figure 4), and transport mode.
func TestADV_P31_ECN(t *testing.T) {
	const not, ect1, ect0, ce = 0, 1, 2, 3
	want := map[[2]uint8]int{ // inner, outer
		{not, not}: not, {not, ect0}: not, {not, ect1}: not, {not, ce}: -1,
		{ect0, not}: ect0, {ect0, ect0}: ect0, {ect0, ect1}: ect1, {ect0, ce}: ce,
		{ect1, not}: ect1, {ect1, ect0}: ect1, {ect1, ect1}: ect1, {ect1, ce}: ce,
		{ce, not}: ce, {ce, ect0}: ce, {ce, ect1}: ce, {ce, ce}: ce,
	}
	w := newWorld()
	h := w.bare(t, hostOpt{})
	tunnel := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
	transport := forge(t, h.host, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTransport)
	for k, ecn := range want {
		for _, v6 := range []bool{false, true} {
			b := udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), []byte("x"))
			if v6 {
				b = udpPacket(flowOf(ts.ProtoUDP, "[fd00::2]:1", "[fd00::1]:2"), []byte("x"))
				b[1] |= k[0] << 4
			} else {
				b[1] |= k[0]
				fixIPv4(b, 20)
			}
			next := uint8(protoIPv4)
			if v6 {
				next = protoIPv6
			}
			pkt := tunnel.seal(b, next)
			pkt.ECN = k[1]
			h.inject(pkt)
			got := h.take()
			if ecn < 0 {
				if len(got) != 0 {
					t.Errorf("inner %d outer %d: delivered", k[0], k[1])
				}
				continue
			}
			if len(got) != 1 || !netstack.VerifyChecksum(got[0]) {
				t.Fatalf("inner %d outer %d: %d delivered", k[0], k[1], len(got))
			}
			_, info, _ := ts.ParseFlow(got[0])
			if int(info.ECN) != ecn {
				t.Errorf("inner %d outer %d: %d, want %d", k[0], k[1], info.ECN, ecn)
			}
		}
		pkt := transport.seal(udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), []byte("x"))[20:], ts.ProtoUDP)
		pkt.ECN = k[1]
		h.inject(pkt)
		got := h.take()
		if len(got) != 1 || got[0][1] != k[1] || !netstack.VerifyChecksum(got[0]) {
			t.Fatalf("transport %d: %x", k[1], got)
		}
	}
	if drops(h.host, DropECN) != 2 {
		t.Errorf("drops %v", h.path.Stats().Drops.Map())
	}
}

// TestADV_P37_Moved: only the newest authentic packet moves the path: not a replayed, forged or late one.
func TestADV_P37_Moved(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
	b := udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), []byte("x"))
	elsewhere := netip.MustParseAddrPort("198.51.100.7:1024")
	late := f.seal(b, protoIPv4)
	first := f.seal(b, protoIPv4)
	replay := first
	replay.Buf = slices.Clone(first.Buf)
	h.inject(first)
	for _, k := range []struct {
		name string
		pkt  tun.Packet
		want bool
	}{
		{"replayed", replay, false},
		{"late", late, false},
		{"forged", func() tun.Packet {
			k := f.seal(b, protoIPv4)
			k.Buf[k.Off+k.Len-1] ^= 1
			return k
		}(), false},
		{"fresh", f.seal(b, protoIPv4), true},
	} {
		k.pkt.Path.Remote = elsewhere
		h.inject(k.pkt)
		if moved := len(h.moved) == 1; moved != k.want {
			t.Errorf("%s: moved %t", k.name, moved)
		}
	}
	if to := <-h.moved; to.Remote != elsewhere {
		t.Errorf("moved to %v", to)
	}
	if f.c.CurrentPath().Remote == elsewhere {
		t.Error("the path moved by itself")
	}
	h.path.SetPath(f.c, tun.Path{Local: h.outer, Remote: elsewhere})
	k := f.seal(b, protoIPv4)
	k.Path.Remote = elsewhere
	h.inject(k)
	if len(h.moved) != 0 {
		t.Error("moved to where it is")
	}
}

// TestADV_P39_Remove: nothing is delivered after Remove returned, however much is on its way; and the SPI is not reused.
func TestADV_P39_Remove(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	for range 20 {
		f := forge(t, h.host, "moon", parsePair(t, "10.0.0.1", "10.0.0.2"), esp.ModeTunnel)
		b := udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), []byte("x"))
		var pkts []tun.Packet
		for range 500 {
			pkts = append(pkts, f.seal(b, protoIPv4))
		}
		var wg sync.WaitGroup
		wg.Go(func() { h.inject(pkts...) })
		if c := h.path.Remove(f.c.InSPI); c != f.c || !c.Removed() {
			t.Fatal("not removed")
		}
		n := len(h.take())
		wg.Wait()
		if more := len(h.take()); more != 0 {
			t.Fatalf("%d delivered before Remove returned, %d after", n, more)
		}
		if h.path.Remove(f.c.InSPI) != nil {
			t.Error("removed twice")
		}
		again := &Child{InSPI: f.c.InSPI, Suite: f.c.Suite, Mode: esp.ModeTunnel, Pair: f.c.Pair, Peer: f.c.Peer, Params: f.c.Params}
		if err := h.path.InstallInbound(again, make(esp.Key, f.c.Suite.KeyLen())); err == nil {
			t.Error("the SPI was used again at once (ADV-L18)")
		}
	}
}

// TestADV_P21_Clear: a packet in clear passes only where the policy says so; a flow that is latched never, whatever the
// policy says (ADV-L8).
func TestADV_P21_Clear(t *testing.T) {
	w := newWorld()
	remote := ts.FromPrefix(netip.MustParsePrefix("10.5.0.0/16"))
	pols := []spd.Policy{
		{Name: "clear", Word: spd.Clear, Sel: pairOf("10.0.0.1/32", "10.5.0.0/16")},
		{Name: "private", Word: spd.Private, Sel: pairOf("10.0.0.1/32", "0.0.0.0/0")},
	}
	h := w.host(t, 1, hostOpt{clear: true, policy: pols})
	h.wire.record()
	clearly := func(b []byte) tun.Packet { return tun.Packet{Buf: b, Len: len(b), Kind: tun.KindClear} }
	l := h.listen(h.in4, 80, latch.Want{}, true)
	strict := h.listen(h.in4, 81, latch.Want{}, false)
	syn := func(src string, port uint16) []byte {
		return tcpPacket(ts.MakeFlow(ts.ProtoTCP, netip.MustParseAddrPort(src), netip.AddrPortFrom(h.in4, port)), tcpSYN, 1, 0, nil)
	}
	h.inject(clearly(syn("10.6.0.1:1000", 80)))
	if drops(h, DropClear) != 1 {
		t.Errorf("protected policy: %v", h.path.Stats().Drops.Map())
	}
	h.inject(clearly(syn("10.5.0.1:1000", 81)))
	if drops(h, DropClear) != 2 {
		t.Errorf("strict socket: %v", h.path.Stats().Drops.Map())
	}
	bad := syn("10.5.0.1:1000", 80)
	bad[len(bad)-1] ^= 1
	h.inject(clearly(bad))
	if drops(h, DropChecksum) != 1 {
		t.Errorf("checksum: %v", h.path.Stats().Drops.Map())
	}
	h.inject(clearly(syn("10.5.0.1:1000", 80)))
	eventually(t, "SYN-ACK in clear", func() bool {
		for _, s := range h.wire.take() {
			if s.kind == tun.KindClear && len(s.data) >= 40 && s.data[33] == tcpSYN|tcpACK && netstack.VerifyChecksum(s.data) {
				return true
			}
		}
		return false
	})
	_ = strict

	// A flow that began under an SA stays there.
	f := forge(t, h, "moon", ts.Pair{Local: ts.Set{ts.FromAddr(h.in4)}, Remote: ts.Set{remote}}, esp.ModeTunnel)
	flow := ts.MakeFlow(ts.ProtoTCP, netip.MustParseAddrPort("10.5.0.2:1000"), netip.AddrPortFrom(h.in4, 80))
	lp, err := h.latches.Connect(flow.Reverse(), latch.Want{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.latches.Establish(lp, f.c.Params); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uint8{tcpSYN, tcpACK | tcpPSH, tcpRST, tcpFIN | tcpACK, tcpURG | tcpACK} {
		h.inject(clearly(tcpPacket(flow, flags, 1, 1, []byte("x"))))
	}
	if drops(h, DropLatch) != 5 {
		t.Errorf("latched flow: %v", h.path.Stats().Drops.Map())
	}
	_ = l
}

// TestMerge: segments of interleaved flows, with gaps, other windows, options and flags, give the stream that they were, in
// order for each flow, whatever is coalesced.
func TestMerge(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		type stream struct {
			flow ts.Flow
			seq  uint32
		}
		streams := make([]stream, 1+rng.IntN(12))
		for i := range streams {
			src := fmt.Sprintf("10.0.0.2:%d", 1000+i)
			dst := "10.0.0.1:80"
			if i%3 == 2 {
				src, dst = fmt.Sprintf("[fd00::2]:%d", 1000+i), "[fd00::1]:80"
			}
			streams[i] = stream{flow: flowOf(ts.ProtoTCP, src, dst), seq: rng.Uint32()}
		}
		want := make([][]uint64, len(streams)) // sequence number and byte, in order of arrival
		var pkts [][]byte
		for range 60 {
			i := rng.IntN(len(streams))
			s := &streams[i]
			if rng.IntN(10) == 0 {
				s.seq += uint32(rng.IntN(100)) // a gap
			}
			flags := uint8(tcpACK)
			if rng.IntN(8) == 0 {
				flags |= tcpPSH
			}
			if rng.IntN(20) == 0 {
				flags |= tcpFIN
			}
			data := make([]byte, rng.IntN(1400))
			for k := range data {
				data[k] = byte(rng.Uint32())
			}
			b := tcpPacket(s.flow, flags, s.seq, 7+uint32(rng.IntN(2)), data)
			for k, c := range data {
				want[i] = append(want[i], uint64(s.seq+uint32(k))<<8|uint64(c))
			}
			if flags&tcpFIN != 0 {
				want[i] = append(want[i], 1<<63|uint64(s.seq+uint32(len(data))))
			}
			s.seq += uint32(len(data))
			pkts = append(pkts, b)
		}
		f.send(pkts...)
		got := make([][]uint64, len(streams))
		for _, b := range h.take() {
			flow, info, ok := ts.ParseFlow(b)
			if !ok || info.TotalLen != len(b) {
				t.Fatalf("round %d: malformed: %d of %d bytes", round, info.TotalLen, len(b))
			}
			tcp := b[info.HeaderLen:]
			hlen := int(tcp[12]>>4) * 4
			i := slices.IndexFunc(streams, func(s stream) bool { return s.flow == flow })
			seq := binary.BigEndian.Uint32(tcp[4:])
			for k, c := range tcp[hlen:] {
				got[i] = append(got[i], uint64(seq+uint32(k))<<8|uint64(c))
			}
			if tcp[13]&tcpFIN != 0 {
				got[i] = append(got[i], 1<<63|uint64(seq+uint32(len(tcp)-hlen)))
			}
			if b[0]>>4 == 4 && fold(sum(b[:20], 0)) != 0 {
				t.Fatalf("round %d: IPv4 header checksum", round)
			}
		}
		for i := range streams {
			if !slices.Equal(got[i], want[i]) {
				t.Fatalf("round %d: flow %d differs", round, i)
			}
		}
	}
	if st := h.path.Stats(); st.Coalesced < 1000 {
		t.Errorf("only %d coalesced", st.Coalesced)
	}
}

// TestMergeNotAcrossSAs: segments of one flow that came under two SAs are two injections with two tags.
func TestMergeNotAcrossSAs(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	pair := parsePair(t, "10.0.0.1", "10.0.0.2")
	f1, f2 := forge(t, h.host, "moon", pair, esp.ModeTunnel), forge(t, h.host, "moon", pair, esp.ModeTunnel)
	flow := flowOf(ts.ProtoTCP, "10.0.0.2:1000", "10.0.0.1:80")
	h.inject(f1.seal(tcpPacket(flow, tcpACK, 0, 1, make([]byte, 100)), protoIPv4),
		f2.seal(tcpPacket(flow, tcpACK, 100, 1, make([]byte, 100)), protoIPv4))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.got) != 2 || h.tag[0] != f1.c.Tag() || h.tag[1] != f2.c.Tag() {
		t.Errorf("%d injections", len(h.got))
	}
}

// TestIKECopied: IKE datagrams are the callee's own memory.
func TestIKECopied(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	msg := bytes.Repeat([]byte{7}, 100)
	for range 3 {
		buf := make([]byte, tun.Headroom+len(msg))
		copy(buf[tun.Headroom:], msg)
		if err := a.path.SendIKE([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(msg), Kind: tun.KindIKE,
			Path: tun.Path{Local: a.outer, Remote: b.outer}}}); err != nil {
			t.Fatal(err)
		}
	}
	var got []tun.Packet
	for range 3 {
		got = append(got, recv(t, b.ike, "IKE datagram"))
	}
	for _, k := range got {
		if !bytes.Equal(k.Data(), msg) || k.Path.Remote != a.outer || k.Path.Local != b.outer {
			t.Errorf("%v %x", k.Path, k.Data())
		}
	}
	if s := b.path.Stats(); s.IKEIn != 3 || a.path.Stats().IKEOut != 3 {
		t.Errorf("%+v", s)
	}
}

// TestOrder: packets of one SA leave in the order of their sequence numbers, whoever sends them (I4: none twice).
func TestOrder(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	a.wire.record()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := a.path.NewSocket(SocketConfig{})
			u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			for k := range 50 {
				_, _ = u.WriteMsg(make([]byte, (i*50+k)*37%5000), netip.AddrPortFrom(b.in4, 9), nil)
			}
		})
	}
	wg.Wait()
	last := uint32(0)
	n := 0
	for _, k := range a.wire.take() {
		if seq := binary.BigEndian.Uint32(k.data[4:]); seq != last+1 {
			t.Fatalf("%d after %d", seq, last)
		}
		last++
		n++
	}
	if n < 400 {
		t.Errorf("%d packets", n)
	}
}

// TestSendFailure: what the wire refuses is counted and lost, never sealed again; the rest of the batch goes out.
func TestSendFailure(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, _ := connect(t, a, b, link{})
	a.wire.record()
	a.wire.refuse(func(k tun.Packet) bool { return binary.BigEndian.Uint32(k.Data()[4:])%2 == 0 })
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = u.WriteMsg(make([]byte, 6000), netip.AddrPortFrom(b.in4, 9), nil)
	seen := map[uint32]int{}
	for _, k := range a.wire.take() {
		seen[binary.BigEndian.Uint32(k.data[4:])]++
	}
	for seq, n := range seen {
		if n != 1 {
			t.Errorf("packet %d went to the wire %d times", seq, n)
		}
	}
	if len(seen) != int(ca.Stats().OutPackets) || len(seen) != 5 || drops(a, DropSend) != 2 {
		t.Errorf("%d packets, %+v", len(seen), a.path.Stats())
	}
	// The wire is gone: nothing more is tried.
	a.wire.refuse(func(tun.Packet) bool { return true })
	a.wire.take()
	_, _ = u.WriteMsg(make([]byte, 60000), netip.AddrPortFrom(b.in4, 9), nil)
	if n := len(a.wire.take()); n != maxSendErrors {
		t.Errorf("%d tries", n)
	}
}

// TestExhausted: the last sequence number blocks; the engine hears of it once (ADV-P16).
func TestADV_P16_Exhausted(t *testing.T) {
	w := newWorld()
	var calls int
	a := w.host(t, 1, hostOpt{cfg: func(c *Config) { c.Exhausted = func(*Child) { calls++ } }})
	b := w.host(t, 2, hostOpt{})
	ca, _ := connect(t, a, b, link{})
	sa, err := esp.NewOutbound(esp.Config{SPI: ca.OutSPI(), Suite: ca.Suite, Key: make(esp.Key, ca.Suite.KeyLen()), Mode: ca.Mode, MaxPackets: 2})
	if err != nil {
		t.Fatal(err)
	}
	ca.out.Load().sa = sa
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	a.wire.record()
	for range 5 {
		_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(b.in4, 9), nil)
	}
	if n := len(a.wire.take()); n != 2 || calls != 1 || drops(a, DropExhausted) != 3 {
		t.Errorf("%d sent, %d calls, drops %v", n, calls, a.path.Stats().Drops.Map())
	}
	w.noCleartext(t, a, b)
}

// TestManual: SAs keyed by hand, in both modes; counter-mode suites are refused.
func TestManual(t *testing.T) {
	w := newWorld()
	policy := func(h, o *host, in, out uint32, suite string, mode spd.Mode) *spd.Policy {
		key := bytes.Repeat([]byte{5}, 64)
		return &spd.Policy{Name: "hand", Word: spd.Private, Sel: ts.Pair{Local: ts.Set{ts.FromAddr(h.in4)}, Remote: ts.Set{ts.FromAddr(o.in4)}},
			Manual: &spd.Manual{InSPI: in, OutSPI: out, Suite: suite, InKey: key, OutKey: key, Mode: mode,
				Local: h.outer.Addr(), Remote: o.outer.Addr()}}
	}
	a, b := w.host(t, 1, hostOpt{native: true}), w.host(t, 2, hostOpt{native: true})
	if _, err := a.path.InstallManual(policy(a, b, 300, 400, "aes128gcm16", spd.ModeTunnel)); err == nil {
		t.Error("AEAD by hand")
	}
	if _, err := a.path.InstallManual(policy(a, b, 300, 400, "rot13", spd.ModeTunnel)); err == nil {
		t.Error("rot13")
	}
	if a.path.Stats().Now.Children != 0 {
		t.Error("something was installed")
	}
	for h, o := range map[*host]*host{a: b, b: a} {
		in, out := uint32(300), uint32(400)
		if h == b {
			in, out = out, in
		}
		if _, err := h.path.InstallManual(policy(h, o, in, out, "aes256-sha256", spd.ModeTunnel)); err != nil {
			t.Fatal(err)
		}
	}
	transfer(t, a, b, false, 1<<16)
	w.noCleartext(t, a, b)
}

// TestClose: Close ends everything, twice is an error, and nothing works after it.
func TestClose(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, _, install := prepare(t, a, b, link{})
	k := func() *Child { c, _ := connect(t, a, b, link{}); return c }()
	s := a.path.NewSocket(SocketConfig{})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = u.WriteMsg([]byte("held"), netip.MustParseAddrPort("10.0.0.99:1"), nil)
	if err := a.path.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.path.Close(); err == nil {
		t.Error("closed twice")
	}
	if !k.Removed() || a.path.Child(k.InSPI) != nil {
		t.Error("a child is left")
	}
	if err := a.path.InstallInbound(ca, make(esp.Key, ca.Suite.KeyLen())); err == nil {
		t.Error("installed after Close")
	}
	_ = install
	_, _ = u.WriteMsg([]byte("x"), netip.AddrPortFrom(b.in4, 1), nil)
}
