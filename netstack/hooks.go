package netstack

import (
	"github.com/btns-go/btns/esp/ts"
)

// Tag rides on packets. Outbound it is the socket's (what the socket demands), inbound it is the security association's
// (what the packet arrived under). netstack compares and forwards the pointer and never looks at V.
type Tag struct{ V any }

// Loopback is the V of the tag that packets from this stack to its own addresses carry inbound.
type Loopback struct{}

// Hooks are the calls netstack makes into the data path. They are made with gVisor's locks held: they must not block, and
// must not call any method of Stack, TCPConn, TCPListener or UDPConn. Methods of the Packet they are given are allowed.
type Hooks struct {
	// Output takes every packet the stack emits. tag is the sending socket's, nil when p.Unowned(). p is borrowed for the
	// call unless p.Hold() is called. Not returning an error is deliberate: to refuse a packet call p.Refuse. A nil Output
	// drops everything.
	Output func(tag *Tag, p *Packet)
	// Admit decides, after the socket was chosen and before its transport saw anything, whether a packet may reach it.
	// false drops and counts. A nil Admit drops everything.
	Admit func(in Inbound) bool
}

// Inbound describes one packet to Hooks.Admit.
type Inbound struct {
	// Flow is the flow as seen on the wire: source = remote. For an ICMP error it is the flow of the packet complained
	// about, turned round, so that it names the connection that the error would act on.
	Flow ts.Flow
	// Packet is the tag given to Deliver. It is Stack.LoopbackTag for packets from this stack to itself.
	Packet *Tag
	// Socket is the tag of the chosen socket; nil if none (closed port, ICMP echo, socket without a tag).
	Socket *Tag
	// Proto is the IP protocol of Flow (6, 17, 1, 58).
	Proto uint8
	// Listener: the chosen socket is a TCP listener. A child that was not accepted yet has its listener's tag and Listener
	// false.
	Listener bool
	// SYN: a TCP segment with SYN and without ACK.
	SYN bool
	// ICMPError: the packet is an ICMP error about Flow. Flow is only as trustworthy as the sender; the packet's own flow
	// was offered in a call of its own before.
	ICMPError bool
	// Loopback: sent by this stack to one of its own addresses; it never left the process.
	Loopback bool
}
