package bench

import "time"

const (
	// ringPackets is how many distinct packets a measurement goes round: more
	// than the first-level caches hold, as in a real queue.
	ringPackets = 4096
	batch       = 64 // packets per Seal or Open, what a wire hands over at once

	// slicePackets is how many packets the SA and the baseline take in turns: a
	// tenth of a millisecond of work, shorter than what a scheduler gives others.
	slicePackets = 2 * batch

	defaultRounds = 31
	maxRounds     = 10_000
	maxSize       = 65_535 // an IP packet

	// maxShares is how many packages of a profile a table shows.
	maxShares = 16

	// IKE: a round is about half a second.
	defaultHandshakes = 1000
	defaultIKERounds  = 5
	defaultTunnels    = 10_000
	maxTunnels        = 1 << 20 // addresses that a cast has

	// inFlight is how many handshakes two hosts have under way at once: enough for all
	// cores, and few enough that one address is not asked for cookies.
	inFlight = 24

	// maxCrowd is how many clients of a crowd are at it at once.
	maxCrowd = 64

	// crowdBuffer is the longest answer that a client of a crowd can take.
	crowdBuffer = 4096

	// crowdPatience is how long a crowd waits for anything to arrive.
	crowdPatience = 10 * time.Second
)
