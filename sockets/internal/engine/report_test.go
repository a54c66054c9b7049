package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun/tuntest"
)

// An ear hears what a host reports.
type ear struct {
	t *testing.T
	w *Watcher

	mu   sync.Mutex
	list []Event
}

func listen(t *testing.T, e *Engine) *ear {
	r := &ear{t: t, w: e.Watch()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ev, err := r.w.Next(context.Background())
			if err != nil {
				return
			}
			r.mu.Lock()
			r.list = append(r.list, ev)
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = r.w.Close(); <-done })
	return r
}

func (r *ear) all(kind EventKind) (found []Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.list {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// await waits for n events of a kind and wants the last one's line to have all words.
func (r *ear) await(kind EventKind, n int, words ...string) Event {
	r.t.Helper()
	var found []Event
	eventually(r.t, kind.String(), func() bool { found = r.all(kind); return len(found) >= n })
	last := found[n-1]
	r.t.Log(last)
	for _, w := range words {
		if !strings.Contains(last.String(), w) {
			r.t.Errorf("%q does not say %q", last, w)
		}
	}
	return last
}

// pass lets a host believe that time passes, a second at once.
func pass(e *Engine, d time.Duration) {
	var from time.Time
	e.ask(func(now time.Time) { from = now })
	for s := time.Second; s <= d; s += time.Second {
		e.ask(func(time.Time) { e.k.tick(from.Add(s)) })
	}
}

// sending waits until a host has asked something and waits for the answer.
func sending(t *testing.T, e *Engine) {
	t.Helper()
	eventually(t, "a request is out", func() (ok bool) {
		e.ask(func(time.Time) {
			for _, s := range e.k.sas {
				ok = ok || s.tries.sends > 0
			}
		})
		return ok
	})
}

// initiate makes a child SA with the host that has an address, where nobody listens.
func initiate(t *testing.T, e *Engine, to netip.Addr) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := dialFor(ctx, e, to)
	if st := e.Status().IKE; len(st) == 1 && len(st[0].Children) == 1 {
		return nil
	}
	return err
}

func TestEventsOfSilence(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.8:4500"), netip.MustParseAddrPort("192.0.2.9:4500")}}
	ea := a.start(t)
	r := listen(t, ea)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	to := keyAddr(newKey(t))
	go func() { _, _, err := dialFor(ctx, ea, to); done <- err }()
	defer func() { cancel(); <-done }()
	sending(t, ea)
	for len(r.all(EventPeerInitUnreachable)) == 0 {
		pass(ea, 5*time.Second)
	}
	e := r.await(EventPeerInitUnreachable, 1, "192.0.2.8:4500", "IKE_SA_INIT", "trying the next address")
	if e.Unauthenticated || e.Connection != "peer-of-a" || !e.IKE.Initiator {
		t.Errorf("%+v", e)
	}
	eventually(t, "the next address is tried", func() bool { sending(t, ea); return ea.Status().IKE[0].Remote == "192.0.2.9:4500" })
	pass(ea, 301*time.Second)
	e = r.await(EventPeerInitUnreachable, 2, "192.0.2.9:4500", "no answer", "IKE_SA_INIT", "sent 13 times")
	var silent *ike.TimeoutError
	if !errors.As(e.Err, &silent) || silent.Sends != 13 {
		t.Errorf("%+v", e)
	}
	if got := r.all(EventIKEUpDown); len(got) > 0 {
		t.Errorf("what never was up went %v", got)
	}
}

// Who gives up waiting for a child SA reads first what was tried, and on whom.
func TestInitiateInVain(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:4500")}}
	ea := a.start(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- ea.Initiate(ctx, "all") }()
	sending(t, ea)
	cancel(context.DeadlineExceeded)
	err := <-done
	const begins, ends = "engine: connection peer-of-a: no answer to IKE_SA_INIT from 192.0.2.9:4500: sent ", ": context deadline exceeded"
	if err == nil || !strings.HasPrefix(err.Error(), begins) || !strings.HasSuffix(err.Error(), ends) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// A peer that dies: its last request, its child SA, its IKE SA, each once.
func TestEventsOfADeadPeer(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	b.start(t)
	ea := a.start(t, func(c *Conn) { c.DPDDelay = 30 * time.Second })
	r := listen(t, ea)
	if err := initiate(t, ea, b.addr); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{Drop: 1})
	pass(ea, 10*time.Minute)
	e := r.await(EventRetransmitSendTimeout, 1, "peer-of-a[1]", "192.0.2.2:4500", "no answer", "INFORMATIONAL")
	if e.Unauthenticated || e.Peer.Remote == "" || e.IKE.Num != 1 {
		t.Errorf("%+v", e)
	}
	r.await(EventRetransmitSend, 1, "INFORMATIONAL")
	e = r.await(EventIKEUpDown, 2, "closed", "failed", "no answer")
	var silent *ike.TimeoutError
	if e.Up || !errors.As(e.Err, &silent) {
		t.Errorf("%+v", e)
	}
	if e = r.await(EventChildUpDown, 2); e.Up {
		t.Errorf("%+v", e)
	}
	r.await(EventPeerSuspect, 1, "peer-of-a[1]")
}

// A peer that is only late is cleared of the suspicion.
func TestEventsOfASilentPeer(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	eb := b.start(t)
	ea := a.start(t, askOften)
	r := listen(t, ea)
	if err := initiate(t, ea, b.addr); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{Drop: 1})
	r.await(EventPeerSuspect, 1, "peer-of-a[1]")
	n.SetFaults(tuntest.Faults{})
	eb.ask(func(now time.Time) {
		for _, s := range eb.k.sas {
			s.m.CheckLiveness(now)
			eb.k.drain(now, s)
		}
	})
	r.await(EventPeerCleared, 1, "peer-of-a[1]")
}

