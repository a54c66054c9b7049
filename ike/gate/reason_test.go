package gate

import "testing"

// Every reason has a name of its own, which Status shows, and can be counted.
func TestReasons(t *testing.T) {
	seen := map[string]Reason{}
	for _, r := range Reasons() {
		name := r.String()
		if other, dup := seen[name]; dup || name == "" || name == "invalid" {
			t.Errorf("reason %d is %q, as is %d", r, name, other)
		}
		seen[name] = r
	}
	if len(seen) != int(numReasons)-1 || numReasons.String() != "invalid" {
		t.Errorf("%d names of %d reasons", len(seen), numReasons-1)
	}
	var s Stats
	s.count[ReasonCookie] = 3
	if s.Count(ReasonCookie) != 3 || s.Count(numReasons) != 0 || s.Count(255) != 0 {
		t.Error("miscounted")
	}
}
