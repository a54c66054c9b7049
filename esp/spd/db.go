package spd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/esp/ts"
)

// DB is an ordered, immutable snapshot of policies.
type DB struct {
	policies []Policy
	epoch    uint64
	v4, v6   tree
	byPeer   map[string][]*Policy
}

// New checks the policies and returns a snapshot of them in the order given. An empty list is a
// database that discards everything.
func New(policies []Policy) (*DB, error) {
	if len(policies) > MaxPolicies {
		return nil, fmt.Errorf("spd: %d policies, at most %d", len(policies), MaxPolicies)
	}
	db := &DB{
		policies: make([]Policy, len(policies)),
		// Two snapshots must not share an epoch: what a cache holds under one is wrong under
		// the other.
		epoch:  rand.Uint64() | 1,
		byPeer: make(map[string][]*Policy),
	}
	names := make(map[string]struct{}, len(policies))
	for i := range policies {
		p := &db.policies[i]
		*p = policies[i]
		p.index = i
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("spd: policy %d %.80q: %w", i, p.Name, err)
		}
		if p.Name != "" {
			if _, twice := names[p.Name]; twice {
				return nil, fmt.Errorf("spd: two policies are named %.80q", p.Name)
			}
			names[p.Name] = struct{}{}
		}
		p.Sel = ts.Pair{Local: slices.Clone(p.Sel.Local), Remote: slices.Clone(p.Sel.Remote)}
		if p.Manual != nil {
			m := *p.Manual
			m.InKey, m.OutKey = slices.Clone(m.InKey), slices.Clone(m.OutKey)
			p.Manual = &m
		}
		if p.Peer != "" {
			db.byPeer[p.Peer] = append(db.byPeer[p.Peer], p)
		}
	}
	db.index()
	return db, nil
}

// Epoch identifies the snapshot: never 0, and no two snapshots have the same.
func (db *DB) Epoch() uint64 { return db.epoch }

// Len returns the number of policies.
func (db *DB) Len() int { return len(db.policies) }

// Policy returns the i-th policy. It must not be changed.
func (db *DB) Policy(i int) *Policy { return &db.policies[i] }

// Lookup returns the first policy that covers f, as a packet that leaves or one that arrives;
// nil means that none does and the packet is to be discarded (RFC 4301, Section 4.4.1).
func (db *DB) Lookup(out bool, f ts.Flow) *Policy {
	if !f.IsValid() {
		return nil
	}
	t := &db.v4
	if f.IsV6() {
		t = &db.v6
	}
	return t.lookup(db, out, f)
}

// ByPeer returns, in order, the policies whose Peer is the given one.
func (db *DB) ByPeer(peer string) []*Policy { return db.byPeer[peer] }

// everything is the selector of all packets of a family.
func everything(v6 bool) ts.Selector {
	if v6 {
		return ts.FromPrefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	return ts.FromPrefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
}

// Allow says what the host can do beyond protecting packets.
type Allow struct {
	ClearPackets bool // the wire carries packets in clear
	HostDialer   bool // the configuration names a dialer of the host for clear connections
	ManualAEAD   bool // AEAD suites keyed by hand, for tests
}

// ErrClear is wrapped by Check for a word that needs clear packets where there is no way for them.
var ErrClear = errors.New("the wire carries no clear packets and no host dialer is named")

// Check returns an error for the first policy that asks for what the host cannot or must not do:
// a word with clear in it where nothing carries clear packets, an AEAD keyed by hand.
func (db *DB) Check(a Allow) error {
	for i := range db.policies {
		p := &db.policies[i]
		if p.Word.AllowsClear() && !a.ClearPackets && !a.HostDialer {
			return fmt.Errorf("spd: policy %.80q says %v, but %w", p.Name, p.Word, ErrClear)
		}
		if p.Manual != nil {
			if err := p.Manual.Check(a.ManualAEAD); err != nil {
				return fmt.Errorf("spd: policy %.80q: %w", p.Name, err)
			}
		}
	}
	return nil
}
