package wire

import "encoding/binary"

const (
	// HeaderLen is the length of the IKE header in octets (RFC 7296, Section 3.1).
	HeaderLen = 28
	// MajorVersion is the only major version spoken here.
	MajorVersion = 2
	// Version is the version octet we send: 2.0.
	Version uint8 = MajorVersion << 4
)

// Header is the IKE header (RFC 7296, Section 3.1). SPIi is the initiator's
// SPI, never zero; SPIr is zero in the first request only.
type Header struct {
	SPIi, SPIr uint64
	Next       PayloadType // set by Append
	Version    uint8       // major in the high nibble; Append writes 2.0 for zero
	Exchange   ExchangeType
	Flags      Flags
	MessageID  uint32
	Length     uint32 // of the whole message in octets; set by Append
}

// Major returns the major version.
func (h Header) Major() int { return int(h.Version >> 4) }

// ParseHeader reads the header of a datagram. It checks nothing but that the
// octets are there: version, SPIs and Length are for the caller or Parse, so
// that a message of another version can still be answered.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, &ParseError{Why: "shorter than a header", Code: NotifyInvalidSyntax}
	}
	return Header{
		SPIi:      binary.BigEndian.Uint64(b),
		SPIr:      binary.BigEndian.Uint64(b[8:]),
		Next:      PayloadType(b[16]),
		Version:   b[17],
		Exchange:  ExchangeType(b[18]),
		Flags:     Flags(b[19]),
		MessageID: binary.BigEndian.Uint32(b[20:]),
		Length:    binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// Append appends the 28 octets of the header as they stand, except that a zero
// Version is sent as 2.0 and only defined flag bits are sent.
func (h Header) Append(dst []byte) []byte {
	v := h.Version
	if v == 0 {
		v = Version
	}
	dst = binary.BigEndian.AppendUint64(dst, h.SPIi)
	dst = binary.BigEndian.AppendUint64(dst, h.SPIr)
	// RFC 7296, Section 3.1: X bits must be cleared when sending.
	dst = append(dst, byte(h.Next), v, byte(h.Exchange), byte(h.Flags&(FlagInitiator|FlagVersion|FlagResponse)))
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return binary.BigEndian.AppendUint32(dst, h.Length)
}
