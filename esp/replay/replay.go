// Package replay implements the ESP anti-replay window of RFC 4303,
// Section 3.4.3, over 64-bit sequence numbers (Section 2.2.1, Appendix A2).
//
// # Use
//
// Infer turns the 32 bits on the wire into 64 where the SA uses extended
// sequence numbers. Check comes before authentication and changes nothing;
// Commit comes after it, checks again and records the number. An SA without
// extended sequence numbers passes the 32 bits as they are.
//
// # Ownership and concurrency
//
// A Window belongs to one inbound SA and is not safe for concurrent use: the
// SA calls it under its own lock. A Snapshot is a copy to check against without
// that lock.
//
// # Limits
//
// The window is exact: with size W and highest number T, numbers T-W+1 to T can
// be told apart, everything lower is too old. Memory is at most 1 KiB (W = 4096).
//
// After a loss of 2^32 or more consecutive packets an extended sequence number
// can't be inferred any more (RFC 4303, Appendix A3). Re-synchronisation is not
// attempted: such packets fail authentication until the SA is rekeyed. A replay
// is never accepted for it.
//
// # Design notes
//
// A ring of words after RFC 6479, not a bitmap that is shifted: moving the
// window forward clears whole words and never copies any. The ring is a power
// of two of words and at least one word longer than the window, so that an index
// is a mask and the words in front of the highest number hold no live bit.
package replay

import "fmt"

// Window sizes in packets.
const (
	MinSize     = 64   // the size RFC 4303, Section 3.4.3 prefers
	DefaultSize = 1024 // covers the reordering of several cores and queues
	MaxSize     = 4096
)

const (
	wordBits = 64
	maxWords = 2 * MaxSize / wordBits // the power of two above MaxSize/wordBits+1
)

// Window is one anti-replay window. Use New.
type Window struct {
	edges
	ring []uint64
}

// edges are where a window ends.
type edges struct {
	size uint64 // W, a multiple of wordBits
	mask uint64 // words in the ring - 1
	top  uint64 // highest number committed; 0 = none yet
}

// New returns an empty window of size packets: a multiple of 64 from MinSize to
// MaxSize, or 0 for DefaultSize.
func New(size int) (*Window, error) {
	if size == 0 {
		size = DefaultSize
	}
	if size < MinSize || size > MaxSize || size%wordBits != 0 {
		return nil, fmt.Errorf("replay: window of %d packets: want a multiple of %d from %d to %d", size, wordBits, MinSize, MaxSize)
	}
	words := 2
	for words < size/wordBits+1 {
		words *= 2
	}
	return &Window{edges: edges{size: uint64(size), mask: uint64(words - 1)}, ring: make([]uint64, words)}, nil
}

// Size returns the window's size in packets.
func (e *edges) Size() int { return int(e.size) }

// Top returns the highest number committed, 0 before the first.
func (e *edges) Top() uint64 { return e.top }

// Old reports whether seq lies left of the window, where nothing is known about
// it any more. Number 0 is never sent (RFC 4303, Section 2.2) and counts as old.
func (e *edges) Old(seq uint64) bool {
	return seq == 0 || (seq <= e.top && e.top-seq >= e.size)
}

// Infer returns the 64-bit number whose low half is low and that lies nearest to
// the window: in it, or within 2^32 packets after its left edge (RFC 4303,
// Appendix A2.2). It returns 0, which no window accepts, where that would pass
// 2^64-1. The result is a guess until the packet has authenticated with it.
func (e *edges) Infer(low uint32) uint64 {
	var left uint64 // the lowest number the window can still tell apart
	if e.top >= e.size {
		left = e.top - e.size + 1
	}
	seq := left + uint64(low-uint32(left))
	if seq < left {
		return 0
	}
	return seq
}

// Check reports whether seq could be committed now. It changes nothing.
func (w *Window) Check(seq uint64) bool { return w.check(w.ring, seq) }

func (e *edges) check(ring []uint64, seq uint64) bool {
	if seq > e.top {
		return true
	}
	return !e.Old(seq) && ring[seq/wordBits&e.mask]&(1<<(seq%wordBits)) == 0
}

// Snapshot is a copy of a Window that answers what the Window would have answered
// then: a batch is checked against it while others commit. The zero Snapshot is
// ready for Window.Snapshot and nothing else.
type Snapshot struct {
	edges
	ring [maxWords]uint64
}

// Check is Window.Check at the time of the snapshot.
func (s *Snapshot) Check(seq uint64) bool { return s.check(s.ring[:], seq) }

// Snapshot copies w into s: at most 1 KiB.
func (w *Window) Snapshot(s *Snapshot) {
	s.edges = w.edges
	copy(s.ring[:], w.ring)
}

// Commit records seq, whose packet is authentic, and moves the window forward if
// seq is the highest so far. It reports false, and changes nothing, for a number
// that is too old or was committed before.
func (w *Window) Commit(seq uint64) bool {
	word := seq / wordBits
	if seq > w.top {
		// Clear the words entered, each once at most.
		last := w.top / wordBits
		if n := word - last; n > w.mask {
			clear(w.ring)
		} else {
			for i := last + 1; i <= word; i++ {
				w.ring[i&w.mask] = 0
			}
		}
		w.top = seq
	} else if seq == 0 || w.top-seq >= w.size {
		return false
	}
	bit := uint64(1) << (seq % wordBits)
	p := &w.ring[word&w.mask]
	if *p&bit != 0 {
		return false
	}
	*p |= bit
	return true
}
