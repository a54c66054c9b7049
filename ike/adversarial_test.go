package ike_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// at makes a session and stops it before a message of the kind is delivered.
func at(t testing.TB, seed uint64, kind string) (s *iketest.Sim, a, b *iketest.Host, d iketest.Datagram, to *iketest.End) {
	t.Helper()
	s, a, b = hosts(t, seed)
	var held *iketest.Datagram
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		h, err := wire.ParseHeader(d.Data)
		if err != nil || held != nil {
			return nil
		}
		k := h.Exchange.String() + " request"
		if h.Flags.Response() {
			k = h.Exchange.String() + " response"
		}
		if k != kind {
			return []iketest.Datagram{d}
		}
		d.Data = bytes.Clone(d.Data)
		held = &d
		return nil
	}
	e := a.Connect(b, nil)
	s.Run(100*time.Millisecond, nil)
	if held == nil && len(e.Children) == 1 {
		switch kind {
		case "CREATE_CHILD_SA request", "CREATE_CHILD_SA response":
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		default:
			c := a.Child()
			e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.InSPI) })
		}
		s.Run(100*time.Millisecond, nil)
	}
	if held == nil {
		t.Fatalf("no %s:\n%s", kind, s.Summary())
	}
	clean(t, s)
	to = a.Ends[0]
	if held.To.Addr() == b.Addr.Addr() {
		to = b.Ends[0]
	}
	return s, a, b, *held, to
}

func kinds() []string {
	return []string{"IKE_AUTH request", "IKE_AUTH response", "CREATE_CHILD_SA request", "CREATE_CHILD_SA response",
		"INFORMATIONAL request", "INFORMATIONAL response"}
}

func give(s *iketest.Sim, e *iketest.End, d iketest.Datagram, data []byte) {
	e.Do(func(m *ike.Machine) { m.Datagram(s.Now, ike.Path{Local: d.To, Remote: d.From}, data) })
}

// Every protected message with one bit of each octet changed, cut short anywhere, or
// with octets behind: nothing changes, the message ID is not consumed, and the true
// one is taken afterwards (ADV-D1, ADV-D3, ADV-A3; CVE-2019-10155).
func TestADV_D1_D3_CVE_2019_10155_FlippedAndTruncated(t *testing.T) {
	for i, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			s, a, b, d, to := at(t, uint64(i), kind)
			before := to.M.Snapshot()
			drops := to.Host.Counters.Drops()
			n := uint64(0)
			try := func(data []byte) {
				n++
				give(s, to, d, data)
				if to.M.Snapshot() != before {
					t.Fatalf("octets %x change the SA", data[:min(32, len(data))])
				}
			}
			for i := range d.Data {
				c := bytes.Clone(d.Data)
				c[i] ^= 1 << (i % 8)
				if i == 17 || i == 19 && c[19]^d.Data[19]&^0x38 == 0 {
					c[i] = d.Data[i] ^ 0x80 // minor version and reserved flags are ignored, but protected
				}
				try(c)
				try(d.Data[:i])
				try(iketest.FixLength(bytes.Clone(d.Data[:i])))
			}
			try(append(bytes.Clone(d.Data), 0))
			try(iketest.FixLength(append(bytes.Clone(d.Data), 0)))
			if got := to.Host.Counters.Drops() - drops; got != n {
				t.Errorf("%d of %d dropped", got, n)
			}
			s.Tap = nil
			s.Inject(d)
			s.Run(time.Minute, nil)
			s.Settle(time.Minute)
			clean(t, s)
			if !a.Ends[0].Up() || !b.Ends[0].Up() {
				t.Errorf("the true message was not taken:\n%s", s.Summary())
			}
		})
	}
}

