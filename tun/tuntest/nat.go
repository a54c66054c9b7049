package tuntest

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/btns-go/btns/tun"
)

// A NATWire is a wire behind a NAT: it knows itself by an address of its own, and others see
// it at an outside one. What comes for another outside address is lost, unless Lenient.
type NATWire struct {
	*Wire
	inside netip.AddrPort
	at     atomic.Int32 // index of the outside address among Wire's
	// Lenient, set before use, takes what comes for all outside addresses: there is no NAT, but
	// somebody may carry what the wire sends elsewhere.
	Lenient bool
}

var _ tun.Wire = (*NATWire)(nil)

// ListenBehind adds a wire, UDP only, with an address inside a NAT and those outside that it may
// have; the first is the one it begins with.
func (n *Net) ListenBehind(inside netip.AddrPort, outside ...netip.AddrPort) (*NATWire, error) {
	w, err := n.Listen(outside...)
	if err != nil {
		return nil, err
	}
	return &NATWire{Wire: w, inside: inside}, nil
}

// Rebind has the NAT forget: from now on the wire is at this one of its outside addresses.
func (w *NATWire) Rebind(i int) { w.at.Store(int32(i)) }

// Outside is where others see the wire.
func (w *NATWire) Outside() netip.AddrPort { return w.addrs[w.at.Load()] }

// LocalAddr implements tun.Wire.
func (w *NATWire) LocalAddr(netip.Addr) []netip.AddrPort { return []netip.AddrPort{w.inside} }

// Send implements tun.Wire.
func (w *NATWire) Send(pkts []tun.Packet) (int, error) {
	pkts = slices.Clone(pkts)
	for i := range pkts {
		pkts[i].Path.Local = w.Outside()
	}
	return w.Wire.Send(pkts)
}

// Receive implements tun.Wire.
func (w *NATWire) Receive(pkts []tun.Packet) (int, error) {
	for {
		n, err := w.Wire.Receive(pkts)
		kept := 0
		for i := range n {
			if pkts[i].Path.Local == w.Outside() || w.Lenient {
				pkts[i].Path.Local = w.inside
				pkts[kept], pkts[i] = pkts[i], pkts[kept]
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}
