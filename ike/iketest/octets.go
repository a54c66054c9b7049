package iketest

import (
	"encoding/binary"
	"slices"

	"github.com/btns-go/btns/ike/wire"
)

// This file and closed.go write messages a second time, from the figures of RFC 7296 and
// with none of the encoders of packages wire and suite: a peer made of the machine's own
// parts makes the machine's own mistakes, and understands them. Only the values are wire's.
// They are written as they stand, whatever they say.

// grow appends numbers of one, two, four or eight octets in network order, and octets.
func grow(b []byte, fields ...any) []byte {
	for _, f := range fields {
		switch f := f.(type) {
		case uint8:
			b = append(b, f)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case []byte:
			b = append(b, f...)
		}
	}
	return b
}

// zero octets of reserved fields.
func zero(n int) []byte { return make([]byte, n) }

// count is a number of things in a field of one octet.
func count[T any](s []T) uint8 { return uint8(len(s)) }

// Encode writes a message whose payloads are in the clear.
func Encode(m *wire.Message) []byte {
	first, body := EncodeChain(m.Payloads)
	return grow(headed(m.Header, first, len(body)), body)
}

// headed is Figure 4 of RFC 7296 before so many octets.
func headed(h wire.Header, first wire.PayloadType, n int) []byte {
	if h.Version == 0 {
		h.Version = 0x20 // 2.0
	}
	return grow(nil, h.SPIi, h.SPIr, uint8(first), h.Version, uint8(h.Exchange), uint8(h.Flags), h.MessageID, uint32(28+n))
}

// EncodeChain writes payloads, each with the generic header of Figure 5 of RFC 7296, and
// returns the type of the first.
func EncodeChain(ps []wire.Payload) (first wire.PayloadType, b []byte) {
	next := wire.PayloadType(0)
	var bodies [][]byte
	for _, p := range slices.Backward(ps) {
		number, critical, body := octets(p)
		bodies = append(bodies, grow(nil, uint8(next), critical, uint16(4+len(body)), body))
		next = wire.PayloadType(number)
	}
	slices.Reverse(bodies)
	return next, slices.Concat(append([][]byte{{}}, bodies...)...)
}

// octets is a payload's type, its flags, and its body by the figures of RFC 7296, Section 3.
func octets(p wire.Payload) (number, critical uint8, body []byte) {
	switch p := p.(type) {
	case *wire.SA: // Figure 6
		return 33, 0, proposals(p.Proposals)
	case *wire.KE: // Figure 10
		return 34, 0, grow(nil, p.Group, zero(2), p.Data)
	case *wire.ID: // Figure 11
		number = 35
		if p.Responder {
			number = 36
		}
		return number, 0, grow(nil, uint8(p.IType), zero(3), p.Data)
	case *wire.Cert: // Figure 12
		return 37, 0, grow(nil, uint8(p.Encoding), p.Data)
	case *wire.CertReq: // Figure 13
		return 38, 0, grow(nil, uint8(p.Encoding), p.Authority)
	case *wire.Auth: // Figure 14
		return 39, 0, grow(nil, uint8(p.Method), zero(3), p.Data)
	case *wire.Nonce: // Figure 15
		return 40, 0, p.Data
	case *wire.Notify: // Figure 16
		return 41, 0, grow(nil, uint8(p.Protocol), count(p.SPI), uint16(p.NType), p.SPI, p.Data)
	case *wire.Delete: // Figure 17
		size := uint8(4)
		if p.Protocol == 1 {
			size = 0 // "For IKE_SA, zero"
		}
		body = grow(nil, uint8(p.Protocol), size, uint16(len(p.SPIs)))
		for _, spi := range p.SPIs {
			body = grow(body, spi)
		}
		return 42, 0, body
	case *wire.Vendor: // Figure 18
		return 43, 0, p.Data
	case *wire.TS: // Figure 19
		number = 45
		if p.Initiator {
			number = 44
		}
		return number, 0, selectors(p.Selectors)
	case *wire.Configuration: // Figure 22
		body = grow(nil, uint8(p.CType), zero(3))
		for _, a := range p.Attributes { // Figure 23
			body = grow(body, uint16(a.Type), uint16(len(a.Value)), a.Value)
		}
		return 47, 0, body
	case *wire.EAP: // Figure 24
		return 48, 0, p.Data
	case *wire.Unknown:
		if p.Critical {
			critical = 0x80
		}
		return uint8(p.PType), critical, p.Data
	}
	return 0, 0, nil // SK and SKF are made in closed.go
}

// proposals is Figures 7 and 8 of RFC 7296, with the attribute of Figure 9.
func proposals(ps []wire.Proposal) (b []byte) {
	for i, p := range ps {
		more := uint8(2)
		if i == len(ps)-1 {
			more = 0
		}
		var ts []byte
		for i, t := range p.Transforms {
			more := uint8(3)
			if i == len(p.Transforms)-1 {
				more = 0
			}
			var attr []byte
			if t.KeyBits != 0 {
				attr = grow(nil, uint16(1<<15|14), t.KeyBits)
			}
			ts = grow(ts, more, zero(1), uint16(8+len(attr)), uint8(t.Type), zero(1), t.ID, attr)
		}
		b = grow(b, more, zero(1), uint16(8+len(p.SPI)+len(ts)), p.Num, uint8(p.Protocol), count(p.SPI), count(p.Transforms), p.SPI, ts)
	}
	return b
}

// selectors is the body of Figure 19 of RFC 7296 with the substructures of Figure 20.
func selectors(ss []wire.TrafficSelector) []byte {
	b := grow(nil, count(ss), zero(3))
	for _, s := range ss {
		body := s.Data
		if s.Type == 7 || s.Type == 8 { // TS_IPV4_ADDR_RANGE, TS_IPV6_ADDR_RANGE
			body = grow(nil, s.StartPort, s.EndPort, s.Start.AsSlice(), s.End.AsSlice())
		}
		b = grow(b, s.Type, s.Proto, uint16(4+len(body)), body)
	}
	return b
}
