package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// TS is a traffic selector payload, TSi or TSr (RFC 7296, Section 3.13).
type TS struct {
	Initiator bool // TSi
	Selectors []TrafficSelector
}

// Traffic selector types (RFC 7296, Section 3.13.1).
const (
	TSIPv4AddrRange uint8 = 7
	TSIPv6AddrRange uint8 = 8
)

// TrafficSelector is one selector (RFC 7296, Section 3.13.1). Ports of ICMP and
// ICMPv6 are type<<8 | code; 65535 to 0 is OPAQUE.
type TrafficSelector struct {
	Type               uint8
	Proto              uint8 // 0 = any
	StartPort, EndPort uint16
	Start, End         netip.Addr
	// Data holds everything after the first four octets of a selector whose Type
	// is neither of the two above; it matches no packet.
	Data []byte
}

// Known reports whether the selector is an address range and can match at all.
func (s TrafficSelector) Known() bool {
	return s.Type == TSIPv4AddrRange || s.Type == TSIPv6AddrRange
}

// String returns the selector for a log.
func (s TrafficSelector) String() string {
	if !s.Known() {
		return fmt.Sprintf("TS_TYPE(%d)", s.Type)
	}
	return fmt.Sprintf("%v-%v[%d/%d-%d]", s.Start, s.End, s.Proto, s.StartPort, s.EndPort)
}

// Type implements Payload.
func (t *TS) Type() PayloadType {
	if t.Initiator {
		return PayloadTSi
	}
	return PayloadTSr
}

func parseTS(t PayloadType, b []byte) (*TS, string) {
	c := cursor{b}
	var count uint8
	if !c.u8(&count) || !c.skip(3) {
		return nil, "cut short"
	}
	if count == 0 {
		return nil, "no selectors" // ADV-E1
	}
	// No selector is shorter than its four-octet head.
	if len(c.b) < 4*int(count) {
		return nil, "more selectors announced than there is room for"
	}
	ts := &TS{Initiator: t == PayloadTSi, Selectors: make([]TrafficSelector, 0, min(int(count), len(c.b)/16+1))}
	for range int(count) {
		s, why := parseSelector(&c)
		if why != "" {
			return nil, why
		}
		ts.Selectors = append(ts.Selectors, s)
	}
	if !c.empty() {
		return nil, "octets after the last selector"
	}
	return ts, ""
}

func parseSelector(c *cursor) (TrafficSelector, string) {
	var s TrafficSelector
	var n uint16
	var body []byte
	if !c.u8(&s.Type) || !c.u8(&s.Proto) || !c.u16(&n) || !c.bytes(&body, int(n)-4) {
		return s, "selector cut short"
	}
	size := 4
	switch s.Type {
	case TSIPv4AddrRange:
	case TSIPv6AddrRange:
		size = 16
	default:
		s.Data = body
		return s, ""
	}
	b := cursor{body}
	var start, end []byte
	if !b.u16(&s.StartPort) || !b.u16(&s.EndPort) || !b.bytes(&start, size) || !b.bytes(&end, size) || !b.empty() {
		return s, "selector length does not fit its type"
	}
	s.Start, _ = netip.AddrFromSlice(start)
	s.End, _ = netip.AddrFromSlice(end)
	if s.Start.Compare(s.End) > 0 {
		return s, "selector's addresses are in the wrong order"
	}
	// RFC 7296, Section 3.13.1: 65535 to 0 is OPAQUE, nothing else counts down.
	if s.StartPort > s.EndPort && (s.StartPort != 65535 || s.EndPort != 0) {
		return s, "selector's ports are in the wrong order"
	}
	return s, ""
}

func (t *TS) appendBody(dst []byte) []byte {
	if len(t.Selectors) > MaxSelectors {
		return nil
	}
	dst = append(dst, byte(len(t.Selectors)), 0, 0, 0)
	for _, s := range t.Selectors {
		at := len(dst)
		dst = append(dst, s.Type, s.Proto, 0, 0)
		if s.Known() {
			dst = binary.BigEndian.AppendUint16(dst, s.StartPort)
			dst = binary.BigEndian.AppendUint16(dst, s.EndPort)
			dst = append(dst, s.Start.AsSlice()...)
			dst = append(dst, s.End.AsSlice()...)
		} else {
			dst = append(dst, s.Data...)
		}
		binary.BigEndian.PutUint16(dst[at+2:], uint16(len(dst)-at))
	}
	return dst
}
