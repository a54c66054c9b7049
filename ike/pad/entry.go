package pad

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/auth"
)

// Kind says how an entry is found. The zero value is invalid.
type Kind uint8

// The kinds, in the order in which they are searched.
const (
	KindInvalid       Kind = iota
	KindAuthenticated      // by the identity the peer asserts
	KindKey                // BTNS: by the peer's key (RFC 5386, "PUBLICKEY")
	KindWildcard           // BTNS: any key
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindInvalid:
		return "invalid"
	case KindAuthenticated:
		return "authenticated"
	case KindKey:
		return "key"
	case KindWildcard:
		return "wildcard"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// BTNS reports whether peers found so are only a key, and so match only policies with BTNS_OK.
func (k Kind) BTNS() bool { return k == KindKey || k == KindWildcard }

// Method is how a peer proves who it is. The zero value is invalid.
type Method uint8

// The methods.
const (
	MethodInvalid   Method = iota
	MethodPSK              // a pre-shared secret
	MethodPublicKey        // a signature, verified with a raw public key that is configured
	MethodBTNS             // a signature, verified with the key that the peer sends
)

// String returns the method as swanctl's auth spells it, where it does.
func (m Method) String() string {
	switch m {
	case MethodInvalid:
		return "invalid"
	case MethodPSK:
		return "psk"
	case MethodPublicKey:
		return "pubkey"
	case MethodBTNS:
		return "btns"
	}
	return fmt.Sprintf("method(%d)", uint8(m))
}

// PSK is a secret and the identities that share it; without any it is everybody's.
type PSK struct {
	IDs    []ID
	Secret auth.PSK
}

// Allow says which inner addresses a peer may own. Nothing is allowed by default; the rules add
// up.
type Allow struct {
	Selectors  ts.Set // these
	Outer      bool   // the address its packets come from: transport mode
	KeyDerived bool   // the one derived from its key, KeyAddress
	Leased     bool   // those leased to it; the caller adds them
	Any        bool   // all that no other entry owns
}

// IsZero reports whether nothing is allowed.
func (a *Allow) IsZero() bool {
	return len(a.Selectors) == 0 && !a.Outer && !a.KeyDerived && !a.Leased && !a.Any
}

// Entry is one entry of the database.
type Entry struct {
	Name   string // unique; for people
	Kind   Kind
	Method Method   // of an authenticated entry; BTNS entries have MethodBTNS, which may be left out
	IDs    []ID     // identities and patterns, of an authenticated entry
	PSKs   []PSK    // secrets, for MethodPSK
	Keys   [][]byte // DER SubjectPublicKeyInfos, for MethodPublicKey and KindKey
	Allow  Allow
	Conn   string // the connection in the configuration that peers of this entry use
	ByID   bool   // search the SPD by the peer's identity, not by addresses (RFC 4301, Section 4.4.3.3)

	index    int
	excluded ts.Set // what other entries own and peers of this one must not
}

// String names the entry without its secrets.
func (e *Entry) String() string {
	return fmt.Sprintf("%v entry %s", e.Kind, shown(e.Name))
}

// HasKey reports whether the key is one of the entry's.
func (e *Entry) HasKey(spki []byte) bool {
	for _, k := range e.Keys {
		if bytes.Equal(k, spki) {
			return true
		}
	}
	return false
}

// PSK returns the secret that local and remote share by this entry: the one whose identities
// name both, or else one of them, or else one that names nobody; the first of equals.
func (e *Entry) PSK(local, remote ID) (auth.PSK, bool) {
	best, found := -1, auth.PSK{}
	for i := range e.PSKs {
		p := &e.PSKs[i]
		score := 0
		for _, side := range [...]ID{local, remote} {
			for _, id := range p.IDs {
				if id.Matches(side) {
					score++
					break
				}
			}
		}
		if score == 0 && len(p.IDs) != 0 {
			continue
		}
		if score > best {
			best, found = score, p.Secret
		}
	}
	return found, best >= 0
}

// Identity returns the canonical text of a peer of this entry once it has proven itself: the
// identity it asserted, or for a BTNS peer its key and nothing else (RFC 5386, Section 2).
func (e *Entry) Identity(asserted ID, spki []byte) string {
	if e.Kind.BTNS() {
		return KeyIdentity(spki)
	}
	return asserted.Canonical()
}

// Allowed returns the inner addresses that a peer with this key (nil without one) and this outer
// address may own. Leases are the caller's to add. What other entries own is taken away already.
func (e *Entry) Allowed(peerSPKI []byte, outer netip.Addr) ts.Set {
	out := append(ts.Set(nil), e.Allow.Selectors...)
	if e.Allow.Any {
		out = append(out, everywhere()...)
	}
	if outer = outer.Unmap().WithZone(""); e.Allow.Outer && outer.IsValid() {
		out = append(out, ts.FromAddr(outer))
	}
	out = carveKeys(out)
	if e.Kind.BTNS() {
		out = out.SubtractAddrs(e.excluded)
	}
	if e.Allow.KeyDerived && len(peerSPKI) != 0 {
		// No other entry can own it: the range of derived addresses belongs to keys.
		out = append(out, ts.FromAddr(KeyAddress(peerSPKI)))
	}
	return out.Normalize()
}

// everywhere is the set of all addresses.
func everywhere() ts.Set {
	return ts.Set{
		ts.FromPrefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0)),
		ts.FromPrefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0)),
	}
}

// carveKeys takes the range of key-derived addresses out of wider selectors: a rule that says
// "everything" does not mean other peers' keys. Selectors inside the range stay as they are.
func carveKeys(s ts.Set) ts.Set {
	keys := ts.Set{ts.FromPrefix(KeyPrefix())}
	var out, wide ts.Set
	for _, x := range s {
		if keys.Covers(ts.Set{x}) {
			out = append(out, x)
		} else {
			wide = append(wide, x)
		}
	}
	return append(out, wide.SubtractAddrs(keys)...)
}