// A thousand junk IKE_AUTH on a half-open SA, then the true one (ADV-D2).
func TestADV_D2_JunkAuth(t *testing.T) {
	s, _, b, d, to := at(t, 1, "IKE_AUTH request")
	work := 0
	b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
		if _, ok := w.(*ike.WorkKE); ok {
			work++
		}
		return r
	}
	for i := range 1000 {
		junk := bytes.Clone(d.Data)
		for j := 32; j < len(junk); j++ {
			junk[j] = byte(i * j)
		}
		give(s, to, d, junk)
	}
	s.Tap = nil
	s.Inject(d)
	s.Run(time.Second, nil)
	if work != 0 || !to.Up() {
		t.Errorf("%d key exchanges, up %v", work, to.Up())
	}
	clean(t, s)
}

// resealed opens the held message, lets change edit it and returns it sealed again.
func resealed(t testing.TB, s *iketest.Sim, d iketest.Datagram, change func(o *iketest.Opened)) []byte {
	t.Helper()
	o := s.Open(d.Data)
	if o == nil {
		t.Fatal("cannot open")
	}
	change(o)
	return s.Seal(o)
}

// outcome is what a recipient does with an authentic message that is wrong.
type outcome struct {
	answer wire.NotifyType // in the response; 0 = none or no error
	lives  bool            // the IKE SA
}

// deliver gives the changed message to its recipient and reports.
func deliver(t testing.TB, s *iketest.Sim, d iketest.Datagram, to *iketest.End, data []byte) outcome {
	t.Helper()
	var got outcome
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.From == to && o.Header.Flags.Response() {
			for _, p := range o.Payloads {
				if n, ok := p.(*wire.Notify); ok && n.NType.IsError() {
					got.answer = n.NType
				}
			}
		}
		return false
	})
	// Only what it says counts, not what becomes of it.
	tap := s.Tap
	s.Tap = func(d iketest.Datagram) []iketest.Datagram { tap(d); return nil }
	give(s, to, d, data)
	got.lives = to.Failed == nil && to.Closed == nil
	return got
}

