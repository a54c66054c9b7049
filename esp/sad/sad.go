// Package sad is the inbound half of the Security Association Database (RFC 4301,
// Section 4.4.2): a table from SPI to a value, looked up once per packet without a
// lock and without allocation, and the place where SPIs are chosen.
//
// # Use
//
// Reserve draws an SPI, Install puts a value under it, Remove takes the value out
// and keeps the SPI from being drawn again for Quarantine. A reservation that
// comes to nothing ends with Release. Manual SPIs are installed without having
// been reserved.
//
// SPIs are uniformly random, never 0 to 255 (RFC 4303, Section 2.1), so that an
// attacker off the path can't guess one and an old packet doesn't meet a new SA.
//
// # Ownership and concurrency
//
// All methods are safe for concurrent use. Lookup takes no lock: it sees every
// Install and Remove that returned before it began. The value's lifetime is the
// caller's business: a reader may hold it after Remove. Random numbers come from
// the io.Reader given to New, time from the caller.
//
// # Limits
//
// See limits.go. Without removals in between a table with n values takes 32 to 64
// octets for each of them.
//
// # Design notes
//
// Open addressing with linear probing, at most half full: a hit is one cache line
// in most cases, at 100 entries and at 100,000. The key of a slot is written once
// in the life of a slot array and never changes, only its value comes and goes, so
// that a reader needs no version check. Removed slots are swept when the array is
// rebuilt, which the writer pays for: O(1) per Install on average. A hash map
// under a read lock, or sync.Map with its boxed keys, costs more per packet.
package sad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Install and Reserve.
var (
	ErrInUse       = errors.New("sad: SPI is in use")
	ErrQuarantined = errors.New("sad: SPI was in use a moment ago")
	ErrReserved    = errors.New("sad: SPIs 0 to 255 are reserved (RFC 4303, Section 2.1)")
	ErrNil         = errors.New("sad: nil value")
	ErrFull        = errors.New("sad: no free SPI found")
)

// Table maps SPIs to values. Use New.
type Table[T any] struct {
	live atomic.Pointer[slots[T]]

	mu       sync.Mutex
	random   io.Reader
	count    atomic.Int64 // values installed; written under mu
	reserved map[uint32]struct{}
	gone     map[uint32]time.Time // quarantined until
	queue    []departed           // the same, oldest first
}

type departed struct {
	spi   uint32
	until time.Time
}

// slots is one generation of the table. Its length is a power of two.
type slots[T any] struct {
	shift uint8 // 64 - log2(len(slot))
	used  int   // slots with a key, whether or not with a value; under Table.mu
	slot  []slot[T]
}

type slot[T any] struct {
	spi   atomic.Uint32 // 0 = free; written once
	value atomic.Pointer[T]
}

// New returns an empty table that draws SPIs from random, which must be
// unpredictable outside tests.
func New[T any](random io.Reader) *Table[T] {
	t := &Table[T]{random: random, reserved: make(map[uint32]struct{}), gone: make(map[uint32]time.Time)}
	t.live.Store(newSlots[T](minSlots))
	return t
}

func newSlots[T any](n int) *slots[T] {
	return &slots[T]{shift: uint8(64 - bits.Len(uint(n-1))), slot: make([]slot[T], n)}
}

// index spreads SPIs, which may be handmade and so not random at all.
func (s *slots[T]) index(spi uint32) int {
	return int(uint64(spi) * 0x9e3779b97f4a7c15 >> s.shift)
}

// find returns spi's slot, or the free one where it belongs. A slot array is never
// full, so the search ends.
func (s *slots[T]) find(spi uint32) *slot[T] {
	for i := s.index(spi); ; i++ {
		p := &s.slot[i&(len(s.slot)-1)]
		if k := p.spi.Load(); k == spi || k == 0 {
			return p
		}
	}
}

// Lookup returns the value installed under spi, nil if there is none.
func (t *Table[T]) Lookup(spi uint32) *T {
	s := t.live.Load()
	for i := s.index(spi); ; i++ {
		p := &s.slot[i&(len(s.slot)-1)]
		switch p.spi.Load() {
		case 0: // before spi, which may be 0 as well
			return nil
		case spi:
			return p.value.Load()
		}
	}
}

