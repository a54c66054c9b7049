package datapath

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// fragment cuts an IP packet into fragments whose parts end at the given offsets, multiples of eight.
func fragment(pkt []byte, id uint32, ends ...int) [][]byte {
	v6 := pkt[0]>>4 == 6
	n := 20
	if v6 {
		n = 40
	}
	body := pkt[n:]
	ends = append(slices.Clone(ends), len(body))
	var out [][]byte
	from := 0
	for i, to := range ends {
		out = append(out, piece(pkt[:n], body[from:to], id, from, i < len(ends)-1))
		from = to
	}
	return out
}

// piece makes one fragment.
func piece(head, body []byte, id uint32, from int, more bool) []byte {
	b := slices.Clone(head)
	m := uint16(0)
	if more {
		m = 1
	}
	if head[0]>>4 == 6 {
		next := b[6]
		b[6] = protoFragment
		b = append(b, next, 0, 0, 0, 0, 0, 0, 0)
		binary.BigEndian.PutUint16(b[42:], uint16(from)|m)
		binary.BigEndian.PutUint32(b[44:], id)
		b = append(b, body...)
		setLength(b, 40)
		return b
	}
	binary.BigEndian.PutUint16(b[4:], uint16(id))
	binary.BigEndian.PutUint16(b[6:], uint16(from/8)|m<<13)
	b = append(b, body...)
	setLength(b, 20)
	return b
}

func datagramFor(v6 bool, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7)
	}
	if v6 {
		return udpPacket(flowOf(ts.ProtoUDP, "[fd00::2]:1", "[fd00::1]:2"), data)
	}
	return udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:2"), data)
}

// TestReassembleAnyOrder: fragments of several datagrams, cut anywhere, in any order, give the datagrams.
func TestReassembleAnyOrder(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
	id := uint32(0) // datagrams of an earlier check must not be met again
	rapid.Check(t, func(t *rapid.T) {
		var all [][]byte
		want := map[string]int{}
		for range rapid.IntRange(1, 4).Draw(t, "datagrams") {
			id++
			v6 := rapid.Bool().Draw(t, "v6")
			pkt := withID(datagramFor(v6, rapid.IntRange(20, 3000).Draw(t, "size")), id)
			hl := 20
			if v6 {
				hl = 40
			}
			var ends []int
			for at := 0; ; {
				at += 8 * rapid.IntRange(1, 40).Draw(t, "step")
				if at >= len(pkt)-hl {
					break
				}
				ends = append(ends, at)
			}
			if len(ends) == 0 {
				continue
			}
			all = append(all, fragment(pkt, id, ends...)...)
			want[string(pkt)]++
		}
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		order.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		f.send(all...)
		for _, b := range h.take() {
			if want[string(b)]--; want[string(b)] < 0 {
				t.Fatalf("delivered what was not sent: %x", b)
			}
		}
		for b, n := range want {
			if n != 0 {
				t.Fatalf("missing a datagram of %d bytes: %v", len(b), h.path.Stats().Drops.Map())
			}
		}
		if n := h.path.fragBytes.Load(); n != 0 {
			t.Fatalf("%d bytes left", n)
		}
	})
}

// withID gives an IPv4 packet an identification; its fragments and what is made of them have it.
func withID(pkt []byte, id uint32) []byte {
	if pkt[0]>>4 == 4 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(id))
		fixIPv4(pkt, 20)
	}
	return pkt
}

// TestADV_L19_MixedSAs: fragments of one datagram that came under two SAs, or one of them in clear, are never put together.
func TestADV_L19_MixedSAs(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{clear: true})
	pair := ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}
	f1, f2 := forge(t, h.host, "moon", pair, esp.ModeTunnel), forge(t, h.host, "sun", pair, esp.ModeTunnel)
	for _, v6 := range []bool{false, true} {
		for order := range 2 {
			fr := fragment(datagramFor(v6, 1000), uint32(7+order), 512)
			fs := []*forger{f1, f2}
			fs[order].send(fr[0])
			fs[1-order].send(fr[1])
			h.inject(tun.Packet{Buf: slices.Clone(fr[0]), Len: len(fr[0]), Kind: tun.KindClear}, tun.Packet{Buf: slices.Clone(fr[1]), Len: len(fr[1]), Kind: tun.KindClear})
			if got := h.take(); len(got) != 0 {
				t.Errorf("v6 %t, order %d: delivered %d", v6, order, len(got))
			}
			fs[order].send(fr[1])
			if got := h.take(); len(got) != 1 || h.tag != nil {
				t.Errorf("v6 %t, order %d: delivered %d from one SA", v6, order, len(got))
			}
		}
	}
	if drops(h.host, DropClear) != 8 {
		t.Errorf("drops %v", h.path.Stats().Drops.Map())
	}
}

