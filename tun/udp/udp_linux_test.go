package udp

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
)

// TestAnswersFromTheAddressAsked sends to several addresses of the loopback network.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	for _, bind := range []netip.AddrPort{{}, netip.AddrPortFrom(netip.IPv4Unspecified(), 0)} {
		a, b := flavour{}.listen(t, bind), flavour{}.listen(t, bind)
		for _, s := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"} {
			at := netip.AddrPortFrom(netip.MustParseAddr(s), a.Caps().Ports[0])
			if _, err := b.Send([]tun.Packet{esp(tun.Path{Remote: at}, 64, 1)}); err != nil {
				t.Fatal(err)
			}
			got := receiveOne(t, a)
			if got.Path.Local != at {
				t.Errorf("sent to %v, Local is %v", at, got.Path.Local)
			}
			if _, err := a.Send([]tun.Packet{esp(got.Path, 64, 1)}); err != nil {
				t.Fatal(err)
			}
			if back := receiveOne(t, b); back.Path.Remote != at {
				t.Errorf("asked %v, answered from %v", at, back.Path.Remote)
			}
		}
	}
}

// TestForeignSource: an address that is not ours is refused, and the packets behind it stay.
func TestForeignSource(t *testing.T) {
	a, b := flavour{}.listen(t), flavour{}.listen(t)
	to := netip.AddrPortFrom(loop4, b.Caps().Ports[0])
	good := esp(tun.Path{Remote: to}, 64, 1)
	bad := esp(tun.Path{Local: netip.MustParseAddrPort("192.0.2.99:0"), Remote: to}, 64, 1)
	n, err := a.Send([]tun.Packet{good, bad, good})
	if n != 1 || err == nil {
		t.Errorf("Send returned %d, %v", n, err)
	}
	receiveOne(t, b)
}

