package suite

import (
	"fmt"
	"log/slog"
)

// Secret is key material. It prints as [redacted] whatever the verb.
type Secret []byte

const redacted = "[redacted]"

// String implements fmt.Stringer without showing anything.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer without showing anything.
func (Secret) GoString() string { return redacted }

// Format hides the octets from %x, %d and the like too.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer without showing anything.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps encoders from showing anything.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Zero overwrites the octets. The secret is useless afterwards.
func (s Secret) Zero() { clear(s) }
