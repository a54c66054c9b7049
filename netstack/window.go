package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// gVisor's receiver rounds the window it advertises down to the granularity of the window scale, and then judges incoming
// sequence numbers by the rounded value: the right edge of its window moves back by up to 2^scale-1 bytes (RFC 7323, Section
// 2.4 wants the receiver to go by what it sent last). A peer that has sent up to the old edge acknowledges with a sequence
// number behind the new one. With the window nearly closed every such acknowledgement is thrown away, and when this side's
// application waits for its own writes before it reads on, as an echo server does, nothing ever moves again.
//
// Linux takes it from both sides (it rounds up, and when sending allows for the scale). Here the wrapper moves the sequence
// number of such an acknowledgement, which carries nothing but its ACK field, back to the edge; but not while data wait to
// be judged, which may well move the edge.

// windowScale is the scale gVisor offers for a receive buffer that grows to most bytes.
func windowScale(most int) uint8 { return uint8(tcp.FindWndScale(seqnum.Size(most))) }

// advertise notes the acknowledgement and window that a segment of c's carries.
func (c *TCPConn) advertise(pkt *stack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) >= header.TCPMinimumSize && h.Flags()&header.TCPFlagAck != 0 {
		c.unjudged.Store(false)
		c.advertised.Store(uint64(h.AckNumber())<<16 | uint64(h.WindowSize()))
	}
}

// pullBack sees every segment for c on its way to TCP, and makes an acknowledgement acceptable that is right behind the edge
// of the advertised window.
func (c *TCPConn) pullBack(pkt *stack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if pkt.Data().Size() != 0 {
		c.unjudged.Store(true)
		return
	}
	adv := c.advertised.Load()
	if len(h) < header.TCPMinimumSize || h.Flags() != header.TCPFlagAck || adv == 0 || c.unjudged.Load() {
		return
	}
	edge := uint32(adv>>16) + uint32(adv&0xffff)<<c.s.scale
	if d := h.SequenceNumber() - edge; d != 0 && d < 1<<c.s.scale {
		h.SetSequenceNumber(edge) // the checksum is not looked at
		c.s.counters.pulledBack.Add(1)
	}
}
