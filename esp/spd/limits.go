package spd

const (
	// MaxPolicies bounds one database. Ten times the largest size that is measured.
	MaxPolicies = 1_000_000

	// MaxSelectors bounds the selectors of one side of a policy; an IKEv2 TS payload has at
	// most 255 (RFC 7296, Section 3.13).
	MaxSelectors = 255

	// maxCombos bounds the index entries made for one policy. A policy with more combinations
	// of local and remote selectors is indexed by the hull of its local side.
	maxCombos = 64

	// DefaultCacheSlots is the size of a Cache made with 0: about 3 MiB when full, and more
	// flows than a busy host has at a time.
	DefaultCacheSlots = 1 << 15

	// MaxCacheSlots bounds a Cache.
	MaxCacheSlots = 1 << 22
)
