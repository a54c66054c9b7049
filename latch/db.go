package latch

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/btns-go/btns/esp/ts"
)

// Config configures a DB. The zero value is usable.
type Config struct {
	// Max bounds the number of latches, listeners included; 0 is DefaultMax.
	Max int

	// Conflicting reports whether the SAD holds an SA whose selectors cover the flow and whose
	// parameters are not congruent with p. It is asked at birth and before a conflict is taken
	// for cleared, without any lock of the DB held. nil means that nobody knows of one; Permits
	// still judges each packet.
	//
	// Whoever installs an SA first puts it where Conflicting sees it and then asks Conflicts;
	// birth publishes the latch and then asks Conflicting. So one of the two sees the other.
	Conflicting func(flow ts.Flow, p *Params) bool
}

// DB is the Latch Database.
type DB struct {
	max         int
	conflicting func(ts.Flow, *Params) bool
	seed        uint64

	ids, count atomic.Int64

	shards [shardCount]shard

	listenMu  sync.RWMutex
	listeners map[Key3]*Latch
}

// shard holds the latches of some remote addresses.
type shard struct {
	mu      sync.RWMutex
	flows   map[ts.Flow]*Latch
	remotes map[netip.Addr]*Latch // heads of lists, to find latches by address
}

// New returns an empty database.
func New(cfg Config) *DB {
	db := &DB{max: cfg.Max, conflicting: cfg.Conflicting, seed: rand.Uint64(),
		listeners: make(map[Key3]*Latch)}
	if db.max <= 0 {
		db.max = DefaultMax
	}
	if db.conflicting == nil {
		db.conflicting = func(ts.Flow, *Params) bool { return false }
	}
	for i := range db.shards {
		db.shards[i].flows = make(map[ts.Flow]*Latch)
		db.shards[i].remotes = make(map[netip.Addr]*Latch)
	}
	return db
}

// shardOf returns the shard of a remote address.
func (db *DB) shardOf(remote netip.Addr) *shard {
	a := netip.AddrPortFrom(remote, 0)
	return &db.shards[ts.MakeFlow(0, a, a).Hash(db.seed)%shardCount]
}

// lock takes the lock that guards l's mutable fields and returns what gives it back.
func (l *Latch) lock() (unlock func()) {
	if !l.flow.IsValid() {
		l.db.listenMu.Lock()
		return l.db.listenMu.Unlock
	}
	sh := l.db.shardOf(l.flow.Dst())
	sh.mu.Lock()
	return sh.mu.Unlock
}

// newLatch makes a latch that is in no map yet, and counts it.
func (db *DB) newLatch(want Want, alert func(Alert)) (*Latch, error) {
	if n := db.count.Add(1); n > int64(db.max) {
		db.count.Add(-1)
		return nil, ErrFull
	}
	want.Suites = slices.Clone(want.Suites)
	l := &Latch{db: db, id: uint64(db.ids.Add(1)), want: want}
	l.SetAlert(alert)
	return l, nil
}

// move takes the edge for the event if there is one. The lock is held.
func (l *Latch) move(e Event) bool {
	to, ok := next(l.State(), e)
	if ok {
		l.state.Store(uint32(to))
	}
	return ok
}

// Listen makes a LISTENER latch for the 3-tuple: CREATE_LISTENER_LATCH. It fails with ErrExists
// if there is one. alert hears of latches born from it and of its closing; nil drops alerts.
func (db *DB) Listen(key Key3, want Want, alert func(Alert)) (*Latch, error) {
	key.Addr = key.Addr.Unmap().WithZone("")
	if key.Addr.IsUnspecified() {
		key.Addr = netip.Addr{}
	}
	l, err := db.newLatch(want, alert)
	if err != nil {
		return nil, err
	}
	l.key = key
	db.listenMu.Lock()
	defer db.listenMu.Unlock()
	if db.listeners[key] != nil {
		db.count.Add(-1)
		return nil, ErrExists
	}
	l.move(EventListen)
	db.listeners[key] = l
	return l, nil
}

