package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/outer"
)

// A Wire says what carries the host's packets. The zero Wire is UDP sockets on
// Host.Listen.
type Wire struct {
	// TUN is the name of a TUN device over which outer packets are built here, with IKE on
	// port 500 and native ESP unless connections say otherwise; "" for UDP sockets. Open
	// sets it up; the kernel has to be told to route to it, see Routes.
	TUN string
	// Addrs are the host's outer addresses on that device.
	Addrs []netip.Prefix
	// MTU is the device's; 1500 when 0.
	MTU int
}

// Open makes the wire, or returns nil where the host makes its own UDP sockets.
func (w Wire) Open() (tun.Wire, error) {
	if w.TUN == "" {
		return nil, nil
	}
	dev, err := outer.Open(w.TUN, w.MTU)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	wire, err := outer.New(dev, outer.Config{Addrs: w.Addrs, MTU: w.MTU})
	if err != nil {
		_ = dev.Close()
		return nil, fmt.Errorf("config: TUN device %s: %w", w.TUN, err)
	}
	return wire, nil
}

// Routes is the shell command that makes the kernel forward to and from the TUN device; ""
// without one. It takes privileges over the kernel's network that the host does not. Whoever
// sends to the wire's addresses must have them routed to this kernel.
func (w Wire) Routes() string {
	if w.TUN == "" {
		return ""
	}
	var forward, route []string
	var v4, v6 bool
	for _, p := range w.Addrs {
		a := p.Addr().Unmap()
		switch {
		case a.Is4() && !v4:
			v4, forward = true, append(forward, "sysctl -w net.ipv4.ip_forward=1")
		case a.Is6() && !v6:
			v6, forward = true, append(forward, "sysctl -w net.ipv6.conf.all.forwarding=1")
		}
		route = append(route, fmt.Sprintf("ip route add %s dev %s", netip.PrefixFrom(a, a.BitLen()), w.TUN))
	}
	return strings.Join(append(forward, route...), " && ")
}

func (d *decoder) wire(n node) {
	w := &d.file.Wire
	n.fields(map[string]func(node){
		"tun": func(n node) { w.TUN = n.text() },
		"addresses": func(n node) {
			for _, i := range n.items() {
				w.Addrs = append(w.Addrs, i.prefix())
			}
		},
		"mtu":    func(n node) { w.MTU = int(n.number(576, 65535)) },
		"listen": func(n node) { d.file.Host.Listen = d.listen(n) },
	})
	if w.TUN != "" && len(w.Addrs) == 0 {
		d.r.failf(n, "a tun wire needs addresses: who we are on the outside")
	}
	if w.TUN == "" && len(w.Addrs) > 0 {
		d.r.failf(n, "addresses are for a tun wire; UDP sockets have listen")
	}
}
