package tun

import (
	"errors"
	"net/netip"
)

// A Wire carries batches of packets out of the process and into it.
// The package comment gives the rules of ownership and concurrency.
// After Close, every call fails with an error that matches net.ErrClosed.
type Wire interface {
	// Receive blocks until at least one packet is there, then fills the first n of pkts.
	// The caller sets Buf of each, at least [Headroom] bytes and room for the packet;
	// [BufSize] holds everything. What does not fit is dropped and counted. Bufs shorter
	// than Headroom are refused with ErrPacket: they were not set again.
	// An error leaves n at 0; errors other than net.ErrClosed are worth another try.
	Receive(pkts []Packet) (n int, err error)

	// Send hands over the packets in order and returns how many it accepted. If that is
	// not all of them, err says why pkts[n] was refused; the ones behind it were not
	// tried. A refused packet is counted and not tried again by the wire.
	Send(pkts []Packet) (n int, err error)

	// LocalAddr returns the addresses and ports from which the wire would send to remote,
	// one for each local port, the preferred one first. If remote is not valid, it returns
	// what the wire is bound to, which may be unspecified addresses.
	LocalAddr(remote netip.Addr) []netip.AddrPort

	// Caps says what the wire can do. It never changes.
	Caps() Caps

	// Stats returns the counters so far.
	Stats() Stats

	// Close ends all calls in progress and releases what the wire holds.
	// Closing twice is harmless: the second call returns an error that matches net.ErrClosed.
	Close() error
}

// Caps is what a wire can do.
type Caps struct {
	// NativeESP means that ESP may go directly over IP (protocol 50), with ports of 0.
	NativeESP bool
	// ClearPackets means that packets of KindClear may be sent and will be received.
	ClearPackets bool
	// MTU is the largest outer IP packet that leaves unfragmented, as far as is known.
	MTU int
	// Ports are the local UDP ports, the preferred one first.
	Ports []uint16
	// Batch is the number of packets per call that suits the wire best.
	Batch int
}

// Reasons for which Send refuses a packet. A reason that comes from the operating system
// is returned as its error.
var (
	// ErrKind means that the wire does not carry this kind of packet.
	ErrKind = errors.New("tun: the wire does not carry this kind of packet")
	// ErrPath means that the wire has no socket or address for this path: no such local
	// port, another address family, ESP on port 500, or native ESP without the capability.
	ErrPath = errors.New("tun: the wire cannot use this path")
	// ErrTooBig means that the packet exceeds the MTU and may not be fragmented, or
	// exceeds MaxPacket with its outer headers.
	ErrTooBig = errors.New("tun: packet too big for the path")
	// ErrPacket means that Off and Len do not fit Buf, or that the packet is empty.
	ErrPacket = errors.New("tun: packet outside its buffer")
)
