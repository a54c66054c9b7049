package wire

import "encoding/binary"

// Message is a parsed or composed IKE message: the header and the payloads in
// order. Payloads that were parsed alias the datagram.
type Message struct {
	Header
	Payloads []Payload
}

// Payload is one payload of a message: one of the pointer types of this package.
type Payload interface {
	// Type returns the payload's type octet.
	Type() PayloadType
	// appendBody appends the payload without its generic header, or returns nil
	// when a count or length does not fit its field.
	appendBody(dst []byte) []byte
}

const genericLen = 4 // generic payload header (RFC 7296, Section 3.2)

// Parse reads the clear part of a message, which must fill b exactly. An SK or
// SKF payload comes out as *Encrypted or *EncryptedFragment, its octets
// untouched, and is always the last one. A payload that no exchange has twice
// may not appear twice. Unknown payloads come out as *Unknown; one with the
// critical bit fails the parse with NotifyUnsupportedCriticalPayload (RFC 7296,
// Section 2.5). The offer of an IKE_SA_INIT request is checked with
// SA.CheckOffer; those inside SK are for the caller to check. Errors are
// *ParseError.
func Parse(b []byte) (*Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Major() != MajorVersion {
		return nil, &ParseError{Off: 17, Why: "major version not 2", Code: NotifyInvalidMajorVersion}
	}
	// RFC 7296, Section 3.1: the length covers the whole message; a UDP datagram
	// with more or fewer octets is not one message (ADV-A3).
	if uint64(h.Length) != uint64(len(b)) || len(b) > MaxMessage {
		return nil, &ParseError{Off: 24, Why: "length differs from the datagram's", Code: NotifyInvalidSyntax}
	}
	if h.SPIi == 0 {
		// RFC 7296, Section 3.1: the initiator's SPI must not be zero (ADV-A7).
		return nil, &ParseError{Why: "initiator SPI is zero", Code: NotifyInvalidSyntax}
	}
	ps, err := parseChain(h.Next, b, HeaderLen, true)
	if err != nil {
		return nil, err
	}
	m := &Message{Header: h, Payloads: ps}
	if h.Exchange == ExchangeIKESAInit && !h.Flags.Response() {
		for _, p := range ps {
			if sa, ok := p.(*SA); ok {
				if err := sa.CheckOffer(); err != nil {
					return nil, err
				}
			}
		}
	}
	return m, nil
}

// ParsePayloads reads a chain of payloads whose first type is first: the
// decrypted inside of an SK payload. SK and SKF are not allowed in it.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, b, 0, false)
}

// parseChain walks the generic payload headers of b from off on.
func parseChain(next PayloadType, b []byte, off int, clear bool) ([]Payload, error) {
	if len(b) > MaxMessage {
		return nil, &ParseError{Off: off, Why: "longer than a message can be", Code: NotifyInvalidSyntax}
	}
	var ps []Payload
	var seen uint64 // bit per payload type below 64
	for next != PayloadNone {
		fail := func(why string) ([]Payload, error) {
			return nil, &ParseError{Payload: next, Off: off, Why: why, Code: NotifyInvalidSyntax}
		}
		if len(ps) == MaxPayloads {
			return fail("too many payloads")
		}
		if len(b)-off < genericLen {
			return fail("cut short")
		}
		after, critical := PayloadType(b[off]), b[off+1]&0x80 != 0
		n := int(binary.BigEndian.Uint16(b[off+2:]))
		// A length below 4 would not advance (ADV-A15).
		if n < genericLen || n > len(b)-off {
			return fail("length outside the message")
		}
		body := b[off+genericLen : off+n : off+n]
		if next == PayloadEncrypted || next == PayloadEncryptedFragment {
			// RFC 7296, Section 3.14; RFC 7383, Section 2.5: SK and SKF are last,
			// and neither can be inside another (ADV-D5). Their Next Payload field
			// belongs to the protected chain.
			if !clear {
				return fail("inside an encrypted payload")
			}
			if off+n != len(b) {
				return fail("not the last payload")
			}
			p, why := parseEncrypted(next, after, body, off+genericLen)
			if why != "" {
				return fail(why)
			}
			return append(ps, p), nil
		}
		if single(next) {
			// Refused before its body is read, which bounds the work, and here
			// rather than by every user of a message (ADV-B1, ADV-D9).
			if seen&(1<<next) != 0 {
				return fail("appears twice")
			}
			seen |= 1 << next
		}
		p, why := parsePayload(next, critical, body)
		if why != "" {
			return fail(why)
		}
		if u, ok := p.(*Unknown); ok && u.Critical {
			return nil, &ParseError{Payload: next, Off: off, Why: "unknown and critical", Code: NotifyUnsupportedCriticalPayload}
		}
		ps = append(ps, p)
		off += n
		next = after
	}
	if off != len(b) {
		return nil, &ParseError{Off: off, Why: "octets after the last payload", Code: NotifyInvalidSyntax}
	}
	return ps, nil
}

