package ike

import (
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// This file is what happens when both ends rekey the IKE SA at once (RFC 7296, Sections
// 2.8.2 and 2.25.2). There are then three SAs: the old one and two heirs. The one made
// with the lowest nonce is deleted by the end that made it; the other one gets the child
// SAs, and the end that made it deletes the old SA. An end that has answered the peer's
// request but waits for its own answer cannot know yet: the peer's heir stays undecided,
// until our answer comes, or the peer shows what it has decided by deleting one of the
// SAs or by using its heir.

// peerHeir takes the heir that the peer's exchange made.
func (m *Machine) peerHeir(now time.Time, n *Machine, ni, nr []byte) {
	own := m.ownIKE()
	if own == nil || m.prep != nil && !own.taken {
		m.handOver(now, n, m) // ours, if any, has not been sent
		return
	}
	own.rival = lowest(ni, nr)
	m.successor, n.older = n, m
}

// ownHeir takes the heir that our exchange made.
func (m *Machine) ownHeir(now time.Time, n *Machine, x *ikeTask, nr []byte) {
	other := m.successor
	if m.state != StateEstablished {
		// The peer's has won already, or the SA is being closed.
		n.condemn(now, ReasonRedundant)
		return
	}
	if other != nil && m.weLose(x.ni, nr, x.rival) {
		m.debug("IKE SA lost against the peer's")
		n.condemn(now, ReasonRedundant)
		m.handOver(now, other, m) // the peer deletes the old one
		return
	}
	if other != nil {
		// The peer deletes it. If it has forgotten its exchange, nobody does.
		m.successor = nil
		other.older, other.redundant = nil, true
		other.life = now.Add(redundantLife)
		m.emit(&Wake{Machine: other})
	}
	m.handOver(now, n, m)
	m.unserve(now)
	// RFC 7296, Section 2.8: our last request on it.
	m.state, m.life = StateDeleting, time.Time{}
	m.queue = []*task{{kind: taskClose}}
	m.pump(now)
}

// chosenByPeer is a request on an heir that was not decided on yet: unless it is its
// Delete, the peer has decided.
func (m *Machine) chosenByPeer(now time.Time, msg *message) {
	old := m.older
	if old == nil {
		return
	}
	m.older = nil
	for _, p := range msg.ps {
		if d, ok := p.(*wire.Delete); ok && d.Protocol == wire.ProtocolIKE {
			old.successor = nil
			return
		}
	}
	old.handOver(now, m, m)
	m.emit(&Wake{Machine: old})
}

// detach makes an undecided heir nobody's.
func (m *Machine) detach() {
	if m.older != nil {
		m.older.successor, m.older = nil, nil
	}
}

// abandon takes an undecided heir along when its SA ends.
func (m *Machine) abandon(now time.Time, tell bool) {
	n := m.successor
	if n == nil {
		return
	}
	m.successor = nil
	n.older = nil
	if tell {
		n.condemn(now, ReasonDeleted)
	} else {
		n.finish(now, ReasonFailed)
	}
	m.emit(&Wake{Machine: n})
}
