package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/btns-go/btns/esp/ts"
)

// queuer is what gVisor's demultiplexer looks for, by the method's name, in a transport protocol: it is then called with
// the chosen endpoint in place of the endpoint's HandlePacket, with the demultiplexer's lock held. The wrappers below are
// the hook of this package; probeHooks and a test notice when gVisor stops looking.
type queuer interface {
	QueuePacket(stack.TransportEndpoint, stack.TransportEndpointID, *stack.PacketBuffer)
}

var (
	_ queuer                 = (*tcpProtocol)(nil)
	_ stack.SendBufSizeProto = (*tcpProtocol)(nil)
	_ queuer                 = (*dgramProtocol)(nil)
)

// tcpProtocol wraps gVisor's TCP.
type tcpProtocol struct {
	stack.TransportProtocol
	stack.SendBufSizeProto // gVisor asserts that the TCP protocol has it
	inner                  queuer
	s                      *Stack
}

func newTCPProtocol(s *Stack, inner stack.TransportProtocol) stack.TransportProtocol {
	// Both assertions hold for the pinned gVisor, or New panics at once in every test.
	return &tcpProtocol{inner, inner.(stack.SendBufSizeProto), inner.(queuer), s}
}

// QueuePacket is called with the endpoint chosen for a segment, before TCP has seen it.
func (p *tcpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	s := p.s
	if s.probed(ts.ProtoTCP) {
		return
	}
	tep, ok := ep.(*tcp.Endpoint)
	if !ok {
		s.drop(DropAdmit)
		return
	}
	in := inbound(s, ts.ProtoTCP, id, pkt)
	in.SYN = isSYN(pkt)
	state := tep.EndpointState()
	in.Listener = state == tcp.StateListen
	o := s.ownerOf(ep)
	if o != nil {
		in.Socket = o.tag.Load()
	} else if l := s.listenerFor(netip.AddrPortFrom(fromAddr(id.LocalAddress), id.LocalPort)); l != nil {
		in.Socket = l.owner.tag.Load()
	}
	if !s.callAdmit(in) {
		s.drop(DropAdmit)
		return
	}
	switch state {
	case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateSynSent:
		// What these send has an owner.
	default:
		s.provoked.put(in.Flow, in.Packet)
	}
	if o != nil && o.tcp != nil {
		o.tcp.pullBack(pkt)
	}
	p.inner.QueuePacket(ep, id, pkt)
}

// HandleUnknownDestinationPacket is called for a segment that no endpoint matches; it answers with a reset.
func (p *tcpProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	in := inbound(p.s, ts.ProtoTCP, id, pkt)
	in.SYN = isSYN(pkt)
	if !p.s.callAdmit(in) {
		p.s.drop(DropAdmit)
		return stack.UnknownDestinationPacketHandled
	}
	p.s.provoked.put(in.Flow, in.Packet)
	defer p.s.provoked.forget(in.Flow)
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

func isSYN(pkt *stack.PacketBuffer) bool {
	h := header.TCP(pkt.TransportHeader().Slice())
	return len(h) >= header.TCPMinimumSize && h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn
}

// dgramProtocol wraps gVisor's UDP and ICMP: the receive queue is ours, so that each datagram keeps its tag.
type dgramProtocol struct {
	stack.TransportProtocol
	s *Stack
}

// QueuePacket is called with the endpoint chosen for a datagram. gVisor's own queue stays empty.
func (p *dgramProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	s := p.s
	proto := uint8(p.Number())
	if s.probed(proto) {
		return
	}
	o := s.ownerOf(ep)
	if o == nil || o.dgram == nil {
		s.drop(DropAdmit)
		return
	}
	in := inbound(s, proto, id, pkt)
	in.Socket = o.tag.Load()
	if proto == ts.ProtoUDP {
		h := header.UDP(pkt.TransportHeader().Slice())
		ok, _ := header.UDPValid(h, nil, uint16(pkt.Data().Size()), pkt.NetworkProtocolNumber,
			id.RemoteAddress, id.LocalAddress, true /* the checksum is not looked at */)
		if !ok {
			s.drop(DropMalformed)
			return
		}
	} else if !isEchoReply(proto, pkt) {
		return // a request whose identifier one of our ping sockets has too; the network layer answers it
	}
	if !s.callAdmit(in) {
		s.drop(DropAdmit)
		return
	}
	if !o.dgram.push(pkt, netip.AddrPortFrom(fromAddr(id.RemoteAddress), id.RemotePort), fromAddr(id.LocalAddress), in.Packet) {
		s.drop(DropQueueFull)
	}
}

// HandleUnknownDestinationPacket is called for a datagram that no endpoint matches; for UDP the network layer then answers
// with "port unreachable".
func (p *dgramProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if p.Number() == tcpip.TransportProtocolNumber(ts.ProtoUDP) {
		in := inbound(p.s, ts.ProtoUDP, id, pkt)
		if !p.s.callAdmit(in) {
			p.s.drop(DropAdmit)
			return stack.UnknownDestinationPacketHandled
		}
		p.s.provoked.put(in.Flow, in.Packet) // the answer is sent after this returns
	}
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

func isEchoReply(proto uint8, pkt *stack.PacketBuffer) bool {
	h := pkt.TransportHeader().Slice()
	if len(h) == 0 {
		return false
	}
	if proto == ts.ProtoICMP {
		return header.ICMPv4Type(h[0]) == header.ICMPv4EchoReply
	}
	return header.ICMPv6Type(h[0]) == header.ICMPv6EchoReply
}

// inbound describes a demultiplexed packet.
func inbound(s *Stack, proto uint8, id stack.TransportEndpointID, pkt *stack.PacketBuffer) Inbound {
	rport, lport := id.RemotePort, id.LocalPort
	if proto != ts.ProtoTCP && proto != ts.ProtoUDP {
		if h := pkt.TransportHeader().Slice(); len(h) >= 2 {
			rport = uint16(h[0])<<8 | uint16(h[1])
			lport = rport
		}
	}
	tag, _ := pkt.Owner.(*Tag)
	return Inbound{
		Flow: ts.MakeFlow(proto, netip.AddrPortFrom(fromAddr(id.RemoteAddress), rport),
			netip.AddrPortFrom(fromAddr(id.LocalAddress), lport)),
		Packet:   tag,
		Proto:    proto,
		Loopback: tag == s.loopTag,
	}
}
