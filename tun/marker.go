package tun

// IANA's ports of IKE (RFC 7296, Section 2; RFC 3948, Section 2).
const (
	PortIKE  = 500
	PortNATT = 4500
)

// MarkerLen is the length of the non-ESP marker, four zero bytes where ESP has its SPI
// (RFC 3948, Section 2.2).
const MarkerLen = 4

// Keepalive is the only byte of a NAT keepalive (RFC 3948, Section 2.3).
const Keepalive = 0xFF

// The shortest datagrams that can mean anything.
const (
	minIKE = 28 // the IKE header; RFC 7296, Section 3.1
	minESP = 8  // SPI and sequence number; RFC 4303, Section 2
)

// Marked reports whether IKE between two ports carries the non-ESP marker, and so whether
// ESP may share them: neither of them is 500. Ports other than 500 and 4500 count as 4500
// does, at both ends, which is the rule that other implementations follow too.
func Marked(local, remote uint16) bool { return local != PortIKE && remote != PortIKE }

// Classify tells what a UDP payload is that came over p. The packet starts skip bytes into
// b. If kind is KindInvalid, drop says why the payload is to be dropped.
func Classify(p Path, b []byte) (kind Kind, skip int, drop Drop) {
	if len(b) == 1 && b[0] == Keepalive {
		return KindInvalid, 0, DropKeepalive
	}
	if !p.Marked() {
		if len(b) < minIKE {
			return KindInvalid, 0, DropShort
		}
		return KindIKE, 0, DropUnset
	}
	if len(b) < minESP {
		return KindInvalid, 0, DropShort
	}
	if b[0]|b[1]|b[2]|b[3] != 0 {
		return KindESP, 0, DropUnset
	}
	if len(b) < MarkerLen+minIKE {
		return KindInvalid, 0, DropShort
	}
	return KindIKE, MarkerLen, DropUnset
}

// CheckSend says whether p may be sent over UDP, and whether the non-ESP marker goes in
// front of it. The error is one of this package's.
func (p *Packet) CheckSend() (marker bool, err error) {
	if !p.ok() || p.Len == 0 {
		return false, ErrPacket
	}
	if p.Kind != KindIKE && p.Kind != KindESP {
		return false, ErrKind
	}
	if !p.Path.Remote.IsValid() || p.Path.Remote.Port() == 0 {
		return false, ErrPath
	}
	if p.Kind == KindESP {
		if !p.Path.Marked() {
			// The receiver would take it for IKE.
			return false, ErrPath
		}
		return false, nil
	}
	return p.Path.Marked(), nil
}
