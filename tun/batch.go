package tun

// A Batch is a set of buffers and the packets received into them. It is for one goroutine.
type Batch struct {
	bufs [][]byte
	pkts []Packet
}

// NewBatch returns a batch of n packets with buffers of size bytes; 0 means [BufSize].
// The buffers do not touch: each has its own end of capacity.
func NewBatch(n, size int) *Batch {
	if size <= 0 {
		size = BufSize
	}
	n = max(1, n)
	b := &Batch{bufs: make([][]byte, n), pkts: make([]Packet, n)}
	for i := range b.bufs {
		b.bufs[i] = make([]byte, size)
	}
	return b
}

// Receive fills the batch from w. The packets are valid until the next call.
func (b *Batch) Receive(w Wire) ([]Packet, error) {
	for i, buf := range b.bufs {
		b.pkts[i].Buf = buf
	}
	n, err := w.Receive(b.pkts)
	return b.pkts[:n], err
}
