package spd

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

func numbered(i int) ts.Flow {
	return ts.MakeFlow(17, netip.MustParseAddrPort("10.0.0.1:1"),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 2))
}

func TestCache(t *testing.T) {
	c := NewCache[int](1024)
	for i := range 400 {
		c.Put(numbered(i), 7, i)
	}
	kept := 0
	for i := range 400 {
		if d, ok := c.Get(numbered(i), 7); ok {
			kept++
			if d != i {
				t.Fatalf("flow %d has %d", i, d)
			}
		}
		if _, ok := c.Get(numbered(i), 8); ok {
			t.Fatal("an answer under another epoch")
		}
	}
	if kept < 375 || c.Len() != kept {
		t.Errorf("%d of 400 kept in 1,024 slots, Len %d", kept, c.Len())
	}
	c.Put(numbered(1), 8, 100)
	if d, ok := c.Get(numbered(1), 8); !ok || d != 100 {
		t.Error("new epoch")
	}
	if _, ok := c.Get(numbered(1), 7); ok {
		t.Error("the old epoch's entry of one flow stays beside the new")
	}
	c.Delete(numbered(1))
	if _, ok := c.Get(numbered(1), 8); ok {
		t.Error("deleted")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := NewCache[int](100)
	for i := range 10000 {
		c.Put(numbered(i), 1, i)
	}
	if len(c.slots) != 128 || c.Len() > 128 {
		t.Errorf("%d entries in %d slots", c.Len(), len(c.slots))
	}
	if n := len(NewCache[int](0).slots); n != DefaultCacheSlots {
		t.Errorf("default: %d", n)
	}
	if n := len(NewCache[int](1).slots); n != cacheWays {
		t.Errorf("least: %d", n)
	}
	if n := len(NewCache[byte](1 << 30).slots); n != MaxCacheSlots {
		t.Errorf("most: %d", n)
	}
}

// Full caches of every size, the smallest and the absurd ones included: what is replaced is in
// the cache, and what is found is what was put.
func TestCVE_2021_41991_ReplacementInAFullCache(t *testing.T) {
	sizes := []int{math.MinInt, math.MinInt32, -1, math.MaxInt32, math.MaxInt}
	for n := range 70 {
		sizes = append(sizes, n)
	}
	for _, size := range sizes {
		c := NewCache[int](size)
		if n := len(c.slots); n < cacheWays || n > MaxCacheSlots || n&(n-1) != 0 || size > 0 && n < min(size, MaxCacheSlots) {
			t.Fatalf("size %d: %d slots", size, n)
		}
		for i := range 500 {
			c.Put(numbered(i), 1, i)
			if d, ok := c.Get(numbered(i), 1); !ok || d != i {
				t.Fatalf("size %d: flow %d has %d, %v at once", size, i, d, ok)
			}
			if d, ok := c.Get(numbered(i/2), 1); ok && d != i/2 {
				t.Fatalf("size %d: flow %d has %d", size, i/2, d)
			}
		}
		if c.Len() > len(c.slots) {
			t.Errorf("size %d: %d entries in %d slots", size, c.Len(), len(c.slots))
		}
	}
}

func TestADV_P43_CacheNeverMixesEpochs(t *testing.T) {
	// Writers put the epoch as the value; whatever readers get must be of the epoch they asked.
	c := NewCache[uint64](64)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20000 {
				f, epoch := numbered(r.IntN(200)), uint64(1+r.IntN(3))
				if r.IntN(2) == 0 {
					c.Put(f, epoch, epoch)
				} else if d, ok := c.Get(f, epoch); ok && d != epoch {
					t.Errorf("epoch %d answered with %d", epoch, d)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCacheGet(b *testing.B) {
	c := NewCache[int](0)
	for i := range 1000 {
		c.Put(numbered(i), 1, i)
	}
	f := numbered(77)
	b.ReportAllocs()
	for b.Loop() {
		c.Get(f, 1)
	}
}
