package datapath

import (
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
)

// TestRetire: a child that was replaced sends no more, and takes what is late, but no new connection.
func TestRetire(t *testing.T) {
	w := newWorld()
	clk := newClock()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	_, old := connect(t, a, b, link{})
	l := b.listen(b.in4, 0, latch.Want{}, false)
	accepted, done := make(chan *netstack.TCPConn, 1), make(chan struct{})
	wait := l.serve(func(c *netstack.TCPConn, _ *Socket) { accepted <- c; <-done })
	defer wait()
	defer close(done)
	ca, _, err := a.dial(within(t, patience), l.ap, latch.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	cb := recv(t, accepted, "connection")
	talk := func() { t.Helper(); exchange(t, ca, []byte("up"), nil); exchange(t, cb, []byte("down"), []byte("up")) }
	talk()

	next, fresh, install := prepare(t, a, b, link{})
	next.Spare = true // a goes on under the old one
	install()
	if b.path.Retire(old.InSPI) != old || !old.Removed() || b.path.Stats().Now.Children != 1 {
		t.Fatal("not retired")
	}
	if b.path.Retire(old.InSPI) != nil {
		t.Error("retired twice")
	}
	b.path.Children(func(c *Child) bool {
		if c != fresh {
			t.Error("one that is retired may be used")
		}
		return true
	})
	sent := old.LastSent()
	clk.advance(lateness - 1)
	b.path.Tick()
	talk()
	if before := drops(b, DropSPI); before != 0 || !old.LastSent().Equal(sent) || fresh.LastSent().IsZero() {
		t.Errorf("%d packets dropped, sent under the old one at %v", before, old.LastSent())
	}
	if c, _, err := a.dial(within(t, 200*time.Millisecond), l.ap, latch.Want{}); err == nil {
		_ = c.Close()
		t.Error("a connection is born under it")
	}

	clk.advance(1)
	b.path.Tick()
	before := drops(b, DropSPI)
	if b.path.Child(old.InSPI) != nil || before == 0 {
		t.Errorf("not removed, or its drops are not counted: %d", before)
	}
	exchange(t, ca, []byte("late"), nil)
	eventually(t, "dropped", func() bool { return drops(b, DropSPI) > before })
	a.path.Prefer(next.InSPI)
	exchange(t, cb, nil, []byte("late"))
}

// TestRetireEnds: what can't be kept is removed at once: a child that never sent, and more than maxRetired. Close removes
// all of them.
func TestRetireEnds(t *testing.T) {
	w := newWorld()
	clk := newClock()
	h := w.bare(t, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	pair := parsePair(t, "10.0.0.1", "10.0.0.2")
	make1 := func(sends bool) *Child {
		t.Helper()
		c := forge(t, h.host, "moon", pair, esp.ModeTunnel).c
		if sends {
			if err := h.path.InstallOutbound(c, c.InSPI, make(esp.Key, c.Suite.KeyLen())); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	if c := make1(false); h.path.Retire(c.InSPI) != c || h.path.Child(c.InSPI) != nil {
		t.Error("a child that never sent is kept")
	}
	var all []*Child
	for range maxRetired + 1 {
		all = append(all, make1(true))
	}
	for i, c := range all {
		if h.path.Retire(c.InSPI) != c || (h.path.Child(c.InSPI) == c) != (i < maxRetired) {
			t.Fatalf("child %d", i)
		}
	}
	if c := all[0]; h.path.Remove(c.InSPI) != c || h.path.Child(c.InSPI) != nil {
		t.Error("one that is retired can't be removed")
	}
	if n := h.path.Stats().Now.Children; n != 0 {
		t.Errorf("%d children", n)
	}
	clk.advance(lateness / 2)
	late := make1(true)
	h.path.Retire(late.InSPI)
	clk.advance(lateness / 2)
	h.path.Tick()
	if h.path.Child(all[1].InSPI) != nil || h.path.Child(late.InSPI) != late {
		t.Error("not each at its time")
	}
	if err := h.path.Close(); err != nil || h.path.Child(late.InSPI) != nil {
		t.Errorf("left after Close, %v", err)
	}
}
