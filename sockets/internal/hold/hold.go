// Package hold keeps the first packets of flows that have no security association yet, and remembers which associations
// were asked for and which of those requests failed.
//
// A Table keeps packets: one for each flow, because the next one is a retransmission or would be late anyway; a bounded
// number for each peer, so that one silent peer does not use up what the others need; and bounded in packets, bytes and
// time for the whole table. RFC 4301, Section 5.1 lets a packet wait or be dropped while its SA is set up; what must not
// happen is that it leaves unprotected, and a Table has no way to send.
//
// A Backoff says whether the SA of a key may be asked for now: once while a request is out, and after a failure not before
// a pause that doubles from one second to sixty.
//
// # Memory
//
// The table owns a packet from a Put that returns Kept or Replaced until it hands it out (Take…) or calls release. Release
// is called without the table's lock, from the goroutine that made the call.
//
// # Concurrency
//
// Both types are safe for concurrent use. They start nothing, and read no clock: time is an argument.
//
// # Limits
//
// The defaults are in limits.go, each with its reason.
package hold

import (
	"sync"
	"time"

	"github.com/btns-go/btns/esp/ts"
)

// A Result says what Put did with a packet. The zero value means that the table did not take it.
type Result uint8

// The results of Put.
const (
	Refused       Result = iota // the table is closed, or the packet alone exceeds its bytes
	RefusedPeer                 // too many flows wait for this peer
	RefusedFull                 // the table is full, in packets or in bytes
	Kept                        // held
	Replaced                    // held in place of an earlier packet of the same flow, which was released
	numberResults               // the number of results
)

// String returns the result's name.
func (r Result) String() string {
	switch r {
	case Refused:
		return "refused"
	case RefusedPeer:
		return "refused-peer"
	case RefusedFull:
		return "refused-full"
	case Kept:
		return "kept"
	case Replaced:
		return "replaced"
	case numberResults:
	}
	return "invalid"
}

// Held reports whether the table took the packet.
func (r Result) Held() bool { return r == Kept || r == Replaced }

// A Table holds packets of type P, one for each flow, for peers known by a K. Use New.
type Table[K comparable, P any] struct {
	lim     Limits
	release func(P)

	mu     sync.Mutex // guards all following fields
	flows  map[ts.Flow]*entry[K, P]
	peers  map[K]int
	oldest *entry[K, P] // list by age: entries expire in the order in which they came
	newest *entry[K, P]
	bytes  int
	closed bool
}

type entry[K comparable, P any] struct {
	flow       ts.Flow
	peer       K
	p          P
	size       int
	born       time.Time
	prev, next *entry[K, P]
}

// New returns an empty table. Zero fields of lim mean the defaults. release takes back a packet that the table gives up;
// nil does nothing.
func New[K comparable, P any](lim Limits, release func(P)) *Table[K, P] {
	if release == nil {
		release = func(P) {}
	}
	return &Table[K, P]{
		lim:     lim.withDefaults(),
		release: release,
		flows:   make(map[ts.Flow]*entry[K, P]),
		peers:   make(map[K]int),
	}
}

// Put offers a packet of size bytes. If the table holds one of the same flow, the new packet takes its place, and keeps its
// age: a flow that goes on retransmitting does not wait for ever. The caller keeps p unless the result is Held.
func (t *Table[K, P]) Put(now time.Time, peer K, flow ts.Flow, size int, p P) Result {
	t.mu.Lock()
	old, r := t.put(now, peer, flow, size, p)
	t.mu.Unlock()
	if r == Replaced {
		t.release(old)
	}
	return r
}

func (t *Table[K, P]) put(now time.Time, peer K, flow ts.Flow, size int, p P) (old P, r Result) {
	if t.closed || size < 0 || size > t.lim.Bytes {
		return old, Refused
	}
	if e := t.flows[flow]; e != nil && e.peer == peer {
		if t.bytes-e.size+size > t.lim.Bytes {
			return old, RefusedFull
		}
		old, e.p = e.p, p
		t.bytes += size - e.size
		e.size = size
		return old, Replaced
	} else if e != nil {
		// The same flow now waits for another peer: a policy changed. The old packet was meant for the old one.
		if t.peers[peer] >= t.lim.PerPeer {
			return old, RefusedPeer
		}
		if t.bytes-e.size+size > t.lim.Bytes {
			return old, RefusedFull
		}
		old = e.p
		t.unlink(e)
		t.link(&entry[K, P]{flow: flow, peer: peer, p: p, size: size, born: now})
		return old, Replaced
	}
	if t.peers[peer] >= t.lim.PerPeer {
		return old, RefusedPeer
	}
	if len(t.flows) >= t.lim.Packets || t.bytes+size > t.lim.Bytes {
		return old, RefusedFull
	}
	t.link(&entry[K, P]{flow: flow, peer: peer, p: p, size: size, born: now})
	return old, Kept
}

func (t *Table[K, P]) link(e *entry[K, P]) {
	e.prev = t.newest
	if t.newest != nil {
		t.newest.next = e
	} else {
		t.oldest = e
	}
	t.newest = e
	t.flows[e.flow] = e
	t.peers[e.peer]++
	t.bytes += e.size
}

func (t *Table[K, P]) unlink(e *entry[K, P]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		t.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		t.newest = e.prev
	}
	e.prev, e.next = nil, nil
	delete(t.flows, e.flow)
	if t.peers[e.peer]--; t.peers[e.peer] == 0 {
		delete(t.peers, e.peer)
	}
	t.bytes -= e.size
}

// Take removes the packet of flow and gives it to the caller.
func (t *Table[K, P]) Take(flow ts.Flow) (p P, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.flows[flow]
	if e == nil {
		return p, false
	}
	t.unlink(e)
	return e.p, true
}

// TakePeer removes all packets that wait for peer and gives them to the caller, oldest first.
func (t *Table[K, P]) TakePeer(peer K) []P {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[peer] == 0 {
		return nil
	}
	return t.take(func(e *entry[K, P]) bool { return e.peer == peer })
}

// TakeMatch removes all packets that match accepts and gives them to the caller, oldest first. match is called with the
// table locked and must not call back.
func (t *Table[K, P]) TakeMatch(match func(ts.Flow, P) bool) []P {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.take(func(e *entry[K, P]) bool { return match(e.flow, e.p) })
}

func (t *Table[K, P]) take(match func(*entry[K, P]) bool) (ps []P) {
	for e := t.oldest; e != nil; {
		next := e.next
		if match(e) {
			t.unlink(e)
			ps = append(ps, e.p)
		}
		e = next
	}
	return ps
}

// Expire releases what was held for the table's lifetime or longer, and returns how many packets that were.
func (t *Table[K, P]) Expire(now time.Time) int {
	t.mu.Lock()
	var ps []P
	for e := t.oldest; e != nil && now.Sub(e.born) >= t.lim.Lifetime; e = t.oldest {
		t.unlink(e)
		ps = append(ps, e.p)
	}
	t.mu.Unlock()
	return t.releaseAll(ps)
}

// Close releases everything and makes every later Put return Refused. It returns how many packets were held.
func (t *Table[K, P]) Close() int {
	t.mu.Lock()
	t.closed = true
	ps := t.take(func(*entry[K, P]) bool { return true })
	t.mu.Unlock()
	return t.releaseAll(ps)
}

func (t *Table[K, P]) releaseAll(ps []P) int {
	for _, p := range ps {
		t.release(p)
	}
	return len(ps)
}

// Len returns how many packets and bytes are held.
func (t *Table[K, P]) Len() (packets, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows), t.bytes
}
