package iketest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

// Either host crashes under traffic in both directions and comes back after a while, with
// nothing done by hand: whatever dpd_action is, and whether the restarted host says so or
// keeps silent, the hosts have one IKE SA with one child SA again, both ways, within the
// time of its row after the restart; nothing was in clear, nothing twice.
//
// A host that knows where its peer is finds out by asking: DPDDelay, four sends, a
// handshake. One that does not waits to be called, so that a restart of the one that calls
// is over with its next packet. What was lost for longer takes longer to be found, for the
// tries get rarer.
func TestRestartRecovers(t *testing.T) {
	const short, long = 2 * time.Second, 2 * time.Minute
	for _, tt := range []struct {
		who    string
		action ike.Action
		down   time.Duration // at most
		mute   bool
		within time.Duration
	}{
		{"caller", ike.ActionNone, short, false, 20 * time.Second},
		{"caller", ike.ActionTrap, short, true, 20 * time.Second},
		{"caller", ike.ActionStart, long, true, 20 * time.Second},
		{"called", ike.ActionNone, short, false, 30 * time.Second},
		{"called", ike.ActionTrap, short, false, 30 * time.Second},
		{"called", ike.ActionStart, short, false, 30 * time.Second},
		{"called", ike.ActionNone, short, true, 60 * time.Second},
		{"called", ike.ActionTrap, short, true, 60 * time.Second},
		{"called", ike.ActionStart, short, true, 60 * time.Second},
		{"called", ike.ActionTrap, long, false, 2 * time.Minute},
		{"called", ike.ActionStart, long, true, 2 * time.Minute},
	} {
		down := "short"
		if tt.down == long {
			down = "long"
		}
		t.Run(fmt.Sprintf("%s/%s/%s/mute=%v", tt.who, tt.action, down, tt.mute), func(t *testing.T) {
			t.Parallel()
			var worst, sum time.Duration
			n := 0
			var traffic iketest.Traffic
			seeds(t, 100, 1000, func(t *testing.T, seed uint64) error {
				s, a, b := pair(seed, nil)
				if *oneSeed != 0 {
					trace(t, s)
				}
				r := rand.New(rand.NewPCG(seed, 7))
				for _, h := range []*iketest.Host{a, b} {
					h.Config.DPDDelay, h.Terms.DPDAction, h.Mute = 30*time.Second, tt.action, tt.mute
				}
				b.Config.Proposals, b.ESP = a.Config.Proposals, a.ESP
				a.Recover(b, tt.action == ike.ActionStart)
				b.Recover(nil, false)
				s.Faults = faults(0.1 * r.Float64())
				s.Faults.Corrupt = 0
				a.Talk(300 * time.Millisecond)
				b.Talk(500 * time.Millisecond)
				up := func() bool {
					for _, h := range []*iketest.Host{a, b} {
						es := h.Established()
						if len(es) != 1 || len(es[0].Children) != 1 || es[0].Peer() == nil || !es[0].Peer().Up() {
							return false
						}
					}
					return true
				}
				if !s.Run(5*time.Minute, up) {
					return fmt.Errorf("seed %d: not up\n%s", seed, s.Summary())
				}
				s.Run(time.Duration(r.IntN(40000))*time.Millisecond, nil)
				crashed := b
				if tt.who == "caller" {
					crashed = a
				}
				crashed.Crash()
				crashed.Down = true
				s.Run(tt.down/10+time.Duration(r.Int64N(int64(tt.down))), nil)
				crashed.Down = false
				back, before := s.Elapsed(), s.Traffic
				if crashed == a {
					a.Recover(b, tt.action == ike.ActionStart)
				}
				passes := func() bool { return up() && s.Traffic.Delivered > before.Delivered+4 }
				ok := s.Run(15*time.Minute, passes)
				took := s.Elapsed() - back
				worst, sum, n = max(worst, took), sum+took, n+1
				if !ok || took > tt.within {
					return fmt.Errorf("seed %d: not back %v after the restart\n%s", seed, took, s.Summary())
				}
				s.Settle(15 * time.Minute)
				traffic.Add(s.Traffic)
				if err := broken(s); err != nil {
					return err
				}
				if !up() {
					return fmt.Errorf("seed %d: not one SA in the end\n%s", seed, s.Summary())
				}
				return nil
			})
			t.Logf("back after %v on average, %v at worst, over %d seeds; %+v", (sum / time.Duration(max(n, 1))).Round(time.Millisecond), worst.Round(time.Millisecond), n, traffic)
		})
	}
}
