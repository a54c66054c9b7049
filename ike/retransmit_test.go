package ike_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func TestSilentPeer(t *testing.T) {
	s, a, b := hosts(t, 1)
	s.Faults.Loss = 1
	var sent [][]byte
	var at []time.Duration
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		sent, at = append(sent, d.Data), append(at, s.Elapsed())
		return nil
	}
	e := a.Connect(b, nil)
	s.Run(20*time.Minute, nil)
	clean(t, s)
	if len(sent) != 13 {
		t.Fatalf("%d sends", len(sent))
	}
	for i := range sent {
		if !bytes.Equal(sent[i], sent[0]) {
			t.Errorf("send %d is not bit-identical (RFC 7296, Section 2.1)", i)
		}
		if i > 1 && at[i]-at[i-1] <= at[i-1]-at[i-2] {
			t.Errorf("the wait before send %d does not grow", i)
		}
	}
	var to *ike.TimeoutError
	if !errors.As(e.Failed, &to) || to.Sends != 13 || to.Elapsed > 300*time.Second || to.Elapsed < 180*time.Second {
		t.Fatalf("%v", e.Failed)
	}
	if msg := to.Error(); !strings.Contains(msg, "192.0.2.2:500") || !strings.Contains(msg, "IKE_SA_INIT") || !strings.Contains(msg, "13 times") {
		t.Error(msg)
	}
	if !to.Temporary() || !to.Timeout() || errors.Unwrap(to) != nil {
		t.Error("net.Error")
	}
	if len(e.ChildErrors) != 1 || e.Closed == nil {
		t.Error("not over")
	}
	if n := len(e.Resent); n != 12 || e.Resent[n-1].Sends != 13 || len(e.Answered) != 0 {
		t.Errorf("told of %+v, %+v", e.Resent, e.Answered)
	}
}

// Each message is lost once: both ends tell of the second one.
func TestRetransmissionIsTold(t *testing.T) {
	s, a, b := hosts(t, 1)
	seen := map[string]bool{}
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if first := !seen[string(d.Data)]; first {
			seen[string(d.Data)] = true
			return nil
		}
		return []iketest.Datagram{d}
	}
	e := a.Connect(b, nil)
	s.Run(30*time.Second, nil)
	clean(t, s)
	if e.Established == nil {
		t.Fatal(s.Summary())
	}
	for i, x := range []wire.ExchangeType{wire.ExchangeIKESAInit, wire.ExchangeIKEAuth} {
		// Sent for nobody, for an answer that is lost, and for the one that comes.
		want := ike.Request{Exchange: x, MessageID: uint32(i), Sends: 3, Path: e.M.Path()}
		if i >= len(e.Answered) || e.Answered[i] != want {
			t.Errorf("answered: %+v, want %+v at %d", e.Answered, want, i)
		}
		r := b.Ends[0].Repeated
		if i >= len(r) || r[i].Exchange != x || r[i].MessageID != uint32(i) {
			t.Errorf("repeated: %+v", r)
		}
	}
	if len(e.Resent) != 4 || len(e.Answered) != 2 || len(b.Ends[0].Repeated) != 2 {
		t.Errorf("%+v, %+v, %+v", e.Resent, e.Answered, b.Ends[0].Repeated)
	}
}

func TestHalfOpenExpires(t *testing.T) {
	s, a, b := hosts(t, 2)
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.From == b.Addr { // the initiator hears nothing
			return nil
		}
		return []iketest.Datagram{d}
	}
	a.Connect(b, nil)
	s.Run(20*time.Minute, nil)
	clean(t, s)
	if len(b.Ends) != 1 || b.Ends[0].Closed == nil || b.Ends[0].Closed.Reason != ike.ReasonExpired || b.Gate.Len() != 0 {
		t.Fatalf("%d ends: %s", len(b.Ends), s.Summary())
	}
	if !strings.Contains(b.Ends[0].Failed.Error(), "no IKE_AUTH request") {
		t.Error(b.Ends[0].Failed)
	}

	s, a, b = hosts(t, 2)
	b.Config.HalfOpenLife = time.Second
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.From == b.Addr {
			return nil
		}
		return []iketest.Datagram{d}
	}
	a.Connect(b, nil)
	s.Run(1200*time.Millisecond, nil)
	if len(b.Ends) != 1 || b.Ends[0].Closed == nil {
		t.Error("the configured life is not kept")
	}
}

