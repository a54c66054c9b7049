package iketest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
)

// End is one machine of a host and what came of it.
type End struct {
	Host *Host
	M    *ike.Machine

	Established *ike.Established
	Failed      error
	Closed      *ike.Closed
	Children    map[uint32]*Child // by our inbound SPI; as a data plane has them
	Made        []*Child          // all that ever were
	ChildErrors []error
	RekeyErrors []error
	Reauth      []*ike.Reauthenticate
	Next        *End // took over from it by rekeying
	Prev        *End // it took over from
	Unverified  []error
	Refused     []error // requests of the peer's that ended nothing
	Suspected   []error // why the peer was a suspect
	Cleared     int     // how often it was none after all

	Keepalives                 []time.Duration // when, since the start
	Resent, Answered, Repeated []ike.Request
	Events                     []ike.Event
	Keys                       *ike.IKEKeys

	successor         *End // made because the peer may have lost this one
	predecessor       *End // of which this one is the successor
	role              ike.Role
	candidate         bool // made by rekeying, nothing handed over yet
	verified          bool // some WorkVerify was answered with OK
	decided           int  // WorkDecide answered with accept
	bytesIn, bytesOut int
	keys              map[uint64]*ike.IKEKeys // by responder's SPI: one for each response to IKE_SA_INIT
	forgers           map[uint64]*forger
	silent            bool // the datagram was dropped: nothing may come of it
	acts              acts
	executed          map[uint32]bool // requests, by message ID
}

// Child is a child SA as a data plane has it.
type Child struct {
	ike.Child
	InKey, OutKey []byte
	Outbound      bool // ChildOutbound came
	Removed       *ike.ChildRemoved
	End           *End

	order  int // of ChildOutbound: packets leave under the newest
	heard  bool
	sealer *esp.Outbound
	opener *esp.Inbound
}

// Up reports whether the SA is established and not over.
func (e *End) Up() bool { return e.Established != nil && e.Closed == nil && e.Failed == nil }

func (e *End) key() gate.Key {
	return gate.Key{SPI: e.M.LocalSPI(), Initiator: e.role == ike.Initiator}
}

// Do runs a command of the machine and what follows.
func (e *End) Do(f func(m *ike.Machine)) { e.input(func() { f(e.M) }) }

// CreateChild asks for a further child SA.
func (e *End) CreateChild(req *ike.ChildRequest) {
	e.Do(func(m *ike.Machine) { m.CreateChild(e.Host.Sim.Now, *req) })
}

// input gives the machine something and carries out what comes.
func (e *End) input(f func()) {
	if e.Host.end(e.M) != e {
		return // crashed since
	}
	f()
	for {
		o, ok := e.M.Next()
		if !ok {
			break
		}
		e.carryOut(o)
	}
	e.check()
}

