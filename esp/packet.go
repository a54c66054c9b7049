package esp

import (
	"encoding/binary"

	"github.com/btns-go/btns/esp/replay"
)

// Room that every buffer leaves around a payload, in octets.
const (
	// Headroom is what an ESP header and IV need at most before the payload.
	Headroom = 32
	// Tailroom is what padding, trailer and ICV need at most after it.
	Tailroom = 64
)

// Mode says what an SA carries.
type Mode uint8

// Modes. The zero Mode is invalid.
const (
	ModeTunnel    Mode = 1 // whole IP packets (RFC 4303, Section 3.1.2)
	ModeTransport Mode = 2 // upper-layer payloads (RFC 4303, Section 3.1.1)
)

// String returns "tunnel" or "transport".
func (m Mode) String() string {
	switch m {
	case ModeTunnel:
		return "tunnel"
	case ModeTransport:
		return "transport"
	}
	return "invalid"
}

// Next header values that ESP itself looks at (IANA protocol numbers).
const (
	protoHopByHop = 0
	protoIPv4     = 4
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoNoNext   = 59

	// NextDummy marks a packet to be discarded by its receiver (RFC 4303,
	// Section 2.6).
	NextDummy = protoNoNext
)

// Packet is one packet of a batch, processed in place.
//
// Buf[Off:Off+Len] is, before Seal and after Open, the payload: the inner IP
// packet in tunnel mode, the upper-layer payload in transport mode. After Seal
// and before Open it is the ESP packet from the SPI to the ICV. Buf is owned by
// this packet alone, len(Buf) is its end, and Seal needs HeaderLen octets before
// the payload and Overhead octets around it (Headroom and Tailroom always do).
type Packet struct {
	Buf  []byte
	Off  int
	Len  int
	Next uint8 // next header: set by the caller of Seal, by Open
	Drop Drop  // verdict of the last Seal or Open
	seq  uint64
}

// Payload returns Buf[Off:Off+Len] with its capacity capped.
func (p *Packet) Payload() []byte {
	return p.Buf[p.Off : p.Off+p.Len : p.Off+p.Len]
}

// Seq returns the 64-bit sequence number of the last Seal or Open, 0 if the
// packet got none. After Open it is authentic unless 0.
func (p *Packet) Seq() uint64 { return p.seq }

// SPI returns the Security Parameters Index of an ESP packet, false if pkt is too
// short to be one or the SPI is a reserved one, 0 to 255 (RFC 4303, Section 2.1).
func SPI(pkt []byte) (uint32, bool) {
	if len(pkt) < headerLen {
		return 0, false
	}
	spi := binary.BigEndian.Uint32(pkt)
	return spi, spi >= minSPI
}

// Worker is the scratch space of one goroutine that seals or opens. The zero
// Worker is ready; it may serve any number of SAs, one call at a time. It keeps
// nothing secret between calls.
type Worker struct {
	nonce [nonceLen]byte
	aad   [maxAADLen]byte
	mac   [maxMACLen]byte
	seen  replay.Snapshot
}
