package ike

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// ChildRequest asks for a child SA.
type ChildRequest struct {
	Name      string
	Ref       uint64          // returned in events
	SPI       uint32          // ours, reserved; the machine's from now on, whatever comes of it
	Proposals []wire.Proposal // ESP, most wanted first; Num and SPI are set by the machine
	Pair      ts.Pair         // from our view
	Packet    ts.Flow         // the packet that asks for it, named before Pair on the wire (RFC 7296, Section 2.9); zero: none
	Transport bool            // ask for transport mode, and accept nothing else
	Terms     Terms
}

// Machine is one IKE SA. See the package comment for its contract.
type Machine struct {
	// Constant after construction.
	cfg  *Config
	role Role
	spii uint64

	// The SA.
	branch
	rivals []*branch // other responses to our IKE_SA_INIT that may be the true one
	reason Reason    // for Closed
	peer   *identity // proven; nil before

	// Exchanges.
	win   window  // the peer's requests
	prep  *task   // a command that waits for WorkKE before its request
	queue []*task // commands that wait for their turn

	requests, creates pace // of the peer: all of them, and CREATE_CHILD_SA

	children []*child
	reserved []uint32 // SPIs given to us that have not ended yet
	asked    []asked  // Work that is out
	lastWork WorkID

	heard time.Time // when the peer last proved to be alive
	spoke time.Time // when something last went to the peer, as far as is known
	life  time.Time // end of half-open or lingering life

	soft, hard  time.Time // of the IKE SA; zero: never
	proven      time.Time // when the peers authenticated
	authSoft    time.Time // when to authenticate anew
	authUntil   time.Time // when the authentication ends
	refused     time.Time // since when every CREATE_CHILD_SA gets TEMPORARY_FAILURE
	refusedLast time.Time // the last of them
	reauths     uint8     // how often Reauthenticate was asked for
	unfit       error     // why, if not because it was time
	tries       uint8     // answers of TEMPORARY_FAILURE to rekeying this SA
	doubted     time.Time // last hint that made us ask whether the peer lives

	// Rekeying of the IKE SA by both ends at once; see collision.go.
	successor *Machine // made by the peer's exchange, while ours is under way
	older     *Machine // of a successor: the machine it may replace
	redundant bool     // the other one was chosen; the peer is to delete this one

	// What this one took over from, and what took over, while the former waits for the
	// peer's Delete.
	elder, younger *Machine

	outq []Output
	head int

	verified bool // what is being handled is authentic: a panic fails the SA
}

// flags of a Machine.
type flags uint8

const (
	flagLocalNAT   flags = 1 << iota // our address is translated
	flagRemoteNAT                    // the peer's is
	flagEncap                        // ESP in UDP
	flagFragments                    // both ends take fragments
	flagPeerRekeys                   // the peer's request to rekey the IKE SA is being worked on
	flagSuspect                      // Suspect was said, and not taken back
	flagConfirmed                    // the peer has shown that it knows the SA to be established
)

// identity is what WorkVerify proved.
type identity struct {
	id     wire.ID
	spki   []byte
	handle any
}

// handshake is what an SA needs until it is established.
type handshake struct {
	ni, nr     []byte
	msg1, msg2 []byte // IKE_SA_INIT as on the wire, for AUTH
	keys       *suite.Keys
	peerHashes []uint16
	childless  bool // the peer takes an IKE_AUTH without child SA

	// Initiator.
	child     *childTask
	deferred  bool // not in IKE_AUTH
	origin    Path // of IKE_SA_INIT
	init      *exchange
	fakeHash  []byte // NAT_DETECTION_SOURCE_IP of no address
	sent      []initVariant
	current   int // index into sent
	cookie    []byte
	instant   int  // retries sent at once
	stale     bool // the request on the wire is not the one wanted next
	refused   []error
	refusedAt time.Time
	refusals  int

	// Responder.
	digest [digestLen]byte // of the IKE_SA_INIT request
	auth   *authRequest
}

