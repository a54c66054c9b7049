package replay

import (
	"math"
	"math/rand/v2"
	"testing"
)

func mustNew(t testing.TB, size int) *Window {
	t.Helper()
	w, err := New(size)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCVE_2017_7184_Sizes(t *testing.T) {
	for _, size := range []int{-64, -1, 1, 32, 63, 65, 4095, 4097, 4160, math.MaxInt} {
		if _, err := New(size); err == nil {
			t.Errorf("New(%d): no error", size)
		}
	}
	for size := MinSize; size <= MaxSize; size += wordBits {
		if w := mustNew(t, size); w.Size() != size {
			t.Errorf("New(%d).Size() = %d", size, w.Size())
		}
	}
	if w := mustNew(t, 0); w.Size() != DefaultSize {
		t.Errorf("New(0).Size() = %d", w.Size())
	}
}

// slowWindow is the definition: every number seen, and where the window ends.
type slowWindow struct {
	size uint64
	top  uint64
	seen map[uint64]bool
}

func (s *slowWindow) check(seq uint64) bool {
	return seq != 0 && !s.seen[seq] && (seq > s.top || s.top-seq < s.size)
}

func (s *slowWindow) commit(seq uint64) bool {
	if !s.check(seq) {
		return false
	}
	s.seen[seq] = true
	s.top = max(s.top, seq)
	return true
}

// step runs one number through both and compares everything observable.
func step(t *testing.T, w *Window, slow *slowWindow, snap *Snapshot, seq uint64) {
	t.Helper()
	want := slow.check(seq)
	w.Snapshot(snap)
	if got := w.Check(seq); got != want {
		t.Fatalf("size %d, top %d: Check(%d) = %v, want %v", w.size, w.top, seq, got, want)
	}
	if got := snap.Check(seq); got != want {
		t.Fatalf("size %d, top %d: Snapshot.Check(%d) = %v, want %v", w.size, w.top, seq, got, want)
	}
	if got, want := w.Old(seq), seq == 0 || seq <= slow.top && slow.top-seq >= slow.size; got != want {
		t.Fatalf("size %d, top %d: Old(%d) = %v", w.size, w.top, seq, got)
	}
	if want && seq != 0 && seq-min(seq, slow.top) < 1<<31 {
		if got := w.Infer(uint32(seq)); got != seq {
			t.Fatalf("size %d, top %d: Infer(low of %d) = %d", w.size, w.top, seq, got)
		}
	}
	if got := w.Commit(seq); got != slow.commit(seq) {
		t.Fatalf("size %d, top %d: Commit(%d) = %v", w.size, w.top, seq, got)
	}
	if w.Top() != slow.top {
		t.Fatalf("size %d: top %d, want %d", w.size, w.top, slow.top)
	}
}

// TestADV_P1_ModelWindow compares the window with a map of all numbers seen.
func TestADV_P1_ModelWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var snap Snapshot
	for _, size := range []int{64, 128, 192, 1024, 1088, 4096} {
		for _, start := range []uint64{1, 1<<32 - 3000, 1<<33 - 1, 1 << 48} {
			w := mustNew(t, size)
			slow := &slowWindow{size: uint64(size), seen: map[uint64]bool{}}
			next := start
			for range 20_000 {
				var seq uint64
				switch r := rng.IntN(100); {
				case r < 60: // in order, with losses
					next += uint64(1 + rng.IntN(3))
					seq = next
				case r < 90: // late, around the window
					seq = next - min(next, uint64(rng.IntN(2*size)))
				case r < 95: // a copy of something recent
					seq = next - min(next, uint64(rng.IntN(8)))
				case r < 98: // jumps by words
					next += uint64(rng.IntN(3 * size))
					seq = next
				default: // exactly at an edge
					seq = next - min(next, uint64(size)-uint64(rng.IntN(3))+1)
				}
				step(t, w, slow, &snap, seq)
			}
		}
	}
}

// TestADV_P2_Edges walks both edges for every kind of size.
func TestADV_P2_Edges(t *testing.T) {
	for size := MinSize; size <= MaxSize; size += wordBits {
		for _, top := range []uint64{uint64(size), uint64(size) + 1, 1 << 20, 1<<32 + 5, math.MaxUint64} {
			w := mustNew(t, size)
			if !w.Commit(top) {
				t.Fatal("top refused")
			}
			left := top - uint64(size) + 1
			for _, c := range []struct {
				seq uint64
				ok  bool
			}{{left - 1, false}, {left, left != 0}, {left + 1, true}, {top - 1, true}, {top, false}} {
				if got := w.Check(c.seq); got != c.ok {
					t.Errorf("size %d, top %d: Check(%d) = %v", size, top, c.seq, got)
				}
				if got := w.Commit(c.seq); got != c.ok {
					t.Errorf("size %d, top %d: Commit(%d) = %v", size, top, c.seq, got)
				}
				if w.Commit(c.seq) {
					t.Errorf("size %d, top %d: %d committed twice", size, top, c.seq)
				}
			}
		}
	}
}

// TestADV_P3_CheckChangesNothing: a forged number far ahead is checked, never
// committed, and leaves the window as it was.
func TestADV_P3_CheckChangesNothing(t *testing.T) {
	w := mustNew(t, 64)
	w.Commit(10)
	before := append([]uint64(nil), w.ring...)
	for _, seq := range []uint64{10 + 1<<31, 1 << 40, math.MaxUint64, 0, 10, 9} {
		w.Check(seq)
		w.Infer(uint32(seq))
	}
	if w.Top() != 10 {
		t.Errorf("top %d", w.Top())
	}
	for i := range before {
		if w.ring[i] != before[i] {
			t.Error("ring changed")
		}
	}
}

