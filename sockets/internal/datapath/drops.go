package datapath

import (
	"encoding/json"
	"sync/atomic"
)

// A Drop is a reason for which the data path dropped a packet. Reasons are counted, not returned. What esp, the wire and the
// stack drop is counted there; DropESP is the sum of the first.
type Drop uint8

// The reasons. Outbound first.
const (
	DropUnset        Drop = iota // no reason given; stays 0
	DropOutFlow                  // out: not a packet with a flow
	DropOutTag                   // out: the tag is not one of ours
	DropNoPolicy                 // out: no policy matches, or it says discard
	DropBypass                   // out: the policy says clear, but the socket or its latch does not, or the wire cannot
	DropBroken                   // out: the flow's latch is broken, or its socket closed
	DropConflict                 // out: the flow cannot be latched
	DropOutUnlatched             // out: a listener's packet of a connection that has no latch
	DropUnowned                  // out: nobody's packet, and the SA that provoked it is gone
	DropPending                  // out: the table of held packets is full
	DropRefused                  // out: the SA was refused or failed a short while ago
	DropHoldExpired              // out: held for too long, or replaced by a retransmission
	DropHoldFailed               // out: held, then the request for the SA failed
	DropTooBig                   // out: larger than the mode can carry
	DropSeal                     // out: not sealed
	DropExhausted                // out: no sequence number left, or a hard limit reached
	DropRemoved                  // out: the child was removed meanwhile
	DropSend                     // out: refused by the wire
	DropSPI                      // in: no SA has this SPI
	DropEarly                    // in: came before its SA, and was one too many or waited in vain
	DropInLimit                  // in: the SA has reached a hard limit
	DropESP                      // in: refused by the SA: replay, integrity, padding … (see Child.Stats)
	DropInner                    // in: the inner packet is malformed
	DropECN                      // in: congestion was marked on the way and the inner packet cannot say so (RFC 6040)
	DropSelector                 // in: outside the selectors of its SA
	DropICMP                     // in: an ICMP error about a packet that this SA did not carry
	DropChecksum                 // in: wrong inner checksum
	DropFragment                 // in: malformed, tiny or overlapping fragment
	DropFragmentFull             // in: reassembly is full
	DropFragmentTime             // in: the rest of the datagram never came
	DropClear                    // in: clear where the policy does not say so
	DropInPolicy                 // in: the policy does not let this peer's SAs carry the flow
	DropWant                     // in: the socket does not want this peer or protection
	DropLatch                    // in: the flow is latched to another peer or protection
	DropUnlatched                // in: a segment of a connection that has no latch
	DropEmbryo                   // in: too many connections are being opened
	DropAdmitTag                 // in: not a packet that the data path delivered
	numDrops
)

// dropNames are stable: they are keys in JSON and in metrics.
func dropName(d Drop) string {
	switch d {
	case DropUnset:
		return "unset"
	case DropOutFlow:
		return "out_flow"
	case DropOutTag:
		return "out_tag"
	case DropNoPolicy:
		return "out_policy"
	case DropBypass:
		return "out_bypass"
	case DropBroken:
		return "out_broken"
	case DropConflict:
		return "out_conflict"
	case DropOutUnlatched:
		return "out_unlatched"
	case DropUnowned:
		return "out_unowned"
	case DropPending:
		return "out_pending"
	case DropRefused:
		return "out_refused"
	case DropHoldExpired:
		return "hold_expired"
	case DropHoldFailed:
		return "hold_failed"
	case DropTooBig:
		return "out_too_big"
	case DropSeal:
		return "out_seal"
	case DropExhausted:
		return "out_exhausted"
	case DropRemoved:
		return "out_removed"
	case DropSend:
		return "out_send"
	case DropInLimit:
		return "in_limit"
	case DropSPI:
		return "in_spi"
	case DropEarly:
		return "in_early"
	case DropESP:
		return "in_esp"
	case DropInner:
		return "in_inner"
	case DropECN:
		return "in_ecn"
	case DropSelector:
		return "in_selector"
	case DropICMP:
		return "in_icmp"
	case DropChecksum:
		return "in_checksum"
	case DropFragment:
		return "in_fragment"
	case DropFragmentFull:
		return "in_fragment_full"
	case DropFragmentTime:
		return "in_fragment_time"
	case DropClear:
		return "in_clear"
	case DropInPolicy:
		return "in_policy"
	case DropWant:
		return "in_want"
	case DropLatch:
		return "in_latch"
	case DropUnlatched:
		return "in_unlatched"
	case DropEmbryo:
		return "in_embryo"
	case DropAdmitTag:
		return "in_tag"
	case numDrops:
	}
	return "invalid"
}

// String returns the reason's name.
func (d Drop) String() string { return dropName(d) }

