package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

// What the machine says of a NAT keepalive is the one octet of RFC 3948, Section 2.3, on the
// wire: with a marker the peer's would take it for IKE.
func TestKeepaliveOnTheWire(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	b.start(t)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	e := a.start(t)
	if err := initiate(t, e, b.addr); err != nil {
		t.Fatal(err)
	}
	e.ask(func(now time.Time) {
		for _, s := range e.k.sas {
			e.k.carryOut(now, s, &ike.Keepalive{Path: s.path})
		}
	})
	eventually(t, "it has come", func() bool { return b.wire.Stats().Drops[tun.DropKeepalive] == 1 })
	if st := b.wire.Stats(); st.Dropped() != 0 {
		t.Errorf("%d drops beside it", st.Dropped())
	}
}
