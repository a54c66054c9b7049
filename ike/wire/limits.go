package wire

// Caps of the parser. None of them is reached by a peer that means well; each
// bounds what one datagram, authenticated or not, can make us allocate.
const (
	// MaxMessage is the largest message, in octets: what one UDP datagram can
	// carry, and a reassembled message (RFC 7383) may not exceed it either.
	MaxMessage = 65535

	// MaxPayloads is the largest number of payloads in one chain. Real messages
	// have fewer than 30: an IKE_SA_INIT with a dozen vendor IDs and NAT
	// detection for every interface has about 25.
	MaxPayloads = 128

	// MaxProposals is the largest number of proposals in an SA payload. The
	// number is one octet that starts at 1 (RFC 7296, Section 3.3.1); nobody
	// sends more than about 10.
	MaxProposals = 64

	// MaxTransforms is the largest number of transforms in a proposal; the count
	// is one octet. strongSwan's widest default proposal has about 35.
	MaxTransforms = 255

	// MaxSelectors is the largest number of selectors in a TS payload; the count
	// is one octet (RFC 7296, Section 3.13).
	MaxSelectors = 255

	// MaxDeleteSPIs is the largest number of SPIs in a Delete payload. A peer
	// with more child SAs sends more than one payload.
	MaxDeleteSPIs = 1024

	// MaxConfigAttributes is the largest number of attributes in a Configuration
	// payload.
	MaxConfigAttributes = 256

	// maxShownID is how much of an identity is shown in texts, in octets: a host name
	// or a distinguished name that somebody can still read.
	maxShownID = 256

	// MinNonce and MaxNonce bound nonce data, in octets (RFC 7296, Section 3.9).
	MinNonce = 16
	MaxNonce = 256
)
