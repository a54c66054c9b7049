package engine

import (
	"errors"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
)

// rekeying takes in a machine that was made by rekeying s. Until it takes over it has no
// children and gets no requests; it may end without ever doing so, when both ends rekey at
// once (RFC 7296, Section 2.8.1).
func (k *keyer) rekeying(now time.Time, s *ikeSA, m *ike.Machine) {
	k.lastNum++
	n := newIKESA(now, m, gate.Key{SPI: m.LocalSPI(), Initiator: m.Role() == ike.Initiator}, s.conn, s.path, k.lastNum)
	n.peer, n.remote, n.shared, n.next = s.peer, s.remote, s.shared, true
	k.sas[n.key] = n
	k.byMachine[m] = n
	k.door.add(n.key)
	k.drain(now, n)
}

// rekeyed moves everything from the old IKE SA to the new one: children, what waits, and
// the place among the connection's SAs. The identity stays, so latches see nothing of it.
func (k *keyer) rekeyed(now time.Time, s *ikeSA, o *ike.Rekeyed) {
	from, to := k.byMachine[o.Old], k.byMachine[o.New]
	if from == nil || to == nil {
		k.log.Error("rekeyed to an IKE SA nobody knows", "peer", s.name())
		return
	}
	est := *from.est
	est.Role, est.SPIi, est.SPIr, est.Suite, est.Path = o.Role, o.SPIi, o.SPIr, o.Suite, o.Path
	to.est, to.up, to.next = &est, now, false
	to.children, from.children = from.children, to.children
	k.follow(to, o.Path)
	for spi := range to.children {
		k.byChild[spi] = to
	}
	to.stranger, from.stranger = from.stranger, false
	to.waiting, from.waiting = append(to.waiting, from.waiting...), nil
	k.inherit(from, to)
	k.door.establish(now, to.key)
	k.roster.strike(from)
	k.roster.enter(to)
	from.rekeyed = true
	e := to.event(EventIKERekey)
	e.IKE.OldNum = from.num
	k.report(now, e)
	k.watch(now, to)
	if to.yields {
		k.mail.post(func(now time.Time) { k.leave(now, to) })
	}
	other := from
	if s == from {
		other = to
	}
	k.drain(now, other)
}

// wake carries out what another machine wants.
func (k *keyer) wake(now time.Time, m *ike.Machine) {
	if s := k.byMachine[m]; s != nil {
		k.drain(now, s)
	}
}

// rekeyChild gives a machine what it takes to replace a child SA.
func (k *keyer) rekeyChild(now time.Time, s *ikeSA, w *ike.WorkRekey) {
	r := &ike.RekeyResult{}
	if cc, c := k.confs[w.Name], s.children[w.InSPI]; cc != nil && c != nil {
		r.Proposals, r.Terms = cc.again(c), cc.Terms
	}
	r.SPI, r.Err = k.dp.ReserveSPI()
	if k.stopping && r.Err == nil {
		k.dp.ReleaseSPI(r.SPI)
		r.SPI, r.Err = 0, errors.New("the host is stopping")
	}
	s.m.Complete(now, w.ID, r)
}