// Reserve draws an SPI that is neither in use, reserved nor quarantined at now, and
// reserves it. It fails if random does, or if it finds none in a bounded number of
// attempts.
func (t *Table[T]) Reserve(now time.Time) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	for range maxDraws {
		var b [4]byte
		if _, err := io.ReadFull(t.random, b[:]); err != nil {
			return 0, fmt.Errorf("sad: random SPI: %w", err)
		}
		spi := binary.BigEndian.Uint32(b[:])
		if spi < minSPI || t.taken(spi) {
			continue
		}
		t.reserved[spi] = struct{}{}
		return spi, nil
	}
	return 0, ErrFull
}

func (t *Table[T]) taken(spi uint32) bool {
	if _, ok := t.reserved[spi]; ok {
		return true
	}
	if _, ok := t.gone[spi]; ok {
		return true
	}
	return t.live.Load().find(spi).value.Load() != nil
}

// Known reports whether an SPI is in use or reserved, or was a moment ago. It takes the
// lock: it is not for each packet.
func (t *Table[T]) Known(spi uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken(spi)
}

// Reserved reports whether an SPI is reserved and not installed. It takes the lock: it is
// not for each packet.
func (t *Table[T]) Reserved(spi uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.reserved[spi]
	return ok
}

// Install puts v under spi and ends the reservation of spi, if there is one. It
// fails, and changes nothing, with ErrReserved, ErrNil, ErrInUse or ErrQuarantined.
func (t *Table[T]) Install(spi uint32, v *T) error {
	if spi < minSPI {
		return ErrReserved
	}
	if v == nil {
		return ErrNil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.gone[spi]; ok {
		return ErrQuarantined
	}
	s := t.live.Load()
	p := s.find(spi)
	if p.value.Load() != nil {
		return ErrInUse
	}
	if p.spi.Load() == 0 {
		if 2*(s.used+1) > len(s.slot) {
			s = t.rebuild(s)
			p = s.find(spi)
		}
		s.used++
	}
	// The value first: who finds the key must find the value.
	p.value.Store(v)
	p.spi.Store(spi)
	t.count.Add(1)
	delete(t.reserved, spi)
	return nil
}

// rebuild copies the values into a new generation with room for as many again, or
// of the same size if removed slots were what filled the old one.
func (t *Table[T]) rebuild(old *slots[T]) *slots[T] {
	n := minSlots
	for n < 4*t.Len() {
		n *= 2
	}
	s := newSlots[T](n)
	for i := range old.slot {
		p := &old.slot[i]
		if v := p.value.Load(); v != nil {
			q := s.find(p.spi.Load())
			q.value.Store(v)
			q.spi.Store(p.spi.Load())
			s.used++
		}
	}
	t.live.Store(s)
	return s
}

// Remove takes the value from under spi, returns it (nil if there was none), and
// quarantines spi from now on.
func (t *Table[T]) Remove(spi uint32, now time.Time) *T {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	p := t.live.Load().find(spi)
	v := p.value.Load()
	if v == nil {
		return nil
	}
	p.value.Store(nil)
	t.count.Add(-1)
	t.quarantine(spi, now)
	return v
}

// Release ends a reservation that was not installed. The peer may have heard of
// the SPI, so it is quarantined as well. It does nothing if spi is not reserved.
func (t *Table[T]) Release(spi uint32, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	if _, ok := t.reserved[spi]; ok {
		delete(t.reserved, spi)
		t.quarantine(spi, now)
	}
}

func (t *Table[T]) quarantine(spi uint32, now time.Time) {
	until := now.Add(Quarantine)
	t.gone[spi] = until
	t.queue = append(t.queue, departed{spi, until})
	if len(t.queue) > maxQuarantined {
		t.forget()
	}
}

// sweep ends the quarantines that are over.
func (t *Table[T]) sweep(now time.Time) {
	for len(t.queue) > 0 && !t.queue[0].until.After(now) {
		t.forget()
	}
	if len(t.queue) == 0 {
		t.queue = nil
	}
}

func (t *Table[T]) forget() {
	delete(t.gone, t.queue[0].spi)
	t.queue = t.queue[1:]
}

// Len returns the number of values installed.
func (t *Table[T]) Len() int { return int(t.count.Load()) }

// Range calls f for the values installed, in no order, until it returns false. It
// takes no lock: what is installed or removed meanwhile may be missed or seen.
func (t *Table[T]) Range(f func(spi uint32, v *T) bool) {
	s := t.live.Load()
	for i := range s.slot {
		p := &s.slot[i]
		spi, v := p.spi.Load(), p.value.Load()
		if spi != 0 && v != nil && !f(spi, v) {
			return
		}
	}
}
