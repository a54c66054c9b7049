package tokens

import (
	"errors"
	"fmt"
	"net"
)

// The errors a caller branches on, with the errno each would be in C.
var (
	// ErrNotYet means that there is nothing proven to tell: no connection, or authentication has
	// not ended (ENOTCONN).
	ErrNotYet = errors.New("tokens: not authenticated yet")
	// ErrLatched means that the token describes a latched connection and cannot be changed
	// (EISCONN).
	ErrLatched = errors.New("tokens: the connection is latched")
	// ErrReadOnly means that the token, or the attribute, is for reading (EPERM).
	ErrReadOnly = errors.New("tokens: read-only")
	// ErrUnknownAttr means that there is no such attribute here (ENOPROTOOPT).
	ErrUnknownAttr = errors.New("tokens: no such attribute")
	// ErrValue means that the value does not fit the attribute (EINVAL).
	ErrValue = errors.New("tokens: bad value")
	// ErrUnsupported means that the attribute is known but cannot be had (EOPNOTSUPP).
	ErrUnsupported = errors.New("tokens: unsupported")
	// ErrSerialize means that PTokens do not leave their process (EPERM).
	ErrSerialize = errors.New("tokens: a PToken cannot leave its process")
	// ErrClosed means that the token was closed; it matches net.ErrClosed (EBADF).
	ErrClosed = fmt.Errorf("tokens: %w", net.ErrClosed)
)

// AttrError says which attribute failed, and wraps one of the errors above.
type AttrError struct {
	Attr Attribute
	Err  error
	Why  string // "" if Err says it all
}

// Error names the attribute.
func (e *AttrError) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("%v: %v", e.Err, e.Attr)
	}
	return fmt.Sprintf("%v: %v: %s", e.Err, e.Attr, e.Why)
}

// Unwrap returns the cause.
func (e *AttrError) Unwrap() error { return e.Err }
