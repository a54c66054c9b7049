// Package tun defines what a wire is: the place where IKE datagrams and ESP packets
// enter and leave the process, in batches. It knows no IPsec beyond telling the two apart.
//
// The wires are in the folders below: tun/udp (a UDP socket, no privilege), tun/outer
// (outer IP built here, over a TUN device), tun/raw (protocol 50 sockets) and
// tun/tuntest (in-memory wires, faults, a recording relay).
//
// # Sources
//
// RFC 3948 (UDP encapsulation of ESP: the non-ESP marker in Section 2.2, the keepalive in
// Section 2.3), RFC 7296, Section 2.23 (ports 500 and 4500), RFC 6040 (ECN in tunnels).
//
// # Ownership
//
// Buffers always belong to the caller of a Wire. They are lent for the length of one call:
//
//   - Receive fills buffers that the caller supplies in Packet.Buf. On return each of the n
//     packets owns a sub-slice that overlaps no other packet's and whose capacity is capped,
//     so that nothing can be appended into a neighbour. Each stays valid until the caller
//     passes that memory to Receive again. A wire may exchange the Bufs of the packets it
//     was given, or return several packets that are parts of one of them, so the caller
//     keeps its own list of buffers and sets Buf before each call; [Batch] does that.
//     There need not be any room in front of a received packet or behind it.
//   - Send reads Buf[Off:Off+Len] and leaves it unchanged. It may write into the
//     [WireRoom] bytes in front of Off, where there are as many; it writes nothing behind
//     the packet. On return everything is the caller's again: no wire keeps a buffer.
//
// # Concurrency
//
// Every method of a Wire may be called from any goroutine. Receive calls are served one at
// a time. Send calls run in parallel or one at a time as the wire likes, but the packets of
// one call leave in order, so whoever needs an order across calls holds a lock around them.
//
// # Limits
//
// No packet is larger than [MaxPacket]. Wires queue nothing except what one system call
// brought and the caller had no slot for, and fragments being reassembled (tun/outer),
// which are bounded in bytes, time and number.
package tun

// Sizes of the room around a packet, in bytes.
const (
	// Headroom is the room that a buffer has in front of an ESP payload: for the ESP
	// header and IV, then for what a wire puts before it.
	Headroom = 128

	// WireRoom is the part of Headroom that a wire may use: the TUN library's 10 bytes,
	// IPv6 header 40, fragment header 8, UDP header 8, non-ESP marker 4, rounded up.
	WireRoom = 80

	// Tailroom is the room that a buffer has behind an ESP payload, for padding and ICV.
	Tailroom = 64

	// MaxPacket is the largest IP packet, and so the most that one packet can occupy.
	MaxPacket = 65535

	// BufSize is the size of a receive buffer into which everything fits.
	BufSize = Headroom + MaxPacket + Tailroom
)
