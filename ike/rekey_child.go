package ike

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// This file is the rekeying of a child SA that we start (RFC 7296, Sections 1.3.3, 2.8
// and 2.8.1), and what happens when the peer starts one at the same time. The
// responder's part is in child.go.

// RekeyChild replaces a child SA by one with new keys: WorkRekey follows when its turn
// comes, and in the end ChildInbound and ChildOutbound of the new one and ChildRemoved
// of the old one, or RekeyFailed. A child SA that is being replaced or deleted already
// is left alone.
func (m *Machine) RekeyChild(now time.Time, inSPI uint32) {
	m.verified = true
	defer m.caught(now)
	if c := m.childIn(inSPI); c != nil && m.state == StateEstablished {
		m.rekeyChild(now, c)
	}
	m.pump(now)
}

// rekeyChild queues the rekeying of a child SA, unless it is under way.
func (m *Machine) rekeyChild(now time.Time, c *child) {
	if c.larval || c.deleted || c.replaced || c.rekeying {
		return
	}
	c.soft = time.Time{}
	if !m.enqueue(&task{kind: taskRekey, spi: c.in}) {
		c.soft = now.Add(m.backoff(0))
		return
	}
	c.rekeying = true
}

// startRekey asks for an SPI and proposals.
func (m *Machine) startRekey(t *task) {
	c := m.childIn(t.spi)
	if c == nil || c.deleted || c.replaced {
		return // overtaken by events
	}
	m.prep = t
	ask(m, &WorkRekey{ID: m.workID(), InSPI: c.in, Ref: c.ref, Name: c.name, Suite: c.suite, Pair: c.pair, Transport: c.transport},
		func(now time.Time, r *RekeyResult) {
			m.prep = nil
			x := &childTask{rekey: t.spi}
			if r.Err != nil || r.SPI == 0 {
				m.createFails(now, x, fmt.Errorf("ike: %s: nothing to rekey child SA %s with: %w", m.peerName(), c.name, orMissing(r.Err)))
				return
			}
			m.reserve(r.SPI)
			x.req = ChildRequest{Name: c.name, Ref: c.ref, SPI: r.SPI, Proposals: r.Proposals, Pair: c.pair, Transport: c.transport, Terms: r.Terms}
			if len(r.Proposals) == 0 {
				// RFC 7296, Section 2.8: the same algorithms.
				x.req.Proposals = m.sameSuite(c)
			}
			// One task from here on: retries and failures treat it as they treat others.
			m.startCreate(now, &task{kind: taskCreate, child: x})
		})
}

// moot reports that a rekeying has nothing to replace any more: the old child SA is
// gone, going, or replaced by the peer.
func (m *Machine) moot(t *childTask) bool {
	if t.rekey == 0 {
		return false
	}
	c := m.childIn(t.rekey)
	return c == nil || c.deleted || c.replaced
}

// createFails ends a request for a child SA. If it was to replace another, that one
// lives on, and is tried again later.
func (m *Machine) createFails(now time.Time, t *childTask, err error) {
	m.childEnds(t, err)
	c := m.childIn(t.rekey)
	if t.rekey == 0 || c == nil {
		return
	}
	c.rekeying = false
	if c.deleted || c.replaced || m.state != StateEstablished {
		return
	}
	c.soft = now.Add(m.backoff(c.tries))
	c.tries++
	var busy *NotifyError
	if errors.As(err, &busy) && busy.Type == wire.NotifyTemporaryFailure {
		return // nothing to worry about yet
	}
	m.emit(&RekeyFailed{InSPI: c.in, Ref: c.ref, Name: c.name, Err: err, Next: c.soft})
}

// ownRekey finds our request, sent or being prepared, to rekey a child SA.
func (m *Machine) ownRekey(spi uint32) *childTask {
	if m.req != nil && m.req.task != nil && m.req.task.child != nil && m.req.task.child.rekey == spi {
		return m.req.task.child
	}
	if m.prep != nil && m.prep.child != nil && m.prep.child.rekey == spi {
		return m.prep.child
	}
	return nil
}

