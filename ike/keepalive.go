package ike

import "time"

// This file is the NAT keepalive (RFC 3948, Section 4): an end whose address is translated
// keeps the translation, or the peer could not reach it any more (RFC 7296, Section 2.23). It
// is no sign of life: nobody answers it.

// keepalive is when the NAT in front of us needs a packet; zero: never.
func (m *Machine) keepalive() time.Time {
	if m.state != StateEstablished || m.undecided() || !m.has(flagLocalNAT) {
		return time.Time{}
	}
	return m.spoke.Add(keepaliveGap)
}

// keepAlive sends one if nothing else went out.
func (m *Machine) keepAlive(now time.Time) {
	if due(m.keepalive(), now) {
		m.spoke = now
		m.emit(&Keepalive{Path: m.path})
	}
}
