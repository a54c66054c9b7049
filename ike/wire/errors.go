package wire

import "strconv"

// ParseError says why a message was refused. It names no octet of the message
// but the payload type, so it may be logged.
type ParseError struct {
	Payload PayloadType // payload that was refused; PayloadNone for the header or the chain
	Off     int         // offset of that payload in the parsed bytes
	Why     string
	// Code is the notify type that answers the mistake where an answer is
	// allowed: only under a valid Message ID and ICV (RFC 7296, Section 2.21),
	// except INVALID_MAJOR_VERSION (Section 2.5) and, for a request of the
	// initial exchange, UNSUPPORTED_CRITICAL_PAYLOAD, whose one octet of data is
	// Payload.
	Code NotifyType
}

// Error implements error.
func (e *ParseError) Error() string {
	s := "wire: "
	if e.Payload != PayloadNone {
		s += e.Payload.String() + " payload "
	}
	return s + "at octet " + strconv.Itoa(e.Off) + ": " + e.Why
}

// NotifyData returns the data octets of the notify that answers the mistake.
func (e *ParseError) NotifyData() []byte {
	if e.Code == NotifyUnsupportedCriticalPayload {
		return []byte{byte(e.Payload)} // RFC 7296, Section 2.5: one octet, the type
	}
	if e.Code == NotifyInvalidMajorVersion {
		return []byte{MajorVersion} // RFC 7296, Section 3.10.1
	}
	return nil
}
