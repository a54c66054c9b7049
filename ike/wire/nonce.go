package wire

// Nonce is the nonce payload (RFC 7296, Section 3.9).
type Nonce struct {
	Data []byte // MinNonce to MaxNonce octets
}

// Type implements Payload.
func (*Nonce) Type() PayloadType { return PayloadNonce }

func parseNonce(b []byte) (*Nonce, string) {
	if len(b) < MinNonce || len(b) > MaxNonce {
		return nil, "nonce is not 16 to 256 octets" // ADV-B17
	}
	return &Nonce{Data: b}, ""
}

func (n *Nonce) appendBody(dst []byte) []byte { return append(dst, n.Data...) }
