package ike_test

import (
	"errors"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func TestLiveness(t *testing.T) {
	t.Run("silence is asked about", func(t *testing.T) {
		s, a, b := hosts(t, 5)
		a.Config.DPDDelay = 30 * time.Second
		e, _ := up(t, s, a, b)
		before := s.Datagrams
		s.Run(65*time.Second, nil)
		if got := s.Datagrams - before; got != 4 {
			t.Errorf("%d datagrams in 65 s, want 2 exchanges", got)
		}
		// Traffic is as good as an answer (RFC 7296, Section 2.4).
		before = s.Datagrams
		for range 20 {
			s.Run(10*time.Second, nil)
			e.Do(func(m *ike.Machine) { m.Heard(s.Now, a.Child().InSPI) })
			e.Do(func(m *ike.Machine) { m.Heard(s.Now, 1) }) // not ours: no proof of anything
		}
		if got := s.Datagrams - before; got != 0 {
			t.Errorf("%d datagrams although traffic came in", got)
		}
		clean(t, s)
	})
	t.Run("ADV-F16 death", func(t *testing.T) {
		s, a, b := hosts(t, 6)
		a.Config.DPDDelay = 30 * time.Second
		e, _ := up(t, s, a, b)
		s.Faults.Loss = 1
		s.Run(10*time.Minute, nil)
		var to *ike.TimeoutError
		if !errors.As(e.Failed, &to) || to.Sends != 9 || to.Elapsed != 45*time.Second || to.Exchange != wire.ExchangeInformational || !to.Timeout() || len(e.Children) != 0 {
			t.Errorf("%v", e.Failed)
		}
		clean(t, s)
	})
	t.Run("by command", func(t *testing.T) {
		s, a, b := hosts(t, 7)
		e, _ := up(t, s, a, b)
		before := s.Datagrams
		e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		s.Run(time.Second, nil)
		if s.Datagrams-before != 2 {
			t.Errorf("%d datagrams", s.Datagrams-before)
		}
		clean(t, s)
	})
}

// The time for a sign of life is what is configured, within a schedule that is kept.
func TestLivenessTimeout(t *testing.T) {
	for _, tt := range []struct {
		timeout time.Duration
		sends   int
	}{{time.Second, 2}, {10 * time.Second, 6}, {0, 9}, {time.Hour, 13}} {
		s, a, b := hosts(t, 8)
		a.Config.DPDTimeout = tt.timeout
		e, _ := up(t, s, a, b)
		s.Faults.Loss = 1
		e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		s.Run(10*time.Minute, nil)
		var to *ike.TimeoutError
		most := min(tt.timeout, 300*time.Second)
		if most == 0 {
			most = 45 * time.Second
		}
		if !errors.As(e.Failed, &to) || to.Sends != tt.sends || to.Elapsed != most {
			t.Errorf("%v: %v", tt.timeout, e.Failed)
		}
		clean(t, s)
	}
}

// A request that is outstanding when a sign of life is wanted is the probe: it has as long
// as a liveness check from then on, is sent at its pace, and its answer is good enough.
func TestAnyRequestIsAProbe(t *testing.T) {
	for _, back := range []bool{false, true} {
		s, a, b := hosts(t, 9)
		a.Config.DPDDelay = 20 * time.Second
		e, _ := up(t, s, a, b)
		s.Run(time.Second, nil)
		s.Faults.Loss = 1
		start := s.Elapsed()
		rekeyChild(s, e, first(e))
		var sent []time.Duration
		s.Watch = func(d iketest.Datagram) {
			if d.From == a.Addr {
				sent = append(sent, s.Elapsed()-start)
			}
		}
		if back {
			s.Run(40*time.Second, nil)
			s.Faults.Loss = 0
			s.Run(10*time.Second, nil)
			if !e.Up() || len(e.Made) != 2 {
				t.Errorf("rekeyed %d, %v", len(e.Made)-1, e.Failed)
			}
			s.Settle(time.Minute)
			clean(t, s)
			continue
		}
		s.Run(10*time.Minute, func() bool { return e.Failed != nil })
		took := s.Elapsed() - start
		if e.Failed == nil || took < 60*time.Second || took > 66*time.Second {
			t.Errorf("dead after %v: %v", took, e.Failed)
		}
		late := 0
		for _, at := range sent {
			if at > 18*time.Second {
				late++
			}
		}
		if len(sent) > 13 || late < 4 {
			t.Errorf("sent at %v", sent)
		}
		clean(t, s)
	}
}

// Four sends without an answer make a suspect, an answer clears it, and the next silence
// makes one again.
func TestSuspect(t *testing.T) {
	s, a, b := hosts(t, 10)
	e, o := up(t, s, a, b)
	for range 2 {
		s.Faults.Loss = 1
		start := s.Elapsed()
		n := len(e.Suspected)
		e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		s.Run(time.Minute, func() bool { return len(e.Suspected) > n })
		var to *ike.TimeoutError
		if took := s.Elapsed() - start; took < 3*time.Second || took > 5*time.Second || !errors.As(e.Suspected[n], &to) || to.Sends != 4 {
			t.Fatalf("after %v: %v", took, e.Suspected)
		}
		s.Run(10*time.Second, nil)
		s.Faults.Loss = 0
		s.Run(20*time.Second, nil)
		if len(e.Suspected) != n+1 || e.Cleared != n+1 || !e.Up() {
			t.Fatalf("suspected %d times, cleared %d times, %v", len(e.Suspected), e.Cleared, e.Failed)
		}
	}
	// A request of the peer clears it as well; traffic keeps it from being said.
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if d.From == a.Addr {
			return nil
		}
		return []iketest.Datagram{d}
	}
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(6*time.Second, nil)
	o.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(100*time.Millisecond, nil)
	if len(e.Suspected) != 3 || e.Cleared != 3 {
		t.Errorf("suspected %d times, cleared %d times", len(e.Suspected), e.Cleared)
	}
	s.Tap = nil
	s.Run(10*time.Second, nil)
	s.Faults.Loss = 1
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(3*time.Second, nil)
	e.Do(func(m *ike.Machine) { m.Heard(s.Now, a.Child().InSPI) })
	s.Run(20*time.Second, nil)
	if len(e.Suspected) != 3 {
		t.Error("a peer that is heard is suspected")
	}
	clean(t, s)
}

