package wire

import "encoding/binary"

// Notify is the notify payload (RFC 7296, Section 3.10).
type Notify struct {
	Protocol ProtocolID // ProtocolNone when there is no SPI
	SPI      []byte     // of the SA the notify is about; empty = the IKE SA or none
	NType    NotifyType
	Data     []byte
}

// Type implements Payload.
func (*Notify) Type() PayloadType { return PayloadNotify }

func parseNotify(b []byte) (*Notify, string) {
	c := cursor{b}
	n := &Notify{}
	var proto, size uint8
	var t uint16
	if !c.u8(&proto) || !c.u8(&size) || !c.u16(&t) {
		return nil, "cut short"
	}
	n.NType = NotifyType(t)
	// RFC 7296, Section 3.10: without an SPI the protocol is ignored.
	if size > 0 {
		n.Protocol = ProtocolID(proto)
		if !c.bytes(&n.SPI, int(size)) {
			return nil, "SPI outside the payload"
		}
	}
	n.Data = c.rest()
	return n, ""
}

// SPI32 returns the SPI of an ESP or AH notify. ok is false for any other
// protocol or SPI size: the notify is about no child SA.
func (n *Notify) SPI32() (spi uint32, ok bool) {
	if (n.Protocol != ProtocolESP && n.Protocol != ProtocolAH) || len(n.SPI) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(n.SPI), true
}

func (n *Notify) appendBody(dst []byte) []byte {
	if len(n.SPI) > 255 {
		return nil
	}
	proto := n.Protocol
	if len(n.SPI) == 0 {
		proto = ProtocolNone // RFC 7296, Section 3.10
	}
	dst = append(dst, byte(proto), byte(len(n.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n.NType))
	dst = append(dst, n.SPI...)
	return append(dst, n.Data...)
}
