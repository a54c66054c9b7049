package ike

import (
	"fmt"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// This file is how an end finds out that the peer is gone, or has lost the SA (RFC 7296,
// Section 2.4). An SA dies of one thing only: a request that is not answered. Before that
// there is a suspicion, on which who runs the machine may make another SA beside this one.
// Unauthenticated hints are no more than a reason to ask (Sections 1.5 and 2.21.4).

func (c *Config) dpdTimeout() time.Duration {
	if c.DPDTimeout > 0 {
		return min(c.DPDTimeout, maxTotal)
	}
	return defaultDPDTimeout
}

// liveness is when the peer is asked for a sign of life; zero: not planned.
func (m *Machine) liveness() time.Time {
	if m.cfg.DPDDelay <= 0 || !m.mayProbe() {
		return time.Time{}
	}
	return m.heard.Add(m.cfg.DPDDelay)
}

// mayProbe reports whether a sign of life could be asked for, and is not already.
func (m *Machine) mayProbe() bool {
	return m.state == StateEstablished && m.prep == nil && !m.undecided() && (m.req == nil || !m.req.probe)
}

// CheckLiveness asks the peer for a sign of life, unless that is being done.
func (m *Machine) CheckLiveness(now time.Time) {
	m.verified = true
	defer m.caught(now)
	if m.mayProbe() {
		m.probe(now)
		m.pump(now)
	}
}

// probe asks for a sign of life. The window is one request (RFC 7296, Section 2.3), and any
// answer is a sign of life: one that is outstanding is the probe from now on, and the sends
// it has left are spread over its time.
func (m *Machine) probe(now time.Time) {
	if m.req == nil {
		m.enqueue(&task{kind: taskLiveness})
		return
	}
	m.mustAnswer(now)
	if left := m.cfg.Retransmit.sends() - m.req.sends; left > 0 {
		m.req.pace = m.req.end.Sub(now) / time.Duration(left)
		m.sendAgain(now)
	}
}

// mustAnswer makes the outstanding request one on which the peer's life depends.
func (m *Machine) mustAnswer(now time.Time) {
	x := m.req
	x.probe = true
	if m.has(flagConfirmed) {
		// Else its initiator may not have got the IKE_AUTH response yet, and drops what we
		// ask: it has as long as its own schedule.
		sooner(&x.end, now.Add(m.cfg.dpdTimeout()))
	}
	sooner(&x.at, x.end)
}

// suspect says that the peer may have lost this SA.
func (m *Machine) suspect(err error) {
	if m.state != StateEstablished || m.undecided() || m.has(flagSuspect) {
		return
	}
	m.setFlag(flagSuspect, true)
	m.debug("peer is suspected to have lost the IKE SA", "error", err)
	m.emit(&Suspect{Err: err})
}

// alive takes a suspicion back: the peer has sent something that only it could.
func (m *Machine) alive(now time.Time) {
	m.heard = now
	if m.state == StateEstablished {
		m.setFlag(flagConfirmed, true)
	}
	if m.has(flagSuspect) {
		m.setFlag(flagSuspect, false)
		m.emit(&Cleared{})
	}
}

// Doubt passes on a hint that the peer may have lost this SA, such as INVALID_SPI for one
// of its child SAs. Anybody could have made it: the peer is asked for a sign of life, not
// too often, and nothing else changes. If it has been silent it is a suspect.
func (m *Machine) Doubt(now time.Time, hint error) {
	m.verified = true
	defer m.caught(now)
	m.doubt(now, hint)
	m.pump(now)
}

func (m *Machine) doubt(now time.Time, hint error) {
	if m.state != StateEstablished || m.undecided() || !m.doubted.IsZero() && now.Sub(m.doubted) < doubtGap {
		return
	}
	m.doubted = now
	if m.mayProbe() {
		m.probe(now)
	}
	if now.Sub(m.heard) >= hintSilence {
		m.suspect(hint)
	}
}

// unprotected takes a response to our outstanding request that nobody signed. Only
// INVALID_IKE_SPI makes sense there: the peer has no such SA (RFC 7296, Section 2.21.4).
func (m *Machine) unprotected(now time.Time, msg *message) Drop {
	n := findNotify(msg.ps, wire.NotifyInvalidIKESPI)
	if n == nil || msg.path.Remote != m.path.Remote {
		return DropClear
	}
	err := m.refusal(n.NType, msg.Exchange, true, fmt.Sprintf("it does not know the IKE SA %016x-%016x", m.spii, m.spir), nil)
	err.Verified = false
	if m.hs != nil {
		m.unverified(now, err) // IKE_AUTH: the peer was restarted since IKE_SA_INIT
	} else {
		m.doubt(now, err)
		m.pump(now)
	}
	return DropNotify
}
