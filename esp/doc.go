// Package esp is the ESP engine (RFC 4303): Outbound.Seal and Inbound.Open, no
// I/O, no clock, no goroutine. It knows the packet from the SPI to the ICV and
// nothing of what is around it: the outer IP and UDP headers belong to the wire.
//
// # Suites
//
// AES-GCM with a 16-octet ICV (RFC 4106), ChaCha20-Poly1305 (RFC 7634), and,
// for SAs with manual keys, AES-CBC (RFC 3602) or NULL (RFC 2410) with
// HMAC-SHA2 (RFC 4868). Encryption without integrity does not exist here.
//
// # Sequence numbers and IVs
//
// Both directions count in 64 bits, with extended sequence numbers or without;
// without, numbers end at 2^32-1. Seal takes a range of numbers for a whole
// batch in one step. The IV of a counter suite is the sequence number, so that a
// (key, IV) pair can't repeat as long as a key is used by one Outbound: a key is
// never stored, and never given to a second Outbound. The IV of AES-CBC is that
// counter under a random key of its own, which nobody can predict. An exhausted
// counter never wraps: the batch is dropped, and nothing but a new SA helps
// (RFC 4303, Section 3.3.3).
//
// # Ownership
//
// A Packet's Buf belongs to that packet alone for the duration of the call;
// bytes before the ESP header and after the ICV are not touched, nor is anything
// past len(Buf). Work is in place: after a failed Open the bytes of that packet
// are undefined, and never the plaintext of a packet that failed authentication.
// Keys are copied into cipher state; the caller may zero Config.Key afterwards.
//
// # Concurrency
//
// Seal and Open may be called from several goroutines, each with its own Worker.
// Concurrent Seal calls get disjoint ranges of numbers; whoever needs order on
// the wire holds a send lock around Seal and send. Open takes the SA's lock twice
// per batch, not per packet: pre-check, then (after authentication) commit.
//
// # Drops
//
// There are no errors per packet: each packet carries a Drop after the call, and
// the SA counts them. The zero Drop means "not processed" and is a drop.
//
// # Limits
//
// Tunnel mode wants an inner header that fits (version, length, IPv4 header
// checksum) and trims padding behind the inner packet (RFC 4303, Section 2.7).
// Traffic selectors, fragments and reassembly are above. Cipher state of the
// standard library can't be overwritten; Zero unlinks it and stops the SA.
package esp
