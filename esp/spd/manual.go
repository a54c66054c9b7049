package spd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// Key is key material that does not print itself. Its length is the suite's business.
type Key []byte

const redacted = "[redacted]"

// String hides the key.
func (Key) String() string { return redacted }

// GoString hides the key from %#v.
func (Key) GoString() string { return redacted }

// Format hides the key from every verb of package fmt.
func (Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// LogValue hides the key from log/slog.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key from JSON and YAML.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Manual is a pair of SAs keyed by hand (RFC 4301, Section 4.5.1).
type Manual struct {
	InSPI, OutSPI uint32
	Suite         string // as esp.ParseSuite reads it: "aes256-sha256", "null-sha256"
	InKey, OutKey Key    // encryption key, then integrity key
	Mode          Mode
	Local, Remote netip.Addr // outer addresses
	ESN           bool
	ReplayWindow  int // packets; 0 is the default of package esp
}

// ErrManualAEAD is returned for a suite that must not be keyed by hand.
var ErrManualAEAD = errors.New("spd: AEAD suites must not be keyed by hand: their counter starts anew with the process, " +
	"and a repeated IV gives the key away (RFC 4106, Section 2; RFC 7634, Section 2)")

// AEAD reports whether the suite's name is one of a combined-mode or counter-mode cipher, which
// breaks when a (key, IV) pair is used twice. Names are strongSwan's.
func (m *Manual) AEAD() bool {
	name := strings.ToLower(m.Suite)
	for _, s := range [...]string{"gcm", "ccm", "gmac", "ctr", "chacha"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// Check returns what is wrong with m. AEAD suites are refused unless allowAEAD, which is for
// tests. Whether the suite exists and the keys have its length is for package esp to say.
func (m Manual) Check(allowAEAD bool) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("spd: manual keys: %w", err)
	}
	if m.AEAD() && !allowAEAD {
		return ErrManualAEAD
	}
	return nil
}

func (m *Manual) validate() error {
	switch {
	case m.InSPI < 256 || m.OutSPI < 256: // RFC 4303, Section 2.1 reserves 0 to 255
		return fmt.Errorf("SPIs %#x and %#x: the numbers up to 255 are reserved", m.InSPI, m.OutSPI)
	case m.Suite == "":
		return errors.New("no suite")
	case len(m.InKey) == 0 || len(m.OutKey) == 0:
		return errors.New("a key is missing")
	case m.Mode != ModeTunnel && m.Mode != ModeTransport:
		return fmt.Errorf("mode %v, want tunnel or transport", m.Mode)
	case !m.Local.IsValid() || !m.Remote.IsValid():
		return errors.New("an outer address is missing")
	case m.Local.Unmap().Is4() != m.Remote.Unmap().Is4():
		return fmt.Errorf("outer addresses %v and %v are of two families", m.Local, m.Remote)
	case m.ReplayWindow < 0:
		return fmt.Errorf("replay window %d", m.ReplayWindow)
	}
	return nil
}
