package netstack

import (
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// KUID and KGID make *Tag a gVisor PacketOwner: what rides on inbound packets.
func (*Tag) KUID() uint32 { return 0 }

// KGID is KUID's other half.
func (*Tag) KGID() uint32 { return 0 }

// owner rides on outbound packets: the socket that sent them. It is set on a gVisor endpoint once; the tag inside changes.
type owner struct {
	tag  atomic.Pointer[Tag]
	once atomic.Pointer[Tag] // for the one datagram being written; outbound only

	// Exactly one is set, before the endpoint can send.
	tcp      *TCPConn
	listener *TCPListener
	dgram    *dgram
}

// KUID: see Tag.KUID; it makes *owner a gVisor PacketOwner.
func (*owner) KUID() uint32 { return 0 }

// KGID is KUID's other half.
func (*owner) KGID() uint32 { return 0 }

var (
	_ tcpip.PacketOwner = (*Tag)(nil)
	_ tcpip.PacketOwner = (*owner)(nil)
)

// outTag is the tag of the packet being sent.
func (o *owner) outTag() *Tag {
	if t := o.once.Load(); t != nil {
		return t
	}
	return o.tag.Load()
}

// refuse tells the socket that a packet to dst will not go. It is called with gVisor's locks held and makes no gVisor call.
func (o *owner) refuse(cause error) {
	switch {
	case o.tcp != nil:
		o.tcp.refuse(cause)
	case o.dgram != nil:
		o.dgram.refused.Store(&cause)
	}
}

// unreachable tells the socket, later and from outside, that a packet to dst never went.
func (o *owner) unreachable(dst netip.AddrPort, cause error) {
	switch {
	case o.tcp != nil:
		o.tcp.refuse(cause)
	case o.dgram != nil:
		o.dgram.unreachable(dst, cause)
	}
}

// end makes the socket's calls return cause, without a gVisor call.
func (o *owner) end(cause error) {
	switch {
	case o.tcp != nil:
		o.tcp.life.end(cause)
	case o.listener != nil:
		o.listener.life.end(cause)
	case o.dgram != nil:
		o.dgram.life.end(cause)
	}
}

// ownerOf finds the socket of an endpoint; nil for a connection that was not accepted yet.
func (s *Stack) ownerOf(ep stack.TransportEndpoint) *owner {
	if o, ok := s.owners.Load(ep); ok {
		return o.(*owner)
	}
	return nil
}

// listenerFor finds the listener that a connection to local was made by.
func (s *Stack) listenerFor(local netip.AddrPort) *TCPListener {
	s.listenMu.RLock()
	defer s.listenMu.RUnlock()
	if l := s.listeners[local]; l != nil {
		return l
	}
	if local.Addr().Is4() {
		if l := s.listeners[netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())]; l != nil {
			return l
		}
	}
	return s.listeners[netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())]
}
