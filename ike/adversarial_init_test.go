package ike_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// initRequest returns a good IKE_SA_INIT request of a fresh initiator.
func initRequest(t testing.TB, s *iketest.Sim, a, b *iketest.Host) *wire.Message {
	t.Helper()
	var raw []byte
	tap := s.Tap
	s.Tap = func(d iketest.Datagram) []iketest.Datagram { raw = bytes.Clone(d.Data); return nil }
	a.Connect(b, nil)
	s.Tap = tap
	m, err := wire.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// respond gives a request to a new responder and returns its first answer, nil if it
// drops it, and whether it is alive.
func respond(t testing.TB, s *iketest.Sim, b *iketest.Host, raw []byte) (answer *wire.Message, alive bool) {
	t.Helper()
	cfg := b.Config
	in := bytes.Clone(raw)
	m, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: s.Host(mustAddr("192.0.2.1")).Addr}, in, s.Now)
	for i := range in {
		in[i] = 0xaa
	}
	if err != nil {
		if m != nil && len(err.Error()) == 0 {
			t.Error("no reason")
		}
		return nil, false
	}
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if answer, err = wire.Parse(bytes.Clone(d.Data)); err != nil {
			t.Error(err)
		}
		return nil
	}
	e := b.Adopt(m)
	e.Do(func(*ike.Machine) {})
	s.Tap = nil
	return answer, e.Closed == nil
}

func edit(m *wire.Message, f func(m *wire.Message)) []byte {
	c := *m
	c.Payloads = slices.Clone(m.Payloads)
	f(&c)
	return iketest.Encode(&c)
}

