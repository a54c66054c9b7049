package wire

import "encoding/binary"

// Encrypted is the SK payload (RFC 7296, Section 3.14), still closed.
type Encrypted struct {
	First PayloadType // type of the first payload inside
	Body  []byte      // IV, ciphertext and ICV
	// Off is the offset of Body in the datagram; datagram[:Off] is the associated
	// data of an AEAD (RFC 5282, Section 5.1). Set by the parser.
	Off int
}

// EncryptedFragment is the SKF payload (RFC 7383, Section 2.5), still closed.
type EncryptedFragment struct {
	First      PayloadType // type of the first payload inside, in fragment 1; else PayloadNone
	Num, Total uint16      // 1 ≤ Num ≤ Total
	Body       []byte      // IV, ciphertext and ICV
	Off        int         // as in Encrypted: datagram[:Off] is associated data
}

// Type implements Payload.
func (*Encrypted) Type() PayloadType { return PayloadEncrypted }

// Type implements Payload.
func (*EncryptedFragment) Type() PayloadType { return PayloadEncryptedFragment }

func parseEncrypted(t, first PayloadType, b []byte, off int) (Payload, string) {
	if t == PayloadEncrypted {
		return &Encrypted{First: first, Body: b, Off: off}, ""
	}
	c := cursor{b}
	f := &EncryptedFragment{First: first, Off: off + 4}
	if !c.u16(&f.Num) || !c.u16(&f.Total) {
		return nil, "cut short"
	}
	// RFC 7383, Section 2.6: these are silently discarded (ADV-G2).
	if f.Num == 0 || f.Total == 0 || f.Num > f.Total {
		return nil, "fragment number outside 1 to total"
	}
	f.Body = c.rest()
	return f, ""
}

func (e *Encrypted) appendBody(dst []byte) []byte { return append(dst, e.Body...) }

func (f *EncryptedFragment) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, f.Num)
	dst = binary.BigEndian.AppendUint16(dst, f.Total)
	return append(dst, f.Body...)
}
