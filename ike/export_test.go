package ike

import "github.com/btns-go/btns/ike/wire"

// SetMessageIDs moves a machine's counters: of its next request and of the peer's.
func (m *Machine) SetMessageIDs(send, receive uint32) {
	if send != 0 {
		m.nextID = send
	}
	if receive != 0 {
		m.win.next = receive
	}
}

// BreakForTest makes the next seal panic.
func (m *Machine) BreakForTest() { m.out = nil }

// ConfigForTest returns the machine's configuration, to be changed before it is used.
func (m *Machine) ConfigForTest() *Config { return m.cfg }

// Fragments returns the octets of fragments being collected.
func (m *Machine) Fragments() int {
	n := 0
	for _, r := range m.frags {
		if r != nil {
			n += r.size
		}
	}
	return n
}

// Fault is a historic mistake that can be switched on.
type Fault = fault

// The faults.
const (
	FaultEarlyChild   = faultEarlyChild
	FaultNonceOrder   = faultNonceOrder
	FaultNoICV        = faultNoICV
	FaultCloseTwice   = faultCloseTwice
	FaultEarlyMove    = faultEarlyMove
	FaultEachResend   = faultEachResend
	FaultFirstSeen    = faultFirstSeen
	FaultMissing      = faultMissing
	FaultWiden        = faultWiden
	FaultExecuteTwice = faultExecuteTwice
	FaultShowSPI      = faultShowSPI
	FaultNoVerify     = faultNoVerify
	FaultEchoSPI      = faultEchoSPI
	FaultHasty        = faultHasty
)

// SetFaults switches mistakes on in machines of a Config.
func SetFaults(c *Config, f Fault) { c.faults = f }

// CellForTest looks a message up in the table. Clear messages have their own tests.
func CellForTest(s State, role Role, e wire.ExchangeType, isResponse bool) (story string, clear, repeats bool, drop Drop) {
	d := request
	if isResponse {
		d = response
	}
	t, drop := cell(s, role, e, d)
	if t == nil {
		return "", false, false, drop
	}
	return t.story, t.clear, t.do == actRepeat, 0
}

// IDsForTest returns the message ID of the next request expected, and of our outstanding
// one with its exchange.
func (m *Machine) IDsForTest() (next, ours uint32, typ wire.ExchangeType, asked bool) {
	if m.req == nil {
		return m.win.next, 0, 0, false
	}
	return m.win.next, m.req.id, m.req.typ, true
}

// CreateBurst and RequestBurst are what a peer may ask without a pause.
const (
	CreateBurst  = createBurst
	RequestBurst = requestBurst
)