func TestResponderInit(t *testing.T) {
	drop := func(m *wire.Message, typ wire.PayloadType) {
		m.Payloads = slices.DeleteFunc(m.Payloads, func(p wire.Payload) bool { return p.Type() == typ })
	}
	double := func(m *wire.Message, typ wire.PayloadType) {
		for _, p := range m.Payloads {
			if p.Type() == typ {
				m.Payloads = append(m.Payloads, p)
				return
			}
		}
	}
	add := func(m *wire.Message, p wire.Payload) { m.Payloads = append(m.Payloads, p) }
	withKE := func(m *wire.Message, k *wire.KE) { drop(m, wire.PayloadKE); add(m, k) }
	withNonce := func(m *wire.Message, n int) { drop(m, wire.PayloadNonce); add(m, &wire.Nonce{Data: make([]byte, n)}) }
	withSA := func(m *wire.Message, ps ...wire.Proposal) {
		drop(m, wire.PayloadSA)
		add(m, &wire.SA{Proposals: ps})
	}
	prop := func(change func(p *wire.Proposal)) wire.Proposal {
		p := iketest.MustIKE("aes256gcm16-prfsha256-x25519")[0]
		p.Num = 1
		p.Transforms = slices.Clone(p.Transforms)
		change(&p)
		return p
	}
	without := func(typ wire.TransformType) wire.Proposal {
		return prop(func(p *wire.Proposal) {
			p.Transforms = slices.DeleteFunc(p.Transforms, func(t wire.Transform) bool { return t.Type == typ })
		})
	}
	const silent, accept = wire.NotifyType(0), wire.NotifyType(65535)
	np, ke := wire.NotifyNoProposalChosen, wire.NotifyInvalidKEPayload
	tests := []struct {
		name   string
		change func(m *wire.Message)
		want   wire.NotifyType
	}{
		{"good", func(m *wire.Message) {}, accept},
		{"ADV-A7 SPIi 0", func(m *wire.Message) { m.SPIi = 0 }, silent},
		{"ADV-A8 SPIr set", func(m *wire.Message) { m.SPIr = 1 }, silent},
		{"ADV-A9 message ID 1", func(m *wire.Message) { m.MessageID = 1 }, silent},
		{"response", func(m *wire.Message) { m.Flags |= wire.FlagResponse }, silent},
		{"not from the initiator", func(m *wire.Message) { m.Flags = 0 }, silent},
		{"ADV-A4 version 3", func(m *wire.Message) { m.Version = 0x30 }, silent},
		{"ADV-A5 version 1", func(m *wire.Message) { m.Version = 0x10 }, silent},
		{"ADV-A6 version 2.15", func(m *wire.Message) { m.Version = 0x2f }, accept},
		{"IKE_AUTH", func(m *wire.Message) { m.Exchange = wire.ExchangeIKEAuth }, silent},
		{"header only", func(m *wire.Message) { m.Payloads = nil }, silent},
		{"ADV-B1 no SA", func(m *wire.Message) { drop(m, wire.PayloadSA) }, silent},
		{"ADV-B1 no KE", func(m *wire.Message) { drop(m, wire.PayloadKE) }, silent},
		{"ADV-B1 no nonce", func(m *wire.Message) { drop(m, wire.PayloadNonce) }, silent},
		{"ADV-B1 two SA", func(m *wire.Message) { double(m, wire.PayloadSA) }, silent},
		{"ADV-B1 two KE", func(m *wire.Message) { double(m, wire.PayloadKE) }, silent},
		{"ADV-B1 two nonces", func(m *wire.Message) { double(m, wire.PayloadNonce) }, silent},
		{"ADV-B2 other order", func(m *wire.Message) { slices.Reverse(m.Payloads) }, accept},
		{"ADV-B3 unknown payload", func(m *wire.Message) { add(m, &wire.Unknown{PType: 99, Data: []byte{1}}) }, accept},
		{"ADV-B4 unknown critical payload", func(m *wire.Message) { add(m, &wire.Unknown{PType: 99, Critical: true}) }, wire.NotifyUnsupportedCriticalPayload},
		{"ADV-B4 critical, and SPIr set", func(m *wire.Message) { m.SPIr = 1; add(m, &wire.Unknown{PType: 99, Critical: true}) }, silent},
		{"ADV-B6 unknown notifies", func(m *wire.Message) { add(m, &wire.Notify{NType: 8191}); add(m, &wire.Notify{NType: 50000}) }, accept},
		{"ADV-G1 SK inside", func(m *wire.Message) { add(m, &wire.Encrypted{Body: make([]byte, 40)}) }, silent},
		{"ADV-B7 number 2", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.Num = 2 })) }, silent},
		{"ADV-B8 SPI", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.SPI = make([]byte, 8) })) }, np},
		{"ADV-B8 ESP", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.Protocol = wire.ProtocolESP })) }, np},
		{"ADV-B9 other suite", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.Transforms[0].ID = wire.Encr3DES })) }, np},
		{"ADV-B10 no ENCR", func(m *wire.Message) { withSA(m, without(wire.TransformEncr)) }, np},
		{"ADV-B10 no PRF", func(m *wire.Message) { withSA(m, without(wire.TransformPRF)) }, np},
		{"CVE-2016-5391 no KE", func(m *wire.Message) { withSA(m, without(wire.TransformKE)) }, np},
		{"ADV-B11 key length 127", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.Transforms[0].KeyBits = 127 })) }, np},
		{"ADV-B11 no key length", func(m *wire.Message) { withSA(m, prop(func(p *wire.Proposal) { p.Transforms[0].KeyBits = 0 })) }, np},
		{"ADV-B12 AEAD with INTEG", func(m *wire.Message) {
			withSA(m, prop(func(p *wire.Proposal) {
				p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformInteg, ID: wire.IntegHMACSHA256})
			}))
		}, np},
		{"ADV-B13 other group", func(m *wire.Message) { withKE(m, &wire.KE{Group: wire.GroupECP256, Data: make([]byte, 64)}) }, ke},
		{"CVE-2014-9221 group 1025", func(m *wire.Message) { withKE(m, &wire.KE{Group: 1025, Data: make([]byte, 64)}) }, ke},
		{"ADV-B15 KE of 31 octets", func(m *wire.Message) { withKE(m, &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 31)}) }, silent},
		{"ADV-B15 KE of 33 octets", func(m *wire.Message) { withKE(m, &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 33)}) }, silent},
		{"ADV-B15 KE of 60000 octets", func(m *wire.Message) { withKE(m, &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 60000)}) }, silent},
		{"ADV-B16 KE of zeros", func(m *wire.Message) { withKE(m, &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 32)}) }, silent},
		{"ADV-B17 nonce of 15", func(m *wire.Message) { withNonce(m, 15) }, silent},
		{"ADV-B17 nonce of 16", func(m *wire.Message) { withNonce(m, 16) }, accept},
		{"ADV-B17 nonce of 256", func(m *wire.Message) { withNonce(m, 256) }, accept},
		{"ADV-B17 nonce of 257", func(m *wire.Message) { withNonce(m, 257) }, silent},
		{"ADV-B24 hundred hashes", func(m *wire.Message) {
			for i := range 100 {
				add(m, &wire.Notify{NType: wire.NotifyNATDetectionSourceIP, Data: make([]byte, 20+i%3)})
			}
		}, accept},
		{"ADV-B25 odd hash list", func(m *wire.Message) {
			add(m, &wire.Notify{NType: wire.NotifySignatureHashAlgorithms, Data: make([]byte, 7)})
		}, accept},
		{"ADV-B25 long hash list", func(m *wire.Message) {
			add(m, &wire.Notify{NType: wire.NotifySignatureHashAlgorithms, Data: make([]byte, 60000)})
		}, accept},
		{"ADV-B26 sixty vendor IDs and a long CERTREQ", func(m *wire.Message) {
			for range 60 {
				add(m, &wire.Vendor{Data: []byte("vendor")})
			}
			add(m, &wire.CertReq{Encoding: wire.CertX509, Authority: make([]byte, 60000)})
		}, accept},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b := hosts(t, 1)
			raw := edit(initRequest(t, s, a, b), tt.change)
			answer, alive := respond(t, s, b, raw)
			clean(t, s)
			switch {
			case tt.want == silent:
				if answer != nil || alive {
					t.Errorf("answer %v, alive %v", answer, alive)
				}
			case answer == nil:
				t.Fatal("no answer")
			case tt.want == accept:
				if !alive || answer.SPIr == 0 || len(answer.Payloads) < 3 {
					t.Errorf("not accepted: %+v", answer)
				}
			default:
				n, _ := wire.Get[*wire.Notify](answer.Payloads)
				// RFC 7296, Section 2.6: no SPI, no state (CVE-2023-30570).
				if n == nil || n.NType != tt.want || len(answer.Payloads) != 1 || answer.SPIr != 0 || alive || answer.SPIi == 0 {
					t.Fatalf("%+v, alive %v", answer, alive)
				}
				if len(raw) < int(answer.Length) {
					t.Error("I12: the refusal is longer than the request")
				}
				switch {
				case tt.want == ke && !bytes.Equal(n.Data, []byte{0, byte(wire.GroupX25519)}),
					tt.want == wire.NotifyUnsupportedCriticalPayload && !bytes.Equal(n.Data, []byte{99}),
					tt.want == np && len(n.Data) != 0:
					t.Errorf("data %x", n.Data)
				}
			}
		})
	}
}

