package udp

import "net/netip"

// What the external tests need; they are external because package tuntest uses this one.

// A Flavour is one implementation of the wire.
type Flavour struct {
	Name   string
	Listen func(addrs ...netip.AddrPort) (*Wire, error)
}

// Flavours returns all implementations that this system has.
func Flavours() []Flavour {
	var out []Flavour
	for _, f := range flavours() {
		out = append(out, Flavour{Name: f.name, Listen: func(addrs ...netip.AddrPort) (*Wire, error) {
			return listen(Config{Addrs: addrs, NoOffload: !f.offload}, f.plain)
		}})
	}
	return out
}

// HasIPv6 reports whether the host has an IPv6 loopback address.
func HasIPv6() bool { return hasIPv6() }
