package netstack

import "time"

const (
	// nicMTU lets the largest IPv4 and IPv6 packets through gVisor's IP layer unfragmented: 65,535 bytes of IPv4, and
	// 65,535 bytes behind an IPv6 header (RFC 8200, Section 3).
	nicMTU = 65535 + 40

	// gsoMaxSize is the largest super-packet, IP header included: the length field of IPv4 has 16 bits.
	gsoMaxSize = 65535

	// maxPacket bounds what Deliver takes: the largest IPv6 packet without a jumbo option.
	maxPacket = 65535 + 40

	// maxUDP is the largest UDP payload that IPv4 can carry; kept for IPv6 too, so that a datagram's fate does not depend
	// on the family.
	maxUDP = 65507

	// defaultMTU is the inner MTU: an Ethernet path minus outer IPv6, UDP and ESP.
	defaultMTU = 1400

	// minMTU is what every IPv6 link carries (RFC 8200, Section 5); smaller inner MTUs are refused.
	minMTU = 1280

	// minPathMTU4 and minPathMTU6 are the smallest values believed in an ICMP "packet too big": Linux' min_pmtu, and the
	// minimum of RFC 8200. A peer can't make us send one-byte segments.
	minPathMTU4 = 552
	minPathMTU6 = 1280

	// defaultTCPBuffer is what one TCP connection's buffers may grow to: gVisor advertises half of it, 8 MiB, which is
	// 3 Gbit/s at 20 ms. One byte per 64 KiB more and the window would be told in steps of 512 bytes, not 256.
	// initialTCPBuffer is where they start.
	defaultTCPBuffer = 65535 << 8
	initialTCPBuffer = 1 << 20
	minTCPBuffer     = 4 << 10

	// defaultUDPBuffer is what one UDP socket queues: 60 datagrams of the largest size, a few thousand small ones.
	defaultUDPBuffer = 4 << 20

	// datagramOverhead is charged per queued datagram beside its payload, so that empty ones are bounded too.
	datagramOverhead = 256

	// defaultBacklog bounds handshakes in progress and connections waiting for Accept, each. gVisor turns to SYN cookies,
	// which lose window scaling and SACK, one before it is reached.
	defaultBacklog = 4096

	// maxBacklog bounds what a caller may ask for.
	maxBacklog = 1 << 16

	// loopQueue is how many packets to own addresses wait; more are dropped, as on any link.
	loopQueue = 1024

	// provokeSlots is the number of inbound packets whose tags are remembered for the reply without a socket that they may
	// provoke later (a reset, a SYN cookie). A flood evicts others' entries, and their replies are dropped: no more than
	// that.
	provokeSlots = 1024

	// defaultTimeWait is 2 MSL as gVisor and Linux have it.
	defaultTimeWait = 60 * time.Second
)
