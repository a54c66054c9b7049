package netstack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/btns-go/btns/esp/ts"
)

// tcpBuffer parses a packet as gVisor's network layer does.
func tcpBuffer(b []byte) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	pkt.NetworkHeader().Consume(20)
	pkt.TransportHeader().Consume(20)
	return pkt
}

func seqOf(pkt *stack.PacketBuffer) uint32 {
	return header.TCP(pkt.TransportHeader().Slice()).SequenceNumber()
}

// seeds are packets of every kind a stack takes.
func seeds() [][]byte {
	s4, d4 := netip.AddrPortFrom(b4, 1000), netip.AddrPortFrom(a4, 53)
	s6, d6 := netip.AddrPortFrom(b6, 1000), netip.AddrPortFrom(a6, 53)
	quote := tcpPacket(netip.AddrPortFrom(a4, 80), s4, 1, 2, 2, nil)
	quote6 := tcpPacket(netip.AddrPortFrom(a6, 80), s6, 1, 2, 2, nil)
	list := [][]byte{
		udpPacket(s4, d4, []byte("hello")), udpPacket(s6, d6, []byte("hello")),
		tcpPacket(s4, netip.AddrPortFrom(a4, 80), 1, 0, 2, nil), tcpPacket(s6, netip.AddrPortFrom(a6, 80), 1, 0, 2, nil),
		tcpPacket(s4, netip.AddrPortFrom(a4, 80), 1, 5, 0x18, []byte("data")), tcpPacket(s4, netip.AddrPortFrom(a4, 81), 1, 5, 0x11, nil),
		icmpPacket(b4, a4, 8, 0, 7, []byte("ping")), icmpPacket(b6, a6, 128, 0, 7, []byte("ping")),
		icmpPacket(b4, a4, 0, 0, 7, []byte("pong")), icmpPacket(b6, a6, 129, 0, 7, []byte("pong")),
		icmpPacket(b4, a4, 3, 4, 1280, quote), icmpPacket(b6, a6, 2, 0, 1300, quote6), icmpPacket(b6, a6, 1, 4, 0, quote6),
	}
	opts := append([]byte(nil), list[0]...) // with IPv4 options: record route, timestamp
	opts = append(append(append([]byte{}, opts[:20]...), 7, 7, 4, 0, 0, 0, 0, 0x44, 8, 5, 0, 0, 0, 0, 0, 0), opts[20:]...)
	opts[0] = 0x49
	binary.BigEndian.PutUint16(opts[2:], uint16(len(opts)))
	SetChecksum(opts, 36, ts.ProtoUDP)
	ext := append([]byte(nil), list[1]...) // with hop-by-hop and destination options
	ext = append(append(append([]byte{}, ext[:40]...), 60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0x1e, 4, 0, 0, 0, 0), ext[40:]...)
	ext[6] = 0
	binary.BigEndian.PutUint16(ext[4:], uint16(len(ext)-40))
	return append(list, opts, ext)
}

func seedStack(t testing.TB) *Stack {
	s := mustNew(t, Config{
		Addrs: []netip.Prefix{netip.PrefixFrom(a4, 24), netip.PrefixFrom(a6, 64)},
		Hooks: Hooks{
			Output: func(_ *Tag, p *Packet) {
				_, _, _ = p.Flow(), p.Header(), p.Provoker()
				segment(p, func([]byte) {})
			},
			Admit: func(Inbound) bool { return true },
		},
	})
	return s
}

// FuzzDeliver: nothing that arrives panics, in gVisor or here.
func FuzzDeliver(f *testing.F) {
	for _, p := range seeds() {
		f.Add(p, uint8(20))
	}
	s := seedStack(f)
	f.Cleanup(func() { _ = s.Close() })
	ln := must[*TCPListener](f)(s.ListenTCP(nil, netip.MustParseAddrPort("[::]:80"), 0))
	u := must[*UDPConn](f)(s.ListenUDP(nil, netip.MustParseAddrPort("[::]:53")))
	f.Cleanup(func() { _, _ = ln.Close(), u.Close() })
	tag := &Tag{}
	f.Fuzz(func(t *testing.T, pkt []byte, cut uint8) {
		k := min(int(cut), len(pkt))
		before := bytes.Clone(pkt)
		s.Deliver(tag, pkt[:k], pkt[k:])
		if !bytes.Equal(before, pkt) {
			t.Error("Deliver wrote into its input")
		}
		if n := s.Stats().Panics; n != 0 {
			t.Fatalf("%d panics", n)
		}
		_ = VerifyChecksum(pkt)
		SetChecksum(pkt, int(cut), before2(before))
	})
}

func before2(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[len(b)-1]
}

