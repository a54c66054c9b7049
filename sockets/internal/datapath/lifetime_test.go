package datapath

import (
	"math"
	"testing"
)

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

// TestNumbersEnd: an SA without extended sequence numbers is replaced before it has none left, whatever else limits it.
func TestNumbersEnd(t *testing.T) {
	for _, tt := range []struct {
		l     link
		rekey bool
	}{{link{}, true}, {link{esn: true}, false}} {
		soft := 0
		w := newWorld()
		a := w.host(t, 1, hostOpt{cfg: func(c *Config) { c.SoftLimit = func(*Child) { soft++ } }})
		c, _ := connect(t, a, w.host(t, 2, hostOpt{}), tt.l)
		for _, n := range []uint64{0, math.MaxUint32 / 2, math.MaxUint32 / 10 * 8} {
			a.path.spend(c, n, 0)
		}
		if soft != 0 {
			t.Errorf("ESN %v: replaced too soon", c.ESN)
		}
		a.path.spend(c, math.MaxUint32/10*9, 0)
		if (soft == 1) != tt.rekey || c.spent.Load() {
			t.Errorf("ESN %v: told %d times of the end", c.ESN, soft)
		}
	}
	for _, tt := range []struct{ given, want uint64 }{{0, math.MaxUint32 / 8 * 7}, {5, 5}, {math.MaxUint64, math.MaxUint32 / 8 * 7}} {
		l := SALimits{SoftPackets: tt.given, HardBytes: 9}
		if got := l.numbered(false); got.SoftPackets != tt.want || got.HardBytes != 9 {
			t.Errorf("%d: %+v", tt.given, got)
		}
		if got := l.numbered(true); got != l {
			t.Errorf("%d: %+v", tt.given, got)
		}
	}
}