// TestADV_P25_BadFragments: overlaps, tiny first fragments and contradictions end the datagram, for good.
func TestADV_P25_BadFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		pkt := datagramFor(v6, 1000)
		tcp := tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.2:1", "10.0.0.1:2"), tcpACK, 1, 1, make([]byte, 100))
		n := 20
		if v6 {
			n = 40
			tcp = tcpPacket(flowOf(ts.ProtoTCP, "[fd00::2]:1", "[fd00::1]:2"), tcpACK, 1, 1, make([]byte, 100))
		}
		head, body := pkt[:n], pkt[n:]
		good := fragment(pkt, 1, 504)
		for _, tt := range []struct {
			name string
			in   [][]byte
		}{
			{"overlap by a step", [][]byte{good[0], piece(head, body[496:], 1, 496, false)}},
			{"overlap before", [][]byte{good[1], piece(head, body[:512], 1, 0, true)}},
			{"covered", [][]byte{good[0], piece(head, body[8:16], 1, 8, true)}},
			{"the same again", [][]byte{good[0], good[0]}},
			{"two ends", [][]byte{piece(head, body[504:512], 1, 504, false), piece(head, body[512:520], 1, 512, false)}},
			{"beyond the end", [][]byte{piece(head, body[504:512], 1, 504, false), piece(head, body[512:520], 1, 512, true)}},
			{"end before what came", [][]byte{piece(head, body[512:520], 1, 512, true), piece(head, body[8:16], 1, 8, false)}},
			{"tiny TCP header", [][]byte{piece(tcp[:n], tcp[n:n+16], 1, 0, true)}},
			{"beyond 65,535", [][]byte{piece(head, body[:48], 1, 65528-40, false)}},
		} {
			w := newWorld()
			h := w.bare(t, hostOpt{})
			f := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
			f.send(tt.in...)
			// The rest comes, and the whole once more: nothing is made of it.
			f.send(good...)
			f.send(good[1], good[0])
			if got := h.take(); len(got) != 0 && tt.name != "tiny TCP header" && tt.name != "beyond 65,535" {
				t.Errorf("v6 %t, %s: delivered %d", v6, tt.name, len(got))
			}
			if drops(h.host, DropFragment)+drops(h.host, DropInner) == 0 {
				t.Errorf("v6 %t, %s: drops %v", v6, tt.name, h.path.Stats().Drops.Map())
			}
		}
	}
}

// TestFragmentLimits: number, bytes and time are bounded, for an SA and for all; a removed SA leaves nothing.
func TestFragmentLimits(t *testing.T) {
	clk := newClock()
	w := newWorld()
	h := w.bare(t, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	pair := ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}
	f := forge(t, h.host, "moon", pair, esp.ModeTunnel)
	head := datagramFor(false, 100)[:20]
	for id := range uint32(10 * maxDatagrams) {
		f.send(piece(head, make([]byte, 8), id, 60000, true))
	}
	if n := len(f.c.reasm.m); n > maxDatagrams {
		t.Errorf("%d datagrams", n)
	}
	if n := h.path.Stats().Now.FragmentBytes; n > maxReasmBytes || n != f.c.reasm.bytes {
		t.Errorf("%d bytes, the SA says %d", n, f.c.reasm.bytes)
	}
	if drops(h.host, DropFragmentFull) == 0 {
		t.Errorf("drops %v", h.path.Stats().Drops.Map())
	}
	// Many SAs share one limit.
	for range 2 * maxReasmBytesAll / maxReasmBytes {
		g := forge(t, h.host, "moon", pair, esp.ModeTunnel)
		for id := range uint32(maxDatagrams) {
			g.send(piece(head, make([]byte, 8), id, 60000, true))
		}
	}
	if n := h.path.Stats().Now.FragmentBytes; n > maxReasmBytesAll {
		t.Errorf("%d bytes in all", n)
	}
	// A datagram whose fragments never end in number.
	clk.advance(reasmLifetime)
	h.path.Tick()
	if n := h.path.Stats().Now.FragmentBytes; n != 0 || len(h.path.fragging) != 0 {
		t.Errorf("%d bytes after the lifetime, %d SAs to sweep", n, len(h.path.fragging))
	}
	f.send(piece(head, make([]byte, 8), 1, 8, true))
	h.path.Remove(f.c.InSPI)
	if n := h.path.Stats().Now.FragmentBytes; n != 0 {
		t.Errorf("%d bytes after Remove", n)
	}
	h.path.Tick()
	if len(h.path.fragging) != 0 {
		t.Error("a removed SA is swept for ever")
	}
}

