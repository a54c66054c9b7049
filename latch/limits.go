package latch

const (
	// DefaultMax bounds the latches of a DB whose Config does not: ten times the largest number
	// that is measured, about 0.5 GiB.
	DefaultMax = 1 << 20

	// MaxNarrowed bounds the selectors that narrowing around latches adds to one side. Beyond it
	// a proposal is a riddle to the peer, and the latch is broken instead.
	MaxNarrowed = 16

	// shardCount spreads the locks: well above the number of cores.
	shardCount = 64

	// maxDetail bounds the text kept with a reason.
	maxDetail = 256
)
