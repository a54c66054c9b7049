package ts

import "testing"

// TestLeading: only selectors that can describe one packet, before others, are those of the
// packet that asks for an SA.
func TestLeading(t *testing.T) {
	set := func(words ...string) (s Set) {
		for _, w := range words {
			x, err := Parse(w)
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, x)
		}
		return s
	}
	for _, r := range []struct {
		local, remote Set
		want          bool
	}{
		{nil, nil, false},
		{set("10.1.0.1[tcp/80]"), set("10.2.0.1[tcp/1024]"), false}, // all there is
		{set("10.1.0.1[tcp/80]", "10.1.0.0/24"), set("10.2.0.1[tcp/1024]", "10.2.0.0/24"), true},
		{set("10.1.0.1[tcp/80]"), set("10.2.0.1[tcp/1024]", "10.2.0.0/24"), true},
		{set("10.1.0.0/24", "10.1.0.1"), set("10.2.0.1", "10.2.0.0/24"), false},
		{set("10.1.0.1[tcp/80]", "10.1.0.0/24"), set("10.2.0.1[udp/80]", "10.2.0.0/24"), false},
	} {
		got := Pair{r.local, r.remote}.Leading()
		if got.Empty() == r.want {
			t.Errorf("%s === %s: %s", r.local, r.remote, got)
		}
		if r.want && (len(got.Local) != 1 || got.Local[0] != r.local[0] || got.Remote[0] != r.remote[0]) {
			t.Errorf("%s", got)
		}
	}
}
