package ike_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func TestDeleteChild(t *testing.T) {
	for _, byResponder := range []bool{false, true} {
		s, a, b := hosts(t, 1)
		e, o := up(t, s, a, b)
		if byResponder {
			a, e, o = b, o, e
		}
		c := a.Child()
		e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.InSPI) })
		e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.InSPI) }) // twice is once
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.Children)+len(o.Children) != 0 || !e.Up() || !o.Up() {
			t.Error(s.Summary())
		}
		if c.Removed.Reason != ike.ReasonDeleted || o.Made[0].Removed.Reason != ike.ReasonPeerDeleted {
			t.Errorf("%v %v", c.Removed, o.Made[0].Removed)
		}
	}
}

// Deletes that cross: neither answer names the SA again (RFC 7296, Section 1.4.1).
func TestDeleteChildCrossing(t *testing.T) {
	s, a, b := hosts(t, 2)
	e, o := up(t, s, a, b)
	named := 0
	s.Rewrite(func(m *iketest.Opened) bool {
		if _, ok := wire.Get[*wire.Delete](m.Payloads); ok && m.Header.Flags.Response() {
			named++
		}
		return false
	})
	x, y := a.Child().InSPI, b.Child().InSPI
	e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, x) })
	o.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, y) })
	s.Run(time.Second, nil)
	if named != 0 {
		t.Errorf("%d answers name a deleted SA", named)
	}
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children)+len(o.Children) != 0 {
		t.Error("child SAs left")
	}
}

func TestDeleteIKE(t *testing.T) {
	for _, byResponder := range []bool{false, true} {
		s, a, b := hosts(t, 3)
		e, o := up(t, s, a, b)
		if byResponder {
			e, o = o, e
		}
		e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		if len(e.Children) != 0 {
			t.Error("child SAs outlive the command")
		}
		e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		req := e.Host.Request("late", iketest.DefaultPair())
		e.CreateChild(req)
		if len(e.ChildErrors) != 1 || !errors.Is(e.ChildErrors[0], net.ErrClosed) {
			t.Errorf("%v", e.ChildErrors)
		}
		s.Settle(time.Minute)
		clean(t, s)
		if e.Closed == nil || e.Closed.Reason != ike.ReasonDeleted || e.Failed != nil {
			t.Errorf("%+v %v", e.Closed, e.Failed)
		}
		if o.Closed == nil || o.Closed.Reason != ike.ReasonPeerDeleted || o.Failed != nil {
			t.Errorf("%+v %v", o.Closed, o.Failed)
		}
		if e.M.State() != ike.StateClosed || o.M.State() != ike.StateClosed {
			t.Errorf("%v %v", e.M.State(), o.M.State())
		}
	}
}

// The peer lost its SAs and said so on a new one: ours end at once, and nothing is sent.
func TestReplaced(t *testing.T) {
	for _, busy := range []bool{false, true} {
		s, a, b := hosts(t, 3)
		e, o := up(t, s, a, b)
		if busy { // an exchange is under way
			e.CreateChild(e.Host.Request("late", iketest.DefaultPair()))
		}
		before := s.Datagrams
		for range 2 {
			e.Do(func(m *ike.Machine) { m.Replaced(s.Now) })
		}
		if s.Datagrams != before {
			t.Error("the peer was told")
		}
		if e.Closed == nil || e.Closed.Reason != ike.ReasonReplaced || e.Failed != nil || len(e.Children) != 0 {
			t.Errorf("%+v %v, %d children", e.Closed, e.Failed, len(e.Children))
		}
		if busy != (len(e.ChildErrors) == 1) {
			t.Errorf("%v", e.ChildErrors)
		}
		o.Do(func(m *ike.Machine) { m.Replaced(s.Now) })
		s.Settle(time.Minute)
		clean(t, s)
	}
}

func TestDeleteIKECrossing(t *testing.T) {
	s, a, b := hosts(t, 4)
	e, o := up(t, s, a, b)
	e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
	o.Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Settle(5 * time.Minute)
	clean(t, s)
	if e.Closed == nil || o.Closed == nil || e.Closed.Reason != ike.ReasonDeleted || o.Closed.Reason != ike.ReasonDeleted {
		t.Errorf("%+v %+v", e.Closed, o.Closed)
	}
	if s.Elapsed() > 7*time.Minute {
		t.Error("took the whole schedule")
	}
}

// Delete at every moment of a handshake and of a CREATE_CHILD_SA, by either end, with
// Work answered late: everything ends, nothing leaks.
func TestDeleteAtEveryMoment(t *testing.T) {
	for ms := range 160 {
		for _, byResponder := range []bool{false, true} {
			s, a, b := hosts(t, uint64(ms))
			a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
			a.Config.DPDDelay, b.Config.DPDDelay = 20*time.Second, 20*time.Second
			s.Faults.Work = 8 * time.Millisecond
			e := a.Connect(b, nil)
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			s.Run(time.Duration(ms)*time.Millisecond, nil)
			var deleted []*iketest.End
			for _, x := range slices.Concat(a.Ends, b.Ends) {
				if (x == e) != byResponder {
					x.Do(func(m *ike.Machine) { m.Delete(s.Now) })
					deleted = append(deleted, x)
				}
			}
			s.Settle(12 * time.Minute)
			clean(t, s)
			// A half-open responder that is gone may be asked anew; no other survives.
			for _, x := range deleted {
				if x.Closed == nil || !byResponder && len(b.Established()) != 0 {
					t.Errorf("at %d ms: alive\n%s", ms, s.Summary())
				}
			}
			if t.Failed() {
				t.Fatalf("at %d ms by responder %v", ms, byResponder)
			}
		}
	}
}