// Every one of the 65,536 group numbers of the KE payload: ours is taken, all others are
// answered with ours, none harms (ADV-B14, CVE-2014-9221).
func TestADV_B14_CVE_2014_9221_EveryGroup(t *testing.T) {
	s, a, b := hosts(t, 2)
	m := initRequest(t, s, a, b)
	cfg := b.Config
	cfg.Log = nil // a line for each
	k, ok := wire.Get[*wire.KE](m.Payloads)
	if !ok {
		t.Fatal("no KE")
	}
	taken, refused := 0, 0
	for g := range 1 << 16 {
		k.Group = uint16(g)
		raw := iketest.Encode(m)
		r, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: a.Addr}, raw, s.Now)
		if err != nil {
			t.Fatalf("group %d: %v", g, err)
		}
		if r.State() == ike.StateInitBusy {
			taken++
			if uint16(g) != wire.GroupX25519 {
				t.Errorf("group %d is taken", g)
			}
			continue
		}
		refused++
		var said []wire.Payload
		for o, more := r.Next(); more; o, more = r.Next() {
			if x, ok := o.(*ike.Send); ok {
				if answer, err := wire.Parse(x.Data); err == nil && answer.SPIr == 0 && len(x.Data) <= len(raw) {
					said = append(said, answer.Payloads...)
				}
			}
		}
		n, ok := &wire.Notify{}, false
		if len(said) == 1 {
			n, ok = said[0].(*wire.Notify)
		}
		if !ok || n.NType != wire.NotifyInvalidKEPayload || !bytes.Equal(n.Data, []byte{0, byte(wire.GroupX25519)}) || r.State() != ike.StateClosed {
			t.Fatalf("group %d: %v, %v", g, r.State(), said)
		}
	}
	if taken != 1 || refused != 1<<16-1 || b.Counters.Panics.Load() != 0 {
		t.Errorf("%d taken, %d refused", taken, refused)
	}
}

