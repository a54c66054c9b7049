package ike_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// An initiator is asked to authenticate anew before the time is over, by its own
// configuration or by the responder's AUTH_LIFETIME (RFC 4478); it survives rekeying the
// IKE SA. Make before break is the engine's: a new SA, then the old one's Delete.
func TestReauthentication(t *testing.T) {
	for _, whose := range []string{"ours", "peer's", "both"} {
		for _, rekeyed := range []bool{false, true} {
			s, a, b := hosts(t, 300)
			if whose != "peer's" {
				a.Config.Life.Reauth = 2 * time.Hour
			}
			if whose != "ours" {
				b.Config.Life.Reauth = time.Hour
			}
			if rekeyed {
				a.Config.Life.Rekey = 20 * time.Minute
			}
			e, _ := up(t, s, a, b)
			start := s.Elapsed()
			if !s.Run(3*time.Hour, func() bool { return len(e.Last().Reauth) > 0 }) {
				t.Fatalf("%s, rekeyed %v: not asked", whose, rekeyed)
			}
			most := time.Hour
			if whose == "ours" {
				most = 2 * time.Hour
			}
			if took := s.Elapsed() - start; took > most || took < most*7/10 {
				t.Errorf("%s, rekeyed %v: after %v", whose, rekeyed, took)
			}
			old := e.Last()
			if rekeyed == (old == e) {
				t.Error("rekeyed or not")
			}
			if old.Reauth[0].Err != nil || !rekeyed && (whose != "peer's") == old.Reauth[0].Deadline.IsZero() {
				t.Errorf("%+v", old.Reauth[0])
			}
			fresh := a.Connect(b, nil)
			s.Run(time.Second, nil)
			old.Do(func(m *ike.Machine) { m.Delete(s.Now) })
			s.Settle(10 * time.Minute)
			clean(t, s)
			if !fresh.Last().Up() || len(old.Reauth) != 1 {
				t.Error("not make before break")
			}
		}
	}
}

// asked counts the reasons to authenticate anew that an end was told of.
func asked(e *iketest.End) (n int) {
	for _, r := range e.Reauth {
		if !r.Again {
			n++
		}
	}
	return n
}

// An initiator is asked again and again while the SA stands, less and less often, and with
// what was the reason; a new SA of the same authentication goes on with that. In a short
// life there are several times as well.
func TestReauthenticationIsAskedForAgain(t *testing.T) {
	for _, r := range []struct {
		reauth, over time.Duration
		least, most  int
		gap          time.Duration // the longest is no shorter
	}{
		{2 * time.Hour, 12 * time.Minute, 12, 40, 30 * time.Second},
		{2 * time.Hour, 4 * time.Second, 2, 4, 500 * time.Millisecond},
		{2 * time.Hour, 600 * time.Millisecond, 1, 1, 0},
	} {
		s, a, b := hosts(t, 304)
		a.Config.Life = ike.IKELife{Reauth: r.reauth, Over: r.over, Exact: true}
		e, _ := up(t, s, a, b)
		var at []time.Duration
		count := func() bool {
			n := 0
			for _, e := range a.Ends {
				n += len(e.Reauth)
			}
			for len(at) < n {
				at = append(at, s.Elapsed())
			}
			return false
		}
		s.Run(r.reauth+r.over/3, count)
		if len(at) > 1 {
			e.Do(func(m *ike.Machine) { m.RekeyIKE(s.Now) })
		}
		s.Run(r.over, count)
		if c := e.Last().Closed; (e.Last() != e) != (len(at) > 1) || c == nil || c.Reason != ike.ReasonExpired {
			t.Errorf("over %v: %+v", r.over, c)
		}
		var gap time.Duration
		for i := 1; i < len(at); i++ {
			gap = max(gap, at[i]-at[i-1])
		}
		if len(at) < r.least || len(at) > r.most || gap < r.gap {
			t.Errorf("over %v: asked at %v", r.over, at)
		}
		if n := asked(e); n != 1 {
			t.Errorf("over %v: %d reasons", r.over, n)
		}
		clean(t, s)
	}

	s, a, b := hosts(t, 305)
	b.Config.Heirs = false
	e, _ := up(t, s, a, b)
	rekeyIKE(s, e)
	s.Run(time.Minute, nil)
	if len(e.Reauth) < 2 {
		t.Fatal("asked once")
	}
	for _, r := range e.Reauth {
		wantNotify(t, r.Err, wire.NotifyNoAdditionalSAs, true)
	}
}

// Who does not authenticate anew loses the SA, at the end that wanted it.
func TestAuthenticationEnds(t *testing.T) {
	s, a, b := hosts(t, 301)
	b.Config.Life.Reauth = time.Hour
	b.Config.Life.Rekey = 25 * time.Minute // the limit goes over to new SAs
	e, o := up(t, s, a, b)
	s.Run(2*time.Hour, func() bool { return o.Last().Closed != nil })
	if c := o.Last().Closed; c == nil || c.Reason != ike.ReasonExpired || s.Elapsed() > 67*time.Minute || s.Elapsed() < time.Hour {
		t.Errorf("%+v after %v", c, s.Elapsed())
	}
	s.Settle(time.Minute)
	clean(t, s)
	if e.Last().Closed.Reason != ike.ReasonPeerDeleted {
		t.Error("initiator")
	}
}

