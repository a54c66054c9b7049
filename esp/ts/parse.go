package ts

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// protoNames are the names Parse takes; the first name of a number is the one String prints.
var protoNames = [...]struct {
	name string
	num  uint8
}{
	{"icmp", 1}, {"igmp", 2}, {"ipip", 4}, {"ipencap", 4}, {"tcp", 6}, {"udp", 17},
	{"dccp", 33}, {"ipv6", 41}, {"gre", 47}, {"esp", 50}, {"ah", 51}, {"ipv6-icmp", 58},
	{"icmpv6", 58}, {"ospf", 89}, {"pim", 103}, {"l2tp", 115}, {"sctp", 132}, {"mh", 135},
	{"udplite", 136},
}

// Parse reads one selector in the form of swanctl's local_ts and remote_ts: an address, a
// prefix or a range, then optionally [protocol] or [protocol/port]. The protocol is a name, a
// number or any; the port is a number, a range, any or opaque, and for icmp and icmpv6 a type,
// or a type and a code as "8/0" or "8(0)". Numbers above 255 are read as type<<8|code there.
//
//	10.1.0.0/24[tcp/80]   10.0.0.1-10.0.0.9[17]   fd00::/64[udp/5000-5010]   10.0.0.1[icmp/8]
//
// A prefix with bits set behind its length stands for its network. Names and zones are refused.
func Parse(text string) (Selector, error) {
	fail := func(format string, args ...any) (Selector, error) {
		return Selector{}, fmt.Errorf("ts: %q: %s", bounded(text), fmt.Sprintf(format, args...))
	}
	addrs, upper, hasUpper := strings.Cut(strings.TrimSpace(text), "[")
	var s Selector
	switch {
	case strings.Contains(addrs, "/"):
		p, err := netip.ParsePrefix(addrs)
		if err != nil {
			return fail("not a prefix")
		}
		s = FromPrefix(p)
	case strings.Contains(addrs, "-"):
		a, b, _ := strings.Cut(addrs, "-")
		first, err1 := netip.ParseAddr(a)
		last, err2 := netip.ParseAddr(b)
		if err1 != nil || err2 != nil {
			return fail("not a range of addresses")
		}
		s = Selector{First: first, Last: last, Ports: AnyPorts()}
	default:
		a, err := netip.ParseAddr(addrs)
		if err != nil {
			return fail("not an address, a prefix or a range")
		}
		s = Selector{First: a, Last: a, Ports: AnyPorts()}
	}
	if hasUpper {
		upper, closed := strings.CutSuffix(upper, "]")
		if !closed {
			return fail("a ] is missing at the end")
		}
		proto, port, hasPort := strings.Cut(upper, "/")
		var ok bool
		if s.Proto, ok = parseProto(proto); !ok {
			return fail("unknown protocol %q", bounded(proto))
		}
		if hasPort {
			icmp := s.Proto == ProtoICMP || s.Proto == ProtoICMPv6
			if s.Ports, ok = parsePorts(port, icmp); !ok {
				return fail("%q is not a port, a range, any or opaque", bounded(port))
			}
		}
	}
	if !s.First.IsValid() {
		return fail("zones and IPv4-mapped addresses are not allowed")
	}
	if err := s.Valid(); err != nil {
		return fail("%s", strings.TrimPrefix(err.Error(), "ts: "))
	}
	return s, nil
}

// bounded cuts text for an error message.
func bounded(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func parseProto(s string) (uint8, bool) {
	if s == "any" || s == "%any" {
		return 0, true
	}
	for _, p := range protoNames {
		if s == p.name {
			return p.num, true
		}
	}
	n, ok := number(s)
	return uint8(n), ok && n <= 255
}

func parsePorts(s string, icmp bool) (Ports, bool) {
	switch s {
	case "any", "%any":
		return AnyPorts(), true
	case "opaque", "%opaque":
		return OpaquePorts(), true
	}
	if icmp {
		typ, code, hasCode := strings.Cut(s, "/")
		if !hasCode {
			if typ, code, hasCode = strings.Cut(s, "("); hasCode {
				var closed bool
				if code, closed = strings.CutSuffix(code, ")"); !closed {
					return Ports{}, false
				}
			}
		}
		if hasCode {
			t, ok1 := number(typ)
			c, ok2 := number(code)
			return ICMP(t, c), ok1 && ok2 && t <= 255 && c <= 255
		}
		if n, ok := number(s); ok && n <= 255 {
			return ICMP(n, -1), true
		}
	}
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	first, ok1 := number(a)
	last, ok2 := number(b)
	return Ports{uint16(first), uint16(last)}, ok1 && ok2 && first <= last
}

// number reads a decimal number of 16 bits without sign or leading zeros.
func number(s string) (int, bool) {
	if s == "" || len(s) > 5 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= 65535
}

// String returns the form that Parse reads: "10.1.0.0/24[tcp/80]". A zero Selector gives
// "none".
func (s Selector) String() string {
	if !s.First.IsValid() {
		return "none"
	}
	var b strings.Builder
	if p, ok := s.prefix(); ok {
		b.WriteString(p.String())
	} else {
		b.WriteString(s.First.String() + "-" + s.Last.String())
	}
	if s.Proto == 0 && s.Ports.IsAny() {
		return b.String()
	}
	b.WriteString("[" + protoName(s.Proto))
	if !s.Ports.IsAny() {
		b.WriteString("/" + s.portText())
	}
	b.WriteString("]")
	return b.String()
}

// portText prints the ports; for ICMP in types and codes where the range is one of those.
func (s Selector) portText() string {
	if s.Ports.IsOpaque() || (s.Proto != ProtoICMP && s.Proto != ProtoICMPv6) {
		return s.Ports.String()
	}
	first, last := int(s.Ports.First), int(s.Ports.Last)
	switch {
	case s.Ports == ICMP(first>>8, -1):
		return strconv.Itoa(first >> 8)
	case first == last:
		return fmt.Sprintf("%d(%d)", first>>8, first&0xff)
	}
	return s.Ports.String()
}

func protoName(n uint8) string {
	if n == 0 {
		return "any"
	}
	for _, p := range protoNames {
		if p.num == n {
			return p.name
		}
	}
	return strconv.Itoa(int(n))
}
