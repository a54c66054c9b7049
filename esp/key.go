package esp

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Key is the keying material of one direction: the encryption key, then the salt
// of a counter suite or the integrity key (RFC 7296, Section 2.17). It never
// prints itself.
type Key []byte

// String returns "[redacted]".
func (Key) String() string { return redacted }

// GoString returns "[redacted]".
func (Key) GoString() string { return redacted }

// Format prints "[redacted]" for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Zero overwrites the key.
func (k Key) Zero() { clear(k) }
