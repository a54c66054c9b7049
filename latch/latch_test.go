package latch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

func flowTo(remote string, port uint16) ts.Flow {
	return ts.MakeFlow(6, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port),
		netip.AddrPortFrom(netip.MustParseAddr(remote), 80))
}

func params(peer string) *Params {
	return &Params{Peer: peer, Local: "key:SHA256:me", Protection: Integrity | Confidentiality,
		Mode: 1, Suite: "aes256gcm16", Replay: true}
}

// heard collects alerts.
type heard struct{ list []Alert }

func (h *heard) alert(a Alert) { h.list = append(h.list, a) }

func (h *heard) states() string {
	var out []string
	for _, a := range h.list {
		out = append(out, a.State.String())
	}
	return strings.Join(out, " ")
}

func connect(t testing.TB, db *DB, f ts.Flow, p *Params, alert func(Alert)) *Latch {
	t.Helper()
	l, err := db.Connect(f, Want{}, alert)
	if err != nil {
		t.Fatal(err)
	}
	if p != nil {
		if err := db.Establish(l, p); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestStateMachineWalk drives a latch through every state × event. What the table has happens,
// and what it has not changes nothing.
func TestStateMachineWalk(t *testing.T) {
	f := flowTo("10.0.0.2", 1000)
	key := Key3{Proto: 6, Port: 80}
	// In each state, a fresh DB with one latch in it; for CLOSED nil, or one that was released.
	reach := map[State]func(db *DB) *Latch{
		StateListener: func(db *DB) *Latch {
			l, err := db.Listen(key, Want{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return l
		},
		StateLarval:      func(db *DB) *Latch { return connect(t, db, f, nil, nil) },
		StateEstablished: func(db *DB) *Latch { return connect(t, db, f, params("a"), nil) },
		StateBroken: func(db *DB) *Latch {
			l := connect(t, db, f, params("a"), nil)
			db.Break(l, ReasonConflict, "")
			return l
		},
		StateClosed: func(db *DB) *Latch {
			l := connect(t, db, f, params("a"), nil)
			db.Release(l)
			return l
		},
	}
	// fire makes the event happen by the exported functions and returns the latch it is about.
	fire := map[Event]func(db *DB, l *Latch, conflict *bool) *Latch{
		EventListen: func(db *DB, l *Latch, _ *bool) *Latch {
			if s := l.State(); s != StateClosed && s != StateListener {
				return l // a listener is another latch
			}
			n, err := db.Listen(key, Want{}, nil)
			if err != nil {
				return l
			}
			return n
		},
		EventConnect: func(db *DB, l *Latch, _ *bool) *Latch {
			if l.State() == StateListener {
				return l
			}
			n, err := db.Connect(f, Want{}, nil)
			if err != nil {
				return l
			}
			return n
		},
		EventBirth: func(db *DB, l *Latch, _ *bool) *Latch {
			if l.State() == StateListener {
				return l // seen from the listener this is EventTrigger
			}
			parent, err := db.Listen(key, Want{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			n, _, err := db.Accept(parent, f, params("a"))
			if err != nil {
				return l
			}
			return n
		},
		EventBirthBad: func(db *DB, l *Latch, conflict *bool) *Latch {
			if l.State() == StateListener {
				return l
			}
			*conflict = true
			parent, err := db.Listen(key, Want{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			n, _, err := db.Accept(parent, f, params("a"))
			if err != nil {
				return l
			}
			return n
		},
		EventTrigger: func(db *DB, l *Latch, _ *bool) *Latch {
			if l.State() == StateListener {
				if _, _, err := db.Accept(l, f, params("a")); err != nil {
					t.Error(err)
				}
			} else if _, _, err := db.Accept(l, flowTo("10.0.0.3", 1), params("a")); err == nil {
				t.Error("accepted from what is no listener")
			}
			return l
		},
		EventEstablish: func(db *DB, l *Latch, _ *bool) *Latch { _ = db.Establish(l, params("a")); return l },
		EventConflict: func(db *DB, l *Latch, conflict *bool) *Latch {
			if l.State() == StateLarval {
				*conflict = true
				if err := db.Establish(l, params("a")); !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
				return l
			}
			db.Break(l, ReasonPolicy, "")
			return l
		},
		EventCleared: func(db *DB, l *Latch, _ *bool) *Latch { db.Clear(l, ReasonConflict); return l },
		EventFail:    func(db *DB, l *Latch, _ *bool) *Latch { db.Fail(l, errors.New("no SA")); return l },
		EventRelease: func(db *DB, l *Latch, _ *bool) *Latch { db.Release(l); return l },
		EventClose:   func(db *DB, l *Latch, _ *bool) *Latch { db.Close(l, nil); return l },
	}
	table := make(map[string]State)
	for _, tr := range Transitions() {
		table[fmt.Sprint(tr.From, tr.Event)] = tr.To
	}
	cells := 0
	for from := range stateCount {
		for ev := Event(1); ev < eventCount; ev++ {
			cells++
			conflict := false
			db := New(Config{Conflicting: func(ts.Flow, *Params) bool { return conflict }})
			before := reach[from](db)
			if before.State() != from {
				t.Fatalf("reached %v, not %v", before.State(), from)
			}
			after := fire[ev](db, before, &conflict)
			want, inTable := table[fmt.Sprint(from, ev)]
			switch {
			case !inTable && (after != before || after.State() != from):
				t.Errorf("%v + %v is not in the table, but leads to %v", from, ev, after.State())
			case inTable && after.State() != want:
				t.Errorf("%v + %v leads to %v, want %v", from, ev, after.State(), want)
			}
			if s := after.State(); s != StateClosed && db.Len() == 0 || s == StateClosed && db.Find(f) == after {
				t.Errorf("%v + %v: %v, but the database has %d", from, ev, s, db.Len())
			}
		}
	}
	if cells != int(stateCount)*int(eventCount-1) || len(table) != len(Transitions()) {
		t.Errorf("%d cells, %d transitions", cells, len(table))
	}
}

func TestZeroIsClosed(t *testing.T) {
	var s State
	var l Latch
	if s != StateClosed || l.State() != StateClosed || l.Permits(params("a")) {
		t.Error("the zero values let packets pass")
	}
	for s := range stateCount + 1 {
		if s.String() == "" {
			t.Error(s)
		}
	}
	for e := range eventCount + 1 {
		if e.String() == "" {
			t.Error(e)
		}
	}
}

func TestLATCH2_3_NothingBeforeEstablished(t *testing.T) {
	db := New(Config{})
	l := connect(t, db, flowTo("10.0.0.2", 1), nil, nil)
	if l.State() != StateLarval || l.Permits(params("a")) || l.Permits(nil) || l.Params() != nil || l.Err() != nil {
		t.Error("a larval latch lets packets pass")
	}
	p := params("a")
	if err := db.Establish(l, p); err != nil || !l.Permits(p) {
		t.Error(err)
	}
}

func TestLATCH4_5_OnlyCongruentPackets(t *testing.T) {
	db := New(Config{})
	p := params("a")
	l := connect(t, db, flowTo("10.0.0.2", 1), p, nil)
	if !l.Permits(p) || !l.Permits(params("a")) { // L4: another SA with equal parameters
		t.Error("congruent packets are dropped")
	}
	if l.Permits(nil) {
		t.Error("clear packets pass") // ADV-L8
	}
	for name, f := range map[string]func(*Params){ // ADV-L1, L3, L5
		"peer":       func(p *Params) { p.Peer = "b" },
		"local":      func(p *Params) { p.Local = "key:SHA256:other" },
		"protection": func(p *Params) { p.Protection = Integrity },
		"mode":       func(p *Params) { p.Mode = 2 },
		"replay":     func(p *Params) { p.Replay = false },
		"suite":      func(p *Params) { p.Suite = "aes128gcm16" },
	} {
		q := params("a")
		f(q)
		if l.Permits(q) {
			t.Errorf("another %s passes", name)
		}
		if l.Params() != p || !l.Permits(p) {
			t.Errorf("%s: the latch moved", name) // LATCH-12
		}
		if Congruent(p, q, nil) || len(db.Conflicts(pairFor("10.0.0.1", "10.0.0.2"), *q)) != 1 {
			t.Errorf("%s: no conflict", name)
		}
	}
}

func pairFor(local, remote string) ts.Pair {
	l, err := ts.Parse(local)
	if err != nil {
		panic(err)
	}
	r, err := ts.Parse(remote)
	if err != nil {
		panic(err)
	}
	return ts.Pair{Local: ts.Set{l}, Remote: ts.Set{r}}
}

func TestLATCH12_ParametersNeverChange(t *testing.T) {
	db := New(Config{})
	p := params("a")
	l := connect(t, db, flowTo("10.0.0.2", 1), p, nil)
	if err := db.Establish(l, params("a")); err != nil {
		t.Errorf("congruent again: %v", err) // RFC 5660, Section 4
	}
	if err := db.Establish(l, params("b")); !errors.Is(err, ErrState) {
		t.Errorf("another peer: %v", err)
	}
	db.Break(l, ReasonConflict, "")
	if err := db.Establish(l, params("a")); !errors.Is(err, ErrBroken) {
		t.Errorf("broken: %v", err)
	}
	db.Clear(l, ReasonConflict)
	if l.Params() != p || !l.Permits(p) {
		t.Error("other parameters after the break")
	}
	db.Release(l)
	if err := db.Establish(l, params("a")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestLATCH18_QualityOfAWideSA(t *testing.T) {
	db := New(Config{})
	l := connect(t, db, flowTo("10.0.0.2", 1), nil, nil)
	if _, indeterminate := l.Quality(); !indeterminate {
		t.Error("larval")
	}
	if err := db.Establish(l, params("a"), "aes256gcm16", "chacha20poly1305"); err != nil {
		t.Fatal(err)
	}
	q := params("a")
	q.Suite = "chacha20poly1305"
	if suite, indeterminate := l.Quality(); suite != "aes256gcm16" || !indeterminate || !l.Permits(q) {
		t.Errorf("wide: %s %v", suite, indeterminate)
	}
	weak := params("a")
	weak.Suite = "aes128gcm16"
	if l.Permits(weak) {
		t.Error("a suite outside the set passes")
	}
	n := connect(t, db, flowTo("10.0.0.2", 2), params("a"), nil)
	if suite, indeterminate := n.Quality(); suite != "aes256gcm16" || indeterminate {
		t.Errorf("narrow: %s %v", suite, indeterminate)
	}
}

func TestLATCH29_WantsAreKept(t *testing.T) {
	good := params("a")
	for name, w := range map[string]Want{
		"peer":       {Peer: "b"},
		"local":      {Local: "key:SHA256:other"},
		"mode":       {Mode: 2},
		"suite":      {Suites: []string{"chacha20poly1305"}},
		"protection": {Protection: Confidentiality | Integrity},
	} {
		db := New(Config{})
		l, err := db.Connect(flowTo("10.0.0.2", 1), w, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := *good
		if name == "protection" {
			p.Protection = Integrity
		}
		var mismatch *MismatchError
		if err := db.Establish(l, &p); !errors.As(err, &mismatch) || l.State() != StateLarval || l.Params() != nil {
			t.Errorf("%s: %v, %v", name, err, l.State())
		} else if !strings.Contains(mismatch.Error(), mismatch.Want) {
			t.Error(mismatch)
		} else if name == "mode" && mismatch.Error() != "latch: mode is tunnel, wanted transport" {
			t.Error(mismatch)
		}
		if name != "suite" && name != "local" && w.NeedsNarrow() || (name == "suite" || name == "local") && !w.NeedsNarrow() {
			t.Errorf("%s: narrow %v", name, w.NeedsNarrow()) // LATCH-17
		}
	}
	w := Want{Suites: []string{"aes256gcm16", "chacha20poly1305"}}
	db := New(Config{})
	l, err := db.Connect(flowTo("10.0.0.2", 1), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Suites[0] = "changed" // L30: the latch has its own copy
	if err := db.Establish(l, good, "aes256gcm16", "aes128gcm16"); err != nil {
		t.Fatal(err)
	}
	if s := l.Inquire().Suites; len(s) != 1 || s[0] != "aes256gcm16" {
		t.Errorf("latched %v: what the policy allows but the owner does not want", s)
	}
	if err := (&Want{}).Check(nil); err == nil {
		t.Error("no protection will do")
	}
	if err := (&Want{}).Check(&Params{Peer: "a"}); err == nil {
		t.Error("an SA that protects nothing will do")
	}
}

func TestLATCH20_ListenerHearsOfBirths(t *testing.T) {
	db := New(Config{})
	var h heard
	key := Key3{Addr: netip.MustParseAddr("10.0.0.1"), Proto: 6, Port: 80}
	ln, err := db.Listen(key, Want{Peer: "a"}, h.alert)
	if err != nil {
		t.Fatal(err)
	}
	f := ts.MakeFlow(6, netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:1000"))
	l, alerts, err := db.Accept(ln, f, params("a"))
	if err != nil || len(h.list) != 0 {
		t.Fatal(err, h.list)
	}
	alerts.Deliver()
	if len(h.list) != 1 || h.list[0].Child != l || h.list[0].Latch != ln || h.list[0].State != StateEstablished || h.list[0].Flow != f {
		t.Errorf("%+v", h.list)
	}
	if l.Listener() != ln || l.Want().Peer != "a" || ln.State() != StateListener || db.Find(f) != l || l.ID() == ln.ID() || ln.Key() != key {
		t.Error("the newborn")
	}
	// It inherits the listener's owner until it has its own.
	db.Break(l, ReasonDead, "").Deliver()
	var own heard
	l.SetAlert(own.alert)
	db.Clear(l, ReasonDead).Deliver()
	l.SetAlert(nil)
	db.Break(l, ReasonDead, "").Deliver()
	if h.states() != "ESTABLISHED BROKEN" || own.states() != "ESTABLISHED" {
		t.Errorf("%q %q", h.states(), own.states())
	}
	if _, _, err := db.Accept(ln, f, params("a")); !errors.Is(err, ErrExists) {
		t.Errorf("the same flow again: %v", err)
	}
}

func TestADV_L12_ListenerWantsAnotherPeer(t *testing.T) {
	db := New(Config{})
	ln, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{Peer: "x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		f := ts.MakeFlow(6, netip.MustParseAddrPort("10.0.0.1:80"), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(i)))
		var mismatch *MismatchError
		if _, _, err := db.Accept(ln, f, params("y")); !errors.As(err, &mismatch) {
			t.Fatal(err)
		}
	}
	if db.Len() != 1 {
		t.Errorf("%d latches", db.Len())
	}
}

func TestListeners(t *testing.T) {
	db := New(Config{})
	a := netip.MustParseAddr("10.0.0.1")
	all, err1 := db.Listen(Key3{Addr: netip.IPv4Unspecified(), Proto: 6, Port: 80}, Want{}, nil)
	one, err2 := db.Listen(Key3{Addr: a, Proto: 6, Port: 80}, Want{}, nil)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, nil); !errors.Is(err, ErrExists) {
		t.Error("two listeners for one 3-tuple:", err)
	}
	if db.FindListener(a, 6, 80) != one || db.FindListener(netip.MustParseAddr("10.0.0.9"), 6, 80) != all || db.FindListener(a, 17, 80) != nil {
		t.Error("find")
	}
	if !db.Release(one) || db.Release(one) || db.FindListener(a, 6, 80) != all || db.Len() != 1 {
		t.Error("release")
	}
	if !errors.Is(one.Err(), net.ErrClosed) {
		t.Error(one.Err())
	}
	if _, _, err := db.Accept(one, flowTo("10.0.0.2", 1), params("a")); !errors.Is(err, ErrState) {
		t.Error("accept from a closed listener:", err)
	}
}

func TestLATCH25_NoBirthWithConflictingSAs(t *testing.T) {
	db := New(Config{Conflicting: func(ts.Flow, *Params) bool { return true }})
	l := connect(t, db, flowTo("10.0.0.2", 1), nil, nil)
	if err := db.Establish(l, params("a")); !errors.Is(err, ErrConflict) || l.State() != StateBroken || l.Permits(params("a")) {
		t.Error(err, l.State())
	}
	ln, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := db.Accept(ln, flowTo("10.0.0.3", 1), params("a"))
	if err != nil || c.State() != StateBroken || c.Permits(params("a")) {
		t.Error(err)
	}
}

// The SA comes between the two questions that birth asks.
func TestLATCH25_RaceWithANewSA(t *testing.T) {
	asked := 0
	db := New(Config{Conflicting: func(ts.Flow, *Params) bool { asked++; return asked%2 == 0 }})
	l := connect(t, db, flowTo("10.0.0.2", 1), nil, nil)
	if err := db.Establish(l, params("a")); !errors.Is(err, ErrConflict) || l.State() != StateBroken {
		t.Error(err, l.State())
	}
	ln, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, alerts, err := db.Accept(ln, flowTo("10.0.0.3", 1), params("a")); err != nil || c.State() != StateBroken || alerts[0].State != StateBroken {
		t.Error(err)
	}
}

func TestLATCH25_ConflictRule(t *testing.T) {
	db := New(Config{})
	a := connect(t, db, flowTo("10.0.0.2", 1), params("a"), nil)
	b := connect(t, db, flowTo("10.0.0.3", 1), params("b"), nil)
	connect(t, db, flowTo("10.0.0.2", 2), nil, nil) // larval: nothing latched, so nothing to conflict with
	for _, tc := range []struct {
		local, remote, peer string
		want                []*Latch
	}{
		{"10.0.0.1", "10.0.0.2", "a", nil},
		{"10.0.0.1", "10.0.0.2", "b", []*Latch{a}},
		{"10.0.0.1", "10.0.0.3", "b", nil},
		{"10.0.0.0/8", "0.0.0.0/0", "c", []*Latch{a, b}},
		{"10.0.0.0/8", "0.0.0.0/0", "a", []*Latch{b}},
		{"10.0.0.1[udp]", "10.0.0.2[udp]", "b", nil},
		{"10.0.0.1[tcp/1]", "10.0.0.2[tcp/80]", "b", []*Latch{a}},
		{"10.0.0.1[tcp/9]", "10.0.0.2[tcp/80]", "b", nil},
		{"10.0.0.9", "10.0.0.2", "b", nil},
		{"fd00::/8", "::/0", "c", nil},
	} {
		got := db.Conflicts(pairFor(tc.local, tc.remote), *params(tc.peer))
		if len(got) != len(tc.want) || len(got) > 0 && got[0] != tc.want[0] && got[0] != tc.want[len(tc.want)-1] {
			t.Errorf("%+v: %d conflicts", tc, len(got))
		}
	}
	db.Break(a, ReasonConflict, "")
	if len(db.Conflicts(pairFor("10.0.0.1", "10.0.0.2"), *params("b"))) != 1 {
		t.Error("a broken latch has no conflicts")
	}
	db.Release(a)
	if len(db.Conflicts(pairFor("10.0.0.1", "10.0.0.2"), *params("b"))) != 0 {
		t.Error("a closed latch has conflicts")
	}
}

func TestLATCH26_NarrowAround(t *testing.T) {
	db := New(Config{})
	a := connect(t, db, flowTo("10.0.0.2", 1), params("a"), nil)
	for _, tc := range []struct {
		local, remote string
		broken        bool
	}{
		{"10.0.0.0/24", "10.0.0.0/24", false},            // the remote address is left out
		{"10.0.0.0/24", "10.0.0.2", false},               // the local one is
		{"10.0.0.1", "10.0.0.2[tcp]", false},             // one port is
		{"10.0.0.1[tcp/1]", "10.0.0.2[tcp/80]", true},    // nothing is left
		{"10.0.0.1", "10.0.0.2", true},                   // all but one flow cannot be said
		{"10.0.0.1[tcp/1-9]", "10.0.0.2[tcp/80]", false}, // a local port
	} {
		proposed := pairFor(tc.local, tc.remote)
		conflicts := db.Conflicts(proposed, *params("b"))
		if len(conflicts) != 1 || conflicts[0] != a {
			t.Fatalf("%+v: %v", tc, conflicts)
		}
		got, rest := NarrowAround(proposed, conflicts)
		if (len(rest) == 1) != tc.broken {
			t.Errorf("%+v: %v, %d to break", tc, got, len(rest))
		}
		if !proposed.Covers(got) || got.Empty() || !tc.broken && got.MatchOut(a.Flow()) {
			t.Errorf("%+v: narrowed to %v", tc, got)
		}
		if n := len(db.Conflicts(got, *params("b"))); (n == 0) == tc.broken {
			t.Errorf("%+v: %d conflicts afterwards", tc, n)
		}
	}
	for i := range uint16(40) { // past MaxNarrowed holes the rest is to be broken
		connect(t, db, flowTo("10.0.0.2", 100+2*i), params("a"), nil)
	}
	proposed := pairFor("10.0.0.1[tcp]", "10.0.0.2[tcp/80]")
	got, rest := NarrowAround(proposed, db.Conflicts(proposed, *params("b")))
	if len(rest) == 0 || len(got.Local) > 1+MaxNarrowed {
		t.Errorf("%d selectors, %d to break", len(got.Local), len(rest))
	}
}

func TestLATCH27_34_BrokenBeforeAccepted(t *testing.T) {
	db := New(Config{})
	var h heard
	p := params("a")
	l := connect(t, db, flowTo("10.0.0.2", 1), p, h.alert)
	alerts := db.Break(l, ReasonConflict, "SA of b")
	// The break holds as soon as the call returns, before anybody is told.
	if l.State() != StateBroken || l.Permits(p) || len(h.list) != 0 {
		t.Error("the break waits for its alert")
	}
	alerts.Deliver()
	if len(h.list) != 1 || h.list[0].Reasons != ReasonConflict || h.list[0].Detail != "SA of b" || h.list[0].Disposition != DispositionReset {
		t.Errorf("%+v", h.list)
	}
	var broken *BrokenError
	if err := l.Err(); !errors.Is(err, ErrBroken) || !errors.As(err, &broken) || !strings.Contains(err.Error(), "SA of b") {
		t.Error(err)
	}
}

func TestBrokenUntilTheLastReasonGoes(t *testing.T) {
	conflict := false
	db := New(Config{Conflicting: func(ts.Flow, *Params) bool { return conflict }})
	var h heard
	p := params("a")
	l := connect(t, db, flowTo("10.0.0.2", 1), p, h.alert)
	db.Break(l, ReasonConflict, "").Deliver()
	db.Break(l, ReasonPolicy, "").Deliver()
	if db.Break(l, ReasonPolicy, "") != nil {
		t.Error("the same reason twice")
	}
	db.Clear(l, ReasonPolicy).Deliver()
	conflict = true
	db.Clear(l, ReasonConflict).Deliver()
	if l.State() != StateBroken {
		t.Error("established in spite of a conflict")
	}
	conflict = false
	db.Clear(l, ReasonConflict).Deliver()
	if l.State() != StateEstablished || !l.Permits(p) || h.states() != "BROKEN BROKEN ESTABLISHED" {
		t.Error(l.State(), h.states())
	}
	for i, a := range h.list {
		if a.Seq != uint64(i+1) {
			t.Errorf("alert %d has number %d", i, a.Seq)
		}
	}
	if db.Clear(l, ReasonConflict) != nil {
		t.Error("cleared twice")
	}
}

func TestLATCH28_Judge(t *testing.T) {
	db := New(Config{})
	var h heard
	a := connect(t, db, flowTo("10.0.0.2", 1), params("a"), h.alert)
	b := connect(t, db, flowTo("10.0.0.3", 1), params("b"), h.alert)
	l := connect(t, db, flowTo("10.0.0.4", 1), nil, h.alert)
	alerts := db.Judge(func(_ ts.Flow, p *Params) bool { return p.Peer == "b" }, "reload")
	if a.State() != StateBroken || b.State() != StateEstablished || l.State() != StateLarval || len(alerts) != 1 {
		t.Error(a.State(), b.State(), l.State(), alerts)
	}
	alerts = db.Judge(func(ts.Flow, *Params) bool { return true }, "reload")
	if a.State() != StateEstablished || len(alerts) != 1 {
		t.Error(a.State(), alerts)
	}
}

func TestLATCH16_PeerDead(t *testing.T) {
	db := New(Config{})
	a1 := connect(t, db, flowTo("10.0.0.2", 1), params("a"), nil)
	a2 := connect(t, db, flowTo("10.0.0.2", 2), params("a"), nil)
	b := connect(t, db, flowTo("10.0.0.2", 3), params("b"), nil)
	if n := len(db.PeerDead("a", "no answer for 150 s")); n != 2 || a1.State() != StateBroken || a2.State() != StateBroken || b.State() != StateEstablished {
		t.Error(n)
	}
	// L15: disposition wait lets it come back with the same identity.
	db.Clear(a1, ReasonDead)
	if a1.State() != StateEstablished || a1.Permits(params("b")) {
		t.Error("after the return")
	}
}

func TestLATCH19_33_AdministrativeClose(t *testing.T) {
	db := New(Config{})
	var h heard
	f := flowTo("10.0.0.2", 1)
	l := connect(t, db, f, params("a"), h.alert)
	cause := errors.New("closed by the administrator")
	db.Close(l, cause).Deliver()
	if l.State() != StateClosed || l.Permits(params("a")) || h.states() != "CLOSED" || db.Find(f) != nil || db.Len() != 0 {
		t.Error(l.State(), h.states())
	}
	if err := l.Err(); !errors.Is(err, net.ErrClosed) || !errors.Is(err, cause) {
		t.Error(err)
	}
	if db.Close(l, cause) != nil || db.Break(l, ReasonAdmin, "") != nil || db.Release(l) {
		t.Error("a closed latch moves")
	}
}

func TestLATCH22_FailureIsReported(t *testing.T) {
	db := New(Config{})
	var h heard
	l := connect(t, db, flowTo("10.0.0.2", 1), nil, h.alert)
	db.Fail(l, errors.New("peer refused: AUTHENTICATION_FAILED")).Deliver()
	if h.states() != "CLOSED" || !strings.Contains(h.list[0].Detail, "AUTHENTICATION_FAILED") || db.Len() != 0 {
		t.Errorf("%+v", h.list)
	}
	e := connect(t, db, flowTo("10.0.0.2", 2), params("a"), h.alert)
	if db.Fail(e, errors.New("late")) != nil || e.State() != StateEstablished {
		t.Error("an established latch fails")
	}
}

func TestLATCH14_CloseAll(t *testing.T) {
	db := New(Config{})
	var h heard
	connect(t, db, flowTo("10.0.0.2", 1), params("a"), h.alert)
	connect(t, db, flowTo("10.0.0.2", 2), nil, h.alert)
	if _, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, h.alert); err != nil {
		t.Fatal(err)
	}
	db.CloseAll(errors.New("the key manager restarted")).Deliver()
	if h.states() != "CLOSED CLOSED CLOSED" || db.Len() != 0 {
		t.Error(h.states(), db.Len())
	}
}

func TestLATCH31_37_38_ReleaseAndDisposition(t *testing.T) {
	db := New(Config{})
	var h heard
	f := flowTo("10.0.0.2", 1)
	l := connect(t, db, f, params("a"), h.alert)
	if !db.Release(l) || db.Release(l) || db.Find(f) != nil || len(h.list) != 0 {
		t.Error("release")
	}
	if DispositionDefault.For(6) != DispositionReset || DispositionDefault.For(17) != DispositionWait ||
		DispositionWait.For(6) != DispositionWait || DispositionReset.For(17) != DispositionReset {
		t.Error("dispositions")
	}
	for d := range DispositionWait + 2 {
		if d.String() == "" {
			t.Error(d)
		}
	}
}

func TestADV_L17_L18_NothingIsInherited(t *testing.T) {
	db := New(Config{})
	f := flowTo("10.0.0.2", 1)
	old := connect(t, db, f, params("a"), nil)
	if _, err := db.Connect(f, Want{}, nil); !errors.Is(err, ErrExists) {
		t.Error("two latches for one flow:", err)
	}
	db.Release(old)
	l := connect(t, db, f, nil, nil)
	if l == old || l.ID() == old.ID() || l.Params() != nil || l.Permits(params("a")) {
		t.Error("the new latch inherits")
	}
	if old.Permits(params("a")) || db.Find(f) != l {
		t.Error("the old latch lives on")
	}
	db.Release(old)
	if db.Find(f) != l || db.Len() != 1 {
		t.Error("a stale handle closes the new latch")
	}
}

func TestFlowsThatAreNone(t *testing.T) {
	db := New(Config{})
	gre := ts.MakeFlow(47, netip.MustParseAddrPort("10.0.0.1:0"), netip.MustParseAddrPort("10.0.0.2:0"))
	for _, f := range []ts.Flow{{}, gre, flowTo("10.0.0.2", 1).WithoutPorts()} {
		if _, err := db.Connect(f, Want{}, nil); !errors.Is(err, ErrFlow) {
			t.Errorf("%v: %v", f, err)
		}
	}
	if db.Find(ts.Flow{}) != nil || db.Len() != 0 {
		t.Error("find")
	}
}

func TestI8_Bounded(t *testing.T) {
	db := New(Config{Max: 3})
	var ls []*Latch
	for i := range uint16(3) {
		ls = append(ls, connect(t, db, flowTo("10.0.0.2", i), nil, nil))
	}
	if _, err := db.Connect(flowTo("10.0.0.2", 9), Want{}, nil); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := db.Listen(Key3{Proto: 6, Port: 1}, Want{}, nil); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	db.Release(ls[1])
	connect(t, db, flowTo("10.0.0.2", 9), nil, nil)
	if db.Len() != 3 {
		t.Error(db.Len())
	}
}

func TestLATCH6_Inquire(t *testing.T) {
	db := New(Config{})
	l := connect(t, db, flowTo("10.0.0.2", 1), params("a"), nil)
	db.Break(l, ReasonPolicy|ReasonDead, strings.Repeat("x", 10000)+"\xff")
	s := l.Inquire()
	if s.State != StateBroken || s.Flow != l.Flow() || s.Params != l.Params() || s.Reasons != ReasonPolicy|ReasonDead || len(s.Detail) > maxDetail {
		t.Errorf("%+v", s)
	}
	for _, want := range []string{"BROKEN tcp 10.0.0.1:1 > 10.0.0.2:80", "peer a", "aes256gcm16", "tunnel", "policy change, peer dead"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("%q has no %q", s, want)
		}
	}
	ln, err := db.Listen(Key3{Addr: netip.MustParseAddr("10.0.0.1"), Proto: 6, Port: 80}, Want{}, nil)
	if err != nil || ln.Inquire().String() != "LISTENER 10.0.0.1 proto 6 port 80" {
		t.Error(err, ln.Inquire())
	}
	seen := 0
	db.Each(func(*Latch) bool { seen++; return true })
	first := 0
	db.Each(func(*Latch) bool { first++; return false })
	if seen != 2 || first != 1 {
		t.Error(seen, first)
	}
	p := *params("a")
	p.Mode, p.Replay, p.Protection = 2, false, 0
	if got := p.String(); !strings.Contains(got, "transport") || !strings.Contains(got, "no replay") || !strings.Contains(got, "none") {
		t.Error(got)
	}
	if Reasons(0).String() != "none" || (Integrity|Confidentiality).String() != "integrity+confidentiality" {
		t.Error("names")
	}
}

// RFC 5660, Section 2.3.2: hosts A and B, attacker C, each with a certificate of one CA. Seen
// from A, which has latched its connection to B.
func TestLATCH_Section232_Example(t *testing.T) {
	db := New(Config{})
	var h heard
	f := ts.MakeFlow(6, netip.MustParseAddrPort("192.0.2.1:32800"), netip.MustParseAddrPort("192.0.2.2:4000"))
	l, err := db.Connect(f, Want{}, h.alert)
	if err != nil {
		t.Fatal(err)
	}
	b, c := params("fqdn:b.example"), params("fqdn:c.example")
	if err := db.Establish(l, b); err != nil {
		t.Fatal(err)
	}
	// C pretends to have B's address and proposes SAs for it.
	proposal := pairFor("192.0.2.1", "192.0.2.2")
	narrowed, rest := NarrowAround(proposal, db.Conflicts(proposal, *c))
	if len(rest) != 1 || rest[0] != l || !narrowed.Equal(proposal) {
		t.Fatalf("%v, %v", narrowed, rest)
	}
	for _, x := range rest {
		db.Break(x, ReasonConflict, "SA of fqdn:c.example").Deliver()
	}
	if h.states() != "BROKEN" || l.Permits(c) || l.Permits(b) || h.list[0].Disposition != DispositionReset {
		t.Errorf("%+v", h.list)
	}
}

// TestConflictAsOneIsCleared: an SA that conflicts comes after Clear has asked and found none, and before the latch is
// established again. It breaks nothing, for broken is what the latch still is; so Clear asks again.
func TestConflictAsOneIsCleared(t *testing.T) {
	conflict := false
	var during func()
	db := New(Config{Conflicting: func(ts.Flow, *Params) bool {
		defer func() {
			if f := during; f != nil {
				during = nil
				f()
			}
		}()
		return conflict
	}})
	l := connect(t, db, flowTo("192.0.2.9", 80), params("a"), nil)
	db.Break(l, ReasonConflict, "one")
	during = func() {
		conflict = true
		db.Break(l, ReasonConflict, "another")
	}
	if as := db.Clear(l, ReasonConflict); l.State() != StateBroken || l.Inquire().Reasons != ReasonConflict {
		t.Errorf("%v with a conflicting SA, told %v", l.Inquire(), as)
	}
	conflict = false
	if as := db.Clear(l, ReasonConflict); len(as) != 1 || l.State() != StateEstablished {
		t.Errorf("%v without any, told %v", l.Inquire(), as)
	}
}
