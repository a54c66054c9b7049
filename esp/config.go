package esp

import (
	"errors"
	"fmt"
	"io"
)

// Config is one direction of an SA. It must not be changed during New….
type Config struct {
	SPI   uint32 // 256 or more
	Suite Suite
	// Key holds exactly Suite.KeyLen octets. It is copied into cipher state; the
	// caller may zero it after New….
	Key  Key
	Mode Mode
	ESN  bool // 64-bit extended sequence numbers (RFC 4303, Section 2.2.1)

	// ReplayWindow is the inbound window in packets, see package replay;
	// 0 means 1024. There is no way to switch replay protection off.
	ReplayWindow int

	// MaxPackets ends an Outbound after that many sequence numbers, a hard limit
	// below the counter's own end; 0 means the counter's own end.
	MaxPackets uint64

	// Rand gives the outbound IV key of AES-CBC; nil means crypto/rand.Reader.
	Rand io.Reader
}

var errMode = errors.New("esp: mode is neither tunnel nor transport")

func (c *Config) check() error {
	if c.SPI < minSPI {
		return fmt.Errorf("esp: SPI %#x is reserved (RFC 4303, Section 2.1)", c.SPI)
	}
	if err := c.Suite.Valid(); err != nil {
		return err
	}
	if c.Mode != ModeTunnel && c.Mode != ModeTransport {
		return errMode
	}
	if want := c.Suite.KeyLen(); len(c.Key) != want {
		return fmt.Errorf("esp: %s takes %d octets of key, not %d", c.Suite, want, len(c.Key))
	}
	return nil
}