// TestFragmentPorts: a datagram's ports are judged when it is whole: its fragments pass under an SA with port selectors, and
// not if the whole does not fit.
func TestADV_P24_FragmentPorts(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", parsePair(t, "10.0.0.1[udp/2]", "10.0.0.2[udp/1]"), esp.ModeTunnel)
	pkt := withID(datagramFor(false, 1000), 1)
	f.send(fragment(pkt, 1, 504)...)
	if got := h.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
		t.Errorf("delivered %d", len(got))
	}
	other := udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1", "10.0.0.1:3"), make([]byte, 1000))
	f.send(fragment(other, 2, 504)...)
	if got := h.take(); len(got) != 0 || drops(h.host, DropSelector) != 1 {
		t.Errorf("delivered %d, drops %v", len(got), h.path.Stats().Drops.Map())
	}
	strange := udpPacket(flowOf(ts.ProtoUDP, "10.0.0.3:1", "10.0.0.1:2"), make([]byte, 1000))
	f.send(fragment(strange, 3, 504)...)
	if n := h.path.fragBytes.Load(); n != 0 {
		t.Errorf("%d bytes kept for an address that is not the SA's", n)
	}
}

// TestAtomicFragment: RFC 6946: an IPv6 fragment that is the whole datagram is one, whatever else is waiting.
func TestAtomicFragment(t *testing.T) {
	w := newWorld()
	h := w.bare(t, hostOpt{})
	f := forge(t, h.host, "moon", ts.Pair{Local: h.anyTo().Remote, Remote: h.anyTo().Remote}, esp.ModeTunnel)
	pkt := datagramFor(true, 100)
	f.send(fragment(pkt, 9, 16)[0], piece(pkt[:40], pkt[40:], 9, 0, false))
	if got := h.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
		t.Errorf("delivered %d: %x", len(got), got)
	}
}

// FuzzInner: whatever an authenticated peer puts into a packet, nothing breaks and no limit is passed; and what is delivered
// is a well-formed packet inside the selectors.
func FuzzInner(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		pkt := datagramFor(v6, 100)
		f.Add(pkt, uint8(protoIPv4), false)
		f.Add(pkt, uint8(protoIPv6), false)
		for _, b := range fragment(pkt, 1, 16, 48) {
			f.Add(b, uint8(protoIPv4), false)
		}
		f.Add(pkt[20:], uint8(ts.ProtoUDP), true)
	}
	f.Add(tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.2:1", "10.0.0.1:2"), tcpACK, 1, 1, []byte("x")), uint8(protoIPv4), false)
	f.Add(ipPacket(icmpFlow("10.0.0.2", "10.0.0.1", 3, 1), append(make([]byte, 8), datagramFor(false, 10)...)), uint8(protoIPv4), false)
	var c *Child
	var pair, single ts.Pair
	p := &Path{fragging: map[*Child]struct{}{}}
	var r *receiver
	p.cfg.Deliver = func(_ *netstack.Tag, parts ...[]byte) {
		b := bytes.Join(parts, nil)
		flow, info, ok := ts.ParseFlow(b)
		if !ok || info.Fragment || info.TotalLen != len(b) {
			panic("delivered a malformed packet")
		}
		if !icmpError(flow) && !c.Pair.MatchIn(flow) {
			panic("delivered outside the selectors")
		}
	}
	everything := ts.Set{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), ts.FromPrefix(netip.MustParsePrefix("::/0"))}
	pair = ts.Pair{Local: everything, Remote: everything}
	single = ts.Pair{Local: ts.Set{ts.FromAddr(netip.MustParseAddr("10.0.0.1"))}, Remote: ts.Set{ts.FromAddr(netip.MustParseAddr("10.0.0.2"))}}
	r = &receiver{p: p}
	r.merge.init(p, 4)
	tunnel := &Child{Mode: esp.ModeTunnel, Pair: pair}
	transport := &Child{Mode: esp.ModeTransport, Pair: single, Local: single.Local[0].First, Remote: single.Remote[0].First}
	f.Fuzz(func(t *testing.T, b []byte, next uint8, inTransport bool) {
		if len(b) > 70000 {
			return
		}
		c = tunnel
		if inTransport {
			c = transport
		}
		buf := append(make([]byte, tun.Headroom), b...)
		e := esp.Packet{Buf: buf, Off: tun.Headroom, Len: len(b), Next: next, Drop: esp.Pass}
		if !inTransport && len(b) < 20 {
			return // package esp lets only well-formed tunnel packets through
		}
		r.inner(c, &e, &tun.Packet{ECN: next & 3}, time.Now())
		r.merge.flush()
		if n := p.fragBytes.Load(); n < 0 || n > maxReasmBytesAll || len(c.reasm.m) > maxDatagrams {
			t.Fatalf("%d bytes, %d datagrams", n, len(c.reasm.m))
		}
	})
}

// FuzzQuoted: an ICMP error's quotation is read within its bounds.
func FuzzQuoted(f *testing.F) {
	f.Add(datagramFor(false, 10), false)
	f.Add(datagramFor(true, 10), true)
	f.Add(fragment(datagramFor(true, 100), 1, 16)[0], true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if fl, ok := quoted(slices.Clip(b), v6); ok && (!fl.IsValid() || fl.IsV6() != v6) {
			t.Fatalf("%v", fl)
		}
		for i := range min(len(b), 64) {
			quoted(b[:i:i], v6)
		}
	})
}
