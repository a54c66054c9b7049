package iketest

import (
	"fmt"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
)

// recovery is what a host does about restarts, its own and its peer's: what an engine does,
// written anew and no cleverer.
type recovery struct {
	on      bool
	peer    *Host // where it is; nil: it comes to us
	start   bool  // its child SA is to be up, with packets or without
	trusted time.Time
	tries   int
}

// suspectGap is the engine's: how often a suspicion leads to another IKE SA.
const suspectGap = time.Minute

// longestWait is the engine's: between two sends of a request.
const longestWait = 30 * time.Second

// Recover makes the host keep one IKE SA with its peer, whoever restarts. A host that knows
// where the peer is makes an SA when a packet waits for one, or at once if start is set, and
// beside one that the peer may have lost. peer nil: it comes to us.
func (h *Host) Recover(peer *Host, start bool) {
	h.Config.InitialContact = true
	h.Config.Retransmit.Max = longestWait
	h.recovery = recovery{on: true, peer: peer, start: start}
	if start {
		h.want()
	}
}

// want makes an IKE SA with the peer, unless there is one or it is being made.
func (h *Host) want() {
	if h.recovery.peer == nil || h.Down {
		return
	}
	for _, e := range h.live {
		if e.Closed == nil && (e.Established == nil && e.role == ike.Initiator || len(e.Children) > 0) {
			return
		}
	}
	h.Connect(h.recovery.peer, nil)
}

// wantLater tries again what nobody answered.
func (h *Host) wantLater() {
	r := &h.recovery
	if r.peer == nil || !r.start {
		return
	}
	h.Sim.After(5*time.Second<<min(r.tries, 4), h.want)
	r.tries++
}

// suspects makes another SA beside e.
func (e *End) suspects() {
	h := e.Host
	r := &h.recovery
	if r.peer == nil || e.successor != nil || h.Sim.Now.Before(r.trusted) || len(e.Children) == 0 {
		return
	}
	r.trusted = h.Sim.Now.Add(suspectGap)
	cfg := h.Config
	m, err := ike.NewInitiator(&cfg, path(h.Addr, r.peer.PublicAddr()), h.Sim.Now)
	if err != nil {
		h.Sim.fail("%s: %v", h.Name, err)
		return
	}
	n := h.Adopt(m)
	e.successor, n.predecessor = n, e
	n.input(func() { m.Start(h.Sim.Now, h.Request("net", DefaultPair())) })
}

// trusts gives the other SA up, if there is still time.
func (e *End) trusts() {
	n := e.successor
	if n == nil || n.M.State() >= ike.StateAuthSent {
		return
	}
	e.successor = nil
	n.input(func() { n.M.Delete(e.Host.Sim.Now) })
}

// takesOver ends what the new SA replaces: because the peer says so, or because it is the
// successor of one that the peer has lost.
func (e *End) takesOver() {
	h := e.Host
	if !h.recovery.on {
		return
	}
	var old []*End
	for _, x := range h.live {
		if x != e && x.Up() && !x.candidate && x.Established.RemoteID.String() == e.Established.RemoteID.String() &&
			(e.Established.InitialContact || x == e.predecessor) {
			old = append(old, x)
		}
	}
	for _, x := range old {
		x.input(func() { x.M.Replaced(h.Sim.Now) })
	}
}

// recovers carries out what an event means for a host that recovers.
func (e *End) recovers(o ike.Output) {
	h := e.Host
	if !h.recovery.on {
		return
	}
	switch o := o.(type) {
	case *ike.Suspect:
		e.suspects()
	case *ike.Cleared:
		e.trusts()
	case *ike.ChildOutbound:
		h.recovery.tries = 0
		e.takesOver()
	case *ike.ChildRemoved:
		if o.Action == ike.ActionStart {
			h.Sim.After(0, h.want)
		}
	case *ike.Closed:
		for _, x := range h.live {
			if x.successor == e {
				x.successor = nil
			}
		}
		if e.Established == nil {
			h.wantLater()
		}
	}
}

// strange is an ESP packet for an SPI that the host never had: it says so, and calls the
// peer if there is nothing with it.
func (h *Host) strange(p ike.Path, spi uint32, size int) {
	if _, known := h.SPIs[spi]; known || !h.recovery.on {
		return
	}
	if h.Mute {
		return
	}
	v := h.Gate.InvalidSPI(h.Sim.Now, gate.Path(p), spi, size)
	if v.Kind != gate.Reply {
		return
	}
	h.send(p, v.Reply)
	if len(h.live) == 0 {
		h.want()
	}
}

// hinted passes on INVALID_SPI.
func (h *Host) hinted(p ike.Path, spi uint32) {
	for _, e := range h.live {
		for _, c := range e.Children {
			if c.OutSPI == spi && e.M.Path().Remote.Addr() == p.Remote.Addr() {
				e.input(func() { e.M.Doubt(h.Sim.Now, fmt.Errorf("%s does not have child SA %08x", p.Remote, spi)) })
				return
			}
		}
	}
}