// Omit and repeat every payload of every protected message (ADV-D8, ADV-D9).
func TestADV_D8_D9_OmittedAndRepeated(t *testing.T) {
	const (
		syntax = wire.NotifyInvalidSyntax
		failed = wire.NotifyAuthenticationFailed
	)
	type row struct {
		kind  string
		typ   wire.PayloadType
		omit  outcome
		twice outcome
	}
	dead, alive := outcome{answer: syntax}, outcome{lives: true}
	rows := []row{
		{"IKE_AUTH request", wire.PayloadIDi, dead, dead},
		{"IKE_AUTH request", wire.PayloadAuth, outcome{answer: failed}, dead},
		{"IKE_AUTH request", wire.PayloadSA, dead, dead},
		{"IKE_AUTH request", wire.PayloadTSi, dead, dead},
		{"IKE_AUTH request", wire.PayloadTSr, dead, dead},
		{"IKE_AUTH request", wire.PayloadIDr, alive, dead},
		{"IKE_AUTH response", wire.PayloadIDr, outcome{}, outcome{}},
		{"IKE_AUTH response", wire.PayloadAuth, outcome{}, outcome{}},
		{"IKE_AUTH response", wire.PayloadSA, alive, outcome{}}, // no child SA, but authenticated (ADV-D23)
		{"IKE_AUTH response", wire.PayloadTSi, alive, outcome{}},
		{"IKE_AUTH response", wire.PayloadTSr, alive, outcome{}},
		{"CREATE_CHILD_SA request", wire.PayloadSA, dead, dead},
		{"CREATE_CHILD_SA request", wire.PayloadNonce, dead, dead},
		{"CREATE_CHILD_SA request", wire.PayloadTSi, dead, dead},
		{"CREATE_CHILD_SA request", wire.PayloadTSr, dead, dead},
		{"CREATE_CHILD_SA response", wire.PayloadSA, outcome{}, outcome{}},
		{"CREATE_CHILD_SA response", wire.PayloadNonce, outcome{}, outcome{}},
		{"CREATE_CHILD_SA response", wire.PayloadTSi, outcome{}, outcome{}},
		{"CREATE_CHILD_SA response", wire.PayloadTSr, outcome{}, outcome{}},
		{"INFORMATIONAL request", wire.PayloadDelete, alive, alive},
		{"INFORMATIONAL response", wire.PayloadDelete, alive, alive},
	}
	for i, r := range rows {
		for _, twice := range []bool{false, true} {
			name, want := fmt.Sprintf("%s without %s", r.kind, r.typ), r.omit
			if twice {
				name, want = fmt.Sprintf("%s with two %s", r.kind, r.typ), r.twice
			}
			t.Run(name, func(t *testing.T) {
				s, _, b, d, to := at(t, uint64(i), r.kind)
				if b.Ends[0] == to && want.answer == 0 && r.typ == wire.PayloadIDr && twice {
					t.Skip("there is none to repeat")
				}
				data := resealed(t, s, d, func(o *iketest.Opened) {
					if twice && r.typ == wire.PayloadIDr && r.kind == "IKE_AUTH request" {
						o.Payloads = append(o.Payloads, &wire.ID{IType: wire.IDFQDN, Data: []byte("x"), Responder: true})
					}
					if twice && !o.Double(r.typ) || !twice && !o.Drop(r.typ) && r.typ != wire.PayloadIDr {
						t.Fatalf("no %v in it", r.typ)
					}
				})
				got := deliver(t, s, d, to, data)
				clean(t, s)
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if r.kind == "IKE_AUTH request" && (to.Established != nil) != want.lives {
					t.Errorf("established: %v", to.Established != nil)
				}
			})
		}
	}
	// Every pair of payloads left out of IKE_AUTH: never established without AUTH and IDi.
	all := []wire.PayloadType{wire.PayloadIDi, wire.PayloadAuth, wire.PayloadSA, wire.PayloadTSi, wire.PayloadTSr}
	for i, x := range all {
		for _, y := range all[:i] {
			s, _, _, d, to := at(t, 99, "IKE_AUTH request")
			got := deliver(t, s, d, to, resealed(t, s, d, func(o *iketest.Opened) { o.Drop(x); o.Drop(y) }))
			want := dead
			if x == wire.PayloadAuth || y == wire.PayloadAuth {
				want = outcome{answer: failed}
			}
			if got != want || to.Established != nil {
				t.Errorf("without %v and %v: %+v", x, y, got)
			}
			clean(t, s)
		}
	}
}

