package tuntest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"
)

const (
	recordLimit = 64 << 20 // what a Recorder keeps if it is not told
	recordChunk = 1 << 20  // the memory it asks for at a time
)

// A Recorder keeps datagrams as a pcapng file in memory, up to a limit, and watches for
// byte strings in all of them, kept or not. It is safe for concurrent use.
type Recorder struct {
	limit int
	watch [][]byte

	mu        sync.Mutex
	chunks    [][]byte // whole blocks each
	size      int      // bytes in chunks
	datagrams int
	bytes     int
	kept      int
	full      bool
	seen      []int // datagrams with watch[i]
}

// NewRecorder returns a recorder that keeps at most limit bytes of file; 0 means 64 MiB.
// It looks for each of watch in every datagram, also in those beyond the limit. A string
// that is cut in two by the border between datagrams is not found, so watch for short ones.
func NewRecorder(limit int, watch ...[]byte) *Recorder {
	if limit <= 0 {
		limit = recordLimit
	}
	r := &Recorder{limit: limit, seen: make([]int, len(watch))}
	for _, w := range watch {
		r.watch = append(r.watch, bytes.Clone(w))
	}
	return r
}

// Record adds one UDP datagram, or one ESP packet if both ports are 0. It keeps the
// beginning of what happened: once something did not fit, nothing later is kept.
func (r *Recorder) Record(now time.Time, src, dst netip.AddrPort, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.datagrams++
	r.bytes += len(payload)
	for i, w := range r.watch {
		if bytes.Contains(payload, w) {
			r.seen[i]++
		}
	}
	n := blockSize(headerSize(src, dst) + len(payload))
	if r.full = r.full || r.size+n > r.limit; r.full {
		return
	}
	last := len(r.chunks) - 1
	if last < 0 || cap(r.chunks[last])-len(r.chunks[last]) < n {
		r.chunks = append(r.chunks, make([]byte, 0, max(n, min(recordChunk, r.limit-r.size))))
		last++
	}
	r.chunks[last] = appendBlock(r.chunks[last], now, src, dst, payload)
	r.size += n
	r.kept++
}

// Watched returns in how many datagrams the i-th watched string was seen.
func (r *Recorder) Watched(i int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[i]
}

// Search returns the number of kept datagrams that contain needle, headers included.
func (r *Recorder) Search(needle []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	hits := 0
	for _, c := range r.chunks {
		for len(c) > 0 {
			n := binary.LittleEndian.Uint32(c[4:])
			if data, ok := packetData(c[:n]); ok && bytes.Contains(data, needle) {
				hits++
			}
			c = c[n:]
		}
	}
	return hits
}

// Counts returns the number of datagrams and of their bytes, and how many of the datagrams
// were kept.
func (r *Recorder) Counts() (datagrams, bytes, kept int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.datagrams, r.bytes, r.kept
}

// WriteTo writes what was kept as a pcapng file that Wireshark reads.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := w.Write(appendFileHeader(nil))
	total := int64(n)
	for _, c := range r.chunks {
		if err != nil {
			break
		}
		n, err = w.Write(c)
		total += int64(n)
	}
	return total, err
}
