package ike_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func TestFurtherChildren(t *testing.T) {
	for _, esp := range []string{"aes256gcm16", "aes256gcm16-x25519", "chacha20poly1305-ecp256-x25519"} {
		for _, byResponder := range []bool{false, true} {
			s, a, b := hosts(t, 1)
			a.ESP, b.ESP = iketest.MustESP(esp), iketest.MustESP(esp)
			e, o := up(t, s, a, b)
			if byResponder {
				a, e = b, o
			}
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			e.CreateChild(a.Request("three", iketest.Pair("10.5.0.0/16", "10.6.0.0/16")))
			s.Settle(time.Minute)
			clean(t, s)
			if len(e.Children) != 3 {
				t.Errorf("%s: %d child SAs: %v", esp, len(e.Children), e.ChildErrors)
			}
			want := strings.Contains(esp, "-")
			for _, c := range e.Made[1:] {
				if (c.Suite.Group != wire.GroupNone) != want {
					t.Errorf("%s: suite %v", esp, c.Suite)
				}
			}
		}
	}
}

func TestChildInvalidKERetry(t *testing.T) {
	s, a, b := hosts(t, 2)
	a.ESP = iketest.MustESP("aes256gcm16-x25519-ecp256-ecp384")
	b.ESP = iketest.MustESP("aes256gcm16-ecp384")
	e, _ := up(t, s, a, b)
	before := s.Datagrams
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 2 || e.Made[1].Suite.Group != wire.GroupECP384 || s.Datagrams-before != 4 {
		t.Errorf("%d child SAs, %d datagrams: %v", len(e.Children), s.Datagrams-before, e.ChildErrors)
	}
}

// A peer that asks for groups in turn gets one retry per group (RFC 7296, Section 1.3).
func TestChildInvalidKEForEver(t *testing.T) {
	s, a, b := hosts(t, 3)
	a.ESP = iketest.MustESP("aes256gcm16-x25519-ecp256")
	b.ESP = a.ESP
	e, _ := up(t, s, a, b)
	n := 0
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() != "CREATE_CHILD_SA response" {
			return false
		}
		n++
		o.Payloads = []wire.Payload{&wire.Notify{NType: wire.NotifyInvalidKEPayload, Data: []byte{0, byte(19 + 12*(n%2))}}}
		return true
	})
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(time.Minute, nil)
	if len(e.ChildErrors) != 1 || n > 3 || !e.Up() {
		t.Errorf("%d rounds: %v", n, e.ChildErrors)
	}
	wantNotify(t, e.ChildErrors[0], wire.NotifyInvalidKEPayload, true)
}

func TestChildRefusals(t *testing.T) {
	tests := []struct {
		name  string
		setup func(a, b *iketest.Host)
		want  wire.NotifyType
		text  string
	}{
		{"proposal", func(a, b *iketest.Host) { b.ESP = iketest.MustESP("aes128gcm16") }, wire.NotifyNoProposalChosen, "chacha20poly1305"},
		{"selectors", func(a, b *iketest.Host) { b.Allow = iketest.Pair("172.16.0.0/12", "172.16.0.0/12") }, wire.NotifyTSUnacceptable, "10.3.0.0/16"},
		{"policy", func(a, b *iketest.Host) { b.Refuse = wire.NotifySinglePairRequired }, wire.NotifySinglePairRequired, "sun"},
		{"ADV-E11 cap", func(a, b *iketest.Host) { b.Config.MaxChildren = 1 }, wire.NotifyNoAdditionalSAs, ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b := hosts(t, uint64(10+i))
			a.Config.Name = "sun"
			b.Config.MaxChildren = 3
			if tt.want == wire.NotifyNoAdditionalSAs {
				tt.setup(a, b)
			}
			e, o := up(t, s, a, b)
			tt.setup(a, b)
			req := a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16"))
			e.CreateChild(req)
			s.Settle(time.Minute)
			clean(t, s)
			if len(e.ChildErrors) != 1 || len(e.Children) != 1 || !e.Up() || !o.Up() {
				t.Fatalf("%v, %d child SAs", e.ChildErrors, len(e.Children))
			}
			wantNotify(t, e.ChildErrors[0], tt.want, true)
			if !strings.Contains(e.ChildErrors[0].Error(), tt.text) {
				t.Errorf("%v", e.ChildErrors[0])
			}
			if a.SPIs[req.SPI] != iketest.SPIReleased {
				t.Error("SPI not released")
			}
		})
	}
}

