package engine

import (
	"testing"
	"time"

	"github.com/btns-go/btns/tun/tuntest"
)

// A child SA of which an end could install one half at most goes away at both ends, and who
// waits for it is told; the IKE SA stands, and serves once the cause is gone.
func TestHalfAnSAIsDeleted(t *testing.T) {
	noWindow := func(c *Conn) { c.Children[0].ReplayWindow = 63 } // no configuration says this: InstallInbound fails
	mend := func(e *Engine) {
		e.ask(func(time.Time) { e.k.confs["all"].ReplayWindow = 0 })
	}
	nothing := func(e *Engine) bool {
		st := e.Status()
		return len(st.IKE) == 1 && len(st.IKE[0].Children) == 0
	}
	for name, tt := range map[string]struct{ a, b func(*Conn) }{
		"the initiator's": {a: noWindow, b: func(*Conn) {}},
		"the responder's": {a: func(*Conn) {}, b: noWindow},
	} {
		t.Run(name, func(t *testing.T) {
			n := tuntest.NewNet(tuntest.Faults{})
			a, b := known(t, n)
			eb := b.start(t, tt.b)
			echo(t, eb)
			ea := a.start(t, tt.a)
			err := ea.Initiate(t.Context(), "all")
			if wants := name == "the initiator's"; (err != nil) != wants {
				t.Errorf("initiate: %v", err)
			}
			for _, e := range []*Engine{ea, eb} {
				eventually(t, "no child SA", func() bool { return nothing(e) })
				mend(e)
			}
			idle(t, ea)
			c, _ := dial(t, ea, b.addr)
			roundTrip(t, c, []byte("mended"))
		})
	}
	t.Run("its outbound half", func(t *testing.T) {
		n := tuntest.NewNet(tuntest.Faults{Delay: 50 * time.Millisecond})
		a, b := known(t, n)
		ea, eb, _ := talking(t, a, b)
		before := children(eb)
		if _, err := ea.Rekey("all"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the inbound half of a second one", func() bool {
			found := false
			eb.ask(func(time.Time) {
				for _, s := range eb.k.sas {
					for spi, c := range s.children {
						if c.OutSPI() == 0 {
							found = eb.Data.Remove(spi) != nil // so that InstallOutbound fails
						}
					}
				}
			})
			return found
		})
		for _, e := range []*Engine{ea, eb} {
			eventually(t, "no child SA", func() bool { return nothing(e) })
		}
		n.SetFaults(tuntest.Faults{})
		c, _ := dial(t, ea, b.addr)
		roundTrip(t, c, []byte("mended"))
		if after := children(eb); len(after) != len(before) {
			t.Errorf("%q, before %q", after, before)
		}
	})
}