// A request of the peer's that is refused for what is in it ends nothing.
func TestEventsOfARefusedRequest(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ea, _, _ := talking(t, a, b)
	r := listen(t, ea)
	ea.ask(func(now time.Time) {
		for _, s := range ea.k.sas {
			ea.k.carryOut(now, s, &ike.Refused{Err: &ike.NotifyError{Type: wire.NotifyUnsupportedCriticalPayload, Verified: true, Why: "payload 77"}})
		}
	})
	if e := r.await(EventParseErrorBody, 1, "peer-of-a[1]", "payload 77"); e.Unauthenticated || e.Peer.Remote == "" {
		t.Errorf("%+v", e)
	}
}

func TestEventsOfExpiry(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	b.start(t)
	ea := a.start(t, func(c *Conn) { c.Life = ike.IKELife{Rekey: time.Hour, Over: time.Minute, Exact: true} })
	r := listen(t, ea)
	if err := initiate(t, ea, b.addr); err != nil {
		t.Fatal(err)
	}
	n.SetFaults(tuntest.Faults{Drop: 1}) // it can't be rekeyed
	ea.ask(func(now time.Time) {
		for s := range 300 { // and its end is told to nobody
			ea.k.tick(now.Add(2*time.Hour + time.Duration(s)*time.Second))
		}
	})
	if e := r.await(EventIKESAExpired, 1, "peer-of-a[1]"); e.IKE.Num != 1 || e.Unauthenticated {
		t.Errorf("%+v", e)
	}
	if e := r.await(EventChildUpDown, 2, "expired"); e.Up {
		t.Errorf("%+v", e)
	}
}

