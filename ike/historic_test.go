package ike_test

import (
	"bytes"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// The tests in this file make the messages that other implementations got wrong; the names
// say which. cmd/internal/conformance has the record.

// A payload is missing, and the peer goes on as if nothing had been: no half of a state is
// there to go on with.
func TestROW_10_NextExchangeAnyway(t *testing.T) {
	for i, missing := range []wire.PayloadType{wire.PayloadIDi, wire.PayloadAuth, wire.PayloadSA, wire.PayloadTSi, wire.PayloadTSr} {
		s, a, b, d, to := at(t, uint64(i), "IKE_AUTH request")
		data := resealed(t, s, d, func(o *iketest.Opened) { o.Drop(missing) })
		s.Tap = func(iketest.Datagram) []iketest.Datagram { return nil }
		give(s, to, d, data)
		before := to.M.Snapshot()
		esp := iketest.MustESP("aes256gcm16")[0]
		esp.Num, esp.SPI = 1, spi32(5000)
		ts := wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.1.0.0"), End: mustAddr("10.1.255.255")}
		for id := range uint32(4) {
			for x, ps := range map[wire.ExchangeType][]wire.Payload{
				wire.ExchangeCreateChildSA: {&wire.SA{Proposals: []wire.Proposal{esp}}, &wire.Nonce{Data: make([]byte, 32)},
					&wire.TS{Initiator: true, Selectors: []wire.TrafficSelector{ts}}, &wire.TS{Selectors: []wire.TrafficSelector{ts}}},
				wire.ExchangeInformational: {&wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{5000}}},
				wire.ExchangeIKEAuth:       {&wire.ID{IType: wire.IDFQDN, Data: []byte("moon")}},
			} {
				h := wire.Header{Exchange: x, MessageID: id, Flags: wire.FlagInitiator}
				h.SPIi, h.SPIr = to.M.SPIs()
				give(s, to, d, s.Seal(&iketest.Opened{From: a.Ends[0], Header: h, Payloads: ps}))
			}
		}
		if to.M.Snapshot() != before || to.Established != nil || len(to.Made) != 0 {
			t.Errorf("without %v: something goes on in %v", missing, to.M.State())
		}
		clean(t, s)
		if len(b.Ends) != 1 {
			t.Errorf("without %v: another machine", missing)
		}
	}
	// The same for IKE_SA_INIT: there is not even a machine to ask.
	for _, missing := range []wire.PayloadType{wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce} {
		s, a, b := hosts(t, 40)
		m := initRequest(t, s, a, b)
		raw := edit(m, func(m *wire.Message) {
			m.Payloads = slices.DeleteFunc(m.Payloads, func(p wire.Payload) bool { return p.Type() == missing })
		})
		s.Inject(iketest.Datagram{From: a.Addr, To: b.Addr, Data: raw})
		for _, spir := range []uint64{0, 1, m.SPIi} {
			for _, x := range []wire.ExchangeType{wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational} {
				next := wire.Message{Header: wire.Header{SPIi: m.SPIi, SPIr: spir, Exchange: x, Flags: wire.FlagInitiator, MessageID: 1},
					Payloads: []wire.Payload{&wire.Encrypted{Body: make([]byte, 64)}}}
				s.Inject(iketest.Datagram{From: a.Addr, To: b.Addr, Data: iketest.Encode(&next)})
			}
		}
		s.Run(300*time.Millisecond, nil) // a sends its own again after 500 ms
		if len(b.Ends) != 0 || b.Gate.Len() != 0 {
			t.Errorf("without %v: %d machines", missing, len(b.Ends))
		}
		clean(t, s)
	}
}

