package datapath

import (
	"testing"
	"time"
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
	hear := func() { c.company(clk.now()) }

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