// What a peer selects beyond the offer is never installed, and deleted at the peer.
func TestADV_E3_SelectionsBeyondTheOffer(t *testing.T) {
	sa := func(o *iketest.Opened) *wire.SA { s, _ := wire.Get[*wire.SA](o.Payloads); return s }
	tests := []struct {
		name   string
		change func(o *iketest.Opened)
	}{
		{"wider TSi", func(o *iketest.Opened) { widen(o, true) }},
		{"wider TSr", func(o *iketest.Opened) { widen(o, false) }},
		{"other TSr", func(o *iketest.Opened) {
			setTS(o, false, wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("172.16.0.1"), End: mustAddr("172.16.0.9")})
		}},
		{"unknown TSr only", func(o *iketest.Opened) {
			setTS(o, false, wire.TrafficSelector{Type: 9, Data: make([]byte, 8)})
		}},
		{"other suite", func(o *iketest.Opened) { sa(o).Proposals[0].Transforms[0].KeyBits = 128 }},
		{"two proposals", func(o *iketest.Opened) {
			p := sa(o).Proposals[0]
			p.Num++
			sa(o).Proposals = append(sa(o).Proposals, p)
		}},
		{"ADV-E7 SPI 255", func(o *iketest.Opened) { sa(o).Proposals[0].SPI = []byte{0, 0, 0, 255} }},
		{"ADV-E7 SPI 0", func(o *iketest.Opened) { sa(o).Proposals[0].SPI = []byte{0, 0, 0, 0} }},
		{"ADV-E7 SPI of two octets", func(o *iketest.Opened) { sa(o).Proposals[0].SPI = []byte{1, 2} }},
		{"ADV-E7 SPI of eight octets", func(o *iketest.Opened) { sa(o).Proposals[0].SPI = make([]byte, 8) }},
		{"protocol AH", func(o *iketest.Opened) { sa(o).Proposals[0].Protocol = wire.ProtocolAH }},
		{"ADV-E9 IPCOMP", func(o *iketest.Opened) {
			o.Payloads = append(o.Payloads, &wire.Notify{NType: wire.NotifyIPCompSupported, Data: []byte{1, 2, 2}})
		}},
		{"ADV-E12 no KE", func(o *iketest.Opened) { o.Drop(wire.PayloadKE) }},
		{"ADV-E12 other group", func(o *iketest.Opened) {
			k, _ := wire.Get[*wire.KE](o.Payloads)
			k.Group = wire.GroupECP256
		}},
		{"ADV-B16 zero public value", func(o *iketest.Opened) {
			k, _ := wire.Get[*wire.KE](o.Payloads)
			k.Data = make([]byte, len(k.Data))
		}},
		{"short nonce", func(o *iketest.Opened) {
			k, _ := wire.Get[*wire.Nonce](o.Payloads)
			k.Data = k.Data[:16]
		}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b := hosts(t, uint64(30+i))
			a.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha512-x25519")
			b.Config.Proposals = a.Config.Proposals
			a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
			e, o := up(t, s, a, b)
			s.Rewrite(func(o *iketest.Opened) bool {
				if o.Kind() != "CREATE_CHILD_SA response" {
					return false
				}
				tt.change(o)
				return true
			})
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			s.Run(time.Minute, nil)
			s.Settle(time.Minute)
			clean(t, s)
			var m *ike.MismatchError
			if len(e.ChildErrors) != 1 || !errors.As(e.ChildErrors[0], &m) || m.Want == "" || m.Got == "" {
				t.Errorf("%v", e.ChildErrors)
			}
			if len(e.Made) != 1 || !e.Up() {
				t.Error("installed, or the IKE SA is gone")
			}
			if len(o.Made) != 2 || len(o.Children) != 1 {
				t.Error("the peer was not told")
			}
		})
	}
	t.Run("in IKE_AUTH", func(t *testing.T) {
		s, a, b := hosts(t, 60)
		s.Rewrite(func(o *iketest.Opened) bool {
			if o.Kind() != "IKE_AUTH response" {
				return false
			}
			widen(o, false)
			return true
		})
		e := a.Connect(b, nil)
		s.Run(time.Minute, nil)
		s.Settle(time.Minute)
		clean(t, s)
		if !e.Up() || len(e.Made) != 0 || len(b.Ends[0].Children) != 0 {
			t.Error(s.Summary())
		}
	})
}

