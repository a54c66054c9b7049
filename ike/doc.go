// Package ike is the core of the IKEv2 key manager: one IKE SA as one pure machine
// (RFC 7296, with RFC 4478, 6023, 7383, 7427 and 7670; NAT traversal as in Section 2.23
// and RFC 3948).
//
// # Use
//
// [NewInitiator] or [NewResponder] make a [Machine]. Datagrams, commands, answers
// and the time go in: Start, Datagram, CreateChild, DeleteChild, Delete,
// RekeyChild, RekeyIKE, CheckLiveness, Heard, Used, FirstInbound, SoftLimit, Exhausted,
// Doubt, Complete, Tick. After every input call
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
// # Rekeying
//
// A child SA is replaced when its soft limit comes, on SoftLimit or on RekeyChild:
// [WorkRekey] asks for an SPI and proposals. The IKE SA is replaced by a new Machine,
// announced by [Rekeying]; [Rekeyed] says when it takes over. When both ends replace the
// same SA at once, the nonces decide (Sections 2.8.1 and 2.8.2): see rekey_child.go and
// collision.go. What can't be done now is answered and tried again as Section 2.25
// says.
//
// # Liveness and restarts
//
// An SA dies of a request that is not answered, a liveness check after DPDTimeout. Before
// that there is a Suspect: the engine makes another SA beside this one, and ends this one
// with Replaced when the same peer has authenticated again. Unauthenticated hints
// (INVALID_IKE_SPI, Doubt) are a reason to ask and no more; see liveness.go. Of several
// responses to an IKE_SA_INIT the one whose peer authenticates counts; see rivals.go.
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
// by hash before any decryption: replays by those who did not see it get nothing. A
// first fragment alone is compared by its ICV, because it may have been cut anew.
package ike
