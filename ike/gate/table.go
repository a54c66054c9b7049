package gate

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

// core is a Gate's state.
type core struct {
	cookies  cookieJar
	initRate bucket
	answers  answerLimit
	reply    []byte
	stats    Stats

	byKey     map[Key]int32 // IKE SAs by our SPI; the value is a slot, or none
	byInit    map[initKey]int32
	perAddr   map[netip.Addr]int32
	perPrefix map[netip.Prefix]int32

	slots   []slot
	free    int32
	queued  int  // see Queued
	waiting list // half-open SAs, oldest first
	recent  list // established ones whose request is remembered, oldest first
}

// none is the index of no slot.
const none int32 = -1

// initKey finds the SAs that one initiator SPI of one remote opened. Several may share it
// (RFC 7296, Section 2.1: same SPI and address but other nonce or port is another SA).
type initKey struct {
	spii   uint64
	remote netip.AddrPort
}

// ticket is what a NewResponder verdict remembers of its request until Open.
type ticket struct {
	path   Path
	spii   uint64
	digest [32]byte
	hashed bool
}

// fill completes the digest, which Classify computes only where it needs it.
func (t *ticket) fill(b []byte) {
	if !t.hashed {
		t.digest, t.hashed = sha256.Sum256(b), true
	}
}

// slot remembers the request that opened a responder's SA.
type slot struct {
	key        Key
	from       initKey
	digest     [32]byte
	at         time.Time // opened, or established if done
	done       bool
	sameInit   int32 // next slot under the same initKey
	prev, next int32 // neighbours in the waiting or recent list; next also chains free slots
}

// list is a doubly linked list of slots.
type list struct {
	head, tail int32
	n          int
}

func (g *Gate) init(random io.Reader, now time.Time) error {
	if err := g.cookies.init(random, now); err != nil {
		return err
	}
	var seed [16]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return err
	}
	g.answers.key = [2]uint64{binary.BigEndian.Uint64(seed[:]), binary.BigEndian.Uint64(seed[8:])}
	g.answers.all = newBucket(answerRate, answerBurst, now)
	g.initRate = newBucket(g.cfg.InitRate, max(2, g.cfg.InitRate/4), now)
	g.byKey = make(map[Key]int32)
	g.byInit = make(map[initKey]int32)
	g.perAddr = make(map[netip.Addr]int32)
	g.perPrefix = make(map[netip.Prefix]int32)
	g.reply = make([]byte, 0, headerLen+notifyLen+1+cookieMAC)
	g.free = none
	g.waiting, g.recent = list{none, none, 0}, list{none, none, 0}
	return nil
}

// Add registers an IKE SA that did not come through Open: one this host initiates, or one made
// by rekeying. It reports false, and changes nothing, if the SPI is zero or taken.
func (g *Gate) Add(k Key) bool {
	if _, taken := g.byKey[k]; taken || k.SPI == 0 {
		return false
	}
	g.byKey[k] = none
	return true
}

// Queued says how many NewResponder verdicts wait for Open. They count as half-open SAs where
// it is decided whether cookies are demanded.
func (g *Gate) Queued(n int) { g.queued = n }

// Open records the half-open SA that was made for v, under the responder SPI spi. It reports
// false, and changes nothing, if a cap was reached meanwhile, if the same request was opened
// already, if spi is zero or taken, or if v is not a NewResponder verdict.
func (g *Gate) Open(now time.Time, v Verdict, spi uint64) bool {
	t := v.ticket
	k := Key{SPI: spi}
	if _, taken := g.byKey[k]; taken || spi == 0 || v.Kind != NewResponder || !t.hashed {
		return false
	}
	addr, prefix := source(t.path.Remote)
	if g.room(addr, prefix) != ReasonNone {
		return false
	}
	from := initKey{t.spii, t.path.Remote}
	for i := g.firstInit(from); i != none; i = g.slots[i].sameInit {
		if g.slots[i].digest == t.digest {
			return false
		}
	}
	i := g.alloc()
	g.slots[i] = slot{key: k, from: from, digest: t.digest, at: now, sameInit: g.firstInit(from)}
	g.byInit[from] = i
	g.byKey[k] = i
	g.perAddr[addr]++
	g.perPrefix[prefix]++
	g.push(&g.waiting, i)
	return true
}

// Establish moves the SA k from half-open to established: it no longer counts against any cap,
// and late copies of its first request are ignored for a while. Unknown keys are ignored.
func (g *Gate) Establish(now time.Time, k Key) {
	i, ok := g.byKey[k]
	if !ok || i == none || g.slots[i].done {
		return
	}
	g.uncount(i)
	g.unlink(&g.waiting, i)
	g.slots[i].done, g.slots[i].at = true, now
	g.byKey[k] = none
	g.push(&g.recent, i)
	g.forget(now)
}

