package ike

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// Terms say how long a child SA is used and what its owner wants when it goes. The
// zero value keeps it until it is deleted.
type Terms struct {
	Lifetime
	Inactivity  time.Duration // deleted after this long without a packet either way; 0: never
	DPDAction   Action        // when the peer is dead
	CloseAction Action        // when the peer deletes it, or it expires
}

// Lifetime bounds the use of a child SA's keys, in swanctl.conf's words. Rekey is the
// soft limit, at which the SA is replaced; Life the hard one, at which it goes even if
// nothing replaces it. 0 as Rekey is no limit; 0 as Life is 110 % of Rekey; 0 as Rand is
// Life − Rekey. A random part of Rand is taken off Rekey, so that two ends with equal
// times rarely rekey at once (RFC 7296, Section 2.8.1). Octets and packets count for
// each direction.
type Lifetime struct {
	Rekey, Life, Rand                      time.Duration
	RekeyBytes, LifeBytes, RandBytes       uint64
	RekeyPackets, LifePackets, RandPackets uint64
	Exact                                  bool // take nothing off
}

// Limits are what the data plane counts for a child SA, each direction by itself; 0:
// no limit. At a soft limit it calls SoftLimit. At a hard one it carries no packet
// more and calls Exhausted; so too when sequence numbers run out.
type Limits struct {
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
}

// Action is what is to be done about the traffic of a child SA that is gone.
type Action uint8

// The actions, by swanctl.conf's names.
const (
	ActionNone  Action = iota // clear: nothing
	ActionTrap                // make it again when a packet wants it
	ActionStart               // start or restart: make it again now
)

// String returns swanctl.conf's word.
func (a Action) String() string {
	switch a {
	case ActionNone:
		return "none"
	case ActionTrap:
		return "trap"
	case ActionStart:
		return "start"
	}
	return "invalid"
}

// IKELife bounds an IKE SA, in swanctl.conf's words. Over is the time between the soft
// limit and the hard one, 10 % of the greater of Rekey and Reauth if 0; a random part of
// Rand, Over if 0, is taken off both.
type IKELife struct {
	Rekey  time.Duration // new keys, same SA (RFC 7296, Section 2.18); 0: never
	Reauth time.Duration // a Reauthenticate event; 0: never
	Over   time.Duration
	Rand   time.Duration
	Exact  bool // take nothing off
}

// limits returns the soft and the hard limit for one resource; 0: none.
func limits(rekey, life, spread uint64, exact bool, random uint64) (soft, hard uint64) {
	if rekey == 0 {
		return 0, life
	}
	if life == 0 {
		life = rekey + rekey/10
	}
	if life < rekey {
		rekey = life
	}
	if spread == 0 {
		spread = life - rekey
	}
	if exact || spread == 0 {
		return rekey, life
	}
	if spread >= rekey {
		spread = rekey / 2
	}
	return rekey - random%(spread+1), life
}

