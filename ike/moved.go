package ike

import "time"

// This file is how an end follows a peer whose NAT has a new mapping for it (RFC 7296,
// Section 2.23). Who is behind a NAT itself never follows: one packet that somebody caught
// and sent from elsewhere would cut it off. LocalNAT can't be our own fake: that one is in
// the hash of our address, which only the peer compares.

// Moved says that a packet of a child SA came along path: ESP in UDP, authentic, and the
// newest of its SA. What holds for an IKE message holds for it: PathChanged follows if the
// peer is to be followed, for IKE and ESP have one mapping.
func (m *Machine) Moved(now time.Time, path Path) {
	m.verified = true
	defer m.caught(now)
	if m.has(flagEncap) && path.Remote.Port() != 0 {
		m.moved(path.unmapped())
	}
}

// moved follows the peer to where a fresh and authentic message came from.
func (m *Machine) moved(path Path) {
	if path == m.path {
		return
	}
	switch {
	case m.state == StateHalfOpen:
		// The initiator may move to port 4500 with its IKE_AUTH.
		m.path = path
	case m.path.Local.Addr().IsUnspecified() || !m.path.Local.IsValid():
		// The wire picked our address; now we know which.
		m.path.Local = path.Local
	}
	if !m.has(flagRemoteNAT) || m.has(flagLocalNAT) || path == m.path {
		return
	}
	switch m.state {
	case StateEstablished:
		m.path = path
		m.emit(&PathChanged{Path: path})
	case StateDeleting, StateReplaced:
		m.path = path // for what is still to be sent
	case StateClosed, StateIdle, StateInitKey, StateInitSent, StateInitDone, StateAuthSent, StateAuthCheck,
		StateInitBusy, StateHalfOpen, StateAuthBusy, StateLinger:
		return
	}
	// What is made by rekeying this SA, and what this one was made from and may still have
	// its Delete to send.
	for _, o := range [...]*Machine{m.successor, m.elder} {
		if o != nil {
			o.path = path
		}
	}
}
