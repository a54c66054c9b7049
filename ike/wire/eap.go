package wire

import "encoding/binary"

// EAP is the EAP payload (RFC 7296, Section 3.16): one EAP packet, opaque here.
type EAP struct {
	Data []byte // code, identifier, length, and what follows
}

// Type implements Payload.
func (*EAP) Type() PayloadType { return PayloadEAP }

func parseEAP(b []byte) (*EAP, string) {
	// RFC 3748, Section 4: the length covers the whole packet.
	if len(b) < 4 || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return nil, "EAP length differs from the payload's"
	}
	return &EAP{Data: b}, ""
}

func (e *EAP) appendBody(dst []byte) []byte { return append(dst, e.Data...) }
