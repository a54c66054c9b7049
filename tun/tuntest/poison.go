package tuntest

import (
	"sync"

	"github.com/btns-go/btns/tun"
)

// poison is the byte that memory is filled with when its borrower has no more right to it.
const poison = 0xDB

// Poison returns a wire that makes broken rules of ownership visible on both sides of w.
//
// Memory passed to Receive is overwritten first: a caller that still reads an earlier packet
// there finds 0xDB. What is passed to Send is copied before and overwritten after: a wire
// that keeps a buffer sends 0xDB.
func Poison(w tun.Wire) tun.Wire { return &poisoned{Wire: w} }

type poisoned struct {
	tun.Wire

	mu   sync.Mutex // under Receive
	high int        // no packet ended behind this
}

func (w *poisoned) Receive(pkts []tun.Packet) (int, error) {
	w.mu.Lock()
	for i := range pkts {
		fill(pkts[i].Buf[:min(w.high, len(pkts[i].Buf))])
	}
	w.mu.Unlock()
	n, err := w.Wire.Receive(pkts)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range pkts[:n] {
		w.high = max(w.high, pkts[i].Off+pkts[i].Len)
	}
	return n, err
}

func (w *poisoned) Send(pkts []tun.Packet) (int, error) {
	own := make([]tun.Packet, len(pkts))
	for i := range pkts {
		own[i] = pkts[i]
		own[i].Buf = append([]byte(nil), pkts[i].Buf...)
	}
	n, err := w.Wire.Send(own)
	for i := range own {
		fill(own[i].Buf)
	}
	return n, err
}

func fill(b []byte) {
	for i := range b {
		b[i] = poison
	}
}
