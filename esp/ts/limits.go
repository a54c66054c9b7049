package ts

const (
	// MaxExtHeaders is the number of IPv6 extension headers ParseFlow walks before it refuses
	// the packet. RFC 8200, Section 4.1 knows six kinds in a useful order; eight leave room for
	// the one that may occur twice.
	MaxExtHeaders = 8

	// MaxPieces bounds the pieces into which subtracting one set from another may cut it.
	// Hostile sets of n selectors can make about n³; past the bound answers go the safe way:
	// Covers says false, Subtract returns less.
	MaxPieces = 4096
)
