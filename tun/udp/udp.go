// Package udp is the wire that needs no privilege: UDP sockets, with IKE and ESP-in-UDP on them.
package udp

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/btns-go/btns/tun"
)

// Config says where a Wire listens. The zero value means one socket on any free port, for
// IPv4 and IPv6. It must not be changed after use.
type Config struct {
	// Addrs are the local addresses, one socket each. Port 0 means any free port. An
	// AddrPort with no address, or with ::, takes both families; 0.0.0.0 takes IPv4 alone.
	Addrs []netip.AddrPort
	// MTU is what Caps reports as the largest outer IP packet; 0 means 1500.
	MTU int
	// DontFragment sets DF on everything and refuses what exceeds the interface's MTU.
	// The default leaves DF clear and lets the kernel fragment.
	DontFragment bool
	// SocketBuffer is the size in bytes to which the kernel's buffers are raised where it
	// allows that; 0 means 7 MiB, -1 leaves them alone.
	SocketBuffer int
	// Log gets what is worth a line at start-up; nil discards it.
	Log *slog.Logger
}

// Listen opens the sockets.
func Listen(cfg Config) (*Wire, error) {
	return nil, errors.ErrUnsupported
}

// A Wire is a tun.Wire over UDP sockets.
type Wire struct{}

var _ tun.Wire = (*Wire)(nil)

// Receive implements tun.Wire.
func (w *Wire) Receive(pkts []tun.Packet) (n int, err error) { return 0, errors.ErrUnsupported }

// Send implements tun.Wire.
func (w *Wire) Send(pkts []tun.Packet) (n int, err error) { return 0, errors.ErrUnsupported }

// LocalAddr implements tun.Wire.
func (w *Wire) LocalAddr(remote netip.Addr) []netip.AddrPort { return nil }

// Caps implements tun.Wire.
func (w *Wire) Caps() tun.Caps { return tun.Caps{} }

// Stats implements tun.Wire.
func (w *Wire) Stats() tun.Stats { return tun.Stats{} }

// Close implements tun.Wire.
func (w *Wire) Close() error { return errors.ErrUnsupported }
