package raw

import (
	"net/netip"
	"testing"

	"github.com/btns-go/btns/tun"
)

func header4(total int) []byte {
	b := make([]byte, total)
	b[0], b[1], b[2], b[3], b[9] = 0x45, 2, byte(total>>8), byte(total), 50
	copy(b[12:], []byte{192, 0, 2, 2, 192, 0, 2, 1})
	return b
}

func TestParse4(t *testing.T) {
	good := header4(40)
	src, dst, ecn, off, end, ok := parse4(good)
	if !ok || src != netip.MustParseAddr("192.0.2.2") || dst != netip.MustParseAddr("192.0.2.1") || ecn != 2 || off != 20 || end != 40 {
		t.Error(src, dst, ecn, off, end, ok)
	}
	for n := range good {
		if _, _, _, _, _, ok := parse4(good[:n]); ok {
			t.Errorf("%d of %d bytes accepted", n, len(good))
		}
	}
}

func FuzzParse4(f *testing.F) {
	f.Add(header4(40))
	f.Fuzz(func(t *testing.T, b []byte) {
		src, dst, ecn, off, end, ok := parse4(b)
		if ok && (!src.Is4() || !dst.Is4() || ecn > 3 || off < 20 || off > end || end > len(b)) {
			t.Error(src, dst, ecn, off, end)
		}
	})
}

func TestADV_A18_Finish(t *testing.T) {
	for _, c := range []struct {
		src, dst string
		n        int
		want     tun.Drop
	}{
		{"192.0.2.2", "192.0.2.1", 8, tun.DropUnset},
		{"192.0.2.2", "192.0.2.1", 7, tun.DropShort},
		{"127.0.0.2", "127.0.0.1", 8, tun.DropUnset},
		{"127.0.0.1", "192.0.2.1", 8, tun.DropSource},
		{"192.0.2.1", "192.0.2.1", 8, tun.DropSource},
		{"224.0.0.1", "192.0.2.1", 8, tun.DropSource},
		{"0.0.0.0", "192.0.2.1", 8, tun.DropSource},
		{"192.0.2.2", "224.0.0.1", 8, tun.DropDest},
		{"192.0.2.2", "255.255.255.255", 8, tun.DropDest},
	} {
		p := tun.Packet{Len: c.n}
		if got := finish(&p, netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)); got != c.want {
			t.Errorf("%s to %s, %d bytes: %v", c.src, c.dst, c.n, got)
		}
	}
}