// Each payload under each number: what is needed is missed, whatever stands in its place.
func TestCVE_2013_6467_Renumbered(t *testing.T) {
	needed := []wire.PayloadType{wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce, wire.PayloadIDi, wire.PayloadAuth, wire.PayloadTSi, wire.PayloadTSr}
	// places are where the numbers of the payloads stand.
	places := func(b []byte, at, next int) (out []int) {
		for out = append(out, next); b[at] != 0; at += int(b[at+2])<<8 | int(b[at+3]) {
			out = append(out, at)
		}
		return out
	}
	s, a, b := hosts(t, 41)
	raw := iketest.Encode(initRequest(t, s, a, b))
	for _, at := range places(raw, wire.HeaderLen, 16) {
		for typ := range 256 {
			c := bytes.Clone(raw)
			c[at] = byte(typ)
			_, alive := respond(t, s, b, c)
			if was := wire.PayloadType(raw[at]); alive && typ != int(was) && slices.Contains(needed, was) {
				t.Errorf("IKE_SA_INIT with %v as type %d is taken", was, typ)
			}
		}
	}
	clean(t, s)
	for i := range 7 {
		for typ := 0; typ < 256; typ++ {
			if typ == 56 {
				typ = 200 // the rest is unknown
			}
			s, _, _, d, to := at(t, 42, "IKE_AUTH request")
			was := wire.PayloadNone
			data := resealed(t, s, d, func(o *iketest.Opened) {
				first, chain := iketest.EncodeChain(o.Payloads)
				inner := append([]byte{byte(first)}, chain...)
				if at := places(inner, 1, 0); i < len(at) {
					was = wire.PayloadType(inner[at[i]])
					inner[at[i]] = byte(typ)
				}
				o.First, o.Raw = wire.PayloadType(inner[0]), inner[1:]
			})
			got := deliver(t, s, d, to, data)
			clean(t, s)
			if (got.lives || to.Established != nil) && wire.PayloadType(typ) != was && slices.Contains(needed, was) {
				t.Errorf("IKE_AUTH with %v as type %d is taken", was, typ)
			}
			if typ == 200 || was == wire.PayloadNone {
				break
			}
		}
	}
}

// Every payload type in an established SA, those of IKEv1 and of nobody included: what is
// unknown is passed over, what is malformed ends this SA and nothing else.
func TestCVE_2015_3991_EveryPayloadType(t *testing.T) {
	s, a, b := hosts(t, 43)
	e, o := up(t, s, a, b)
	other := a.Connect(b, nil)
	both(t, s, other)
	id := uint32(2)
	for typ := 1; typ < 256; typ++ {
		p := wire.PayloadType(typ)
		for _, body := range [][]byte{nil, {1}, bytes.Repeat([]byte{byte(typ)}, 40)} {
			s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: id}, &wire.Unknown{PType: p, Data: body})
			n := b.Counters.Responses.Load()
			s.Run(30*time.Millisecond, nil)
			id++
			if typ < 33 && (!o.Up() || b.Counters.Responses.Load() != n+1) {
				t.Fatalf("type %d of %d octets: not passed over", typ, len(body))
			}
			if !o.Up() {
				e, o = up(t, s, a, b)
				id = 2
			}
		}
	}
	if !other.Up() || s.Panics() != 0 {
		t.Errorf("another SA is up %v, %d panics", other.Up(), s.Panics())
	}
}

