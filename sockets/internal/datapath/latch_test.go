package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// forger seals packets of its own making for a child of the victim.
type forger struct {
	t    *testing.T
	h    *host
	from netip.AddrPort
	out  *esp.Outbound
	c    *Child
	w    esp.Worker
}

// forge installs a child at h under which the test itself sends, as the peer of that name.
func forge(t *testing.T, h *host, peer string, pair ts.Pair, mode esp.Mode) *forger {
	t.Helper()
	spi, err := h.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	suite, _ := esp.ParseSuite("aes128gcm16")
	key := bytes.Repeat([]byte{byte(spi)}, suite.KeyLen())
	from := netip.MustParseAddrPort("192.0.2.200:4500")
	c := &Child{InSPI: spi, Suite: suite, Mode: mode, Pair: pair, Peer: &Peer{Name: peer, ID: peer},
		Path: tun.Path{Local: h.outer, Remote: from},
		Params: &latch.Params{Peer: "fqdn:" + peer, Local: "fqdn:" + h.name, Protection: latch.Integrity | latch.Confidentiality,
			Mode: uint8(mode), Suite: "aes128gcm16", Replay: true}}
	if err := h.path.InstallInbound(c, key); err != nil {
		t.Fatal(err)
	}
	out, err := esp.NewOutbound(esp.Config{SPI: spi, Suite: suite, Key: key, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return &forger{t: t, h: h, from: from, out: out, c: c}
}

// seal makes an ESP packet of an inner packet.
func (f *forger) seal(inner []byte, next uint8) tun.Packet {
	f.t.Helper()
	buf := make([]byte, tun.Headroom+tun.Headroom+len(inner)+tun.Tailroom)
	k := []esp.Packet{{Buf: buf, Off: 2 * tun.Headroom, Len: copy(buf[2*tun.Headroom:], inner), Next: next}}
	if d := f.out.Seal(&f.w, k); d != esp.Pass || k[0].Drop != esp.Pass {
		f.t.Fatalf("seal: %v %v", d, k[0].Drop)
	}
	return tun.Packet{Buf: buf, Off: k[0].Off, Len: k[0].Len, Kind: tun.KindESP, Path: tun.Path{Local: f.h.outer, Remote: f.from}}
}

// send seals inner IP packets and gives them to the victim in one batch.
func (f *forger) send(inner ...[]byte) {
	f.t.Helper()
	var pkts []tun.Packet
	for _, b := range inner {
		next := uint8(protoIPv4)
		if b[0]>>4 == 6 {
			next = protoIPv6
		}
		pkts = append(pkts, f.seal(b, next))
	}
	f.h.inject(pkts...)
}

// inject gives packets to the path as if they had come from the wire, beside those that do.
func (h *host) inject(pkts ...tun.Packet) {
	h.injectMu.Lock()
	defer h.injectMu.Unlock()
	if h.injector == nil {
		h.injector = h.path.newReceiver()
	}
	r := h.injector
	for len(pkts) > 0 {
		n := min(len(pkts), len(r.pkts))
		r.batch(pkts[:n])
		pkts = pkts[n:]
	}
}

// tcpPacket makes an IPv4 or IPv6 TCP segment.
func tcpPacket(f ts.Flow, flags uint8, seq, ack uint32, payload []byte) []byte {
	tcp := make([]byte, 20+len(payload))
	binary.BigEndian.PutUint16(tcp, f.SrcPort())
	binary.BigEndian.PutUint16(tcp[2:], f.DstPort())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 0xffff)
	copy(tcp[20:], payload)
	return ipPacket(f, tcp)
}

func udpPacket(f ts.Flow, payload []byte) []byte {
	u := make([]byte, 8+len(payload))
	binary.BigEndian.PutUint16(u, f.SrcPort())
	binary.BigEndian.PutUint16(u[2:], f.DstPort())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], payload)
	return ipPacket(f, u)
}

