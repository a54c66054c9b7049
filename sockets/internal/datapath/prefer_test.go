package datapath

import (
	"slices"
	"testing"
)

// TestPrefer: of two children that cover the same, a spare one carries nothing, alone it
// carries everything, and Prefer turns to it.
func TestPrefer(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	first, _ := connect(t, a, b, link{})
	spare, _, install := prepare(t, a, b, link{})
	spare.Spare = true
	install()
	used := func() (now []string) {
		t.Helper()
		before := [...]int64{first.sent.Load(), spare.sent.Load()}
		transfer(t, a, b, false, 1000)
		if first.sent.Load() != before[0] {
			now = append(now, "first")
		}
		if spare.sent.Load() != before[1] {
			now = append(now, "spare")
		}
		return now
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"beside another", func() {}, "first"},
		{"preferred", func() { a.path.Prefer(spare.InSPI) }, "spare"},
		{"the other preferred", func() { a.path.Prefer(first.InSPI) }, "first"},
		{"of nobody", func() { a.path.Prefer(7) }, "first"},
		{"alone", func() { a.path.Remove(first.InSPI) }, "spare"},
	} {
		step.do()
		if got := used(); !slices.Equal(got, []string{step.want}) {
			t.Errorf("%s: %v carries, want %s", step.what, got, step.want)
		}
	}
}
