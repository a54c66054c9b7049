package ike

import (
	"slices"
	"strings"

	"github.com/btns-go/btns/ike/wire"
)

// State is where an IKE SA stands. States say what may be received; whether Work
// is out is a state of its own only where that changes the answer.
type State uint8

// The states. The zero State is the one in which nothing is accepted.
const (
	StateClosed      State = iota // done
	StateIdle                     // initiator: not started
	StateInitKey                  // initiator: waits for its own key
	StateInitSent                 // initiator: IKE_SA_INIT sent
	StateInitDone                 // initiator: response taken, shared secret and AUTH being computed
	StateAuthSent                 // initiator: IKE_AUTH sent
	StateAuthCheck                // initiator: response taken, being verified
	StateInitBusy                 // responder: IKE_SA_INIT taken, key being computed
	StateHalfOpen                 // responder: IKE_SA_INIT answered
	StateAuthBusy                 // responder: IKE_AUTH taken, being verified and decided
	StateEstablished              // both ends authenticated
	StateDeleting                 // this end's Delete is on its way
	StateReplaced                 // rekeyed: another machine has taken over, the peer's Delete is to come
	StateLinger                   // done, but the last answer may have to be repeated
)

// String returns the state's name.
func (s State) String() string {
	names := [...]string{
		StateClosed: "CLOSED", StateIdle: "IDLE", StateInitKey: "INIT_KEY",
		StateInitSent: "INIT_SENT", StateInitDone: "INIT_DONE", StateAuthSent: "AUTH_SENT",
		StateAuthCheck: "AUTH_CHECK", StateInitBusy: "INIT_BUSY", StateHalfOpen: "HALF_OPEN",
		StateAuthBusy: "AUTH_BUSY", StateEstablished: "ESTABLISHED",
		StateDeleting: "DELETING", StateReplaced: "REPLACED", StateLinger: "LINGER",
	}
	if int(s) >= len(names) {
		return "invalid"
	}
	return names[s]
}

// states is a set of states.
type states uint32

func in(ss ...State) states {
	var v states
	for _, s := range ss {
		v |= 1 << s
	}
	return v
}

func (v states) has(s State) bool { return v&(1<<s) != 0 }

// payloads is a set of payload types, 33 to 96.
type payloads uint64

func set(ts ...wire.PayloadType) payloads {
	var v payloads
	for _, t := range ts {
		v |= bit(t)
	}
	return v
}

func bit(t wire.PayloadType) payloads {
	if t < 33 || t > 96 {
		return 0
	}
	return 1 << (t - 33)
}

// String lists the payload types.
func (v payloads) String() string {
	var parts []string
	for t := wire.PayloadType(33); t <= 96; t++ {
		if v&bit(t) != 0 {
			parts = append(parts, t.String())
		}
	}
	return strings.Join(parts, " ")
}

// action names the handler of a transition. An enum, not a func: the table stays
// data that can be printed and walked.
type action uint8

const (
	actInitAnswer       action = 1 + iota // initiator: IKE_SA_INIT response
	actInitAgain                          // responder: IKE_SA_INIT request repeated
	actAuthRequest                        // responder: IKE_AUTH request
	actAuthAnswer                         // initiator: IKE_AUTH response
	actChildRequest                       // CREATE_CHILD_SA request
	actChildAnswer                        // CREATE_CHILD_SA response
	actChildNotNow                        // CREATE_CHILD_SA request while we delete the IKE SA
	actInformational                      // INFORMATIONAL request
	actInformationalAck                   // INFORMATIONAL response
	actMisplaced                          // authentic, but such a request does not belong here
	actRepeat                             // the stored answer again, nothing else
)

// direction tells requests from responses.
type direction uint8

const (
	request direction = iota
	response
)

// String returns "request" or "response".
func (d direction) String() string {
	if d == response {
		return "response"
	}
	return "request"
}

// anyExchange in a transition stands for all exchanges that have no entry.
const anyExchange wire.ExchangeType = 0

