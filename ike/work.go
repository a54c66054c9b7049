package ike

import (
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// WorkID names one piece of Work of one Machine. It is never zero or reused.
type WorkID uint32

// Work is what a machine does not do itself: key agreement, signatures and
// policy. It is an [Output]; each is answered by exactly one [Machine.Complete]
// with its ID and the result type its comment names, at once or later, from the
// goroutine that owns the machine. Until then the message that caused it is
// neither answered nor started again by a retransmission.
//
// Slices in Work are the receiver's to keep and must not be written to: a pool
// may read them after the next input of the machine.
type Work interface {
	Output
	WorkID() WorkID
}

// WorkResult answers Work: *KEResult, *SignResult, *VerifyResult, *DecideResult or
// *RekeyResult. The machine keeps what it points to.
type WorkResult interface{ workResult() }

// WorkKE asks for key agreement; answer *KEResult.
//
// Key nil, Peer nil: generate a key. Key set, Peer set: compute the shared secret
// with it. Key nil, Peer set: both.
type WorkKE struct {
	ID    WorkID
	Group uint16    // IANA transform type 4
	Key   *suite.KE // our key from an earlier KEResult, or nil
	Peer  []byte    // the peer's public value as received, unchecked, or nil
}

// KEResult answers WorkKE. An error refuses the peer's value (or says that the
// group is not implemented).
type KEResult struct {
	Key    *suite.KE    // ours; needed where WorkKE.Key was nil
	Shared suite.Secret // needed where WorkKE.Peer was set; the machine erases it
	Err    error
}

// WorkSign asks for our AUTH payload; answer *SignResult.
type WorkSign struct {
	ID         WorkID
	Local      Local    // who we are; its Method says what is wanted
	Octets     []byte   // what is signed: RFC 7296, Section 2.15
	PRF        uint16   // IANA transform type 2; for PSK
	PeerHashes []uint16 // the peer's SIGNATURE_HASH_ALGORITHMS; nil if it sent none
	RemoteID   *wire.ID // initiator: asked for, or nil; responder: the peer's, proven
	Peer       any      // responder: VerifyResult.Peer
}

// SignResult answers WorkSign.
type SignResult struct {
	Auth wire.Auth
	Err  error

	// Others: we have an SA with this peer by now, so INITIAL_CONTACT would be wrong
	// (RFC 7296, Section 2.4).
	Others bool
}

// WorkVerify asks whether the peer is who it says it is, and whether we talk to
// it; answer *VerifyResult. It is the only gate to an established SA.
type WorkVerify struct {
	ID         WorkID
	AssertedID wire.ID   // the peer's IDi or IDr
	AskedID    *wire.ID  // responder: the IDr the initiator asked for; initiator: Config.RemoteID; or nil
	Auth       wire.Auth // as received
	SPKI       []byte    // from the first CERT payload of encoding 15; nil if none
	Certs      []wire.Cert
	Octets     []byte // what the peer signed
	PRF        uint16
	PeerHashes []uint16 // the peer's SIGNATURE_HASH_ALGORITHMS; nil if it sent none
	Path       Path

	// Responder: what else the request says.
	Contact   bool // INITIAL_CONTACT
	Childless bool // asks for no child SA
}

// VerifyResult answers WorkVerify. The zero value refuses.
type VerifyResult struct {
	// OK: Auth was verified over Octets with a credential of AssertedID, and
	// policy allows the peer.
	OK bool

	// Peer is kept and handed on in WorkSign, WorkDecide and Established.
	Peer any

	// Local, if not nil, replaces Config.Local (responder only): who we are to
	// this peer.
	Local *Local

	// Err says why not, for errors and logs. The peer always gets
	// AUTHENTICATION_FAILED (ADV-D17).
	Err error
}

// WorkDecide asks whether the peer gets the child SA it asks for; answer
// *DecideResult. Only responders of an exchange ask it, and only after WorkVerify.
type WorkDecide struct {
	ID         WorkID
	Peer       any // VerifyResult.Peer
	AssertedID wire.ID
	SPKI       []byte
	// Pair is what was asked for, from our view, without selectors of unknown kind.
	// If transport mode was asked for, addresses that a NAT translates are already
	// replaced (RFC 7296, Section 2.23.1). A result in transport mode stays within
	// Pair, one in tunnel mode within Asked.
	Pair      ts.Pair
	Asked     ts.Pair         // the same as it was on the wire
	Transport bool            // N(USE_TRANSPORT_MODE) was there
	Proposals []wire.Proposal // ESP, as offered; in IKE_AUTH key exchange transforms are already removed
	First     bool            // in IKE_AUTH: choose from suite.WithoutKE of ours too
	Rekey     uint32          // our inbound SPI of the child SA to be replaced, not to be narrowed (RFC 7296, Section 2.9.2); 0 = a new one
	Path      Path
}

// DecideResult answers WorkDecide. With Refuse set nothing else counts and no SPI
// is taken over. Otherwise SPI becomes the machine's, to end in ChildInbound or
// SPIReleased.
type DecideResult struct {
	Refuse wire.NotifyType // e.g. TS_UNACCEPTABLE, NO_PROPOSAL_CHOSEN, NO_ADDITIONAL_SAS; 0 accepts
	Err    error           // why, for errors and logs

	SPI       uint32        // ours, reserved; not 0
	Pair      ts.Pair       // narrowed: a subset of WorkDecide.Pair (or Asked)
	Chosen    wire.Proposal // one transform of each kind, Num of the offer it was taken from
	Suite     suite.ESP     // the same
	Transport bool          // only if asked for
	MoreTS    bool          // send N(ADDITIONAL_TS_POSSIBLE)
	Name      string        // of the child, for events
	Ref       uint64        // the caller's, for events
	Terms     Terms
}

// WorkRekey asks for what it takes to replace a child SA; answer *RekeyResult.
type WorkRekey struct {
	ID        WorkID
	InSPI     uint32 // of the child SA to be replaced
	Ref       uint64
	Name      string
	Suite     suite.ESP
	Pair      ts.Pair // asked for again: nothing less is accepted (RFC 7296, Section 2.9.2)
	Transport bool
}

// RekeyResult answers WorkRekey. With Err set or without SPI the child SA is not
// replaced now; it is tried again later. Otherwise SPI becomes the machine's.
type RekeyResult struct {
	Err error

	SPI       uint32          // ours, reserved
	Proposals []wire.Proposal // as in ChildRequest, with groups for PFS; empty: the suite in use
	Terms     Terms
}

// WorkID returns the ID.
func (w *WorkKE) WorkID() WorkID     { return w.ID }
func (w *WorkSign) WorkID() WorkID   { return w.ID }
func (w *WorkVerify) WorkID() WorkID { return w.ID }
func (w *WorkDecide) WorkID() WorkID { return w.ID }
func (w *WorkRekey) WorkID() WorkID  { return w.ID }

func (*WorkKE) output()     {}
func (*WorkSign) output()   {}
func (*WorkVerify) output() {}
func (*WorkDecide) output() {}
func (*WorkRekey) output()  {}

func (*KEResult) workResult()     {}
func (*SignResult) workResult()   {}
func (*VerifyResult) workResult() {}
func (*DecideResult) workResult() {}
func (*RekeyResult) workResult()  {}
