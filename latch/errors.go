package latch

import (
	"errors"
	"fmt"
	"net"

	"github.com/btns-go/btns/esp/ts"
)

var (
	// ErrBroken is matched by the error of a broken latch (ECONNRESET, or ENETRESET for
	// datagrams).
	ErrBroken = errors.New("latch: broken")
	// ErrExists means that the 5-tuple or 3-tuple has a latch already (EADDRINUSE).
	ErrExists = errors.New("latch: already latched")
	// ErrConflict means that SAs exist that conflict with the latch (ECONNREFUSED).
	ErrConflict = errors.New("latch: a conflicting SA covers the flow")
	// ErrFull means that the database has as many latches as it may (ENOBUFS).
	ErrFull = errors.New("latch: too many latches")
	// ErrState means that the latch is in no state for what was asked (EINVAL).
	ErrState = errors.New("latch: not possible in this state")
	// ErrFlow means that the flow is not one: invalid, or without ports (EINVAL).
	ErrFlow = errors.New("latch: not a flow of a connection")
)

// closedError is what a closed latch answers; it matches net.ErrClosed.
type closedError struct{ cause error }

func (e *closedError) Error() string {
	if e.cause != nil {
		return "latch: closed: " + e.cause.Error()
	}
	return "latch: closed"
}

func (e *closedError) Unwrap() []error {
	if e.cause != nil {
		return []error{net.ErrClosed, e.cause}
	}
	return []error{net.ErrClosed}
}

// BrokenError says why a latch is broken. It matches ErrBroken.
type BrokenError struct {
	Flow    ts.Flow
	Reasons Reasons
	Detail  string
}

// Error names the flow and the reasons.
func (e *BrokenError) Error() string {
	s := fmt.Sprintf("latch: %v: broken: %v", e.Flow, e.Reasons)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Is matches ErrBroken.
func (e *BrokenError) Is(target error) bool { return target == ErrBroken }

// MismatchError says in what an SA is not what the owner wants.
type MismatchError struct{ Field, Want, Got string }

// Error names the parameter and both values.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("latch: %s is %s, wanted %s", e.Field, e.Got, e.Want)
}

// Err returns nil while packets may pass or will once an SA is there, a *BrokenError while
// broken, and an error that matches net.ErrClosed, with its cause, when closed.
func (l *Latch) Err() error {
	switch l.State() {
	case StateClosed:
		unlock := l.lock()
		defer unlock()
		return &closedError{cause: l.cause}
	case StateBroken:
		unlock := l.lock()
		defer unlock()
		return &BrokenError{Flow: l.flow, Reasons: l.reasons, Detail: l.detail}
	case StateListener, StateLarval, StateEstablished:
	}
	return nil
}
