package engine

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// numbered is event n of a series.
func numbered(n int) *Event {
	return &Event{Time: time.Unix(int64(n), 0), Kind: EventIKEUpDown, IKE: EventIKE{Num: uint64(n)}}
}

func next(t *testing.T, w *Watcher) Event {
	t.Helper()
	e, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A reader that is too slow delays nobody, and is told what it missed at the place where it
// is missing.
func TestSlowWatcherLosesAndIsTold(t *testing.T) {
	var h hub
	slow, quick := h.watch(), h.watch()
	defer slow.Close()
	defer quick.Close()
	for n := 1; n <= eventBuffer+5; n++ {
		h.publish(numbered(n))
		if e := next(t, quick); e.IKE.Num != uint64(n) {
			t.Fatalf("the quick one got %d at %d", e.IKE.Num, n)
		}
	}
	if e := next(t, slow); e.IKE.Num != 1 {
		t.Fatalf("got %+v", e)
	}
	h.publish(numbered(5000)) // room for one: what was lost comes before it
	for n := 2; n <= eventBuffer; n++ {
		if e := next(t, slow); e.IKE.Num != uint64(n) {
			t.Fatalf("got %d at %d", e.IKE.Num, n)
		}
	}
	if e := next(t, slow); e.Kind != EventLost || e.Lost != 5 || e.Time.Unix() != eventBuffer+5 {
		t.Fatalf("got %+v", e)
	}
	if e := next(t, slow); e.IKE.Num != 5000 {
		t.Fatalf("got %+v", e)
	}
	for n := range eventBuffer + 3 {
		h.publish(numbered(n))
	}
	for range eventBuffer {
		next(t, slow)
	}
	if e := next(t, slow); e.Kind != EventLost || e.Lost != 3 { // nothing comes after it
		t.Fatalf("got %+v", e)
	}
}

func TestWatcherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hub
		wait := func(ctx context.Context, w *Watcher) <-chan error {
			c := make(chan error, 1)
			go func() { _, err := w.Next(ctx); c <- err }()
			synctest.Wait()
			return c
		}
		w := h.watch()
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := wait(ctx, w)
		cancel(why)
		if err := <-got; !errors.Is(err, why) {
			t.Errorf("its context ended: %v", err)
		}
		one, two := wait(t.Context(), w), wait(t.Context(), w)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		for _, c := range []<-chan error{one, two} {
			if err := <-c; !errors.Is(err, net.ErrClosed) {
				t.Errorf("it was closed: %v", err)
			}
		}
		if len(h.watchers) != 0 {
			t.Error("a closed watcher is still fed")
		}
		w = h.watch()
		h.publish(numbered(1))
		h.close(ErrClosed)
		h.publish(numbered(2))
		if e := next(t, w); e.IKE.Num != 1 {
			t.Errorf("got %+v", e)
		}
		for _, w := range []*Watcher{w, h.watch()} {
			if _, err := w.Next(t.Context()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("its host was closed: %v", err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Several readers of one watcher share its events.
func TestWatcherIsShared(t *testing.T) {
	var h hub
	w := h.watch()
	const events = 500
	var mu sync.Mutex
	seen := map[uint64]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				e, err := w.Next(context.Background())
				if err != nil {
					return
				}
				mu.Lock()
				seen[e.IKE.Num]++
				mu.Unlock()
			}
		})
	}
	for n := range events {
		h.publish(numbered(n))
	}
	h.close(ErrClosed)
	wg.Wait()
	for n := range events {
		if seen[uint64(n)] != 1 {
			t.Errorf("event %d was read %d times", n, seen[uint64(n)])
		}
	}
}

func TestAllowance(t *testing.T) {
	now := time.Unix(1, 0)
	var a allowance
	take := func(n int) (told int, suppressed uint64) {
		for range n {
			if ok, s := a.take(now); ok {
				told++
				suppressed += s
			}
		}
		return told, suppressed
	}
	for _, step := range []struct {
		wait       time.Duration
		tries      int
		told       int
		suppressed uint64
	}{
		{0, strangerBurst + 7, strangerBurst, 0},
		{strangerGap / 2, 3, 0, 0},
		{strangerGap / 2, 3, 1, 10},
		{3 * strangerGap, 5, 3, 2},
		{time.Hour, 2 * strangerBurst, strangerBurst, 2},
		{24 * 365 * time.Hour, 1, 1, strangerBurst},
	} {
		now = now.Add(step.wait)
		if told, suppressed := take(step.tries); told != step.told || suppressed != step.suppressed {
			t.Errorf("after %s: told %d of %d, suppressed %d; want %d and %d", step.wait, told, step.tries, suppressed, step.told, step.suppressed)
		}
	}
}
