package datapath

import (
	"io"
	"testing"
	"time"

	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
)

// Packets that leave while none comes are told of once, after a while, and again only after
// the peer was heard. Traffic both ways is not.
func TestSilence(t *testing.T) {
	clk := newClock()
	told := 0
	r, c := newRig(t, hostOpt{cfg: func(cfg *Config) {
		cfg.Now = clk.now
		cfg.Silent = func(*Child) { told++ }
	}})
	send := func(d, every time.Duration) {
		for end := clk.now().Add(d); clk.now().Before(end); clk.advance(every) {
			now := clk.now().UnixNano()
			r.path.alone(c, c.sent.Swap(now), now)
		}
	}
	hear := func() { r.path.company(c, clk.now()) }

	send(silence-time.Second, 100*time.Millisecond)
	if told != 0 {
		t.Fatal("told early")
	}
	send(time.Minute, 100*time.Millisecond)
	if told != 1 {
		t.Fatalf("told %d times", told)
	}
	hear()
	for range 100 { // a conversation
		send(700*time.Millisecond, 100*time.Millisecond)
		hear()
	}
	for range 10 { // questions that are answered late, with long pauses
		send(100*time.Millisecond, 50*time.Millisecond)
		clk.advance(time.Minute)
		send(silence-time.Second, time.Second)
		hear()
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	send(time.Minute, time.Second)
	if told != 2 {
		t.Errorf("told %d times", told)
	}
	if n := testing.AllocsPerRun(100, func() { clk.advance(time.Second); r.path.alone(c, c.sent.Load(), clk.now().UnixNano()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The last segment of a connection whose SA the peer has lost goes out under the SA that
// takes over, at once: TCP itself would try again seconds later.
func TestLastSegmentGoesAgain(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	ca, cb := connect(t, a, b, link{})
	l := b.listen(b.in4, 0, latch.Want{}, false)
	got := make(chan struct{})
	wait := l.serve(func(c *netstack.TCPConn, _ *Socket) {
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Errorf("read: %v", err)
		}
		_, _ = io.ReadFull(c, make([]byte, 5))
		close(got)
	})
	c, _, err := a.dial(within(t, 5*time.Second), l.ap, latch.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("first"))
	eventually(t, "everything is acknowledged", func() bool { return ca.Stats().InPackets >= 2 })
	b.path.Remove(cb.InSPI)
	_, _ = c.Write([]byte("again"))
	eventually(t, "a copy", func() bool { n, _ := a.path.held.Len(); return n == 1 })
	// The third retransmission is kept, 1.4 s after the first try: the next one is 1.6 s away.
	next, _ := connect(t, a, b, link{})
	a.path.Remove(ca.InSPI)
	if next.Stats().OutPackets == 0 {
		t.Error("left to TCP")
	}
	recv(t, got, "data")
	if n, _ := a.path.held.Len(); n != 0 {
		t.Errorf("%d packets are held", n)
	}
	wait()
	w.noCleartext(t, a, b)
}

// Who answers after all makes the copies superfluous.
func TestCopiesAreForgotten(t *testing.T) {
	r, c := newRig(t, hostOpt{})
	c.lone.Store(unheard)
	pkt, tag := r.super(t, false)
	o := &outgoing{tag: tag, pkt: pkt, flow: pkt.Flow()}
	r.path.remember(c, o, r.path.now().UnixNano())
	if n, _ := r.path.held.Len(); n != 1 {
		t.Fatalf("%d copies", n)
	}
	r.path.company(c, r.path.now())
	if n, _ := r.path.held.Len(); n != 0 || c.lone.Load() != 0 {
		t.Errorf("%d copies", n)
	}
	r.path.remember(c, o, r.path.now().UnixNano())
	if n, _ := r.path.held.Len(); n != 0 {
		t.Error("kept although the peer answers")
	}
	if st := r.path.Stats(); st.Drops[DropHoldExpired] != 0 || st.Held != 0 {
		t.Errorf("counted as held or dropped: %+v", st)
	}
}