// A refusal shows no SPI, and none that was ever made leads anywhere.
func TestCVE_2023_30570_NothingBehindARefusal(t *testing.T) {
	for name, change := range map[string]func(m *wire.Message){
		"suite": func(m *wire.Message) {
			p := iketest.MustIKE("aes128-sha256-modp2048")[0]
			p.Num = 1
			for i, x := range m.Payloads {
				if _, ok := x.(*wire.SA); ok {
					m.Payloads[i] = &wire.SA{Proposals: []wire.Proposal{p}}
				}
			}
		},
		"group": func(m *wire.Message) {
			for i, x := range m.Payloads {
				if _, ok := x.(*wire.KE); ok {
					m.Payloads[i] = &wire.KE{Group: wire.GroupECP384, Data: make([]byte, 96)}
				}
			}
		},
		"critical": func(m *wire.Message) { m.Payloads = append(m.Payloads, &wire.Unknown{PType: 99, Critical: true}) },
	} {
		s, a, b := hosts(t, 44)
		m := initRequest(t, s, a, b)
		stranger := s.AddHost("venus", "192.0.2.66:500")
		var answers []wire.Header
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			h, err := wire.ParseHeader(d.Data)
			if err != nil {
				t.Error(err)
			}
			if d.From == b.Addr {
				answers = append(answers, h)
			}
			return nil
		}
		s.Inject(iketest.Datagram{From: stranger.Addr, To: b.Addr, Data: edit(m, change)})
		s.Run(time.Second, nil)
		if len(answers) != 1 || answers[0].SPIr != 0 || b.Gate.Len() != 0 {
			t.Fatalf("%s: %+v, %d SAs", name, answers, b.Gate.Len())
		}
		spis := []uint64{0, 1, m.SPIi}
		for _, e := range b.Ends {
			_, spir := e.M.SPIs()
			spis = append(spis, spir, e.M.LocalSPI())
		}
		for _, spir := range spis {
			next := wire.Message{Header: wire.Header{SPIi: m.SPIi, SPIr: spir, Exchange: wire.ExchangeIKEAuth, Flags: wire.FlagInitiator, MessageID: 1},
				Payloads: []wire.Payload{&wire.Encrypted{Body: make([]byte, 200)}}}
			s.Inject(iketest.Datagram{From: stranger.Addr, To: b.Addr, Data: iketest.Encode(&next)})
			s.Run(2*time.Second, nil)
		}
		for _, h := range answers[1:] {
			if h.Exchange != wire.ExchangeIKEAuth || h.Next != wire.PayloadNotify {
				t.Errorf("%s: answered with %+v", name, h)
			}
		}
		for _, e := range b.Ends {
			if e.Closed == nil || e.Keys != nil {
				t.Errorf("%s: something is left: %v", name, e.M.State())
			}
		}
		clean(t, s)
	}
}

// counted counts log lines and their longest.
type counted struct{ lines, longest int }

func (c *counted) Write(b []byte) (int, error) {
	c.lines++
	c.longest = max(c.longest, len(b))
	return len(b), nil
}

