package ike

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/suite"
)

// This file is what an initiator does about several responses to its IKE_SA_INIT request:
// anybody who sees it can answer, and be first (RFC 7296, Section 2.4). Each that fits is
// taken for true, gets keys and an IKE_AUTH of its own, and the one whose peer authenticates
// wins. Whatever goes wrong with another costs only that one.

// branch is what depends on which response is the true one. Of an SA that is established,
// or of a responder, there is one.
type branch struct {
	state State
	flags flags
	spir  uint64
	path  Path
	suite suite.IKE
	skd   suite.Secret
	in    *suite.Protector // opens the peer's messages
	out   *suite.Protector // seals ours
	hs    *handshake       // nil once established

	frags  [2]*reassembly // by direction
	nextID uint32         // of our next request
	req    *exchange      // our request that waits for its response
}

// fork parks the branch in use for one of its own for the response raw. It reports false if
// that response was seen before, or there are enough.
func (m *Machine) fork(raw []byte) bool {
	spir := binary.BigEndian.Uint64(raw[8:])
	seen := func(b *branch) bool { return len(b.hs.msg2) >= 16 && binary.BigEndian.Uint64(b.hs.msg2[8:]) == spir }
	if seen(&m.branch) || slices.ContainsFunc(m.rivals, seen) || len(m.rivals)+1 >= maxResponses {
		return false
	}
	hs := *m.hs
	hs.nr, hs.msg1, hs.msg2, hs.keys, hs.peerHashes = nil, nil, nil, nil, nil
	hs.childless, hs.deferred = false, false
	parked := m.branch
	m.rivals = append(m.rivals, &parked)
	m.branch = branch{state: StateInitSent, path: hs.origin, hs: &hs, nextID: 1}
	m.debug("another IKE_SA_INIT response", "responses", len(m.rivals)+1)
	return true
}

// swap uses another branch.
func (m *Machine) swap(b *branch) { m.branch, *b = *b, m.branch }

// resume uses the branch of a handshake, and reports whether it is still there.
func (m *Machine) resume(hs *handshake) bool {
	if m.hs == hs {
		return true
	}
	for _, b := range m.rivals {
		if b.hs == hs {
			m.swap(b)
			return true
		}
	}
	return false
}

// rival is the parked branch with the responder's SPI; nil: none.
func (m *Machine) rival(spir uint64) *branch {
	for _, b := range m.rivals {
		if b.spir == spir && spir != 0 {
			return b
		}
	}
	return nil
}

// lose gives the branch in use up for one that is left; false: there is none.
func (m *Machine) lose(err error) bool {
	n := len(m.rivals)
	if n == 0 {
		return false
	}
	m.debug("IKE_SA_INIT response given up", "error", err)
	m.swap(m.rivals[n-1])
	m.rivals[n-1].wipe()
	m.rivals = m.rivals[:n-1]
	return true
}

// dropRivals gives all others up.
func (m *Machine) dropRivals() {
	for _, b := range m.rivals {
		b.wipe()
	}
	m.rivals = nil
}

// wipe erases the keys.
func (b *branch) wipe() {
	if b.hs != nil && b.hs.keys != nil {
		b.hs.keys.Zero()
	}
	b.hs = nil
	b.skd.Zero()
	b.skd = nil
	for _, p := range []*suite.Protector{b.in, b.out} {
		if p != nil {
			p.Zero()
		}
	}
	b.in, b.out = nil, nil
}

// rivalsDue is when a parked request is to be sent again.
func (m *Machine) rivalsDue() (d time.Time) {
	for _, b := range m.rivals {
		if b.req != nil {
			sooner(&d, b.req.at)
		}
	}
	return d
}

// tickRivals sends parked requests again.
func (m *Machine) tickRivals(now time.Time) {
	using := m.hs
	for _, b := range slices.Clone(m.rivals) {
		if hs := b.hs; hs != nil && b.req != nil && due(b.req.at, now) && m.resume(hs) {
			m.resend(now)
			m.resume(using)
		}
	}
}

// initOnceMore sends IKE_SA_INIT again while no IKE_AUTH is answered: the true response may
// have been lost, and nobody answers the one that was taken.
func (m *Machine) initOnceMore() {
	if m.state != StateAuthSent || m.req.sends < initAgainSends {
		return
	}
	x := m.hs.init
	if x == nil || x.sends >= m.cfg.Retransmit.sends() {
		return
	}
	x.sends++
	m.count(func(c *Counters) { c.Resends.Add(1) })
	m.transmit(m.hs.origin, x.raw)
}
