package wire

import "encoding/binary"

// Delete is the delete payload (RFC 7296, Section 3.11). For ProtocolIKE it has
// no SPIs and means the IKE SA that protects it.
type Delete struct {
	Protocol ProtocolID
	SPIs     []uint32 // the sender's inbound SPIs, for ESP and AH
	// Unusable marks a sound payload whose protocol and SPI size do not go
	// together: it deletes nothing (ADV-F8). Set by the parser, not encoded.
	Unusable bool
}

// Type implements Payload.
func (*Delete) Type() PayloadType { return PayloadDelete }

func parseDelete(b []byte) (*Delete, string) {
	c := cursor{b}
	d := &Delete{}
	var proto, size uint8
	var count uint16
	if !c.u8(&proto) || !c.u8(&size) || !c.u16(&count) {
		return nil, "cut short"
	}
	d.Protocol = ProtocolID(proto)
	if len(c.b) != int(size)*int(count) {
		return nil, "SPIs do not fill the payload"
	}
	switch {
	case d.Protocol == ProtocolIKE && size == 0 && count == 0: // RFC 7296, Section 3.11
		return d, ""
	case (d.Protocol == ProtocolESP || d.Protocol == ProtocolAH) && size == 4:
		if count > MaxDeleteSPIs {
			return nil, "too many SPIs"
		}
		d.SPIs = make([]uint32, count)
		for i := range d.SPIs {
			c.u32(&d.SPIs[i])
		}
		return d, ""
	}
	d.Unusable = true
	return d, ""
}

func (d *Delete) appendBody(dst []byte) []byte {
	if len(d.SPIs) > MaxDeleteSPIs {
		return nil
	}
	size := byte(4)
	if len(d.SPIs) == 0 && d.Protocol == ProtocolIKE {
		size = 0
	}
	dst = append(dst, byte(d.Protocol), size)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.SPIs)))
	for _, spi := range d.SPIs {
		dst = binary.BigEndian.AppendUint32(dst, spi)
	}
	return dst
}
