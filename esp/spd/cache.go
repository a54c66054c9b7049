package spd

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"

	"github.com/btns-go/btns/esp/ts"
)

// cacheWays is the number of slots a flow may lie in: with four, a cache that is half full
// seldom evicts.
const cacheWays = 4

// Cache remembers one decision per flow and policy epoch in a fixed number of slots. Get takes
// no lock and does not allocate; Put allocates one entry. Old entries are overwritten, so the
// cache may forget, but it never answers for another flow or epoch.
type Cache[D any] struct {
	slots []atomic.Pointer[cacheEntry[D]]
	shift uint
	seed  uint64
}

type cacheEntry[D any] struct {
	flow  ts.Flow
	epoch uint64
	value D
}

// NewCache returns a cache of at least that many slots, rounded up to a power of two and bounded
// by MaxCacheSlots; 0 means DefaultCacheSlots.
func NewCache[D any](slots int) *Cache[D] {
	if slots <= 0 {
		slots = DefaultCacheSlots
	}
	slots = min(max(slots, cacheWays), MaxCacheSlots)
	n := uint(bits.Len(uint(slots - 1)))
	return &Cache[D]{
		slots: make([]atomic.Pointer[cacheEntry[D]], 1<<n),
		shift: 64 - n,
		seed:  rand.Uint64(), // secret, so that no peer can aim at one slot
	}
}

// Get returns what was put for the flow under this epoch.
func (c *Cache[D]) Get(f ts.Flow, epoch uint64) (d D, ok bool) {
	i := c.first(f)
	for w := range uint64(cacheWays) {
		if e := c.slots[i^w].Load(); e != nil && e.flow == f && e.epoch == epoch {
			return e.value, true
		}
	}
	return d, false
}

// Put remembers d for the flow under this epoch, in the place of an entry of the same flow, of
// none, of another epoch, or else of any.
func (c *Cache[D]) Put(f ts.Flow, epoch uint64, d D) {
	i := c.first(f)
	victim := rand.Uint64() % cacheWays
	for w := range uint64(cacheWays) {
		e := c.slots[i^w].Load()
		if e != nil && e.flow == f {
			victim = w
			break
		}
		if e == nil || e.epoch != epoch {
			victim = w
		}
	}
	c.slots[i^victim].Store(&cacheEntry[D]{f, epoch, d})
}

// Delete forgets the flow.
func (c *Cache[D]) Delete(f ts.Flow) {
	i := c.first(f)
	for w := range uint64(cacheWays) {
		if e := c.slots[i^w].Load(); e != nil && e.flow == f {
			c.slots[i^w].CompareAndSwap(e, nil)
		}
	}
}

// Len counts the entries. It is for listings: slow, and a moment old.
func (c *Cache[D]) Len() int {
	n := 0
	for i := range c.slots {
		if c.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

// first returns the flow's first slot; the others differ in the low bits.
func (c *Cache[D]) first(f ts.Flow) uint64 { return f.Hash(c.seed) >> c.shift }
