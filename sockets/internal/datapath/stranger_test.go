package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/tun"
)

// A flood of ESP for SPIs that nobody has costs no allocation, and the engine hears of few
// of it; of an SPI that was in use a moment ago, or of ESP without UDP, it hears nothing.
func TestStrangers(t *testing.T) {
	clk := newClock()
	told := map[uint32]int{}
	var from tun.Path
	r, c := newRig(t, hostOpt{cfg: func(cfg *Config) {
		cfg.Now = clk.now
		cfg.UnknownSPI = func(p tun.Path, spi uint32, size int) {
			told[spi]++
			if from = p; size != 100 {
				t.Errorf("%d octets", size)
			}
		}
	}})
	reserved, err := r.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	r.path.Remove(c.InSPI)
	peer := tun.Path{Local: r.outer, Remote: netip.MustParseAddrPort("192.0.2.9:4500")}
	rx := r.path.newReceiver()
	pkts := []tun.Packet{{Buf: make([]byte, tun.BufSize), Off: tun.Headroom, Len: 100, Kind: tun.KindESP, Path: peer}}
	give := func(spi uint32) {
		pkts[0].Kind = tun.KindESP
		binary.BigEndian.PutUint32(pkts[0].Buf[tun.Headroom:], spi)
		rx.batch(pkts)
	}
	for _, spi := range []uint32{c.InSPI, reserved} {
		clk.advance(time.Second)
		give(spi)
	}
	if len(told) != 0 {
		t.Errorf("told of %v", told)
	}
	clk.advance(time.Second)
	give(0x7000)
	if told[0x7000] != 1 || from != peer {
		t.Errorf("told of %v from %v", told, from)
	}
	clk.advance(time.Second)
	pkts[0].Path = tun.Path{Local: netip.AddrPortFrom(peer.Local.Addr(), 0), Remote: netip.AddrPortFrom(peer.Remote.Addr(), 0)}
	give(0x7001)
	if told[0x7001] != 0 {
		t.Error("told of native ESP")
	}
	pkts[0].Path = peer
	clear(told)
	before := drops(r.host, DropSPI)
	for i := range uint32(100_000) { // a second
		give(0x10000 + i)
		clk.advance(10 * time.Microsecond)
	}
	if n := len(told); n == 0 || n > int(time.Second/strangerGap)+1 {
		t.Errorf("told of %d in a second", n)
	}
	if n := drops(r.host, DropSPI) - before; n != 100_000 {
		t.Errorf("%d counted", n)
	}
	r.path.cfg.UnknownSPI = func(tun.Path, uint32, int) {}
	if n := testing.AllocsPerRun(100, func() { clk.advance(time.Second); give(0x9000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