// single reports whether no exchange has more than one payload of the type (RFC
// 7296, Appendix C).
func single(t PayloadType) bool {
	switch t {
	case PayloadSA, PayloadKE, PayloadIDi, PayloadIDr, PayloadAuth, PayloadNonce,
		PayloadTSi, PayloadTSr, PayloadConfiguration, PayloadEAP:
		return true
	case PayloadNone, PayloadCert, PayloadCertReq, PayloadNotify, PayloadDelete, PayloadVendor,
		PayloadEncrypted, PayloadEncryptedFragment, PayloadPuzzleSolution:
	}
	return false
}

// parsePayload reads the body of one clear payload. why is empty on success.
func parsePayload(t PayloadType, critical bool, body []byte) (p Payload, why string) {
	switch t {
	case PayloadSA:
		return parseSA(body)
	case PayloadKE:
		return parseKE(body)
	case PayloadIDi, PayloadIDr:
		return parseID(t, body)
	case PayloadCert:
		return parseCert(body)
	case PayloadCertReq:
		return parseCertReq(body)
	case PayloadAuth:
		return parseAuth(body)
	case PayloadNonce:
		return parseNonce(body)
	case PayloadNotify:
		return parseNotify(body)
	case PayloadDelete:
		return parseDelete(body)
	case PayloadVendor:
		return &Vendor{Data: body}, ""
	case PayloadTSi, PayloadTSr:
		return parseTS(t, body)
	case PayloadConfiguration:
		return parseConfiguration(body)
	case PayloadEAP:
		return parseEAP(body)
	case PayloadNone, PayloadEncrypted, PayloadEncryptedFragment, PayloadPuzzleSolution:
	}
	return &Unknown{PType: t, Critical: critical, Data: body}, ""
}

// Append appends the message to dst. Next and Length are computed. A message
// that would exceed MaxMessage has no encoding: the result is nil.
func (m *Message) Append(dst []byte) []byte {
	start := len(dst)
	h := m.Header
	h.Next = PayloadNone
	if len(m.Payloads) > 0 {
		h.Next = m.Payloads[0].Type()
	}
	dst = h.Append(dst)
	_, dst = AppendPayloads(dst, m.Payloads)
	n := len(dst) - start
	if n < HeaderLen || n > MaxMessage {
		return nil
	}
	binary.BigEndian.PutUint32(dst[start+24:], uint32(n))
	return dst
}

// AppendPayloads appends a chain of payloads and returns the type of the first
// (PayloadNone for an empty chain). Reserved bits are zero and the critical bit
// of known payloads is clear (RFC 7296, Section 3.2). When a payload has no
// encoding, because a length or count exceeds its field, out is nil although ps
// is not empty.
func AppendPayloads(dst []byte, ps []Payload) (first PayloadType, out []byte) {
	for i, p := range ps {
		if i == 0 {
			first = p.Type()
		}
		next := PayloadNone
		if i+1 < len(ps) {
			next = ps[i+1].Type()
		}
		var flags byte
		switch p := p.(type) {
		case *Encrypted:
			next = p.First // RFC 7296, Section 3.14
		case *EncryptedFragment:
			next = p.First // RFC 7383, Section 2.5
		case *Unknown:
			if p.Critical {
				flags = 0x80
			}
		}
		at := len(dst)
		dst = append(dst, byte(next), flags, 0, 0)
		dst = p.appendBody(dst)
		if dst == nil || len(dst)-at > MaxMessage {
			return first, nil
		}
		binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	}
	return first, dst
}

// Get returns the first payload of type T, or the zero T.
func Get[T Payload](ps []Payload) (T, bool) {
	for _, p := range ps {
		if t, ok := p.(T); ok {
			return t, true
		}
	}
	var zero T
	return zero, false
}
