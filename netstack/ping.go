package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
)

// pingCookie is how many random bytes an echo request carries, by which its reply is known.
const pingCookie = 16

// Ping sends one ICMP echo request to addr and waits for its reply. It returns the round-trip time and the tag the reply
// came under. tag is the socket's, nil for none.
func (s *Stack) Ping(ctx context.Context, tag *Tag, addr netip.Addr) (time.Duration, *Tag, error) {
	addr = addr.Unmap().WithZone("")
	rtt, got, err := s.ping(ctx, tag, addr)
	if err != nil {
		return 0, nil, opErr("ping", "ip", nil, &net.IPAddr{IP: addr.AsSlice()}, err)
	}
	return rtt, got, nil
}

func (s *Stack) ping(ctx context.Context, tag *Tag, addr netip.Addr) (time.Duration, *Tag, error) {
	if !addr.IsValid() {
		return 0, nil, fmt.Errorf("netstack: no address to ping")
	}
	proto, msg := icmp.ProtocolNumber4, make([]byte, icmpHeader, icmpHeader+pingCookie)
	var local netip.Addr
	if addr.Is4() {
		local = netip.IPv4Unspecified()
		header.ICMPv4(msg).SetType(header.ICMPv4Echo)
	} else {
		local = netip.IPv6Unspecified()
		proto = icmp.ProtocolNumber6
		header.ICMPv6(msg).SetType(header.ICMPv6EchoRequest)
	}
	cookie := make([]byte, pingCookie)
	_, _ = rand.Read(cookie) // never fails (package crypto/rand)
	msg = append(msg, cookie...)

	d := new(dgram)
	if err := s.openDgram(d, proto, tag, netip.AddrPortFrom(local, 0), netip.AddrPortFrom(addr, 0)); err != nil {
		return 0, nil, err
	}
	defer func() { _ = d.close() }()
	start := time.Now()
	if _, err := d.write(msg, netip.AddrPort{}, nil); err != nil {
		return 0, nil, err
	}
	buf := make([]byte, 128)
	for {
		n, it, err := d.read(buf, ctx.Done())
		if err != nil {
			if ctx.Err() != nil {
				err = ctxErr(ctx)
			}
			return 0, nil, err
		}
		if it.from.Addr() == addr && n == len(msg) && bytes.Equal(buf[icmpHeader:n], cookie) {
			return time.Since(start), it.tag, nil
		}
	}
}

var _ tcpip.Payloader = (*bytes.Reader)(nil)