// Remove ends the SA k, half-open or established. Unknown keys are ignored.
func (g *Gate) Remove(k Key) {
	i, ok := g.byKey[k]
	if !ok {
		return
	}
	delete(g.byKey, k)
	if i != none {
		g.uncount(i)
		g.unlink(&g.waiting, i)
		g.release(i)
	}
}

// Expire removes the half-open SAs whose time is over and appends their keys to dst; the caller
// ends them. While cookies are demanded the time is Config.BusyLife.
func (g *Gate) Expire(now time.Time, dst []Key) []Key {
	g.forget(now)
	for i := g.waiting.head; i != none && !now.Before(g.slots[i].at.Add(g.life())); i = g.waiting.head {
		k := g.slots[i].key
		g.stats.Expired++
		g.Remove(k)
		dst = append(dst, k)
	}
	return dst
}

// Deadline is when [Gate.Expire] next has something to do; zero if never. It may come nearer
// with every [Gate.Open].
func (g *Gate) Deadline() time.Time {
	if g.waiting.head == none {
		return time.Time{}
	}
	return g.slots[g.waiting.head].at.Add(g.life())
}

// life is how long a half-open SA may last at the present load (RFC 8019, Section 4.1).
func (g *Gate) life() time.Duration {
	if g.cfg.CookieThreshold > 0 && g.busy() {
		return g.cfg.BusyLife
	}
	return g.cfg.HalfOpenLife
}

// HalfOpen is the number of half-open SAs.
func (g *Gate) HalfOpen() int { return g.waiting.n }

// Len is the number of IKE SAs of any kind.
func (g *Gate) Len() int { return len(g.byKey) }

// Stats returns the counters.
func (g *Gate) Stats() Stats {
	s := g.stats
	s.HalfOpen = g.waiting.n
	return s
}

// findInit returns the slot that a bit-identical copy of b opened, or none. The digest is zero
// if nothing was opened under from and so nothing was hashed.
func (g *Gate) findInit(from initKey, b []byte) (int32, [32]byte) {
	i := g.firstInit(from)
	if i == none {
		return none, [32]byte{}
	}
	digest := sha256.Sum256(b)
	for ; i != none; i = g.slots[i].sameInit {
		if g.slots[i].digest == digest {
			return i, digest
		}
	}
	return none, digest
}

func (g *Gate) firstInit(from initKey) int32 {
	if i, ok := g.byInit[from]; ok {
		return i
	}
	return none
}

// forget drops remembered requests of established SAs that are too old or too many.
func (g *Gate) forget(now time.Time) {
	for i := g.recent.head; i != none; i = g.recent.head {
		if g.recent.n <= maxRecent && now.Sub(g.slots[i].at) < recentLife {
			return
		}
		g.unlink(&g.recent, i)
		g.release(i)
	}
}

// uncount takes slot i off the per-source counts.
func (g *Gate) uncount(i int32) {
	addr, prefix := source(g.slots[i].from.remote)
	if g.perAddr[addr]--; g.perAddr[addr] <= 0 {
		delete(g.perAddr, addr)
	}
	if g.perPrefix[prefix]--; g.perPrefix[prefix] <= 0 {
		delete(g.perPrefix, prefix)
	}
}

// source returns what a remote is counted under: its address, and its IPv4 /24 or IPv6 /64.
func source(remote netip.AddrPort) (netip.Addr, netip.Prefix) {
	a := remote.Addr().Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // fails only for the zero Addr, which Classify drops
	return a, p
}

// alloc returns an unused slot. Their number is bounded by MaxHalfOpen and maxRecent.
func (g *Gate) alloc() int32 {
	if i := g.free; i != none {
		g.free = g.slots[i].next
		return i
	}
	g.slots = append(g.slots, slot{})
	return int32(len(g.slots) - 1)
}

// release takes slot i out of byInit and makes it free.
func (g *Gate) release(i int32) {
	from, after := g.slots[i].from, g.slots[i].sameInit
	if first := g.byInit[from]; first == i {
		if after == none {
			delete(g.byInit, from)
		} else {
			g.byInit[from] = after
		}
	} else {
		for j := first; j != none; j = g.slots[j].sameInit {
			if g.slots[j].sameInit == i {
				g.slots[j].sameInit = after
				break
			}
		}
	}
	g.slots[i] = slot{next: g.free}
	g.free = i
}

func (g *Gate) push(l *list, i int32) {
	g.slots[i].prev, g.slots[i].next = l.tail, none
	if l.tail == none {
		l.head = i
	} else {
		g.slots[l.tail].next = i
	}
	l.tail = i
	l.n++
}

func (g *Gate) unlink(l *list, i int32) {
	prev, next := g.slots[i].prev, g.slots[i].next
	if prev == none {
		l.head = next
	} else {
		g.slots[prev].next = next
	}
	if next == none {
		l.tail = prev
	} else {
		g.slots[next].prev = prev
	}
	l.n--
}
