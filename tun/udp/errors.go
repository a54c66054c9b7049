package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// A ListenError says why a local address could not be used.
type ListenError struct {
	Addr netip.AddrPort
	Err  error
}

// Error returns one sentence for the person who chose the address.
func (e *ListenError) Error() string {
	at := fmt.Sprintf("port %d", e.Addr.Port())
	if a := e.Addr.Addr(); a.IsValid() && !a.IsUnspecified() {
		at = e.Addr.String()
	}
	switch {
	case errors.Is(e.Err, errInUse):
		return fmt.Sprintf("udp: %s is in use by another program", at)
	case errors.Is(e.Err, errAccess):
		return fmt.Sprintf("udp: no permission to listen on %s; a higher port needs none", at)
	case errors.Is(e.Err, errNotAvail):
		return fmt.Sprintf("udp: %v is not an address of this host", e.Addr.Addr())
	}
	err := e.Err
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Sprintf("udp: cannot listen on %s: %v", at, err)
}

// Unwrap returns the operating system's error.
func (e *ListenError) Unwrap() error { return e.Err }