// Every prefix and every changed octet of an IKE_SA_INIT request: refused or served,
// never a panic, and never more out than in but for the response.
func TestADV_A1_A3_A15_CVE_2005_3732_InitBytes(t *testing.T) {
	s, a, b := hosts(t, 3)
	raw := iketest.Encode(initRequest(t, s, a, b))
	cfg := b.Config
	try := func(raw []byte) {
		m, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: a.Addr}, raw, s.Now)
		if err == nil && m == nil {
			t.Error("neither machine nor error")
		}
	}
	for n := range raw {
		if _, err := ike.NewResponder(&cfg, ike.Path{Local: b.Addr, Remote: a.Addr}, raw[:n], s.Now); err == nil {
			t.Fatalf("prefix of %d octets accepted", n)
		}
		try(iketest.FixLength(bytes.Clone(raw[:n])))
		for _, x := range []byte{1, 0x80, 0xff} {
			c := bytes.Clone(raw)
			c[n] ^= x
			try(c)
		}
	}
	if b.Counters.Panics.Load() != 0 {
		t.Error("panic")
	}
}

// initiator returns a machine that has sent its IKE_SA_INIT, and its request.
func initiator(t testing.TB, s *iketest.Sim, a, b *iketest.Host) (*iketest.End, *wire.Message) {
	t.Helper()
	m := initRequest(t, s, a, b)
	return a.Ends[len(a.Ends)-1], m
}

func reply(m *wire.Message, ps ...wire.Payload) []byte {
	r := wire.Message{Header: wire.Header{SPIi: m.SPIi, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagResponse}, Payloads: ps}
	return iketest.Encode(&r)
}

// Forged refusals do not end the attempt; the true response wins (ADV-C1).
func TestADV_C1_ForgedRefusals(t *testing.T) {
	for _, n := range []wire.NotifyType{wire.NotifyNoProposalChosen, wire.NotifyInvalidSyntax, wire.NotifyAuthenticationFailed,
		wire.NotifyInvalidMajorVersion, wire.NotifyInvalidIKESPI, 8000} {
		s, a, b := hosts(t, 4)
		e, req := initiator(t, s, a, b)
		for range 1000 {
			s.Inject(iketest.Datagram{From: b.Addr, To: a.Addr, Data: reply(req, &wire.Notify{NType: n})})
		}
		both(t, s, e)
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.Unverified) != 1 || e.Failed != nil {
			t.Errorf("%v reported %d times", n, len(e.Unverified))
		}
		wantNotify(t, e.Unverified[0], n, true)
	}
}

