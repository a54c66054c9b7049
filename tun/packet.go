package tun

import (
	"fmt"
	"net/netip"
)

// A Kind says what a packet is.
type Kind uint8

// The kinds of packet.
const (
	KindInvalid Kind = iota // no packet; never sent, never received
	KindIKE                 // an IKE datagram, without the non-ESP marker
	KindESP                 // an ESP packet from its SPI to its ICV; sent as the one byte 0xFF it is a NAT keepalive
	KindClear               // a whole IP packet outside IPsec; only where Caps.ClearPackets
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindInvalid:
		return "invalid"
	case KindIKE:
		return "ike"
	case KindESP:
		return "esp"
	case KindClear:
		return "clear"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Path is the two ends of an outer packet. IPv4 addresses are never IPv4-mapped.
//
// On a received packet Local is the address that it was sent to. On a packet to send, a
// zero Local address lets the wire choose one, and a zero Local port lets it choose a
// socket. Ports of 0 at both ends and a valid Remote mean native ESP (protocol 50), where
// the wire has it.
type Path struct {
	Local, Remote netip.AddrPort
}

// Native reports whether p is a path of ESP directly over IP.
func (p Path) Native() bool { return p.Local.Port() == 0 && p.Remote.Port() == 0 }

// Marked reports whether IKE datagrams on p carry the non-ESP marker.
func (p Path) Marked() bool { return Marked(p.Local.Port(), p.Remote.Port()) }

// Plausible reports whether the remote end of a received packet can be a peer at all.
// Multicast, broadcast and unspecified sources cannot, nor can port 0 on UDP, nor the very
// address and port that the packet was sent to: answers would go astray or in circles.
func (p Path) Plausible() bool {
	a := p.Remote.Addr()
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == broadcast4() {
		return false
	}
	if p.Remote == p.Local {
		return false
	}
	return p.Remote.Port() != 0 || p.Native()
}

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// Swap returns the path as the other end sees it.
func (p Path) Swap() Path { return Path{Local: p.Remote, Remote: p.Local} }

// String returns "local-remote".
func (p Path) String() string { return fmt.Sprintf("%v-%v", p.Local, p.Remote) }

// A Packet is one IKE datagram, ESP packet or clear packet in a buffer.
// The package comment says who owns Buf, and until when.
type Packet struct {
	// Buf is memory that this packet alone may touch; its capacity is part of it.
	Buf []byte
	// Off and Len place the packet: Buf[Off:Off+Len].
	Off, Len int
	// Path is where it came from, or where it goes.
	Path Path
	Kind Kind
	// ECN is the field of that name in the outer IP header, 0 to 3 (RFC 3168). A wire that
	// cannot read or write it leaves it out: 0, not ECN-capable.
	ECN uint8
}

// Data returns the packet, capped so that appending to it copies.
// It returns nil if Off and Len do not fit Buf.
func (p *Packet) Data() []byte {
	if !p.ok() {
		return nil
	}
	end := p.Off + p.Len
	return p.Buf[p.Off:end:end]
}

// ok reports whether Off and Len are within Buf.
func (p *Packet) ok() bool {
	return p.Off >= 0 && p.Len >= 0 && p.Off <= len(p.Buf) && p.Len <= len(p.Buf)-p.Off
}
