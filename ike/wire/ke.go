package wire

import "encoding/binary"

// KE is the key exchange payload (RFC 7296, Section 3.4).
type KE struct {
	Group uint16 // transform ID of type 4
	Data  []byte // public value; its length is the group's affair
}

// Type implements Payload.
func (*KE) Type() PayloadType { return PayloadKE }

func parseKE(b []byte) (*KE, string) {
	c := cursor{b}
	k := &KE{}
	if !c.u16(&k.Group) || !c.skip(2) {
		return nil, "cut short"
	}
	if c.empty() {
		return nil, "no key exchange data" // ADV-B15
	}
	k.Data = c.rest()
	return k, ""
}

func (k *KE) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, k.Group)
	return append(append(dst, 0, 0), k.Data...)
}