// Everything that is refused is refused with full logging, where the state that a log line
// might speak of was never made. No line is longer than a screen, whatever is in the message
// (CVE-2015-3204).
func TestCVE_2022_23094_CVE_2015_3204_RefusalsAreLogged(t *testing.T) {
	var log counted
	s, a, b := hosts(t, 45)
	b.Config.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	longest := func(err error) {
		if err != nil && len(err.Error()) > 3000 {
			t.Errorf("an error of %d octets: %.200s", len(err.Error()), err)
		}
	}
	m := initRequest(t, s, a, b)
	raw := iketest.Encode(m)
	good, hostile := m.Payloads, []wire.Payload{}
	p := wire.Proposal{Num: 1, Protocol: wire.ProtocolIKE}
	for i := range 200 {
		p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformType(1 + i%5), ID: uint16(60000 + i), KeyBits: uint16(i)})
	}
	for n := range 16 {
		p.Num = uint8(n + 1)
		hostile = append(hostile, &wire.SA{Proposals: slices.Repeat([]wire.Proposal{p}, n+1)})
	}
	hostile = append(hostile, &wire.Vendor{Data: bytes.Repeat([]byte("\x1b[2J\n"), 800)}, &wire.Notify{NType: 8191, Data: bytes.Repeat([]byte("\n"), 3000)},
		&wire.CertReq{Encoding: 200, Authority: bytes.Repeat([]byte{0xff}, 3000)}, &wire.Unknown{PType: 250, Critical: true, Data: make([]byte, 2000)},
		&wire.Notify{NType: 1, SPI: make([]byte, 255), Data: make([]byte, 2000)})
	try := func(raw []byte) {
		cfg := b.Config
		m, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: a.Addr}, raw, s.Now)
		longest(err)
		if m != nil {
			for {
				o, ok := m.Next()
				if !ok {
					break
				}
				if f, ok := o.(*ike.Failed); ok {
					longest(f.Err)
				}
			}
		}
	}
	for n := range raw {
		try(iketest.FixLength(bytes.Clone(raw[:n])))
		c := bytes.Clone(raw)
		c[n] ^= 0x55
		try(c)
	}
	for _, h := range hostile {
		m.Payloads = append(slices.Clone(good), h)
		try(iketest.Encode(m))
		m.Payloads = slices.DeleteFunc(m.Payloads, func(p wire.Payload) bool { return p.Type() == h.Type() && p != h })
		try(iketest.Encode(m))
	}
	if n := b.Counters.Panics.Load(); n != 0 {
		t.Errorf("%d panics", n)
	}
	// An identity as long as a message, shown in refusals and logs.
	for _, typ := range []wire.IDType{wire.IDFQDN, wire.IDKeyID, wire.IDDERASN1DN, 200} {
		s, _, b, d, to := at(t, 46, "IKE_AUTH request")
		b.WantID = id("venus")
		to.M.ConfigForTest().Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		deliver(t, s, d, to, resealed(t, s, d, func(o *iketest.Opened) {
			for i, p := range o.Payloads {
				if x, ok := p.(*wire.ID); ok && !x.Responder {
					o.Payloads[i] = &wire.ID{IType: typ, Data: bytes.Repeat([]byte("\x00\xff"), 10000)}
				}
			}
		}))
		clean(t, s)
		longest(to.Failed)
		if to.Failed == nil || to.Established != nil {
			t.Errorf("%v: taken", typ)
		}
	}
	if log.lines == 0 || log.longest > 5000 {
		t.Errorf("%d log lines, the longest of %d octets", log.lines, log.longest)
	}
}

// A fragment that does not authenticate changes nothing of the SA, nor of what is being
// collected.
func TestROW_52_FragmentsChangeNothingUnverified(t *testing.T) {
	s, a, b := hosts(t, 47)
	small(256, a, b)
	long(300, a, b)
	var held []iketest.Datagram
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if _, _, ok := isFragment(d); ok && isRequest(d) {
			d.Data = bytes.Clone(d.Data)
			held = append(held, d)
			return nil
		}
		return []iketest.Datagram{d}
	}
	a.Connect(b, nil)
	s.Run(100*time.Millisecond, nil)
	if len(held) < 3 {
		t.Fatalf("%d fragments", len(held))
	}
	to := b.Ends[0]
	give(s, to, held[0], bytes.Clone(held[0].Data))
	state, kept := to.M.Snapshot(), to.M.Fragments()
	for _, d := range held[1:] {
		for i := range d.Data {
			c := bytes.Clone(d.Data)
			c[i] ^= 1 << (i % 8)
			if i == 17 || i == 19 {
				c[i] = d.Data[i] ^ 0x80 // ignored, but protected
			}
			give(s, to, d, c)
			if to.M.Fragments() != kept || to.M.Snapshot() != state {
				t.Fatalf("octet %d changed: %d octets kept, before %d", i, to.M.Fragments(), kept)
			}
		}
	}
	for _, d := range held[1:] {
		give(s, to, d, bytes.Clone(d.Data))
	}
	s.Tap = nil
	s.Run(time.Second, nil)
	if !to.Up() {
		t.Errorf("the true ones are not taken: %s", s.Summary())
	}
	clean(t, s)
}