// ipPacket puts an IP header around a transport packet and completes the checksums.
func ipPacket(f ts.Flow, upper []byte) []byte {
	var b []byte
	n := 20
	if f.IsV6() {
		n = 40
		b = make([]byte, 40, 40+len(upper))
		b[0], b[6], b[7] = 0x60, f.Proto(), 64
		copy(b[8:], f.Src().AsSlice())
		copy(b[24:], f.Dst().AsSlice())
	} else {
		b = make([]byte, 20, 20+len(upper))
		b[0], b[8], b[9] = 0x45, 64, f.Proto()
		copy(b[12:], f.Src().AsSlice())
		copy(b[16:], f.Dst().AsSlice())
	}
	b = append(b, upper...)
	setLength(b, n)
	if off := checksumOffset(f.Proto()); off >= 0 {
		tl := b[n:]
		putChecksum(tl[off:], f.Proto(), fold(sum(tl, pseudo(b, f.Proto(), len(tl)))))
	} else if f.Proto() == ts.ProtoICMP {
		binary.BigEndian.PutUint16(b[n+2:], fold(sum(b[n:], 0)))
	} else if f.Proto() == ts.ProtoICMPv6 {
		binary.BigEndian.PutUint16(b[n+2:], fold(sum(b[n:], pseudo(b, f.Proto(), len(b)-n))))
	}
	return b
}

// conn is a live connection from a to b with what an attacker wants to know of it.
type conn struct {
	c, s    *netstack.TCPConn
	cs, ss  *Socket
	flow    ts.Flow // a's view
	nextSeq uint32  // of what b sends next
	nextAck uint32
}

// establish opens a connection from a to b and lets one exchange pass; it learns sequence numbers from what a delivers.
func establish(t *testing.T, a, b *host, want latch.Want) *conn {
	t.Helper()
	l := b.listen(b.in4, 0, latch.Want{}, false)
	type accepted struct {
		c *netstack.TCPConn
		s *Socket
	}
	ch := make(chan accepted, 1)
	go func() {
		if c, s, err := l.accept(); err == nil {
			ch <- accepted{c, s}
		}
	}()
	var seq, ack atomic.Uint32
	watch := func(_ *netstack.Tag, parts ...[]byte) {
		if p := parts[0]; p[9] == ts.ProtoTCP && len(p) >= 40 {
			n := 0
			for _, x := range parts {
				n += len(x)
			}
			tcp := p[20:]
			s := binary.BigEndian.Uint32(tcp[4:]) + uint32(n-20-int(tcp[12]>>4)*4)
			if tcp[13]&tcpSYN != 0 {
				s++
			}
			seq.Store(s)
			ack.Store(binary.BigEndian.Uint32(tcp[8:]))
		}
	}
	a.onDeliver.Store(&watch)
	c, cs, err := a.dial(within(t, 5*time.Second), l.ap, want)
	if err != nil {
		t.Fatal(err)
	}
	acc := recv(t, ch, "accepted connection")
	say(t, c, acc.c, "hello")
	say(t, acc.c, c, "hi")
	t.Cleanup(func() { _ = c.Close(); _ = acc.c.Close() })
	return &conn{c: c, s: acc.c, cs: cs, ss: acc.s, flow: c.Flow(), nextSeq: seq.Load(), nextAck: ack.Load()}
}

// say writes text on one connection and reads it on the other.
func say(t *testing.T, from, to *netstack.TCPConn, text string) {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	_ = to.SetReadDeadline(time.Now().Add(patience))
	if n, err := readFull(to, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v", got[:n], err)
	}
}

func readFull(c *netstack.TCPConn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.Read(b[n:])
		n += k
	}
	return n, err
}

// TestADV_L1_Hijack: peer C, authenticated as C, has an SA whose selectors cover A's connection with B, and sends exactly
// what B would send next; also resets and FINs, and ICMP errors about the connection (ADV-L8).
func TestADV_L1_Hijack(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	k := establish(t, a, b, latch.Want{})
	evil := forge(t, a, "mallory", ts.Pair{Local: ts.Set{ts.FromAddr(a.in4)}, Remote: ts.Set{ts.FromAddr(b.in4)}}, esp.ModeTunnel)
	before := *k.cs.Latch().Params()
	in := k.flow.Reverse()
	unreachable := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, tcpPacket(k.flow, tcpACK, k.nextAck, k.nextSeq, nil)[:28]...)
	tooBig := append([]byte{3, 4, 0, 0, 0, 0, 2, 64}, tcpPacket(k.flow, tcpACK, k.nextAck, k.nextSeq, nil)[:28]...)
	icmp := ts.MakeFlow(ts.ProtoICMP, netip.AddrPortFrom(b.in4, 0x0301), netip.AddrPortFrom(a.in4, 0x0301))
	evil.send(
		tcpPacket(in, tcpACK|tcpPSH, k.nextSeq, k.nextAck, []byte("INJECTED")),
		tcpPacket(in, tcpRST|tcpACK, k.nextSeq, k.nextAck, nil),
		tcpPacket(in, tcpRST, k.nextSeq, 0, nil),
		tcpPacket(in, tcpFIN|tcpACK, k.nextSeq, k.nextAck, nil),
		tcpPacket(in, tcpSYN, k.nextSeq, 0, nil),
		ipPacket(icmp, unreachable),
		ipPacket(icmp, tooBig),
	)
	if n := drops(a, DropLatch); n != 7 {
		t.Errorf("%d of 7 dropped by the latch: %v", n, a.path.Stats().Drops.Map())
	}
	if l := k.cs.Latch(); l.State() != latch.StateEstablished || *l.Params() != before {
		t.Errorf("the latch moved: %v", l.Params())
	}
	say(t, k.s, k.c, "still b")
	say(t, k.c, k.s, "still a")
	// The same bytes from B's own SA would have been taken: the test is about the SA, not about the bytes.
	if evil.c.Stats().InPackets != 7 {
		t.Error("not all were authentic")
	}
}

