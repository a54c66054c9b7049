package engine

import (
	"bytes"
	"sync"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/tun"
)

// A door is the gate with a lock, and what it lets in for the keyer. The goroutine that
// receives knocks: what is to be dropped, or to be answered without keeping anything, never
// reaches the keyer. What belongs to an SA waits apart from what would start one, so that
// a flood of requests drowns no SA; and one SA has a bounded share of the queue, so that no
// peer drowns another (RFC 8019, Section 5).
type door struct {
	signal  chan struct{} // has a token while something may wait
	replies []tun.Packet  // scratch of knock

	mu     sync.Mutex // guards what follows
	gate   *gate.Gate
	at     time.Time // of the last call: the gate's time never runs backwards
	known  []letter  // for SAs that exist
	bytes  int       // in known
	shares map[gate.Key]int
	fresh  []letter // requests for new SAs
	strays []stray  // what to tell of those who were not let in
	lost   uint64   // because the keyer was behind
}

// A stray is a datagram of no IKE SA that is a mistake of somebody's.
type stray struct {
	kind   EventKind
	path   ike.Path
	reason gate.Reason
	more   uint64 // of that kind, which nothing else is known of
}

// A letter is a datagram that waits for the keyer.
type letter struct {
	verdict gate.Verdict
	path    ike.Path
	data    []byte
}

func newDoor(g *gate.Gate, now time.Time) *door {
	return &door{signal: make(chan struct{}, 1), gate: g, at: now, shares: map[gate.Key]int{}}
}

// knock takes received datagrams, which are borrowed, and returns what they are to be
// answered with at once: until the next call. Not for concurrent use.
func (d *door) knock(pkts []tun.Packet) (replies []tun.Packet) {
	n, some := 0, false
	d.mu.Lock()
	now := d.now(time.Now())
	for i := range pkts {
		p := &pkts[i]
		v := d.gate.Classify(now, gate.Path(p.Path), p.Data())
		if kind := strayKind(v.Reason); kind != EventUnknown {
			d.stray(kind, p, v.Reason)
			some = true
		}
		switch v.Kind {
		case gate.Drop:
		case gate.Reply:
			if n == len(d.replies) {
				d.replies = append(d.replies, tun.Packet{Buf: make([]byte, tun.Headroom)})
			}
			r := &d.replies[n]
			r.Buf = append(r.Buf[:tun.Headroom], v.Reply...) // v.Reply is the gate's
			r.Off, r.Len, r.Path, r.Kind = tun.Headroom, len(v.Reply), p.Path, tun.KindIKE
			n++
		case gate.Existing, gate.NewResponder, gate.Hint:
			if d.post(v, p) {
				some = true
			} else {
				d.lost++
			}
		}
	}
	d.mu.Unlock()
	if some {
		d.ring()
	}
	return d.replies[:n]
}

// stray remembers one datagram for the keyer to tell of, or counts it.
func (d *door) stray(kind EventKind, p *tun.Packet, why gate.Reason) {
	if len(d.strays) < maxStrays {
		d.strays = append(d.strays, stray{kind: kind, path: ike.Path(p.Path), reason: why})
		return
	}
	for i := range d.strays {
		if d.strays[i].kind == kind {
			d.strays[i].more++
			return
		}
	}
}

// post puts a datagram in its queue if there is room. Hints share what one SA has.
func (d *door) post(v gate.Verdict, p *tun.Packet) bool {
	if v.Kind == gate.NewResponder {
		if len(d.fresh) == maxFresh {
			return false
		}
		d.fresh = append(d.fresh, letter{v, ike.Path(p.Path), bytes.Clone(p.Data())})
		d.gate.Queued(len(d.fresh))
		return true
	}
	if d.bytes+p.Len > maxKnownBytes || d.shares[v.Key] == maxShare {
		return false
	}
	d.shares[v.Key]++
	d.bytes += p.Len
	d.known = append(d.known, letter{v, ike.Path(p.Path), bytes.Clone(p.Data())})
	return true
}

func (d *door) ring() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// take hands over what the keyer does in one turn: a batch for SAs, then a few requests
// for new ones, and what there is to tell.
func (d *door) take() (letters []letter, strays []stray) {
	d.mu.Lock()
	k, f := min(len(d.known), knownTurn), min(len(d.fresh), freshTurn)
	out := make([]letter, 0, k+f)
	out = append(append(out, d.known[:k]...), d.fresh[:f]...)
	for i := range d.known[:k] {
		l := &d.known[i]
		d.bytes -= len(l.data)
		if d.shares[l.verdict.Key]--; d.shares[l.verdict.Key] == 0 {
			delete(d.shares, l.verdict.Key)
		}
	}
	d.known, d.fresh = behind(d.known, k), behind(d.fresh, f)
	d.gate.Queued(len(d.fresh))
	strays, d.strays = d.strays, nil
	more := len(d.known)+len(d.fresh) > 0
	d.mu.Unlock()
	if more {
		d.ring()
	}
	return out, strays
}

// behind takes the first n off a queue; an empty one keeps its memory.
func behind(q []letter, n int) []letter {
	clear(q[:n])
	if n == len(q) {
		return q[:0]
	}
	return q[n:]
}

// now makes a time that does not run backwards, whoever calls.
func (d *door) now(t time.Time) time.Time {
	if t.After(d.at) {
		d.at = t
	}
	return d.at
}

// What follows is the gate's, under the lock.

func (d *door) add(key gate.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate.Add(key)
}

func (d *door) open(now time.Time, v gate.Verdict, spi uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.Open(d.now(now), v, spi)
}

func (d *door) establish(now time.Time, key gate.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate.Establish(d.now(now), key)
}

func (d *door) remove(key gate.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate.Remove(key)
}

// invalidSPI is what to answer to an ESP packet for an SPI that nobody has; nil: nothing.
func (d *door) invalidSPI(now time.Time, path ike.Path, spi uint32, size int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.gate.InvalidSPI(d.now(now), gate.Path(path), spi, size).Reply)
}

func (d *door) expire(now time.Time) []gate.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.Expire(d.now(now), nil)
}

func (d *door) deadline() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.Deadline()
}

func (d *door) stats() (s gate.Stats, lost uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gate.Stats(), d.lost
}
