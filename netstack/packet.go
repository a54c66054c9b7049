package netstack

import "github.com/btns-go/btns/esp/ts"

// Packet is one outbound IP packet as the stack emitted it: possibly a TCP super-packet of up to 65,535 bytes that must be
// cut into MSS() pieces, or a UDP datagram above any MTU that must be fragmented. netstack gives access and cuts nothing.
// It is borrowed for the call of Hooks.Output; Hold keeps it. Not safe for concurrent use.
type Packet struct{}

// Flow is the packet's flow: source = local.
func (p *Packet) Flow() ts.Flow { return ts.Flow{} }

// Tag is the sending socket's tag, nil when Unowned or when the socket has none.
func (p *Packet) Tag() *Tag { return nil }

// Unowned reports that no socket sent it: a reset for a closed port, an echo reply, an ICMP error, a segment of a
// connection made from a SYN cookie that was not accepted yet.
func (p *Packet) Unowned() bool { return false }

// Provoker is, for an Unowned packet, the tag of the inbound packet it answers, nil when that is not known any more.
func (p *Packet) Provoker() *Tag { return nil }

// Header is the IP header and, for TCP and UDP, the transport header with options, contiguous. Read only.
func (p *Packet) Header() []byte { return nil }

// HeaderLens are the lengths of the IP header and of the transport header inside Header.
func (p *Packet) HeaderLens() (ip, transport int) { return 0, 0 }

// PayloadLen is how many bytes follow Header.
func (p *Packet) PayloadLen() int { return 0 }

// CopyPayload copies the next payload bytes and moves the cursor; it returns less than len(dst) only at the end.
func (p *Packet) CopyPayload(dst []byte) int { return 0 }

// Rewind moves the cursor back to the start of the payload.
func (p *Packet) Rewind() {}

// MSS is the largest TCP payload of one segment when the packet must be cut, 0 when it goes as it is.
func (p *Packet) MSS() int { return 0 }

// NeedsCsum reports that the transport checksum field holds nothing of use and must be computed over each packet that is
// sent. True for all TCP and UDP.
func (p *Packet) NeedsCsum() bool { return false }

// Size is len(Header) + PayloadLen.
func (p *Packet) Size() int { return 0 }

// TCPFlags are the flags of the TCP header (FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16), 0 for other protocols.
func (p *Packet) TCPFlags() uint8 { return 0 }

// Refuse tells the sender, from inside Hooks.Output, that its packet will never go: a pending DialTCP fails with cause, a
// UDP write returns it. Nothing happens to an established TCP connection: for it this is loss.
func (p *Packet) Refuse(cause error) {}

// Hold keeps the packet beyond Output: the result stays valid, with its own cursor, until its Release. A held UDP datagram
// or TCP segment stays charged to its socket's send buffer.
func (p *Packet) Hold() *Packet { return p }

// Release gives a held packet back. It must not be used afterwards.
func (p *Packet) Release() {}