// A peer that really refuses is believed after a while, with its reason.
func TestRefusedForReal(t *testing.T) {
	s, a, b := hosts(t, 5)
	b.Config.Proposals = iketest.MustIKE("aes128-sha256-modp2048")
	e := a.Connect(b, nil)
	s.Run(5*time.Second, nil)
	if e.Failed != nil || len(e.Unverified) != 1 {
		t.Errorf("after 5 s: %v, %v", e.Failed, e.Unverified)
	}
	s.Run(55*time.Second, nil)
	clean(t, s)
	wantNotify(t, e.Failed, wire.NotifyNoProposalChosen, true)
	var n *ike.NotifyError
	if !errors.As(e.Failed, &n) || n.Verified {
		t.Error("it was not authenticated")
	}
	if !bytes.Contains([]byte(e.Failed.Error()), []byte("aes256gcm16")) {
		t.Errorf("does not say what we offer: %v", e.Failed)
	}
	if len(b.Ends) == 0 || b.Gate.Len() != 0 {
		t.Error("the responder keeps state")
	}
	// Two sides' lists, at the responder.
	var f *ike.NotifyError
	if err := b.Ends[0].Failed; !errors.As(err, &f) || f.Remote || f.Err == nil {
		t.Errorf("%v", err)
	}
}

// sends counts what the initiator sends while datagrams are thrown at it.
func sends(s *iketest.Sim, a *iketest.Host, d time.Duration, n int, make func(i int) []byte, from *iketest.Host) (count int, distinct map[string]bool) {
	distinct = map[string]bool{}
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.From == a.Addr {
			count++
			distinct[string(d.Data)] = true
		}
		return nil
	}
	for i := range n {
		s.Inject(iketest.Datagram{From: from.Addr, To: a.Addr, Data: make(i)})
		s.Run(d/time.Duration(n), nil)
	}
	return count, distinct
}

func TestADV_C2_GroupNeverOffered(t *testing.T) {
	s, a, b := hosts(t, 6)
	e, req := initiator(t, s, a, b)
	for _, data := range [][]byte{{0, 14}, {4, 1}, {0, 0}, {}, {31}, {0, 31, 0}} {
		s.Inject(iketest.Datagram{From: b.Addr, To: a.Addr, Data: reply(req, &wire.Notify{NType: wire.NotifyInvalidKEPayload, Data: data})})
	}
	s.Run(100*time.Millisecond, nil)
	if s.Datagrams != 1 {
		t.Errorf("%d datagrams", s.Datagrams)
	}
	both(t, s, e)
	clean(t, s)
}

func TestADV_C3_ROW_97_GroupsInTurn(t *testing.T) {
	s, a, b := hosts(t, 7)
	a.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-x25519-ecp256-ecp384")
	e, req := initiator(t, s, a, b)
	groups := []uint16{wire.GroupECP256, wire.GroupECP384, wire.GroupX25519, wire.GroupECP256}
	n, distinct := sends(s, a, 400*time.Millisecond, 400, func(i int) []byte {
		return reply(req, &wire.Notify{NType: wire.NotifyInvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, groups[i%4])})
	}, b)
	if n != 2 || len(distinct) != 2 {
		t.Errorf("%d retries at once, want one for each group", n)
	}
	s.Tap = nil
	both(t, s, e) // and the true peer still wins, although all this was forged
	clean(t, s)
	if g := e.Established.Suite.Group; g != wire.GroupX25519 {
		t.Errorf("group %d", g)
	}
}

func TestADV_C4_ForgedCookies(t *testing.T) {
	s, a, b := hosts(t, 8)
	e, req := initiator(t, s, a, b)
	n, _ := sends(s, a, 10*time.Second, 1000, func(i int) []byte {
		return reply(req, &wire.Notify{NType: wire.NotifyCookie, Data: fmt.Appendf(nil, "cookie %d", i)})
	}, b)
	if n < 2 || n > 13 {
		t.Errorf("1,000 cookies made %d sends", n)
	}
	for _, bad := range [][]byte{nil, make([]byte, 65)} {
		before := e.M.Snapshot()
		e.Do(func(m *ike.Machine) {
			m.Datagram(s.Now, ike.Path{Local: a.Addr, Remote: b.Addr}, reply(req, &wire.Notify{NType: wire.NotifyCookie, Data: bad}))
		})
		if e.M.Snapshot() != before {
			t.Errorf("cookie of %d octets changes something", len(bad))
		}
	}
	s.Tap = nil
	both(t, s, e)
	clean(t, s)
}

