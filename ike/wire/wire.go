// Package wire is the codec of IKEv2 messages: RFC 7296, Section 3, with the
// payloads of RFC 7383 (fragments), RFC 7427 (signatures), RFC 7619 (NULL) and
// RFC 7670 (raw public keys). It knows the shape of every payload and nothing
// of what it means: no keys, no state, no policy.
//
// # Ownership
//
// Everything a parser returns aliases the input: a Message is valid only as
// long as the datagram it was parsed from is neither changed nor reused. Who
// keeps a payload longer clones its bytes. Append functions never keep what
// they are given. Signatures are computed over received bytes, never over a
// re-encoding: two different datagrams may parse to equal Messages.
//
// # Strictness
//
// The whole input is consumed or the parse fails with a *ParseError that
// carries the notify code of RFC 7296, Section 2.21; whether that may be sent
// is the caller's business (Section 2.21.1: never before keys exist). Reserved
// bits and the critical bit of known payloads are ignored (Sections 2.5, 3.2).
// What is well formed and merely cannot be used is kept and marked instead
// (Transform.BadAttr, Delete.Unusable, selectors of unknown type), because RFC
// 7296 answers it by not choosing it.
//
// # Concurrency
//
// Values are plain data; parsing shares nothing.
//
// # Limits
//
// All stand in limits.go. Memory allocated by a parse is proportional to the
// number of payloads, proposals, transforms and selectors, each of them capped.
package wire
