// Package outer is the wire over a TUN device: the kernel, or whatever is behind the device,
// only routes, and everything of the outer packet is built and read here: IPv4 and IPv6
// headers, UDP on the IKE ports, ESP directly over IP (protocol 50) and in UDP (RFC 3948),
// fragments in both directions, the answer to a ping.
//
// # Sources
//
// RFC 791, RFC 8200 (IP), RFC 768 (UDP), RFC 792, RFC 4443 (ICMP), RFC 3948 (ESP in UDP),
// RFC 4303, Section 3.4.1 (reassembly before ESP), RFC 5722 (overlapping fragments),
// RFC 6946 (atomic fragments), RFC 3168, Section 5.3 (ECN and fragments).
//
// # What a packet has to be
//
// Checks are stateless. The destination is one of our addresses; the source is not one of
// them, nor multicast, broadcast, unspecified, loopback or IPv4-mapped, and has a port.
// Anything else is counted and dropped without an answer, and so are UDP ports that are not
// ours. ICMP is believed in nothing: an echo request to us is answered, a "too big" about
// a packet that we could have sent is counted and told to Config.OnTooBig.
//
// # The device
//
// Any value with the methods of [Device] will do, as those of
// golang.zx2c4.com/wireguard/tun have. Its library wants 10 bytes in front of each packet
// that is written and may join packets that lie in one buffer; packets are handed to it one
// at a time with their capacity capped, which also makes its errors belong to a packet.
//
// # Ownership and concurrency
//
// As package tun says. The wire owns the device and closes it. Sends take turns. OnTooBig
// is called by the goroutine that is in Receive.
//
// # Limits
//
// limits.go: reassembly is bounded in datagrams, in those of one source, in fragments, bytes
// and time; there is no other state about anybody.
package outer

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/btns-go/btns/tun"
)

// A Device is what a wire needs of a TUN device. It is part of the interface of
// golang.zx2c4.com/wireguard/tun, whose devices can be used as they are.
type Device interface {
	Read(bufs [][]byte, sizes []int, offset int) (n int, err error)
	Write(bufs [][]byte, offset int) (int, error)
	MTU() (int, error)
	BatchSize() int
	Close() error
}

// Config describes a wire. It must not be changed after use.
type Config struct {
	// Addrs are our addresses with the prefix of the net that each is in; at least one.
	// A directed broadcast address of such a net is refused as a source.
	Addrs []netip.Prefix
	// MTU is the size of the largest outer packet that is sent whole; 0 means the device's.
	MTU int
	// Ports are our UDP ports; none means 500 and 4500.
	Ports []uint16
	// DontFragment sets DF on IPv4 and refuses what exceeds the MTU with tun.ErrTooBig.
	// The default fragments, and leaves DF clear.
	DontFragment bool
	// OnTooBig is told that a router found a packet of ours too big; nil means nobody is.
	// It must not block. Anybody can send such messages: they are hints, not facts.
	OnTooBig func(TooBig)
}

// A TooBig is what an ICMP message says about a packet of ours (RFC 792, type 3 code 4 with
// RFC 1191; RFC 4443, Section 3.2). Nothing in it is authenticated.
type TooBig struct {
	Path tun.Path   // of the packet; native for protocol 50
	SPI  uint32     // of native ESP, and of ESP in UDP if enough is quoted; else 0
	From netip.Addr // the router
	MTU  int        // as reported; 0 from routers older than RFC 1191
}

// A Wire is a tun.Wire over a TUN device.
type Wire struct {
	// Constant after New.
	dev          Device
	addrs        []netip.Prefix
	ports        []uint16
	mtu          int
	batch        int
	dontFragment bool
	onTooBig     func(TooBig)

	count  tun.Counters
	closed atomic.Bool
	in     input
	out    output
}

var _ tun.Wire = (*Wire)(nil)