// Authentic messages whose inside is malformed (ADV-A13, A15, D5, D7, D25, E1, F15).
func TestAuthenticButMalformed(t *testing.T) {
	const (
		syntax   = wire.NotifyInvalidSyntax
		critical = wire.NotifyUnsupportedCriticalPayload
	)
	raw := func(first wire.PayloadType, b ...byte) func(o *iketest.Opened) {
		return func(o *iketest.Opened) { o.First, o.Raw = first, append([]byte{}, b...) }
	}
	add := func(p wire.Payload) func(o *iketest.Opened) {
		return func(o *iketest.Opened) { o.Payloads = append(o.Payloads, p) }
	}
	tests := []struct {
		name, kind string
		change     func(o *iketest.Opened)
		want       outcome
	}{
		{"ADV-A15 payload length 0", "INFORMATIONAL request", raw(wire.PayloadNotify, 0, 0, 0, 0), outcome{answer: syntax}},
		{"ADV-A15 payload length 3", "INFORMATIONAL request", raw(wire.PayloadNotify, 0, 0, 0, 3), outcome{answer: syntax}},
		{"ADV-A15 past the end", "INFORMATIONAL request", raw(wire.PayloadNotify, 0, 0, 0, 99, 0, 0, 0, 0), outcome{answer: syntax}},
		{"ADV-A14 octets after none", "INFORMATIONAL request", raw(wire.PayloadNone, 1, 2, 3, 4), outcome{answer: syntax}},
		{"ADV-A14 type without payload", "INFORMATIONAL request", raw(wire.PayloadDelete), outcome{answer: syntax}},
		{"ADV-A15 in IKE_AUTH", "IKE_AUTH request", raw(wire.PayloadIDi, 0, 0, 0, 2), outcome{answer: syntax}},
		{"in a response", "INFORMATIONAL response", raw(wire.PayloadNotify, 0, 0, 0, 0), outcome{}},
		{"in the IKE_AUTH response", "IKE_AUTH response", raw(wire.PayloadNotify, 0, 0, 0, 0), outcome{}},
		{"ADV-D5 SK inside SK", "INFORMATIONAL request", add(&wire.Encrypted{Body: make([]byte, 64)}), outcome{answer: syntax}},
		{"ADV-D25 critical", "INFORMATIONAL request", add(&wire.Unknown{PType: 77, Critical: true}), outcome{answer: critical, lives: true}},
		{"ADV-D25 critical in CREATE_CHILD_SA", "CREATE_CHILD_SA request", add(&wire.Unknown{PType: 77, Critical: true}), outcome{answer: critical, lives: true}},
		{"ADV-D25 critical in IKE_AUTH", "IKE_AUTH request", add(&wire.Unknown{PType: 77, Critical: true}), outcome{answer: critical}},
		{"ADV-D25 critical in a response", "IKE_AUTH response", add(&wire.Unknown{PType: 77, Critical: true}), outcome{}},
		{"unknown in IKE_AUTH", "IKE_AUTH request", add(&wire.Unknown{PType: 77}), outcome{lives: true}},
		{"KE in IKE_AUTH", "IKE_AUTH request", add(&wire.KE{Group: 31, Data: make([]byte, 32)}), outcome{lives: true}},
		{"ADV-D20, CVE-2021-45079, CVE-2026-77206: EAP-Success instead of AUTH", "IKE_AUTH request", func(o *iketest.Opened) {
			o.Drop(wire.PayloadAuth)
			o.Payloads = append(o.Payloads, &wire.Unknown{PType: wire.PayloadEAP, Data: []byte{3, 1, 0, 4}})
		}, outcome{answer: wire.NotifyAuthenticationFailed}},
		{"ADV-D7 second IKE_AUTH", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Exchange = wire.ExchangeIKEAuth }, outcome{answer: syntax}},
		{"ADV-A13 exchange 38", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Exchange = 38 }, outcome{answer: syntax}},
		{"ADV-A13 exchange 0", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Exchange = 0 }, outcome{answer: syntax}},
		{"ADV-A13 exchange 255", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Exchange = 255 }, outcome{answer: syntax}},
		{"ADV-D7 IKE_SA_INIT inside", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Exchange = wire.ExchangeIKESAInit }, outcome{lives: true}},
		{"ADV-A6 minor version", "INFORMATIONAL request", func(o *iketest.Opened) { o.Header.Version = 0x2f }, outcome{lives: true}},
		{"CVE-2026-78135 CREATE_CHILD_SA first", "IKE_AUTH request", func(o *iketest.Opened) {
			o.Header.Exchange = wire.ExchangeCreateChildSA
			o.Payloads = append(o.Payloads, &wire.Nonce{Data: make([]byte, 32)})
		}, outcome{answer: syntax}},
		{"CVE-2014-2338 IKE rekey first", "IKE_AUTH request", func(o *iketest.Opened) {
			o.Header.Exchange = wire.ExchangeCreateChildSA
			p := iketest.MustIKE("aes256gcm16-prfsha256-x25519")[0]
			p.Num, p.SPI = 1, make([]byte, 8)
			o.Payloads = []wire.Payload{&wire.SA{Proposals: []wire.Proposal{p}}, &wire.Nonce{Data: make([]byte, 32)}, &wire.KE{Group: 31, Data: make([]byte, 32)}}
		}, outcome{answer: syntax}},
		{"CVE-2019-12312 INFORMATIONAL first", "IKE_AUTH request", func(o *iketest.Opened) {
			o.Header.Exchange = wire.ExchangeInformational
			o.Payloads = []wire.Payload{&wire.Delete{Protocol: wire.ProtocolIKE}}
		}, outcome{answer: syntax}},
		{"ADV-E1 no selectors", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			o.Drop(wire.PayloadTSi)
			o.Payloads = append(o.Payloads, &wire.Unknown{PType: wire.PayloadTSi, Data: []byte{0, 0, 0, 0}})
		}, outcome{answer: syntax}},
		{"ADV-E1, CVE-2023-23009: start after end", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			setTS(o, true, wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.0.0.2"), End: mustAddr("10.0.0.1")})
		}, outcome{answer: syntax}},
		{"ADV-E1 unknown type", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			setTS(o, true, wire.TrafficSelector{Type: 99, Data: make([]byte, 12)})
		}, outcome{answer: wire.NotifyTSUnacceptable, lives: true}},
		{"ADV-E7 SPI 5", "CREATE_CHILD_SA request", offerSPI(0, 0, 0, 5), outcome{answer: wire.NotifyNoProposalChosen, lives: true}},
		{"ADV-E7 no SPI", "CREATE_CHILD_SA request", offerSPI(), outcome{answer: wire.NotifyNoProposalChosen, lives: true}},
		{"ADV-E8 AH", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			sa, _ := wire.Get[*wire.SA](o.Payloads)
			for i := range sa.Proposals {
				sa.Proposals[i].Protocol = wire.ProtocolAH
			}
		}, outcome{answer: wire.NotifyNoProposalChosen, lives: true}},
		{"ADV-E8 no ESN transform", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			sa, _ := wire.Get[*wire.SA](o.Payloads)
			for i := range sa.Proposals {
				p := &sa.Proposals[i]
				p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t wire.Transform) bool { return t.Type == wire.TransformESN })
			}
		}, outcome{answer: wire.NotifyNoProposalChosen, lives: true}},
		{"proposals from 2", "CREATE_CHILD_SA request", func(o *iketest.Opened) {
			sa, _ := wire.Get[*wire.SA](o.Payloads)
			for i := range sa.Proposals {
				sa.Proposals[i].Num++
			}
		}, outcome{answer: syntax}},
		{"child refused in IKE_AUTH: unknown selectors", "IKE_AUTH request", func(o *iketest.Opened) {
			setTS(o, true, wire.TrafficSelector{Type: 99, Data: make([]byte, 12)})
		}, outcome{answer: wire.NotifyTSUnacceptable, lives: true}},
		{"child refused in IKE_AUTH: proposal", "IKE_AUTH request", offerSPI(), outcome{answer: wire.NotifyNoProposalChosen, lives: true}},
		{"ADV-D24 AUTHENTICATION_FAILED", "IKE_AUTH response", func(o *iketest.Opened) {
			o.Payloads = []wire.Payload{&wire.Notify{NType: wire.NotifyAuthenticationFailed}}
		}, outcome{}},
		{"ADV-D23 child refused", "IKE_AUTH response", func(o *iketest.Opened) {
			o.Drop(wire.PayloadSA)
			o.Payloads = append(o.Payloads, &wire.Notify{NType: wire.NotifyTSUnacceptable})
		}, outcome{lives: true}},
		{"ADV-D23 unknown error beside AUTH", "IKE_AUTH response", add(&wire.Notify{NType: 8001}), outcome{lives: true}},
		{"INVALID_SYNTAX answer", "CREATE_CHILD_SA response", func(o *iketest.Opened) {
			o.Payloads = []wire.Payload{&wire.Notify{NType: syntax}}
		}, outcome{}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, _, d, to := at(t, uint64(i), tt.kind)
			got := deliver(t, s, d, to, resealed(t, s, d, tt.change))
			s.Run(10*time.Minute, nil)
			clean(t, s)
			if got != tt.want {
				t.Errorf("got %+v, want %+v: %v", got, tt.want, to.Failed)
			}
			if !tt.want.lives && to.Failed == nil {
				t.Error("ended without saying why")
			}
			if told := len(to.Refused); told > 1 || (told == 1) != (tt.want == outcome{answer: critical, lives: true}) {
				t.Errorf("told of what was refused: %v", to.Refused)
			}
			if !tt.want.lives && (tt.kind == "IKE_AUTH request" || tt.kind == "IKE_AUTH response") && to.Established != nil {
				t.Error("established nevertheless")
			}
		})
	}
}

