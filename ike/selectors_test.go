package ike_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

// TestPacketFirst: the selectors of the packet that asks for a child SA come first on the
// wire, in both exchanges, and are no part of what stands then (RFC 7296, Section 2.9).
func TestPacketFirst(t *testing.T) {
	for _, r := range []struct{ name, src, dst, local, remote string }{
		{"UDP", "10.1.2.3:4000", "10.2.3.4:53", "10.1.2.3/32[udp/4000]", "10.2.3.4/32[udp/53]"},
		{"not of it", "10.9.2.3:4000", "10.2.3.4:53", "", ""},
		{"none", "", "", "", ""},
	} {
		s, a, b := hosts(t, 18)
		b.Config.Childless = ike.ChildlessAllow
		var asked []string
		b.Answer = func(w ike.Work, res ike.WorkResult) ike.WorkResult {
			if d, ok := w.(*ike.WorkDecide); ok {
				asked = append(asked, d.Pair.Local.String()+" "+d.Pair.Remote.String())
			}
			return res
		}
		for _, mode := range []ike.Childless{ike.ChildlessNever, ike.ChildlessForce} {
			a.Config.Childless = mode
			req := a.Request("net", iketest.DefaultPair())
			if r.src != "" {
				req.Packet = flow(r.src, r.dst)
			}
			e := a.Connect(b, req)
			both(t, s, e)
			s.Settle(time.Minute)
			clean(t, s)
			c := e.Children[req.SPI]
			if c == nil || !c.Pair.Equal(iketest.DefaultPair()) || len(c.Pair.Local) != 1 || len(c.Pair.Remote) != 1 {
				t.Fatalf("%s: the child SA is %+v", r.name, c)
			}
			asked = asked[:1:1]
			e.Do(func(m *ike.Machine) { m.RekeyChild(s.Now, req.SPI) })
			s.Settle(time.Minute)
			clean(t, s)
			want := strings.TrimSpace(r.remote+" 10.2.0.0/16 ") + " " + strings.TrimSpace(r.local+" 10.1.0.0/16")
			if len(asked) != 2 || asked[0] != want || asked[1] != "10.2.0.0/16 10.1.0.0/16" {
				t.Errorf("%s: asked for %q and, rekeying, %q; want %q", r.name, asked[0], asked[1:], want)
			}
			asked = nil
		}
	}
}

func flow(src, dst string) ts.Flow {
	return ts.MakeFlow(ts.ProtoUDP, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
}