// draw returns a random number for jitter. It is no secret; a random source that fails
// makes no jitter.
func (m *Machine) draw() uint64 {
	b, err := m.random(8)
	if err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// times returns when a child SA made at now is to be rekeyed and when it expires.
func (m *Machine) times(now time.Time, l *Lifetime) (soft, hard time.Time) {
	pos := func(d time.Duration) uint64 { return uint64(max(d, 0)) }
	var r uint64
	if l.Rekey > 0 && !l.Exact {
		r = m.draw()
	}
	s, h := limits(pos(l.Rekey), pos(l.Life), pos(l.Rand), l.Exact, r)
	return after(now, s), after(now, h)
}

func after(now time.Time, d uint64) time.Time {
	if d == 0 || d > math.MaxInt64 {
		return time.Time{}
	}
	return now.Add(time.Duration(d))
}

// limits returns what the data plane is to count.
func (m *Machine) limits(l *Lifetime) Limits {
	var x Limits
	var r uint64
	if (l.RekeyBytes > 0 || l.RekeyPackets > 0) && !l.Exact {
		r = m.draw()
	}
	x.SoftBytes, x.HardBytes = limits(l.RekeyBytes, l.LifeBytes, l.RandBytes, l.Exact, r)
	x.SoftPackets, x.HardPackets = limits(l.RekeyPackets, l.LifePackets, l.RandPackets, l.Exact, r)
	return x
}

// ikeTimes sets when the IKE SA made at now is to be rekeyed, and expires.
func (m *Machine) ikeTimes(now time.Time) {
	l := &m.cfg.Life
	if l.Rekey > 0 {
		m.soft, m.hard = m.times(now, &Lifetime{Rekey: l.Rekey, Life: l.Rekey + l.over(), Rand: l.Rand, Exact: l.Exact})
	}
}

// authTimes sets when to authenticate anew after it was done at now, and returns what a
// responder tells the peer of it, or nil (RFC 4478, Section 2).
func (m *Machine) authTimes(now time.Time) *wire.Notify {
	m.proven = now
	l := &m.cfg.Life
	if l.Reauth <= 0 {
		return nil
	}
	m.authUntil = now.Add(l.Reauth + l.over())
	if m.role == Initiator {
		m.authSoft, _ = m.times(now, &Lifetime{Rekey: l.Reauth, Life: l.Reauth + l.over(), Rand: l.Rand, Exact: l.Exact})
		return nil
	}
	return notify(wire.NotifyAuthLifetime, binary.BigEndian.AppendUint32(nil, uint32(min(l.Reauth/time.Second, math.MaxUint32))))
}

// authLifetime takes the peer's AUTH_LIFETIME: the time from now within which to
// authenticate anew. A tenth of it is left for doing so.
func (m *Machine) authLifetime(now time.Time, ps []wire.Payload) {
	n := findNotify(ps, wire.NotifyAuthLifetime)
	if n == nil || len(n.Data) != 4 || m.reauths > 0 {
		return
	}
	d := time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second
	d -= d / 10
	if d > 0 && !m.cfg.Life.Exact {
		d -= time.Duration(m.draw() % uint64(d/10+1))
	}
	at := now.Add(d)
	if least := m.proven.Add(minAuthLifetime); at.Before(least) {
		at = least
	}
	sooner(&m.authSoft, at)
}

// Times are when an SA is replaced, and when it ends if it was not; zero: never.
type Times struct {
	Rekey  time.Time // new keys
	Reauth time.Time // of an IKE SA: the identities are proven anew
	End    time.Time
}

// Times tells when the limits of the IKE SA come.
func (m *Machine) Times() Times { return Times{Rekey: m.soft, Reauth: m.authSoft, End: m.ends()} }

// ChildLife is where a child SA is in its life.
type ChildLife struct {
	Times         // Reauth is the IKE SA's alone
	Rekeying bool // its successor is being made
	Replaced bool // its successor has taken over
	Deleting bool // its Delete is on the way
}

// ChildLife tells it of the child SA with this inbound SPI; false: there is none.
func (m *Machine) ChildLife(inSPI uint32) (ChildLife, bool) {
	c := m.childIn(inSPI)
	if c == nil {
		return ChildLife{}, false
	}
	return ChildLife{Times: Times{Rekey: c.soft, End: c.hard}, Rekeying: c.rekeying, Replaced: c.replaced, Deleting: c.deleted}, true
}

func (l *IKELife) over() time.Duration {
	if l.Over > 0 {
		return l.Over
	}
	return max(l.Rekey, l.Reauth) / 10
}

// ends is when the IKE SA has to go.
func (m *Machine) ends() (d time.Time) {
	sooner(&d, m.hard)
	sooner(&d, m.authUntil)
	return d
}

// sooner keeps the earlier time in d; zero is never.
func sooner(d *time.Time, t time.Time) {
	if !t.IsZero() && (d.IsZero() || t.Before(*d)) {
		*d = t
	}
}

// due reports whether t is set and has come.
func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// aging is when the next child SA reaches a limit.
func (m *Machine) aging() (d time.Time) {
	if m.state != StateEstablished || m.undecided() {
		return d
	}
	d = m.ends()
	sooner(&d, m.soft)
	sooner(&d, m.authSoft)
	for _, c := range m.children {
		if c.larval {
			continue
		}
		sooner(&d, c.hard)
		if !c.deleted {
			sooner(&d, c.soft)
			sooner(&d, c.idle())
		}
	}
	return d
}

// idle is when the child SA has been without a packet for too long.
func (c *child) idle() time.Time {
	if c.inactivity <= 0 || c.replaced {
		return time.Time{}
	}
	return c.used.Add(c.inactivity)
}

var errExpired = fmt.Errorf("ike: the IKE SA reached its hard limit: %w", net.ErrClosed)

// age does what the limits of child SAs demand at now.
func (m *Machine) age(now time.Time) {
	if m.state != StateEstablished || m.undecided() {
		return
	}
	if due(m.ends(), now) {
		m.debug("IKE SA expired")
		m.startDelete(now, errExpired, ReasonExpired, 0)
		return
	}
	if due(m.authSoft, now) {
		m.reauthenticate(now, m.unfit)
	}
	if due(m.soft, now) {
		m.rekeyIKE(now)
	}
	for i := 0; i < len(m.children); {
		c := m.children[i]
		switch {
		case c.larval:
		case due(c.hard, now):
			m.expireChild(c)
			continue // it is out of the list
		case c.deleted:
		case due(c.idle(), now):
			c.why = ReasonInactive
			m.deleteChild(c)
		case due(c.soft, now):
			m.rekeyChild(now, c)
		}
		i++
	}
}

// expireChild ends the use of a child SA here and now and tells the peer when the
// window allows (RFC 7296, Section 2.8: it must not be used any more).
func (m *Machine) expireChild(c *child) {
	m.takeOver(c)
	if !c.deleted {
		m.deleteChild(c)
	}
	m.remove(c, ReasonExpired)
}

// takeOver starts sending on what replaces a child SA that goes.
func (m *Machine) takeOver(c *child) {
	for _, next := range m.children {
		if next.old == c.in {
			m.unhold(next)
		}
	}
}

// SoftLimit says that a child SA has reached a soft limit of its Limits: it is rekeyed.
// Repeated calls, and those for a child SA that is being replaced or deleted, do
// nothing.
func (m *Machine) SoftLimit(now time.Time, inSPI uint32) { m.RekeyChild(now, inSPI) }

// Exhausted says that a child SA has reached a hard limit of its Limits, or has no
// sequence numbers left: ChildRemoved follows at once. If it is being rekeyed, that
// goes on.
func (m *Machine) Exhausted(now time.Time, inSPI uint32) {
	m.verified = true
	defer m.caught(now)
	if c := m.childIn(inSPI); c != nil && !c.larval && m.state == StateEstablished {
		m.expireChild(c)
	}
	m.pump(now)
}