func widen(o *iketest.Opened, initiator bool) {
	for _, p := range o.Payloads {
		if x, ok := p.(*wire.TS); ok && x.Initiator == initiator {
			x.Selectors[0].End = x.Selectors[0].End.Next()
		}
	}
}

func setTS(o *iketest.Opened, initiator bool, sel wire.TrafficSelector) {
	for _, p := range o.Payloads {
		if x, ok := p.(*wire.TS); ok && x.Initiator == initiator {
			x.Selectors = []wire.TrafficSelector{sel}
		}
	}
}

// What the engine grants beyond what was asked for is refused by the machine.
func TestDecisionBeyondTheRequest(t *testing.T) {
	tests := map[string]struct {
		change func(r *ike.DecideResult)
		want   wire.NotifyType
	}{
		"traffic":   {func(r *ike.DecideResult) { r.Pair = iketest.Pair("0.0.0.0/0", "0.0.0.0/0") }, wire.NotifyTSUnacceptable},
		"nothing":   {func(r *ike.DecideResult) { r.Pair = ts.Pair{} }, wire.NotifyTSUnacceptable},
		"transport": {func(r *ike.DecideResult) { r.Transport = true }, wire.NotifyNoProposalChosen},
		"proposal":  {func(r *ike.DecideResult) { r.Chosen.Num = 99 }, wire.NotifyNoProposalChosen},
		"suite":     {func(r *ike.DecideResult) { r.Suite.Encr = 99 }, wire.NotifyNoProposalChosen},
	}
	for name, tt := range tests {
		s, a, b := hosts(t, 61)
		e, o := up(t, s, a, b)
		b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			if d, ok := r.(*ike.DecideResult); ok {
				tt.change(d)
			}
			return r
		}
		e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.ChildErrors) != 1 || len(o.Made) != 1 {
			t.Fatalf("%s: %v", name, e.ChildErrors)
		}
		wantNotify(t, e.ChildErrors[0], tt.want, true)
	}
}

// Answers of the wrong type, empty ones and none at all refuse and harm nothing.
func TestUselessAnswers(t *testing.T) {
	for name, answer := range map[string]ike.WorkResult{
		"nil": nil, "wrong type": &ike.SignResult{}, "typed nil": (*ike.DecideResult)(nil), "empty": &ike.DecideResult{},
	} {
		s, a, b := hosts(t, 62)
		e, _ := up(t, s, a, b)
		b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			if d, ok := r.(*ike.DecideResult); ok {
				b.SPIs[d.SPI] = iketest.SPIReleased // never handed over
				return answer
			}
			return r
		}
		e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.ChildErrors) != 1 {
			t.Fatalf("%s: %v", name, e.ChildErrors)
		}
		wantNotify(t, e.ChildErrors[0], wire.NotifyTSUnacceptable, true)
	}
	for name, bad := range map[string]func(ike.Work) bool{
		"first key": func(w ike.Work) bool { k, ok := w.(*ike.WorkKE); return ok && k.Peer == nil },
		"signature": func(w ike.Work) bool { _, ok := w.(*ike.WorkSign); return ok },
		"verify":    func(w ike.Work) bool { _, ok := w.(*ike.WorkVerify); return ok },
	} {
		for _, byA := range []bool{true, false} {
			s, a, b := hosts(t, 63)
			h := b
			if byA {
				h = a
			}
			h.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
				if bad(w) {
					return nil
				}
				return r
			}
			e := a.Connect(b, nil)
			s.Settle(20 * time.Minute)
			clean(t, s)
			if e.Failed == nil && (byA || name != "first key") {
				t.Errorf("%s (initiator's %v): no failure", name, byA)
			}
		}
	}
}

