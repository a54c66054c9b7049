package sockets

import "github.com/btns-go/btns/sockets/internal/engine"

// An Event is one thing that happened to a host's SAs, or did not happen and why: switch on
// Kind and read the fields. Err is a real error of this module's packages. It prints as a
// line for people, and as JSON with stable names.
type Event = engine.Event

// The parts of an Event.
type (
	EventKind    = engine.EventKind
	EventPeer    = engine.EventPeer
	EventIKE     = engine.EventIKE
	EventChild   = engine.EventChild
	EventRequest = engine.EventRequest
	Offers       = engine.Offers
)

// A Watcher receives a host's events.
type Watcher = engine.Watcher

// What an Event's Err may hold of this host's own refusals, for errors.As.
type (
	AuthError      = engine.AuthError
	SelectorError  = engine.SelectorError
	ModeError      = engine.ModeError
	AdmissionError = engine.AdmissionError
	RoomError      = engine.RoomError
	UniqueError    = engine.UniqueError
	TakenError     = engine.TakenError
)

// The kinds of events: the events and alerts of VICI by their names there, and a few that
// only this host knows. The zero EventKind is one that this build has no name for.
const (
	EventUnknown = engine.EventUnknown

	// What becomes of SAs.
	EventIKEUpDown   = engine.EventIKEUpDown   // an IKE SA is established, or one that was has ended; Reason, Err
	EventIKERekey    = engine.EventIKERekey    // an IKE SA has new keys: IKE is the new one, IKE.OldNum the old one
	EventIKEUpdate   = engine.EventIKEUpdate   // the peer's outer address changed
	EventIKEReauth   = engine.EventIKEReauth   // an IKE SA is to be made anew; Retry is when it ends if it is not
	EventChildUpDown = engine.EventChildUpDown // a child SA carries packets both ways, or has ended
	EventChildRekey  = engine.EventChildRekey  // a child SA took over from Child.OldSPIIn

	// Alerts.
	EventAuthorizationFailed   = engine.EventAuthorizationFailed   // the peer proved who it is, but there is no room for it
	EventLocalAuthFailed       = engine.EventLocalAuthFailed       // we could not authenticate: the peer refused us, or our key did
	EventPeerAuthFailed        = engine.EventPeerAuthFailed        // the peer could not authenticate
	EventHalfOpenTimeout       = engine.EventHalfOpenTimeout       // a peer began and never authenticated
	EventIKESAExpired          = engine.EventIKESAExpired          // an IKE SA reached its hard limit
	EventInstallChildSAFailed  = engine.EventInstallChildSAFailed  // no child SA, for a reason that no other alert names
	EventInvalidIKESPI         = engine.EventInvalidIKESPI         // a message for an IKE SA that is not there, as after a restart
	EventParseErrorHeader      = engine.EventParseErrorHeader      // not an IKEv2 header
	EventParseErrorBody        = engine.EventParseErrorBody        // payloads that are malformed or missing
	EventPeerAddrFailed        = engine.EventPeerAddrFailed        // a peer's outer host name is unknown
	EventPeerInitUnreachable   = engine.EventPeerInitUnreachable   // nobody answers IKE_SA_INIT at an address
	EventProposalMismatchIKE   = engine.EventProposalMismatchIKE   // no IKE proposal in common; Offers
	EventProposalMismatchChild = engine.EventProposalMismatchChild // no ESP proposal, mode or suite in common; Offers
	EventRetransmitSend        = engine.EventRetransmitSend        // a request is sent again
	EventRetransmitSendCleared = engine.EventRetransmitSendCleared // a request that was sent again is answered
	EventRetransmitSendTimeout = engine.EventRetransmitSendTimeout // a request was never answered: its IKE SA has ended
	EventRetransmitReceive     = engine.EventRetransmitReceive     // the peer sent a request again, and got the same answer
	EventTSMismatch            = engine.EventTSMismatch            // no traffic selectors in common; Offers
	EventTSNarrowed            = engine.EventTSNarrowed            // a child SA covers less than was asked for; Offers
	EventUniqueKeep            = engine.EventUniqueKeep            // a new IKE SA was refused in favour of one with the same peer
	EventUniqueReplace         = engine.EventUniqueReplace         // an IKE SA ended in favour of a new one with the same peer
	EventShutdown              = engine.EventShutdown              // the host is told to stop; or Err says why it does
	EventKeepOnChildSAFailure  = engine.EventKeepOnChildSAFailure  // an IKE SA stays although its first child SA failed

	// What VICI has no word for.
	EventIKEFailed         = engine.EventIKEFailed         // an IKE SA could not be made, for a reason that no other alert names
	EventLatchBroken       = engine.EventLatchBroken       // a connection is cut: what it was latched to no longer holds
	EventPeerSuspect       = engine.EventPeerSuspect       // the peer may have lost an IKE SA: another one is made beside it; Err
	EventPeerCleared       = engine.EventPeerCleared       // it has not: the other one is given up
	EventAnonymousConflict = engine.EventAnonymousConflict // an anonymous peer wants what another peer holds
	EventLost              = engine.EventLost              // the reader was too slow: Lost events are missing here
)

// EventKinds returns all kinds.
func EventKinds() []EventKind { return engine.EventKinds() }

// Watch starts to receive the host's events. A reader that is too slow loses some and is
// told how many; it never delays the host. Close the Watcher when done; after Close of the
// host it yields what is left and then an error that matches net.ErrClosed.
func (st *Stack) Watch() *Watcher { return st.e.Watch() }
