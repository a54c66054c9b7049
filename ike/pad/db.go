package pad

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/btns-go/btns/esp/ts"
)

// DB is an immutable snapshot of entries.
type DB struct {
	auth     []*Entry          // authenticated entries, in order
	exact    map[string]*Entry // canonical identity → first entry that names it exactly
	patterns []*Entry          // authenticated entries with a pattern, in order
	keys     map[string]*Entry // SPKI → first key entry
	keyed    []*Entry
	wildcard *Entry
	byName   map[string]*Entry
}

// New checks the entries and returns a snapshot of them. The order among authenticated entries is
// the one given; BTNS entries follow them wherever they stand in the list, the wildcard last
// (RFC 5386, Section 2).
func New(entries []Entry) (*DB, error) {
	if len(entries) > MaxEntries {
		return nil, fmt.Errorf("pad: %d entries, at most %d", len(entries), MaxEntries)
	}
	db := &DB{exact: make(map[string]*Entry), keys: make(map[string]*Entry), byName: make(map[string]*Entry)}
	for i := range entries {
		e := entries[i].clone()
		e.index = i
		if err := e.validate(); err != nil {
			return nil, fmt.Errorf("pad: entry %d %s: %w", i, shown(e.Name), err)
		}
		if db.byName[e.Name] != nil {
			return nil, fmt.Errorf("pad: two entries are named %s", shown(e.Name))
		}
		db.byName[e.Name] = e
		switch e.Kind {
		case KindAuthenticated:
			db.addAuth(e)
		case KindKey:
			db.keyed = append(db.keyed, e)
			for _, k := range e.Keys {
				if db.keys[string(k)] == nil {
					db.keys[string(k)] = e
				}
			}
		case KindWildcard:
			if db.wildcard != nil {
				return nil, fmt.Errorf("pad: entries %s and %s are both the wildcard; there is at most one (RFC 5386, Section 2)",
					shown(db.wildcard.Name), shown(e.Name))
			}
			db.wildcard = e
		case KindInvalid:
		}
	}
	return db, db.constrain()
}

func (db *DB) addAuth(e *Entry) {
	db.auth = append(db.auth, e)
	pattern := false
	for _, id := range e.IDs {
		if id.IsPattern() {
			pattern = true
			continue
		}
		if c := id.Canonical(); db.exact[c] == nil {
			db.exact[c] = e
		}
	}
	if pattern {
		db.patterns = append(db.patterns, e)
	}
}

func (e *Entry) clone() *Entry {
	c := *e
	c.IDs = slices.Clone(e.IDs)
	c.Keys = make([][]byte, len(e.Keys))
	for i, k := range e.Keys {
		c.Keys[i] = bytes.Clone(k)
	}
	c.PSKs = make([]PSK, len(e.PSKs))
	for i, p := range e.PSKs {
		c.PSKs[i] = PSK{slices.Clone(p.IDs), p.Secret.Clone()}
	}
	c.Allow.Selectors = slices.Clone(e.Allow.Selectors)
	if c.Kind.BTNS() && c.Method == MethodInvalid {
		c.Method = MethodBTNS
	}
	return &c
}

// validate returns what is wrong with e on its own.
func (e *Entry) validate() error {
	switch {
	case e.Name == "":
		return fmt.Errorf("has no name")
	case len(e.IDs) > MaxIDs || len(e.Keys) > MaxKeys || len(e.PSKs) > MaxPSKs:
		return fmt.Errorf("has %d identities, %d keys, %d secrets; at most %d, %d, %d",
			len(e.IDs), len(e.Keys), len(e.PSKs), MaxIDs, MaxKeys, MaxPSKs)
	case e.Allow.IsZero():
		// RFC 4301, Section 4.4.3.3; for the wildcard nothing is a default.
		return fmt.Errorf("says no address that its peer may own")
	}
	for _, k := range e.Keys {
		if len(k) == 0 || len(k) > MaxSPKI {
			return fmt.Errorf("has a key of %d bytes", len(k))
		}
	}
	for _, s := range e.Allow.Selectors {
		if err := s.Valid(); err != nil {
			return err
		}
	}
	for _, id := range e.IDs {
		if err := id.check(true); err != nil {
			return fmt.Errorf("identity %v: %w", id, err)
		}
	}
	for _, p := range e.PSKs {
		if p.Secret.Empty() {
			return fmt.Errorf("has an empty secret")
		}
	}
	switch e.Kind {
	case KindAuthenticated:
		return e.validateAuth()
	case KindKey, KindWildcard:
		switch {
		case e.Method != MethodBTNS:
			return fmt.Errorf("is a BTNS entry and cannot have method %v", e.Method)
		case len(e.IDs) != 0 || len(e.PSKs) != 0:
			return fmt.Errorf("is a BTNS entry and has identities or secrets; its peers are known by their keys only")
		case (e.Kind == KindKey) != (len(e.Keys) != 0):
			return fmt.Errorf("is a %v entry with %d keys", e.Kind, len(e.Keys))
		}
		return nil
	case KindInvalid:
	}
	return fmt.Errorf("has no kind")
}

