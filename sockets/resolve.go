package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// resolve turns a host into inner addresses: literally, by Config.Hosts, by
// Config.Resolver, or by DNS through the tunnels. The system's resolver is never asked: it
// would tell the clear network whom we talk to, and believe what it answers.
func (st *Stack) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if addrs := st.cfg.Hosts[host]; len(addrs) > 0 {
		return unmapped(addrs), nil
	}
	switch {
	case st.cfg.Resolver != nil:
		addrs, err := st.cfg.Resolver(ctx, host)
		if err == nil && len(addrs) == 0 {
			err = errors.New("the resolver knows no address")
		}
		if err != nil {
			return nil, &net.DNSError{Err: err.Error(), UnwrapErr: err, Name: host, IsTimeout: errors.Is(err, context.DeadlineExceeded)}
		}
		return unmapped(addrs), nil
	case len(st.cfg.DNS) > 0:
		return st.lookup(ctx, host)
	}
	return nil, &net.DNSError{Err: "no such host: it is not in hosts, and there is no resolver and no DNS server inside the tunnels",
		Name: host, IsNotFound: true}
}

// unmapped returns the addresses with IPv4 ones as such: resolvers give them as IPv6.
func unmapped(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = a.Unmap()
	}
	return out
}

// port reads the port of an address: a number, or a service name.
func port(network, s string) (uint16, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n), nil
	}
	n, err := net.LookupPort(network[:3], s)
	if err != nil {
		return 0, fmt.Errorf("unknown port %q", s)
	}
	return uint16(n), nil
}

// splitAddr reads a network and an address as package net has them.
func splitAddr(network, address string) (host string, p uint16, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return "", 0, net.UnknownNetworkError(network)
	}
	host, ps, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	p, err = port(network, ps)
	return host, p, err
}
