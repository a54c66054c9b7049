package sockets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun/tuntest"
)

// known is a connection between hosts that know each other by a shared key.
func known(local, remote, secret string) Connection {
	s := auth.NewPSK([]byte(secret))
	return Connection{Name: remote, Local: Auth{Method: AuthPSK, ID: local, Secret: s}, Remote: Auth{Method: AuthPSK, ID: remote, Secret: s}}
}

// TestUnique: a user who comes from a second place, under each of the gateway's rules, with
// and without INITIAL_CONTACT.
func TestUnique(t *testing.T) {
	for _, r := range []struct {
		unique  Unique
		contact bool
		refused bool
		stay    []string // outer addresses of the user's IKE SAs at the gateway
		told    bool     // the first place hears that its SA ends
	}{
		{UniqueNo, false, false, []string{"192.0.2.1:4500", "192.0.2.3:4500"}, false},
		{UniqueNo, true, false, []string{"192.0.2.3:4500"}, false},
		{UniqueNever, true, false, []string{"192.0.2.1:4500", "192.0.2.3:4500"}, false},
		{UniqueKeep, false, true, []string{"192.0.2.1:4500"}, false},
		{UniqueKeep, true, false, []string{"192.0.2.3:4500"}, false},
		{UniqueReplace, false, false, []string{"192.0.2.3:4500"}, true},
	} {
		t.Run(fmt.Sprintf("%d contact %v", r.unique, r.contact), func(t *testing.T) {
			t.Parallel()
			n := tuntest.NewNet(tuntest.Faults{})
			at := func(a string) *tuntest.Wire {
				w, err := n.Listen(netip.MustParseAddrPort(a))
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			c := known("gateway", "user", "what the user knows, and the gateway")
			c.Unique = r.unique
			c.Children = []Child{{RemoteTS: []string{"10.0.0.2"}}}
			gw := newStack(t, "gateway", Config{Wire: at("192.0.2.2:4500"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Connections: []Connection{c}})
			echo(t, gw, ":7")
			user := func(from string) *Stack {
				c := known("user", "gateway", "what the user knows, and the gateway")
				c.RemoteAddrs = []string{"192.0.2.2:4500"}
				c.Children = []Child{{RemoteTS: []string{"10.0.0.1"}}}
				if !r.contact {
					c.Unique = UniqueNever
				}
				return newStack(t, from, Config{Wire: at(from), Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, Connections: []Connection{c}})
			}
			from := func(st *Stack) (out []string) {
				for _, i := range st.Status().IKE {
					if i.State == "ESTABLISHED" {
						out = append(out, i.Remote)
					}
				}
				slices.Sort(out)
				return out
			}
			first := user("192.0.2.1:4500")
			roundTrip(t, dial(t, first, "tcp", inner(gw, "7")), []byte("from the first place"))
			second := user("192.0.2.3:4500")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := second.DialContext(ctx, "tcp", inner(gw, "7"))
			var no *ike.NotifyError
			switch {
			case r.refused && (!errors.As(err, &no) || no.Type != wire.NotifyAuthenticationFailed):
				t.Errorf("the second place got %v", err)
			case !r.refused && err != nil:
				t.Fatal(err)
			case !r.refused:
				roundTrip(t, conn, []byte("from the second place"))
				_ = conn.Close()
			}
			eventually(t, "only those stay that should", func() bool { return slices.Equal(from(gw), r.stay) })
			if r.told {
				eventually(t, "the first place is told", func() bool { return len(from(first)) == 0 })
			} else if len(from(first)) != 1 {
				t.Errorf("the first place has %v", from(first))
			}
			<-time.After(1200 * time.Millisecond) // twice as long as the engine waits before it compares
			if got := from(gw); !slices.Equal(got, r.stay) {
				t.Errorf("in the end %v stay", got)
			}
		})
	}
}

// TestStartTriesAgain: a child that is to stand from the start comes up by itself when the
// peer's configuration has been put right, but not once somebody has terminated it.
func TestStartTriesAgain(t *testing.T) {
	for _, terminated := range []bool{false, true} {
		t.Run(fmt.Sprint("terminated ", terminated), func(t *testing.T) {
			t.Parallel()
			n := tuntest.NewNet(tuntest.Faults{})
			host := func(name, peer, at, to, secret string, start StartAction) *Stack {
				w, err := n.Listen(netip.MustParseAddrPort(at))
				if err != nil {
					t.Fatal(err)
				}
				c := known(name, peer, secret)
				if to != "" {
					c.RemoteAddrs = []string{to}
				}
				addrs := map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}
				c.Children = []Child{{Name: "net", Start: start, RemoteTS: []string{addrs[peer]}}}
				return newStack(t, name, Config{Wire: w, Addrs: []netip.Prefix{netip.MustParsePrefix(addrs[name] + "/24")}, Connections: []Connection{c}})
			}
			wrong := host("b", "a", "192.0.2.2:4500", "", "not what a believes it to be", StartTrap)
			a := host("a", "b", "192.0.2.1:4500", "192.0.2.2:4500", "what both of them know", StartNow)
			eventually(t, "a is refused", func() bool { return wrong.Status().Gate.Responders > 0 && len(a.Status().IKE) == 0 })
			if err := wrong.Close(); err != nil {
				t.Error(err)
			}
			if terminated {
				if _, err := a.e.Terminate("net"); err != nil {
					t.Error(err)
				}
			}
			b := host("b", "a", "192.0.2.2:4500", "", "what both of them know", StartTrap)
			up := func() bool { st := b.Status().IKE; return len(st) == 1 && len(st[0].Children) == 1 }
			if !terminated {
				eventually(t, "it comes up", up)
				return
			}
			<-time.After(6 * time.Second) // longer than the engine waits before it tries again
			if up() {
				t.Error("it comes up although it was terminated")
			}
		})
	}
}

// TestStartNone: no packet of ours asks for a child that is the peer's to set up.
func TestStartNone(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}, Children: []Child{{Name: "net", Start: StartNone}}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := a.DialContext(ctx, "tcp", inner(b, "7")); err == nil {
		_ = c.Close()
		t.Error("connected")
	}
	if st := a.Status(); len(st.IKE) != 0 || b.Status().Gate.Responders != 0 {
		t.Errorf("asked for: %+v", st.IKE)
	}
	echo(t, b, ":7")
	if err := a.e.Initiate(t.Context(), "net"); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, a, "tcp", inner(b, "7")), []byte("now there is one"))
}

// TestInitiateChildless: the IKE SA alone, then the child SA when a packet wants it.
func TestInitiateChildless(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody", Childless: ChildlessForce}}})
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}, Childless: ChildlessForce}}})
	echo(t, b, ":7")
	for range 2 { // the second time it is up already
		if err := a.e.Initiate(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if st := a.Status().IKE; len(st) != 1 || st[0].State != "ESTABLISHED" || len(st[0].Children) != 0 {
			t.Fatalf("our SAs: %+v", st)
		}
	}
	roundTrip(t, dial(t, a, "tcp", inner(b, "7")), []byte("with a child SA"))
	if st := a.Status().IKE; len(st) != 1 || len(st[0].Children) != 1 {
		t.Errorf("our SAs: %+v", st)
	}
	// Who does not begin childless gets the IKE SA, and no child SA with it.
	c := newStack(t, "c", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}, Childless: ChildlessNever}}})
	var no *ike.NotifyError
	if err := c.e.Initiate(t.Context(), "b"); !errors.As(err, &no) || no.Type != wire.NotifyNoAdditionalSAs {
		t.Errorf("got %v", err)
	}
}