// AUTH_LIFETIME in INFORMATIONAL: zero means at once; a wrong length means nothing; and
// it is no reason to ask anew.
func TestAuthLifetimeLater(t *testing.T) {
	for _, data := range [][]byte{nil, {1}, {0, 0, 0, 0, 0}, {0, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, 600), {255, 255, 255, 255}} {
		s, a, b := hosts(t, 302)
		e, o := up(t, s, a, b)
		for i := range 3 {
			s.Forge(o, wire.Header{Exchange: wire.ExchangeInformational, MessageID: uint32(i)}, &wire.Notify{NType: wire.NotifyAuthLifetime, Data: data})
			s.Run(time.Second, nil)
		}
		s.Run(20*time.Minute, nil)
		want := 0
		if len(data) == 4 && data[0] == 0 {
			want = 1
		}
		if asked(e) != want {
			t.Errorf("%x: asked %d times", data, asked(e))
		}
		clean(t, s)
	}
}

// Both ends connect at once: two IKE SAs stand, and each can be used and deleted.
func TestSimultaneousInitiation(t *testing.T) {
	s, a, b := hosts(t, 303)
	x, y := a.Connect(b, nil), b.Connect(a, nil)
	both(t, s, x)
	both(t, s, y)
	rekeyIKE(s, x)
	rekeyIKE(s, y)
	s.Run(time.Second, nil)
	if n := len(a.Established()); n != 2 {
		t.Fatalf("%d IKE SAs", n)
	}
	y.Last().Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Settle(time.Minute)
	clean(t, s)
	only(t, live(t, a))
}

// Times and ChildLife tell what an operator sees: when the limits come, and a child SA on
// its way out.
func TestTimes(t *testing.T) {
	s, a, b := hosts(t, 301)
	a.Config.Life = ike.IKELife{Rekey: 4 * time.Hour, Reauth: 9 * time.Hour, Over: time.Hour, Exact: true}
	a.Terms.Lifetime = ike.Lifetime{Rekey: time.Hour, Life: 2 * time.Hour, Exact: true}
	e, _ := up(t, s, a, b)
	near := func(what string, at time.Time, d time.Duration) {
		t.Helper()
		if left := at.Sub(s.Now); left > d || left < d-time.Minute {
			t.Errorf("%s in %v, want %v", what, left, d)
		}
	}
	c := only(t, e)
	e.Do(func(m *ike.Machine) {
		tm := m.Times()
		near("rekey", tm.Rekey, 4*time.Hour)
		near("reauth", tm.Reauth, 9*time.Hour)
		near("end", tm.End, 5*time.Hour)
		l, ok := m.ChildLife(c.InSPI)
		if !ok || l.Rekeying || l.Replaced || l.Deleting || !l.Reauth.IsZero() {
			t.Errorf("%v %+v", ok, l)
		}
		near("child rekey", l.Rekey, time.Hour)
		near("child end", l.End, 2*time.Hour)
		if _, ok := m.ChildLife(c.InSPI + 1); ok {
			t.Error("a child SA that is not there")
		}
		m.RekeyChild(s.Now, c.InSPI)
	})
	e.Do(func(m *ike.Machine) {
		if l, _ := m.ChildLife(c.InSPI); !l.Rekeying {
			t.Errorf("%+v", l)
		}
	})
	s.Run(time.Second, nil)
	fresh := only(t, e)
	e.Do(func(m *ike.Machine) {
		m.DeleteChild(s.Now, fresh.InSPI)
		if l, _ := m.ChildLife(fresh.InSPI); !l.Deleting {
			t.Errorf("%+v", l)
		}
	})
}

// A responder that wants to be authenticated to all the time does not get it: limits are
// reasonable, as RFC 4478, Section 5, has it.
func TestAuthLifetimeOfNothing(t *testing.T) {
	for _, seconds := range []byte{0, 1, 3} {
		s, a, b := hosts(t, 302)
		s.Rewrite(func(o *iketest.Opened) bool {
			if o.From.Host != b || o.Header.Exchange != wire.ExchangeIKEAuth {
				return false
			}
			o.Payloads = append(o.Payloads, &wire.Notify{NType: wire.NotifyAuthLifetime, Data: []byte{0, 0, 0, seconds}})
			return true
		})
		e, _ := up(t, s, a, b)
		start := s.Elapsed()
		if !s.Run(time.Minute, func() bool { return len(e.Reauth) > 0 }) {
			t.Fatalf("%d s: never asked", seconds)
		}
		if took := s.Elapsed() - start; took < 3*time.Second {
			t.Errorf("%d s: asked after %v", seconds, took)
		}
		clean(t, s)
	}
}
