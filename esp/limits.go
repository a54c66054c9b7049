package esp

import "math"

const (
	minSPI = 256 // RFC 4303, Section 2.1: 0 is local, 1 to 255 are reserved

	headerLen  = 8  // SPI and sequence number
	trailerLen = 2  // pad length and next header
	nonceLen   = 12 // salt and IV (RFC 4106, Section 4; RFC 7634, Section 2)
	saltLen    = 4
	maxAADLen  = 12 // SPI and 64-bit sequence number (RFC 4106, Section 5)
	maxMACLen  = 64 // HMAC-SHA2-512 before truncation

	aeadIVLen  = 8
	aeadICVLen = 16
	cbcBlock   = 16
	wordAlign  = 4 // RFC 4303, Section 2.4

	maxSeq32 = math.MaxUint32 // without extended sequence numbers
	maxSeq64 = math.MaxUint64
)
