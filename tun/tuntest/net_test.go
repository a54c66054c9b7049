package tuntest_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA  = netip.MustParseAddrPort("192.0.2.1:4500")
	addrB  = netip.MustParseAddrPort("192.0.2.2:4500")
	addrA6 = netip.MustParseAddrPort("[2001:db8::1]:500")
	addrB6 = netip.MustParseAddrPort("[2001:db8::2]:500")
)

func TestNetConformance(t *testing.T) {
	listen := func(native bool, a, b netip.AddrPort) (tun.Wire, tun.Wire, tun.Path, error) {
		n := tuntest.NewNet(tuntest.Faults{})
		mk := n.Listen
		if native {
			mk = n.ListenNative
		}
		wa, err := mk(a)
		if err != nil {
			return nil, nil, tun.Path{}, err
		}
		wb, err := mk(b)
		path := tun.Path{Local: a, Remote: b}
		if native {
			path = tun.Path{Remote: netip.AddrPortFrom(b.Addr(), 0)}
		}
		return tuntest.Poison(wa), tuntest.Poison(wb), path, err
	}
	for _, o := range []struct {
		name string
		open tuntest.Opener
	}{
		{"udp", func() (tun.Wire, tun.Wire, tun.Path, error) { return listen(false, addrA, addrB) }},
		{"port500", func() (tun.Wire, tun.Wire, tun.Path, error) { return listen(false, addrA6, addrB6) }},
		{"native", func() (tun.Wire, tun.Wire, tun.Path, error) { return listen(true, addrA, addrB) }},
	} {
		for _, c := range tuntest.Conformance() {
			t.Run(o.name+"/"+c.Name, func(t *testing.T) {
				if err := c.Run(o.open); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func esp(path tun.Path, data ...byte) tun.Packet {
	b := append([]byte{9, 9, 9, 9, 0, 0, 0, 1}, data...)
	return tun.Packet{Buf: b, Len: len(b), Path: path, Kind: tun.KindESP}
}

// run sends count numbered packets from a to b and returns the numbers as they arrived.
func run(t *testing.T, f tuntest.Faults, count int) (got []byte, took time.Duration) {
	t.Helper()
	n := tuntest.NewNet(f)
	a, err := n.Listen(addrA)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Listen(addrB)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pkts := make([]tun.Packet, 8)
		for i := range pkts {
			pkts[i].Buf = make([]byte, 256)
		}
		for {
			k, err := b.Receive(pkts)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			for _, p := range pkts[:k] {
				got = append(got, p.Data()[8])
			}
			took = time.Since(start)
		}
	}()
	for i := range count {
		if _, err := a.Send([]tun.Packet{esp(tun.Path{Remote: addrB}, byte(i))}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Minute) // virtual
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	<-done
	return got, took
}

func TestFaults(t *testing.T) {
	const count = 200
	all := make([]byte, count)
	for i := range all {
		all[i] = byte(i)
	}
	sorted := func(b []byte) []byte {
		seen := make([]int, 256)
		for _, v := range b {
			seen[v]++
		}
		var out []byte
		for v, n := range seen {
			for range n {
				out = append(out, byte(v))
			}
		}
		return out
	}
	for _, c := range []struct {
		name  string
		f     tuntest.Faults
		check func(t *testing.T, got []byte, took time.Duration)
	}{
		{"none", tuntest.Faults{}, func(t *testing.T, got []byte, took time.Duration) {
			if !bytes.Equal(got, all) || took != 0 {
				t.Errorf("took %v: %v", took, got)
			}
		}},
		{"drop", tuntest.Faults{Seed: 1, Drop: 0.5}, func(t *testing.T, got []byte, _ time.Duration) {
			if len(got) < 60 || len(got) > 140 || !bytes.Equal(got, sorted(got)) {
				t.Errorf("%d: %v", len(got), got)
			}
		}},
		{"all dropped", tuntest.Faults{Drop: 1}, func(t *testing.T, got []byte, _ time.Duration) {
			if len(got) != 0 {
				t.Errorf("%v", got)
			}
		}},
		{"duplicate", tuntest.Faults{Duplicate: 1}, func(t *testing.T, got []byte, _ time.Duration) {
			if len(got) != 2*count || !bytes.Equal(got, sorted(got)) {
				t.Errorf("%d: %v", len(got), got)
			}
		}},
		{"delay", tuntest.Faults{Delay: 30 * time.Millisecond}, func(t *testing.T, got []byte, took time.Duration) {
			if !bytes.Equal(got, all) || took != 30*time.Millisecond {
				t.Errorf("took %v: %v", took, got)
			}
		}},
		{"jitter", tuntest.Faults{Seed: 2, Jitter: 30 * time.Millisecond}, func(t *testing.T, got []byte, _ time.Duration) {
			if bytes.Equal(got, all) || !bytes.Equal(sorted(got), all) {
				t.Errorf("%v", got)
			}
		}},
		{"reorder", tuntest.Faults{Seed: 3, Reorder: 0.3}, func(t *testing.T, got []byte, _ time.Duration) {
			if bytes.Equal(got, all) || !bytes.Equal(sorted(got), all) {
				t.Errorf("%v", got)
			}
		}},
		{"reorder all", tuntest.Faults{Reorder: 1}, func(t *testing.T, got []byte, _ time.Duration) {
			if !bytes.Equal(sorted(got), all) {
				t.Errorf("%v", got)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, took := run(t, c.f, count)
				c.check(t, got, took)
				again, _ := run(t, c.f, count)
				if !bytes.Equal(got, again) {
					t.Error("the same seed did something else")
				}
			})
		})
	}
}

func TestCorruptAndMark(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{Seed: 4, Corrupt: 1, MarkCE: 1})
	a, _ := n.Listen(addrA)
	b, _ := n.Listen(addrB)
	p := esp(tun.Path{Remote: addrB}, make([]byte, 100)...)
	p.ECN = tun.ECNECT0
	if _, err := a.Send([]tun.Packet{p}); err != nil {
		t.Fatal(err)
	}
	got := []tun.Packet{{Buf: make([]byte, 1024)}}
	if _, err := b.Receive(got); err != nil {
		t.Fatal(err)
	}
	bits := 0
	for i, v := range got[0].Data() {
		for d := v ^ p.Data()[i]; d != 0; d &= d - 1 {
			bits++
		}
	}
	if bits != 1 || got[0].ECN != tun.ECNCE {
		t.Errorf("%d bits flipped, ECN %d", bits, got[0].ECN)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// TestQueueBounded: a wire that nobody reads holds no more than its bound.
func TestQueueBounded(t *testing.T) {
	a, b := tuntest.Pair()
	pkts := make([]tun.Packet, 64)
	for i := range pkts {
		pkts[i] = esp(tun.Path{Remote: addrB}, byte(i))
	}
	for range 100 {
		if _, err := a.Send(pkts); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Stats(); s.Drops[tun.DropQueue] != 6400-4096 {
		t.Errorf("dropped %d", s.Drops[tun.DropQueue])
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	if _, err := n.Listen(); err == nil {
		t.Error("no address accepted")
	}
	if _, err := n.Listen(netip.MustParseAddrPort("0.0.0.0:1")); err == nil {
		t.Error("unspecified address accepted")
	}
	a, err := n.Listen(addrA)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(addrA); err == nil {
		t.Error("address given twice")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := n.Listen(addrA); err != nil {
		t.Errorf("address not free after Close: %v", err)
	}
}
