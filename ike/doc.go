// Package ike is the core of the IKEv2 key manager: one IKE SA as one pure machine
// (RFC 7296, with RFC 6023, 7427 and 7670; NAT traversal as in Section 2.23 and RFC
// 3948).
//
// # Use
//
// [NewInitiator] or [NewResponder] make a [Machine]. Datagrams, commands, answers
// and the time go in: Start, Datagram, CreateChild, DeleteChild, Delete,
// CheckLiveness, Heard, FirstInbound, Complete, Tick. After every input call
// [Machine.Next] until it says false and carry out what comes, in order; then set a
// timer to [Machine.Deadline]. What comes is a [Send], a piece of [Work] (key
// agreement, signatures, policy) to be answered with Complete, or an [Event].
//
// # Purity
//
// A Machine has no goroutine, clock, socket, file or randomness of its own: the time
// is an argument, Config.Rand gives random octets. Times must not run backwards. No
// method blocks.
//
// # Error contract
//
// A datagram that does not parse, does not authenticate or does not fit the
// message-ID window changes nothing but a counter. IKE_SA_INIT messages can't be
// authenticated: an initiator remembers what they claim and goes on until a true
// response comes (Section 2.21.1). After authentication an error is answered by a
// notify and survived, or the SA fails: Failed, then Closed. One recover per input
// keeps a bug from taking more than its SA with it; Counters.Panics says so.
//
// # Transitions
//
// What may be received when is a table, in transitions.go: state × exchange × role ×
// direction → payloads → handler → next state. Every cell that is not in it is a
// named drop.
//
// # Child SAs
//
// Installing one is two events, ChildInbound and ChildOutbound. The responder of a
// rekeying gets the second when the peer has shown that it receives, by traffic or by
// deleting the old SA (Section 2.8). Every SPI handed in, by ChildRequest or
// DecideResult, ends in exactly one ChildInbound or one SPIReleased.
//
// # Ownership
//
// Datagrams are borrowed for the call. Send.Data is the machine's: valid until the
// next input, never to be written. Everything else in outputs is the receiver's.
// Results given to Complete become the machine's.
//
// # Concurrency
//
// A Machine is not safe for concurrent use. A Config and its Counters may be shared
// by any number of machines.
//
// # Limits
//
// All are in limits.go, with reasons. The window is one request each way. What only
// the handshake needs is dropped when the SA is established.
//
// # Design notes
//
// The last request's answer is repeated only for a bit-identical request, compared
// by hash before any decryption: replays by those who did not see it get nothing.
// An IKE SA that a peer wants to rekey is refused with NO_ADDITIONAL_SAS for now
// (Section 1.3 allows it); strongSwan then authenticates anew.
package ike
