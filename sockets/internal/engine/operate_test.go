package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

// initiating has a host initiate by name, and returns what comes of it.
func initiating(t *testing.T, e *Engine, name string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- e.Initiate(t.Context(), name) }()
	eventually(t, "it is asked for", func() (yes bool) {
		e.ask(func(time.Time) { yes = len(e.k.acquires) > 0 })
		return yes
	})
	return done
}

// isInit picks IKE_SA_INIT out of what goes over the wire.
func isInit(b []byte) bool {
	h, err := wire.ParseHeader(b[min(len(b), tun.MarkerLen):])
	return err == nil && h.Exchange == wire.ExchangeIKESAInit
}

// Who comes to us belongs to no connection before it has authenticated: nobody's name means
// its IKE SA.
func TestOperateLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	n := tuntest.NewNet(tuntest.Faults{Drop: 1, Spare: isInit})
	_, b := known(t, n)
	eb := b.start(t)
	for i := range 3 {
		stranger := &testHost{name: fmt.Sprint("stranger", i), wire: at(t, n, fmt.Sprintf("192.0.2.%d:4500", 11+i)), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
		initiating(t, stranger.start(t), "all")
	}
	halfOpen := func() (n int) {
		for _, s := range eb.Status().IKE {
			if s.State == "CONNECTING" {
				n++
			}
		}
		return n
	}
	eventually(t, "three are half open", func() bool { return halfOpen() == 3 })
	for _, name := range []string{"peer-of-b", "all"} {
		if n, err := eb.Rekey(name); n != 0 || !errors.Is(err, ErrNothing) {
			t.Errorf("rekey %s: %d, %v", name, n, err)
		}
		if n, err := eb.Terminate(name); n != 0 || err != nil {
			t.Errorf("terminate %s: %d, %v", name, n, err)
		}
	}
	if n := halfOpen(); n != 3 {
		t.Errorf("%d are left", n)
	}
}

// What is being set up is not there yet, and does not come any more: wherever it is in its
// way.
func TestTerminateWhatIsBeingSetUp(t *testing.T) {
	all := tuntest.Faults{Drop: 1}
	for _, r := range []struct {
		name   string
		faults tuntest.Faults
		alone  bool // an IKE SA is there
		begin  func(t *testing.T, e *Engine) <-chan error
		end    string
	}{
		{name: "IKE_SA_INIT", faults: all, end: "all"},
		{name: "IKE_SA_INIT, by its connection", faults: all, end: "peer-of-a"},
		{name: "IKE_AUTH", faults: tuntest.Faults{Drop: 1, Spare: isInit}, end: "all"},
		{name: "CREATE_CHILD_SA", faults: all, alone: true, end: "all"},
		{name: "look-up", end: "peer-of-a", begin: func(t *testing.T, e *Engine) <-chan error {
			done := make(chan error, 1)
			e.ask(func(time.Time) { // as it is while a name is looked up
				cc := e.k.confs["all"]
				a := &acquire{ref: e.k.ref(), conf: cc, pair: cc.Pair, done: done}
				e.k.acquires[a.ref] = a
			})
			return done
		}},
		{name: "a try ahead", end: "all", begin: func(t *testing.T, e *Engine) <-chan error {
			e.ask(func(now time.Time) { e.k.retry(e.k.confs["all"], now) })
			return nil
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			n := tuntest.NewNet(tuntest.Faults{})
			a, b := known(t, n)
			childless := func(c *Conn) { c.Childless = ike.ChildlessAllow }
			ea, eb := a.start(t, childless), b.start(t, childless)
			sas := 0
			if r.alone {
				sas = 1
				if err := ea.Initiate(t.Context(), "all"); err != nil {
					t.Fatal(err)
				}
				if _, err := ea.Terminate("all"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "childless", func() bool { return spi(ea, 0) != "" && spi(eb, 0) != "" })
			}
			n.SetFaults(r.faults)
			var done <-chan error
			if r.begin != nil {
				done = r.begin(t, ea)
			} else {
				done = initiating(t, ea, "all")
				eventually(t, "it was sent", func() (yes bool) {
					ea.ask(func(time.Time) {
						for _, s := range ea.k.sas {
							yes = yes || s.tries.sends > 0 && (r.faults.Spare == nil || s.tries.exchange == wire.ExchangeIKEAuth)
						}
					})
					return yes
				})
			}
			if got, err := ea.Terminate(r.end); got != 1 || err != nil {
				t.Errorf("terminated %d, %v", got, err)
			}
			if done != nil {
				if err := <-done; !errors.Is(err, ErrTerminated) {
					t.Errorf("who waits for it is told: %v", err)
				}
			}
			w := eb.k.events.watch()
			defer w.Close()
			n.SetFaults(tuntest.Faults{})
			leap(ea, time.Now().Add(time.Second)) // it is sent again, if it is
			if r.alone {
				for _, up := range []bool{true, false} { // the peer has to make it, and is told
					e := next(t, w)
					for e.Kind != EventChildUpDown {
						e = next(t, w)
					}
					if e.Up != up {
						t.Errorf("%+v", e)
					}
				}
			}
			eventually(t, "all is as it was", func() bool {
				for _, e := range []*Engine{ea, eb} {
					up := 0
					for _, s := range e.Status().IKE {
						if len(s.Children) > 0 {
							return false
						}
						if s.State == "ESTABLISHED" {
							up++
						}
					}
					if up != sas {
						return false
					}
				}
				return len(ea.Status().IKE) == sas
			})
			idle(t, ea)
			ea.ask(func(time.Time) {
				if len(ea.k.wanted)+len(ea.k.acquires) != 0 {
					t.Error("it is tried again")
				}
			})
			if _, err := ea.Terminate(r.end); err != nil {
				t.Error(err)
			}
		})
	}
}
