package ike

import (
	"errors"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// This file is INFORMATIONAL (RFC 7296, Section 1.4) and the commands that lead to
// requests after the SA is established.

var (
	errQueue     = errors.New("ike: too many requests wait for the peer")
	errMalformed = errors.New("it calls our request malformed")
)

// taskKind says what a command does.
type taskKind uint8

const (
	taskCreate   taskKind = 1 + iota // child
	taskDelete                       // child SA by our inbound SPI, installed or not
	taskClose                        // the IKE SA; tells notify instead of a Delete if set
	taskLiveness                     // an empty request
	taskRekey                        // child SA by our inbound SPI, to be replaced
	taskRekeyIKE                     // ike
)

// task is a command that becomes a request when the window allows (RFC 7296,
// Section 2.3).
type task struct {
	kind   taskKind
	child  *childTask
	ike    *ikeTask
	spi    uint32
	notify wire.NotifyType
	at     time.Time // not before; zero: now
}

// over reports whether the SA takes no more commands.
func (m *Machine) over() bool {
	return m.state == StateClosed || m.state == StateLinger || m.state == StateDeleting || m.state == StateReplaced || m.reason == ReasonDeleted
}

// enqueue adds a command; false if too many wait already.
func (m *Machine) enqueue(t *task) bool {
	if len(m.queue) >= maxQueue {
		return false
	}
	m.queue = append(m.queue, t)
	return true
}

// pump starts the next command if nothing is outstanding.
func (m *Machine) pump(now time.Time) {
	for m.idle() {
		i := slices.IndexFunc(m.queue, func(t *task) bool { return !now.Before(t.at) })
		if i < 0 {
			return
		}
		t := m.queue[i]
		m.queue = slices.Delete(m.queue, i, i+1)
		if len(m.queue) == 0 {
			m.queue = nil
		}
		m.start(now, t)
	}
}

// idle reports whether a request could be started.
func (m *Machine) idle() bool {
	return (m.state == StateEstablished && !m.has(flagPeerRekeys) || m.state == StateDeleting) && m.req == nil && m.prep == nil
}

// waiting is when the next command that has to wait may start.
func (m *Machine) waiting() (d time.Time) {
	if m.idle() {
		for _, t := range m.queue {
			sooner(&d, t.at)
		}
	}
	return d
}

func (m *Machine) start(now time.Time, t *task) {
	switch t.kind {
	case taskCreate:
		if t.child.wants {
			m.childEnds(t.child, ErrClosed)
			return
		}
		m.startCreate(now, t)
	case taskDelete:
		m.send(now, wire.ExchangeInformational, t, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{t.spi}})
	case taskClose:
		if t.notify != 0 {
			m.send(now, wire.ExchangeInformational, t, notify(t.notify, nil))
			return
		}
		m.send(now, wire.ExchangeInformational, t, &wire.Delete{Protocol: wire.ProtocolIKE})
	case taskLiveness:
		m.send(now, wire.ExchangeInformational, t)
	case taskRekey:
		m.startRekey(t)
	case taskRekeyIKE:
		m.startRekeyIKE(now, t)
	}
}

// DeleteChild deletes the child SA with our inbound SPI: ChildRemoved follows when
// the peer has answered. One that is only asked for yet ends in SPIReleased and
// ChildFailed, or is deleted as soon as it is there.
func (m *Machine) DeleteChild(now time.Time, inSPI uint32) {
	m.verified = true
	defer m.caught(now)
	if c := m.childIn(inSPI); c != nil && !c.larval {
		if t := m.ownRekey(inSPI); t != nil {
			t.wants = true // its successor goes too
		}
		m.deleteChild(c)
		m.pump(now)
		return
	}
	for i, t := range m.queue {
		if t.child != nil && t.child.req.SPI == inSPI {
			m.queue = slices.Delete(m.queue, i, i+1)
			m.childEnds(t.child, ErrClosed)
			return
		}
	}
	late := []*childTask{}
	if m.hs != nil && m.hs.child != nil {
		late = append(late, m.hs.child)
	}
	if m.req != nil && m.req.task != nil && m.req.task.child != nil {
		late = append(late, m.req.task.child)
	}
	if m.prep != nil && m.prep.child != nil {
		late = append(late, m.prep.child)
	}
	for _, t := range late {
		if t.req.SPI == inSPI {
			t.wants = true
		}
	}
}