// New makes a wire of a device, which it owns from then on, unless it returns an error.
func New(dev Device, cfg Config) (*Wire, error) {
	w := &Wire{dev: dev, mtu: cfg.MTU, batch: max(1, dev.BatchSize()), ports: slices.Clone(cfg.Ports),
		dontFragment: cfg.DontFragment, onTooBig: cfg.OnTooBig}
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("outer: the wire needs an address of its own")
	}
	need := minMTU4
	for _, p := range cfg.Addrs {
		a := p.Addr().Unmap().WithZone("")
		if !p.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return nil, fmt.Errorf("outer: %v cannot be an address of the wire", p)
		}
		bits := p.Bits()
		if p.Addr().Is4In6() {
			bits = max(0, bits-96)
		}
		if a.Is6() {
			need = minMTU6
		}
		w.addrs = append(w.addrs, netip.PrefixFrom(a, bits))
	}
	if len(w.ports) == 0 {
		w.ports = []uint16{tun.PortIKE, tun.PortNATT}
	}
	if slices.Contains(w.ports, 0) {
		return nil, errors.New("outer: 0 cannot be a port of the wire")
	}
	if w.mtu <= 0 {
		mtu, err := dev.MTU()
		if err != nil {
			return nil, fmt.Errorf("outer: MTU of the device: %w", err)
		}
		w.mtu = mtu
	}
	if w.mtu < need || w.mtu > tun.MaxPacket {
		return nil, fmt.Errorf("outer: an MTU of %d is not between %d and %d", w.mtu, need, tun.MaxPacket)
	}
	w.in.init(w)
	if err := w.out.init(w); err != nil {
		return nil, err
	}
	return w, nil
}

// Caps implements tun.Wire.
func (w *Wire) Caps() tun.Caps {
	return tun.Caps{NativeESP: true, MTU: w.mtu, Ports: slices.Clone(w.ports), Batch: w.batch}
}

// Stats implements tun.Wire.
func (w *Wire) Stats() tun.Stats { return w.count.Snapshot() }

// LocalAddr implements tun.Wire.
func (w *Wire) LocalAddr(remote netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, port := range w.ports {
		if remote.IsValid() {
			if a := w.source(remote.Unmap()); a.IsValid() {
				out = append(out, netip.AddrPortFrom(a, port))
			}
			continue
		}
		for _, p := range w.addrs {
			out = append(out, netip.AddrPortFrom(p.Addr(), port))
		}
	}
	return out
}

// source returns the address of ours from which to send to remote: the one whose net has
// it, with the longest prefix, or else the first of the family.
func (w *Wire) source(remote netip.Addr) netip.Addr {
	best, bits := netip.Addr{}, -1
	for _, p := range w.addrs {
		switch {
		case p.Addr().Is4() != remote.Is4():
		case p.Contains(remote) && p.Bits() > bits:
			best, bits = p.Addr(), p.Bits()
		case !best.IsValid():
			best = p.Addr()
		}
	}
	return best
}

// own reports whether a is one of our addresses.
func (w *Wire) own(a netip.Addr) bool {
	for i := range w.addrs {
		if w.addrs[i].Addr() == a {
			return true
		}
	}
	return false
}

// Close implements tun.Wire. It closes the device.
func (w *Wire) Close() error {
	if w.closed.Swap(true) {
		return net.ErrClosed
	}
	return w.dev.Close()
}

// closedErr returns net.ErrClosed for an error of a device that is closed, by us or not.
func (w *Wire) closedErr(err error) error {
	if w.closed.Load() || errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// random returns a number nobody can guess.
func random() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("outer: %w", err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// output is the state of Send.
type output struct {
	mu      sync.Mutex
	id      uint32 // of the next fragmented or fragmentable packet
	scratch []byte // a packet whose buffer has no room in front
	piece   []byte // a fragment
	one     [1][]byte
}

func (o *output) init(w *Wire) (err error) {
	o.scratch = make([]byte, tun.WireRoom+tun.MaxPacket)
	o.piece = make([]byte, offloadRoom+w.mtu)
	o.id, err = random()
	return err
}
