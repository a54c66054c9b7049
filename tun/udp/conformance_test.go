package udp_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
	"github.com/btns-go/btns/tun/udp"
)

func TestConformance(t *testing.T) {
	any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	type setup struct {
		name   string
		a, b   []netip.AddrPort
		remote netip.Addr
	}
	setups := []setup{
		{"dual4", nil, nil, netip.MustParseAddr("127.0.0.1")},
		{"v4", []netip.AddrPort{any4}, []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)}, netip.MustParseAddr("127.0.0.1")},
		{"three", []netip.AddrPort{any4, any4, any4}, []netip.AddrPort{any4, {}, any4}, netip.MustParseAddr("127.0.0.1")},
	}
	if udp.HasIPv6() {
		setups = append(setups,
			setup{"dual6", nil, nil, netip.IPv6Loopback()},
			setup{"v6", []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Loopback(), 0)}, []netip.AddrPort{{}}, netip.IPv6Loopback()})
	}
	for _, f := range udp.Flavours() {
		for _, s := range setups {
			if testing.Short() && s.name != "dual4" {
				continue
			}
			open := func() (tun.Wire, tun.Wire, tun.Path, error) {
				a, err := f.Listen(s.a...)
				if err != nil {
					return nil, nil, tun.Path{}, err
				}
				b, err := f.Listen(s.b...)
				if err != nil {
					return nil, nil, tun.Path{}, errors.Join(err, a.Close())
				}
				remote := netip.AddrPortFrom(s.remote, b.Caps().Ports[len(s.b)/2])
				return tuntest.Poison(a), tuntest.Poison(b), tun.Path{Remote: remote}, nil
			}
			for _, c := range tuntest.Conformance() {
				t.Run(f.Name+"/"+s.name+"/"+c.Name, func(t *testing.T) {
					if err := c.Run(open); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}
