//go:build !race

package engine

import (
	"testing"
	"time"

	"github.com/btns-go/btns/tun"
)

// What is thrown away, or answered without keeping anything, allocates nothing.
func TestDoorAllocates(t *testing.T) {
	d := newTestDoor(t)
	var f forger
	for range 2000 { // until cookies are demanded of everybody
		d.knock([]tun.Packet{f.next()})
		for l, _ := d.take(); len(l) > 0; l, _ = d.take() {
			for i := range l {
				d.open(time.Now(), l[i].verdict, f.n<<20+uint64(i))
			}
		}
	}
	pkts := []tun.Packet{f.next()}
	replies := 0
	if n := testing.AllocsPerRun(200, func() { replies += len(d.knock(pkts)) }); n != 0 {
		t.Errorf("%v allocations for a request that is asked for a cookie", n)
	}
	if replies < 200 {
		t.Errorf("%d cookies for 200 requests", replies)
	}
}
