package ike_test

import (
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// reach makes a session with an end in a state and role.
func reach(t testing.TB, want ike.State, role ike.Role) (s *iketest.Sim, e *iketest.End) {
	t.Helper()
	s, a, b := hosts(t, uint64(700+int(want)))
	s.Faults.Work = 20 * time.Millisecond
	find := func() bool {
		for _, h := range []*iketest.Host{a, b} {
			for _, x := range h.Ends {
				if x.M.State() == want && x.M.Role() == role {
					e = x
				}
			}
		}
		return e != nil
	}
	x := a.Connect(b, nil)
	if want == ike.StateEstablished || want == ike.StateDeleting || want == ike.StateReplaced || want == ike.StateLinger || want == ike.StateClosed {
		o := both(t, s, x)
		s.Run(time.Second, nil)
		first, second := x, o
		if role == ike.Responder {
			first, second = o, x
		}
		switch want {
		case ike.StateDeleting: // its Delete is lost
			s.Faults.Loss = 1
			first.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		case ike.StateLinger:
			second.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		case ike.StateReplaced: // the Delete after its peer's rekeying is lost
			rekeyIKE(s, second)
			s.Run(5*time.Second, func() bool { return first.M.State() == ike.StateReplaced })
		case ike.StateClosed:
			first.Do(func(m *ike.Machine) { m.Replaced(s.Now) })
			if first.M.State() == ike.StateLinger {
				s.Run(time.Minute, nil)
			}
		case ike.StateEstablished, ike.StateIdle, ike.StateInitKey, ike.StateInitSent, ike.StateInitDone, ike.StateAuthSent,
			ike.StateAuthCheck, ike.StateInitBusy, ike.StateHalfOpen, ike.StateAuthBusy:
		}
	}
	if !s.Run(5*time.Second, find) {
		t.Fatalf("%v %v is not reached\n%s", want, role, s.Summary())
	}
	return s, e
}

// Every state and role is entered for real and gets every kind of exchange from its
// peer, under its peer's keys where there are any: what happens is what the table says,
// and what has no entry changes nothing but the counter of its drop.
func TestROW_49_TableWalked(t *testing.T) {
	cells, drops := 0, 0
	for state := ike.StateClosed; state <= ike.StateLinger; state++ {
		for _, role := range []ike.Role{ike.Initiator, ike.Responder} {
			if !inRole(state, role) || state == ike.StateIdle {
				continue
			}
			for _, typ := range []wire.ExchangeType{0, 33, 34, 35, 36, 37, 38, 39, 41, 43, 44, 128, 255} {
				for _, response := range []bool{false, true} {
					s, e := reach(t, state, role)
					cells++
					if !walk(t, s, e, typ, response) {
						drops++
					}
				}
			}
		}
	}
	t.Logf("%d cells, %d of them drops", cells, drops)
}

func inRole(s ike.State, r ike.Role) bool {
	switch s {
	case ike.StateIdle, ike.StateInitKey, ike.StateInitSent, ike.StateInitDone, ike.StateAuthSent, ike.StateAuthCheck:
		return r == ike.Initiator
	case ike.StateInitBusy, ike.StateHalfOpen, ike.StateAuthBusy:
		return r == ike.Responder
	case ike.StateClosed, ike.StateEstablished, ike.StateDeleting, ike.StateReplaced, ike.StateLinger:
	}
	return true
}

// walk gives an end one message and reports whether it was taken.
func walk(t *testing.T, s *iketest.Sim, e *iketest.End, typ wire.ExchangeType, response bool) bool {
	t.Helper()
	state, role := e.M.State(), e.M.Role()
	story, clear, repeats, want := ike.CellForTest(state, role, typ, response)
	next, ours, asked, out := e.M.IDsForTest()
	h := wire.Header{Exchange: typ, MessageID: next}
	if response {
		h.Flags, h.MessageID = wire.FlagResponse, ours
	}
	h.SPIi, h.SPIr = e.M.SPIs()
	if typ == wire.ExchangeIKESAInit && !response {
		h.SPIr = 0
	}
	if role == ike.Responder {
		h.Flags |= wire.FlagInitiator
	}
	data := []byte(nil)
	if p := e.Peer(); p != nil && p.Keys != nil {
		data = s.Seal(&iketest.Opened{From: p, Header: h})
	} else {
		m := wire.Message{Header: h, Payloads: []wire.Payload{&wire.Encrypted{Body: make([]byte, 60)}}}
		data = iketest.Encode(&m)
		if story != "" {
			return true // can't be taken: nobody has keys yet
		}
	}
	switch {
	case clear:
		return true // has tests of its own
	case repeats:
		want = ike.DropClosed
	case story != "" && response && (!out || asked != typ):
		want = ike.DropUnasked
	}
	c := &e.Host.Counters
	before, verified, dropped := e.M.Snapshot(), c.Verified.Load(), c.Dropped(want)
	path := e.M.Path()
	e.Do(func(m *ike.Machine) { m.Datagram(s.Now, path, data) })
	switch {
	case c.Panics.Load() != 0:
		t.Errorf("%v %v %v response %v: panic", state, role, typ, response)
	case want != 0 && (c.Dropped(want) != dropped+1 || e.M.Snapshot() != before):
		t.Errorf("%v %v %v response %v: not dropped as %v, or something changed", state, role, typ, response, want)
	case want == 0 && c.Verified.Load() != verified+1:
		t.Errorf("%v %v %v response %v: not taken, but the table says %q", state, role, typ, response, story)
	}
	return want == 0
}
