package latch

import (
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
)

// Conflicts returns the latches with which an SA of these selectors and parameters conflicts: it
// covers their flow and its peer, type or quality of protection is not what they latched
// (RFC 5660, Section 2.3). The key manager narrows around them, or breaks them before it accepts
// the SA. Selectors that name single remote addresses are answered by those addresses alone.
func (db *DB) Conflicts(pair ts.Pair, p Params) []*Latch {
	var out []*Latch
	add := func(l *Latch) {
		if b := l.bound.Load(); b != nil && !b.congruent(&p) &&
			(pair.MatchOut(l.flow) || pair.MatchIn(l.flow.Reverse())) {
			if s := l.State(); s == StateEstablished || s == StateBroken {
				out = append(out, l)
			}
		}
	}
	if addrs, ok := singles(pair.Remote); ok {
		for _, a := range addrs {
			sh := db.shardOf(a)
			sh.mu.RLock()
			for l := sh.remotes[a]; l != nil; l = l.next {
				add(l)
			}
			sh.mu.RUnlock()
		}
		return out
	}
	for i := range db.shards {
		sh := &db.shards[i]
		sh.mu.RLock()
		for a, l := range sh.remotes {
			if !pair.Remote.ContainsAddr(a) {
				continue
			}
			for ; l != nil; l = l.next {
				add(l)
			}
		}
		sh.mu.RUnlock()
	}
	return out
}

// singles returns the addresses of s if each selector names one.
func singles(s ts.Set) ([]netip.Addr, bool) {
	seen := make(map[netip.Addr]struct{}, len(s))
	out := make([]netip.Addr, 0, len(s))
	for _, x := range s {
		if x.First != x.Last {
			return nil, false
		}
		if _, twice := seen[x.First]; !twice && x.First.IsValid() {
			seen[x.First] = struct{}{}
			out = append(out, x.First)
		}
	}
	return out, true
}

// NarrowAround takes the flows of conflicting latches out of a proposal (RFC 5660, Section 2.3:
// "SHOULD be narrowed"), from the remote side if something is left of it and else from the local
// one. It returns the narrowed pair, and the latches that could not be avoided so: those are to
// be broken before the SA is accepted.
func NarrowAround(pair ts.Pair, conflicts []*Latch) (ts.Pair, []*Latch) {
	var rest []*Latch
	maxLocal, maxRemote := len(pair.Local)+MaxNarrowed, len(pair.Remote)+MaxNarrowed
	for _, l := range conflicts {
		f := l.flow
		if !pair.MatchOut(f) && !pair.MatchIn(f.Reverse()) {
			continue // gone already
		}
		remote := ts.Pair{Local: pair.Local, Remote: without(pair.Remote, f.Dst(), f.Proto(), f.DstPort())}
		local := ts.Pair{Local: without(pair.Local, f.Src(), f.Proto(), f.SrcPort()), Remote: pair.Remote}
		switch {
		case !remote.Empty() && len(remote.Remote) <= maxRemote:
			pair = remote
		case !local.Empty() && len(local.Local) <= maxLocal:
			pair = local
		default:
			rest = append(rest, l)
		}
	}
	return pair, rest
}

// without returns s without one end of a flow. A selector of any protocol loses the whole
// address: it cannot say "all but TCP port 80", and a peer that proposed everything should not
// end with a few ports of one protocol.
func without(s ts.Set, a netip.Addr, proto uint8, port uint16) ts.Set {
	all := ts.Set{ts.FromAddr(a)}
	end := ts.Set{{First: a, Last: a, Proto: proto, Ports: ts.Port(port)}}
	var out ts.Set
	for _, x := range s {
		if x.Proto == 0 {
			out = append(out, ts.Set{x}.Subtract(all)...)
		} else {
			out = append(out, ts.Set{x}.Subtract(end)...)
		}
	}
	return out.Normalize()
}

// PeerDead breaks every latch with the peer: dead-peer detection says it is gone or has
// restarted (RFC 5660, Section 2). What follows is each owner's disposition.
func (db *DB) PeerDead(peer, detail string) Alerts {
	return db.breakIf(ReasonDead, detail, func(l *Latch) bool {
		p := l.Params()
		return p != nil && p.Peer == peer
	})
}

// breakIf breaks the established and broken latches that are chosen.
func (db *DB) breakIf(why Reasons, detail string, chosen func(*Latch) bool) Alerts {
	var out Alerts
	db.Each(func(l *Latch) bool {
		if l.Params() != nil && chosen(l) {
			out = append(out, db.Break(l, why, detail)...)
		}
		return true
	})
	return out
}

// Judge asks of every latch that has parameters whether a new policy still gives its flow what is
// latched: those for which keeps says no are BROKEN when Judge returns, those broken by policy
// before for which it says yes are cleared. Judge before the policy is published, and again
// after, for latches born between (RFC 5660, Section 2.3).
func (db *DB) Judge(keeps func(flow ts.Flow, p *Params) bool, detail string) Alerts {
	var out Alerts
	db.Each(func(l *Latch) bool {
		switch p := l.Params(); {
		case p == nil:
		case keeps(l.flow, p):
			out = append(out, db.Clear(l, ReasonPolicy)...)
		default:
			out = append(out, db.Break(l, ReasonPolicy, detail)...)
		}
		return true
	})
	return out
}

// CloseAll closes every latch and listener: the key manager lost the state that they stand on, or
// ends (RFC 5660, Sections 2 and 2.6).
func (db *DB) CloseAll(cause error) Alerts {
	var out Alerts
	db.Each(func(l *Latch) bool {
		out = append(out, db.Close(l, cause)...)
		return true
	})
	return out
}
