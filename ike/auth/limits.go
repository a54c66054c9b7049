package auth

// Limits, each with its reason.
const (
	// MinRSABits and MaxRSABits bound the modulus: smaller ones are broken or nearly so
	// (RFC 8247, Section 4.1.1), larger ones cost 5 ms and more per check for nothing.
	MinRSABits = 2048
	MaxRSABits = 8192

	// MaxSPKI is the longest SubjectPublicKeyInfo in octets: RSA with MaxRSABits and a 4-octet
	// exponent has 1,064. Longer input is refused before it is looked at.
	MaxSPKI = 1100

	// MaxAuthData is the longest AUTH data: length octet, 255 octets of AlgorithmIdentifier,
	// and a signature of MaxRSABits.
	MaxAuthData = 1 + 255 + MaxRSABits/8

	// MaxKeyFile bounds a key file in octets. A private RSA-8192 key has 6.5 KB of PEM; more
	// is some other file named by mistake.
	MaxKeyFile = 64 << 10

	// MinPSK is the number of octets from which a pre-shared key is not called weak: 128 bits
	// if they are random. Whoever relays one IKE_AUTH can guess shorter ones offline
	// (RFC 7296, Section 2.15; ADV-D18).
	MinPSK = 16

	// minPSKDistinct is how many different octets such a key has at least.
	minPSKDistinct = 8
)