func (e *Entry) validateAuth() error {
	if len(e.IDs) == 0 {
		return fmt.Errorf("has no identities")
	}
	switch e.Method {
	case MethodPSK:
		if len(e.PSKs) == 0 || len(e.Keys) != 0 {
			return fmt.Errorf("has method psk with %d secrets and %d keys", len(e.PSKs), len(e.Keys))
		}
		if e.Allow.KeyDerived {
			return fmt.Errorf("has method psk, so there is no key to derive an address from")
		}
		return nil
	case MethodPublicKey:
		if len(e.Keys) == 0 || len(e.PSKs) != 0 {
			return fmt.Errorf("has method pubkey with %d keys and %d secrets", len(e.Keys), len(e.PSKs))
		}
		return nil
	case MethodInvalid, MethodBTNS:
	}
	return fmt.Errorf("is an authenticated entry and cannot have method %v", e.Method)
}

// constrain takes what others own away from BTNS entries (RFC 5386, Section 2), and refuses a
// wildcard that claims by name what another entry owns.
func (db *DB) constrain() error {
	var auth, keyed ts.Set
	for _, e := range db.auth {
		auth = append(auth, e.owns()...)
	}
	auth = carveKeys(auth.Normalize())
	for _, e := range db.keyed {
		e.excluded = auth
		keyed = append(keyed, e.owns()...)
	}
	if db.wildcard == nil {
		return nil
	}
	db.wildcard.excluded = append(slices.Clone(auth), carveKeys(keyed.Normalize())...)
	for _, list := range [...][]*Entry{db.auth, db.keyed} {
		for _, e := range list {
			if addrsOverlap(e.Allow.Selectors, db.wildcard.Allow.Selectors) {
				return fmt.Errorf("pad: the wildcard %s names addresses of entry %s: its constraints must not overlap those of other entries (RFC 5386, Section 2)",
					shown(db.wildcard.Name), shown(e.Name))
			}
		}
	}
	return nil
}

// addrsOverlap reports whether some address is in both, whatever the protocols and ports.
func addrsOverlap(a, b ts.Set) bool {
	for _, x := range a {
		x.Proto, x.Ports = 0, ts.AnyPorts()
		for _, y := range b {
			y.Proto, y.Ports = 0, ts.AnyPorts()
			if _, ok := x.Intersect(y); ok {
				return true
			}
		}
	}
	return false
}

// owns returns what the entry owns by configuration.
func (e *Entry) owns() ts.Set {
	if e.Allow.Any {
		return everywhere()
	}
	return e.Allow.Selectors
}

// Entry returns the entry of that name, nil without one.
func (db *DB) Entry(name string) *Entry { return db.byName[name] }

// Len returns the number of entries.
func (db *DB) Len() int { return len(db.byName) }

// Entries returns the entries in the order in which they are searched. They must not be changed.
func (db *DB) Entries() []*Entry {
	out := append(slices.Clone(db.auth), db.keyed...)
	if db.wildcard != nil {
		out = append(out, db.wildcard)
	}
	return out
}

// asserted returns the first authenticated entry that the identity matches.
func (db *DB) asserted(id ID) *Entry {
	found := db.exact[id.Canonical()]
	for _, e := range db.patterns {
		if found != nil && found.index < e.index {
			break
		}
		if e.names(id) {
			return e
		}
	}
	return found
}

// names reports whether one of the entry's identities or patterns is for this identity.
func (e *Entry) names(id ID) bool {
	return slices.ContainsFunc(e.IDs, func(p ID) bool { return p.Matches(id) })
}

// Warnings returns, one sentence each, what in the database cannot have been meant: entries or
// identities that an earlier entry shadows, keys named twice, BTNS entries that nobody reaches.
func (db *DB) Warnings() []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, e := range db.auth {
		var shadow []string
		dead := 0
		for _, id := range e.IDs {
			if by := db.shadows(e, id); by != nil {
				shadow = append(shadow, fmt.Sprintf("%v (by %s)", id, shown(by.Name)))
				dead++
			}
		}
		switch {
		case dead == len(e.IDs):
			warn("entry %s is never reached: earlier entries match all of its identities: %s", shown(e.Name), strings.Join(shadow, ", "))
		case dead > 0:
			warn("entry %s has identities that earlier entries match: %s", shown(e.Name), strings.Join(shadow, ", "))
		}
	}
	for _, e := range db.auth {
		if slices.ContainsFunc(e.IDs, ID.IsAny) && (len(db.keyed) != 0 || db.wildcard != nil) {
			warn("entry %s matches every identity, so no peer ever reaches the BTNS entries", shown(e.Name))
		}
	}
	for _, e := range db.keyed {
		for _, k := range e.Keys {
			if by := db.keys[string(k)]; by != e {
				warn("entry %s names key %s, which entry %s already has", shown(e.Name), Fingerprint(k), shown(by.Name))
			}
		}
		if addrsOverlap(e.Allow.Selectors, e.excluded) {
			warn("entry %s names addresses that authenticated entries own; its peers cannot have those", shown(e.Name))
		}
	}
	if w := db.wildcard; w != nil && w.Allow.Any {
		warn("the wildcard %s lets anybody own any address that no other entry names", shown(w.Name))
	}
	return out
}

// shadows returns the entry before e that matches all that id does.
func (db *DB) shadows(e *Entry, id ID) *Entry {
	if !id.IsPattern() {
		if by := db.asserted(id); by != nil && by.index < e.index {
			return by
		}
		return nil
	}
	for _, by := range db.patterns {
		if by.index >= e.index {
			return nil
		}
		if slices.ContainsFunc(by.IDs, func(p ID) bool { return p.covers(id) }) {
			return by
		}
	}
	return nil
}
