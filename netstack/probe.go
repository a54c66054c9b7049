package netstack

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/btns-go/btns/esp/ts"
)

// probe counts, while New runs, the packets that came through the hook.
type probe struct{ tcp, udp atomic.Int32 }

// probed swallows a packet of the probe.
func (s *Stack) probed(proto uint8) bool {
	p := s.probe.Load()
	if p == nil {
		return false
	}
	switch proto {
	case ts.ProtoTCP:
		p.tcp.Add(1)
	case ts.ProtoUDP:
		p.udp.Add(1)
	}
	return true
}

// probeHooks sends one segment and one datagram of each family to endpoints of its own, and wants to see all four at the
// hook. The hook depends on the name of a method that gVisor does not export: a gVisor that stopped calling it would hand
// packets to sockets, or lose them, unasked.
func (s *Stack) probeHooks() error {
	p := new(probe)
	s.probe.Store(p)
	defer s.probe.Store(nil)
	for _, a := range []struct{ local, remote string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		if err := s.probeFamily(netip.MustParseAddr(a.local), netip.MustParseAddr(a.remote)); err != nil {
			return err
		}
	}
	if t, u := p.tcp.Load(), p.udp.Load(); t != 2 || u != 2 {
		return fmt.Errorf("netstack: %w: of 2 TCP and 2 UDP probes it saw %d and %d", ErrHookBypassed, t, u)
	}
	return nil
}

func (s *Stack) probeFamily(local, remote netip.Addr) error {
	s.addrMu.Lock()
	defer s.addrMu.Unlock()
	if err := s.addLocked(local); err != nil {
		return err
	}
	defer func() { _ = s.removeLocked(local) }()
	np := netProto(local)
	for _, proto := range []tcpip.TransportProtocolNumber{tcp.ProtocolNumber, udp.ProtocolNumber} {
		ep, err := s.gv.NewEndpoint(proto, np, new(waiter.Queue))
		if err != nil {
			return fmt.Errorf("netstack: probing the hook: %s", err)
		}
		defer ep.Close()
		if err := ep.Bind(tcpip.FullAddress{NIC: nic, Port: 9}); err != nil {
			return fmt.Errorf("netstack: probing the hook: %s", err)
		}
		if proto == tcp.ProtocolNumber {
			if err := ep.Listen(1); err != nil {
				return fmt.Errorf("netstack: probing the hook: %s", err)
			}
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(probePacket(proto, local, remote))})
		s.inject(pkt)
	}
	return nil
}

// probePacket is a SYN or an empty datagram to port 9. Checksums are not looked at.
func probePacket(proto tcpip.TransportProtocolNumber, local, remote netip.Addr) []byte {
	upper := make([]byte, header.TCPMinimumSize)
	if proto == tcp.ProtocolNumber {
		header.TCP(upper).Encode(&header.TCPFields{SrcPort: 9, DstPort: 9, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn})
	} else {
		upper = upper[:header.UDPMinimumSize]
		header.UDP(upper).Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: header.UDPMinimumSize})
	}
	if local.Is4() {
		b := make([]byte, header.IPv4MinimumSize, 40)
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b) + len(upper)), TTL: 64, Protocol: uint8(proto),
			SrcAddr: toAddr(remote), DstAddr: toAddr(local)})
		return append(b, upper...)
	}
	b := make([]byte, header.IPv6MinimumSize, 60)
	header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(upper)), TransportProtocol: proto, HopLimit: 64,
		SrcAddr: toAddr(remote), DstAddr: toAddr(local)})
	return append(b, upper...)
}
