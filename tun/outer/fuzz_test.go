package outer

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/btns-go/btns/tun"
)

// A sink is a device that gives nothing and forgets what it gets, and checks it.
type sink struct{ tb testing.TB }

func (s sink) Read([][]byte, []int, int) (int, error) { return 0, nil }
func (s sink) MTU() (int, error)                      { return 1500, nil }
func (s sink) BatchSize() int                         { return 1 }
func (s sink) Close() error                           { return nil }
func (s sink) Write(bufs [][]byte, off int) (int, error) {
	for _, b := range bufs {
		if cap(b) != len(b) {
			s.tb.Error("the device may append to a packet")
		}
		if _, drop := parse(b[off:]); drop != tun.DropUnset || len(b)-off > 1500 {
			s.tb.Errorf("sent %d bytes that do not parse: %v", len(b)-off, drop)
		}
	}
	return len(bufs), nil
}

var (
	fuzz4 = netip.MustParsePrefix("192.0.2.1/24")
	fuzz6 = netip.MustParsePrefix("2001:db8::1/64")
	far4  = netip.MustParseAddr("192.0.2.2")
	far6  = netip.MustParseAddr("2001:db8::2")
)

func newSink(tb testing.TB) *Wire {
	w, err := New(sink{tb}, Config{Addrs: []netip.Prefix{fuzz4, fuzz6}, OnTooBig: func(TooBig) {}})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// seeds are packets made by the serializer.
func seeds(f *testing.F) {
	var all [][]byte
	add := func(b []byte) { all = append(all, b); f.Add(b, []byte{}) }
	esp := []byte{1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9}
	ip4 := func(proto uint8, frag uint16, body []byte) []byte {
		b := make([]byte, ip4Len)
		put4(b, far4, fuzz4.Addr(), proto, 2, len(body), 7, frag)
		return append(b, body...)
	}
	ip6 := func(next uint8, body []byte) []byte {
		b := make([]byte, ip6Len)
		put6(b, far6, fuzz6.Addr(), next, 1, len(body))
		return append(b, body...)
	}
	udp := func(ports uint16, body []byte) []byte {
		hi, lo := byte(ports>>8), byte(ports)
		return append([]byte{hi, lo, hi, lo, 0, byte(8 + len(body)), 0, 0}, body...)
	}
	add(ip4(protoESP, 0, esp))
	add(ip6(protoESP, esp))
	add(ip4(protoUDP, 0, udp(4500, esp)))
	add(ip4(protoUDP, 0, udp(4500, append(make([]byte, 4), make([]byte, 28)...))))
	add(ip4(protoUDP, 0, udp(500, make([]byte, 28))))
	add(ip4(protoUDP, 0, udp(4500, []byte{0xFF})))
	add(ip6(protoOptions, append([]byte{50, 0, 1, 4, 0, 0, 0, 0}, esp...)))
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1, 'p', 'i', 'n', 'g'}
	c := ^fold(sum(0, echo))
	echo[2], echo[3] = byte(c>>8), byte(c)
	add(ip4(protoICMP, 0, echo))
	// Two fragments each.
	f.Add(ip4(protoESP, 0x2000, esp[:8]), ip4(protoESP, 1, esp[8:]))
	f.Add(ip6(protoFragment, append([]byte{50, 0, 0, 1, 0, 0, 0, 7}, esp[:8]...)),
		ip6(protoFragment, append([]byte{50, 0, 0, 8, 0, 0, 0, 7}, esp[8:]...)))
}