func (m *Machine) deleteChild(c *child) {
	if c.deleted {
		return
	}
	c.deleted = true
	// At the front: it frees what others wait for, and the queue can't refuse it.
	m.queue = slices.Insert(m.queue, 0, &task{kind: taskDelete, spi: c.in})
}

// Delete closes the IKE SA and all its child SAs, and tells the peer; Closed
// follows. Before IKE_AUTH is sent or answered the peer is not told. While
// IKE_AUTH is out, its answer is waited for and then deleted.
func (m *Machine) Delete(now time.Time) {
	m.verified = true
	defer m.caught(now)
	switch m.state {
	case StateClosed, StateLinger, StateDeleting, StateReplaced:
	case StateIdle, StateInitKey, StateInitSent, StateInitDone, StateInitBusy, StateHalfOpen, StateAuthBusy:
		m.teardown(ErrClosed, ReasonDeleted)
		m.finish(now, ReasonDeleted)
	case StateAuthSent, StateAuthCheck:
		m.reason = ReasonDeleted
		if m.hs.child != nil {
			m.childEnds(m.hs.child, ErrClosed)
		}
		for _, t := range m.queue {
			if t.child != nil {
				m.childEnds(t.child, ErrClosed)
			}
		}
		m.queue = nil
	case StateEstablished:
		m.startDelete(now, ErrClosed, ReasonDeleted, 0)
	}
}

// Replaced closes the IKE SA and all its child SAs without a word, for the peer has lost
// it: INITIAL_CONTACT on a newer SA with the same identity said so (RFC 7296,
// Section 2.4). Closed follows.
func (m *Machine) Replaced(now time.Time) {
	m.verified = true
	defer m.caught(now)
	if m.state == StateClosed || m.state == StateLinger {
		return
	}
	m.teardown(ErrClosed, ReasonReplaced)
	m.abandon(now, false)
	m.finish(now, ReasonReplaced)
}

// abort fails the SA and tells the peer, by a notify if it is not zero, else by a
// Delete.
func (m *Machine) abort(now time.Time, err error, n wire.NotifyType) {
	if m.lose(err) {
		return
	}
	if m.state == StateDeleting {
		m.fail(now, err)
		return
	}
	m.startDelete(now, err, ReasonFailed, n)
}

// startDelete ends everything here and now, and tells the peer when the window
// allows.
func (m *Machine) startDelete(now time.Time, err error, why Reason, n wire.NotifyType) {
	m.teardown(err, why)
	if why == ReasonFailed {
		m.emit(&Failed{Err: err})
		m.debug("IKE SA failed", "error", err)
	}
	m.dropHandshake()
	m.detach()
	m.reason = why
	m.state = StateDeleting
	// A request in service can't be finished: its Work has nobody to go to.
	m.unserve(now)
	if m.state != StateDeleting {
		return
	}
	m.setFlag(flagPeerRekeys, false)
	m.abandon(now, true)
	m.queue = []*task{{kind: taskClose, notify: n}}
	m.pump(now)
}

// unserve answers the request in service, if any, with TEMPORARY_FAILURE (RFC 7296,
// Section 2.25.2).
func (m *Machine) unserve(now time.Time) {
	if m.win.serving != nil {
		m.respond(now, notify(wire.NotifyTemporaryFailure, nil))
	}
}

// informationalAck takes an INFORMATIONAL response: what we wanted is done.
func (m *Machine) informationalAck(now time.Time, msg *message) {
	t := m.req.task
	m.req = nil
	if t == nil {
		return
	}
	if n := findNotify(msg.ps, wire.NotifyInvalidSyntax); n != nil && t.kind != taskClose {
		// RFC 7296, Section 2.21.3: fatal at both ends (ADV-F15).
		m.fail(now, m.refusal(n.NType, msg.Exchange, true, "", errMalformed))
		return
	}
	switch t.kind {
	case taskDelete:
		// Whether the peer named its half or knew nothing of it: ours is gone.
		if c := m.childIn(t.spi); c != nil {
			if c.why != ReasonReplaced { // by ours: the peer's is redundant
				m.takeOver(c)
			}
			m.remove(c, ReasonDeleted)
		}
	case taskClose:
		m.finish(now, m.reason)
	case taskLiveness, taskCreate, taskRekey, taskRekeyIKE:
	}
}