// hello is an IKE_SA_INIT request of somebody who will never be heard of again.
func hello(t *testing.T, spi uint64) []byte {
	t.Helper()
	ps, err := suite.IKEProposals("aes256gcm16-prfsha256-x25519")
	if err != nil {
		t.Fatal(err)
	}
	ps[0].Num = 1
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	key[31] &= 0x7f
	path := ike.Path{Local: netip.MustParseAddrPort("198.51.100.7:4500"), Remote: netip.MustParseAddrPort("192.0.2.2:4500")}
	src, dst := wire.NATDHash(spi, 0, path.Local), wire.NATDHash(spi, 0, path.Remote)
	msg := wire.Message{Header: wire.Header{SPIi: spi, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: []wire.Payload{
		&wire.SA{Proposals: ps}, &wire.KE{Group: wire.GroupX25519, Data: key}, &wire.Nonce{Data: make([]byte, 32)},
		&wire.Notify{NType: wire.NotifyNATDetectionSourceIP, Data: src[:]},
		&wire.Notify{NType: wire.NotifyNATDetectionDestinationIP, Data: dst[:]}}}
	return msg.Append(make([]byte, 4)) // non-ESP marker
}

func TestEventsOfHalfOpen(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	r := listen(t, eb)
	from, to := netip.MustParseAddrPort("198.51.100.7:4500"), netip.MustParseAddrPort("192.0.2.2:4500")
	n.Inject(from, to, hello(t, 1))
	eventually(t, "it is half-open", func() bool { return eb.Status().Gate.HalfOpen == 1 })
	pass(eb, 335*time.Second)
	e := r.await(EventHalfOpenTimeout, 1, "198.51.100.7:4500", "IKE_AUTH", "(unauthenticated)")
	if !e.Unauthenticated || e.Connection != "" || e.IKE.Initiator {
		t.Errorf("%+v", e)
	}
	eventually(t, "it is gone", func() bool { return eb.Status().Gate.HalfOpen == 0 && len(eb.Status().IKE) == 0 })
	if got := r.all(EventHalfOpenTimeout); len(got) != 1 {
		t.Errorf("told %v", got)
	}

	// Many of them: the log has a few, and the next one says how many more there were.
	for i := range 3 * strangerBurst {
		n.Inject(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4500), to, hello(t, uint64(i+2)))
	}
	eventually(t, "they are half-open", func() bool { return eb.Status().Gate.HalfOpen == 3*strangerBurst })
	eb.ask(func(now time.Time) { eb.k.tick(now.Add(time.Hour)) })
	n.Inject(from, to, hello(t, 1000))
	eventually(t, "one more is half-open", func() bool { return eb.Status().Gate.HalfOpen == 1 })
	eb.ask(func(now time.Time) { eb.k.tick(now.Add(3 * time.Hour)) })
	eventually(t, "what was not told is counted", func() bool {
		all := r.all(EventHalfOpenTimeout)
		last := all[len(all)-1]
		return last.Suppressed >= 2*strangerBurst-1 && strings.Contains(last.String(), "more since")
	})
	if told := len(r.all(EventHalfOpenTimeout)); told > strangerBurst+3 {
		t.Errorf("told %d times", told)
	}
}

func TestEventsOfAFullHouse(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	eb.ask(func(time.Time) { eb.k.strangers = maxStrangers })
	rb := listen(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	ra := listen(t, ea)
	if initiate(t, ea, b.addr) == nil {
		t.Fatal("no error")
	}
	e := rb.await(EventAuthorizationFailed, 1, "192.0.2.1:4500", "anonymous peers stand already")
	var room *RoomError
	if !errors.As(e.Err, &room) || room.Limit != maxStrangers || e.Unauthenticated || e.Connection != "peer-of-b" || e.Peer.Remote != pad.KeyIdentity(auth.SPKI(a.key.Public())) {
		t.Errorf("%+v", e)
	}
	ra.await(EventLocalAuthFailed, 1, "AUTHENTICATION_FAILED")
	eb.ask(func(time.Time) { eb.k.strangers = 0 })
}

// Child SAs of all that nobody vouches for have a limit, and IKE SAs of one that somebody
// knows (I8).
func TestEventsOfFullRooms(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	rb := listen(t, eb)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	eb.ask(func(time.Time) { eb.k.strangeChildren = maxStrangerChildren })
	if err := initiate(t, ea, b.addr); err == nil || !strings.Contains(err.Error(), "NO_ADDITIONAL_SAS") {
		t.Errorf("got %v", err)
	}
	e := rb.await(EventAuthorizationFailed, 1, "child SAs with anonymous peers stand already")
	var room *RoomError
	if !errors.As(e.Err, &room) || room.Limit != maxStrangerChildren {
		t.Errorf("%+v", e)
	}
	eb.ask(func(time.Time) { eb.k.strangeChildren = 0 })
	other := &testHost{name: "other", wire: at(t, n, "192.0.2.5:4500"), remotes: a.remotes}
	if err := initiate(t, other.start(t), b.addr); err != nil {
		t.Fatal(err)
	}
	eb.ask(func(time.Time) {
		if eb.k.strangeChildren != 1 {
			t.Errorf("%d child SAs counted", eb.k.strangeChildren)
		}
	})

	key := newKey(t)
	d := &testHost{name: "d", wire: at(t, n, "192.0.2.4:4500"), peer: key.Public()}
	ed := d.start(t)
	rd := listen(t, ed)
	c := &testHost{name: "c", key: key, wire: at(t, n, "192.0.2.3:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.4:4500")}}
	ec := c.start(t)
	if err := initiate(t, ec, d.addr); err != nil {
		t.Fatal(err)
	}
	var crowd []*ikeSA
	ed.ask(func(time.Time) {
		for _, s := range ed.k.sas {
			for range maxSAsPerPeer - 1 {
				crowd = append(crowd, &ikeSA{conn: s.conn, peer: s.peer})
			}
		}
		for _, s := range crowd {
			ed.k.roster.enter(s)
		}
	})
	ec.ask(func(time.Time) { // as after a restart
		for _, s := range ec.k.sas {
			s.m.Replaced(time.Now())
			ec.k.drain(time.Now(), s)
		}
	})
	if initiate(t, ec, d.addr) == nil {
		t.Error("one more than there may be")
	}
	rd.await(EventAuthorizationFailed, 1, "192.0.2.3:4500", "IKE SAs with this peer stand already")
	ed.ask(func(time.Time) {
		for _, s := range crowd {
			ed.k.roster.strike(s)
		}
	})
}

