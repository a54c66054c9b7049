package bench

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
)
