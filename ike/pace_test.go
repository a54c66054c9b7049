package ike_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// RFC 8019, Section 5: who is authenticated and asks without end is told to slow down, does
// not make us work meanwhile, and is served again when it has waited. Others notice nothing.
func TestADV_H5_PaceOfOnePeer(t *testing.T) {
	s, a, b := hosts(t, 609)
	s.Faults.Delay = 0
	decided := 0
	b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
		if _, ok := w.(*ike.WorkDecide); ok {
			decided++
		}
		return r
	}
	e, o := up(t, s, a, b)
	x := s.AddHost("mars", "192.0.2.3:500").Connect(b, nil)
	both(t, s, x)
	decided = 0

	refused, answered := 0, 0
	s.Watch = func(d iketest.Datagram) {
		if d.From != b.Addr || d.To != a.Addr {
			return
		}
		answered++
		if m := s.Open(d.Data); m != nil {
			if n, ok := wire.Get[*wire.Notify](m.Payloads); ok && n.NType == wire.NotifyTemporaryFailure {
				refused++
			}
		}
	}
	id := uint32(2)
	ask := func(typ wire.ExchangeType, ps ...wire.Payload) bool {
		before := answered
		s.Forge(e, wire.Header{Exchange: typ, MessageID: id}, ps...)
		s.Run(time.Millisecond, nil)
		if answered == before {
			return false
		}
		id++
		return true
	}
	const n = 900
	create := func(spi uint32) bool {
		p := iketest.MustESP("aes256gcm16")[0]
		p.Num, p.SPI = 1, spi32(spi)
		ts := wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.3.0.0"), End: mustAddr("10.3.255.255")}
		return ask(wire.ExchangeCreateChildSA, &wire.SA{Proposals: []wire.Proposal{p}}, &wire.Nonce{Data: bytes.Repeat([]byte{byte(spi)}, 32)},
			&wire.TS{Initiator: true, Selectors: []wire.TrafficSelector{ts}}, &wire.TS{Selectors: []wire.TrafficSelector{ts}})
	}
	for i := range uint32(n) {
		if !create(5000 + i) {
			t.Fatalf("request %d is not answered", i)
		}
	}
	// The burst, and what came back within a millisecond each.
	if most := ike.CreateBurst + n/10 + 1; refused < n-most || decided > most {
		t.Errorf("%d of %d requests refused, %d decided; want at most %d", refused, n, decided, most)
	}
	for i := 0; ask(wire.ExchangeInformational); i++ {
		if i > 2*ike.RequestBurst {
			t.Fatalf("%d requests answered without a pause", i)
		}
	}
	if b.Counters.Dropped(ike.DropPace) != 1 {
		t.Errorf("%d dropped", b.Counters.Dropped(ike.DropPace))
	}

	rekeyChild(s, x, first(x))
	s.Run(100*time.Millisecond, nil)
	if only(t, x).Replaces == 0 {
		t.Error("another peer has to wait")
	}
	if !ask(wire.ExchangeInformational) {
		t.Error("not served after a pause")
	}
	s.Run(time.Minute, nil)
	if refused = 0; !create(9000) || refused != 0 || !o.Up() {
		t.Errorf("still refused after a minute: %v", s.Summary())
	}
	clean(t, s)
}