// Fragments in the worst order cost what they are long, and more than the cap nothing at all.
func TestADV_G10_CVE_2016_10396_FragmentsInLinearTime(t *testing.T) {
	cost := func(total, size int) (octets uint64) {
		f := newFragmented(t, 48)
		var raw [][]byte
		f.s.Faults.Delay = 0
		for i := total; i >= 1; i-- { // the last first
			first := wire.PayloadNone
			if i == 1 {
				first = wire.PayloadVendor
			}
			raw = append(raw, f.s.SealFragment(f.e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: f.id}, first, uint16(i), uint16(total), make([]byte, size)))
		}
		p := f.o.M.Path()
		d := iketest.Datagram{From: p.Remote, To: p.Local}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, b := range raw {
			give(f.s, f.o, d, b)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	some, more := cost(32, 40), cost(128, 40)
	if more > 6*some {
		t.Errorf("32 fragments allocate %d octets, 128 %d", some, more)
	}
	if beyond := cost(1000, 40); beyond > 1000*600 {
		t.Errorf("1,000 fragments, more than are taken, allocate %d octets", beyond)
	}
}

// heap returns the octets that are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Crafted messages leave nothing behind, wherever they are refused.
func TestCVE_2026_35424_HeapIsFlat(t *testing.T) {
	s, a, b := hosts(t, 49)
	e, o := up(t, s, a, b)
	s2, _, _, d, half := at(t, 49, "IKE_AUTH request")
	cfg := b.Config
	raw := initRequest(t, s, a, b)
	raw.Payloads = append(raw.Payloads, &wire.Unknown{PType: 99, Critical: true})
	refused := iketest.Encode(raw)
	raw.Payloads = raw.Payloads[:1]
	malformed := iketest.Encode(raw)
	h := wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2, Flags: wire.FlagInitiator}
	h.SPIi, h.SPIr = o.M.SPIs()
	forged := s.Seal(&iketest.Opened{From: e, Header: h})
	forged[len(forged)-1] ^= 1
	junk := bytes.Clone(d.Data)
	junk[len(junk)-1] ^= 1
	p := o.M.Path()
	spray := func(n int) {
		for range n {
			for _, b := range [][]byte{malformed, refused} {
				if m, err := ike.NewResponder(&cfg, ike.Path{Local: p.Local, Remote: p.Remote}, b, s.Now); err == nil {
					for _, ok := m.Next(); ok; _, ok = m.Next() {
					}
				}
			}
			give(s, o, iketest.Datagram{From: p.Remote, To: p.Local}, forged)
			give(s2, half, d, junk)
		}
	}
	spray(500)
	before := heap()
	spray(20_000)
	if grown := int64(heap()) - int64(before); grown > 64<<10 {
		t.Errorf("80,000 messages leave %d octets", grown)
	}
	clean(t, s)
	clean(t, s2)
	runtime.KeepAlive([]any{e, o, half})
}

// What a peer that has only exchanged keys can make us keep.
func TestCVE_2025_22869_MemoryBeforeAuthentication(t *testing.T) {
	s, a, b := hosts(t, 50)
	small(1280, a, b)
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.Data[18] == byte(wire.ExchangeIKEAuth) {
			return nil
		}
		return []iketest.Datagram{d}
	}
	e := a.Connect(b, nil)
	s.Run(50*time.Millisecond, nil)
	if len(b.Ends) != 1 || b.Ends[0].Established != nil {
		t.Fatal(s.Summary())
	}
	o := b.Ends[0]
	before := heap()
	most := 0
	for id := range uint32(3) {
		for i := range 128 {
			s.ForgeFragment(e, wire.Header{Exchange: wire.ExchangeIKEAuth, MessageID: id}, wire.PayloadNone, uint16(128-i), 128, make([]byte, 1100))
			s.Run(20*time.Millisecond, nil)
			most = max(most, o.M.Fragments())
		}
	}
	if most == 0 || most > 32<<10 {
		t.Errorf("%d octets of fragments kept", most)
	}
	if grown := int64(heap()) - int64(before); grown > 256<<10 {
		t.Errorf("%d octets more", grown)
	}
	if s.Panics() != 0 || o.Established != nil {
		t.Errorf("%d panics, %v", s.Panics(), o.M.State())
	}
	runtime.KeepAlive(o)
}