func TestDeleteChildWhileAskedFor(t *testing.T) {
	s, a, b := hosts(t, 64)
	a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
	e, o := up(t, s, a, b)
	s.Faults.Work = 50 * time.Millisecond
	var reqs []*ike.ChildRequest
	for i := range 3 {
		reqs = append(reqs, a.Request("n", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		reqs[i].Name = string(rune('1' + i))
		e.CreateChild(reqs[i])
	}
	del := func(i int) { e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, reqs[i].SPI) }) }
	del(2) // still queued
	if len(e.ChildErrors) != 1 {
		t.Errorf("%v", e.ChildErrors)
	}
	s.Run(60*time.Millisecond, nil)
	del(0) // request sent, or its key being computed
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 2 || len(o.Children) != 2 {
		t.Errorf("%d and %d child SAs", len(e.Children), len(o.Children))
	}
	e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, 12345) }) // unknown: nothing happens
	if s.Run(time.Second, nil); len(e.Children) != 2 {
		t.Error("removed another")
	}
}

func TestCVE_2024_22189_QueueIsBounded(t *testing.T) {
	s, a, b := hosts(t, 65)
	e, _ := up(t, s, a, b)
	s.Faults.Loss = 1
	for range 300 {
		e.CreateChild(a.Request("n", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	}
	if n := len(e.ChildErrors); n < 150 || n > 299 {
		t.Errorf("%d refused", n)
	}
	s.Run(10*time.Minute, nil)
	if e.Failed == nil || len(e.ChildErrors) != 300 {
		t.Errorf("%v, %d", e.Failed, len(e.ChildErrors))
	}
	for spi, st := range a.SPIs {
		if st == iketest.SPIReserved {
			t.Fatalf("SPI %08x leaked", spi)
		}
	}
	clean(t, s)
}

// The peer rekeys a child SA: the new one is used outbound only when the peer does, or
// deletes the old one (RFC 7296, Section 2.8).
func TestPeerRekeysChild(t *testing.T) {
	for _, how := range []string{"traffic", "delete"} {
		t.Run(how, func(t *testing.T) {
			s, a, b := hosts(t, 66)
			e, o := up(t, s, a, b)
			old := a.Child()
			rekey(s, old.InSPI)
			e.CreateChild(a.Request("net", iketest.DefaultPair()))
			s.Run(time.Second, nil)
			clean(t, s)
			if len(o.Made) != 2 {
				t.Fatalf("%v", e.ChildErrors)
			}
			fresh := o.Made[1]
			if fresh.Replaces != old.OutSPI || fresh.Outbound {
				t.Fatalf("replaces %08x, outbound %v", fresh.Replaces, fresh.Outbound)
			}
			if how == "traffic" {
				o.Do(func(m *ike.Machine) { m.FirstInbound(s.Now, fresh.InSPI) })
				o.Do(func(m *ike.Machine) { m.FirstInbound(s.Now, fresh.InSPI) })
				if !fresh.Outbound {
					t.Error("not used after the first packet")
				}
			}
			e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, old.InSPI) })
			s.Run(time.Second, nil)
			if !fresh.Outbound {
				t.Error("not used after the delete")
			}
			out, gone := -1, -1
			for i, ev := range o.Events {
				switch ev := ev.(type) {
				case *ike.ChildOutbound:
					if ev.InSPI == fresh.InSPI {
						out = i
					}
				case *ike.ChildRemoved:
					gone = i
				}
			}
			if out < 0 || gone < out {
				t.Errorf("outbound at %d, old one removed at %d: a gap", out, gone)
			}
			s.Settle(time.Minute)
			clean(t, s)
			if len(o.Children) != 1 || len(e.Children) != 1 {
				t.Error("not one survivor")
			}
		})
	}
}