// Responses that no honest peer sends change nothing (ADV-C6, ADV-C7, ADV-C10).
func TestADV_C6_C7_C10_BadResponses(t *testing.T) {
	s0, a0, b0 := hosts(t, 9)
	e0, req := initiator(t, s0, a0, b0)
	good, alive := respond(t, s0, b0, iketest.Encode(req))
	if good == nil || !alive {
		t.Fatal("no response to start from")
	}
	_ = e0
	get := func(m *wire.Message) (*wire.SA, *wire.KE, *wire.Nonce) {
		sa, _ := wire.Get[*wire.SA](m.Payloads)
		ke, _ := wire.Get[*wire.KE](m.Payloads)
		n, _ := wire.Get[*wire.Nonce](m.Payloads)
		return sa, ke, n
	}
	ourSA, ourKE, ourNonce := get(req)
	tests := []struct {
		name   string
		change func(m *wire.Message)
		drop   ike.Drop
	}{
		{"ADV-C7 SPIr 0", func(m *wire.Message) { m.SPIr = 0 }, ike.DropReflected},
		{"ADV-C7 SPIr is SPIi", func(m *wire.Message) { m.SPIr = m.SPIi }, ike.DropReflected},
		{"ADV-C7 our nonce", func(m *wire.Message) { _, _, n := get(m); n.Data = ourNonce.Data }, ike.DropReflected},
		{"ADV-C7 our KE", func(m *wire.Message) { _, k, _ := get(m); k.Data = ourKE.Data }, ike.DropReflected},
		{"ADV-C6 other suite", func(m *wire.Message) { sa, _, _ := get(m); sa.Proposals[0].Transforms[0].ID = wire.Encr3DES }, ike.DropSelection},
		{"ADV-C6 other key length", func(m *wire.Message) { sa, _, _ := get(m); sa.Proposals[0].Transforms[0].KeyBits = 128 }, ike.DropSelection},
		{"ADV-C6 two proposals", func(m *wire.Message) {
			sa, _, _ := get(m)
			p := sa.Proposals[0]
			p.Num++
			sa.Proposals = append(sa.Proposals, p)
		}, ike.DropSelection},
		{"ADV-C6 other number", func(m *wire.Message) { sa, _, _ := get(m); sa.Proposals[0].Num = 7 }, ike.DropSelection},
		{"ADV-C6 one transform less", func(m *wire.Message) {
			sa, _, _ := get(m)
			sa.Proposals[0].Transforms = sa.Proposals[0].Transforms[1:]
		}, ike.DropSelection},
		{"ADV-C6 KE of another group", func(m *wire.Message) { _, k, _ := get(m); k.Group = wire.GroupECP256 }, ike.DropSelection},
		{"two SA", func(m *wire.Message) { m.Payloads = append(m.Payloads, ourSA) }, ike.DropSyntax},
		{"two KE", func(m *wire.Message) { _, k, _ := get(m); m.Payloads = append(m.Payloads, k) }, ike.DropSyntax},
		{"nothing", func(m *wire.Message) { m.Payloads = nil }, ike.DropSyntax},
		{"no KE", func(m *wire.Message) { m.Payloads = m.Payloads[:1] }, ike.DropSyntax},
		{"message ID 1", func(m *wire.Message) { m.MessageID = 1 }, ike.DropWindow},
		{"initiator's flag", func(m *wire.Message) { m.Flags |= wire.FlagInitiator }, ike.DropDirection},
		{"request", func(m *wire.Message) { m.Flags = 0; m.SPIr = 0 }, ike.DropState},
		{"other SPIi", func(m *wire.Message) { m.SPIi++ }, ike.DropSPI},
		{"IKE_AUTH", func(m *wire.Message) { m.Exchange = wire.ExchangeIKEAuth }, ike.DropSPI},
		{"IKE_AUTH without SPIr", func(m *wire.Message) { m.Exchange = wire.ExchangeIKEAuth; m.SPIr = 0 }, ike.DropNoKeys},
		{"version 3", func(m *wire.Message) { m.Version = 0x30 }, ike.DropVersion},
		{"ADV-B16 KE of zeros", func(m *wire.Message) { _, k, _ := get(m); k.Data = make([]byte, 32) }, ike.DropKE},
		{"ADV-C11 REDIRECT", func(m *wire.Message) {
			m.Payloads = []wire.Payload{&wire.Notify{NType: wire.NotifyRedirect, Data: []byte{1}}}
		}, ike.DropSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b := hosts(t, 9) // the same seed: the response fits
			e, _ := initiator(t, s, a, b)
			m, err := wire.Parse(iketest.Encode(good))
			if err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			before := a.Counters.Dropped(tt.drop)
			e.Do(func(x *ike.Machine) { x.Datagram(s.Now, ike.Path{Local: a.Addr, Remote: b.Addr}, iketest.Encode(m)) })
			if got := a.Counters.Dropped(tt.drop) - before; got != 1 {
				t.Errorf("dropped as %v: %d (%d drops in all)", tt.drop, got, a.Counters.Drops())
			}
			if e.Failed != nil || e.M.State() != ike.StateInitSent {
				t.Errorf("state %v, %v", e.M.State(), e.Failed)
			}
			both(t, s, e) // the true response wins
			s.Settle(time.Minute)
			clean(t, s)
		})
	}
	t.Run("ADV-C10 from elsewhere", func(t *testing.T) {
		s, a, b := hosts(t, 9)
		e, _ := initiator(t, s, a, b)
		before := e.M.Snapshot()
		for _, from := range []string{"192.0.2.3:500", "192.0.2.2:501"} {
			e.Do(func(x *ike.Machine) {
				x.Datagram(s.Now, ike.Path{Local: a.Addr, Remote: mustAddrPort(from)}, iketest.Encode(good))
			})
		}
		if e.M.Snapshot() != before || a.Counters.Dropped(ike.DropAddress) != 2 {
			t.Error("taken")
		}
	})
}