// transition is one cell of state × exchange × direction × role.
type transition struct {
	story    string
	from     states
	role     Role // of this end in the SA; 0 = both
	exchange wire.ExchangeType
	dir      direction
	clear    bool     // not inside SK
	need     payloads // each exactly once; a response with an error notify needs none
	may      payloads // all others are passed over; see only and once
	do       action
	to       State // where it leads if all goes well
}

// Payloads that may occur at most once in any message. The others may repeat:
// Notify, Delete, Vendor, CERT, CERTREQ.
var once = set(wire.PayloadSA, wire.PayloadKE, wire.PayloadIDi, wire.PayloadIDr, wire.PayloadAuth,
	wire.PayloadNonce, wire.PayloadTSi, wire.PayloadTSr, wire.PayloadConfiguration, wire.PayloadEAP)

// only takes away the payloads that the message has no place for: nothing is done because
// of them (RFC 7296, Section 2.5). The critical ones that nobody knows have been refused.
func (t *transition) only(ps []wire.Payload) []wire.Payload {
	return slices.DeleteFunc(ps, func(p wire.Payload) bool { return (t.need|t.may)&bit(p.Type()) == 0 })
}

// transitions is the protocol. It is not modified.
var transitions = [...]transition{
	{story: "IKE_SA_INIT response: HDR, SAr1, KEr, Nr, [N], [CERTREQ]", // RFC 7296, Sections 1.2 and 2.4
		from: in(StateInitSent, StateInitDone, StateAuthSent), role: Initiator, exchange: wire.ExchangeIKESAInit, dir: response, clear: true,
		need: set(wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce),
		may:  set(wire.PayloadNotify, wire.PayloadCertReq, wire.PayloadVendor),
		do:   actInitAnswer, to: StateInitDone},
	{story: "IKE_SA_INIT request repeated", // RFC 7296, Section 2.1
		from: in(StateHalfOpen), role: Responder, exchange: wire.ExchangeIKESAInit, dir: request, clear: true,
		do: actInitAgain, to: StateHalfOpen},
	{story: "IKE_AUTH request: SK {IDi, [CERT], [CERTREQ], [IDr], AUTH, SAi2, TSi, TSr}", // RFC 7296, Section 1.2
		from: in(StateHalfOpen), role: Responder, exchange: wire.ExchangeIKEAuth, dir: request,
		need: set(wire.PayloadIDi, wire.PayloadAuth),
		may: set(wire.PayloadCert, wire.PayloadCertReq, wire.PayloadIDr, wire.PayloadSA, wire.PayloadTSi,
			wire.PayloadTSr, wire.PayloadNotify, wire.PayloadVendor, wire.PayloadConfiguration, wire.PayloadEAP),
		do: actAuthRequest, to: StateAuthBusy},
	{story: "IKE_AUTH response: SK {IDr, [CERT], AUTH, SAr2, TSi, TSr}", // RFC 7296, Section 1.2
		from: in(StateAuthSent), role: Initiator, exchange: wire.ExchangeIKEAuth, dir: response,
		need: set(wire.PayloadIDr, wire.PayloadAuth),
		may: set(wire.PayloadCert, wire.PayloadSA, wire.PayloadTSi, wire.PayloadTSr, wire.PayloadNotify,
			wire.PayloadVendor, wire.PayloadConfiguration),
		do: actAuthAnswer, to: StateAuthCheck},
	{story: "CREATE_CHILD_SA request: SK {[N], SA, Ni, [KEi], [TSi, TSr]}", // RFC 7296, Section 1.3
		from: in(StateEstablished), exchange: wire.ExchangeCreateChildSA, dir: request,
		need: set(wire.PayloadSA, wire.PayloadNonce),
		may:  set(wire.PayloadKE, wire.PayloadTSi, wire.PayloadTSr, wire.PayloadNotify, wire.PayloadVendor),
		do:   actChildRequest, to: StateEstablished},
	{story: "CREATE_CHILD_SA response: SK {SA, Nr, [KEr], [TSi, TSr]}",
		from: in(StateEstablished, StateDeleting, StateReplaced), exchange: wire.ExchangeCreateChildSA, dir: response,
		need: set(wire.PayloadSA, wire.PayloadNonce),
		may:  set(wire.PayloadKE, wire.PayloadTSi, wire.PayloadTSr, wire.PayloadNotify, wire.PayloadVendor),
		do:   actChildAnswer, to: StateEstablished},
	{story: "CREATE_CHILD_SA request on an IKE SA we are closing", // RFC 7296, Section 2.25.2
		from: in(StateDeleting, StateReplaced), exchange: wire.ExchangeCreateChildSA, dir: request,
		may: ^payloads(0), do: actChildNotNow, to: StateDeleting},
	{story: "INFORMATIONAL request: SK {[N], [D], [CP]}", // RFC 7296, Section 1.4
		from: in(StateEstablished, StateDeleting, StateReplaced), exchange: wire.ExchangeInformational, dir: request,
		may: set(wire.PayloadNotify, wire.PayloadDelete, wire.PayloadVendor, wire.PayloadConfiguration),
		do:  actInformational, to: StateEstablished},
	{story: "INFORMATIONAL response",
		from: in(StateEstablished, StateDeleting, StateReplaced), exchange: wire.ExchangeInformational, dir: response,
		may: set(wire.PayloadNotify, wire.PayloadDelete, wire.PayloadVendor, wire.PayloadConfiguration),
		do:  actInformationalAck, to: StateEstablished},
	{story: "request that is neither here nor now", // RFC 7296, Section 2.21.3; ADV-A13, ADV-D6, ADV-D7
		from: in(StateHalfOpen, StateEstablished, StateDeleting, StateReplaced), exchange: anyExchange, dir: request,
		may: ^payloads(0), do: actMisplaced, to: StateLinger},
	{story: "last request repeated", // RFC 7296, Section 2.1
		from: in(StateLinger), exchange: anyExchange, dir: request,
		may: ^payloads(0), do: actRepeat, to: StateLinger},
}