// Lose each datagram of a session in turn, the first n copies of it: everything
// happens nevertheless, once.
func TestLossAtEveryPosition(t *testing.T) {
	run := func(lose func(d iketest.Datagram) bool) (*iketest.Sim, int) {
		s, a, b := hosts(t, 3)
		a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			if lose(d) {
				return nil
			}
			return []iketest.Datagram{d}
		}
		e := a.Connect(b, nil)
		e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		s.Run(time.Minute, func() bool { return len(e.Children) == 2 })
		e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, e.Made[0].InSPI) })
		s.Run(time.Minute, func() bool { return len(e.Children) == 1 })
		o := e.Peer()
		o.CreateChild(b.Request("three", iketest.Pair("10.5.0.0/16", "10.6.0.0/16")))
		s.Run(time.Minute, func() bool { return len(o.Children) == 2 && len(e.Children) == 2 })
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.Made) != 3 || len(o.Made) != 3 || len(e.Children) != 2 {
			t.Fatalf("made %d and %d:\n%s", len(e.Made), len(o.Made), s.Summary())
		}
		n := s.Datagrams
		e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		s.Run(time.Minute, func() bool { return e.Closed != nil && o.Closed != nil })
		s.Settle(5 * time.Minute)
		clean(t, s)
		if e.Closed == nil || o.Closed == nil {
			t.Fatal(s.Summary())
		}
		return s, n
	}
	_, total := run(func(iketest.Datagram) bool { return false })
	if total != 10 {
		t.Errorf("%d datagrams without loss", total)
	}
	for n := range total {
		for _, times := range []int{1, 3} {
			var target []byte
			seen, lost := -1, 0
			distinct := map[string]bool{}
			run(func(d iketest.Datagram) bool {
				if !distinct[string(d.Data)] {
					distinct[string(d.Data)] = true
					if seen++; seen == n {
						target = bytes.Clone(d.Data)
					}
				}
				if target != nil && bytes.Equal(d.Data, target) && lost < times {
					lost++
					return true
				}
				return false
			})
			if lost != times {
				t.Errorf("datagram %d was lost %d times, not %d", n, lost, times)
			}
		}
	}
}

// A duplicated session: every request is executed once (ADV-F1, I6).
func TestADV_F1_EverythingTwice(t *testing.T) {
	s, a, b := hosts(t, 4)
	s.Faults.Dup = 1
	s.Faults.Jitter = 30 * time.Millisecond
	e := a.Connect(b, nil)
	o := both(t, s, e)
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(10*time.Second, nil)
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Made) != 2 || len(o.Made) != 2 {
		t.Errorf("made %d and %d", len(e.Made), len(o.Made))
	}
}

// capture keeps every datagram, by kind.
func capture(s *iketest.Sim) map[string]iketest.Datagram {
	out := map[string]iketest.Datagram{}
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if h, err := wire.ParseHeader(d.Data); err == nil {
			k := h.Exchange.String() + " request"
			if h.Flags.Response() {
				k = h.Exchange.String() + " response"
			}
			d.Data = bytes.Clone(d.Data)
			out[k] = d
		}
		return []iketest.Datagram{d}
	}
	return out
}

