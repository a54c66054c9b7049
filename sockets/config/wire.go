package config

import (
	"fmt"
	"net/netip"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/outer"
)

// A Wire says what carries the host's packets. The zero Wire is UDP sockets on
// Host.Listen.
type Wire struct {
	// TUN is the name of a TUN device over which outer packets are built here, native ESP
	// and IKE on port 500 included; "" for UDP sockets.
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
