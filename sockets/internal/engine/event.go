package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-go/btns/tokens"
)

// An EventKind says what happened: the events and alerts of VICI by their names there, and
// a few that only this host knows.
type EventKind uint8

// The kinds. The zero EventKind is one that this build has no name for.
const (
	EventUnknown EventKind = iota

	// What becomes of SAs.
	EventIKEUpDown   // an IKE SA is established, or one that was has ended; Reason, Err
	EventIKERekey    // an IKE SA has new keys: IKE is the new one, IKE.OldNum the old one
	EventIKEUpdate   // the peer's outer address changed
	EventIKEReauth   // an IKE SA is to be made anew; Retry is when it ends if it is not
	EventChildUpDown // a child SA carries packets both ways, or has ended
	EventChildRekey  // a child SA took over from Child.OldSPIIn

	// Alerts.
	EventAuthorizationFailed   // the peer proved who it is, but there is no room for it
	EventLocalAuthFailed       // we could not authenticate: the peer refused us, or our key did
	EventPeerAuthFailed        // the peer could not authenticate
	EventHalfOpenTimeout       // a peer began and never authenticated
	EventIKESAExpired          // an IKE SA reached its hard limit
	EventInstallChildSAFailed  // no child SA, for a reason that no other alert names
	EventInvalidIKESPI         // a message for an IKE SA that is not there, as after a restart
	EventParseErrorHeader      // not an IKEv2 header
	EventParseErrorBody        // payloads that are malformed, missing or forged
	EventPeerAddrFailed        // a peer's outer host name is unknown
	EventPeerInitUnreachable   // nobody answers IKE_SA_INIT at an address
	EventProposalMismatchIKE   // no IKE proposal in common; Offers
	EventProposalMismatchChild // no ESP proposal, mode or suite in common; Offers
	EventRetransmitSend        // a request is sent again
	EventRetransmitSendCleared // a request that was sent again is answered
	EventRetransmitSendTimeout // a request was never answered: its IKE SA has ended
	EventRetransmitReceive     // the peer sent a request again, and got the same answer
	EventTSMismatch            // no traffic selectors in common; Offers
	EventTSNarrowed            // a child SA covers less than was asked for; Offers
	EventUniqueKeep            // a new IKE SA was refused in favour of one with the same peer
	EventUniqueReplace         // an IKE SA ended in favour of a new one with the same peer
	EventShutdown              // the host is told to stop; or Err says why it does
	EventKeepOnChildSAFailure  // an IKE SA stays although its first child SA failed

	// What VICI has no word for.
	EventIKEFailed         // an IKE SA could not be made, for a reason that no other alert names
	EventPeerSuspect       // the peer may have lost an IKE SA: another one is made beside it; Err
	EventPeerCleared       // it has not: the other one is given up
	EventLatchBroken       // a connection is cut: what it was latched to no longer holds
	EventAnonymousConflict // an anonymous peer wants what another peer holds
	EventLost              // the reader was too slow: Lost events are missing here

	numEventKinds
)

// String is what VICI calls the kind, "unknown" for the zero EventKind.
func (k EventKind) String() string {
	if k < numEventKinds {
		return kinds[k].name
	}
	return "unknown"
}

// MarshalText writes the name.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name. One that this build does not know is EventUnknown.
func (k *EventKind) UnmarshalText(b []byte) error {
	*k = EventUnknown
	for i, known := range kinds {
		if known.name == string(b) {
			*k = EventKind(i)
		}
	}
	return nil
}

// EventKinds returns all kinds.
func EventKinds() []EventKind {
	ks := make([]EventKind, 0, numEventKinds-1)
	for k := EventUnknown + 1; k < numEventKinds; k++ {
		ks = append(ks, k)
	}
	return ks
}

// An Event is one thing that happened to a host's SAs, or did not happen and why. Fields
// that a kind has no use for are zero.
type Event struct {
	Time time.Time `json:"time"`
	Kind EventKind `json:"kind"`
	Up   bool      `json:"up,omitempty"` // EventIKEUpDown, EventChildUpDown

	// Unauthenticated says that nobody has proven anything: what the event says of a peer
	// is a claim, and anybody may have caused it. There is a limit to such events of one
	// kind; Suppressed is how many there were since the last one that was told.
	Unauthenticated bool `json:"unauthenticated,omitempty"`
	// Protected, with Unauthenticated, says that only who answered our IKE_SA_INIT can have
	// caused it, with a message in an SK payload: the peer, or somebody on the path to it.
	Protected  bool   `json:"protected,omitempty"`
	Suppressed uint64 `json:"suppressed,omitempty"`

	Connection string       `json:"connection,omitempty"` // "" while it is not known whose peer it is
	Peer       EventPeer    `json:"peer,omitzero"`
	IKE        EventIKE     `json:"ike,omitzero"`
	Child      EventChild   `json:"child,omitzero"`
	Request    EventRequest `json:"request,omitzero"`
	Offers     Offers       `json:"offers,omitzero"`
	Flow       string       `json:"flow,omitempty"`   // EventLatchBroken; EventProposalMismatchChild, where a socket demands more
	Reason     string       `json:"reason,omitempty"` // why an SA ended, a latch broke
	Retry      time.Time    `json:"retry,omitzero"`   // when it is tried again
	Lost       uint64       `json:"lost,omitempty"`   // EventLost
	Err        error        `json:"-"`                // typed in this process, text in JSON ("error")
}

