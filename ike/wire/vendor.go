package wire

// Vendor is the vendor ID payload (RFC 7296, Section 3.12).
type Vendor struct {
	Data []byte
}

// Type implements Payload.
func (*Vendor) Type() PayloadType { return PayloadVendor }

func (v *Vendor) appendBody(dst []byte) []byte { return append(dst, v.Data...) }

// Unknown is a payload of a type this package does not know. Parse returns none
// with the critical bit set: it fails instead. To compose a message with an
// arbitrary payload, a known type may be given with any data.
type Unknown struct {
	PType    PayloadType
	Critical bool
	Data     []byte
}

// Type implements Payload.
func (u *Unknown) Type() PayloadType { return u.PType }

func (u *Unknown) appendBody(dst []byte) []byte { return append(dst, u.Data...) }
