// Package datapath is the way of a packet between the stack and the wire: which policy and which SA a packet that leaves
// needs, whether its socket's latch agrees, cutting, sealing and sending; and for a packet that arrives opening, putting
// together, the selectors of its SA, and whether the latch of its socket lets it in.
//
// # Order
//
// Outbound (RFC 4301, Section 5.1; RFC 5660, Section 2.4): the socket's latch or demand, then the policy, then an SA that
// both allow. Without one the packet is held and an Acquire is made; it never leaves in clear unless a policy, the socket
// and the wire all say so, and never once its flow is latched. A packet without a socket (a reset, an echo reply) uses the
// SA of the packet that provoked it or is dropped: it neither waits nor asks.
//
// Inbound (RFC 4301, Section 5.2): the SPI finds the SA; package esp checks replay, authenticates and commits; the outer
// ECN field is merged (RFC 6040); fragments are put together for each SA by itself, so that no datagram is made of two
// SAs' packets, and overlaps end a datagram (RFC 5722); the selectors of that SA are compared with the whole packet; then
// it goes into the stack with the SA's tag, and Admit compares the tag with the latch of the socket that was found.
// Packets for an SPI that is reserved wait a little for their SA, and an SA that another one replaced takes late packets
// for a moment.
//
// # Checksums
//
// Outbound TCP and UDP checksums are computed over each packet that leaves. Inbound ones are verified where the packet may
// come from behind the peer: in tunnel mode with more than one remote address, if Child.VerifyInner is set, and in clear.
// In the other cases the peer's integrity check covers the packet from end to end; in transport mode behind a NAT the
// checksum is known to be wrong (RFC 3948, Section 3.1.2), and it is not looked at. Segments that are coalesced are
// verified first, if at all; the merged packet has a right IP header and no right TCP checksum.
//
// # Sizes
//
// A TCP packet is cut at the smaller of its MSS and what fits the SA, so TCP is never fragmented. Other packets that do not
// fit are fragmented inside the tunnel, with don't-fragment ignored, because they are this host's own. In transport mode
// nothing is fragmented before ESP (RFC 4303, Section 3.1.1): the wire fragments the outer packet.
//
// # Memory
//
// Output reads a borrowed netstack.Packet and copies it once, into a buffer of a pool, where it is sealed. Buffers are cut
// into slots that overlap nothing and are capped. Receive buffers belong to Run and are used again for the next batch: what
// is handed on is copied (the stack does, and IKE datagrams are). Config says who owns what in callbacks.
//
// # Concurrency
//
// Everything exported is safe for concurrent use. Lookups take no locks: policies, children and decisions are immutable and
// found through atomic pointers, and every change moves an epoch that outdates all remembered decisions. Packets of one SA
// are sealed and sent under its send lock, so they leave in the order of their sequence numbers (RFC 4303, Section 3.3.3).
// Output and Admit run under gVisor's locks; what must not run there is handed to callbacks that hand it on.
//
// # Limits
//
// See limits.go and package hold.
package datapath
