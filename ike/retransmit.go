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
	raw   []byte        // sent again bit-identical (RFC 7296, Section 2.1)
	since time.Time     // first sent
	at    time.Time     // next send; zero: paused
	end   time.Time     // given up
	pace  time.Duration // between sends; zero: Config.Retransmit
	sends int
	probe bool  // it asks for a sign of life; see liveness.go
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
	x.at, x.end = now.Add(m.cfg.Retransmit.wait(1)), x.since.Add(maxTotal)
	m.req = x
	if t := x.task; t != nil && t.kind == taskLiveness {
		m.mustAnswer(now)
	}
	m.count(func(c *Counters) { c.Requests.Add(1) })
	m.spoke = now
	m.transmit(m.path, x.raw)
}

// resend sends the outstanding request again, or gives up.
func (m *Machine) resend(now time.Time) {
	x := m.req
	if m.hs != nil && m.initGivesUp(now) {
		return
	}
	all := x.sends >= m.cfg.Retransmit.sends()
	if all && x.probe && now.Before(x.end) {
		x.at = x.end
		return
	}
	if all || !now.Before(x.end) {
		m.fail(now, m.silent(now))
		return
	}
	if m.state == StateInitSent && m.hs.stale {
		// A cookie or group that came too often to be answered at once.
		m.initRetry(now, x.sends)
		return
	}
	m.initOnceMore()
	if x.sends >= suspectSends && !m.heard.After(x.since) {
		m.suspect(m.silent(now))
	}
	m.sendAgain(now)
}

// sendAgain sends the outstanding request once more.
func (m *Machine) sendAgain(now time.Time) {
	x := m.req
	x.sends++
	wait := x.pace
	if wait == 0 {
		wait = m.cfg.Retransmit.wait(x.sends)
	}
	x.at = now.Add(wait)
	sooner(&x.at, x.end)
	m.count(func(c *Counters) { c.Resends.Add(1) })
	m.spoke = now
	m.transmit(m.path, x.raw)
	m.emit(&Resent{m.told(x)})
	m.beckon(now)
}

// beckon asks a peer that does not answer for a sign of life under the SA that this one took
// over from. It may not have got the response that made this one, and not reach us to ask
// again, for a NAT has a new mapping for us: now it learns of that.
func (m *Machine) beckon(now time.Time) {
	e := m.elder
	if e == nil || e.state != StateReplaced || e.req != nil || m.state != StateEstablished {
		return
	}
	e.send(now, wire.ExchangeInformational, nil)
	m.emit(&Wake{Machine: e})
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

// silent says that the outstanding request is not answered.
func (m *Machine) silent(now time.Time) error {
	x := m.req
	err := &TimeoutError{Peer: m.peerName(), Path: m.path, Exchange: x.typ, Sends: x.sends, Elapsed: now.Sub(x.since)}
	if m.hs != nil && len(m.hs.refused) > 0 {
		err.Last = m.hs.refused[len(m.hs.refused)-1]
	}
	return err
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