// padded seals octets as they stand, pad length octet and all, in the name of the sender of
// a held message.
func padded(t testing.TB, s *iketest.Sim, d iketest.Datagram, first wire.PayloadType, body []byte) []byte {
	t.Helper()
	o := s.Open(d.Data)
	if o == nil || o.From.Keys.Suite.Encr != wire.EncrAESGCM16 {
		t.Fatal("cannot open, or not AES-GCM")
	}
	o.First, o.Raw, o.Padded = first, body, true
	return s.Seal(o)
}

// Padding longer than the content, under a valid ICV: INVALID_SYNTAX where it can be said,
// and the SA is closed (ADV-D4; free5gc 997). The longest that fits is padding.
func TestADV_D4_PadLength(t *testing.T) {
	const n = 16 // octets in SK, the pad length octet among them
	body := func(pad int) []byte { b := make([]byte, n); b[n-1] = byte(pad); return b }
	for i, kind := range kinds() {
		pads := []int{n, n + 1, 128, 255}
		if kind == "INFORMATIONAL request" {
			for pad := n + 2; pad < 255; pad++ {
				pads = append(pads, pad)
			}
		}
		want := outcome{}
		if strings.HasSuffix(kind, "request") {
			want.answer = wire.NotifyInvalidSyntax
		}
		for _, pad := range pads {
			s, _, _, d, to := at(t, uint64(i), kind)
			drops := to.Host.Counters.Drops()
			got := deliver(t, s, d, to, padded(t, s, d, wire.PayloadNotify, body(pad)))
			if got != want || to.Failed == nil || to.Host.Counters.Drops() != drops || s.Panics() != 0 {
				t.Errorf("%s, pad length %d: %+v, want %+v: %v", kind, pad, got, want, to.Failed)
			}
			clean(t, s)
		}
	}
	s, _, _, d, to := at(t, 9, "INFORMATIONAL request")
	answers := to.Host.Counters.Responses.Load()
	got := deliver(t, s, d, to, padded(t, s, d, wire.PayloadNone, body(n-1)))
	if got != (outcome{lives: true}) || to.Host.Counters.Responses.Load() != answers+1 {
		t.Errorf("nothing but padding: %+v", got)
	}
}

