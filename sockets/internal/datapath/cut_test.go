package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// opened sends a packet under a child of the given mode and inner MTU and returns what its peer finds in the ESP packets.
func (r *rig) opened(t *testing.T, p *netstack.Packet, mode esp.Mode, mtu int) (payloads [][]byte, next uint8) {
	t.Helper()
	suite, _ := esp.ParseSuite("aes128gcm16")
	cfg := esp.Config{SPI: 777, Suite: suite, Key: make(esp.Key, suite.KeyLen()), Mode: mode}
	out, err := esp.NewOutbound(cfg)
	if err != nil {
		t.Fatal(err)
	}
	in, err := esp.NewInbound(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var sent [][]byte
	r.sink.start()
	cut, ok := newCutter(p)
	if !ok {
		t.Fatal("no cutter")
	}
	d := r.path.emit(&outboundSA{child: &Child{}, sa: out, mode: mode}, &cut, &pathState{limit4: mtu, limit6: mtu})
	if d != DropUnset {
		t.Fatalf("emit: %v", d)
	}
	sent = r.sink.stop()
	for _, b := range sent {
		k := []esp.Packet{{Buf: b, Len: len(b)}}
		in.Open(&esp.Worker{}, k)
		if k[0].Drop != esp.Pass {
			t.Fatalf("open: %v", k[0].Drop)
		}
		payloads, next = append(payloads, bytes.Clone(k[0].Payload())), k[0].Next
	}
	return payloads, next
}

// whole gives the packet as the stack meant it, checksums filled in.
func wholePacket(p *netstack.Packet) []byte {
	p.Rewind()
	b := append([]byte(nil), p.Header()...)
	body := make([]byte, p.PayloadLen())
	p.CopyPayload(body)
	b = append(b, body...)
	ip, _ := p.HeaderLens()
	netstack.SetChecksum(b, ip, p.Flow().Proto())
	return b
}

// TestSegments: a super-packet leaves as segments that fit, each with right checksums and lengths, whose bytes are those of
// the super-packet; in tunnel and in transport mode.
func TestSegments(t *testing.T) {
	r, _ := newRig(t, hostOpt{})
	for _, v6 := range []bool{false, true} {
		p, _ := r.super(t, v6)
		want := wholePacket(p)
		ipLen, _ := p.HeaderLens()
		hl := len(p.Header())
		for _, mode := range []esp.Mode{esp.ModeTunnel, esp.ModeTransport} {
			for _, mtu := range []int{576, 1280, 1400, 9000} {
				t.Run(fmt.Sprint(v6, mode, mtu), func(t *testing.T) {
					got, next := r.opened(t, p, mode, mtu)
					var data []byte
					seq := binary.BigEndian.Uint32(want[ipLen+4:])
					for i, b := range got {
						if mode == esp.ModeTransport {
							if next != ts.ProtoTCP {
								t.Fatalf("next header %d", next)
							}
							b = append(bytes.Clone(want[:ipLen]), b...)
							setLength(b, ipLen)
						}
						f, info, ok := ts.ParseFlow(b)
						if !ok || f != p.Flow() || info.TotalLen != len(b) || len(b) > mtu || len(b)-hl > p.MSS() || !netstack.VerifyChecksum(b) {
							t.Fatalf("segment %d: %v, %d bytes, checksum %t", i, f, len(b), netstack.VerifyChecksum(b))
						}
						if s := binary.BigEndian.Uint32(b[ipLen+4:]); s != seq+uint32(len(data)) {
							t.Fatalf("segment %d: sequence %d", i, s)
						}
						if last := i == len(got)-1; b[ipLen+13]&tcpPSH != 0 && !last {
							t.Errorf("segment %d: PSH", i)
						}
						data = append(data, b[hl:]...)
					}
					if !bytes.Equal(data, want[hl:]) {
						t.Error("other bytes")
					}
					if len(got) < 2 {
						t.Errorf("%d segments", len(got))
					}
				})
			}
		}
	}
}

// TestFragments: a datagram that does not fit leaves as fragments which an independent reassembly makes whole.
func TestFragments(t *testing.T) {
	r, _ := newRig(t, hostOpt{})
	for _, v6 := range []bool{false, true} {
		for _, n := range []int{0, 1, 500, 1300, 1372, 1373, 1400, 9000, 65507} {
			p, _ := r.datagram(t, v6, n)
			want := wholePacket(p)
			for _, mtu := range []int{1280, 1400, 9000} {
				got, _ := r.opened(t, p, esp.ModeTunnel, mtu)
				if len(want) <= mtu {
					if len(got) != 1 || !bytes.Equal(got[0], want) {
						t.Fatalf("%d bytes: not as it is", n)
					}
					continue
				}
				ip, hdr := 20, 20
				if v6 {
					ip, hdr = 40, 48
				}
				body := make([]byte, 0, len(want))
				var id uint32
				for i, b := range got {
					_, info, ok := ts.ParseFlow(b)
					if !ok || !info.Fragment || info.FragOffset != len(body) || info.MoreFragments == (i == len(got)-1) || len(b) > mtu ||
						i > 0 && info.FragID != id || i < len(got)-1 && len(b) < mtu-7 {
						t.Fatalf("%d bytes, fragment %d: %+v", n, i, info)
					}
					if !v6 && (info.DF || fold(sum(b[:20], 0)) != 0) {
						t.Fatalf("%d bytes, fragment %d: header %x", n, i, b[:20])
					}
					id = info.FragID
					body = append(body, b[hdr:]...)
				}
				if !bytes.Equal(body, want[ip:]) {
					t.Fatalf("%d bytes: other bytes", n)
				}
			}
		}
	}
}

// TestTooBigForTransport: transport mode has no fragments before ESP; what IP cannot carry is refused.
func TestTooBigForTransport(t *testing.T) {
	r, c := newRig(t, hostOpt{})
	p, _ := r.datagram(t, false, 65507)
	cut, _ := newCutter(p)
	o := *c.out.Load()
	_ = o.spi
	ob := &outboundSA{child: &Child{}, sa: o.sa, mode: esp.ModeTransport}
	if d := r.path.emit(ob, &cut, &pathState{limit4: 1400}); d != DropTooBig {
		t.Errorf("%v", d)
	}
	p, _ = r.datagram(t, false, 60000)
	cut, _ = newCutter(p)
	if d := r.path.emit(ob, &cut, &pathState{limit4: 1400}); d != DropUnset {
		t.Errorf("%v", d)
	}
}

// TestLimit: the largest inner packet fills the outer MTU and does not pass it, for every suite, mode and family.
func TestLimit(t *testing.T) {
	for _, suite := range []string{"aes128gcm16", "chacha20poly1305", "aes256-sha256", "null-sha512"} {
		for _, mode := range []esp.Mode{esp.ModeTunnel, esp.ModeTransport} {
			for _, native := range []bool{false, true} {
				for _, outer := range []string{"192.0.2.1", "2001:db8::1"} {
					s, err := esp.ParseSuite(suite)
					if err != nil {
						t.Fatal(err)
					}
					sa, err := esp.NewOutbound(esp.Config{SPI: 300, Suite: s, Key: make(esp.Key, s.KeyLen()), Mode: mode})
					if err != nil {
						t.Fatal(err)
					}
					for mtu := 1400; mtu < 1520; mtu++ {
						p := &Path{caps: tun.Caps{MTU: mtu}}
						o := &outboundSA{child: &Child{}, sa: sa, mode: mode}
						port := ":4500"
						if native {
							port = ":0"
						}
						if outer[0] == '2' {
							port = "]" + port
						}
						host := map[bool]string{true: "[", false: ""}[outer[0] == '2'] + outer + port
						path := tun.Path{Remote: parseAP(t, host), Local: parseAP(t, host)}
						for _, v6 := range []bool{false, true} {
							inner := p.limit(o, path, v6)
							hdr := 20
							if v6 {
								hdr = 40
							}
							size := func(n int) int {
								if mode == esp.ModeTransport {
									n -= hdr
								}
								n += sa.Overhead(n)
								if !native {
									n += 8
								}
								if path.Remote.Addr().Is4() {
									return n + 20
								}
								return n + 40
							}
							if size(inner) > mtu || size(inner+1) <= mtu {
								t.Fatalf("%s %v native %t %s MTU %d: inner %d is %d, one more %d", suite, mode, native, outer, mtu, inner, size(inner), size(inner+1))
							}
						}
					}
				}
			}
		}
	}
}

// TestChecksum compares the fast sum with one word at a time.
func TestChecksum(t *testing.T) {
	b := make([]byte, 200)
	for i := range b {
		b[i] = byte(i*31 + 7)
	}
	b[0], b[1], b[2], b[3] = 0xff, 0xff, 0xff, 0xff
	for n := range b {
		for at := range 9 {
			if at > n {
				continue
			}
			var slow uint32
			for i := at; i < n; i += 2 {
				w := uint32(b[i]) << 8
				if i+1 < n {
					w |= uint32(b[i+1])
				}
				slow += w
			}
			for slow > 0xffff {
				slow = slow>>16 + slow&0xffff
			}
			if got := fold(sum(b[at:n], 0)); got != ^uint16(slow) && (got != 0 && got != 0xffff || slow != 0 && slow != 0xffff) {
				t.Fatalf("%d..%d: %04x, want %04x", at, n, got, ^uint16(slow))
			}
		}
	}
}

func BenchmarkOutput(b *testing.B) {
	r, _ := newRig(b, hostOpt{})
	big, tag := r.super(b, false)
	small, smallTag := r.datagram(b, false, 1000)
	b.Run("super-packet", func(b *testing.B) {
		b.SetBytes(int64(big.PayloadLen()))
		b.ReportAllocs()
		for b.Loop() {
			r.path.Output(tag, big)
		}
	})
	b.Run("datagram", func(b *testing.B) {
		b.SetBytes(1000)
		b.ReportAllocs()
		for b.Loop() {
			r.path.Output(smallTag, small)
		}
	})
}