// TestDeliverTruncated: no prefix of a packet is delivered, and bytes behind it don't matter.
func TestDeliverTruncated(t *testing.T) {
	s := seedStack(t)
	defer func() { _ = s.Close() }()
	u := must[*UDPConn](t)(s.ListenUDP(nil, netip.MustParseAddrPort("[::]:53")))
	defer func() { _ = u.Close() }()
	for _, pkt := range seeds() {
		for n := range len(pkt) {
			s.Deliver(nil, pkt[:n])
		}
	}
	if st := s.Stats(); st.Delivered != 0 || st.Drops[DropMalformed] == 0 {
		t.Errorf("%d prefixes delivered", st.Delivered)
	}
	s.Deliver(nil)
	s.Deliver(nil, make([]byte, maxPacket+1))
	buf := make([]byte, 100)
	for i, pkt := range seeds() {
		if _, info, ok := ts.ParseFlow(pkt); !ok || info.Proto != ts.ProtoUDP {
			continue
		}
		// In as many parts as there are bytes, and something behind.
		var parts [][]byte
		for _, b := range pkt {
			parts = append(parts, []byte{b})
		}
		tag := &Tag{}
		s.Deliver(tag, append(parts, []byte("behind"))...)
		n, _, _, got, err := u.ReadMsg(buf)
		if err != nil || string(buf[:n]) != "hello" || got != tag {
			t.Errorf("seed %d: %q %v", i, buf[:n], err)
		}
	}
	bad := udpPacket(netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 53), []byte("hello"))
	binary.BigEndian.PutUint16(bad[24:], 100) // longer than the packet
	before := s.Stats().Drops[DropMalformed]
	s.Deliver(nil, bad)
	if s.Stats().Drops[DropMalformed] == before {
		t.Error("a wrong UDP length passed")
	}
	frag := udpPacket(netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 53), make([]byte, 16))
	frag[6] = 0x20
	s.Deliver(nil, frag)
	if s.Stats().Drops[DropFragment] != 1 {
		t.Error("a fragment passed")
	}
	s.Deliver(s.LoopbackTag(), udpPacket(netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 53), nil))
	if s.Stats().Drops[DropClosed] != 1 {
		t.Error("a packet posing as loopback passed")
	}
}

// TestDeliverSuperPacket: what the data path has coalesced is one segment to TCP.
func TestDeliverSuperPacket(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		a, b := newPair(t)
		var seq, ack uint32
		got := make(chan struct{}, 10)
		a.setOutput(func(_ *Tag, p *Packet) bool {
			h := p.Header()
			ip, _ := p.HeaderLens()
			seq, ack = binary.BigEndian.Uint32(h[ip+4:]), binary.BigEndian.Uint32(h[ip+8:])
			got <- struct{}{}
			return true
		})
		c, s := connect(t, a, b, v6)
		<-got
		<-got
		data := bytes.Repeat([]byte{1, 2, 3, 4, 5}, 13000)[:64000]
		b.Deliver(b.tag, tcpPacket(c.local, c.remote, seq, ack, 0x18, data))
		buf := make([]byte, 1<<17)
		n := 0
		for n < len(data) {
			k, err := s.Read(buf[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		if !bytes.Equal(buf[:n], data) {
			t.Error("the bytes differ")
		}
		a.setOutput(nil)
		c.Abort(nil)
		s.Abort(nil)
		_, _ = c.Close(), s.Close()
	}
}

// slowSum is the checksum of RFC 1071, word by word.
func slowSum(parts ...[]byte) uint16 {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var sum uint32
	for i := 0; i < len(all); i += 2 {
		sum += uint32(all[i])<<8 | uint32(all[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestChecksums(t *testing.T) {
	for i, pkt := range seeds() {
		if !VerifyChecksum(pkt) {
			t.Errorf("seed %d is wrong", i)
		}
		_, info, _ := ts.ParseFlow(pkt)
		upper := pkt[info.HeaderLen:]
		var pseudo []byte
		if info.Proto != ts.ProtoICMP {
			addrs := pkt[12:20]
			if pkt[0]>>4 == 6 {
				addrs = pkt[8:40]
			}
			pseudo = append(append(pseudo, addrs...), 0, info.Proto, byte(len(upper)>>8), byte(len(upper)))
		}
		if s := slowSum(pseudo, upper); s != 0xffff {
			t.Errorf("seed %d: the slow sum is %04x", i, s)
		}
		if pkt[0]>>4 == 4 && slowSum(pkt[:info.HeaderLen]) != 0xffff {
			t.Errorf("seed %d: IPv4 header", i)
		}
		if Sum(upper, 0) != slowSum(upper) {
			t.Errorf("seed %d: Sum", i)
		}
		for bit := range len(pkt) * 8 {
			bad := bytes.Clone(pkt)
			bad[bit/8] ^= 1 << (bit % 8)
			f, bi, ok := ts.ParseFlow(bad)
			if !ok || bi.Fragment || bi.Proto != info.Proto || bi.HeaderLen != info.HeaderLen || f.IsV6() && bit/8 < 8 || f.IsV6() && bit/8 >= 40 && bit/8 < info.HeaderLen {
				continue // not what the sums cover
			}
			if VerifyChecksum(bad) {
				t.Errorf("seed %d: bit %d flipped and not noticed", i, bit)
			}
		}
	}
	none := udpPacket(netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 2), []byte("x"))
	none[26], none[27] = 0, 0
	if !VerifyChecksum(none) {
		t.Error("UDP without a checksum is allowed over IPv4 (RFC 768)")
	}
	none6 := udpPacket(netip.AddrPortFrom(b6, 1), netip.AddrPortFrom(a6, 2), []byte("x"))
	none6[46], none6[47] = 0, 0
	if VerifyChecksum(none6) {
		t.Error("UDP without a checksum is not allowed over IPv6 (RFC 8200, Section 8.1)")
	}
	// A UDP sum of 0 is sent as 0xffff.
	for x := range 65536 {
		p := udpPacket(netip.AddrPortFrom(b4, 1), netip.AddrPortFrom(a4, 2), []byte{byte(x >> 8), byte(x)})
		if s := binary.BigEndian.Uint16(p[26:]); s == 0 {
			t.Fatalf("%04x: checksum 0", x)
		}
	}
}
