package suite

import "github.com/btns-go/btns/ike/wire"

// ParseIKE reads one IKE proposal string.
func ParseIKE(s string) (wire.Proposal, error) { return wire.Proposal{}, nil }

// ParseESP reads one ESP proposal string.
func ParseESP(s string) (wire.Proposal, error) { return wire.Proposal{}, nil }

// IKEProposals reads a list of proposal strings, "default" included, and numbers it.
func IKEProposals(ss ...string) ([]wire.Proposal, error) { return nil, nil }

// ESPProposals reads a list of proposal strings, "default" included, and numbers it.
func ESPProposals(ss ...string) ([]wire.Proposal, error) { return nil, nil }

// DefaultIKE returns the default IKE proposals.
func DefaultIKE() []wire.Proposal { return nil }

// DefaultESP returns the default ESP proposals.
func DefaultESP() []wire.Proposal { return nil }

// String prints a proposal as a proposal string.
func String(p wire.Proposal) string { return "" }