// NewInitiator returns a machine that will start an IKE SA with path.Remote.
func NewInitiator(cfg *Config, path Path, now time.Time) (*Machine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if !path.Remote.IsValid() || path.Remote.Addr().IsUnspecified() || path.Remote.Port() == 0 {
		return nil, fmt.Errorf("ike: %s: no usable remote address: %v", cfg.Name, path.Remote)
	}
	m := &Machine{cfg: cfg, role: Initiator, heard: now, branch: branch{state: StateIdle, path: path.unmapped(), hs: &handshake{}}}
	var err error
	if m.spii, err = m.randomSPI(); err != nil {
		return nil, err
	}
	if m.hs.ni, err = m.random(nonceLen); err != nil {
		return nil, err
	}
	if cfg.ForceEncap {
		// RFC 7296, Section 2.23: a hash that matches no address makes the peer
		// believe in a NAT. All retries carry the same (Section 2.6).
		if m.hs.fakeHash, err = m.random(wire.NATDHashLen); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// check finds what would make every machine of this Config fail.
func (c *Config) check() error {
	switch {
	case len(c.Proposals) == 0:
		return fmt.Errorf("ike: %s: no IKE proposals", c.Name)
	case firstGroup(c.Proposals) == wire.GroupNone:
		return fmt.Errorf("ike: %s: IKE proposal without key exchange method", c.Name)
	case c.Local.ID.IType == 0:
		return fmt.Errorf("ike: %s: no local identity", c.Name)
	case c.Rand == nil:
		return fmt.Errorf("ike: %s: no random source", c.Name)
	}
	return nil
}

func (m *Machine) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(m.cfg.Rand, b); err != nil {
		return nil, fmt.Errorf("ike: random source: %w", err)
	}
	return b, nil
}

func (m *Machine) randomSPI() (uint64, error) {
	for range 8 { // zero is reserved (RFC 7296, Section 2.6)
		b, err := m.random(8)
		if err != nil {
			return 0, err
		}
		if spi := binary.BigEndian.Uint64(b); spi != 0 {
			return spi, nil
		}
	}
	return 0, errors.New("ike: random source yields zeros")
}

// Role returns the machine's role.
func (m *Machine) Role() Role { return m.role }

// State returns where the SA stands, for display.
func (m *Machine) State() State {
	s := m.state
	for _, b := range m.rivals {
		s = max(s, b.state)
	}
	return s
}

// LastHeard returns when the peer last showed that it has the SA: by a message of its own, or by
// traffic that Heard told of.
func (m *Machine) LastHeard() time.Time { return m.heard }

// Path returns the current outer path.
func (m *Machine) Path() Path { return m.path }

// SPIs returns the IKE SPIs; the responder's is zero until known.
func (m *Machine) SPIs() (spii, spir uint64) { return m.spii, m.spir }

// LocalSPI returns the SPI this end chose.
func (m *Machine) LocalSPI() uint64 {
	if m.role == Initiator {
		return m.spii
	}
	return m.spir
}

// Next returns the next output, in order; false: none until the next input.
func (m *Machine) Next() (Output, bool) {
	if m.head == len(m.outq) {
		m.outq, m.head = nil, 0
		m.verified = false // what was being handled is over
		return nil, false
	}
	o := m.outq[m.head]
	m.outq[m.head] = nil
	m.head++
	return o, true
}

func (m *Machine) emit(o Output) { m.outq = append(m.outq, o) }

// Deadline is when Tick wants to be called next; zero: not at all. It may change
// with every input.
func (m *Machine) Deadline() time.Time {
	d := m.life
	if m.req != nil {
		sooner(&d, m.req.at)
	}
	sooner(&d, m.rivalsDue())
	sooner(&d, m.liveness())
	sooner(&d, m.keepalive())
	sooner(&d, m.aging())
	sooner(&d, m.waiting())
	sooner(&d, m.fragmentsEnd())
	return d
}

// Tick does what is due at now.
func (m *Machine) Tick(now time.Time) {
	m.verified = true
	defer m.caught(now)
	if !m.life.IsZero() && !now.Before(m.life) {
		m.expire(now)
	}
	if m.req != nil && !m.req.at.IsZero() && !now.Before(m.req.at) {
		m.resend(now)
	}
	m.tickRivals(now)
	m.dropFragments(now)
	m.age(now)
	if due(m.liveness(), now) {
		m.probe(now)
	}
	m.pump(now)
	m.keepAlive(now)
}

// expire ends a half-open or lingering life.
func (m *Machine) expire(now time.Time) {
	m.life = time.Time{}
	switch m.state {
	case StateLinger:
		m.state = StateClosed
		m.win = window{}
	case StateInitBusy, StateHalfOpen, StateAuthBusy:
		m.teardown(ErrClosed, ReasonExpired)
		m.emit(&Failed{Err: &TimeoutError{Peer: m.peerName(), Path: m.path, Exchange: wire.ExchangeIKEAuth, Elapsed: m.cfg.halfOpen(), Waited: true}})
		m.win.answer = nil
		m.finish(now, ReasonExpired)
	case StateReplaced:
		m.finish(now, m.reason) // the peer's Delete never came
	case StateEstablished:
		if m.redundant {
			m.teardown(ErrClosed, ReasonRedundant)
			m.win.answer = nil
			m.finish(now, ReasonRedundant)
		}
	case StateClosed, StateIdle, StateInitKey, StateInitSent, StateInitDone, StateAuthSent,
		StateAuthCheck, StateDeleting:
	}
}

// caught is the one recover of an input. A panic on unauthenticated input only
// drops it; after that it fails this SA and no other.
func (m *Machine) caught(now time.Time) {
	r := recover()
	if r == nil {
		return
	}
	if c := m.cfg.Counters; c != nil {
		c.Panics.Add(1)
	}
	if m.cfg.Log != nil {
		m.cfg.Log.Error("panic recovered", "peer", m.peerName(), "panic", r)
	}
	if m.verified {
		m.win.serving = nil
		m.fail(now, fmt.Errorf("ike: internal error: %v", r))
	}
}

// fail ends the SA because of err.
func (m *Machine) fail(now time.Time, err error) {
	if m.lose(err) {
		return
	}
	switch m.state {
	case StateClosed, StateLinger:
		return
	case StateDeleting, StateReplaced: // the caller knows already
		m.finish(now, m.reason)
		return
	case StateIdle, StateInitKey, StateInitSent, StateInitDone, StateAuthSent, StateAuthCheck,
		StateInitBusy, StateHalfOpen, StateAuthBusy, StateEstablished:
	}
	m.teardown(err, ReasonFailed)
	m.emit(&Failed{Err: err})
	m.debug("IKE SA failed", "error", err)
	m.abandon(now, false)
	m.finish(now, ReasonFailed)
}

// teardown removes every child SA and ends every command and reserved SPI.
func (m *Machine) teardown(err error, why Reason) {
	for _, c := range m.children {
		if !c.larval {
			m.emit(c.removed(why))
		}
	}
	m.children = nil
	end := func(t *task) {
		if t != nil && t.child != nil {
			m.childEnds(t.child, err)
		}
	}
	if m.hs != nil && m.hs.child != nil {
		m.childEnds(m.hs.child, err)
	}
	if m.req != nil {
		end(m.req.task)
	}
	end(m.prep)
	if m.prep != nil && !m.prep.ike.isTaken() {
		m.prep = nil
	}
	for _, t := range m.queue {
		end(t)
	}
	m.queue = nil
	for len(m.reserved) > 0 {
		m.release(m.reserved[len(m.reserved)-1])
	}
	// Work that is still out has nobody to go to, but its answer may yet bring an SPI.
	m.orphan()
}

// finish makes the machine forget its keys. If the peer may still need our last
// answer it stays for a while.
func (m *Machine) finish(now time.Time, why Reason) {
	m.req, m.prep, m.life = nil, nil, time.Time{}
	m.frags = [2]*reassembly{}
	m.detach()
	m.outlivedBy(nil)
	m.wipe()
	m.state = StateClosed
	closed := &Closed{Reason: why}
	if m.win.answer != nil {
		m.state = StateLinger
		m.life = now.Add(lingerLife)
		closed.Until = m.life
	}
	m.win.serving = nil
	m.emit(closed)
}

func (m *Machine) wipe() {
	m.dropRivals()
	m.branch.wipe()
	m.peer = nil
}

func (m *Machine) dropHandshake() {
	m.dropRivals()
	if m.hs != nil && m.hs.keys != nil {
		m.hs.keys.Zero()
	}
	m.hs = nil
}

// reserve takes over an SPI; install or release ends it.
func (m *Machine) reserve(spi uint32) {
	if spi != 0 {
		m.reserved = append(m.reserved, spi)
	}
}

// install marks an SPI as used up by ChildInbound.
func (m *Machine) install(spi uint32) {
	if i := slices.Index(m.reserved, spi); i >= 0 {
		m.reserved = slices.Delete(m.reserved, i, i+1)
	}
	if len(m.reserved) == 0 {
		m.reserved = nil
	}
}

// release gives a reserved SPI back, once.
func (m *Machine) release(spi uint32) {
	if slices.Contains(m.reserved, spi) {
		m.install(spi)
		m.emit(&SPIReleased{SPI: spi})
	}
}

func (m *Machine) has(f flags) bool { return m.flags&f != 0 }

func (m *Machine) setFlag(f flags, on bool) {
	m.flags &^= f
	if on {
		m.flags |= f
	}
}

// peerName is the peer in errors and logs.
func (m *Machine) peerName() string {
	if m.cfg.Name == "" {
		return m.path.Remote.String()
	}
	return m.cfg.Name + " (" + m.path.Remote.String() + ")"
}

// debugs tells whether debug does anything; for lines that are costly to put together and
// belong to every handshake.
func (m *Machine) debugs() bool {
	return m.cfg.Log != nil && m.cfg.Log.Enabled(context.Background(), slog.LevelDebug)
}

// debug logs one line per exchange at most.
func (m *Machine) debug(msg string, kv ...any) {
	if m.debugs() {
		m.cfg.Log.With("peer", m.peerName(), "ike.spi", fmt.Sprintf("%016x", m.LocalSPI()), "state", m.state.String()).Debug(msg, kv...)
	}
}

// refusal is the error for a notify, ours or the peer's.
func (m *Machine) refusal(t wire.NotifyType, e wire.ExchangeType, remote bool, why string, err error) *NotifyError {
	return &NotifyError{Type: t, Remote: remote, Verified: m.in != nil, Peer: m.peerName(), Exchange: e, Why: why, Err: err}
}

// mismatch is the error for a message that does not fit what was asked.
func (m *Machine) mismatch(e wire.ExchangeType, what, want, got string, err error) *MismatchError {
	return &MismatchError{Peer: m.peerName(), Exchange: e, What: what, Want: want, Got: got, Err: err}
}