// Flip one octet of either IKE_SA_INIT message, in all its copies: the handshake may
// fail in any way but never succeeds (ADV-C9; RFC 7296, Section 2.15).
func TestADV_C9_FlippedInit(t *testing.T) {
	for n := range 2 {
		length := []int{200, 237}[n]
		for i := 0; i < length; i++ {
			s, a, b := hosts(t, 10)
			a.Config.Retransmit.Sends, a.Config.Retransmit.Factor = 2, 1
			b.Config.HalfOpenLife = 2 * time.Second
			flip := iketest.Flip(n, i, 1<<(i%8))
			changed := false
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				out := flip(d)
				if h, err := wire.ParseHeader(d.Data); err == nil && h.Exchange == wire.ExchangeIKESAInit && !bytes.Equal(out[0].Data, d.Data) {
					changed = true
				}
				return out
			}
			e := a.Connect(b, nil)
			s.Run(5*time.Second, nil)
			if !changed {
				length = min(length, i)
				break
			}
			if e.Established != nil || len(b.Established()) != 0 {
				t.Fatalf("message %d, octet %d flipped: established", n+1, i)
			}
			if e.Failed == nil {
				t.Fatalf("message %d, octet %d flipped: %v", n+1, i, e.M.State())
			}
			for _, err := range s.Errors {
				t.Error(err)
			}
		}
		if length < 190 {
			t.Errorf("message %d has only %d octets", n+1, length)
		}
	}
}