// counters are the Path's. All are atomic; batches add once.
type counters struct {
	drops                 [numDrops]atomic.Uint64
	outPackets, outBytes  atomic.Uint64
	inPackets, inBytes    atomic.Uint64
	delivered, coalesced  atomic.Uint64
	clearOut, clearIn     atomic.Uint64
	ikeIn, ikeOut         atomic.Uint64
	held, early, acquires atomic.Uint64
	fragmented, assembled atomic.Uint64
}

func (c *counters) drop(d Drop) { c.drops[d].Add(1) }

func (c *counters) dropN(d Drop, n int) {
	if n > 0 {
		c.drops[d].Add(uint64(n))
	}
}

// Stats is a snapshot of a Path's counters. Packets are ESP packets, bytes those of their payloads.
type Stats struct {
	OutPackets  uint64 `json:"out_packets"`
	OutBytes    uint64 `json:"out_bytes"`
	InPackets   uint64 `json:"in_packets"`
	InBytes     uint64 `json:"in_bytes"`
	Delivered   uint64 `json:"delivered"`   // injections into the stack
	Coalesced   uint64 `json:"coalesced"`   // TCP segments that joined another one's injection
	ClearOut    uint64 `json:"clear_out"`   // packets sent in the clear, as the policy says
	ClearIn     uint64 `json:"clear_in"`    // packets received in the clear, as the policy says
	IKEIn       uint64 `json:"ike_in"`      // IKE datagrams handed to Config.IKE
	IKEOut      uint64 `json:"ike_out"`     // IKE datagrams sent
	Held        uint64 `json:"held"`        // packets that waited for an SA
	Early       uint64 `json:"early"`       // ESP packets that came before their SA and were kept for it
	Acquires    uint64 `json:"acquires"`    // requests made
	Fragmented  uint64 `json:"fragmented"`  // inner packets cut into fragments
	Reassembled uint64 `json:"reassembled"` // inner packets put together
	// Now is what is in use at the moment.
	Now struct {
		Children      int `json:"children"`
		HeldPackets   int `json:"held_packets"`
		HeldBytes     int `json:"held_bytes"`
		EarlyPackets  int `json:"early_packets"`
		EarlyBytes    int `json:"early_bytes"`
		Requests      int `json:"requests"`
		Embryos       int `json:"embryos"`
		FragmentBytes int `json:"fragment_bytes"`
	} `json:"now"`
	Drops DropCounts `json:"drops"`
}

// DropCounts counts drops by reason; index it with a Drop. As JSON it is an object of the reasons that occurred.
type DropCounts [numDrops]uint64

// Total is the sum over all reasons.
func (d DropCounts) Total() (n uint64) {
	for _, c := range d {
		n += c
	}
	return n
}

// Map returns the counts above zero by name.
func (d DropCounts) Map() map[string]uint64 {
	m := make(map[string]uint64)
	for i, c := range d {
		if c != 0 {
			m[dropName(Drop(i))] = c
		}
	}
	return m
}

// MarshalJSON returns an object of the counts above zero by name.
func (d DropCounts) MarshalJSON() ([]byte, error) { return json.Marshal(d.Map()) }

// UnmarshalJSON reads what MarshalJSON wrote. A reason of another version is left out.
func (d *DropCounts) UnmarshalJSON(b []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*d = DropCounts{}
	for i := range d {
		d[i] = m[dropName(Drop(i))]
	}
	return nil
}

func (p *Path) snapshot() Stats {
	c := &p.count
	s := Stats{
		OutPackets: c.outPackets.Load(), OutBytes: c.outBytes.Load(),
		InPackets: c.inPackets.Load(), InBytes: c.inBytes.Load(),
		Delivered: c.delivered.Load(), Coalesced: c.coalesced.Load(),
		ClearOut: c.clearOut.Load(), ClearIn: c.clearIn.Load(),
		IKEIn: c.ikeIn.Load(), IKEOut: c.ikeOut.Load(),
		Held: c.held.Load(), Early: c.early.Load(), Acquires: c.acquires.Load(),
		Fragmented: c.fragmented.Load(), Reassembled: c.assembled.Load(),
	}
	for i := range c.drops {
		s.Drops[i] = c.drops[i].Load()
	}
	p.mu.Lock()
	s.Now.Children = p.sad.Len() - len(p.retired)
	p.mu.Unlock()
	s.Now.HeldPackets, s.Now.HeldBytes = p.held.Len()
	s.Now.EarlyPackets, s.Now.EarlyBytes = p.early.len()
	s.Now.Requests = p.requests.len()
	s.Now.Embryos = p.embryos.len()
	s.Now.FragmentBytes = int(p.fragBytes.Load())
	return s
}