// TestADV_L9_OtherSA: another SA of the same peer with the same parameters may carry the connection, one in another mode may
// not, and a rekey loses nothing (ADV-L4).
func TestADV_L9_OtherSA(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, cb := connect(t, a, b, link{})
	k := establish(t, a, b, latch.Want{})
	na, nb := connect(t, a, b, link{})
	say(t, k.c, k.s, "under the new SA")
	say(t, k.s, k.c, "likewise")
	if na.Stats().OutPackets == 0 || nb.Stats().OutPackets == 0 || k.cs.Child() != na {
		t.Error("the new SA is not used")
	}
	a.path.Remove(ca.InSPI)
	b.path.Remove(cb.InSPI)
	say(t, k.c, k.s, "old one gone")
	say(t, k.s, k.c, "gone")

	same := forge(t, a, b.name, na.Pair, esp.ModeTunnel)
	if !k.cs.Latch().Permits(same.c.Params) {
		t.Error("equal parameters do not pass")
	}
	pair := ts.Pair{Local: ts.Set{ts.FromAddr(a.in4)}, Remote: ts.Set{ts.FromAddr(b.in4)}}
	other := forge(t, a, b.name, pair, esp.ModeTransport)
	seg := tcpPacket(k.flow.Reverse(), tcpACK|tcpPSH, k.nextSeq, k.nextAck, []byte("INJECTED"))
	other.h.inject(other.seal(seg[20:], ts.ProtoTCP))
	if drops(a, DropLatch) != 1 {
		t.Errorf("another mode passed: %v", a.path.Stats().Drops.Map())
	}
}

// TestADV_L10_SplitHandshake: SYN over A's SA, the rest over C's.
func TestADV_L10_SplitHandshake(t *testing.T) {
	w := newWorld()
	b := w.host(t, 2, hostOpt{})
	l := b.listen(b.in4, 80, latch.Want{}, false)
	from := netip.MustParseAddrPort("10.0.0.1:1000")
	flow := ts.MakeFlow(ts.ProtoTCP, from, l.ap)
	pair := ts.Pair{Local: ts.Set{ts.FromAddr(b.in4)}, Remote: ts.Set{ts.FromAddr(from.Addr())}}
	good := forge(t, b, "alice", pair, esp.ModeTunnel)
	if err := b.path.InstallOutbound(good.c, 0x1234, bytes.Repeat([]byte{9}, 20)); err != nil {
		t.Fatal(err)
	}
	b.wire.record()
	good.send(tcpPacket(flow, tcpSYN, 100, 0, nil))
	if b.path.embryos.len() != 1 {
		t.Fatal("no connection began")
	}
	var iss uint32
	eventually(t, "SYN-ACK", func() bool {
		for _, k := range b.wire.take() {
			in, _ := esp.NewInbound(esp.Config{SPI: 0x1234, Suite: good.c.Suite, Key: bytes.Repeat([]byte{9}, 20), Mode: esp.ModeTunnel})
			p := []esp.Packet{{Buf: k.data, Len: len(k.data)}}
			in.Open(&esp.Worker{}, p)
			if p[0].Drop == esp.Pass {
				iss = binary.BigEndian.Uint32(p[0].Payload()[24:])
				return true
			}
		}
		return false
	})
	// Only now the second peer gets an SA: before, the connection would have been refused because of the conflict.
	evil := forge(t, b, "mallory", pair, esp.ModeTunnel)
	evil.send(tcpPacket(flow, tcpACK, 101, iss+1, nil), tcpPacket(flow, tcpACK|tcpPSH, 101, iss+1, []byte("GET /")))
	if drops(b, DropLatch) != 2 {
		t.Errorf("drops %v", b.path.Stats().Drops.Map())
	}
	_ = l.l.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := l.l.AcceptTCP(); err == nil {
		t.Fatalf("accepted %v", c.Flow())
	}
	good.send(tcpPacket(flow, tcpACK, 101, iss+1, nil))
	c, s, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	if s.Latch().Params().Peer != "fqdn:alice" {
		t.Errorf("latched to %v", s.Latch().Params())
	}
	_ = c.Close()
}