// Hints that anybody could have made lead to a liveness check and no more, however many
// there are (ADV-F14; RFC 7296, Sections 1.5 and 2.21.4).
func TestADV_F14_Hints(t *testing.T) {
	hint := errors.New("somebody says so")
	s, a, b := hosts(t, 11)
	e, _ := up(t, s, a, b)
	before := s.Datagrams
	for range 100 {
		e.Do(func(m *ike.Machine) { m.Doubt(s.Now, hint) })
		s.Run(50*time.Millisecond, nil)
	}
	if n := s.Datagrams - before; n != 2 {
		t.Errorf("%d datagrams for 100 hints in 5 s", n)
	}
	if len(e.Suspected) != 1 || e.Cleared != 1 { // it had been silent for a second
		t.Errorf("suspected %d times, cleared %d times", len(e.Suspected), e.Cleared)
	}
	// A peer that was just heard is asked, but no suspect.
	s.Run(20*time.Second, nil)
	e.Do(func(m *ike.Machine) { m.Heard(s.Now, a.Child().InSPI) })
	before = s.Datagrams
	e.Do(func(m *ike.Machine) { m.Doubt(s.Now, hint) })
	s.Run(time.Second, nil)
	if len(e.Suspected) != 1 || s.Datagrams-before != 2 {
		t.Errorf("suspected %d times, %d datagrams", len(e.Suspected), s.Datagrams-before)
	}

	// INVALID_IKE_SPI counts only as the answer to what we ask, from where we ask it.
	s.Run(20*time.Second, nil)
	s.Faults.Loss = 1
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	_, id, _, _ := e.M.IDsForTest()
	spii, spir := e.M.SPIs()
	path := e.M.Path()
	inject := func(id uint32, x wire.ExchangeType, from uint16, n wire.NotifyType) {
		m := wire.Message{Header: wire.Header{SPIi: spii, SPIr: spir, Exchange: x, Flags: wire.FlagResponse, MessageID: id},
			Payloads: []wire.Payload{&wire.Notify{NType: n}}}
		p := path
		p.Remote = mustAddrPort("192.0.2.2:" + map[uint16]string{500: "500", 4500: "4500"}[from])
		give(s, e, iketest.Datagram{From: p.Remote, To: p.Local}, iketest.Encode(&m))
	}
	inject(id+1, wire.ExchangeInformational, 500, wire.NotifyInvalidIKESPI)
	inject(id, wire.ExchangeCreateChildSA, 500, wire.NotifyInvalidIKESPI)
	inject(id, wire.ExchangeInformational, 4500, wire.NotifyInvalidIKESPI)
	inject(id, wire.ExchangeInformational, 500, wire.NotifyAuthenticationFailed)
	if len(e.Suspected) != 1 {
		t.Error("suspected for nothing")
	}
	inject(id, wire.ExchangeInformational, 500, wire.NotifyInvalidIKESPI)
	if len(e.Suspected) != 2 || !e.Up() {
		t.Errorf("suspected %d times, %v", len(e.Suspected), e.Failed)
	}
	s.Run(50*time.Second, nil)
	if e.Failed == nil {
		t.Error("not dead of its own liveness check")
	}
	clean(t, s)
}

// A responder that is restarted between IKE_SA_INIT and IKE_AUTH knows nothing of the SA
// and says so: after some time that is believed, for another attempt works at once.
func TestRestartedInHandshake(t *testing.T) {
	s, a, b := hosts(t, 12)
	s.Watch = func(d iketest.Datagram) {
		if h, err := wire.ParseHeader(d.Data); err == nil && h.Exchange == wire.ExchangeIKEAuth && h.Flags.Initiator() && len(b.Ends) > 0 {
			b.Crash()
		}
	}
	e := a.Connect(b, nil)
	s.Run(30*time.Second, nil)
	var refusal *ike.NotifyError
	if !errors.As(e.Failed, &refusal) || refusal.Type != wire.NotifyInvalidIKESPI || refusal.Verified {
		t.Fatalf("%v\n%s", e.Failed, s.Summary())
	}
	s.Watch = nil
	up(t, s, a, b)
	clean(t, s)
}

// The initiator that has not got the IKE_AUTH response drops what the responder asks: it is
// not dead of that, but has the time that its own sends take.
func TestUnconfirmedPeerHasTime(t *testing.T) {
	s, a, b := hosts(t, 13)
	b.Config.DPDDelay = 5 * time.Second
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		h, err := wire.ParseHeader(d.Data)
		if err == nil && h.Exchange == wire.ExchangeIKEAuth && h.Flags.Response() && s.Elapsed() < 100*time.Second {
			return nil
		}
		return []iketest.Datagram{d}
	}
	e := a.Connect(b, nil)
	s.Run(3*time.Minute, func() bool { return e.Up() })
	s.Settle(2 * time.Minute)
	clean(t, s)
	if !e.Up() {
		t.Error(s.Summary())
	}
}
