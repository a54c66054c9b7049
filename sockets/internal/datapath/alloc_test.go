package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// sink is a wire that takes everything, and keeps copies between start and stop.
type sink struct {
	n    int
	keep bool
	sent [][]byte
	done chan struct{}
}

func (s *sink) start() { s.keep, s.sent = true, nil }

func (s *sink) stop() [][]byte {
	s.keep = false
	return s.sent
}

func (s *sink) Receive([]tun.Packet) (int, error) {
	<-s.done
	return 0, errClosed
}

func (s *sink) Send(pkts []tun.Packet) (int, error) {
	s.n += len(pkts)
	for i := range pkts {
		if s.keep {
			s.sent = append(s.sent, append([]byte(nil), pkts[i].Data()...))
		}
	}
	return len(pkts), nil
}

func (s *sink) LocalAddr(netip.Addr) []netip.AddrPort { return nil }
func (s *sink) Caps() tun.Caps                        { return tun.Caps{MTU: 1500, Batch: 64} }
func (s *sink) Stats() tun.Stats                      { return tun.Stats{} }
func (s *sink) Close() error                          { close(s.done); return nil }

// capture returns the next packets that a host's stack emits, held: SYNs and data of TCP, UDP datagrams.
type rig struct {
	*host
	sink *sink
	pkts chan *netstack.Packet
	tags chan *netstack.Tag
}

