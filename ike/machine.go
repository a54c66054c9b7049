package ike

import (
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/wire"
)

// ChildRequest asks for a child SA.
type ChildRequest struct {
	Name      string
	Ref       uint64          // returned in events
	SPI       uint32          // ours, reserved; the machine's from now on, whatever comes of it
	Proposals []wire.Proposal // ESP, most wanted first; Num and SPI are set by the machine
	Pair      ts.Pair         // from our view; the first selectors are those of the triggering packet
	Transport bool            // ask for transport mode, and accept nothing else
}

// Machine is one IKE SA.
type Machine struct{ out []Output }

// NewInitiator returns a machine that will start an IKE SA with path.Remote.
func NewInitiator(cfg *Config, path Path, now time.Time) (*Machine, error) { return &Machine{}, nil }

// NewResponder returns a machine for an IKE_SA_INIT request. raw is the datagram,
// borrowed for the call. An error means: malformed, drop it and forget it. A
// request that is answered with an error notify gives a machine whose outputs are
// that answer, Failed and Closed.
func NewResponder(cfg *Config, path Path, raw []byte, now time.Time) (*Machine, error) {
	return &Machine{}, nil
}

// Start begins an initiator's IKE_SA_INIT. child, if not nil, is made in IKE_AUTH;
// nil makes a childless IKE SA (RFC 6023).
func (m *Machine) Start(now time.Time, child *ChildRequest) {}

// Datagram takes one received IKE datagram, borrowed for the call.
func (m *Machine) Datagram(now time.Time, path Path, b []byte) {}

// CreateChild asks for a further child SA; ends in ChildInbound and ChildOutbound,
// or in SPIReleased and ChildFailed. Before the IKE SA is established it waits.
func (m *Machine) CreateChild(now time.Time, req ChildRequest) {}

// DeleteChild deletes the child SA with our inbound SPI.
func (m *Machine) DeleteChild(now time.Time, inSPI uint32) {}

// Delete closes the IKE SA and all its child SAs, and tells the peer. Before
// IKE_AUTH is done the peer is not told.
func (m *Machine) Delete(now time.Time) {}

// CheckLiveness asks the peer for a sign of life, unless a request is outstanding.
func (m *Machine) CheckLiveness(now time.Time) {}

// Heard says that authentic traffic came in on the child SA with our inbound SPI.
func (m *Machine) Heard(now time.Time, inSPI uint32) {}

// FirstInbound says that the first good packet came in on the child SA.
func (m *Machine) FirstInbound(now time.Time, inSPI uint32) {}

// Complete answers Work. Unknown and repeated ids are ignored.
func (m *Machine) Complete(now time.Time, id WorkID, r WorkResult) {}

// Tick does what is due at now.
func (m *Machine) Tick(now time.Time) {}

// Deadline is when Tick wants to be called next; zero: not at all. It may change
// with every input.
func (m *Machine) Deadline() time.Time { return time.Time{} }

// Next returns the next output, in order; false: none until the next input.
func (m *Machine) Next() (Output, bool) { return nil, false }

// SPIs returns the IKE SPIs; the responder's is zero until known.
func (m *Machine) SPIs() (spii, spir uint64) { return 0, 0 }

// LocalSPI returns the SPI this end chose.
func (m *Machine) LocalSPI() uint64 { return 0 }

// Role returns the machine's role.
func (m *Machine) Role() Role { return 0 }
