package engine

import (
	"context"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/tun/tuntest"
)

// A child SA whose peer has died does what its dpd_action says, and a packet after that what
// its start_action says.
func TestActionsAfterDeath(t *testing.T) {
	type start struct {
		name         string
		now, passive bool
	}
	for _, st := range []start{{name: "trap"}, {name: "start", now: true}, {name: "none", passive: true}} {
		for _, action := range []struct {
			name string
			ike.Action
		}{{"clear", ike.ActionNone}, {"trap", ike.ActionTrap}, {"restart", ike.ActionStart}} {
			t.Run("start_action "+st.name+" dpd_action "+action.name, func(t *testing.T) {
				t.Parallel()
				n := tuntest.NewNet(tuntest.Faults{})
				a, b := known(t, n)
				eb := b.start(t)
				echo(t, eb)
				ea := a.start(t, func(c *Conn) {
					c.Children[0].StartNow, c.Children[0].Passive = st.now, st.passive
					c.Children[0].Pair.Remote = ts.Set{ts.FromAddr(b.addr)}
					c.Children[0].Terms.DPDAction = action.Action
				})
				if err := ea.Initiate(t.Context(), "all"); err != nil {
					t.Fatal(err)
				}
				old := spi(ea, 1)
				ea.ask(func(now time.Time) {
					for _, s := range ea.k.sas { // as the liveness check would have it
						for spi, c := range s.children {
							ea.k.removeChild(now, s, spi, ike.ReasonFailed)
							ea.k.revive(now, s, &ike.ChildRemoved{InSPI: spi, Name: c.Name, Reason: ike.ReasonFailed, Action: action.Action})
						}
						s.m.Replaced(now)
						ea.k.drain(now, s)
					}
				})
				if action.Action == ike.ActionStart {
					follows(t, ea, eb, old, 1)
					return
				}
				if st := ea.Status(); len(st.IKE) != 0 {
					t.Fatalf("%+v", st.IKE)
				}
				ea.ask(func(time.Time) {
					if len(ea.k.wanted)+len(ea.k.acquires) != 0 {
						t.Error("it is made again at once")
					}
				})
				if st.passive && action.Action == ike.ActionNone {
					eventually(t, "a packet asks in vain", func() bool {
						ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
						defer cancel()
						_, _, err := dialFor(ctx, ea, b.addr)
						return err != nil && ea.Data.Stats().Acquires > 0
					})
					if st := ea.Status(); len(st.IKE) != 0 {
						t.Errorf("%+v", st.IKE)
					}
					return
				}
				dial(t, ea, b.addr)
				if spi(ea, 1) == old {
					t.Error("not made again")
				}
				if !st.passive {
					return
				}
				if _, err := ea.Terminate("peer-of-a"); err != nil {
					t.Error(err)
				}
				ea.ask(func(time.Time) {
					if len(ea.k.trapped) != 0 {
						t.Error("packets bring it up although it was terminated")
					}
				})
			})
		}
	}
}
