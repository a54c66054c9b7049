package sockets

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/sockets/internal/engine"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

// byHand is one end of a pair of SAs keyed by hand; the other has the numbers swapped.
func byHand(in, out uint32, local, remote string) *spd.Manual {
	key := func(spi uint32) spd.Key { return bytes.Repeat([]byte{byte(spi)}, 64) }
	return &spd.Manual{InSPI: in, OutSPI: out, Suite: "aes256-sha256", InKey: key(in), OutKey: key(out), Mode: spd.ModeTunnel,
		Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote)}
}

// Keys set by hand protect from the first packet on, without any IKE (RFC 4301, Section
// 4.5.1), and the token says that nobody proved anything.
func TestManualKeys(t *testing.T) {
	wires := tuntest.NewNet(tuntest.Faults{})
	host := func(name, outer, addr, remote string, m *spd.Manual) *Stack {
		w, err := wires.ListenNative(netip.MustParseAddrPort(outer + ":4500"))
		if err != nil {
			t.Fatal(err)
		}
		return newStack(t, name, Config{Wire: w, Addrs: []netip.Prefix{netip.MustParsePrefix(addr + "/32")},
			Policies: []Policy{{Name: "hand", LocalTS: []string{addr}, RemoteTS: []string{remote}, Manual: m}}})
	}
	a := host("a", "192.0.2.1", "10.1.0.1", "10.2.0.1", byHand(0x101, 0x102, "192.0.2.1", "192.0.2.2"))
	b := host("b", "192.0.2.2", "10.2.0.1", "10.1.0.1", byHand(0x102, 0x101, "192.0.2.2", "192.0.2.1"))
	echo(t, b, ":7")
	c := dial(t, a, "tcp", "10.2.0.1:7")
	roundTrip(t, c, bytes.Repeat([]byte("by hand "), 10_000))

	pt, err := PTokenFrom(c)
	if err != nil {
		t.Fatal(err)
	}
	info, err := pt.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Method != tokens.MethodManual || info.Suite != "aes256-sha256" {
		t.Errorf("the token says %+v", info)
	}
	if st := a.Status(); len(st.Manual) != 1 || st.Manual[0].InSPI != "00000101" || len(st.IKE) != 0 {
		t.Errorf("status: %+v", st)
	}
}

// UDP sockets carry ESP only beside IKE, whose ports it shares (RFC 3948, Section 2).
func TestManualKeysNeedNativeESP(t *testing.T) {
	_, err := New(Config{Listen: []string{"127.0.0.1:0"}, Policies: []Policy{{Name: "hand",
		LocalTS: []string{"10.1.0.1"}, RemoteTS: []string{"10.2.0.1"}, Manual: byHand(0x101, 0x102, "192.0.2.1", "192.0.2.2")}}})
	if !errors.Is(err, engine.ErrNoNativeESP) {
		t.Errorf("got %v, want %v", err, engine.ErrNoNativeESP)
	}
}