func offerSPI(b ...byte) func(o *iketest.Opened) {
	return func(o *iketest.Opened) {
		sa, _ := wire.Get[*wire.SA](o.Payloads)
		for i := range sa.Proposals {
			sa.Proposals[i].SPI = b
		}
	}
}

// Payloads in clear beside SK, and SK not last (ADV-D5).
func TestADV_D5_ClearBesideSK(t *testing.T) {
	s, _, _, d, to := at(t, 1, "IKE_AUTH request")
	m, err := wire.Parse(d.Data)
	if err != nil {
		t.Fatal(err)
	}
	before := to.M.Snapshot()
	sk := m.Payloads[0]
	for _, ps := range [][]wire.Payload{
		{&wire.ID{IType: wire.IDFQDN, Data: []byte("x")}, sk},
		{&wire.Auth{Method: wire.AuthMethodPSK, Data: make([]byte, 32)}, sk},
		{&wire.Notify{NType: wire.NotifyAuthenticationFailed}, sk},
		{sk, &wire.Notify{NType: 1}},
		{&wire.Notify{NType: wire.NotifyAuthenticationFailed}},
		{&wire.Unknown{PType: 99}, sk},
		{},
		{&wire.EncryptedFragment{Num: 1, Total: 1, Body: make([]byte, 60)}}, // ADV-G1
	} {
		c := *m
		c.Payloads = ps
		give(s, to, d, iketest.Encode(&c))
		if to.M.Snapshot() != before {
			t.Errorf("%v changes something", ps)
		}
	}
	clean(t, s)
}

