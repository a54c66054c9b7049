package netstack

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// SetAddrs makes addrs the stack's addresses. Connections on removed addresses stop receiving.
func (s *Stack) SetAddrs(addrs []netip.Prefix) error {
	want := make(map[netip.Addr]struct{}, len(addrs))
	for _, p := range addrs {
		a, err := usable(p.Addr())
		if err != nil {
			return err
		}
		want[a] = struct{}{}
	}
	s.addrMu.Lock()
	defer s.addrMu.Unlock()
	for a := range *s.own.Load() {
		if _, keep := want[a]; !keep {
			if err := s.removeLocked(a); err != nil {
				return err
			}
		}
	}
	for _, p := range addrs { // in the caller's order: the first is preferred as source
		if err := s.addLocked(p.Addr().Unmap().WithZone("")); err != nil {
			return err
		}
	}
	return nil
}

// AddAddr adds one address; adding one that is there is no error.
func (s *Stack) AddAddr(p netip.Prefix) error {
	a, err := usable(p.Addr())
	if err != nil {
		return err
	}
	s.addrMu.Lock()
	defer s.addrMu.Unlock()
	return s.addLocked(a)
}

// RemoveAddr removes one address; removing one that is not there is no error.
func (s *Stack) RemoveAddr(a netip.Addr) error {
	s.addrMu.Lock()
	defer s.addrMu.Unlock()
	return s.removeLocked(a.Unmap().WithZone(""))
}

// Addrs returns the stack's addresses, sorted.
func (s *Stack) Addrs() []netip.Addr {
	return slices.SortedFunc(maps.Keys(*s.own.Load()), netip.Addr.Compare)
}

// owns reports whether a is one of the stack's addresses. It takes no lock.
func (s *Stack) owns(a netip.Addr) bool {
	_, ok := (*s.own.Load())[a]
	return ok
}

// usable normalizes an address for the stack to own and refuses those that can't be one host's on a link.
func usable(a netip.Addr) (netip.Addr, error) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("netstack: %v can't be an address of a stack", a)
	}
	return a, nil
}

func (s *Stack) addLocked(a netip.Addr) error {
	if s.owns(a) {
		return nil
	}
	// A full-length prefix: a subnet would make its last address a broadcast address.
	pa := tcpip.ProtocolAddress{Protocol: netProto(a), AddressWithPrefix: toAddr(a).WithPrefix()}
	if err := s.gv.AddProtocolAddress(nic, pa, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("netstack: adding %v: %s", a, err)
	}
	own := maps.Clone(*s.own.Load())
	own[a] = struct{}{}
	s.own.Store(&own)
	return nil
}

func (s *Stack) removeLocked(a netip.Addr) error {
	if !s.owns(a) {
		return nil
	}
	if err := s.gv.RemoveAddress(nic, toAddr(a)); err != nil {
		return fmt.Errorf("netstack: removing %v: %s", a, err)
	}
	own := maps.Clone(*s.own.Load())
	delete(own, a)
	s.own.Store(&own)
	return nil
}

// toAddr converts an address; the zero Addr and the unspecified ones become gVisor's empty address.
func toAddr(a netip.Addr) tcpip.Address {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return tcpip.Address{}
	case a.Is4():
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

// fromAddr converts back; gVisor's empty address becomes the zero Addr.
func fromAddr(a tcpip.Address) netip.Addr {
	switch a.Len() {
	case 4:
		return netip.AddrFrom4(a.As4())
	case 16:
		return netip.AddrFrom16(a.As16())
	}
	return netip.Addr{}
}

// netProto is the network protocol of an address.
func netProto(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// far is a remote address for gVisor.
func far(ap netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: toAddr(ap.Addr()), Port: ap.Port()}
}

// near is a local address to bind to. It names no interface: gVisor checks an IPv4 address only if none is named.
func near(ap netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: toAddr(ap.Addr()), Port: ap.Port()}
}

// plain strips what a socket address may carry and a flow may not.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
