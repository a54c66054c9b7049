package pad

import (
	"fmt"

	"github.com/btns-go/btns/ike/auth"
)

// Verdict is what a lookup found. The zero value refuses.
type Verdict uint8

// The verdicts.
const (
	NoMatch     Verdict = iota // no entry is for this peer
	BadIdentity                // the identity it asserts is malformed
	WrongMethod                // its entry wants another method
	WrongKey                   // its key is not its entry's
	NoKey                      // it sent no key and is in no authenticated entry
	WrongPeer                  // it is another peer than the one that was dialled
	NoSecret                   // its entry has no secret for these two identities
	Accepted                   // it is for AUTH to decide
)

// String returns a short name.
func (v Verdict) String() string {
	switch v {
	case NoMatch:
		return "no match"
	case BadIdentity:
		return "bad identity"
	case WrongMethod:
		return "wrong method"
	case WrongKey:
		return "wrong key"
	case NoKey:
		return "no key"
	case WrongPeer:
		return "wrong peer"
	case NoSecret:
		return "no secret"
	case Accepted:
		return "accepted"
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Outcome is the answer to a lookup, in a form that an operator can be told. It is for this side
// only: a refused peer is sent AUTHENTICATION_FAILED and no more.
type Outcome struct {
	Verdict  Verdict
	Asserted ID       // what the peer says it is
	Entry    string   // the entry that decided; "" if none did
	Want     Method   // what that entry asks for
	Got      Method   // what the peer did
	Key      string   // fingerprint of the key that the peer sent; "" without one
	Keys     [][]byte // accepted: the keys of which one must verify AUTH; the peer's own if it sent one
}

// OK reports whether the peer may go on to prove itself.
func (o *Outcome) OK() bool { return o.Verdict == Accepted }

// Err returns nil if the peer may go on, else a *RefusedError.
func (o *Outcome) Err() error {
	if o.OK() {
		return nil
	}
	return &RefusedError{*o}
}

// String says in one sentence what was found and why.
func (o *Outcome) String() string {
	peer := "peer " + o.Asserted.String()
	switch o.Verdict {
	case Accepted:
		return fmt.Sprintf("%s matches entry %s by %v", peer, shown(o.Entry), o.Want)
	case NoMatch:
		if o.Key != "" {
			return fmt.Sprintf("%s matches no entry: neither its identity nor its key %s is known, and there is no wildcard for keys", peer, o.Key)
		}
		return peer + " matches no entry"
	case BadIdentity:
		return peer + " asserts a malformed identity"
	case WrongMethod:
		return fmt.Sprintf("%s matches entry %s, which wants %v, but it authenticates by %v", peer, shown(o.Entry), o.Want, o.Got)
	case WrongKey:
		return fmt.Sprintf("%s matches entry %s, but its key %s is not one of that entry's", peer, shown(o.Entry), o.Key)
	case NoKey:
		return fmt.Sprintf("%s matches no authenticated entry and sent no bare public key, so it cannot be a BTNS peer (RFC 5386, Section 2)", peer)
	case WrongPeer:
		return fmt.Sprintf("%s is of entry %s, which is not the peer that was dialled", peer, shown(o.Entry))
	case NoSecret:
		return fmt.Sprintf("%s matches entry %s, which has no secret for it and the local identity", peer, shown(o.Entry))
	}
	return peer + ": " + o.Verdict.String()
}

// RefusedError is an Outcome that refuses, as an error.
type RefusedError struct{ Outcome Outcome }

// Error is the outcome's sentence.
func (e *RefusedError) Error() string { return "pad: " + e.Outcome.String() }

// Lookup finds the entry of a peer that asserts id and authenticates by a secret (MethodPSK) or
// a signature (MethodPublicKey or MethodBTNS, which a peer does not tell apart), with the key of
// its CERT payload or nil without one. The entry is nil unless the outcome is OK.
//
// The order is that of RFC 5386, Section 2. Nothing is proven yet: the caller verifies AUTH with
// Entry.PSK or one of Outcome.Keys.
func (db *DB) Lookup(id ID, method Method, spki []byte) (*Entry, Outcome) {
	return db.lookup(id, method, spki, nil)
}

// LookupDialled is Lookup for an initiator: the peer must be of the entry that was dialled, and
// not merely of one that exists. Of several authenticated entries for one identity, as of
// connections to one gateway in several roles, the dialled one decides.
func (db *DB) LookupDialled(dialled *Entry, id ID, method Method, spki []byte) (*Entry, Outcome) {
	e, o := db.lookup(id, method, spki, dialled)
	if e != nil && (dialled == nil || e.Name != dialled.Name) {
		o.Verdict = WrongPeer
		return nil, o
	}
	return e, o
}

func (db *DB) lookup(id ID, method Method, spki []byte, dialled *Entry) (*Entry, Outcome) {
	o := Outcome{Asserted: id, Got: method}
	if len(spki) != 0 {
		o.Key = Fingerprint(spki)
	}
	if id.check(false) != nil || len(spki) > MaxSPKI {
		o.Verdict = BadIdentity
		return nil, o
	}
	if method == MethodBTNS {
		method = MethodPublicKey
	}
	e := dialled
	if e == nil || e.Kind != KindAuthenticated || !e.names(id) {
		e = db.asserted(id)
	}
	if e != nil {
		// Whatever comes of it, this entry decides: no fall through to BTNS.
		o.Entry, o.Want = e.Name, e.Method
		switch {
		case e.Method != method:
			o.Verdict = WrongMethod
		case e.Method == MethodPublicKey && len(spki) == 0:
			// A peer need not send a key that is configured.
			o.Verdict, o.Keys = Accepted, e.Keys
		case e.Method == MethodPublicKey && !e.HasKey(spki):
			o.Verdict = WrongKey
		default:
			o.Verdict = Accepted
			if e.Method == MethodPublicKey {
				o.Keys = [][]byte{spki}
			}
		}
		if !o.OK() {
			return nil, o
		}
		return e, o
	}
	if method != MethodPublicKey {
		return nil, o // only a signature can be a BTNS peer's
	}
	if len(db.keyed) == 0 && db.wildcard == nil {
		return nil, o
	}
	if len(spki) == 0 {
		o.Verdict = NoKey
		return nil, o
	}
	e = db.keys[string(spki)]
	if e == nil {
		e = db.wildcard
	}
	if e == nil {
		return nil, o
	}
	o.Verdict, o.Entry, o.Want, o.Keys = Accepted, e.Name, e.Method, [][]byte{spki}
	return e, o
}

// LookupPSK is Lookup for a peer that authenticates by a secret, with the secret it shares with
// the local identity.
func (db *DB) LookupPSK(local, remote ID) (auth.PSK, *Entry, Outcome) {
	e, o := db.Lookup(remote, MethodPSK, nil)
	if e == nil {
		return auth.PSK{}, nil, o
	}
	secret, ok := e.PSK(local, remote)
	if !ok {
		o.Verdict = NoSecret
		return auth.PSK{}, nil, o
	}
	return secret, e, o
}
