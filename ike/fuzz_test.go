package ike_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// FuzzUnauthenticated gives any datagram to a new responder, a waiting initiator and an
// established SA. None may panic, and the established one may not change.
func FuzzUnauthenticated(f *testing.F) {
	s, a, b := hosts(f, 1)
	msgs := capture(s)
	e, o := up(f, s, a, b)
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(time.Second, nil)
	spii, spir := e.M.SPIs()
	for _, d := range msgs {
		f.Add(d.Data)
	}
	for _, p := range []wire.Payload{&wire.Notify{NType: wire.NotifyCookie, Data: []byte("c")}, &wire.Notify{NType: wire.NotifyInvalidKEPayload, Data: []byte{0, 19}},
		&wire.Notify{NType: wire.NotifyInvalidIKESPI}, &wire.Delete{Protocol: wire.ProtocolIKE}, &wire.Unknown{PType: 99, Critical: true}} {
		m := wire.Message{Header: wire.Header{SPIi: spii, SPIr: spir, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagResponse}, Payloads: []wire.Payload{p}}
		f.Add(iketest.Encode(&m))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := b.Config
		if r, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: a.Addr}, data, s.Now); err == nil {
			drain(r)
			r.Datagram(s.Now, ike.Path{Local: b.Addr, Remote: a.Addr}, data)
			drain(r)
		}
		acfg := a.Config
		acfg.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-x25519-ecp256")
		i, err := ike.NewInitiator(&acfg, ike.Path{Local: a.Addr, Remote: b.Addr}, s.Now)
		if err != nil {
			t.Fatal(err)
		}
		fresh := bytes.Clone(data)
		if len(fresh) >= 8 { // its SPI is not in any corpus
			spi, _ := i.SPIs()
			for k := range 8 {
				fresh[k] = byte(spi >> (56 - 8*k))
			}
		}
		w := a.Adopt(i)
		w.Do(func(m *ike.Machine) { m.Start(s.Now, nil) })
		w.Do(func(m *ike.Machine) { m.Datagram(s.Now, ike.Path{Local: a.Addr, Remote: b.Addr}, fresh) })
		a.Ends = a.Ends[:1]
		for _, x := range []*iketest.End{e, o} {
			before := x.M.Snapshot()
			p := x.M.Path()
			x.M.Datagram(s.Now, p, data)
			drain(x.M)
			if x.M.Snapshot() != before {
				t.Errorf("%x changes an established SA", data)
			}
		}
		if n := s.Panics(); n != 0 {
			t.Fatalf("%d panics", n)
		}
	})
}

func drain(m *ike.Machine) {
	for {
		if _, ok := m.Next(); !ok {
			return
		}
	}
}

// FuzzAuthentic gives any inside of an SK payload, under a valid ICV, to a half-open and
// to an established responder and to an initiator that waits. None may panic; only
// WorkVerify leads to established.
func FuzzAuthentic(f *testing.F) {
	for i, kind := range kinds() {
		s, _, _, d, _ := at(f, uint64(i), kind)
		if o := s.Open(d.Data); o != nil {
			first, inner := iketest.EncodeChain(o.Payloads)
			f.Add(uint8(i), uint8(o.Header.Exchange), uint8(first), inner)
		}
	}
	f.Fuzz(func(t *testing.T, which, exchange, first uint8, inner []byte) {
		kind := kinds()[int(which)%len(kinds())]
		s, a, b, d, to := at(t, uint64(which), kind)
		o := s.Open(d.Data)
		if to != b.Ends[0] || exchange != 0 && !o.Header.Flags.Response() {
			o.Header.Exchange = wire.ExchangeType(exchange)
		}
		if o.Header.Flags.Response() {
			o.Header.Exchange = exchangeOf(kind)
		}
		o.First, o.Raw = wire.PayloadType(first), append([]byte{}, inner...)
		if len(inner) > 60000 {
			return
		}
		data := s.Seal(o)
		s.Tap = nil
		give(s, to, d, data)
		s.Run(time.Second, nil)
		if n := s.Panics(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		_ = a
		for _, e := range s.Errors {
			t.Error(e)
		}
	})
}

func exchangeOf(kind string) wire.ExchangeType {
	for _, e := range []wire.ExchangeType{wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational} {
		if bytes.HasPrefix([]byte(kind), []byte(e.String())) {
			return e
		}
	}
	return 0
}
