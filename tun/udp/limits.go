package udp

import "time"

const (
	// batchSize is the number of messages in one system call. The gain from more is small.
	batchSize = 64
	// joinedBatch is what Caps reports with GRO: slots for several full messages.
	joinedBatch = 2 * maxSegments
	// defaultMTU is Ethernet's.
	defaultMTU = 1500
	// socketBuffer is what the kernel's buffers are raised to: about 40 ms at 1.5 Gbit/s.
	socketBuffer = 7 << 20
	// maxPayload is the largest UDP payload over IPv4, which IPv6 does not exceed by much,
	// less the non-ESP marker.
	maxPayload = 65507 - 4
	// maxSegments is how many datagrams one GSO message may hold (UDP_MAX_SEGMENTS was 64
	// before Linux 6.9), and how many GRO joins.
	maxSegments = 64
	// routeCacheSize and routeCacheLife bound what the plain receiver remembers of local
	// addresses, so that asking for the route is not done for every packet.
	routeCacheSize = 256
	routeCacheLife = 30 * time.Second
)