func (e *End) carryOut(o ike.Output) {
	h, s := e.Host, e.Host.Sim
	e.act(o)
	defer e.recovers(o)
	if ev, ok := o.(ike.Event); ok {
		e.Events = append(e.Events, ev)
		if h.OnEvent != nil {
			h.OnEvent(e, ev)
		}
		switch o.(type) {
		case *ike.SPIReleased, *ike.ChildFailed: // the end of a command that came too late
		default:
			if e.Closed != nil {
				e.fail("event %T after Closed", o)
			}
		}
	}
	switch o := o.(type) {
	case *ike.Send:
		e.sent(o)
		h.send(o.Path, o.Data)
	case *ike.Keepalive:
		e.Keepalives = append(e.Keepalives, s.Elapsed())
		if o.Path != e.M.Path() || o.Path.Local.Port() == wire.PortIKE {
			e.fail("keepalive over %v", o.Path)
		}
	case ike.Work:
		e.work(o)
	case *ike.Established:
		if e.Established != nil {
			e.fail("established twice")
		}
		if !e.verified {
			e.fail("I1: established without a verified AUTH")
		}
		e.Established = o
		if o.InitialContact {
			e.takesOver()
		}
		h.Gate.Establish(s.Now, e.key())
	case *ike.ChildInbound:
		e.inbound(o)
	case *ike.ChildOutbound:
		c := e.Children[o.InSPI]
		if c == nil || c.Outbound {
			e.fail("ChildOutbound %08x without its inbound half, or twice", o.InSPI)
			return
		}
		h.sendUnder(c, o)
	case *ike.ChildRemoved:
		c := e.Children[o.InSPI]
		if c == nil {
			e.fail("removes child %08x that is not there", o.InSPI)
			return
		}
		c.Removed = o
		delete(e.Children, o.InSPI)
		h.SPIs[o.InSPI] = SPIRemoved
	case *ike.SPIReleased:
		if h.SPIs[o.SPI] != SPIReserved {
			e.fail("SPI %08x released in state %d", o.SPI, h.SPIs[o.SPI])
		}
		h.SPIs[o.SPI] = SPIReleased
	case *ike.ChildFailed:
		if o.Err == nil {
			e.fail("ChildFailed without reason")
		}
		e.ChildErrors = append(e.ChildErrors, o.Err)
	case *ike.Rekeying:
		e.heir(o.New)
	case *ike.Rekeyed:
		e.rekeyed(o)
	case *ike.Wake:
		if n := h.end(o.Machine); n != nil {
			n.input(func() {})
		} else {
			e.fail("wakes a machine nobody knows")
		}
	case *ike.Reauthenticate:
		e.Reauth = append(e.Reauth, o)
	case *ike.RekeyFailed:
		if o.Err == nil || e.Children[o.InSPI] == nil {
			e.fail("RekeyFailed without reason, or for nothing: %+v", o)
		}
		e.RekeyErrors = append(e.RekeyErrors, o.Err)
	case *ike.Unverified:
		e.Unverified = append(e.Unverified, o.Err)
	case *ike.Suspect:
		if o.Err == nil || len(e.Suspected) != e.Cleared {
			e.fail("suspects the peer twice, or without reason: %v", o.Err)
		}
		e.Suspected = append(e.Suspected, o.Err)
	case *ike.Cleared:
		if e.Cleared++; len(e.Suspected) != e.Cleared {
			e.fail("clears a peer that is no suspect")
		}
	case *ike.Resent:
		e.Resent = append(e.Resent, o.Request)
	case *ike.Answered:
		e.Answered = append(e.Answered, o.Request)
	case *ike.Refused:
		e.Refused = append(e.Refused, o.Err)
	case *ike.Repeated:
		e.Repeated = append(e.Repeated, o.Request)
	case *ike.PathChanged:
		e.follow(o.Path)
	case *ike.KeyLog:
		if o.IKE != nil {
			if e.keys == nil {
				e.keys = map[uint64]*ike.IKEKeys{}
			}
			e.Keys, e.keys[o.IKE.SPIr] = o.IKE, o.IKE
		}
	case *ike.Failed:
		if e.Failed != nil || o.Err == nil {
			e.fail("failed twice, or without reason: %v", o.Err)
		}
		e.Failed = o.Err
		if len(e.Children) > 0 {
			e.fail("failed with children left")
		}
	case *ike.Closed:
		if e.Closed != nil {
			e.fail("closed twice")
		}
		e.Closed = o
		if len(e.Children) > 0 {
			e.fail("closed with children left")
		}
		if o.Until.IsZero() {
			h.Gate.Remove(e.key())
			return
		}
		s.After(o.Until.Sub(s.Now), func() { h.Gate.Remove(e.key()) })
	default:
		e.fail("unknown output %T", o)
	}
}

func (e *End) inbound(o *ike.ChildInbound) {
	h := e.Host
	if e.Established == nil {
		e.fail("I1: child SA before the IKE SA is established")
	}
	if h.SPIs[o.InSPI] != SPIReserved {
		e.fail("ChildInbound %08x in state %d", o.InSPI, h.SPIs[o.InSPI])
	}
	h.SPIs[o.InSPI] = SPIInstalled
	c := &Child{Child: o.Child, InKey: o.Key, End: e}
	e.Children[o.InSPI] = c
	e.Made = append(e.Made, c)
}