func TestADV_F8_DeletePayloads(t *testing.T) {
	tests := map[string]wire.Payload{
		"unknown SPI":      &wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{1, 2, 3}},
		"AH":               &wire.Delete{Protocol: wire.ProtocolAH, SPIs: []uint32{0x1000}},
		"protocol 0":       &wire.Unknown{PType: wire.PayloadDelete, Data: []byte{0, 0, 0, 0}},
		"protocol 4":       &wire.Unknown{PType: wire.PayloadDelete, Data: []byte{4, 4, 0, 1, 0, 0, 16, 0}},
		"SPI of 3 octets":  &wire.Unknown{PType: wire.PayloadDelete, Data: []byte{3, 3, 0, 1, 1, 2, 3}},
		"IKE with an SPI":  &wire.Unknown{PType: wire.PayloadDelete, Data: []byte{1, 8, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}},
		"unknown notify":   &wire.Notify{NType: 9999},
		"unknown status":   &wire.Notify{NType: 40000, Data: []byte("x")},
		"INITIAL_CONTACT":  &wire.Notify{NType: wire.NotifyInitialContact}, // ADV-D21: later it is ignored
		"unknown payload":  &wire.Unknown{PType: 200, Data: []byte("x")},
		"CP":               &wire.Configuration{},
		"nothing":          nil,
		"INVALID_SPI hint": &wire.Notify{NType: wire.NotifyInvalidSPI, Data: []byte{0, 0, 16, 0}},
	}
	for name, p := range tests {
		s, a, b := hosts(t, 8)
		e, o := up(t, s, a, b)
		answer := 0
		s.Rewrite(func(m *iketest.Opened) bool {
			if m.Kind() == "INFORMATIONAL response" {
				answer = 1 + len(m.Payloads)
			}
			return false
		})
		var ps []wire.Payload
		if p != nil {
			ps = append(ps, p)
		}
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, ps...)
		s.Run(time.Second, nil)
		clean(t, s)
		if answer != 1 {
			t.Errorf("%s: answered with %d payloads", name, answer-1)
		}
		if len(o.Children) != 1 || !o.Up() {
			t.Errorf("%s: changed something", name)
		}
	}
}

// Two actions in one message: the SA is closed once and not touched after (ADV-F9,
// CVE-2023-38712).
func TestADV_F9_CVE_2023_38712_DeleteAndMore(t *testing.T) {
	s, a, b := hosts(t, 9)
	e, o := up(t, s, a, b)
	c := a.Child()
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2},
		&wire.Delete{Protocol: wire.ProtocolIKE},
		&wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{c.InSPI, c.InSPI}},
		&wire.Delete{Protocol: wire.ProtocolIKE},
		&wire.Notify{NType: wire.NotifyAuthenticationFailed},
		&wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{c.InSPI}})
	s.Run(time.Second, nil)
	clean(t, s)
	if o.Closed == nil || len(o.Made) != 1 {
		t.Error(s.Summary())
	}
}

// Right after IKE_AUTH a notify alone ends the SA (RFC 7296, Section 2.21.2).
func TestPeerEndsByNotify(t *testing.T) {
	for _, n := range []wire.NotifyType{wire.NotifyAuthenticationFailed, wire.NotifyInvalidSyntax, wire.NotifyUnsupportedCriticalPayload} {
		s, a, b := hosts(t, 10)
		e, o := up(t, s, a, b)
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, &wire.Notify{NType: n})
		s.Run(time.Second, nil)
		clean(t, s)
		wantNotify(t, o.Failed, n, true)
	}
}

func TestInitialContact(t *testing.T) {
	s, a, b := hosts(t, 11)
	a.Config.InitialContact = true
	_, o := up(t, s, a, b)
	if !o.Established.InitialContact {
		t.Error("not reported")
	}
}

func TestADV_F18_ROW_50_PathFollowsAuthenticFreshMessages(t *testing.T) {
	s, a, b := hosts(t, 12)
	a.Outside = mustAddr("198.51.100.1")
	a.Addr = netip.MustParseAddrPort("10.0.0.1:500")
	var last iketest.Datagram
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.To.Addr() == b.Addr.Addr() {
			last = d
		}
		return []iketest.Datagram{d}
	}
	e, o := up(t, s, a, b)
	old := o.M.Path()
	attacker := netip.MustParseAddrPort("203.0.113.66:666")
	// A replay of the last message and junk, from elsewhere: nothing moves.
	replay := last
	replay.From = attacker
	s.Inject(replay)
	junk := last
	junk.From = attacker
	junk.Data = slices.Clone(last.Data)
	junk.Data[23]++ // next message ID: the ICV can't be right
	s.Inject(junk)
	s.Run(time.Second, nil)
	if o.M.Path() != old {
		t.Fatalf("moved to %v", o.M.Path())
	}
	// The NAT forgets: the next fresh message comes from another port.
	a.Outside = mustAddr("198.51.100.2")
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(time.Second, nil)
	if got := o.M.Path().Remote.Addr(); got != a.Outside {
		t.Errorf("did not follow: %v", got)
	}
	moved := 0
	for _, ev := range o.Events {
		if p, ok := ev.(*ike.PathChanged); ok && p.Path == o.M.Path() {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d PathChanged", moved)
	}
	clean(t, s)
}
