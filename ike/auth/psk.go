package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// PSK is a pre-shared key. It prints as "[redacted]" however it is printed or encoded. The zero
// PSK is empty and authenticates nobody.
type PSK struct{ secret []byte }

const redacted = "[redacted]"

// NewPSK returns the PSK with these octets, which are copied.
func NewPSK(secret []byte) PSK { return PSK{append([]byte(nil), secret...)} }

// ParsePSK reads a secret as swanctl.conf writes it: 0x and hexadecimal digits, 0s and Base64, or
// else the octets of the string itself. RFC 7296, Section 2.15 requires ASCII and hex. Errors
// don't repeat the secret.
func ParsePSK(s string) (PSK, error) {
	var b []byte
	var err error
	switch {
	case strings.HasPrefix(s, "0x"):
		if b, err = hex.DecodeString(s[2:]); err != nil {
			return PSK{}, errors.New("auth: the secret starts with 0x but is not an even number of hexadecimal digits")
		}
	case strings.HasPrefix(s, "0s"):
		if b, err = base64.StdEncoding.DecodeString(s[2:]); err != nil {
			return PSK{}, errors.New("auth: the secret starts with 0s but is not Base64")
		}
	default:
		b = []byte(s)
	}
	if len(b) == 0 {
		return PSK{}, errors.New("auth: the secret is empty")
	}
	return PSK{b}, nil
}

// LoadPSK reads a secret from a file, as [ParsePSK] does but for the end of its last line. If
// others than its owner may read the file that is logged as a warning; log may be nil.
func LoadPSK(path string, log *slog.Logger) (PSK, error) {
	data, mode, err := readKeyFile(path)
	if err != nil {
		return PSK{}, err
	}
	defer clear(data)
	psk, err := ParsePSK(strings.TrimRight(string(data), "\r\n"))
	if err != nil {
		return PSK{}, &KeyFileError{Path: path, Err: err}
	}
	if log != nil && readableByOthers(mode) {
		log.Warn("secret file is readable by others than its owner", "file", path, "mode", mode.Perm().String())
	}
	return psk, nil
}

// Clone returns a PSK with octets of its own, which Zero of the other leaves alone.
func (p PSK) Clone() PSK { return NewPSK(p.secret) }

// Equal compares in constant time.
func (p PSK) Equal(q PSK) bool { return subtle.ConstantTimeCompare(p.secret, q.secret) == 1 }

// Empty tells whether there is no key.
func (p PSK) Empty() bool { return len(p.secret) == 0 }

// Weak says in a sentence why the key can be guessed offline by whoever relays one handshake
// (RFC 7296, Section 2.15), or returns "". It can't see how the key was chosen.
func (p PSK) Weak() string {
	seen := make(map[byte]bool)
	for _, b := range p.secret {
		seen[b] = true
	}
	switch {
	case len(p.secret) < MinPSK:
		return fmt.Sprintf("the pre-shared key has %d octets; with fewer than %d it can be guessed offline", len(p.secret), MinPSK)
	case len(seen) < minPSKDistinct:
		return fmt.Sprintf("the pre-shared key has only %d different octets; it can be guessed offline", len(seen))
	}
	return ""
}

// Zero erases the key's octets; copies of the PSK share them.
func (p PSK) Zero() { clear(p.secret) }

// String implements fmt.Stringer without the key.
func (PSK) String() string { return redacted }

// GoString implements fmt.GoStringer without the key.
func (PSK) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb shows the key.
func (PSK) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer without the key.
func (PSK) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the key.
func (PSK) MarshalText() ([]byte, error) { return []byte(redacted), nil }
