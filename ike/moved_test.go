package ike_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

// Only who sees a translated address and has none itself follows the peer, whether it was IKE
// or ESP that came from elsewhere (RFC 7296, Section 2.23). A NAT that an end fakes, as every
// end does that can only do UDP, makes the peer follow and not the end itself.
func TestADV_F18_ADV_P37_WhoFollows(t *testing.T) {
	for i, tt := range []struct {
		natA, natB, force bool
		follows           [2]bool // a, b
	}{
		{},
		{force: true, follows: [2]bool{true, true}},
		{natA: true, follows: [2]bool{false, true}},
		{natA: true, force: true, follows: [2]bool{false, true}}, // for a both ends are behind one
		{natB: true, follows: [2]bool{true, false}},
		{natB: true, force: true, follows: [2]bool{true, false}},
		{natA: true, natB: true},
		{natA: true, natB: true, force: true},
	} {
		for who, follows := range tt.follows {
			for _, way := range []string{"IKE", "ESP", "native ESP"} {
				t.Run(fmt.Sprintf("NAT %v %v, faked %v: end %d, %s", tt.natA, tt.natB, tt.force, who, way), func(t *testing.T) {
					s, a, b := hosts(t, uint64(660+i))
					a.Config.ForceEncap, b.Config.ForceEncap = tt.force, tt.force
					if tt.natA {
						a.Outside = netip.MustParseAddr("198.51.100.1")
					}
					if tt.natB {
						b.Outside, b.KeepPorts = netip.MustParseAddr("198.51.100.2"), true
					}
					var ends [2]*iketest.End
					ends[0], ends[1] = up(t, s, a, b)
					x, peer := ends[who], ends[1-who]
					home := x.M.Path()
					away := ike.Path{Local: home.Local, Remote: netip.MustParseAddrPort("203.0.113.66:666")}
					seen := len(x.Events)
					switch way {
					case "IKE":
						s.Tap = func(d iketest.Datagram) []iketest.Datagram {
							if d.To.Addr() == x.Host.PublicAddr().Addr() {
								d.From = away.Remote
							}
							return []iketest.Datagram{d}
						}
						peer.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
						s.Run(100*time.Millisecond, nil)
					case "ESP":
						x.Do(func(m *ike.Machine) { m.Moved(s.Now, away) })
					case "native ESP": // has no ports that IKE could go to
						x.Do(func(m *ike.Machine) {
							m.Moved(s.Now, ike.Path{Local: netip.AddrPortFrom(home.Local.Addr(), 0), Remote: netip.AddrPortFrom(away.Remote.Addr(), 0)})
						})
					}
					want, times := home, 0
					if follows && way != "native ESP" {
						want, times = away, 1
					}
					if got := pathsTold(x, seen); x.M.Path() != want || len(got) != times || times == 1 && got[0] != want {
						t.Errorf("path %v, told %v, want %v", x.M.Path(), got, want)
					}
				})
			}
		}
	}
}

// pathsTold are the paths that an end told of since it had told of n events.
func pathsTold(e *iketest.End, n int) (out []ike.Path) {
	for _, ev := range e.Events[n:] {
		if p, ok := ev.(*ike.PathChanged); ok {
			out = append(out, p.Path)
		}
	}
	return out
}

// rebound has the NAT in front of e's host forget, and ESP tell the peer's machine of it.
func rebound(s *iketest.Sim, e, peer *iketest.End) ike.Path {
	e.Host.Rebind()
	p := peer.M.Path()
	p.Remote = e.Host.Source(e.M.Path())
	peer.Do(func(m *ike.Machine) { m.Moved(s.Now, p) })
	return p
}

// muted has what a host sends get lost while it is true.
func muted(s *iketest.Sim, h *iketest.Host) *bool {
	silent := true
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if silent && d.From.Addr() == h.Addr.Addr() {
			return nil
		}
		return []iketest.Datagram{d}
	}
	return &silent
}

