// Package latch binds packet flows to the protection they began with: the connection latches of
// RFC 5660, and the Latch Database of its Section 2.3. A latch records at birth who the peer is,
// who we are, and what kind, mode and quality of protection the flow has; from then on only
// packets under congruent SAs may pass, in either direction, and whatever would change that
// breaks the latch before a byte passes.
//
// # Use
//
// Listen makes a LISTENER for a 3-tuple (CREATE_LISTENER_LATCH), Accept a latch from it when the
// first packet comes. Connect makes a LARVAL latch for a 5-tuple (CREATE_CONNECTION_LATCH) and
// Establish completes it when its SA is known. Permits is the per-packet question. Find, Inquire
// and Release are RFC 5660's functions of those names. Conflicts and NarrowAround answer a key
// manager that has an SA proposed; Break, Clear, PeerDead and Judge change states, Close is the
// administrator's. Flows are keyed from this host's outbound view: the source is local.
//
// The model is the normative one of Section 2.3 together with the packet tags of Section 2.4:
// conflicts break latches, and besides each packet is compared with its latch, so that an SA that
// came between two checks still carries nothing into or out of a latched flow.
//
// # Alerts
//
// Methods that change a state without the owner asking return Alerts. They are never delivered
// under a lock and never by this package on its own: the caller ends what it is doing and then
// calls Deliver, or carries them to a goroutine where the owner's function may run.
//
// # Memory and concurrency
//
// All methods are safe for concurrent use. State and Permits take no lock and do not allocate;
// Find takes one read lock of one shard. Params are shared by pointer and must never change.
// The database is not persistent (RFC 5660, Section 2.3).
//
// # Limits
//
// See limits.go. There is no clock here: whoever makes a LARVAL latch releases it in the end.
package latch

import (
	"net/netip"
	"sync/atomic"

	"github.com/btns-go/btns/esp/ts"
)

// Key3 names a listener: local address, protocol and local port (RFC 5660, Section 2.1). The
// zero Addr stands for every local address. For ICMP the port is the type<<8|code.
type Key3 struct {
	Addr  netip.Addr
	Proto uint8
	Port  uint16
}

// Latch is one connection latch or listener. It is made by a DB.
type Latch struct {
	// Constant.
	db     *DB
	id     uint64
	flow   ts.Flow // zero for a listener
	key    Key3    // of a listener
	want   Want
	parent *Latch // the listener it was born from

	// Atomic.
	state atomic.Uint32
	bound atomic.Pointer[binding]     // set once
	last  atomic.Pointer[Params]      // the pointer found congruent last
	alert atomic.Pointer[func(Alert)] // the owner's

	// Under the lock of the shard, or of the listeners.
	reasons    Reasons
	detail     string
	seq        uint64
	cause      error
	next, prev *Latch // latches of one remote address
}

// binding is what was latched at birth.
type binding struct {
	params *Params
	suites []string // the suites that are congruent; one if the quality is determinate
}

// ID numbers the latches of a DB, never reused: compare it where a flow may be.
func (l *Latch) ID() uint64 { return l.id }

// Flow returns the 5-tuple, source local; the zero Flow for a listener.
func (l *Latch) Flow() ts.Flow { return l.flow }

// Key returns a listener's 3-tuple.
func (l *Latch) Key() Key3 { return l.key }

// Want returns what the owner asked for. Its slice must not be changed.
func (l *Latch) Want() Want { return l.want }

// Listener returns the listener that l was born from, nil without one.
func (l *Latch) Listener() *Latch { return l.parent }

// State returns the state at this moment, without a lock.
func (l *Latch) State() State { return State(l.state.Load()) }

// Params returns what is latched; nil for a listener and while larval. It never changes after
// (RFC 5660, Section 2) and must not be changed.
func (l *Latch) Params() *Params {
	if b := l.bound.Load(); b != nil {
		return b.params
	}
	return nil
}

// Quality returns the suite in use at birth and whether the quality of protection is
// indeterminate, because a set of suites was latched and not one (RFC 5660, Section 2.1).
func (l *Latch) Quality() (suite string, indeterminate bool) {
	b := l.bound.Load()
	if b == nil {
		return "", true
	}
	return b.params.Suite, len(b.suites) > 1
}

// Permits reports whether a packet under an SA with these parameters may pass, in or out: only
// while ESTABLISHED, and only if they are congruent with what is latched. nil, the packet in
// clear, never may. It takes no lock.
func (l *Latch) Permits(p *Params) bool {
	if p == nil || State(l.state.Load()) != StateEstablished {
		return false
	}
	if l.last.Load() == p {
		return true
	}
	b := l.bound.Load()
	if b == nil || !b.congruent(p) {
		return false
	}
	l.last.Store(p)
	return true
}

// SetAlert replaces the function that receives alerts: a latch born from a listener has the
// listener's until its owner is known. nil drops them.
func (l *Latch) SetAlert(f func(Alert)) {
	if f == nil {
		l.alert.Store(nil)
		return
	}
	l.alert.Store(&f)
}