// informational takes an INFORMATIONAL request.
func (m *Machine) informational(now time.Time, msg *message) {
	m.authLifetime(now, msg.ps)
	var answer []uint32
	closing := false
	for _, p := range msg.ps {
		d, ok := p.(*wire.Delete)
		if !ok || d.Unusable {
			continue
		}
		switch d.Protocol {
		case wire.ProtocolIKE:
			if m.faulty(faultCloseTwice) {
				m.peerCloses(now)
			}
			closing = true
		case wire.ProtocolESP:
			for _, spi := range d.SPIs {
				answer = m.peerDeletes(answer, spi)
			}
		case wire.ProtocolNone, wire.ProtocolAH:
		}
	}
	// RFC 7296, Section 2.21.2: right after IKE_AUTH these end the SA without a
	// Delete. Later ones we treat alike: the peer has no SA any more.
	var bad *wire.Notify
	for _, t := range []wire.NotifyType{wire.NotifyAuthenticationFailed, wire.NotifyInvalidSyntax, wire.NotifyUnsupportedCriticalPayload} {
		if n := findNotify(msg.ps, t); n != nil {
			bad = n
		}
	}
	var ps []wire.Payload
	if len(answer) > 0 && !closing {
		ps = append(ps, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: answer})
	}
	m.respond(now, ps...)
	switch {
	case m.state != StateEstablished && m.state != StateDeleting && m.state != StateReplaced:
	case bad != nil:
		m.fail(now, m.refusal(bad.NType, msg.Exchange, true, "it ended the IKE SA", nil))
	case closing: // once, whatever else was in the message (ADV-F9, CVE-2023-38712)
		m.peerCloses(now)
	}
}

// peerDeletes removes the child SA whose peer's inbound SPI is spi and appends our
// inbound SPI to the answer, unless our own Delete for it has been sent (RFC 7296,
// Sections 1.4.1 and 2.25.1). SPIs of other SAs are ignored (ADV-F8).
func (m *Machine) peerDeletes(answer []uint32, spi uint32) []uint32 {
	i := slices.IndexFunc(m.children, func(c *child) bool { return c.out == spi })
	if i < 0 {
		// The Delete may have overtaken the response that would tell us of the SA.
		if m.req != nil && m.req.task != nil && m.req.task.child != nil && len(m.req.task.child.gone) < maxGone {
			m.req.task.child.gone = append(m.req.task.child.gone, spi)
		}
		return answer
	}
	c := m.children[i]
	m.takeOver(c) // RFC 7296, Section 2.8
	if c.replaced {
		c.why = ReasonReplaced
	}
	sent := m.req != nil && m.req.task != nil && m.req.task.kind == taskDelete && m.req.task.spi == c.in
	m.queue = slices.DeleteFunc(m.queue, func(t *task) bool { return t.kind == taskDelete && t.spi == c.in })
	m.remove(c, ReasonPeerDeleted)
	if sent {
		return answer
	}
	return append(answer, c.in)
}

// peerCloses ends the SA because the peer deleted it.
func (m *Machine) peerCloses(now time.Time) {
	if m.state == StateEstablished && m.successor != nil {
		// RFC 7296, Section 2.8.2: the peer's heir has won; ours is forgotten.
		m.handOver(now, m.successor, m)
	}
	why := ReasonPeerDeleted
	if m.state == StateDeleting || m.state == StateReplaced {
		why = m.reason
	}
	m.teardown(&PeerClosedError{Peer: m.peerName()}, ReasonPeerDeleted)
	m.debug("IKE SA deleted by peer")
	m.finish(now, why)
}