// FindListener returns the listener for packets to this local address and port: the one that
// names the address, or else the one for all; nil without one.
func (db *DB) FindListener(local netip.Addr, proto uint8, port uint16) *Latch {
	db.listenMu.RLock()
	defer db.listenMu.RUnlock()
	if l := db.listeners[Key3{local, proto, port}]; l != nil {
		return l
	}
	return db.listeners[Key3{netip.Addr{}, proto, port}]
}

// Connect makes a LARVAL latch for a flow whose source is local: CREATE_CONNECTION_LATCH with the
// SAs yet to come. It fails with ErrExists while the flow has a latch that is not closed.
func (db *DB) Connect(flow ts.Flow, want Want, alert func(Alert)) (*Latch, error) {
	return db.insert(flow, want, alert, func(l *Latch) { l.move(EventConnect) })
}

// insert makes a latch for the flow and lets birth put it into its first state.
func (db *DB) insert(flow ts.Flow, want Want, alert func(Alert), birth func(*Latch)) (*Latch, error) {
	if !flow.IsValid() || flow.Opaque() {
		return nil, ErrFlow
	}
	l, err := db.newLatch(want, alert)
	if err != nil {
		return nil, err
	}
	l.flow = flow
	remote := flow.Dst()
	sh := db.shardOf(remote)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.flows[flow] != nil {
		db.count.Add(-1)
		return nil, ErrExists
	}
	birth(l)
	sh.flows[flow] = l
	if head := sh.remotes[remote]; head != nil {
		l.next, head.prev = head, l
	}
	sh.remotes[remote] = l
	return l, nil
}