// A logBook keeps the levels of what is logged.
type logBook struct {
	mu    sync.Mutex
	lines map[slog.Level][]string
}

func (b *logBook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logBook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logBook) WithGroup(string) slog.Handler            { return b }
func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines[r.Level] = append(b.lines[r.Level], r.Message)
	return nil
}

// Whoever nobody vouched for can fill events with what becomes of its SAs, but not the log;
// peers that somebody knows are always logged.
func TestLogOfAnonymousPeersIsBounded(t *testing.T) {
	book := &logBook{lines: map[slog.Level][]string{}}
	k := &keyer{log: slog.New(book)}
	w := k.events.watch()
	defer w.Close()
	now := time.Unix(1, 0)
	const times = 3 * strangerBurst
	for range times {
		k.report(now, Event{Kind: EventIKEUpDown, Up: true, Peer: EventPeer{Remote: "key:x", Anonymous: true}})
	}
	k.report(now, Event{Kind: EventIKEUpDown, Up: true, Peer: EventPeer{Remote: "fqdn:known"}})
	if up := len(book.lines[slog.LevelInfo]); up != strangerBurst+1 {
		t.Errorf("%d lines at info", up)
	}
	if down := len(book.lines[slog.LevelDebug]); down != times-strangerBurst {
		t.Errorf("%d lines at debug", down)
	}
	if !slices.Equal(slices.Compact(book.lines[slog.LevelInfo]), []string{"IKE SA established"}) {
		t.Errorf("%v", book.lines)
	}
	for range times + 1 {
		if e := next(t, w); e.Kind != EventIKEUpDown || e.Time != now {
			t.Errorf("%+v", e)
		}
	}
	// What we began ourselves is our own doing, however it ends.
	for range times {
		k.report(now, Event{Kind: EventPeerAuthFailed, Unauthenticated: true, IKE: EventIKE{Initiator: true}})
		next(t, w)
	}
	if warned := len(book.lines[slog.LevelWarn]); warned != times {
		t.Errorf("%d warnings", warned)
	}
}

// What nobody has authenticated is told as a claim when it comes, and again when we have
// come to believe it (RFC 7296, Section 2.21.1).
func TestEventsOfGivingUp(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	a, b := known(t, n)
	ours, err1 := suite.IKEProposals("aes256gcm16-prfsha256-x25519")
	theirs, err2 := suite.IKEProposals("aes128-sha256-ecp256")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	b.start(t, func(c *Conn) { c.IKE = theirs })
	ea := a.start(t, func(c *Conn) { c.IKE = ours })
	r := listen(t, ea)
	done := make(chan error, 1)
	go func() { done <- initiate(t, ea, b.addr) }()
	if e := r.await(EventProposalMismatchIKE, 1, "NO_PROPOSAL_CHOSEN (unauthenticated): we offer"); e.Reason != "" {
		t.Errorf("%+v", e)
	}
	var now time.Time
	ea.ask(func(at time.Time) { now = at })
	eventually(t, "we give up", func() bool { // slowly enough for answers to come
		now = now.Add(time.Second)
		ea.ask(func(time.Time) { ea.k.tick(now) })
		return len(r.all(EventProposalMismatchIKE)) > 1
	})
	r.await(EventProposalMismatchIKE, 2, "given up", "NO_PROPOSAL_CHOSEN")
	eventually(t, "it is over", func() bool { return len(ea.Status().IKE) == 0 })
	if err := ea.Close(); err != nil { // which ends the dial
		t.Error(err)
	}
	if <-done == nil {
		t.Error("no error")
	}
}
