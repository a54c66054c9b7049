package tuntest

import (
	"errors"
	"net/netip"
	"time"

	"github.com/btns-go/btns/tun"
)

// Faults is what a Net does to the datagrams that cross it. The zero value does nothing:
// everything arrives, once, in order, at once.
type Faults struct {
	// Seed makes the choices repeatable for one order of Sends.
	Seed uint64
	// Drop, Duplicate, Reorder and Corrupt are probabilities from 0 to 1, each tried for
	// every datagram. A reordered datagram arrives after the next one; a corrupted one has
	// one bit flipped.
	Drop, Duplicate, Reorder, Corrupt float64
	// Delay and Jitter hold each datagram for Delay, plus up to Jitter.
	Delay, Jitter time.Duration
}

// A Net is a network in memory on which wires find each other by address.
type Net struct{}

// NewNet makes a network with faults.
func NewNet(f Faults) *Net { return &Net{} }

// SetFaults changes the faults from now on.
func (n *Net) SetFaults(f Faults) {}

// Listen adds a wire with the given addresses and ports.
func (n *Net) Listen(addrs ...netip.AddrPort) (*Wire, error) { return nil, errors.ErrUnsupported }

// Pair returns two wires on a network without faults: 192.0.2.1:4500 and 192.0.2.2:4500.
func Pair() (a, b *Wire) { return &Wire{}, &Wire{} }

// A Wire is a tun.Wire in memory.
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
