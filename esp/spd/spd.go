// Package spd is the Security Policy Database of RFC 4301, Section 4.4.1: an ordered list of
// policies, each a pair of selector sets and one of five words that say what becomes of the
// packets, with the BTNS_OK flag of RFC 5386, Section 2, "populate from packet" flags, search by
// ID, and security associations keyed by hand.
//
// # Use
//
// New checks a list of policies and makes a DB of it: an immutable snapshot that carries an
// epoch. Lookup answers for one packet, Select for a peer's proposal. A Cache remembers what was
// decided for a flow for as long as the epoch is the same.
//
// # Ownership and concurrency
//
// A DB and its policies are read-only after New, which copies what it is given; any number of
// goroutines may read it. Replacing a DB is the holder's business (an atomic pointer). Cache
// reads take no lock. Lookup and Cache.Get do not allocate.
//
// # Limits
//
// See limits.go. Lookup visits a tree of bounding boxes and stays flat at 100,000 policies
// (BenchmarkLookup); memory is linear in the number of selector combinations.
package spd
