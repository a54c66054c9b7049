package tun

// The values of the ECN field (RFC 3168, Section 5).
const (
	ECNNotECT uint8 = 0b00
	ECNECT1   uint8 = 0b01
	ECNECT0   uint8 = 0b10
	ECNCE     uint8 = 0b11
)

// EncapECN returns the ECN field of the outer header for that of the inner one, at the
// entrance of a tunnel in normal mode: the same (RFC 6040, Section 4.1).
func EncapECN(inner uint8) uint8 { return inner & 3 }

// DecapECN returns the ECN field with which a packet leaves a tunnel, and false if it has
// to be dropped (RFC 6040, Section 4.2, Figure 4).
func DecapECN(inner, outer uint8) (ecn uint8, ok bool) {
	inner, outer = inner&3, outer&3
	switch {
	case outer == ECNCE && inner == ECNNotECT:
		// The transport would not understand the mark, so dropping is the only signal left.
		return 0, false
	case outer == ECNCE:
		return ECNCE, true
	case outer == ECNECT1 && inner == ECNECT0:
		return ECNECT1, true
	}
	return inner, true
}
