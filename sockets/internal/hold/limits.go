package hold

import "time"

// Defaults of Limits.
const (
	// DefaultPerPeer is what one peer that does not answer can occupy: enough for a program that opens its pool of
	// connections at once.
	DefaultPerPeer = 64
	// DefaultPackets and DefaultBytes bound a table: 64 silent peers at their limit, at about a SYN's size; or 64
	// datagrams of the largest size.
	DefaultPackets = 4096
	DefaultBytes   = 4 << 20
	// DefaultLifetime is how long a packet is worth sending: TCP has retransmitted five times by then.
	DefaultLifetime = 30 * time.Second

	// DefaultKeys bounds the requests and failures that are remembered.
	DefaultKeys = 8192
	// DefaultRetryMin and DefaultRetryMax bound the pause after a failure, which doubles from one to the other.
	DefaultRetryMin = time.Second
	DefaultRetryMax = 60 * time.Second
)

// Limits bounds a Table. Zero fields mean the defaults.
type Limits struct {
	PerPeer  int           // packets for one peer
	Packets  int           // packets in all
	Bytes    int           // bytes in all
	Lifetime time.Duration // how long a packet is held
}

func (l Limits) withDefaults() Limits {
	if l.PerPeer <= 0 {
		l.PerPeer = DefaultPerPeer
	}
	if l.Packets <= 0 {
		l.Packets = DefaultPackets
	}
	if l.Bytes <= 0 {
		l.Bytes = DefaultBytes
	}
	if l.Lifetime <= 0 {
		l.Lifetime = DefaultLifetime
	}
	return l
}

// BackoffLimits bounds a Backoff. Zero fields mean the defaults.
type BackoffLimits struct {
	Keys     int           // keys remembered
	Pending  time.Duration // after which a request without an answer may be repeated
	RetryMin time.Duration // pause after the first failure
	RetryMax time.Duration // longest pause
}

func (l BackoffLimits) withDefaults() BackoffLimits {
	if l.Keys <= 0 {
		l.Keys = DefaultKeys
	}
	if l.Pending <= 0 {
		l.Pending = DefaultLifetime
	}
	if l.RetryMin <= 0 {
		l.RetryMin = DefaultRetryMin
	}
	if l.RetryMax < l.RetryMin {
		l.RetryMax = max(DefaultRetryMax, l.RetryMin)
	}
	return l
}