// Unprotected notifies against an established SA: no state change (ADV-F14), and our own
// packets reflected (ADV-A12, ADV-D16).
func TestADV_F14_A12_Unprotected(t *testing.T) {
	s, a, b := hosts(t, 2)
	msgs := capture(s)
	e, o := up(t, s, a, b)
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(time.Second, nil)
	spii, spir := e.M.SPIs()
	for _, to := range []*iketest.End{e, o} {
		before := to.M.Snapshot()
		path := to.M.Path()
		d := iketest.Datagram{From: path.Remote, To: path.Local}
		for _, x := range []wire.ExchangeType{wire.ExchangeIKESAInit, wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational} {
			for _, f := range []wire.Flags{0, wire.FlagInitiator, wire.FlagResponse, wire.FlagResponse | wire.FlagInitiator} {
				for id := range uint32(5) {
					for _, p := range []wire.Payload{&wire.Notify{NType: wire.NotifyInvalidIKESPI}, &wire.Notify{NType: wire.NotifyInvalidSPI, Data: []byte{1, 2, 3, 4}},
						&wire.Notify{NType: wire.NotifyAuthenticationFailed}, &wire.Delete{Protocol: wire.ProtocolIKE}} {
						m := wire.Message{Header: wire.Header{SPIi: spii, SPIr: spir, Exchange: x, Flags: f, MessageID: id}, Payloads: []wire.Payload{p}}
						give(s, to, d, iketest.Encode(&m))
						if to.M.Snapshot() != before {
							t.Fatalf("%v %v %d %v changes something", x, f, id, p)
						}
					}
				}
			}
		}
		for kind, d := range msgs {
			give(s, to, d, d.Data)
			if to.M.Snapshot() != before {
				t.Fatalf("%s, reflected or replayed, changes something", kind)
			}
		}
	}
	if s.Datagrams > 8 {
		// The only answer is the repeated one for a bit-identical last request.
		t.Errorf("%d datagrams", s.Datagrams)
	}
	clean(t, s)
}

// Every octet string of a few lengths given to machines in every state.
func TestRandomDatagrams(t *testing.T) {
	s, a, b := hosts(t, 3)
	e, o := up(t, s, a, b)
	s2, a2, b2 := hosts(t, 3)
	h, _ := initiator(t, s2, a2, b2)
	rnd := s.Rand()
	for _, to := range []*iketest.End{e, o, h} {
		before := to.M.Snapshot()
		spii, spir := to.M.SPIs()
		for range 3000 {
			b := make([]byte, rnd.IntN(120))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			if len(b) >= wire.HeaderLen {
				hd := wire.Header{SPIi: spii, SPIr: spir, Next: wire.PayloadType(b[16]), Version: 0x20, Exchange: wire.ExchangeType(34 + b[18]%4),
					Flags: wire.Flags(b[19]), MessageID: uint32(b[20] % 4), Length: uint32(len(b))}
				copy(b, hd.Append(nil))
			}
			p := to.M.Path()
			give(s, to, iketest.Datagram{From: p.Remote, To: p.Local}, b)
			if to.M.Snapshot() != before {
				t.Fatalf("%x changes something", b)
			}
		}
	}
	clean(t, s)
	clean(t, s2)
}

// A panic in one SA: before authentication it drops the datagram, after it fails that SA
// and no other.
func TestROW_78_PanicIsContained(t *testing.T) {
	s, a, b := hosts(t, 4)
	e, _ := up(t, s, a, b)
	other := a.Connect(b, nil)
	both(t, s, other)
	e.Do(func(m *ike.Machine) { m.BreakForTest() })
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	if e.Failed == nil || e.Closed == nil || other.Failed != nil || a.Counters.Panics.Load() != 1 {
		t.Errorf("%v, %v, %d", e.Failed, other.Failed, a.Counters.Panics.Load())
	}
}
