package ts

import "strconv"

// IP protocol numbers whose port fields this package understands.
const (
	ProtoICMP    = 1
	ProtoTCP     = 6
	ProtoUDP     = 17
	ProtoDCCP    = 33
	ProtoESP     = 50
	ProtoAH      = 51
	ProtoICMPv6  = 58
	ProtoNoNext  = 59
	ProtoSCTP    = 132
	ProtoMH      = 135
	ProtoUDPLite = 136
)

// Ports is an inclusive range of ports. For ICMP and ICMPv6 a port is type<<8|code, for the
// Mobility Header type<<8 (RFC 7296, Section 3.13.1). {0, 65535} is ANY and {65535, 0} is
// OPAQUE; any other range with First > Last is invalid. The zero value is port 0 alone.
type Ports struct{ First, Last uint16 }

// AnyPorts returns ANY: every port, and packets whose ports cannot be seen.
func AnyPorts() Ports { return Ports{0, 65535} }

// OpaquePorts returns OPAQUE: only packets whose ports cannot be seen.
func OpaquePorts() Ports { return Ports{65535, 0} }

// Port returns the range of one port.
func Port(p uint16) Ports { return Ports{p, p} }

// ICMP returns the range for an ICMP or ICMPv6 type and code; -1 means any. A code without a
// type is not a range (RFC 4301, Section 4.4.1.1): typ -1 gives ANY whatever code is. Values
// above 255 are cut to their low eight bits.
func ICMP(typ, code int) Ports {
	if typ < 0 {
		return AnyPorts()
	}
	t := uint16(typ&0xff) << 8
	if code < 0 {
		return Ports{t, t | 0xff}
	}
	return Port(t | uint16(code&0xff))
}

// IsAny reports whether p is ANY.
func (p Ports) IsAny() bool { return p.First == 0 && p.Last == 65535 }

// IsOpaque reports whether p is OPAQUE.
func (p Ports) IsOpaque() bool { return p.First == 65535 && p.Last == 0 }

// valid reports whether p is ANY, OPAQUE or an ascending range.
func (p Ports) valid() bool { return p.First <= p.Last || p.IsOpaque() }

// has reports whether p contains the port, or contains OPAQUE when opaque is set.
func (p Ports) has(port uint16, opaque bool) bool {
	if opaque {
		return p.IsAny() || p.IsOpaque()
	}
	return p.First <= port && port <= p.Last
}

// intersect returns the ports in both.
func (p Ports) intersect(o Ports) (Ports, bool) {
	switch {
	case p.IsAny():
		return o, o.valid()
	case o.IsAny():
		return p, p.valid()
	case p.IsOpaque() || o.IsOpaque():
		return p, p == o
	}
	r := Ports{max(p.First, o.First), min(p.Last, o.Last)}
	return r, r.First <= r.Last && p.valid() && o.valid()
}

// String returns "any", "opaque", "80" or "5000-5010".
func (p Ports) String() string {
	switch {
	case p.IsAny():
		return "any"
	case p.IsOpaque():
		return "opaque"
	case p.First == p.Last:
		return strconv.Itoa(int(p.First))
	}
	return strconv.Itoa(int(p.First)) + "-" + strconv.Itoa(int(p.Last))
}

// OneSelector reports whether proto has a single selector, the message type, where TCP has two
// ports (RFC 4301, Section 4.4.1.3, cases B to D).
func OneSelector(proto uint8) bool {
	return proto == ProtoICMP || proto == ProtoICMPv6 || proto == ProtoMH
}

// hasPorts reports whether packets of proto carry ports or a message type in the clear.
func hasPorts(proto uint8) bool {
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoDCCP, ProtoSCTP, ProtoUDPLite, ProtoICMP, ProtoICMPv6, ProtoMH:
		return true
	}
	return false
}
