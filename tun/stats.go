package tun

import (
	"fmt"
	"sync/atomic"
)

// A Drop is a reason for which a wire dropped something. Reasons are counted, not returned.
type Drop uint8

// The reasons.
const (
	DropUnset      Drop = iota // no reason given
	DropKeepalive              // a NAT keepalive, which is what it is for
	DropShort                  // shorter than any IKE or ESP packet
	DropTruncated              // did not fit the buffer
	DropHeader                 // IP or UDP header malformed
	DropChecksum               // wrong IP, UDP or ICMP checksum
	DropSource                 // a source that cannot be a peer: own, multicast, broadcast, unspecified, loopback, port 0
	DropDest                   // not for one of our addresses
	DropProto                  // a protocol that the wire does not carry
	DropPort                   // a UDP port that is not ours
	DropFragment               // a malformed, tiny or overlapping fragment
	DropReassembly             // fragments given up: time, bytes or number exceeded
	DropQueue                  // a queue was full, or a rate limit reached
	DropSend                   // refused on the way out
	NumDrops                   // the number of reasons
)

// String returns the reason's name.
func (d Drop) String() string {
	switch d {
	case DropUnset:
		return "unset"
	case DropKeepalive:
		return "keepalive"
	case DropShort:
		return "short"
	case DropTruncated:
		return "truncated"
	case DropHeader:
		return "header"
	case DropChecksum:
		return "checksum"
	case DropSource:
		return "source"
	case DropDest:
		return "destination"
	case DropProto:
		return "protocol"
	case DropPort:
		return "port"
	case DropFragment:
		return "fragment"
	case DropReassembly:
		return "reassembly"
	case DropQueue:
		return "queue"
	case DropSend:
		return "send"
	case NumDrops:
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}

// Stats is a snapshot of a wire's counters. Packets are IKE datagrams, ESP packets and
// clear packets; bytes are theirs, without outer headers and markers.
type Stats struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	// TooBig counts messages from the path that a packet of ours was too big (ICMP).
	TooBig uint64
	// Drops counts by reason; index it with a Drop.
	Drops [NumDrops]uint64
}

// Dropped returns the number of drops of all reasons but keepalives.
func (s *Stats) Dropped() uint64 {
	var n uint64
	for d, c := range s.Drops {
		if Drop(d) != DropKeepalive {
			n += c
		}
	}
	return n
}

// Counters is what a wire counts with. The zero value is ready; it is safe for concurrent use.
type Counters struct {
	rxPackets, rxBytes atomic.Uint64
	txPackets, txBytes atomic.Uint64
	tooBig             atomic.Uint64
	drops              [NumDrops]atomic.Uint64
}

// Received counts a batch that was received.
func (c *Counters) Received(packets, bytes int) {
	c.rxPackets.Add(uint64(packets))
	c.rxBytes.Add(uint64(bytes))
}

// Sent counts a batch that was sent.
func (c *Counters) Sent(packets, bytes int) {
	c.txPackets.Add(uint64(packets))
	c.txBytes.Add(uint64(bytes))
}

// TooBig counts a message that a packet was too big for its path.
func (c *Counters) TooBig() { c.tooBig.Add(1) }

// Drop counts a drop. A reason out of range counts as DropUnset.
func (c *Counters) Drop(d Drop) { c.DropN(d, 1) }

// DropN counts n drops.
func (c *Counters) DropN(d Drop, n int) {
	if d >= NumDrops {
		d = DropUnset
	}
	c.drops[d].Add(uint64(n))
}

// Snapshot returns the counts so far.
func (c *Counters) Snapshot() Stats {
	s := Stats{
		RxPackets: c.rxPackets.Load(), RxBytes: c.rxBytes.Load(),
		TxPackets: c.txPackets.Load(), TxBytes: c.txBytes.Load(),
		TooBig: c.tooBig.Load(),
	}
	for i := range c.drops {
		s.Drops[i] = c.drops[i].Load()
	}
	return s
}
