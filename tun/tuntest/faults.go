package tuntest

import "time"

// reorderWait is how long a datagram waits for another one to overtake it.
const reorderWait = 10 * time.Millisecond

// Faults is what a Net does to the datagrams that cross it. The zero value does nothing:
// everything arrives, once, in order, at once.
type Faults struct {
	// Seed makes the choices repeatable for one order of Sends.
	Seed uint64
	// Drop, Duplicate, Reorder, Corrupt and MarkCE are probabilities from 0 to 1, each tried
	// for every datagram. A reordered datagram arrives after the next one to the same
	// wire, or 10 ms late; a corrupted one has one bit flipped; a marked one has its ECN
	// field set to CE if it is ECN-capable.
	Drop, Duplicate, Reorder, Corrupt, MarkCE float64
	// Spare tells which payloads are never dropped; nil spares none. Without it a test waits
	// as long as TCP's timer, which doubles with each loss.
	Spare func(payload []byte) bool
	// Delay and Jitter hold each datagram for Delay, plus up to Jitter, which reorders too.
	Delay, Jitter time.Duration
}

func (f *Faults) none() bool {
	return f.Drop <= 0 && f.Duplicate <= 0 && f.Reorder <= 0 && f.Corrupt <= 0 && f.MarkCE <= 0 &&
		f.Delay <= 0 && f.Jitter <= 0
}

// A late is a datagram on its way.
type late struct {
	due  time.Time
	seq  uint64
	wire *Wire // set if it waits on this wire to be overtaken
	d    *datagram
}

// lateHeap is a container/heap, the earliest first.
type lateHeap []*late

func (h lateHeap) Len() int { return len(h) }
func (h lateHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}
func (h lateHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *lateHeap) Push(x any)   { *h = append(*h, x.(*late)) }
func (h *lateHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