// TestECN: the field crosses in both families, alone and in joined messages.
func TestECN(t *testing.T) {
	for _, f := range flavours()[:2] {
		a, b := f.listen(t), f.listen(t)
		hosts := []netip.Addr{loop4}
		if hasIPv6() {
			hosts = append(hosts, loop6)
		}
		for _, h := range hosts {
			var out []tun.Packet
			for i := range 16 {
				p := esp(tun.Path{Remote: netip.AddrPortFrom(h, b.Caps().Ports[0])}, 200, byte(i))
				p.ECN = uint8(i / 4)
				out = append(out, p)
			}
			if n, err := a.Send(out); n != len(out) {
				t.Fatal(n, err)
			}
			in := tun.NewBatch(64, 0)
			for got := 0; got < len(out); {
				pkts, err := in.Receive(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range pkts {
					if p.ECN != out[got].ECN || p.Data()[9] != out[got].Data()[9] {
						t.Errorf("%s, %v: packet %d has ECN %d, want %d", f.name, h, got, p.ECN, out[got].ECN)
					}
					got++
				}
			}
		}
	}
}

// TestOffloadMix sends what GSO can join and what it cannot, to several ends, and more than
// a Receive has slots for; everything arrives once, in order, and in memory of its own.
func TestOffloadMix(t *testing.T) {
	f := flavour{offload: true}
	a := f.listen(t)
	one, two := f.listen(t), f.listen(t)
	sizes := []int{1400, 1400, 1400, 1400, 90, 1400, 64, 64, 64, 3000, 3000, 200, 1400}
	var out []tun.Packet
	want := map[*Wire][]tun.Packet{}
	for i := range 200 {
		w := one
		if i%50 > 40 {
			w = two
		}
		p := esp(tun.Path{Remote: netip.AddrPortFrom(loop4, w.Caps().Ports[0])}, sizes[i%len(sizes)], byte(i))
		p.Data()[8], p.Data()[9] = byte(i), byte(i>>8)
		if i%23 == 0 {
			p.Kind = tun.KindIKE
		}
		out = append(out, p)
		want[w] = append(want[w], p)
	}
	if n, err := a.Send(out); n != len(out) || err != nil {
		t.Fatal(n, err)
	}
	for w, sent := range want {
		for _, slots := range []struct{ n, size int }{{3, tun.BufSize}, {64, tun.BufSize}, {2, 4096}, {7, tun.BufSize}} {
			in := tun.NewBatch(slots.n, slots.size)
			for range 3 {
				if len(sent) == 0 {
					break
				}
				pkts, err := in.Receive(w)
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range pkts {
					if p.Kind != sent[i].Kind || !bytes.Equal(p.Data(), sent[i].Data()) {
						t.Fatalf("received %v %d bytes, sent %v %d", p.Kind, p.Len, sent[i].Kind, sent[i].Len)
					}
					if cap(p.Buf) != len(p.Buf) {
						t.Error("capacity beyond the packet's memory")
					}
				}
				// Nobody shares a byte.
				for i := range pkts {
					d := pkts[i].Buf
					for j := range d {
						d[j] = byte(i)
					}
				}
				for i := range pkts {
					if d := pkts[i].Data(); d[0] != byte(i) || d[len(d)-1] != byte(i) {
						t.Error("two packets share memory")
					}
				}
				sent = sent[len(pkts):]
			}
		}
		for len(sent) > 0 {
			pkts, err := tun.NewBatch(64, 0).Receive(w)
			if err != nil {
				t.Fatal(err)
			}
			sent = sent[len(pkts):]
		}
	}
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, f := range flavours()[:2] {
		for _, ports := range []int{1, 2} {
			var addrs []netip.AddrPort
			for range ports {
				addrs = append(addrs, netip.AddrPort{})
			}
			a, b := f.listen(t, addrs...), f.listen(t, addrs...)
			var out []tun.Packet
			for i := range 48 {
				path := tun.Path{Remote: netip.AddrPortFrom(loop4, b.Caps().Ports[i%16*(ports-1)/15])}
				path.Local = netip.AddrPortFrom(loop4, a.Caps().Ports[0])
				p := esp(path, 1000, byte(i))
				p.ECN = uint8(i / 20)
				if i%10 == 0 {
					p.Kind = tun.KindIKE
				}
				out = append(out, p)
			}
			in := tun.NewBatch(128, 0)
			got := 0
			n := testing.AllocsPerRun(50, func() {
				if _, err := a.Send(out); err != nil {
					t.Fatal(err)
				}
				for got = 0; got < len(out); {
					pkts, err := in.Receive(b)
					if err != nil {
						t.Fatal(err)
					}
					got += len(pkts)
				}
			})
			if n != 0 {
				t.Errorf("%s, %d ports: %v allocations for %d packets", f.name, ports, n, len(out))
			}
		}
	}
}

// TestDontFragment: with DF nothing larger than the interface's MTU leaves.
func TestDontFragment(t *testing.T) {
	w, err := Listen(Config{DontFragment: true, SocketBuffer: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var v int
	rc, err := w.socks[0].conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := rc.Control(func(fd uintptr) {
		v, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
	})
	if err := errors.Join(cerr, err); err != nil || v != unix.IP_PMTUDISC_PROBE {
		t.Errorf("IP_MTU_DISCOVER is %d, %v", v, err)
	}
	if err := sendError(unix.EMSGSIZE); !errors.Is(err, tun.ErrTooBig) {
		t.Error(err)
	}
}

// FuzzControl: whatever the control messages hold, parsing them ends within their memory.
func FuzzControl(f *testing.F) {
	var c control
	end := c.putSource(0, loop4)
	end = c.putECN(end, true, 3)
	end = c.putSegment(end, 1400)
	f.Add(bytes.Clone(c.bytes()[:end]), end)
	end = c.putSource(0, loop6)
	end = c.putECN(end, false, 2)
	f.Add(bytes.Clone(c.bytes()[:end]), end)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		var c control
		copy(c.bytes(), b)
		r := c.parse(n)
		if r.ecn > 3 || r.local.Is4In6() {
			t.Errorf("%+v", r)
		}
	})
}
