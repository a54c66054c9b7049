package sockets

import (
	"errors"
	"fmt"

	"github.com/btns-go/btns/latch"
)

// Errors that callers branch on. Everything closed matches net.ErrClosed.
var (
	// ErrNotIPsec says that a connection has no PToken: it is not one of this package's,
	// nor wraps one. EPROTONOSUPPORT.
	ErrNotIPsec = errors.New("sockets: not a connection of an IPsec host")

	// ErrLatchBroken is why a connection was reset: what it was latched to no longer
	// holds. ECONNRESET.
	ErrLatchBroken = errors.New("sockets: the connection's latch was broken")
)

// A LatchError says why a connection's latch ended. It matches ErrLatchBroken.
type LatchError struct {
	State  latch.State
	Reason error
}

func (e *LatchError) Error() string {
	return fmt.Sprintf("%v: now %s: %v", ErrLatchBroken, e.State, e.Reason)
}

// Is matches ErrLatchBroken.
func (e *LatchError) Is(target error) bool { return target == ErrLatchBroken }

// Unwrap returns the reason.
func (e *LatchError) Unwrap() error { return e.Reason }
