package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/btns-go/btns/ike"
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
	Counts  CountStatus    `json:"messages"`
	Data    datapath.Stats `json:"data"`
	Wire    WireStatus     `json:"wire"`
	Stack   StackStatus    `json:"stack"`
}

// A GateStatus counts IKE datagrams outside SAs.
type GateStatus struct {
	Responders uint64            `json:"responders"`
	HalfOpen   int               `json:"half_open"`
	Expired    uint64            `json:"expired"`
	Overflow   uint64            `json:"overflow"` // lost because the keyer was behind
	Refused    map[string]uint64 `json:"refused"`  // dropped or answered without state, by reason
}

// A CountStatus counts IKE messages of all SAs there ever were.
type CountStatus struct {
	Requests  uint64            `json:"requests"` // sent, each once
	Responses uint64            `json:"responses"`
	Resends   uint64            `json:"resends"`
	Verified  uint64            `json:"verified"` // received, authentic
	Panics    uint64            `json:"panics"`   // recovered
	Dropped   map[string]uint64 `json:"dropped"`  // datagrams that changed nothing, by reason
}

func (k *keyer) countStatus() CountStatus {
	c := &k.counters
	return CountStatus{Requests: c.Requests.Load(), Responses: c.Responses.Load(), Resends: c.Resends.Load(),
		Verified: c.Verified.Load(), Panics: c.Panics.Load(), Dropped: c.ByReason()}
}

func (k *keyer) gateStatus() GateStatus {
	s, lost := k.door.stats()
	st := GateStatus{Responders: s.Responders, HalfOpen: s.HalfOpen, Expired: s.Expired,
		Overflow: lost, Refused: map[string]uint64{}}
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
	Rekey     time.Time     `json:"rekey_time,omitzero"`
	Reauth    time.Time     `json:"reauth_time,omitzero"`
	Expires   time.Time     `json:"expires,omitzero"` // unless one of them happens
	Error     string        `json:"error,omitempty"`
	Children  []ChildStatus `json:"child_sas"`
}

// A ChildStatus is one pair of ESP SAs.
type ChildStatus struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Mode      string    `json:"mode"`
	Suite     string    `json:"proposal"`
	ESN       bool      `json:"esn"`
	InSPI     string    `json:"spi_in"`
	OutSPI    string    `json:"spi_out"`
	LocalTS   string    `json:"local_ts"`
	RemoteTS  string    `json:"remote_ts"`
	Installed time.Time `json:"installed"`
	Rekey     time.Time `json:"rekey_time,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	datapath.ChildStats
}

// Status takes one consistent look at the keyer's SAs. The keyer only hands out what it
// has; words are made of it on the caller's goroutine.
func (e *Engine) Status() Status {
	st := Status{IKE: []IKEStatus{}, Counts: e.k.countStatus(), Data: e.Data.Stats(), Latches: e.Latches.Len(),
		Wire: wireStatus(e.Wire().Stats()), Stack: stackStatus(e.Stack.Stats())}
	for _, a := range e.Stack.Addrs() {
		st.Addrs = append(st.Addrs, a.String())
	}
	var looks []look
	e.ask(func(now time.Time) {
		looks = make([]look, 0, len(e.k.sas))
		for _, s := range e.k.sas {
			if s.until.IsZero() && !s.next {
				looks = append(looks, s.look(now))
			}
		}
		st.Gate = e.k.gateStatus()
	})
	slices.SortFunc(looks, func(a, b look) int { return cmp.Compare(a.num, b.num) })
	for i := range looks {
		st.IKE = append(st.IKE, looks[i].status())
	}
	e.Data.Children(func(c *datapath.Child) bool {
		if c.V == nil { // no IKE SA's
			st.Manual = append(st.Manual, childStatus(c, ike.ChildLife{}))
		}
		return true
	})
	return st
}

// A look is what the keyer knows of one IKE SA at one time: values, and pointers to what
// does not change.
type look struct {
	now        time.Time
	num        uint64
	initiator  bool
	deleted    bool
	spii, spir uint64
	conn       *Conn
	peer       *peer
	est        *ike.Established
	up         time.Time
	times      ike.Times
	path       ike.Path
	tries      attempt
	err        error
	children   []lookChild
}

type lookChild struct {
	child *datapath.Child
	life  ike.ChildLife
}

func (s *ikeSA) look(now time.Time) look {
	l := look{
		now: now, num: s.num, initiator: s.initiator, deleted: s.deleted, conn: s.conn, peer: s.peer, est: s.est,
		up: s.up, times: s.m.Times(), path: s.path, tries: s.tries, err: s.err, children: make([]lookChild, 0, len(s.children)),
	}
	l.spii, l.spir = s.m.SPIs()
	for spi, c := range s.children {
		life, _ := s.m.ChildLife(spi)
		l.children = append(l.children, lookChild{c, life})
	}
	return l
}

func (l look) status() IKEStatus {
	st := IKEStatus{
		Name: l.conn.Name, Num: l.num, State: "CONNECTING", Initiator: l.initiator,
		SPIi: fmt.Sprintf("%016x", l.spii), SPIr: fmt.Sprintf("%016x", l.spir),
		LocalID: l.conn.Local.Canonical, Local: l.path.Local.String(), Remote: l.path.Remote.String(),
		Children: make([]ChildStatus, 0, len(l.children)),
	}
	if l.peer == nil && !l.initiator {
		st.Name, st.LocalID = "", "" // nobody yet, whatever conn guesses
	}
	if l.est != nil {
		st.Suite = l.est.Suite.String()
	}
	switch {
	case l.err != nil:
		st.State, st.Error = "FAILED", l.err.Error()
	case l.deleted:
		st.State = "DELETING"
	case l.est != nil:
		st.State, st.Encap, st.Age = "ESTABLISHED", l.est.Encap, l.now.Sub(l.up)
		st.Rekey, st.Reauth, st.Expires = l.times.Rekey, l.times.Reauth, l.times.End
	case l.tries.sends > 1:
		st.Error = l.tries.describe(l.now)
	}
	if p := l.peer; p != nil {
		st.RemoteID, st.Method, st.Anonymous = p.canonical, p.data.Method, p.data.Anonymous
	}
	for _, c := range l.children {
		st.Children = append(st.Children, childStatus(c.child, c.life))
	}
	slices.SortFunc(st.Children, func(a, b ChildStatus) int { return cmp.Compare(a.InSPI, b.InSPI) })
	return st
}

func childStatus(c *datapath.Child, life ike.ChildLife) ChildStatus {
	st := ChildStatus{
		Name: c.Name, State: "INSTALLED", Mode: c.Mode.String(), Suite: c.Suite.String(), ESN: c.ESN,
		InSPI: fmt.Sprintf("%08x", c.InSPI), OutSPI: fmt.Sprintf("%08x", c.OutSPI()),
		LocalTS: c.Pair.Local.String(), RemoteTS: c.Pair.Remote.String(),
		Installed: c.Installed(), Rekey: life.Rekey, Expires: life.End, ChildStats: c.Stats(),
	}
	switch {
	case life.Deleting:
		st.State = "DELETING"
	case life.Replaced:
		st.State = "REKEYED"
	case life.Rekeying:
		st.State = "REKEYING"
	case c.OutSPI() == 0:
		st.State = "INSTALLING"
	}
	return st
}
