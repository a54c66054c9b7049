package ike

import (
	"fmt"
	"net"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// ErrClosed is returned by commands to a machine that is closed or closing. It
// matches net.ErrClosed.
var ErrClosed = fmt.Errorf("ike: SA closed: %w", net.ErrClosed)

// NotifyError is a refusal with its number on the wire.
type NotifyError struct {
	Type     wire.NotifyType
	Remote   bool              // the peer said it; else we did
	Verified bool              // it came in an SK payload: from who answered IKE_SA_INIT, which the peer may yet have to prove to be
	Peer     string            // Config.Name and address
	Exchange wire.ExchangeType // in which exchange
	Why      string            // what was expected and what came, if known
	Err      error             // cause, if known
}

// Error names the peer, the notify and the reason.
func (e *NotifyError) Error() string {
	s := fmt.Sprintf("ike: refused %s of %s: %s", e.Exchange, e.Peer, e.Type)
	if e.Remote {
		s = fmt.Sprintf("ike: %s refused %s: %s", e.Peer, e.Exchange, e.Type)
		if !e.Verified {
			s += " (unauthenticated)"
		}
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *NotifyError) Unwrap() error { return e.Err }

// Is matches another *NotifyError of the same Type.
func (e *NotifyError) Is(target error) bool {
	t, ok := target.(*NotifyError)
	return ok && t.Type == e.Type
}

// TimeoutError says that the peer did not answer a request.
type TimeoutError struct {
	Peer     string
	Path     Path
	Exchange wire.ExchangeType
	Sends    int
	Elapsed  time.Duration
	Waited   bool  // we waited for the peer's request: nothing was sent
	Last     error // what an unauthenticated datagram claimed meanwhile, or nil
}

// Error says what was tried.
func (e *TimeoutError) Error() string {
	if e.Waited {
		return fmt.Sprintf("ike: no %s request from %s within %s", e.Exchange, e.Peer, e.Elapsed.Round(time.Second))
	}
	s := fmt.Sprintf("ike: no answer from %s to %s: sent %d times to %s in %s",
		e.Peer, e.Exchange, e.Sends, e.Path.Remote, e.Elapsed.Round(time.Second))
	if e.Last != nil {
		s += "; last heard: " + e.Last.Error()
	}
	return s
}

// Timeout reports true, for net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary reports true, for net.Error.
func (e *TimeoutError) Temporary() bool { return true }

// Unwrap returns what was last heard.
func (e *TimeoutError) Unwrap() error { return e.Last }

// WhatSelectors is the What of a MismatchError about traffic selectors.
const WhatSelectors = "traffic selectors"

// MismatchError says that the peer's message does not fit what was asked.
type MismatchError struct {
	Peer     string
	Exchange wire.ExchangeType
	What     string // e.g. WhatSelectors
	Want     string // what was expected
	Got      string // what came
	Err      error
}

// Error names both sides.
func (e *MismatchError) Error() string {
	s := fmt.Sprintf("ike: %s: %s of %s: expected %s, got %s", e.Exchange, e.What, e.Peer, e.Want, e.Got)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *MismatchError) Unwrap() error { return e.Err }

// PeerClosedError says that the peer deleted the IKE SA. It matches net.ErrClosed.
type PeerClosedError struct{ Peer string }

// Error names the peer.
func (e *PeerClosedError) Error() string { return "ike: " + e.Peer + " deleted the IKE SA" }

// Unwrap returns net.ErrClosed.
func (e *PeerClosedError) Unwrap() error { return net.ErrClosed }
