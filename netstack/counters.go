package netstack

import "sync/atomic"

// Drop is why a packet ended here. The zero Drop is never counted.
type Drop uint8

// The reasons.
const (
	DropUnset       Drop = iota
	DropMalformed        // inbound: not one whole IP packet
	DropFragment         // inbound: an IP fragment; reassembly belongs before Deliver
	DropMartian          // inbound: from an own, loopback or multicast address, or to none of ours
	DropProtocol         // inbound: not TCP, UDP or ICMP, or an ICMP type that a host behind a tunnel has no use for
	DropICMPQuote        // inbound: an ICMP error that quotes no packet of ours, or an absurd MTU
	DropAdmit            // inbound: Hooks.Admit said no
	DropQueueFull        // inbound: the socket's receive queue is full
	DropClosed           // either: the stack is closed or broken
	DropNoHook           // outbound: Hooks.Output is nil
	DropUnsolicited      // outbound: nothing provoked it and no socket sent it
	DropOutFragment      // outbound: gVisor fragmented, which it must not
	DropRefused          // outbound: Hooks.Output called Packet.Refuse
	DropLoopFull         // loopback: too many waiting
	numDrops
)

// String names the reason.
func (d Drop) String() string {
	if int(d) < len(dropNames) {
		return dropNames[d]
	}
	return "unknown"
}

var dropNames = [numDrops]string{
	DropUnset: "unset", DropMalformed: "malformed", DropFragment: "fragment", DropMartian: "martian",
	DropProtocol: "protocol", DropICMPQuote: "icmp-quote", DropAdmit: "not-admitted", DropQueueFull: "queue-full",
	DropClosed: "closed", DropNoHook: "no-hook", DropUnsolicited: "unsolicited", DropOutFragment: "outbound-fragment",
	DropRefused: "refused", DropLoopFull: "loopback-full",
}

// Stats is a snapshot of a Stack's counters, in packets.
type Stats struct {
	Output    uint64           // given to Hooks.Output
	Delivered uint64           // given to gVisor by Deliver
	Looped    uint64           // from own to own addresses
	Panics    uint64           // recovered; anything but 0 is a bug
	Drops     [numDrops]uint64 // indexed by Drop
}

type counters struct {
	output, delivered, looped, panics, pulledBack atomic.Uint64

	drops [numDrops]atomic.Uint64
}

func (s *Stack) drop(d Drop) { s.counters.drops[d].Add(1) }

// Stats returns a snapshot of the counters.
func (s *Stack) Stats() Stats {
	st := Stats{
		Output:    s.counters.output.Load(),
		Delivered: s.counters.delivered.Load(),
		Looped:    s.counters.looped.Load(),
		Panics:    s.counters.panics.Load(),
	}
	for i := range st.Drops {
		st.Drops[i] = s.counters.drops[i].Load()
	}
	return st
}
