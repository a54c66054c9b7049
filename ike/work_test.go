package ike_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// held collects Work of a host instead of answering it.
type held struct {
	m    *ike.Machine
	out  []ike.Output
	work []ike.Work
}

// drain takes what a machine wants; Work is kept.
func (h *held) drain() {
	for {
		o, ok := h.m.Next()
		if !ok {
			return
		}
		if w, ok := o.(ike.Work); ok {
			h.work = append(h.work, w)
			continue
		}
		h.out = append(h.out, o)
	}
}

func (h *held) take(t testing.TB) ike.Work {
	t.Helper()
	h.drain()
	if len(h.work) != 1 {
		t.Fatalf("%d pieces of work", len(h.work))
	}
	w := h.work[0]
	h.work = nil
	return w
}

func (h *held) sent(t testing.TB) []byte {
	t.Helper()
	h.drain()
	for i, o := range h.out {
		if s, ok := o.(*ike.Send); ok {
			h.out = append(h.out[:i:i], h.out[i+1:]...)
			return s.Data
		}
	}
	t.Fatal("nothing sent")
	return nil
}

// While Work is out, the message that caused it starts nothing a second time, and is
// not answered; a late answer still works.
func TestRetransmissionsWhileWorkIsOut(t *testing.T) {
	l := newLab(t, false)
	now := time.Now()
	ab, ba := ike.Path{Local: l.addr[0], Remote: l.addr[1]}, ike.Path{Local: l.addr[1], Remote: l.addr[0]}
	m, err := ike.NewInitiator(&l.cfg[0], ab, now)
	if err != nil {
		t.Fatal(err)
	}
	a := &held{m: m}
	m.Start(now, &ike.ChildRequest{SPI: 1000, Proposals: l.esp, Pair: iketest.Pair("10.1.0.0/16", "10.2.0.0/16")})
	step := func(h *held, i int) { w := h.take(t); h.m.Complete(now, w.WorkID(), l.answer(t, i, w)) }
	step(a, 0)
	init := a.sent(t)
	r, err := ike.NewResponder(&l.cfg[1], ba, init, now)
	if err != nil {
		t.Fatal(err)
	}
	b := &held{m: r}
	quiet := func(h *held, path ike.Path, data []byte) {
		t.Helper()
		h.drain()
		before, n := h.m.Snapshot(), len(h.work)
		for range 3 {
			h.m.Datagram(now, path, data)
		}
		h.drain()
		if h.m.Snapshot() != before || len(h.work) != n {
			t.Errorf("a retransmission does something in %v", h.m.State())
		}
		for _, o := range h.out {
			if _, ok := o.(*ike.Send); ok {
				t.Errorf("a retransmission is answered in %v", h.m.State())
			}
		}
	}
	quiet(b, ba, init) // the key exchange is out
	step(b, 1)
	answer := b.sent(t)
	a.m.Datagram(now, ab, answer)
	quiet(a, ab, answer) // the shared secret is out
	step(a, 0)
	quiet(a, ab, answer) // the signature is out
	step(a, 0)
	req := a.sent(t)
	b.m.Datagram(now, ba, req)
	for range 3 { // verification, signature, decision
		quiet(b, ba, req)
		quiet(b, ba, init)
		if b.m.State() != ike.StateAuthBusy {
			t.Fatalf("state %v", b.m.State())
		}
		step(b, 1)
	}
	resp := b.sent(t)
	a.m.Datagram(now, ab, resp)
	quiet(a, ab, resp)
	step(a, 0)
	if a.m.State() != ike.StateEstablished || b.m.State() != ike.StateEstablished {
		t.Errorf("%v, %v", a.m.State(), b.m.State())
	}
	// A repeated or invented answer to Work is ignored.
	before := a.m.Snapshot()
	for id := range ike.WorkID(10) {
		a.m.Complete(now, id, &ike.DecideResult{SPI: 77})
	}
	if a.m.Snapshot() != before {
		t.Error("an answer to nothing changes something")
	}

	// A decision that comes after the SA is gone gives its SPI back.
	a.m.CreateChild(now, ike.ChildRequest{SPI: 2000, Proposals: l.esp, Pair: iketest.Pair("10.1.0.0/16", "10.2.0.0/16")})
	b.m.Datagram(now, ba, a.sent(t))
	w := b.take(t)
	b.m.Delete(now)
	b.drain()
	b.out = nil
	b.m.Complete(now, w.WorkID(), &ike.DecideResult{SPI: 3000})
	b.drain()
	released := false
	for _, o := range b.out {
		if x, ok := o.(*ike.SPIReleased); ok && x.SPI == 3000 {
			released = true
		}
	}
	if !released {
		t.Error("SPI lost")
	}
}

// The machine keeps nothing of what it borrowed, and nobody changes what it keeps: a
// retransmission is the same after the caller has overwritten all it was lent.
func TestOwnership(t *testing.T) {
	s, a, b := hosts(t, 1)
	var first []byte
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if h, err := wire.ParseHeader(d.Data); err == nil && h.Exchange == wire.ExchangeIKEAuth && !h.Flags.Response() {
			if first == nil {
				first = bytes.Clone(d.Data)
				return nil
			}
			if !bytes.Equal(first, d.Data) {
				t.Error("changed between sends")
			}
		}
		return []iketest.Datagram{d}
	}
	up(t, s, a, b)
}
