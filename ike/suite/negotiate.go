package suite

import "github.com/btns-go/btns/ike/wire"

// Mismatch says why a negotiation failed.
type Mismatch struct {
	Protocol      wire.ProtocolID
	Offered, Ours []wire.Proposal
	Type          wire.TransformType // of the first transform type that did not match; 0 = not about a transform
	First         string             // the first thing that did not match
}

// Error names the first thing that did not match and both sides' lists.
func (m *Mismatch) Error() string {
	return "suite: no " + m.Protocol.String() + " proposal matches: " + m.First
}

// ChooseIKE picks for the initial exchange.
func ChooseIKE(offer, ours []wire.Proposal) (s IKE, num uint8, chosen wire.Proposal, err *Mismatch) {
	return
}

// ChooseIKERekey picks for an IKE rekey: offers carry an SPI of 8 octets.
func ChooseIKERekey(offer, ours []wire.Proposal) (s IKE, num uint8, chosen wire.Proposal, err *Mismatch) {
	return
}

// ChooseESP picks for a child SA.
func ChooseESP(offer, ours []wire.Proposal) (s ESP, num uint8, chosen wire.Proposal, err *Mismatch) {
	return
}

// CheckIKE verifies a response to our offers (ADV-C6).
func CheckIKE(offered, got []wire.Proposal) (IKE, error) { return IKE{}, nil }

// CheckESP verifies a response to our offers (ADV-C6).
func CheckESP(offered, got []wire.Proposal) (ESP, error) { return ESP{}, nil }

// PreferGroup moves group to the front of the key exchange methods of ps.
func PreferGroup(ps []wire.Proposal, group uint16) []wire.Proposal { return ps }

// WithoutKE returns ps without key exchange transforms.
func WithoutKE(ps []wire.Proposal) []wire.Proposal { return ps }