// cell looks up what to do with a message. It returns the transition or the
// reason to drop; one of the two is always set.
func cell(s State, role Role, e wire.ExchangeType, d direction) (*transition, Drop) {
	var wild *transition
	for i := range transitions {
		t := &transitions[i]
		if t.dir != d || !t.from.has(s) || t.role != 0 && t.role != role {
			continue
		}
		if t.exchange == e {
			return t, 0
		}
		if t.exchange == anyExchange && e != wire.ExchangeIKESAInit {
			wild = t
		}
	}
	if wild != nil {
		return wild, 0
	}
	return nil, dropFor(s, e, d)
}

// dropFor names the reason to drop a message that has no transition.
func dropFor(s State, e wire.ExchangeType, d direction) Drop {
	switch s {
	case StateClosed, StateLinger:
		return DropClosed
	case StateIdle, StateInitKey, StateInitSent, StateInitDone, StateInitBusy:
		switch {
		case e != wire.ExchangeIKESAInit:
			return DropNoKeys
		case s == StateInitBusy && d == request:
			return DropBusy // RFC 7296, Section 2.1: starts nothing a second time
		case s == StateInitDone && d == response:
			return DropLate // ADV-F5: the first good one counts
		}
		return DropState
	case StateAuthSent, StateAuthCheck, StateHalfOpen, StateAuthBusy, StateEstablished, StateDeleting, StateReplaced:
		switch {
		case e == wire.ExchangeIKESAInit:
			return DropLate // ADV-B20
		case d == response:
			return DropUnasked
		case s == StateAuthBusy:
			return DropBusy
		case s == StateAuthSent, s == StateAuthCheck:
			return DropEarly // ADV-D6: nothing from a peer whose AUTH we have not verified
		}
		return DropState
	}
	return DropState
}