// What ESP says holds for requests that are sent again as well (RFC 7296, Section 2.23).
func TestMovedWhileAsking(t *testing.T) {
	s, a, b := hosts(t, 670)
	a.Outside = netip.MustParseAddr("198.51.100.1")
	e, o := up(t, s, a, b)
	silent := muted(s, b)
	rekeyChild(s, o, first(o))
	*silent = false
	rebound(s, e, o)
	if !s.Run(10*time.Second, func() bool { return len(o.Made) == 2 }) {
		t.Fatalf("not rekeyed, sent again: %+v", o.Resent)
	}
	if len(o.Resent) != 1 {
		t.Errorf("sent again: %+v", o.Resent)
	}
	s.Settle(5 * time.Minute)
	clean(t, s)
}

// And for the IKE SA that an IKE SA is being replaced by, or has just replaced.
func TestMovedWhileRekeying(t *testing.T) {
	for seed := range uint64(8) { // one half each wins
		s, a, b := hosts(t, 671+seed)
		a.Outside = netip.MustParseAddr("198.51.100.1")
		e, o := up(t, s, a, b)
		silent := muted(s, b)
		rekeyIKE(s, o)
		rekeyIKE(s, e)
		s.Run(100*time.Millisecond, nil)
		want := rebound(s, e, o)
		*silent = false
		s.Run(time.Minute, func() bool { return o.Next != nil })
		n := live(t, b)
		if n == o || n.M.Path() != want {
			t.Errorf("seed %d: path %v, want %v", seed, n.M.Path(), want)
		}
		for _, c := range n.Children {
			if c.Path != want {
				t.Errorf("seed %d: ESP goes along %v, want %v", seed, c.Path, want)
			}
		}
		s.Settle(5 * time.Minute)
		clean(t, s)
	}

	s, a, b := hosts(t, 680)
	a.Outside = netip.MustParseAddr("198.51.100.1")
	_, o := up(t, s, a, b)
	var last netip.AddrPort
	deaf := false
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if x := s.Open(d.Data); x != nil && x.Kind() == "INFORMATIONAL request" && d.From.Addr() == b.Addr.Addr() && !deaf {
			last = d.To
			return nil
		}
		return []iketest.Datagram{d}
	}
	rekeyIKE(s, o)
	if !s.Run(time.Second, func() bool { return last.IsValid() }) {
		t.Fatal("nothing deleted")
	}
	want := rebound(s, live(t, a), live(t, b))
	s.Run(5*time.Second, nil)
	if last != want.Remote {
		t.Errorf("the Delete of the old SA goes to %v, not to %v", last, want.Remote)
	}
	deaf = true
	s.Settle(5 * time.Minute)
	clean(t, s)
}

// The end outside a NAT rekeys the IKE SA, its answer is lost, and the NAT forgets: it can't ask
// again, and does not know the SA that the other end has gone over to. A sign of life under the
// old one tells it where to ask.
func TestBeckoned(t *testing.T) {
	s, a, b := hosts(t, 680)
	a.Outside = netip.MustParseAddr("198.51.100.1")
	_, o := up(t, s, a, b)
	answered := false
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if o := s.Open(d.Data); o != nil && o.Kind() == "CREATE_CHILD_SA response" && !answered {
			answered = true
			return nil
		}
		return []iketest.Datagram{d}
	}
	o.Do(func(m *ike.Machine) { m.RekeyIKE(s.Now) })
	s.Run(100*time.Millisecond, nil)
	a.Rebind()
	heir := live(t, a)
	if !answered || heir.Prev == nil {
		t.Fatal("not rekeyed")
	}
	heir.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	if !s.Run(10*time.Second, func() bool { return o.Next != nil && o.Closed != nil }) {
		t.Errorf("the peer does not follow\n%s", s.Summary())
	}
	s.Settle(5 * time.Minute)
	only(t, live(t, a))
	only(t, live(t, b))
	clean(t, s)
}
