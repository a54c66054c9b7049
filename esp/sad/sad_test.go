package sad

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sa struct{ spi uint32 }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// script is a random source that gives these SPIs, then fails.
func script(spis ...uint32) io.Reader {
	var b []byte
	for _, s := range spis {
		b = binary.BigEndian.AppendUint32(b, s)
	}
	return bytes.NewReader(b)
}

func TestReserveSkipsWhatIsTaken(t *testing.T) {
	// Reserved numbers, then 500 (installed), 600 (reserved), 700 (quarantined).
	tab := New[sa](script(600, 0, 1, 255, 500, 600, 700, 256))
	if spi, err := tab.Reserve(epoch); spi != 600 || err != nil {
		t.Fatal(spi, err)
	}
	for _, spi := range []uint32{500, 700} {
		if err := tab.Install(spi, &sa{spi}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tab.Remove(700, epoch); got == nil || got.spi != 700 {
		t.Fatal(got)
	}
	if spi, err := tab.Reserve(epoch.Add(Quarantine - 1)); spi != 256 || err != nil {
		t.Errorf("%d, %v: want 256, the first that is free", spi, err)
	}
	if _, err := tab.Reserve(epoch); !errors.Is(err, io.EOF) {
		t.Errorf("random source at its end: %v", err)
	}
	always := New[sa](zeros{})
	if _, err := always.Reserve(epoch); !errors.Is(err, ErrFull) {
		t.Errorf("nothing but SPI 0: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestQuarantine(t *testing.T) {
	tab := New[sa](script(900, 900, 900, 901))
	spi, err := tab.Reserve(epoch)
	if err != nil || spi != 900 {
		t.Fatal(spi, err)
	}
	v := &sa{900}
	if err := tab.Install(900, v); err != nil {
		t.Fatal(err)
	}
	if got := tab.Remove(900, epoch); got != v {
		t.Fatal("removed something else")
	}
	if tab.Lookup(900) != nil || tab.Len() != 0 {
		t.Error("still there")
	}
	if got := tab.Remove(900, epoch); got != nil {
		t.Error("removed twice")
	}
	if err := tab.Install(900, v); !errors.Is(err, ErrQuarantined) {
		t.Errorf("install in quarantine: %v", err)
	}
	if spi, err := tab.Reserve(epoch.Add(Quarantine)); spi != 900 || err != nil {
		t.Errorf("after the quarantine: %d, %v", spi, err)
	}
	// A reservation that came to nothing is quarantined too, a stranger is not.
	tab.Release(900, epoch.Add(Quarantine))
	tab.Release(12345, epoch)
	if spi, err := tab.Reserve(epoch.Add(Quarantine)); spi != 901 || err != nil {
		t.Errorf("%d, %v: want 901", spi, err)
	}
	if err := tab.Install(12345, v); err != nil {
		t.Error(err)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	tab := New[sa](zeros{})
	for k := range maxQuarantined + 1000 {
		spi := uint32(minSPI + k)
		if err := tab.Install(spi, &sa{spi}); err != nil {
			t.Fatal(err)
		}
		tab.Remove(spi, epoch)
	}
	if len(tab.gone) != maxQuarantined || len(tab.queue) != maxQuarantined {
		t.Errorf("%d and %d in quarantine", len(tab.gone), len(tab.queue))
	}
	if n := len(tab.live.Load().slot); n != minSlots {
		t.Errorf("%d slots for nothing", n)
	}
	tab.Release(1, epoch.Add(Quarantine)) // any call sweeps
	if len(tab.gone) != 0 || tab.queue != nil {
		t.Error("quarantine was not swept")
	}
}

func TestCVE_2025_39965_InstallRefuses(t *testing.T) {
	tab := New[sa](zeros{})
	for _, c := range []struct {
		spi  uint32
		v    *sa
		want error
	}{
		{0, &sa{}, ErrReserved}, {255, &sa{}, ErrReserved}, {256, nil, ErrNil},
		{256, &sa{}, nil}, {256, &sa{}, ErrInUse}, {0xffffffff, &sa{}, nil},
	} {
		if err := tab.Install(c.spi, c.v); !errors.Is(err, c.want) {
			t.Errorf("Install(%d): %v, want %v", c.spi, err, c.want)
		}
	}
	if tab.Lookup(0) != nil || tab.Lookup(1) != nil || tab.Len() != 2 {
		t.Error("something got in")
	}
}

// TestModel runs random operations against plain maps.
func TestModel(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 1))
	tab := New[sa](rand.Reader)
	live := map[uint32]*sa{}
	var order []uint32
	gone := map[uint32]time.Time{}
	now := epoch
	for step := range 60_000 {
		now = now.Add(time.Duration(r.IntN(20)) * time.Millisecond)
		switch k := r.IntN(10); {
		case k < 5: // new one: random, handmade in a row, or far apart
			var spi uint32
			switch r.IntN(3) {
			case 0:
				var err error
				if spi, err = tab.Reserve(now); err != nil {
					t.Fatal(err)
				}
			case 1:
				spi = uint32(minSPI + r.IntN(4000))
			default:
				spi = uint32(r.IntN(4000)) << 20
			}
			_, used := live[spi]
			until, quarantined := gone[spi]
			// The table forgets quarantines when it is told the time.
			if quarantined && !until.After(now) {
				tab.Release(0, now)
				quarantined = false
			}
			v := &sa{spi}
			err := tab.Install(spi, v)
			if ok := err == nil; ok != (!used && !quarantined && spi >= minSPI) {
				t.Fatalf("step %d: Install(%#x): %v; used %v, quarantined %v", step, spi, err, used, quarantined)
			} else if ok {
				live[spi] = v
				order = append(order, spi)
				delete(gone, spi)
			}
		case k < 8 && len(order) > 0:
			n := r.IntN(len(order))
			spi := order[n]
			order[n] = order[len(order)-1]
			order = order[:len(order)-1]
			if got := tab.Remove(spi, now); got != live[spi] || got == nil {
				t.Fatalf("step %d: Remove(%#x) = %v", step, spi, got)
			}
			delete(live, spi)
			gone[spi] = now.Add(Quarantine)
		default:
			spi := r.Uint32()
			if len(order) > 0 && r.IntN(2) == 0 {
				spi = order[r.IntN(len(order))]
			}
			if got := tab.Lookup(spi); got != live[spi] {
				t.Fatalf("step %d: Lookup(%#x) = %v, want %v", step, spi, got, live[spi])
			}
		}
	}
	if tab.Len() != len(live) {
		t.Errorf("Len %d, want %d", tab.Len(), len(live))
	}
	got := map[uint32]*sa{}
	tab.Range(func(spi uint32, v *sa) bool {
		got[spi] = v
		return true
	})
	if diff := cmp.Diff(live, got, cmp.Comparer(func(a, b *sa) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	n := 0
	tab.Range(func(uint32, *sa) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("Range went on for %d", n)
	}
}

// TestConcurrent has one SPI set that stays, and writers that churn others through
// many rebuilds, under the race detector. Readers always find what stays, never a
// value under a wrong SPI, and nothing that was removed before they looked.
func TestConcurrent(t *testing.T) {
	tab := New[sa](rand.Reader)
	var stay []uint32
	for range 500 {
		spi, err := tab.Reserve(epoch)
		if err != nil {
			t.Fatal(err)
		}
		if err := tab.Install(spi, &sa{spi}); err != nil {
			t.Fatal(err)
		}
		stay = append(stay, spi)
	}
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	for g := range 3 {
		readers.Go(func() {
			r := mrand.New(mrand.NewPCG(uint64(g), 0))
			for !stop.Load() {
				spi := stay[r.IntN(len(stay))]
				if v := tab.Lookup(spi); v == nil || v.spi != spi {
					t.Errorf("%#x: %v", spi, v)
					return
				}
				spi = uint32(minSPI + r.IntN(1<<16))
				if v := tab.Lookup(spi); v != nil && v.spi != spi {
					t.Errorf("%#x: found %#x", spi, v.spi)
					return
				}
				tab.Range(func(spi uint32, v *sa) bool {
					if v.spi != spi {
						t.Errorf("Range: %#x: found %#x", spi, v.spi)
					}
					return r.IntN(100) != 0
				})
			}
		})
	}
	for g := range 3 {
		writers.Go(func() {
			now := epoch
			for k := range 4000 {
				spi, err := tab.Reserve(now)
				if err != nil {
					t.Error(err)
					return
				}
				if k%10 == 0 {
					tab.Release(spi, now)
					continue
				}
				if err := tab.Install(spi, &sa{spi}); err != nil {
					t.Error(err)
					return
				}
				if v := tab.Lookup(spi); v == nil || v.spi != spi {
					t.Errorf("installed, but not found")
				}
				if k%3 != 0 {
					tab.Remove(spi, now)
					if tab.Lookup(spi) != nil {
						t.Errorf("removed, but found")
					}
				}
				now = now.Add(time.Duration(g) * time.Second)
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if n := len(tab.live.Load().slot); n > 1<<16 {
		t.Errorf("%d slots for %d values", n, tab.Len())
	}
}

// TestLookupAllocs and flatness: what is done per packet.
func TestLookupAllocs(t *testing.T) {
	tab, spis := filled(t, 1000)
	k := 0
	if n := testing.AllocsPerRun(1000, func() {
		if tab.Lookup(spis[k%len(spis)]) == nil {
			t.Error("not found")
		}
		tab.Lookup(7)
		k++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFlat: the number of slots a lookup visits does not grow with the table. The
// time is in BenchmarkLookup: what it grows by is the processor's caches.
func TestFlat(t *testing.T) {
	mean := func(n int) float64 {
		tab, spis := filled(t, n)
		s := tab.live.Load()
		visits := 0
		for _, spi := range spis {
			for i := s.index(spi); ; i++ {
				visits++
				if s.slot[i&(len(s.slot)-1)].spi.Load() == spi {
					break
				}
			}
		}
		return float64(visits) / float64(n)
	}
	// Half full: 1.5 expected by Knuth's formula; the mean of few random SPIs lies further off.
	for n, most := range map[int]float64{100: 2, 1000: 1.8, 100_000: 1.6} {
		if m := mean(n); m > most {
			t.Errorf("%d values: %.2f slots per lookup", n, m)
		}
	}
}

func filled(t testing.TB, n int) (*Table[sa], []uint32) {
	t.Helper()
	tab := New[sa](rand.Reader)
	spis := make([]uint32, n)
	for k := range spis {
		spi, err := tab.Reserve(epoch)
		if err == nil {
			err = tab.Install(spi, &sa{spi})
		}
		if err != nil {
			t.Fatal(err)
		}
		spis[k] = spi
	}
	return tab, spis
}

func BenchmarkLookup(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"100", 100}, {"10k", 10_000}, {"100k", 100_000}} {
		tab, spis := filled(b, c.n)
		mrand.Shuffle(len(spis), func(i, j int) { spis[i], spis[j] = spis[j], spis[i] })
		b.Run("hit/"+c.name, func(b *testing.B) {
			k := 0
			for b.Loop() {
				if tab.Lookup(spis[k]) == nil {
					b.Fatal("not found")
				}
				if k++; k == len(spis) {
					k = 0
				}
			}
		})
		b.Run("miss/"+c.name, func(b *testing.B) {
			spi := uint32(1 << 31)
			for b.Loop() {
				spi = spi*1664525 + 1013904223
				tab.Lookup(spi)
			}
		})
	}
}

func BenchmarkChurn(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"100", 100}, {"100k", 100_000}} {
		tab, _ := filled(b, c.n)
		b.Run(c.name, func(b *testing.B) {
			now := epoch
			for b.Loop() {
				now = now.Add(time.Millisecond)
				spi, err := tab.Reserve(now)
				if err == nil {
					err = tab.Install(spi, &sa{spi})
				}
				if err != nil {
					b.Fatal(err)
				}
				tab.Remove(spi, now)
			}
		})
	}
}
