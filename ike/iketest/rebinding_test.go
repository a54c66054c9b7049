package iketest_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

// The NAT in front of one end forgets, and nothing but that end's ESP tells the other one,
// which then replaces child SAs or the IKE SA: its requests go to the new mapping at once, all
// child SAs with them, whoever fakes a NAT beside the true one. The end behind the NAT follows
// nobody, though somebody sends what it is to get from elsewhere first (RFC 7296, Section 2.23;
// ADV-F18, ADV-P37).
func TestReboundByTraffic(t *testing.T) {
	t.Parallel()
	seeds(t, 120, 20000, func(t *testing.T, seed uint64) error {
		s, a, b := behindNAT(t, seed)
		r := rand.New(rand.NewPCG(seed, 7))
		a.Config.ForceEncap, b.Config.ForceEncap = r.IntN(2) == 0, r.IntN(2) == 0
		a.Config.DPDDelay, b.Config.DPDDelay = 0, 0
		e := a.Connect(b, nil)
		if !s.Run(time.Minute, func() bool { return e.Up() && e.Peer() != nil && e.Peer().Up() }) {
			return nil // its suites may not match
		}
		for i := range 2 {
			e.CreateChild(a.Request(fmt.Sprintf("child %d", i), iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
		}
		s.Run(5*time.Second, nil)
		home := a.Established()[0].M.Path()
		s.Faults.Jitter = 40 * time.Millisecond
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			first := d
			first.From = netip.MustParseAddrPort("203.0.113.66:666")
			if d.From.Addr() == b.Addr.Addr() && r.IntN(2) == 0 {
				return []iketest.Datagram{first, d}
			}
			return []iketest.Datagram{d}
		}
		a.Talk(50 * time.Millisecond)
		for range 6 {
			s.Run(time.Duration(700+r.IntN(3000))*time.Millisecond, nil) // what was begun is done, the second send as well
			a.Rebind()
			s.Run(300*time.Millisecond, nil)
			es := b.Established()
			if len(es) != 1 {
				return fmt.Errorf("seed %d: %d IKE SAs\n%s", seed, len(es), s.Summary())
			}
			where := a.Source(home)
			if got := es[0].M.Path().Remote; got != where {
				return fmt.Errorf("seed %d: IKE goes to %v, the peer is at %v", seed, got, where)
			}
			for _, c := range es[0].Children {
				if c.Path.Remote != where {
					return fmt.Errorf("seed %d: ESP of %08x goes to %v, the peer is at %v", seed, c.InSPI, c.Path.Remote, where)
				}
			}
			any := lowest(es[0])
			if r.IntN(2) == 0 {
				es[0].Do(func(m *ike.Machine) { m.RekeyIKE(s.Now) })
			} else {
				es[0].Do(func(m *ike.Machine) { m.RekeyChild(s.Now, any) })
			}
		}
		s.Run(5*time.Second, nil)
		for _, x := range b.Ends {
			for _, again := range x.Resent {
				if again.Sends > 2 { // a fragment from elsewhere may have been the last, and got the answer
					return fmt.Errorf("seed %d: sent again: %+v", seed, again)
				}
			}
		}
		if got := a.Established()[0].M.Path(); got != home {
			return fmt.Errorf("seed %d: the end behind the NAT went from %v to %v", seed, home, got)
		}
		s.Settle(15 * time.Minute)
		if err := broken(s); err != nil {
			return err
		}
		if n := len(a.Established()); n != 1 || len(a.Established()[0].Children) != 3 {
			return fmt.Errorf("seed %d: %d SAs\n%s", seed, n, s.Summary())
		}
		return nil
	})
}
