package datapath

import "testing"

// TestSpend: a soft limit is told once, a hard one ends the child.
func TestSpend(t *testing.T) {
	soft, hard := 0, 0
	p := &Path{cfg: Config{SoftLimit: func(*Child) { soft++ }, Exhausted: func(*Child) { hard++ }}}
	for _, tt := range []struct {
		name           string
		limits         SALimits
		packets, bytes uint64
		soft, hard     int
		spent          bool
	}{
		{"no limits", SALimits{}, 1 << 60, 1 << 60, 0, 0, false},
		{"below", SALimits{SoftBytes: 100, HardBytes: 200}, 5, 99, 0, 0, false},
		{"soft bytes", SALimits{SoftBytes: 100, HardBytes: 200}, 5, 100, 1, 0, false},
		{"soft packets", SALimits{SoftPackets: 5}, 5, 0, 1, 0, false},
		{"hard bytes", SALimits{SoftBytes: 100, HardBytes: 200}, 5, 200, 0, 1, true},
		{"hard packets", SALimits{HardPackets: 7}, 8, 0, 0, 1, true},
	} {
		soft, hard = 0, 0
		c := &Child{Limits: tt.limits}
		for range 3 {
			p.spend(c, tt.packets, tt.bytes)
		}
		if soft != tt.soft || hard != tt.hard || c.spent.Load() != tt.spent {
			t.Errorf("%s: soft %d, hard %d, spent %v", tt.name, soft, hard, c.spent.Load())
		}
	}
}
