package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun/tuntest"
)

// Whatever is dropped, and wherever, shows in the status of a host.
func TestDropsAreSeen(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	b := &testHost{name: "b", wire: at(t, n, "192.0.2.2:4500")}
	eb := b.start(t)
	a := &testHost{name: "a", wire: at(t, n, "192.0.2.1:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:4500")}}
	ea := a.start(t)
	if err := initiate(t, ea, b.addr); err != nil {
		t.Fatal(err)
	}
	to := a.remotes[0]
	from := netip.MustParseAddrPort("192.0.2.1:4500")
	var forged []byte // an INFORMATIONAL of this SA with a wrong integrity check, behind the marker
	ea.ask(func(time.Time) {
		for _, s := range ea.k.sas {
			spii, spir := s.m.SPIs()
			const body = 48
			forged = binary.BigEndian.AppendUint64(make([]byte, 4), spii)
			forged = binary.BigEndian.AppendUint64(forged, spir)
			forged = append(forged, byte(wire.PayloadEncrypted), 0x20, byte(wire.ExchangeInformational), byte(wire.FlagInitiator), 0, 0, 0, 2, 0, 0, 0, 28+4+body)
			forged = append(forged, 0, 0, 0, 4+body)
			forged = append(forged, make([]byte, body)...)
		}
	})
	n.Inject(from, to, forged)
	n.Inject(from, to, []byte{1, 2, 3})
	n.Inject(from, to, []byte{0xff})
	eventually(t, "it is counted", func() bool {
		st := eb.Status()
		return st.Counts.Dropped["icv"] == 1 && st.Wire.Drops["short"] == 1 && st.Wire.Drops["keepalive"] == 1
	})
	st := eb.Status()
	if m := st.Counts; m.Responses != 2 || m.Verified != 1 || m.Panics != 0 {
		t.Errorf("%+v", m)
	}
	if st.Wire.InPackets == 0 || st.Wire.OutBytes == 0 || st.Stack.Delivered == 0 || st.Stack.Panics != 0 {
		t.Errorf("%+v %+v", st.Wire, st.Stack)
	}
}
