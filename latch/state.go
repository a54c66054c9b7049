package latch

import (
	"fmt"
	"slices"
	"strings"
)

// State is the state of a latch. The zero value, CLOSED, lets nothing pass.
type State uint8

// The states of RFC 5660, Section 2.2, and the LARVAL one of Section 2.3.
const (
	StateClosed State = iota
	StateListener
	StateLarval
	StateEstablished
	StateBroken

	stateCount
)

// String returns the state as RFC 5660 writes it.
func (s State) String() string {
	switch s {
	case StateClosed:
		return "CLOSED"
	case StateListener:
		return "LISTENER"
	case StateLarval:
		return "LARVAL"
	case StateEstablished:
		return "ESTABLISHED"
	case StateBroken:
		return "BROKEN"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Event is what moves a latch from state to state.
type Event uint8

// The events. Births start from CLOSED, where a latch that does not exist is.
const (
	EventListen    Event = iota + 1 // CREATE_LISTENER_LATCH
	EventConnect                    // CREATE_CONNECTION_LATCH, SAs yet to come
	EventBirth                      // a listener's trigger, no conflict
	EventBirthBad                   // a listener's trigger, conflicting SAs exist
	EventTrigger                    // seen from the listener itself
	EventEstablish                  // the SA is known, no conflict
	EventConflict                   // conflicting SA or policy, dead peer
	EventCleared                    // the last conflict is gone
	EventFail                       // no SA could be had
	EventRelease                    // RELEASE_LATCH by the owner
	EventClose                      // by the administrator

	eventCount
)

// String returns a short name.
func (e Event) String() string {
	names := [...]string{"listen", "connect", "birth", "birth-conflict", "trigger", "establish",
		"conflict", "cleared", "fail", "release", "close"}
	if e >= 1 && int(e) <= len(names) {
		return names[e-1]
	}
	return fmt.Sprintf("event(%d)", uint8(e))
}

// Transition is one edge of the state machine.
type Transition struct {
	From  State
	Event Event
	To    State
}

// transitions is the whole state machine: RFC 5660, Section 2.2, Figure 1, with its prose, which
// adds the way from ESTABLISHED to CLOSED, and the LARVAL state of Section 2.3.
var transitions = [...]Transition{
	{StateClosed, EventListen, StateListener},
	{StateClosed, EventConnect, StateLarval},
	{StateClosed, EventBirth, StateEstablished},
	{StateClosed, EventBirthBad, StateBroken},

	{StateListener, EventTrigger, StateListener},
	{StateListener, EventRelease, StateClosed},
	{StateListener, EventClose, StateClosed},

	{StateLarval, EventEstablish, StateEstablished},
	{StateLarval, EventConflict, StateBroken},
	{StateLarval, EventFail, StateClosed},
	{StateLarval, EventRelease, StateClosed},
	{StateLarval, EventClose, StateClosed},

	{StateEstablished, EventConflict, StateBroken},
	{StateEstablished, EventRelease, StateClosed},
	{StateEstablished, EventClose, StateClosed},

	{StateBroken, EventConflict, StateBroken},
	{StateBroken, EventCleared, StateEstablished},
	{StateBroken, EventRelease, StateClosed},
	{StateBroken, EventClose, StateClosed},
}

// Transitions returns the state machine. What is not in it does not happen.
func Transitions() []Transition { return slices.Clone(transitions[:]) }

// next returns where the event leads, and whether it may happen at all.
func next(from State, e Event) (State, bool) {
	for i := range transitions {
		if t := &transitions[i]; t.From == from && t.Event == e {
			return t.To, true
		}
	}
	return from, false
}

// Reasons is a set of reasons for which a latch is broken: it is established again only when the
// last one is gone.
type Reasons uint8

// The reasons.
const (
	ReasonConflict Reasons = 1 << iota // an SA of another peer or quality covers the flow
	ReasonPolicy                       // the SPD or PAD no longer gives the flow what is latched
	ReasonDead                         // the peer is dead or has restarted
	ReasonAdmin                        // the administrator broke it
)

// String lists the reasons.
func (r Reasons) String() string {
	names := [...]string{"conflicting SA", "policy change", "peer dead", "administrator"}
	var out []string
	for i, name := range names {
		if r&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