// rekey turns CREATE_CHILD_SA requests into the rekeying of a child SA.
func rekey(s *iketest.Sim, spi uint32) {
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() != "CREATE_CHILD_SA request" {
			return false
		}
		o.Payloads = slices.Insert(o.Payloads, 0, wire.Payload(&wire.Notify{Protocol: wire.ProtocolESP, SPI: spi32(spi), NType: wire.NotifyRekeySA}))
		return true
	})
}

func spi32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }

func TestADV_F10_RekeyOfNothing(t *testing.T) {
	tests := map[string]*wire.Notify{
		"unknown SPI":               {Protocol: wire.ProtocolESP, SPI: spi32(0x12345678)},
		"AH":                        {Protocol: wire.ProtocolAH, SPI: spi32(0x12345678)},
		"CVE-2023-38710 protocol 0": {Protocol: wire.ProtocolNone, SPI: spi32(0x12345678)},
		"CVE-2023-38710 protocol 1": {Protocol: wire.ProtocolIKE, SPI: make([]byte, 8)},
		"no SPI":                    {},
	}
	for name, n := range tests {
		s, a, b := hosts(t, 67)
		e, o := up(t, s, a, b)
		n.NType = wire.NotifyRekeySA
		var answer *wire.Notify
		s.Rewrite(func(o *iketest.Opened) bool {
			switch o.Kind() {
			case "CREATE_CHILD_SA request":
				o.Payloads = append(o.Payloads, n)
				return true
			case "CREATE_CHILD_SA response":
				answer, _ = wire.Get[*wire.Notify](o.Payloads)
			}
			return false
		})
		e.CreateChild(a.Request("net", iketest.DefaultPair()))
		s.Run(time.Minute, nil)
		clean(t, s)
		if len(e.ChildErrors) != 1 || !e.Up() || !o.Up() || len(o.Made) != 1 {
			t.Fatalf("%s: %v", name, s.Summary())
		}
		wantNotify(t, e.ChildErrors[0], wire.NotifyChildSANotFound, true)
		if name == "unknown SPI" && (answer.Protocol != wire.ProtocolESP || string(answer.SPI) != string(n.SPI)) {
			t.Errorf("%s: %+v", name, answer)
		}
		if n.Protocol != wire.ProtocolESP && n.Protocol != wire.ProtocolAH && (answer.Protocol != 0 || len(answer.SPI) != 0) {
			t.Errorf("%s: echoed: %+v", name, answer)
		}
	}
}

func TestPeerRekeysWhatWeDelete(t *testing.T) {
	s, a, b := hosts(t, 68)
	e, o := up(t, s, a, b)
	old := a.Child()
	// Both at once: the delete of one end crosses the rekeying of the other.
	o.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, old.OutSPI) })
	e.Do(func(m *ike.Machine) { m.RekeyChild(s.Now, old.InSPI) })
	answers := watch(s, "CREATE_CHILD_SA response")
	s.Run(time.Second, nil)
	s.Settle(5 * time.Minute)
	clean(t, s)
	if len(*answers) != 1 || (*answers)[0] != wire.NotifyTemporaryFailure {
		t.Fatalf("answers %v", *answers)
	}
	if len(e.Children) != 0 || len(o.Children) != 0 || len(e.RekeyErrors) != 0 || len(e.ChildErrors) != 0 {
		t.Errorf("%d and %d child SAs, %v %v", len(e.Children), len(o.Children), e.RekeyErrors, e.ChildErrors)
	}
}

// watch collects the first error notify, or 0, of every message of a kind.
func watch(s *iketest.Sim, kind string) *[]wire.NotifyType {
	var got []wire.NotifyType
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() != kind {
			return false
		}
		var n wire.NotifyType
		for _, p := range o.Payloads {
			if x, ok := p.(*wire.Notify); ok && x.NType.IsError() {
				n = x.NType
			}
		}
		got = append(got, n)
		return false
	})
	return &got
}
