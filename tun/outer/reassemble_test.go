package outer

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/tun"
)

func fragmentHeader(id uint32, off int, more bool) *header {
	return &header{
		src: netip.AddrFrom4([4]byte{192, 0, 2, 2}), dst: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
		proto: protoUDP, id: id, offset: off, more: more, fragment: true,
	}
}

// cut divides data into fragments of the given size.
func cut(id uint32, data []byte, size int) (hs []*header, parts [][]byte) {
	for at := 0; at < len(data); at += size {
		end := min(at+size, len(data))
		hs = append(hs, fragmentHeader(id, at, end < len(data)))
		parts = append(parts, data[at:end])
	}
	return hs, parts
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// TestReassemblyOrders: any order, with copies, gives the same whole, and nothing is held after.
func TestReassemblyOrders(t *testing.T) {
	now := time.Unix(1, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		data := pattern(1 + rng.IntN(9000))
		hs, parts := cut(uint32(round), data, 8*(1+rng.IntN(180))+8*(len(data)/(8*maxFragments)))
		order := rng.Perm(len(hs))
		if round%3 == 0 && len(order) > 1 { // a copy of one that is not the last to come
			order = append([]int{order[0]}, order...)
		}
		var s assembler
		for i, k := range order {
			whole, drop := s.add(now, hs[k], parts[k])
			if drop != tun.DropUnset || (whole != nil) != (i == len(order)-1) {
				t.Fatalf("round %d, fragment %d of %d: %v, %v", round, i, len(order), whole, drop)
			}
			if whole == nil {
				continue
			}
			got := make([]byte, whole.size)
			whole.copyTo(got)
			if !bytes.Equal(got, data) || whole.proto != protoUDP {
				t.Fatalf("round %d: wrong whole", round)
			}
		}
		if s.held != 0 || len(s.m) != 0 {
			t.Fatalf("round %d: %d bytes, %d datagrams held", round, s.held, len(s.m))
		}
	}
}

// TestADV_P23_P25_BadFragments: overlaps and contradictions refuse the whole datagram, for good.
func TestADV_P23_P25_BadFragments(t *testing.T) {
	type frag struct {
		off, n int
		more   bool
		fill   byte
	}
	for _, c := range []struct {
		name  string
		frags []frag
	}{
		{"overlap at the end", []frag{{0, 16, true, 1}, {8, 16, true, 2}}},
		{"overlap at the start", []frag{{8, 16, true, 1}, {0, 16, true, 2}}},
		{"inside", []frag{{0, 64, true, 1}, {16, 8, true, 1}}},
		{"around", []frag{{16, 8, true, 1}, {0, 64, true, 1}}},
		{"same place, other content", []frag{{0, 16, true, 1}, {0, 16, true, 2}}},
		{"behind the last", []frag{{16, 8, false, 1}, {32, 8, true, 1}}},
		{"last one before others", []frag{{32, 8, true, 1}, {16, 8, false, 1}}},
		{"two ends", []frag{{16, 8, false, 1}, {24, 8, false, 1}}},
		{"two ends at one place", []frag{{16, 8, false, 1}, {16, 16, false, 1}}},
	} {
		var s assembler
		now := time.Unix(1, 0)
		for i, f := range c.frags {
			whole, drop := s.add(now, fragmentHeader(1, f.off, f.more), bytes.Repeat([]byte{f.fill}, f.n))
			if whole != nil || (drop == tun.DropFragment) != (i == len(c.frags)-1) {
				t.Errorf("%s: fragment %d: %v, %v", c.name, i, whole, drop)
			}
		}
		// What would complete it comes too late.
		hs, parts := cut(1, pattern(40), 8)
		for i := range hs {
			if whole, drop := s.add(now, hs[i], parts[i]); whole != nil || drop != tun.DropFragment {
				t.Errorf("%s: completed after all", c.name)
			}
		}
		if s.held != 0 {
			t.Errorf("%s: %d bytes held", c.name, s.held)
		}
	}
	var s assembler
	for name, c := range map[string]struct {
		h *header
		n int
	}{
		"empty":                 {fragmentHeader(1, 8, false), 0},
		"not a multiple of 8":   {fragmentHeader(1, 0, true), 12},
		"beyond 65535":          {fragmentHeader(1, 65528, false), 8},
		"far beyond 65535":      {fragmentHeader(1, 65528, true), 1480},
		"ends exactly at 65536": {fragmentHeader(1, 65520, false), 16},
	} {
		if whole, drop := s.add(time.Unix(1, 0), c.h, make([]byte, c.n)); whole != nil || drop != tun.DropFragment {
			t.Errorf("%s: %v, %v", name, whole, drop)
		}
	}
	if len(s.m) != 0 {
		t.Error("bad fragments are remembered")
	}
}

// TestReassemblyBounds: a flood of fragments holds what the limits say, and no more.
func TestReassemblyBounds(t *testing.T) {
	now := time.Unix(1, 0)
	var s assembler
	// One source has its share.
	for id := range uint32(100) {
		s.add(now, fragmentHeader(id, 0, true), make([]byte, 8))
	}
	if len(s.m) != maxPerSource {
		t.Errorf("one source holds %d datagrams", len(s.m))
	}
	// Many sources.
	for i := range 10000 {
		h := fragmentHeader(uint32(i), 8*(i%100), true)
		h.src = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		s.add(now, h, make([]byte, 1480))
		if len(s.m) > maxDatagrams || s.held > maxHeld {
			t.Fatalf("%d datagrams, %d bytes", len(s.m), s.held)
		}
	}
	// Many small fragments of one datagram.
	s = assembler{}
	for i := range 1000 {
		s.add(now, fragmentHeader(1, 8*i, true), make([]byte, 8))
		if s.held > maxFragments*(8+fragmentCost) {
			t.Fatalf("%d bytes", s.held)
		}
	}
	// Many large datagrams.
	s = assembler{}
	worst := 0
	for i := range 60 {
		data := pattern(60000)
		hs, parts := cut(uint32(i), data, 1480)
		for k := range hs[:len(hs)-1] {
			hs[k].src = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			s.add(now, hs[k], parts[k])
			worst = max(worst, s.held)
		}
	}
	if worst > maxHeld || worst < maxHeld/2 {
		t.Errorf("held %d of %d bytes", worst, maxHeld)
	}
	// Time gives the room back.
	later := now.Add(fragmentLife)
	if _, drop := s.add(later, fragmentHeader(1, 0, true), make([]byte, 8)); drop != tun.DropReassembly {
		t.Errorf("forgotten in silence: %v", drop)
	}
	if len(s.m) != 1 || s.held != 8+fragmentCost {
		t.Errorf("%d datagrams, %d bytes held", len(s.m), s.held)
	}
	// A late part does not complete what was forgotten.
	hs, parts := cut(9, pattern(16), 8)
	s.add(now, hs[0], parts[0])
	if whole, _ := s.add(later, hs[1], parts[1]); whole != nil {
		t.Error("completed with a part that is too old")
	}
}

// TestReassemblyECN: RFC 3168, Section 5.3.
func TestReassemblyECN(t *testing.T) {
	for _, c := range []struct {
		a, b, want uint8
		ok         bool
	}{
		{0, 0, 0, true}, {2, 2, 2, true}, {1, 1, 1, true}, {3, 3, 3, true},
		{2, 3, 3, true}, {3, 1, 3, true}, {0, 3, 0, false}, {3, 0, 0, false}, {0, 2, 0, true},
	} {
		var s assembler
		hs, parts := cut(1, pattern(16), 8)
		hs[0].ecn, hs[1].ecn = c.a, c.b
		s.add(time.Unix(1, 0), hs[0], parts[0])
		whole, drop := s.add(time.Unix(1, 0), hs[1], parts[1])
		if (whole != nil) != c.ok || !c.ok && drop != tun.DropFragment || c.ok && whole.ecn() != c.want {
			t.Errorf("%d and %d: %v, %v", c.a, c.b, whole, drop)
		}
		if s.held != 0 || len(s.m) != 0 {
			t.Errorf("%d and %d: %d bytes held", c.a, c.b, s.held)
		}
	}
}

// TestSumAgainstSlow compares the checksum with the obvious one.
func TestSumAgainstSlow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
			if n%5 == 0 {
				b[i] = 0xFF
			}
		}
		var slow uint32
		for i, v := range b {
			if i%2 == 0 {
				slow += uint32(v) << 8
			} else {
				slow += uint32(v)
			}
		}
		for slow > 0xFFFF {
			slow = slow>>16 + slow&0xFFFF
		}
		for _, start := range []uint64{0, 0xFFFF, 1<<64 - 1} {
			// 0 and 0xFFFF are both zero in one's complement.
			got, want := fold(sum(start, b))%0xFFFF, uint16((uint64(slow)+start%0xFFFF)%0xFFFF)
			if got != want {
				t.Errorf("%d bytes from %x: %x, want %x", n, start, got, want)
			}
		}
	}
}
