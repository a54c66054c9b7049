package sad

import "time"

const (
	// Quarantine is how long an SPI rests between two uses: the maximum lifetime
	// of a segment in the network (RFC 9293, Section 3.4.1), after which no packet
	// of the old SA is under way.
	Quarantine = 2 * time.Minute

	minSPI   = 256 // RFC 4303, Section 2.1
	minSlots = 64  // 1 KiB: most hosts never grow

	// maxQuarantined bounds the memory of the quarantine (about 20 MiB). Beyond
	// it the oldest leave early: that takes more than 2,000 removals a second.
	maxQuarantined = 1 << 18

	// maxDraws bounds Reserve. With a million SPIs taken, that many collisions in
	// a row have a probability below 10^-200.
	maxDraws = 64
)
