package gate

// Reason says why a datagram was dropped or answered. Each is counted in [Stats].
type Reason uint8

// The reasons. The first group drops for what the datagram is, the second for what it would
// cost, the third names the stateless answers.
const (
	ReasonNone          Reason = iota
	ReasonShort                // shorter than an IKE header (ADV-A1)
	ReasonSource               // a source address or port that cannot be answered (ADV-A18)
	ReasonLength               // the header's Length is not the datagram's (ADV-A3)
	ReasonOldVersion           // IKE version 1 or 0: never negotiated down (ADV-A5)
	ReasonZeroSPI              // initiator SPI zero (ADV-A7)
	ReasonReflected            // our own datagram came back (ADV-A12)
	ReasonResponse             // a response to nothing we know is never answered (ADV-A10)
	ReasonExchange             // not an exchange that may stand here (ADV-A13)
	ReasonInitSPI              // IKE_SA_INIT request with a responder SPI (ADV-A8)
	ReasonInitMessageID        // IKE_SA_INIT with a Message ID (ADV-A9)
	ReasonInitSize             // IKE_SA_INIT request longer than maxInit
	ReasonChain                // broken, endless or impossible payload chain (ADV-A14, A15, A16)
	ReasonPayloads             // SA, KE or nonce missing or twice (ADV-B1)
	ReasonNonce                // nonce shorter than 16 or longer than 256 octets (ADV-B17)
	ReasonClear                // request for an unknown SA that is not even encrypted

	ReasonLate        // copy of an IKE_SA_INIT whose SA is established (ADV-B20)
	ReasonFull        // Config.MaxHalfOpen reached
	ReasonAddrFull    // Config.MaxPerAddr reached
	ReasonPrefixFull  // Config.MaxPerPrefix reached
	ReasonBusy        // Config.InitRate reached
	ReasonRateLimited // an error answer was due, but strangers have had theirs
	ReasonAmplifies   // an error answer would be longer than what it answers

	ReasonCookie         // Reply: COOKIE
	ReasonInvalidIKESPI  // Reply: INVALID_IKE_SPI (ADV-A11)
	ReasonInvalidVersion // Reply: INVALID_MAJOR_VERSION (ADV-A4)
	ReasonInvalidSPI     // Reply: INVALID_SPI, to ESP
	ReasonHint           // Hint: INVALID_SPI outside an IKE SA (ADV-F14)

	numReasons
)

// String returns a short name that is also the counter's name in listings.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "none"
	case ReasonShort:
		return "short"
	case ReasonSource:
		return "source"
	case ReasonLength:
		return "length"
	case ReasonOldVersion:
		return "old-version"
	case ReasonZeroSPI:
		return "zero-spi"
	case ReasonReflected:
		return "reflected"
	case ReasonResponse:
		return "unknown-response"
	case ReasonExchange:
		return "exchange"
	case ReasonInitSPI:
		return "init-spi"
	case ReasonInitMessageID:
		return "init-message-id"
	case ReasonInitSize:
		return "init-size"
	case ReasonChain:
		return "payload-chain"
	case ReasonPayloads:
		return "init-payloads"
	case ReasonNonce:
		return "nonce"
	case ReasonClear:
		return "clear"
	case ReasonLate:
		return "late"
	case ReasonFull:
		return "half-open-full"
	case ReasonAddrFull:
		return "address-full"
	case ReasonPrefixFull:
		return "prefix-full"
	case ReasonBusy:
		return "busy"
	case ReasonRateLimited:
		return "rate-limited"
	case ReasonAmplifies:
		return "amplifies"
	case ReasonCookie:
		return "cookie"
	case ReasonInvalidIKESPI:
		return "invalid-ike-spi"
	case ReasonInvalidVersion:
		return "invalid-major-version"
	case ReasonInvalidSPI:
		return "invalid-spi"
	case ReasonHint:
		return "hint"
	case numReasons:
	}
	return "invalid"
}

// Reasons returns all reasons that [Stats.Count] can be asked for.
func Reasons() []Reason {
	rs := make([]Reason, 0, numReasons-1)
	for r := ReasonNone + 1; r < numReasons; r++ {
		rs = append(rs, r)
	}
	return rs
}

// Stats is a snapshot of a gate's counters, in datagrams.
type Stats struct {
	Existing    uint64 // handed to an IKE SA, retransmissions of IKE_SA_INIT included
	Retransmits uint64 // of those: copies of the request that opened a half-open SA
	Responders  uint64 // verdicts NewResponder
	HalfOpen    int    // half-open SAs now
	Expired     uint64 // half-open SAs that never authenticated

	count [numReasons]uint64
}

// Count returns how many datagrams were dropped or answered for r.
func (s Stats) Count(r Reason) uint64 {
	if r >= numReasons {
		return 0
	}
	return s.count[r]
}
