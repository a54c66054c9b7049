package engine

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun/tuntest"
)

// Time is the test's in this file: what is due at a moment happens when the test says that it
// has come. gVisor's goroutines keep testing/synctest from doing so.

// leap has a host do what is due at a time to come.
func leap(e *Engine, at time.Time) { e.ask(func(time.Time) { e.k.tick(at) }) }

// anew leaps, with that IKE SA alone, to when the one IKE SA that stands is to be authenticated anew, and returns when
// that is.
func anew(t *testing.T, e *Engine) (at time.Time) {
	t.Helper()
	e.ask(func(time.Time) {
		for _, s := range e.k.sas {
			if s.est != nil && s.until.IsZero() && s.succeeding == nil && !s.deleted {
				at = s.m.Times().Reauth
				s.m.Tick(at)
				e.k.drain(at, s)
			}
		}
	})
	if at.IsZero() {
		t.Fatal("no IKE SA is to be authenticated anew")
	}
	return at
}

// renewing are two hosts with an IKE SA that a authenticates anew after an hour.
func renewing(t *testing.T, more ...func(c *Conn)) (n *tuntest.Net, a, b *testHost, ea, eb *Engine) {
	t.Helper()
	n = tuntest.NewNet(tuntest.Faults{})
	a, b = known(t, n)
	childless := func(c *Conn) { c.Childless = ike.ChildlessAllow }
	eb = b.start(t, childless)
	echo(t, eb)
	ea = a.start(t, append(more, childless, func(c *Conn) { c.Life = IKELife{Reauth: time.Hour, Exact: true} })...)
	if err := ea.Initiate(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have it", func() bool { return spi(ea, 1) != "" && spi(eb, 1) != "" })
	return n, a, b, ea, eb
}

// spi is the initiator's SPI of the one IKE SA that a host has, 0 if there are more or none,
// or it has not that many children.
func spi(e *Engine, children int) string {
	if st := e.Status(); len(st.IKE) == 1 && st.IKE[0].State == "ESTABLISHED" && len(st.IKE[0].Children) == children {
		return st.IKE[0].SPIi
	}
	return ""
}

// follows waits until both have one IKE SA that is another than old.
func follows(t *testing.T, ea, eb *Engine, old string, children int) {
	t.Helper()
	eventually(t, "both have a new IKE SA", func() bool {
		now := spi(ea, children)
		return now != "" && now != old && spi(eb, children) == now
	})
	idle(t, ea)
}

// refuses makes b refuse a's authentication while it is on.
func refuses(t *testing.T, ea *Engine) (mend func()) {
	t.Helper()
	key := newKey(t)
	swap := func() {
		ea.ask(func(time.Time) { c := ea.k.cfg.Conns[0]; c.Local.Key, key = key, c.Local.Key })
	}
	swap()
	return swap
}

// settled waits until what was begun to follow an IKE SA has come to nothing.
func settled(t *testing.T, e *Engine) {
	t.Helper()
	eventually(t, "nothing is under way", func() (yes bool) {
		e.ask(func(time.Time) {
			yes = len(e.k.acquires) == 0
			for _, s := range e.k.sas {
				yes = yes && s.succession == nil && s.until.IsZero() && s.est != nil
			}
		})
		return yes
	})
}

// RFC 7296, Section 2.8.3: the new IKE SA and its children first, then the old one's Delete.
// It is not the only one of the peer's, and does not say so (Section 2.4).
func TestReauthenticationMakesBeforeBreaking(t *testing.T) {
	t.Parallel()
	_, _, b, ea, eb := renewing(t)
	c, _ := dial(t, ea, b.addr)
	w := eb.k.events.watch()
	defer w.Close()
	old := spi(ea, 1)
	anew(t, ea)
	follows(t, ea, eb, old, 1)
	roundTrip(t, c, []byte("after"))
	var got []EventKind
	for len(got) < 2 || got[len(got)-1] != EventIKEUpDown {
		switch e := next(t, w); e.Kind {
		case EventIKEUpDown, EventChildUpDown:
			if got = append(got, e.Kind); e.Up != (len(got) < 3) {
				t.Errorf("event %d: %+v", len(got), e)
			}
		default:
		}
	}
	if len(got) != 4 || got[0] != EventIKEUpDown || got[1] != EventChildUpDown {
		t.Errorf("%v", got)
	}
	eb.ask(func(time.Time) {
		for _, s := range eb.k.sas {
			if s.until.IsZero() && s.est.InitialContact {
				t.Error("the new IKE SA says INITIAL_CONTACT")
			}
		}
	})
}

// What we sent under the old child SAs is let come to the peer before they are deleted, on a
// path where a Delete overtakes packets.
func TestReauthenticationLosesNothing(t *testing.T) {
	t.Parallel()
	n, _, b, ea, eb := renewing(t)
	c, _ := dial(t, ea, b.addr)
	n.SetFaults(tuntest.Faults{Jitter: 200 * time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	wg.Go(func() {
		for tick := time.NewTicker(200 * time.Microsecond); ; {
			select {
			case <-stop:
				tick.Stop()
				_ = c.Close()
				return
			case <-tick.C:
				_, _ = c.Write(make([]byte, 100))
			}
		}
	})
	old := spi(ea, 1)
	anew(t, ea)
	follows(t, ea, eb, old, 1)
	close(stop)
	wg.Wait()
	eventually(t, "nothing waits for its SA", func() bool { return eb.Data.Stats().Now.EarlyPackets == 0 })
	if d := eb.Data.Stats().Drops; d[datapath.DropSPI]+d[datapath.DropEarly] != 0 {
		t.Errorf("the peer has dropped %d + %d packets", d[datapath.DropSPI], d[datapath.DropEarly])
	}
}

// What is terminated is not continued under the SA that yields to it.
func TestTerminateEndsWhatYields(t *testing.T) {
	t.Parallel()
	_, _, _, ea, _ := renewing(t)
	yielding := func() (n int) {
		ea.ask(func(time.Time) {
			for _, s := range ea.k.sas {
				if s.yields && s.m.State() == ike.StateEstablished {
					n++
				}
			}
		})
		return n
	}
	anew(t, ea)
	eventually(t, "the old one yields", func() bool { return yielding() == 1 })
	if n, err := ea.Terminate("peer-of-a"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n := yielding(); n != 0 {
		t.Errorf("%d stand", n)
	}
}

// One that the peer refuses is tried again, and the old IKE SA serves until then.
func TestReauthenticationIsTriedAgain(t *testing.T) {
	t.Parallel()
	_, _, b, ea, eb := renewing(t)
	c, _ := dial(t, ea, b.addr)
	old := spi(ea, 1)
	mend := refuses(t, ea)
	first := anew(t, ea)
	for range 2 {
		settled(t, ea)
		if spi(ea, 1) != old {
			t.Fatal("the old IKE SA is gone")
		}
		first = anew(t, ea)
	}
	settled(t, ea)
	mend()
	if again := anew(t, ea).Sub(first); again > time.Minute {
		t.Errorf("again after %v", again)
	}
	follows(t, ea, eb, old, 1)
	roundTrip(t, c, []byte("after"))
}

// What comes while a suspicion is looked into is not forgotten.
func TestReauthenticationAfterSuspicion(t *testing.T) {
	t.Parallel()
	n, _, _, ea, eb := renewing(t)
	old := spi(ea, 1)
	n.SetFaults(tuntest.Faults{Drop: 1})
	each := func(f func(now time.Time, s *ikeSA)) {
		ea.ask(func(now time.Time) {
			for _, s := range ea.k.sas {
				if s.est != nil {
					f(now, s)
				}
			}
		})
	}
	each(func(now time.Time, s *ikeSA) { ea.k.suspect(now, s, &ike.Suspect{}) })
	eventually(t, "another is being made", func() bool { return len(ea.Status().IKE) == 2 })
	anew(t, ea)
	each(func(now time.Time, s *ikeSA) { ea.k.cleared(now, s) })
	n.SetFaults(tuntest.Faults{})
	settled(t, ea)
	if spi(ea, 1) != old {
		t.Fatal("the old IKE SA is gone")
	}
	anew(t, ea)
	follows(t, ea, eb, old, 1)
}

// A childless IKE SA is followed by another (RFC 6023).
func TestReauthenticationOfChildless(t *testing.T) {
	t.Parallel()
	_, _, _, ea, eb := renewing(t)
	if n, err := ea.Terminate("all"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	eventually(t, "no child SA", func() bool { return spi(ea, 0) != "" && spi(eb, 0) != "" })
	old := spi(ea, 0)
	anew(t, ea)
	follows(t, ea, eb, old, 0)
}

// A child SA that the peer refuses on the new IKE SA is asked for again there, and the old IKE
// SA keeps its own until it is made.
func TestReauthenticationWithRefusedChild(t *testing.T) {
	t.Parallel()
	_, _, b, ea, eb := renewing(t)
	c, _ := dial(t, ea, b.addr)
	old := spi(ea, 1)
	confs := map[string]*ChildConf{}
	swap := func() { eb.ask(func(time.Time) { eb.k.confs, confs = confs, eb.k.confs }) }
	swap()
	anew(t, ea)
	var made string
	eventually(t, "two IKE SAs, one child SA", func() bool {
		st := ea.Status()
		children := 0
		for _, s := range st.IKE {
			if children += len(s.Children); s.SPIi != old && s.State == "ESTABLISHED" {
				made = s.SPIi
			}
		}
		return len(st.IKE) == 2 && made != "" && children == 1
	})
	idle(t, ea)
	swap()
	roundTrip(t, c, []byte("between"))
	anew(t, ea)
	follows(t, ea, eb, old, 1)
	if spi(ea, 1) != made {
		t.Error("made from scratch again")
	}
	roundTrip(t, c, []byte("after"))
}

// What is to be up from the start comes up again after its IKE SA has expired, whoever ends it
// and whatever close_action is.
func TestExpiredComesUpAgain(t *testing.T) {
	for _, whose := range []string{"ours", "peer's"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			_, _, _, ea, eb := renewing(t, func(c *Conn) { c.Children[0].StartNow = true })
			old := spi(ea, 1)
			mend := refuses(t, ea)
			anew(t, ea)
			settled(t, ea)
			mend()
			if whose == "ours" {
				at := ea.Status().IKE[0].Expires
				leap(ea, at)
				leap(ea, at) // what was put off until then
			} else {
				eb.ask(func(now time.Time) {
					for _, s := range eb.k.sas {
						s.m.Delete(now)
						eb.k.drain(now, s)
					}
				})
				eventually(t, "the old one is gone", func() bool { return len(ea.Status().IKE) == 0 || spi(ea, 1) != old })
			}
			follows(t, ea, eb, old, 1)
		})
	}
}
