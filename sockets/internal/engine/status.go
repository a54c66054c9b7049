package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// A Status is what a host does right now, in the words of swanctl --list-sas.
type Status struct {
	Addrs   []string       `json:"addresses"`
	IKE     []IKEStatus    `json:"ike_sas"`
	Manual  []ChildStatus  `json:"manual_sas,omitempty"`
	Latches int            `json:"latches"`
	Gate    GateStatus     `json:"gate"`
	Data    datapath.Stats `json:"data"`
}

// A GateStatus counts IKE datagrams outside SAs.
type GateStatus struct {
	Responders uint64            `json:"responders"`
	HalfOpen   int               `json:"half_open"`
	Expired    uint64            `json:"expired"`
	Overflow   uint64            `json:"overflow"` // lost because the keyer was behind
	Refused    map[string]uint64 `json:"refused"`  // dropped or answered without state, by reason
}

func (k *keyer) gateStatus() GateStatus {
	s := k.gate.Stats()
	st := GateStatus{Responders: s.Responders, HalfOpen: s.HalfOpen, Expired: s.Expired,
		Overflow: k.overflow.Load(), Refused: map[string]uint64{}}
	for _, r := range gate.Reasons() {
		if n := s.Count(r); n > 0 {
			st.Refused[r.String()] = n
		}
	}
	return st
}

// An IKEStatus is one IKE SA.
type IKEStatus struct {
	Name      string        `json:"name"` // the connection's; "" while a responder does not know whose peer it has
	Num       uint64        `json:"uniqueid"`
	State     string        `json:"state"`
	Initiator bool          `json:"initiator"`
	SPIi      string        `json:"initiator_spi"`
	SPIr      string        `json:"responder_spi"`
	LocalID   string        `json:"local_id"`
	RemoteID  string        `json:"remote_id,omitempty"`
	Method    string        `json:"remote_auth,omitempty"`
	Anonymous bool          `json:"anonymous"`
	Local     string        `json:"local"`
	Remote    string        `json:"remote"`
	Suite     string        `json:"proposal,omitempty"`
	Encap     bool          `json:"encap"`
	Age       time.Duration `json:"established_ns,omitempty"`
	Error     string        `json:"error,omitempty"`
	Children  []ChildStatus `json:"child_sas"`
}

// A ChildStatus is one pair of ESP SAs.
type ChildStatus struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Mode     string `json:"mode"`
	Suite    string `json:"proposal"`
	ESN      bool   `json:"esn"`
	InSPI    string `json:"spi_in"`
	OutSPI   string `json:"spi_out"`
	LocalTS  string `json:"local_ts"`
	RemoteTS string `json:"remote_ts"`
	datapath.ChildStats
}

// Status takes one consistent look at the keyer's SAs.
func (e *Engine) Status() Status {
	st := Status{IKE: []IKEStatus{}, Data: e.Data.Stats(), Latches: e.Latches.Len()}
	for _, a := range e.Stack.Addrs() {
		st.Addrs = append(st.Addrs, a.String())
	}
	keyed := map[uint32]bool{}
	e.ask(func(now time.Time) {
		for _, s := range e.k.sas {
			if !s.until.IsZero() || s.next {
				continue
			}
			st.IKE = append(st.IKE, s.status(now))
			for spi := range s.children {
				keyed[spi] = true
			}
		}
		st.Gate = e.k.gateStatus()
	})
	slices.SortFunc(st.IKE, func(a, b IKEStatus) int { return cmp.Compare(a.Num, b.Num) })
	e.Data.Children(func(c *datapath.Child) bool {
		if !keyed[c.InSPI] && c.V == nil {
			st.Manual = append(st.Manual, childStatus(c))
		}
		return true
	})
	return st
}

func (s *ikeSA) status(now time.Time) IKEStatus {
	spii, spir := s.m.SPIs()
	st := IKEStatus{
		Name: s.conn.Name, Num: s.num, State: "CONNECTING", Initiator: s.initiator,
		SPIi: fmt.Sprintf("%016x", spii), SPIr: fmt.Sprintf("%016x", spir),
		LocalID: s.conn.Local.Canonical, Local: s.path.Local.String(), Remote: s.path.Remote.String(),
		Suite: s.suite(), Children: []ChildStatus{},
	}
	if s.peer == nil && !s.initiator {
		st.Name, st.LocalID = "", "" // nobody yet, whatever conn guesses
	}
	switch {
	case s.err != nil:
		st.State, st.Error = "FAILED", s.err.Error()
	case s.deleted:
		st.State = "DELETING"
	case s.est != nil:
		st.State, st.Encap, st.Age = "ESTABLISHED", s.est.Encap, now.Sub(s.up)
	case s.tries.sends > 1:
		st.Error = s.tries.describe(now)
	}
	if p := s.peer; p != nil {
		st.RemoteID, st.Method, st.Anonymous = p.canonical, p.data.Method, p.data.Anonymous
	}
	for _, c := range s.children {
		st.Children = append(st.Children, childStatus(c))
	}
	slices.SortFunc(st.Children, func(a, b ChildStatus) int { return cmp.Compare(a.InSPI, b.InSPI) })
	return st
}

func childStatus(c *datapath.Child) ChildStatus {
	st := ChildStatus{
		Name: c.Name, State: "INSTALLED", Mode: c.Mode.String(), Suite: c.Suite.String(), ESN: c.ESN,
		InSPI: fmt.Sprintf("%08x", c.InSPI), OutSPI: fmt.Sprintf("%08x", c.OutSPI()),
		LocalTS: c.Pair.Local.String(), RemoteTS: c.Pair.Remote.String(), ChildStats: c.Stats(),
	}
	if c.OutSPI() == 0 {
		st.State = "INSTALLING"
	}
	return st
}