// newRig returns a host whose stack's packets are caught before the path, which has a child to everywhere.
func newRig(t testing.TB, opt hostOpt) (*rig, *Child) {
	t.Helper()
	r := &rig{sink: &sink{done: make(chan struct{})}, pkts: make(chan *netstack.Packet, 1024), tags: make(chan *netstack.Tag, 1024)}
	w := newWorld()
	cfg := opt.cfg
	opt.cfg = func(c *Config) {
		_ = c.Wire.Close()
		c.Wire = r.sink
		if cfg != nil {
			cfg(c)
		}
	}
	r.host = w.host(t, 1, opt)
	r.path.poison = false
	suite, _ := esp.ParseSuite("aes128gcm16")
	spi, err := r.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	c := &Child{InSPI: spi, Suite: suite, Mode: esp.ModeTunnel, ESN: true, Pair: ts.Pair{Local: r.anyTo().Remote, Remote: r.anyTo().Remote},
		Params: &latch.Params{Peer: "fqdn:moon", Protection: latch.Integrity, Mode: 1, Suite: "aes128gcm16", Replay: true},
		Peer:   &Peer{ID: "moon"}, Path: tun.Path{Local: r.outer, Remote: netip.MustParseAddrPort("192.0.2.9:4500")}}
	key := make(esp.Key, suite.KeyLen())
	if err := r.path.InstallInbound(c, key); err != nil {
		t.Fatal(err)
	}
	if err := r.path.InstallOutbound(c, spi, key); err != nil {
		t.Fatal(err)
	}
	st, err := netstack.New(netstack.Config{
		Addrs: []netip.Prefix{netip.PrefixFrom(r.in4, 24), netip.PrefixFrom(r.in6, 64)},
		Hooks: netstack.Hooks{
			Output: func(tag *netstack.Tag, p *netstack.Packet) {
				r.pkts <- p.Hold()
				r.tags <- tag
			},
			Admit: func(netstack.Inbound) bool { return true },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = st.Close()
		for len(r.pkts) > 0 {
			(<-r.pkts).Release()
		}
	})
	r.catcher = st
	return r, c
}

// datagram makes the stack emit a UDP datagram of n bytes and returns it, with its tag.
func (r *rig) datagram(t testing.TB, v6 bool, n int) (*netstack.Packet, *netstack.Tag) {
	t.Helper()
	s := r.path.NewSocket(SocketConfig{})
	u, err := r.catcher.ListenUDP(s.Tag(), netip.AddrPortFrom(r.addr(v6), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	to := netip.MustParseAddrPort("10.7.0.1:7")
	if v6 {
		to = netip.MustParseAddrPort("[fd77::1]:7")
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 11)
	}
	if _, err := u.WriteMsg(data, to, nil); err != nil {
		t.Fatal(err)
	}
	for {
		<-r.tags
		p := <-r.pkts
		if p.Flow().Dst() == to.Addr() && p.Flow().Proto() == ts.ProtoUDP {
			t.Cleanup(p.Release)
			return p, s.Tag()
		}
		p.Release() // of a connection that is going
	}
}

// super makes the stack emit a TCP packet with much data: a connection is made by hand.
func (r *rig) super(t testing.TB, v6 bool) (*netstack.Packet, *netstack.Tag) {
	t.Helper()
	s := r.path.NewSocket(SocketConfig{Kind: SocketConnected})
	to := netip.MustParseAddrPort("10.7.0.1:80")
	if v6 {
		to = netip.MustParseAddrPort("[fd77::1]:80")
	}
	type res struct {
		c   *netstack.TCPConn
		err error
	}
	ch := make(chan res, 1)
	go func() {
		c, err := r.catcher.DialTCP(within(t, patience), s.Tag(), netip.AddrPort{}, to)
		ch <- res{c, err}
	}()
	next := func() *netstack.Packet {
		for {
			<-r.tags
			p := <-r.pkts
			if p.Flow().Dst() == to.Addr() && p.TCPFlags()&tcpRST == 0 {
				return p
			}
			p.Release()
		}
	}
	syn := next()
	flow := syn.Flow()
	ip, _ := syn.HeaderLens()
	iss := binary.BigEndian.Uint32(syn.Header()[ip+4:])
	syn.Release()
	in := &netstack.Tag{}
	answer := tcpPacket(flow.Reverse(), tcpSYN|tcpACK, 1000, iss+1, nil)
	// Options: MSS 1360 and a window scale, so that one super-packet may leave.
	n := len(answer) - 20
	opts := append(append([]byte{}, answer[n:]...), 2, 4, 0x05, 0x50, 1, 3, 3, 14)
	opts[12] = 7 << 4
	r.catcher.Deliver(in, ipPacket(flow.Reverse(), zeroChecksum(opts)))
	d := <-ch
	if d.err != nil {
		t.Fatal(d.err)
	}
	next().Release() // ACK
	var big *netstack.Packet
	go func() { _, _ = d.c.Write(make([]byte, 1<<20)) }()
	for seq := iss + 1; ; {
		p := next()
		ip, _ := p.HeaderLens()
		end := binary.BigEndian.Uint32(p.Header()[ip+4:]) + uint32(p.PayloadLen())
		if p.PayloadLen() > 60000 {
			big = p
			break
		}
		if p.PayloadLen() > 0 && int32(end-seq) > 0 {
			seq = end
		}
		p.Release()
		r.catcher.Deliver(in, tcpPacket(flow.Reverse(), tcpACK, 1001, seq, nil))
	}
	d.c.Abort(errClosed)
	t.Cleanup(big.Release)
	return big, s.Tag()
}

func zeroChecksum(tcp []byte) []byte { tcp[16], tcp[17] = 0, 0; return tcp }

// TestOutputAllocs: no allocation for a packet that leaves, of any kind.
func TestOutputAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r, _ := newRig(t, hostOpt{})
	for _, v6 := range []bool{false, true} {
		big, bigTag := r.super(t, v6)
		small, smallTag := r.datagram(t, v6, 100)
		frag, fragTag := r.datagram(t, v6, 65507)
		for _, k := range []struct {
			name string
			p    *netstack.Packet
			tag  *netstack.Tag
		}{{"small", small, smallTag}, {"fragments", frag, fragTag}, {"super-packet", big, bigTag}} {
			r.sink.n = 0
			r.path.Output(k.tag, k.p) // decisions and latches are made once
			if r.sink.n == 0 {
				t.Fatalf("%s: nothing was sent: %v", k.name, r.path.Stats().Drops.Map())
			}
			if n := testing.AllocsPerRun(200, func() { r.path.Output(k.tag, k.p) }); n != 0 {
				t.Errorf("v6 %t, %s: %v allocations", v6, k.name, n)
			}
		}
	}
}

// TestInputAllocs: no allocation for packets that arrive, merged or not.
func TestInputAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	delivered := 0
	h, c := newRig(t, hostOpt{cfg: func(c *Config) { c.Deliver = func(*netstack.Tag, ...[]byte) { delivered++ } }})
	r := h.path.newReceiver()
	sa := c.out.Load().sa
	var w esp.Worker
	flow := flowOf(ts.ProtoTCP, "10.7.0.1:80", "10.0.0.1:1000")
	seq := uint32(0)
	fill := func() []tun.Packet {
		for i := range r.pkts {
			b := append(r.bufs[i][:tun.Headroom+32], template...)
			b = b[:len(r.bufs[i])]
			in := b[tun.Headroom+32 : tun.Headroom+32+len(template)]
			binary.BigEndian.PutUint32(in[24:], seq)
			seq += uint32(len(template) - 40)
			k := [1]esp.Packet{{Buf: b, Off: tun.Headroom + 32, Len: len(template), Next: protoIPv4}}
			sa.Seal(&w, k[:])
			r.pkts[i] = tun.Packet{Buf: b, Off: k[0].Off, Len: k[0].Len, Kind: tun.KindESP, Path: c.Path}
		}
		return r.pkts
	}
	template = tcpPacket(flow, tcpACK, 0, 1, make([]byte, 1300))
	c.verify = false
	pre := testing.AllocsPerRun(100, func() { fill() })
	if n := testing.AllocsPerRun(100, func() { r.batch(fill()) }); n != pre {
		t.Errorf("%v allocations for a batch, %v of them the test's", n, pre)
	}
	if delivered == 0 || h.path.Stats().Coalesced == 0 || h.path.Stats().Drops.Total() != 0 {
		t.Errorf("%+v", h.path.Stats())
	}
}

var template []byte
