// Package pad is the Peer Authorization Database: who may be at the other end, how they prove it
// and which addresses they may own (RFC 4301, Section 4.4.3), with the entries for peers that are
// only a key (RFC 5386, Section 2; RFC 7670).
//
// # Order
//
// Authenticated entries are searched first, in order, by the identity that the peer asserts. The
// first that matches decides: a peer that matches one and is not what it says is rejected, and
// never tried as anything else. Only a peer that matches none may be a BTNS peer: it is then
// known by the key of its CERT payload alone, whatever it asserts, and looked up among the key
// entries and last the wildcard, of which there is at most one.
//
// # Addresses
//
// Each entry says which inner addresses its peer may own. The wildcard must say it too; "any" is
// a flag of its own and never the default. What other entries own by configuration is taken away
// from the wildcard, and what authenticated entries own from key entries (RFC 5386, Section 2).
// KeyAddress derives an address from a key, so that only the holder of the key can claim it.
//
// # Use
//
// Lookup answers who a peer is; the caller then verifies AUTH with the secret or the key that
// the outcome names, and nothing about the peer is true before that. An Outcome says for an
// operator why a peer was refused.
//
// # Memory and concurrency
//
// A DB and its entries are read-only after New, which copies what it is given; any number of
// goroutines may read it. Secrets redact themselves.
//
// # Limits
//
// See limits.go. Lookup is a map access plus a scan of the entries that name patterns.
package pad
