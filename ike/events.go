package ike

import (
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// Output is one thing a machine wants done: *Send, a Work (*WorkKE, *WorkSign,
// *WorkVerify, *WorkDecide, *WorkRekey) or an Event. Outputs are to be carried out in order:
// ChildInbound precedes the Send that tells the peer of it.
type Output interface{ output() }

// Event tells what happened. It is an Output that wants no answer.
type Event interface {
	Output
	event()
}

// Send asks for a datagram to be sent, without non-ESP marker: the wire adds it.
// Data is the machine's and valid until its next input; it must not be written
// to. A failed send is a lost datagram.
type Send struct {
	Path Path
	Data []byte
}

// Established says that both ends are authenticated. It comes once, before any
// event about a child SA. Everything in it is the receiver's to keep, read-only.
type Established struct {
	Role           Role
	SPIi, SPIr     uint64
	LocalID        wire.ID
	RemoteID       wire.ID
	Suite          suite.IKE
	Path           Path
	Encap          bool // ESP goes in UDP: a NAT was found or one was faked
	LocalNAT       bool // the peer sees another address than ours; never one that we faked
	RemoteNAT      bool // the peer's address is translated (or it faked it)
	InitialContact bool // the peer says that this is its only SA with us: close its others
	Peer           any  // VerifyResult.Peer
}

// Child is what the two install events have in common.
type Child struct {
	Ref       uint64 // of ChildRequest or DecideResult
	Name      string
	InSPI     uint32 // ours
	OutSPI    uint32 // the peer's
	Suite     suite.ESP
	Pair      ts.Pair // from our view
	Transport bool
	Encap     bool // ESP in UDP along Path, with Path's ports; else native ESP
	Path      Path
	Initiator bool   // this end asked for the child SA
	Replaces  uint32 // InSPI of the child SA this one takes over from; 0 if none
	Limits    Limits // for the data plane to count
}

// Keepalive asks for a NAT keepalive to be sent (RFC 3948, Section 2.3): one octet of 0xFF
// without a non-ESP marker.
type Keepalive struct{ Path Path }

// ChildInbound asks for the inbound half of a child SA to be installed before the
// next output is carried out. Key is integrity key and salt as
// esp.Suite wants it; it is the receiver's, to erase when done. The SPI given
// with the request is hereby used up.
type ChildInbound struct {
	Child
	Key suite.Secret
}

// ChildOutbound asks for the outbound half of the child SA with this InSPI to be
// installed and used from now on. Key as in ChildInbound. For a child SA that the
// peer made to replace another it comes only when the peer is known to receive on
// it (RFC 7296, Section 2.8).
type ChildOutbound struct {
	Child
	Key suite.Secret
}

// ChildRemoved asks for both halves (or the inbound one, where no ChildOutbound
// came) to be removed.
type ChildRemoved struct {
	InSPI, OutSPI uint32
	Ref           uint64
	Name          string
	Reason        Reason
	Action        Action // what Terms want now; none for one that was replaced, or that we deleted
}

// SPIReleased gives a reserved SPI back that did not become a child SA.
type SPIReleased struct{ SPI uint32 }

// ChildFailed says that the child SA asked for by CreateChild or Start will not
// be. The IKE SA lives, unless Failed follows.
type ChildFailed struct {
	Ref  uint64
	Name string
	Err  error
}

// RekeyFailed says that a child SA could not be replaced. It lives on until its hard
// limit; the next attempt is at Next.
type RekeyFailed struct {
	InSPI uint32
	Ref   uint64
	Name  string
	Err   error
	Next  time.Time
}

// Rekeying says that a machine was made by rekeying the IKE SA. Make its LocalSPI known
// to the gate before the next output is carried out, carry out its outputs, set a timer
// to its Deadline, and feed it datagrams. It has no child SAs yet, and may end with
// Closed without ever getting one: both ends may rekey at once.
type Rekeying struct{ New *Machine }

// Rekeyed says that New, which a Rekeying announced, is the IKE SA from now on: all
// child SAs, reserved SPIs and commands are its, their events come from it, and commands
// go to it. Old needs nothing but datagrams and its timer, and ends with
// Closed{ReasonReplaced}. It may come from either: afterwards carry out the outputs of
// the other one too and set its timer anew. The peer's identity, Established's and all
// the engine knows of the SA go over to New.
type Rekeyed struct {
	Old, New   *Machine
	Role       Role // New's
	SPIi, SPIr uint64
	Suite      suite.IKE
	Path       Path
}

// Suspect says that the peer may have lost this SA: a request has gone without an answer for
// a few seconds, or somebody says so. It is no more than that, and comes once until Cleared
// follows: the SA stands, and ends with Failed if no answer comes. Who is in a hurry starts
// another one beside it, and ends this one with Replaced when that has the same peer.
type Suspect struct{ Err error }

// Cleared takes a Suspect back: the peer knows this SA.
type Cleared struct{}

// Wake says that another machine has outputs or a new deadline: carry them out and set
// its timer anew.
type Wake struct{ Machine *Machine }

// Reauthenticate asks for a new IKE SA from scratch with the same peer, and its child
// SAs; then Delete this one (RFC 7296, Section 2.8.3). It comes again, less and less often,
// until that is done. Err is nil if it is time to do so, and else says why the SA could not
// be rekeyed. At Deadline, if it is not zero, this SA ends if it is not rekeyed before.
type Reauthenticate struct {
	Err      error
	Deadline time.Time
	Again    bool // it was asked for before
}

// PathChanged says that IKE and all child SAs use another outer path from now on.
type PathChanged struct{ Path Path }

// Unverified says what an unauthenticated datagram claims, e.g. that the peer
// refuses our proposals. The machine keeps trying; remember it for the message
// when a deadline passes. At most one per error type.
type Unverified struct{ Err error }

// Resent says that a request was sent again, for want of an answer.
type Resent struct{ Request }

// Answered says that a request that was sent again has its answer at last.
type Answered struct{ Request }

// Refused says that a request of the peer's is malformed and was answered with an error,
// after which the IKE SA goes on (RFC 7296, Section 2.5).
type Refused struct{ Err error }

// Repeated says that a request of the peer's came again, bit for bit, and was answered
// again. Anybody who has seen it can send it again: it says nothing of the peer.
type Repeated struct{ Request }

// Request is one request in the events about it.
type Request struct {
	Exchange  wire.ExchangeType
	MessageID uint32
	Sends     int  // how often it was sent; 0 of the peer's
	Path      Path // its own, or for Repeated the datagram's
}

// KeyLog carries keys for a key log file; only with Config.KeyLog. One of the two
// pointers is set. It is the receiver's, to erase when written.
type KeyLog struct {
	IKE *IKEKeys
	ESP *ESPKeys
}

// IKEKeys are the keys of an IKE SA as Wireshark's ikev2_decryption_table wants
// them. Path is from our view.
type IKEKeys struct {
	SPIi, SPIr             uint64
	Suite                  suite.IKE
	SKei, SKer, SKai, SKar suite.Secret // AEAD: SKa are empty, SKe end in the salt
}

// ESPKeys are the keys of one direction of a child SA as Wireshark's esp_sa wants
// them.
type ESPKeys struct {
	SPI     uint32
	Path    Path
	Inbound bool // travels from Path.Remote to Path.Local
	Suite   suite.ESP
	Key     suite.Secret // encryption key, salt if AEAD, integrity key if not
}

// Failed says that the IKE SA is no more, and why: *NotifyError, *TimeoutError,
// *MismatchError or another error. All child SAs are removed before it, all
// reserved SPIs released but those of a WorkDecide or WorkRekey not yet answered. Closed
// follows, at once or when the peer has been told.
type Failed struct{ Err error }

// Closed is the last event: the SA is over, and the machine may be forgotten. With
// Until set, keep feeding it datagrams and Tick until then if there is room: it
// will repeat its last answer to a peer that did not get it, so that the peer need
// not time out. After Closed no event comes by itself: commands and DecideResults
// that are too late are still answered by SPIReleased and ChildFailed.
type Closed struct {
	Reason Reason
	Until  time.Time
}

// Reason says why an SA went away.
type Reason uint8

// The reasons. The zero Reason is never used.
const (
	ReasonFailed      Reason = 1 + iota // see Failed
	ReasonDeleted                       // this end asked for it
	ReasonPeerDeleted                   // the peer deleted it
	ReasonReplaced                      // a newer SA took over
	ReasonExpired                       // its hard limit came; a half-open SA was not authenticated in time
	ReasonRefused                       // the request was answered with an error, nothing was made
	ReasonInactive                      // no packet for Terms.Inactivity
	ReasonRedundant                     // both ends replaced an SA at once, and this one lost
	ReasonLost                          // the peer does not know it
)

// String returns a short text.
func (r Reason) String() string {
	switch r {
	case ReasonFailed:
		return "failed"
	case ReasonDeleted:
		return "deleted by us"
	case ReasonPeerDeleted:
		return "deleted by peer"
	case ReasonReplaced:
		return "replaced"
	case ReasonExpired:
		return "expired"
	case ReasonRefused:
		return "refused"
	case ReasonInactive:
		return "inactive"
	case ReasonRedundant:
		return "redundant"
	case ReasonLost:
		return "unknown to peer"
	}
	return "unknown"
}

func (*Send) output()           {}
func (*Keepalive) output()      {}
func (*Established) output()    {}
func (*ChildInbound) output()   {}
func (*ChildOutbound) output()  {}
func (*ChildRemoved) output()   {}
func (*SPIReleased) output()    {}
func (*ChildFailed) output()    {}
func (*Rekeying) output()       {}
func (*Rekeyed) output()        {}
func (*Wake) output()           {}
func (*Reauthenticate) output() {}
func (*RekeyFailed) output()    {}
func (*Suspect) output()        {}
func (*Cleared) output()        {}
func (*PathChanged) output()    {}
func (*Unverified) output()     {}
func (*Resent) output()         {}
func (*Answered) output()       {}
func (*Repeated) output()       {}
func (*Refused) output()        {}
func (*KeyLog) output()         {}
func (*Failed) output()         {}
func (*Closed) output()         {}

func (*Established) event()    {}
func (*ChildInbound) event()   {}
func (*ChildOutbound) event()  {}
func (*ChildRemoved) event()   {}
func (*SPIReleased) event()    {}
func (*ChildFailed) event()    {}
func (*Rekeying) event()       {}
func (*Rekeyed) event()        {}
func (*Wake) event()           {}
func (*Reauthenticate) event() {}
func (*RekeyFailed) event()    {}
func (*Suspect) event()        {}
func (*Cleared) event()        {}
func (*PathChanged) event()    {}
func (*Unverified) event()     {}
func (*Resent) event()         {}
func (*Answered) event()       {}
func (*Repeated) event()       {}
func (*Refused) event()        {}
func (*KeyLog) event()         {}
func (*Failed) event()         {}
func (*Closed) event()         {}
