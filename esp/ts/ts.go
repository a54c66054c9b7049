// Package ts holds traffic selectors and packed flows: what an SA or a policy covers
// (RFC 4301, Section 4.4.1.1; RFC 7296, Section 3.13.1), and the 5-tuple read from a packet.
// It is the leaf that the data plane, the databases and the key manager share.
//
// # Use
//
// A Selector is one address range × protocol × port range, a Set is a union of them, a Pair is
// the local and the remote Set of an SA seen from this host. ParseFlow reads a packet into a
// Flow and Pair.MatchOut and Pair.MatchIn judge it.
//
// # Semantics
//
// Ports are a line of 65,536 values plus one more point, OPAQUE: the ports cannot be seen,
// because the packet is a non-initial fragment, its upper layer is cut short, or its protocol
// has none. AnyPorts contains all of that line and OPAQUE; every other range contains no OPAQUE,
// so a selector that names ports never matches a non-initial fragment. ICMP, ICMPv6 and the
// Mobility Header have one selector, not two: the sender's side says which types it may send and
// the other side is not consulted (RFC 4301, Section 4.4.1.3). Selectors of one Set are mixed
// and matched with those of the other, as in IKEv2.
//
// # Safety
//
// Zero values match nothing: a zero Selector, Set, Pair or Flow. IPv4-mapped IPv6 addresses and
// zones are refused everywhere, so that one address has one form.
//
// # Ownership and concurrency
//
// Packets stay the caller's: all types are values, nothing is retained. ParseFlow and the Match and Contains methods do not
// allocate. Sets are read-only once shared. No method blocks.
//
// # Limits
//
// IPv6 extension headers are bounded by MaxExtHeaders, work on sets by MaxPieces; see limits.go.
package ts
