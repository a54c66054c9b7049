package ike

import (
	"errors"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// errMessageIDs is why an SA with exhausted message IDs ends.
var errMessageIDs = errors.New("ike: message IDs are used up: the IKE SA had to be replaced before")

// exchange is our one outstanding request.
type exchange struct {
	typ   wire.ExchangeType
	id    uint32
	raw   []byte    // sent again bit-identical (RFC 7296, Section 2.1)
	since time.Time // first sent
	at    time.Time // next send; zero: paused
	sends int
	task  *task // what it is for; nil in IKE_SA_INIT and IKE_AUTH
}

// wait returns the time between send n and the next, n from 1.
func (r Retransmit) wait(n int) time.Duration {
	d, f := r.Initial, r.Factor
	if d <= 0 {
		d = defaultInitial
	}
	if f == 0 {
		f = defaultFactor
	}
	most := r.Max
	if most <= 0 || most > maxTotal {
		most = maxTotal
	}
	w := float64(d)
	for range n - 1 {
		w *= max(f, 1)
	}
	return time.Duration(min(w, float64(most)))
}

func (r Retransmit) sends() int {
	if r.Sends <= 0 || r.Sends > maxSends {
		return maxSends
	}
	return r.Sends
}

// send seals and sends a request.
func (m *Machine) send(now time.Time, e wire.ExchangeType, t *task, ps ...wire.Payload) {
	id := m.nextID
	raw, err := m.seal(e, id, 0, ps)
	if err != nil {
		m.fail(now, err)
		return
	}
	m.nextID++
	m.numbered(now, id)
	m.launch(now, &exchange{typ: e, id: id, raw: raw, since: now, task: t})
	if id >= maxMessageID {
		m.exhausted(now)
	}
}

// launch sends a request for the first time.
func (m *Machine) launch(now time.Time, x *exchange) {
	x.sends = 1
	x.at = now.Add(m.cfg.Retransmit.wait(1))
	m.req = x
	m.count(func(c *Counters) { c.Requests.Add(1) })
	m.transmit(m.path, x.raw)
}

// resend sends the outstanding request again, or gives up.
func (m *Machine) resend(now time.Time) {
	x := m.req
	end := x.since.Add(maxTotal)
	if m.state == StateInitSent && m.initGivesUp(now) {
		return
	}
	if x.sends >= m.cfg.Retransmit.sends() || !now.Before(end) {
		err := &TimeoutError{Peer: m.peerName(), Path: m.path, Exchange: x.typ, Sends: x.sends, Elapsed: now.Sub(x.since)}
		if m.hs != nil && len(m.hs.refused) > 0 {
			err.Last = m.hs.refused[len(m.hs.refused)-1]
		}
		m.fail(now, err)
		return
	}
	if m.state == StateInitSent && m.hs.stale {
		// A cookie or group that came too often to be answered at once.
		m.initRetry(now, x.sends)
		return
	}
	x.sends++
	x.at = now.Add(m.cfg.Retransmit.wait(x.sends))
	if x.at.After(end) {
		x.at = end
	}
	m.count(func(c *Counters) { c.Resends.Add(1) })
	m.transmit(m.path, x.raw)
	m.emit(&Resent{m.told(x)})
}

// answered tells of the answer to a request that was sent more than once.
func (m *Machine) answered() {
	if m.req.sends > 1 {
		m.emit(&Answered{m.told(m.req)})
	}
}

func (m *Machine) told(x *exchange) Request {
	return Request{Exchange: x.typ, MessageID: x.id, Sends: x.sends, Path: m.path}
}

// numbered has the SA rekeyed long before its message IDs end.
func (m *Machine) numbered(now time.Time, id uint32) {
	if id == rekeyMessageID && m.cfg.Heirs && m.state == StateEstablished {
		m.soft = now
	}
}

// exhausted closes an SA before its message IDs wrap (RFC 7296, Section 2.2).
func (m *Machine) exhausted(now time.Time) {
	if m.state != StateDeleting {
		m.fail(now, errMessageIDs)
	}
}