// remove takes l out of the maps. The lock is held.
func (l *Latch) remove() {
	db := l.db
	db.count.Add(-1)
	if !l.flow.IsValid() {
		delete(db.listeners, l.key)
		return
	}
	remote := l.flow.Dst()
	sh := db.shardOf(remote)
	delete(sh.flows, l.flow)
	switch {
	case l.prev != nil:
		l.prev.next = l.next
	case l.next != nil:
		sh.remotes[remote] = l.next
	default:
		delete(sh.remotes, remote)
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	l.next, l.prev = nil, nil
}

// bind returns what to latch: suites are the policy's list where the SA is wide, and nothing
// where it is narrow, which latches the one suite that was negotiated.
func (l *Latch) bind(p *Params, suites []string) (*binding, error) {
	if err := l.want.Check(p); err != nil {
		return nil, err
	}
	b := &binding{params: p, suites: []string{p.Suite}}
	for _, s := range suites {
		if len(l.want.Suites) != 0 && !slices.Contains(l.want.Suites, s) {
			continue
		}
		if !slices.Contains(b.suites, s) {
			b.suites = append(b.suites, s)
		}
	}
	return b, nil
}

// Establish completes a LARVAL latch with the parameters of the SA that covers its flow. suites
// is the list that the policy allows on a wide SA, nothing on a narrow one. It returns a
// *MismatchError, leaving the latch larval, if the SA is not what the owner wants; ErrConflict,
// with the latch BROKEN, if a conflicting SA exists too. On a latch that is ESTABLISHED already
// it returns nil if p is congruent, as when both ends connected at once (RFC 5660, Section 4).
func (db *DB) Establish(l *Latch, p *Params, suites ...string) error {
	b, err := l.bind(p, suites)
	if err != nil {
		return err
	}
	// RFC 5660, Section 2.3: no latch is created while conflicting SAs exist.
	conflict := db.conflicting(l.flow, p)
	err = func() error {
		unlock := l.lock()
		defer unlock()
		switch l.State() {
		case StateLarval:
		case StateEstablished:
			if l.bound.Load().congruent(p) {
				return nil
			}
			return ErrState
		case StateBroken:
			return &BrokenError{Flow: l.flow, Reasons: l.reasons, Detail: l.detail}
		case StateClosed:
			return &closedError{cause: l.cause}
		case StateListener:
			return ErrState
		}
		l.bound.Store(b)
		if conflict {
			l.reasons, l.detail = ReasonConflict, "at birth"
			l.move(EventConflict)
			return ErrConflict
		}
		l.move(EventEstablish)
		return nil
	}()
	if err == nil && db.conflicting(l.flow, p) {
		db.Break(l, ReasonConflict, "at birth") // the owner hears it here
		return ErrConflict
	}
	return err
}

// Accept makes a latch from a LISTENER when the packet arrives that begins the flow, which is the
// reverse of that packet's: its source is local. p and suites are as for Establish. The latch is
// born ESTABLISHED, or BROKEN if conflicting SAs exist, and the listener's owner is to be told.
// It returns a *MismatchError, and makes nothing, if the SA is not what the listener wants.
func (db *DB) Accept(listener *Latch, flow ts.Flow, p *Params, suites ...string) (*Latch, Alerts, error) {
	if listener.State() != StateListener {
		return nil, nil, ErrState
	}
	b, err := listener.bind(p, suites)
	if err != nil {
		return nil, nil, err
	}
	conflict := db.conflicting(flow, p)
	var alert func(Alert)
	if f := listener.alert.Load(); f != nil {
		alert = *f
	}
	l, err := db.insert(flow, listener.want, alert, func(l *Latch) {
		l.parent = listener
		l.bound.Store(b)
		if conflict {
			l.reasons, l.detail = ReasonConflict, "at birth"
			l.move(EventBirthBad)
			return
		}
		l.move(EventBirth)
	})
	if err != nil {
		return nil, nil, err
	}
	if !conflict && db.conflicting(flow, p) {
		db.Break(l, ReasonConflict, "at birth")
	}
	unlock := listener.lock()
	open := listener.move(EventTrigger)
	a := listener.alertNow()
	unlock()
	if !open { // closed meanwhile: nobody would accept or release this one
		db.Release(l)
		return nil, nil, &closedError{}
	}
	a.Flow, a.State, a.Child = flow, l.State(), l
	return l, Alerts{a}, nil
}

// Find returns the latch of a flow whose source is local, nil without one: FIND_LATCH.
func (db *DB) Find(flow ts.Flow) *Latch {
	if !flow.IsValid() {
		return nil
	}
	sh := db.shardOf(flow.Dst())
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.flows[flow]
}

// Break adds reasons for which l is broken. An ESTABLISHED latch is BROKEN from this call on;
// others hear of it too if they were broken and the reason is new. A LARVAL one has nothing to
// break: it is told nothing and keeps waiting.
func (db *DB) Break(l *Latch, why Reasons, detail string) Alerts {
	unlock := l.lock()
	defer unlock()
	if s := l.State(); (s != StateEstablished && s != StateBroken) || why&^l.reasons == 0 {
		return nil
	}
	l.move(EventConflict)
	l.reasons |= why
	l.detail = trim(detail)
	return Alerts{l.alertNow()}
}

// Clear takes reasons away from a BROKEN latch; when none is left it is ESTABLISHED again, with
// the parameters it always had. A conflict goes only if Config.Conflicting agrees.
func (db *DB) Clear(l *Latch, why Reasons) Alerts {
	p := l.Params()
	if why&ReasonConflict != 0 && p != nil && db.conflicting(l.flow, p) {
		why &^= ReasonConflict
	}
	gone, as := l.clear(why)
	if gone&ReasonConflict != 0 && p != nil && db.conflicting(l.flow, p) {
		// As at birth: one that came in between found the latch broken, and did not break it.
		as = append(as, db.Break(l, ReasonConflict, "as another was cleared")...)
	}
	return as
}

// clear is Clear without a question; gone are the reasons that were there.
func (l *Latch) clear(why Reasons) (gone Reasons, as Alerts) {
	unlock := l.lock()
	defer unlock()
	if l.State() != StateBroken || l.reasons&why == 0 {
		return 0, nil
	}
	gone = l.reasons & why
	if l.reasons &^= why; l.reasons != 0 {
		return gone, nil
	}
	l.detail = ""
	l.move(EventCleared)
	return gone, Alerts{l.alertNow()}
}

// Fail closes a LARVAL latch because no SA could be had; Err gives the cause.
func (db *DB) Fail(l *Latch, cause error) Alerts {
	return l.end(EventFail, cause)
}

// Close closes a latch for the administrator: its connection is to act as if reset by the peer
// (RFC 5660, Section 2.3).
func (db *DB) Close(l *Latch, cause error) Alerts {
	return l.end(EventClose, cause)
}

// Release closes a latch for its owner, who needs no alert: RELEASE_LATCH. It reports whether
// the latch was still there.
func (db *DB) Release(l *Latch) bool {
	return l.end(EventRelease, nil) != nil
}

// end moves l to CLOSED and forgets it.
func (l *Latch) end(e Event, cause error) Alerts {
	unlock := l.lock()
	defer unlock()
	if !l.move(e) {
		return nil
	}
	l.cause = cause
	if cause != nil {
		l.detail = trim(cause.Error())
	}
	l.remove()
	return Alerts{l.alertNow()}
}

// Each calls f for every latch, listeners first, until it returns false. It sees a moment of each
// shard, not of the whole, and holds no lock while f runs.
func (db *DB) Each(f func(*Latch) bool) {
	db.listenMu.RLock()
	all := make([]*Latch, 0, len(db.listeners))
	for _, l := range db.listeners {
		all = append(all, l)
	}
	db.listenMu.RUnlock()
	for i := -1; i < shardCount; i++ {
		if i >= 0 {
			sh := &db.shards[i]
			all = all[:0]
			sh.mu.RLock()
			for _, l := range sh.flows {
				all = append(all, l)
			}
			sh.mu.RUnlock()
		}
		for _, l := range all {
			if !f(l) {
				return
			}
		}
	}
}

// Len returns the number of latches, listeners included.
func (db *DB) Len() int { return int(db.count.Load()) }

// Snapshot is what INQUIRE_LATCH tells: one consistent view.
type Snapshot struct {
	ID      uint64
	State   State
	Flow    ts.Flow
	Key     Key3
	Want    Want
	Params  *Params // nil before birth
	Suites  []string
	Reasons Reasons
	Detail  string
	Cause   error
}

// Inquire returns all there is to know of l: INQUIRE_LATCH.
func (l *Latch) Inquire() Snapshot {
	unlock := l.lock()
	defer unlock()
	s := Snapshot{ID: l.id, State: l.State(), Flow: l.flow, Key: l.key, Want: l.want,
		Reasons: l.reasons, Detail: l.detail, Cause: l.cause}
	s.Want.Suites = slices.Clone(s.Want.Suites)
	if b := l.bound.Load(); b != nil {
		s.Params, s.Suites = b.params, slices.Clone(b.suites)
	}
	return s
}

// String prints state, flow and what is latched.
func (s Snapshot) String() string {
	var b strings.Builder
	if s.Flow.IsValid() {
		fmt.Fprintf(&b, "%v %v", s.State, s.Flow)
	} else {
		addr := "*"
		if s.Key.Addr.IsValid() {
			addr = s.Key.Addr.String()
		}
		fmt.Fprintf(&b, "%v %s proto %d port %d", s.State, addr, s.Key.Proto, s.Key.Port)
	}
	if s.Params != nil {
		fmt.Fprintf(&b, " (%v)", *s.Params)
	}
	if s.Reasons != 0 {
		fmt.Fprintf(&b, ": %v", s.Reasons)
	}
	if s.Detail != "" {
		fmt.Fprintf(&b, ": %s", s.Detail)
	}
	return b.String()
}

// trim bounds a text kept with a latch.
func trim(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail]
	}
	return strings.ToValidUTF8(s, "?")
}