// EventPeer is who is at the ends of an IKE SA.
type EventPeer struct {
	Local     string `json:"local_id,omitempty"`
	Remote    string `json:"remote_id,omitempty"`  // proven
	Claimed   string `json:"claimed_id,omitempty"` // what the peer says it is, and has not proven
	Asked     string `json:"asked_id,omitempty"`   // whom the initiator asked for
	Method    string `json:"auth,omitempty"`       // how the peer authenticates: "psk", "pubkey", "btns"
	Anonymous bool   `json:"anonymous,omitempty"`  // known by nothing but a key nobody vouched for
}

// EventIKE is an IKE SA, or the attempt to make one.
type EventIKE struct {
	Num       uint64         `json:"uniqueid,omitempty"`     // as in Status
	OldNum    uint64         `json:"old_uniqueid,omitempty"` // EventIKERekey: what it replaces
	Initiator bool           `json:"initiator,omitempty"`
	SPIi      IKESPI         `json:"initiator_spi,omitzero"`
	SPIr      IKESPI         `json:"responder_spi,omitzero"`
	Local     netip.AddrPort `json:"local,omitzero"`
	Remote    netip.AddrPort `json:"remote,omitzero"`
	OldRemote netip.AddrPort `json:"old_remote,omitzero"` // EventIKEUpdate
	Suite     string         `json:"proposal,omitempty"`
}

// EventChild is a child SA, or the attempt to make one.
type EventChild struct {
	Name     string     `json:"name,omitempty"`
	Mode     string     `json:"mode,omitempty"`
	Suite    string     `json:"proposal,omitempty"`
	SPIIn    tokens.SPI `json:"spi_in,omitzero"`
	SPIOut   tokens.SPI `json:"spi_out,omitzero"`
	OldSPIIn tokens.SPI `json:"old_spi_in,omitzero"` // EventChildRekey: what it replaces
	LocalTS  string     `json:"local_ts,omitempty"`
	RemoteTS string     `json:"remote_ts,omitempty"`
}

// EventRequest is an IKE request that was sent more than once.
type EventRequest struct {
	Exchange  string `json:"exchange,omitempty"`
	MessageID uint32 `json:"message_id,omitempty"`
	Sends     int    `json:"sends,omitempty"`
}

// Offers are the two sides of a negotiation that failed, or gave less than was asked:
// proposals, modes or traffic selectors in the words of the configuration.
type Offers struct {
	Peer  []string `json:"peer,omitempty"` // empty: the peer does not say
	Ours  []string `json:"ours,omitempty"`
	First string   `json:"first_mismatch,omitempty"` // the first thing that did not match
}

// IKESPI is the SPI of one end of an IKE SA; it prints as sixteen hexadecimal digits.
type IKESPI uint64

// String returns sixteen hexadecimal digits.
func (s IKESPI) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// MarshalText makes JSON show what String does.
func (s IKESPI) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *IKESPI) UnmarshalText(b []byte) error {
	var v uint64
	if _, err := fmt.Sscanf(string(b), "%016x", &v); err != nil {
		return fmt.Errorf("engine: %q is no IKE SPI", b)
	}
	*s = IKESPI(v)
	return nil
}

type plainEvent Event

// MarshalJSON writes the fields that are not zero, and Err as text.
func (e Event) MarshalJSON() ([]byte, error) {
	v := struct {
		plainEvent
		Error string `json:"error,omitempty"`
	}{plainEvent: plainEvent(e)}
	if e.Err != nil {
		v.Error = e.Err.Error()
	}
	return json.Marshal(v)
}

// UnmarshalJSON reads what MarshalJSON wrote. Err is then its text and nothing more.
func (e *Event) UnmarshalJSON(b []byte) error {
	var v struct {
		plainEvent
		Error string `json:"error"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*e = Event(v.plainEvent)
	if v.Error != "" {
		e.Err = errors.New(v.Error)
	}
	return nil
}