func TestADV_F2_F3_F5_Window(t *testing.T) {
	s, a, b := hosts(t, 5)
	msgs := capture(s)
	e, o := up(t, s, a, b)
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(time.Second, nil)
	replay := func(kind string) (answers int) {
		d := msgs[kind]
		want := msgs[strings.Replace(kind, "request", "response", 1)]
		tap := s.Tap
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			answers++
			if !bytes.Equal(d.Data, want.Data) {
				t.Errorf("%s: another answer than the first time", kind)
			}
			return nil
		}
		before := o.M.Snapshot() + e.M.Snapshot()
		s.Inject(d)
		s.Run(time.Second, nil)
		if o.M.Snapshot()+e.M.Snapshot() != before {
			t.Errorf("%s again changes something", kind)
		}
		s.Tap = tap
		return answers
	}
	for kind, want := range map[string]int{
		"CREATE_CHILD_SA request":  1, // ADV-F1
		"IKE_AUTH request":         0, // older than the window
		"IKE_SA_INIT request":      0, // ADV-B20
		"CREATE_CHILD_SA response": 0, // ADV-F5
		"IKE_AUTH response":        0,
		"IKE_SA_INIT response":     0,
	} {
		if got := replay(kind); got != want {
			t.Errorf("%s again: %d answers, want %d", kind, got, want)
		}
	}
	// ADV-F2: the same message ID with other content is not executed.
	before := b.Counters.Dropped(ike.DropRepeat)
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, &wire.Delete{Protocol: wire.ProtocolIKE})
	// ADV-F3: neither is one beyond the window.
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 4}, &wire.Delete{Protocol: wire.ProtocolIKE})
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 1<<32 - 1}, &wire.Delete{Protocol: wire.ProtocolIKE})
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 3, Flags: wire.FlagResponse})
	// ADV-F5: a second, different response to a request that was answered.
	s.Forge(o, wire.Header{Exchange: wire.ExchangeCreateChildSA, MessageID: 2, Flags: wire.FlagResponse}, &wire.Notify{NType: wire.NotifyInvalidSyntax})
	ended := e.M.Snapshot()
	s.Run(time.Second, nil)
	clean(t, s)
	if e.M.Snapshot() != ended || !e.Up() {
		t.Error("a second response does something")
	}
	if !o.Up() || b.Counters.Dropped(ike.DropRepeat)-before != 1 || b.Counters.Dropped(ike.DropWindow) == 0 {
		t.Errorf("%v", s.Summary())
	}
}

// Both ends have a request out at the same time (ADV-F7).
func TestADV_F7_RequestsCross(t *testing.T) {
	s, a, b := hosts(t, 6)
	a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
	e, o := up(t, s, a, b)
	s.Faults.Work = 20 * time.Millisecond
	for range 5 {
		e.CreateChild(a.Request("x", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		o.CreateChild(b.Request("y", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	}
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 11 {
		t.Errorf("%d child SAs", len(e.Children))
	}
}

// The answer of a finished SA is repeated for a while, then forgotten.
func TestLinger(t *testing.T) {
	s, a, b := hosts(t, 7)
	e, o := up(t, s, a, b)
	lost := 0
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.From == b.Addr && lost < 3 {
			lost++
			return nil
		}
		return []iketest.Datagram{d}
	}
	e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Run(50*time.Millisecond, nil)
	if o.Closed == nil || o.Closed.Until.IsZero() || o.M.State() != ike.StateLinger {
		t.Fatal(s.Summary())
	}
	s.Run(10*time.Second, nil)
	if e.Closed == nil {
		t.Error("the answer was not repeated")
	}
	before := o.M.Snapshot()
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 3})
	s.Run(time.Second, nil)
	if o.M.Snapshot() != before {
		t.Error("a finished SA does something")
	}
	s.Run(time.Minute, nil)
	if o.M.State() != ike.StateClosed || !o.M.Deadline().IsZero() || b.Gate.Len() != 0 {
		t.Error("lingers for ever")
	}
	clean(t, s)
}

func TestADV_F4_MessageIDsEnd(t *testing.T) {
	s, a, b := hosts(t, 8)
	e, o := up(t, s, a, b)
	const last = 1<<32 - 1<<10
	e.M.SetMessageIDs(last-1, 0)
	o.M.SetMessageIDs(0, last-1)
	for range 3 {
		e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		s.Run(time.Second, nil)
	}
	clean(t, s)
	if e.Failed == nil || o.Failed == nil || !strings.Contains(o.Failed.Error(), "message IDs") {
		t.Errorf("%v, %v", e.Failed, o.Failed)
	}
}