// rfcInfer is the pseudo-code of RFC 4303, Appendix A2.3, which leaves the start
// open: below the first full window the high half can only be 0.
func rfcInfer(top, size uint64, low uint32) uint64 {
	tl, th := uint32(top), top>>32
	if tl >= uint32(size)-1 { // Case A
		if low >= tl-uint32(size)+1 {
			return th<<32 | uint64(low)
		}
		return (th+1)<<32 | uint64(low)
	}
	if th > 0 && low >= tl-uint32(size)+1 { // Case B
		return (th-1)<<32 | uint64(low)
	}
	return th<<32 | uint64(low)
}

func TestADV_P14_InferRFC4303A2(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{64, 1024, 4096} {
		w := mustNew(t, size)
		for range 200_000 {
			// Around multiples of 2^32, and anywhere.
			w.top = uint64(rng.IntN(4))<<32 + uint64(rng.IntN(4*size))
			if w.top >= uint64(2*size) && rng.IntN(2) == 0 {
				w.top -= uint64(2 * size)
			}
			low := uint32(w.top) + uint32(rng.IntN(4*size)) - uint32(2*size)
			if rng.IntN(4) == 0 {
				low = rng.Uint32()
			}
			if got, want := w.Infer(low), rfcInfer(w.top, uint64(size), low); got != want {
				t.Fatalf("size %d, top %#x, low %#x: %#x, want %#x", size, w.top, low, got, want)
			}
		}
	}
}

// TestADV_P14_Rollover loses 0, 1 and window-1 packets across 2^32 and then
// reorders across it.
func TestADV_P14_Rollover(t *testing.T) {
	const size = 128
	for _, lost := range []uint64{0, 1, size - 1, size, 5 * size} {
		w := mustNew(t, size)
		last := uint64(1<<32 - 2)
		for seq := last - 2*size; seq <= last; seq++ {
			if got := w.Infer(uint32(seq)); got != seq || !w.Commit(seq) {
				t.Fatalf("lost %d: %#x inferred as %#x", lost, seq, got)
			}
		}
		ahead := last + 1 + lost
		if got := w.Infer(uint32(ahead)); got != ahead || !w.Commit(ahead) {
			t.Fatalf("lost %d: %#x inferred as %#x", lost, ahead, got)
		}
		// What was lost arrives late, newest first.
		for seq := ahead - 1; seq > last; seq-- {
			ok := ahead-seq < size
			if got := w.Infer(uint32(seq)); (got == seq) != ok {
				t.Fatalf("lost %d: %#x inferred as %#x", lost, seq, got)
			}
			if got := w.Commit(seq); got != ok {
				t.Fatalf("lost %d: Commit(%#x) = %v", lost, seq, got)
			}
		}
	}
}

// TestADV_P15_LossBeyond32Bits documents the limit: after 2^32 losses the number
// is inferred one cycle too low, so the packet can't authenticate; nothing that
// was committed is ever accepted again.
func TestADV_P15_LossBeyond32Bits(t *testing.T) {
	w := mustNew(t, 64)
	for seq := uint64(1); seq <= 100; seq++ {
		w.Commit(seq)
	}
	far := uint64(100 + 1<<32)
	if got := w.Infer(uint32(far)); got == far || w.Check(got) {
		t.Errorf("inferred %#x, accepted %v", got, w.Check(got))
	}
	for seq := uint64(1); seq <= 100; seq++ {
		if got := w.Infer(uint32(seq)); got == seq && w.Check(got) {
			t.Errorf("%d would be accepted again", seq)
		}
	}
}

func TestADV_P16_EndOfCounter(t *testing.T) {
	w := mustNew(t, 64)
	w.Commit(math.MaxUint64)
	if w.Commit(math.MaxUint64) || w.Check(0) || w.Commit(0) {
		t.Error("accepted twice, or wrapped")
	}
	if got := w.Infer(5); got != 0 {
		t.Errorf("Infer beyond 2^64 = %d, want 0", got)
	}
	if got := w.Infer(math.MaxUint32); got != math.MaxUint64 {
		t.Errorf("Infer = %#x", got)
	}
}

func TestAllocs(t *testing.T) {
	w := mustNew(t, 4096)
	var snap Snapshot
	seq := uint64(0)
	if n := testing.AllocsPerRun(100, func() {
		seq += 700
		w.Snapshot(&snap)
		if snap.Check(w.Infer(uint32(seq))) {
			w.Commit(seq)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzModel feeds numbers made of the input to the window and the model.
func FuzzModel(f *testing.F) {
	f.Add(uint8(0), uint64(0), []byte{0, 1, 2, 3, 0xff, 0x80})
	f.Add(uint8(63), uint64(1<<32-10), []byte{1, 1, 1, 0x81, 0xc0, 0x7f, 0, 0})
	f.Fuzz(func(t *testing.T, words uint8, start uint64, moves []byte) {
		size := MinSize * (1 + int(words)%(MaxSize/MinSize))
		w := mustNew(t, size)
		slow := &slowWindow{size: uint64(size), seen: map[uint64]bool{}}
		var snap Snapshot
		at := start
		for _, m := range moves {
			d := uint64(m & 0x3f)
			if m&0x40 != 0 {
				d *= uint64(size) / 8
			}
			if m&0x80 != 0 {
				at -= min(d, at)
			} else {
				at += min(d, math.MaxUint64-at)
			}
			step(t, w, slow, &snap, at)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	w := mustNew(b, 1024)
	seq := uint64(0)
	for b.Loop() {
		seq++
		if w.Check(seq) {
			w.Commit(seq)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	w := mustNew(b, 1024)
	var s Snapshot
	for b.Loop() {
		w.Snapshot(&s)
	}
}