// heir registers a machine made by rekeying.
func (e *End) heir(m *ike.Machine) {
	n := e.Host.Adopt(m)
	est := *e.Established
	est.Role = m.Role()
	est.SPIi, est.SPIr = m.SPIs()
	n.Established, n.verified, n.candidate = &est, e.verified, true
	n.input(func() {})
}

// rekeyed moves what a data plane has of an SA to another.
func (e *End) rekeyed(o *ike.Rekeyed) {
	old, n := e.Host.end(o.Old), e.Host.end(o.New)
	if old == nil || n == nil || !n.candidate || len(n.Children) != 0 || old.Next != nil {
		e.fail("rekeyed from %v to %v", old, n)
		return
	}
	n.candidate = false
	n.Established.Suite = o.Suite
	old.Next, n.Prev = n, old
	n.Children, old.Children = old.Children, map[uint32]*Child{}
	for _, c := range n.Children {
		c.End = n
	}
	n.follow(o.Path)
	for _, x := range []*End{old, n} {
		if x != e {
			x.input(func() {})
		}
	}
}

// follow has the child SAs use another path.
func (e *End) follow(p ike.Path) {
	if p != e.M.Path() {
		e.fail("says that its path is %v, but it is %v", p, e.M.Path())
	}
	for _, c := range e.Children {
		c.Path = p
	}
}

// Last is the end that has taken over in the end.
func (e *End) Last() *End {
	for e.Next != nil {
		e = e.Next
	}
	return e
}

// sent checks a datagram that leaves.
func (e *End) sent(o *ike.Send) {
	s := e.Host.Sim
	h, err := wire.ParseHeader(o.Data)
	if err != nil || int(h.Length) != len(o.Data) || h.Flags.Initiator() != (e.role == ike.Initiator) {
		e.fail("sends a malformed datagram")
		return
	}
	// I12: an unauthenticated peer gets no more than it sent, its INIT response excepted.
	if e.role == ike.Responder && e.Established == nil && h.Exchange != wire.ExchangeIKESAInit {
		e.bytesOut += len(o.Data)
		if e.bytesOut > e.bytesIn {
			e.fail("I12: %d octets out for %d in before authentication", e.bytesOut, e.bytesIn)
		}
	}
	e.spelled(h, o.Data)
	if h.Exchange == wire.ExchangeIKESAInit {
		return
	}
	// I4: one (key, IV) seals one message. The IV follows header and payload header.
	at := 32
	if h.Next == wire.PayloadEncryptedFragment {
		at += 4
	}
	k := ivKey{h.SPIi, h.SPIr, h.Flags.Initiator(), string(o.Data[at : at+8])}
	switch old, ok := s.ivs[k]; {
	case !ok:
		s.Judged.IVs++
		e.acts.answered = e.acts.answered || h.Flags.Response()
	case !bytes.Equal(old, o.Data):
		s.Judged.Reused++
		e.acts.answered = e.acts.answered || h.Flags.Response()
		e.fail("I4: IV %x used twice", k.iv)
	}
	s.ivs[k] = bytes.Clone(o.Data)
}

type ivKey struct {
	spii, spir uint64
	initiator  bool
	iv         string
}

// check verifies what holds after every step.
func (e *End) check() {
	if e.Host.Counters.Panics.Load() != 0 {
		e.fail("a panic was recovered")
	}
	if e.M.State() == ike.StateEstablished && !e.verified {
		e.fail("I1: in ESTABLISHED without a verified AUTH")
	}
	if e.Closed != nil && e.Closed.Until.IsZero() && !e.M.Deadline().IsZero() {
		e.fail("I9: a deadline after Closed")
	}
	if _, more := e.M.Next(); more {
		e.fail("output after it was drained")
	}
}

func (e *End) fail(format string, args ...any) {
	e.Host.Sim.fail("%s %s: %s", e.Host.Name, e.role, fmt.Sprintf(format, args...))
}

// String names host and role.
func (e *End) String() string { return e.Host.Name + " " + e.role.String() }