// TestADV_L12_ListenerWant: a listener that demands X gives Y nothing: no slot, no latch, no memory.
func TestADV_L12_ListenerWant(t *testing.T) {
	w := newWorld()
	b := w.host(t, 2, hostOpt{})
	l := b.listen(b.in4, 80, latch.Want{Peer: "fqdn:alice"}, false)
	pair := ts.Pair{Local: ts.Set{ts.FromAddr(b.in4)}, Remote: ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.1.0.0/16"))}}
	y := forge(t, b, "mallory", pair, esp.ModeTunnel)
	latches := b.latches.Len()
	for i := range 1000 {
		f := ts.MakeFlow(ts.ProtoTCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1000), l.ap)
		y.send(tcpPacket(f, tcpSYN, 1, 0, nil))
	}
	if drops(b, DropWant) != 1000 || b.path.embryos.len() != 0 || b.latches.Len() != latches {
		t.Errorf("%d latches, %d embryos, drops %v", b.latches.Len()-latches, b.path.embryos.len(), b.path.Stats().Drops.Map())
	}
}

// TestEmbryosBounded: one peer can't begin connections without end, and what comes to nothing is forgotten.
func TestEmbryosBounded(t *testing.T) {
	clk := newClock()
	w := newWorld()
	b := w.host(t, 2, hostOpt{cfg: func(c *Config) {
		c.Now = clk.now
		c.Exists = func(ts.Flow) bool { return false }
	}})
	l := b.listen(b.in4, 80, latch.Want{}, false)
	pair := ts.Pair{Local: ts.Set{ts.FromAddr(b.in4)}, Remote: ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.1.0.0/16"))}}
	y := forge(t, b, "alice", pair, esp.ModeTunnel)
	var batch [][]byte
	for i := range maxPeerEmbryos + 100 {
		f := ts.MakeFlow(ts.ProtoTCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1000), l.ap)
		batch = append(batch, tcpPacket(f, tcpSYN, 1, 0, nil))
	}
	y.send(batch...)
	if n := b.path.embryos.len(); n != maxPeerEmbryos || drops(b, DropEmbryo) != 100 {
		t.Errorf("%d began, drops %v", n, b.path.Stats().Drops.Map())
	}
	clk.advance(embryoGrace + time.Second)
	b.path.Tick()
	if n := b.path.embryos.len(); n != 0 || b.latches.Len() != 1 {
		t.Errorf("%d embryos and %d latches left", n, b.latches.Len())
	}
}

// TestEmbryoBegunAgain: a SYN that is repeated begins the wait anew, be it while what has come to nothing is looked for: the
// answer that it gets is of use. A handshake with a SYN cookie has nothing but its latch.
func TestEmbryoBegunAgain(t *testing.T) {
	clk := newClock()
	var during func()
	b := newWorld().host(t, 2, hostOpt{cfg: func(c *Config) {
		c.Now = clk.now
		c.Exists = func(ts.Flow) bool {
			if f := during; f != nil {
				during = nil
				f()
			}
			return false
		}
	}})
	ls := b.path.NewSocket(SocketConfig{Kind: SocketListener})
	if err := ls.Listen(latch.Key3{Proto: ts.ProtoTCP, Port: 80}); err != nil {
		t.Fatal(err)
	}
	defer ls.Close()
	y := forge(t, b, "alice", parsePair(t, "10.0.0.2", "10.1.0.1"), esp.ModeTunnel)
	syn := func() {
		t.Helper()
		if !b.inbound(flowOf(ts.ProtoTCP, "10.1.0.1:1000", "10.0.0.2:80"), y.c.Tag(), ls, func(in *netstack.Inbound) { in.SYN, in.Listener = true, true }) {
			t.Fatal(b.path.Stats().Drops.Map())
		}
	}
	syn()
	for _, again := range []func(){
		func() { syn(); clk.advance(2 * time.Second); b.path.Tick() },
		func() { clk.advance(2 * time.Second); during = syn; b.path.Tick() },
	} {
		clk.advance(embryoGrace - time.Second)
		again()
		if n := b.path.embryos.len(); n != 1 || b.latches.Len() != 2 {
			t.Fatalf("%d embryos and %d latches left", n, b.latches.Len())
		}
	}
	clk.advance(embryoGrace + time.Second)
	b.path.Tick()
	if n := b.path.embryos.len(); n != 0 || b.latches.Len() != 1 {
		t.Errorf("%d embryos and %d latches left at the end", n, b.latches.Len())
	}
}

