package outer

import "time"

const (
	// minMTU4 is what every IPv4 host can receive (RFC 791, Section 3.2); minMTU6 is what
	// every IPv6 link carries (RFC 8200, Section 5).
	minMTU4 = 576
	minMTU6 = 1280

	// offloadRoom is what the TUN library overwrites in front of a packet.
	offloadRoom = 10

	// maxExtensions bounds the walk through IPv6 extension headers. Nobody sends more.
	maxExtensions = 8

	// Reassembly. A peer has a few large IKE messages or ESP packets on their way at once,
	// not dozens; 45 fragments make 64 KiB at an MTU of 1500, 128 at 576. The time
	// is less than RFC 8200's 60 s, since IKE sends again long before.
	maxDatagrams = 64
	maxPerSource = 16
	maxFragments = 128
	maxHeld      = 2 << 20 // bytes, with fragmentCost for each fragment
	fragmentCost = 128
	fragmentLife = 10 * time.Second
)
