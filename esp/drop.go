package esp

import (
	"strconv"
	"sync/atomic"
)

// Drop is the verdict on a packet: Pass, or why it was dropped.
type Drop uint8

// Verdicts. The zero value means that nobody judged the packet, and is a drop.
const (
	DropUnset      Drop = iota
	Pass                // not dropped
	DropShort           // shorter than the suite's smallest packet, or not whole blocks
	DropSPI             // not this SA's SPI
	DropReplay          // sequence number seen before
	DropOld             // sequence number left of the window
	DropAuth            // integrity check failed
	DropPad             // pad length beyond the payload, or padding not 1, 2, 3 …
	DropNextHeader      // next header not allowed in this mode
	DropInner           // inner IP header malformed (tunnel mode)
	DropDummy           // next header 59: meant to be dropped, not an error
	DropRoom            // Seal: buffer without room around the payload
	DropExhausted       // Seal: no sequence number left; demands a new SA
	DropClosed          // the SA was closed by Zero

	// NumDrops is the number of verdicts.
	NumDrops = int(DropClosed) + 1
)

// String returns the verdict's name as used in counters, such as "replay".
func (d Drop) String() string {
	switch d {
	case DropUnset:
		return "unset"
	case Pass:
		return "pass"
	case DropShort:
		return "short"
	case DropSPI:
		return "spi"
	case DropReplay:
		return "replay"
	case DropOld:
		return "old"
	case DropAuth:
		return "auth"
	case DropPad:
		return "pad"
	case DropNextHeader:
		return "next-header"
	case DropInner:
		return "inner"
	case DropDummy:
		return "dummy"
	case DropRoom:
		return "room"
	case DropExhausted:
		return "exhausted"
	case DropClosed:
		return "closed"
	}
	return "drop(" + strconv.Itoa(int(d)) + ")"
}

// Stats is a snapshot of an SA's counters.
type Stats struct {
	Packets uint64           // packets sealed, or opened and passed
	Bytes   uint64           // their payload octets
	Drops   [NumDrops]uint64 // by Drop; Pass and DropUnset stay 0
}

// Dropped returns the sum of all drops but dummies.
func (s *Stats) Dropped() uint64 {
	var n uint64
	for d, c := range s.Drops {
		if Drop(d) != DropDummy {
			n += c
		}
	}
	return n
}

// counters are written with one atomic step per batch for what passes, and one
// per packet for what is dropped.
type counters struct {
	packets atomic.Uint64
	bytes   atomic.Uint64
	drops   [NumDrops]atomic.Uint64
}

func (c *counters) pass(packets, bytes uint64) {
	if packets != 0 {
		c.packets.Add(packets)
		c.bytes.Add(bytes)
	}
}

func (c *counters) drop(d Drop) { c.drops[d].Add(1) }

func (c *counters) snapshot() Stats {
	s := Stats{Packets: c.packets.Load(), Bytes: c.bytes.Load()}
	for i := range c.drops {
		s.Drops[i] = c.drops[i].Load()
	}
	return s
}