// TestADV_L6_PolicyEdit: the policy stops protecting a live connection: the latch breaks before the new policy counts, not a
// byte goes in clear, and with the policy back the connection goes on.
func TestADV_L6_PolicyEdit(t *testing.T) {
	for _, word := range []spd.Word{spd.Block, spd.Clear} {
		w := newWorld()
		a, b := w.host(t, 1, hostOpt{clear: true}), w.host(t, 2, hostOpt{clear: true})
		connect(t, a, b, link{})
		k := establish(t, a, b, latch.Want{})
		old := a.path.Policy()
		edited, err := spd.New([]spd.Policy{{Name: "edited", Sel: a.anyTo(), Word: word}})
		if err != nil {
			t.Fatal(err)
		}
		a.wire.take()
		a.wire.record()
		a.path.SetPolicy(edited)
		if st := k.cs.Latch().State(); st != latch.StateBroken {
			t.Errorf("%v: latch is %v", word, st)
		}
		if _, err := k.c.Write([]byte(secret)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "drop", func() bool { return drops(a, DropBroken) > 0 })
		if sent := a.wire.take(); len(sent) != 0 {
			t.Errorf("%v: %d packets left", word, len(sent))
		}
		a.path.SetPolicy(old)
		if st := k.cs.Latch().State(); st != latch.StateEstablished {
			t.Errorf("%v: latch is %v with the policy back", word, st)
		}
		got := make([]byte, len(secret))
		_ = k.s.SetReadDeadline(time.Now().Add(patience))
		if _, err := readFull(k.s, got); err != nil || string(got) != secret {
			t.Errorf("%v: %q, %v", word, got, err)
		}
		for _, s := range a.wire.take() {
			if s.kind != tun.KindESP {
				t.Errorf("%v: a %v packet", word, s.kind)
			}
		}
		w.noCleartext(t, a, b)
	}
}

// TestADV_L17_Reuse: a 5-tuple used again gets a latch of its own.
func TestADV_L17_Reuse(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, cb := connect(t, a, b, link{})
	k := establish(t, a, b, latch.Want{})
	id := k.ss.Latch().ID()
	k.c.Abort(errors.New("gone"))
	eventually(t, "both latches are released", func() bool {
		return a.latches.Find(k.flow) == nil && b.latches.Find(k.flow.Reverse()) == nil
	})
	a.path.Remove(ca.InSPI)
	b.path.Remove(cb.InSPI)
	pair := ts.Pair{Local: ts.Set{ts.FromAddr(b.in4)}, Remote: ts.Set{ts.FromAddr(a.in4)}}
	other := forge(t, b, "bob", pair, esp.ModeTunnel)
	other.send(tcpPacket(k.flow, tcpSYN, 1, 0, nil))
	l := b.latches.Find(k.flow.Reverse())
	if l == nil || l.ID() == id || l.Params().Peer != "fqdn:bob" {
		t.Errorf("latch %v", l)
	}
}

// TestAnonymousSecond: an anonymous SA never replaces an authenticated one, and serves only policies with BTNS_OK.
func TestAnonymousSecond(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, _ := connect(t, a, b, link{anonymous: true})
	f := ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(a.in4, 1), netip.AddrPortFrom(b.in4, 2))
	if d, _ := a.path.decide(f); d.child != nil {
		t.Error("an anonymous peer's SA without BTNS_OK")
	}
	db, err := spd.New([]spd.Policy{{Name: "btns", Sel: a.anyTo(), Word: spd.Private, BTNSOK: true}})
	if err != nil {
		t.Fatal(err)
	}
	a.path.SetPolicy(db)
	if d, _ := a.path.decide(f); d.child != ca {
		t.Error("BTNS_OK does not allow it")
	}
	auth, _ := connect(t, a, b, link{peerB: "moon"})
	connect(t, a, b, link{anonymous: true})
	if d, _ := a.path.decide(f); d.child != auth {
		t.Errorf("chose %+v", d.child.Peer)
	}
}