// peerRekeyed notes that the peer has replaced a child SA, with the nonces of its
// exchange. Ours may be under way (RFC 7296, Section 2.8.1).
func (m *Machine) peerRekeyed(old *child, ni, nr []byte) {
	old.replaced = true
	old.soft = time.Time{}
	if t := m.ownRekey(old.in); t != nil {
		low := lowest(ni, nr)
		if t.rival == nil || bytes.Compare(low, t.rival) < 0 {
			t.rival = bytes.Clone(low)
		}
	}
}

// lowest returns the lower of two nonces: octet by octet, and one that ends first is
// lower (RFC 7296, Section 2.8.1).
func lowest(a, b []byte) []byte {
	if bytes.Compare(a, b) <= 0 {
		return a
	}
	return b
}

// weLose reports whether of two exchanges that replace the same SA ours has the lowest
// nonce: what it made is closed by us who made it (RFC 7296, Section 2.8.1).
func (m *Machine) weLose(ni, nr, rival []byte) bool {
	if rival == nil {
		return false
	}
	lower := bytes.Compare(lowest(ni, nr), rival) < 0
	return lower != m.faulty(faultNonceOrder)
}

// replace goes over from an old child SA to the one that our exchange has made, or
// closes the latter if the peer's wins.
func (m *Machine) replace(t *childTask, c *child, outbound *ChildOutbound, ni, nr []byte) {
	if m.weLose(ni, nr, t.rival) {
		// The peer may send on it until it gets our Delete; we never do.
		outbound.Key.Zero()
		c.why = ReasonRedundant
		m.debug("child SA lost against the peer's", "esp.spi", fmt.Sprintf("%08x", c.in))
		m.deleteChild(c)
		return
	}
	m.emit(outbound)
	if old := m.childIn(t.rekey); old != nil {
		old.replaced = true
		if old.why == 0 {
			old.why = ReasonReplaced
		}
		m.deleteChild(old)
	}
}

// notFound is a peer that does not know the child SA we want to rekey (RFC 7296,
// Section 2.25): we forget it silently and ask for a new one. If it has gone
// meanwhile, the peer has replaced or deleted it: nothing is missing.
func (m *Machine) notFound(t *childTask) {
	c := m.childIn(t.rekey)
	if c == nil || c.deleted || c.replaced {
		m.childEnds(t, nil)
		return
	}
	m.remove(c, ReasonLost)
	t.rekey, t.rival = 0, nil
	m.again(t, time.Time{})
}

// again sends a request for a child SA once more, not before at.
func (m *Machine) again(t *childTask, at time.Time) {
	t.key = nil
	m.queue = slices.Insert(m.queue, 0, &task{kind: taskCreate, child: t, at: at})
}

// backoff is how long to wait before what failed n times is tried again.
func (m *Machine) backoff(n uint8) time.Duration {
	d := min(retryFirst<<min(n, 8), retryMost)
	return d/2 + time.Duration(m.draw()%uint64(d))
}

// temporary handles TEMPORARY_FAILURE (RFC 7296, Section 2.25): never at once again,
// and after minutes of nothing else the SA is given up, for the ends do not agree on
// what there is. It reports whether the SA still stands.
func (m *Machine) temporary(now time.Time, msg *message) bool {
	if m.refused.IsZero() || now.Sub(m.refusedLast) > refusedGap {
		m.refused = now
	}
	m.refusedLast = now
	if now.Sub(m.refused) < refusedMost {
		return true
	}
	m.abort(now, m.refusal(wire.NotifyTemporaryFailure, msg.Exchange, true,
		fmt.Sprintf("for %s", now.Sub(m.refused).Round(time.Second)), nil), 0)
	return false
}

// sameSuite is an offer of the suite in use and nothing else.
func (m *Machine) sameSuite(c *child) []wire.Proposal {
	ps, err := suite.ESPProposals(c.suite.String())
	if err != nil {
		m.debug("no proposal for the suite in use", "error", err)
	}
	return ps
}