// FuzzAccept: no packet harms, and what is accepted is inside the buffer and from an address
// that may be a peer's. It takes two, since fragments come in twos.
func FuzzAccept(f *testing.F) {
	seeds(f)
	w := newSink(f)
	const guard = 64
	buf := make([]byte, tun.BufSize+guard)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		w.in.parts = assembler{}
		for _, raw := range [][]byte{one, two} {
			if len(raw) > tun.MaxPacket {
				return
			}
			for _, direct := range []bool{true, false} {
				for i := tun.BufSize; i < len(buf); i++ {
					buf[i] = 0xDB
				}
				p := tun.Packet{Buf: buf[:tun.BufSize:tun.BufSize]}
				in, base := bytes.Clone(raw), -1
				if direct {
					in, base = p.Buf[tun.Headroom:tun.Headroom+len(raw)], tun.Headroom
					copy(in, raw)
				}
				ok := w.accept(&p, in, base)
				for _, v := range buf[tun.BufSize:] {
					if v != 0xDB {
						t.Fatal("wrote behind the buffer")
					}
				}
				if !ok {
					continue
				}
				if p.Len < 8 || p.Data() == nil || p.Off < tun.Headroom || p.ECN > 3 {
					t.Fatalf("accepted %d bytes at %d", p.Len, p.Off)
				}
				if p.Kind != tun.KindESP && (p.Kind != tun.KindIKE || p.Path.Native()) {
					t.Fatalf("accepted %v", p.Kind)
				}
				if !p.Path.Plausible() || !w.own(p.Path.Local.Addr()) || w.own(p.Path.Remote.Addr()) {
					t.Fatalf("accepted %v", p.Path)
				}
			}
			if w.in.parts.held > maxHeld {
				t.Fatal("holds too much")
			}
		}
	})
}

// TestHotPathAllocs: neither direction allocates.
func TestHotPathAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newSink(t)
	buf := make([]byte, tun.BufSize)
	for _, remote := range []netip.Addr{far4, far6} {
		for _, port := range []uint16{0, 500, 4500} {
			p := tun.Packet{Buf: buf, Off: tun.Headroom, Len: 1400, Kind: tun.KindESP}
			p.Path.Remote = netip.AddrPortFrom(remote, port)
			if port == 500 {
				p.Kind = tun.KindIKE
			}
			pkts := []tun.Packet{p}
			if n := testing.AllocsPerRun(100, func() {
				if _, err := w.Send(pkts); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("Send to %v, port %d: %v allocations", remote, port, n)
			}
			// What was sent, turned around, is what the wire receives.
			head := ip6Len
			if remote.Is4() {
				head = ip4Len
			}
			if port != 0 {
				head += udpLen
			}
			raw := bytes.Clone(buf[tun.Headroom-head : tun.Headroom+1400])
			turn(raw)
			if n := testing.AllocsPerRun(100, func() {
				q := tun.Packet{Buf: buf}
				in := buf[tun.Headroom : tun.Headroom+copy(buf[tun.Headroom:], raw)]
				if !w.accept(&q, in, tun.Headroom) {
					t.Fatal("not accepted")
				}
			}); n != 0 {
				t.Errorf("accept from %v, port %d: %v allocations", remote, port, n)
			}
		}
	}
}

// turn exchanges the addresses of a packet; checksums stay right.
func turn(b []byte) {
	at, n := 12, 4
	if b[0]>>4 == 6 {
		at, n = 8, 16
	}
	src := bytes.Clone(b[at : at+n])
	copy(b[at:], b[at+n:at+2*n])
	copy(b[at+n:], src)
}

func BenchmarkOuter(b *testing.B) {
	w := newSink(b)
	buf := make([]byte, tun.BufSize)
	for _, c := range []struct {
		name string
		kind tun.Kind
		port uint16
	}{{"esp", tun.KindESP, 0}, {"esp-in-udp", tun.KindESP, 4500}, {"ike", tun.KindIKE, 4500}} {
		b.Run(c.name, func(b *testing.B) {
			p := tun.Packet{Buf: buf, Off: tun.Headroom, Len: 1400, Kind: c.kind}
			p.Path.Remote = netip.AddrPortFrom(far4, c.port)
			pkts := []tun.Packet{p}
			b.SetBytes(1400)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Send(pkts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
