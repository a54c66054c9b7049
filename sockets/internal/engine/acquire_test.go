package engine

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/tun/tuntest"
)

// children are the child SAs that both hosts have, as their names and selectors.
func children(e *Engine) (out []string) {
	for _, s := range e.Status().IKE {
		for _, c := range s.Children {
			out = append(out, fmt.Sprintf("%s %s === %s", c.Name, c.LocalTS, c.RemoteTS))
		}
	}
	return out
}

// What the configuration wants up and what a packet wants ask for different selectors. The
// one child SA that is on its way does for both, whoever came first.
func TestOneChildForAllThatWantIt(t *testing.T) {
	for name, start := range map[string]bool{"start, then a dial": true, "a dial, then initiate": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := tuntest.NewNet(tuntest.Faults{Delay: 20 * time.Millisecond})
			b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
			eb := b.start(t)
			echo(t, eb)
			a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
			ea := a.start(t, func(c *Conn) { c.Children[0].StartNow = start })
			var both sync.WaitGroup
			both.Go(func() {
				c, _, err := dialFor(t.Context(), ea, b.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.Close()
			})
			if !start {
				eventually(t, "asked for", func() bool {
					asked := false
					ea.ask(func(time.Time) { asked = len(ea.k.acquires) > 0 })
					return asked
				})
				if err := ea.Initiate(t.Context(), "all"); err != nil {
					t.Error(err)
				}
			}
			both.Wait()
			idle(t, ea)
			for _, e := range []*Engine{ea, eb} {
				if got := children(e); len(got) != 1 {
					t.Errorf("%q", got)
				}
			}
		})
	}
}

// What is asked for while the peer's name is looked up goes to the same IKE SA.
func TestOneLookup(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500")}
	ea := a.start(t, func(c *Conn) { c.Remotes = []Remote{{Host: "192.0.2.2", Port: 4500}} })
	ea.ask(func(now time.Time) {
		for range 3 {
			cc := ea.k.confs["all"]
			ea.k.request(now, &acquire{ref: ea.k.ref(), conf: cc, pair: cc.Pair})
		}
	})
	idle(t, ea)
	for _, e := range []*Engine{ea, eb} {
		if st := e.Status().IKE; len(st) != 1 || len(st[0].Children) != 1 {
			t.Errorf("%+v", st)
		}
	}
	ea.ask(func(time.Time) {
		if len(ea.k.lookups) != 0 {
			t.Error("a look-up is left")
		}
	})
}
