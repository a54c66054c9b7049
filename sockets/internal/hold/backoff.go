package hold

import (
	"sync"
	"time"
)

// A Verdict says whether a request may be made. The zero value says no.
type Verdict uint8

// The verdicts of Backoff.Start.
const (
	Full    Verdict = iota // too many keys are remembered: neither request nor hold
	Failed                 // it failed a short while ago: not yet again
	Pending                // a request is out
	Go                     // make the request now
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Full:
		return "full"
	case Failed:
		return "failed"
	case Pending:
		return "pending"
	case Go:
		return "go"
	}
	return "invalid"
}

// A Backoff remembers for each key whether a request is out and when the last one failed. Use NewBackoff.
type Backoff[K comparable] struct {
	lim BackoffLimits

	mu   sync.Mutex // guards keys
	keys map[K]*attempt
}

type attempt struct {
	pending bool
	until   time.Time // pending: when it may be repeated; failed: the end of the pause
	pause   time.Duration
	err     error
}

// NewBackoff returns an empty Backoff.
func NewBackoff[K comparable](lim BackoffLimits) *Backoff[K] {
	return &Backoff[K]{lim: lim.withDefaults(), keys: make(map[K]*attempt)}
}

// Start asks whether k may be requested now. Go means that it may, and that from now on it is pending. With Failed comes the
// error of the last attempt.
func (b *Backoff[K]) Start(now time.Time, k K) (Verdict, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.keys[k]
	if a == nil {
		if len(b.keys) >= b.lim.Keys {
			b.expire(now)
			if len(b.keys) >= b.lim.Keys {
				return Full, nil
			}
		}
		a = &attempt{}
		b.keys[k] = a
	} else if now.Before(a.until) {
		if a.pending {
			return Pending, nil
		}
		return Failed, a.err
	}
	a.pending, a.until = true, now.Add(b.lim.Pending)
	return Go, nil
}

// Pending reports whether a request of k is out: nobody has ended it since Start.
func (b *Backoff[K]) Pending(k K) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.keys[k]
	return a != nil && a.pending
}

// Fail ends the request of k with err and begins a pause, twice as long as the one before if the last request failed too.
func (b *Backoff[K]) Fail(now time.Time, k K, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.keys[k]
	if a == nil {
		if len(b.keys) >= b.lim.Keys {
			return
		}
		a = &attempt{}
		b.keys[k] = a
	}
	a.pause = min(max(2*a.pause, b.lim.RetryMin), b.lim.RetryMax)
	a.pending, a.err, a.until = false, err, now.Add(a.pause)
}

// Done forgets k: its request succeeded, or what made it fail has changed.
func (b *Backoff[K]) Done(k K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.keys, k)
}

// Reset forgets every key.
func (b *Backoff[K]) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.keys)
}

// Err returns the error of the last failure of k while it is remembered.
func (b *Backoff[K]) Err(k K) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.keys[k]; a != nil {
		return a.err
	}
	return nil
}

// Expire forgets what nobody asked for during the longest pause after it could have been asked again.
func (b *Backoff[K]) Expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
}

func (b *Backoff[K]) expire(now time.Time) {
	for k, a := range b.keys {
		if now.Sub(a.until) >= b.lim.RetryMax {
			delete(b.keys, k)
		}
	}
}

// Len returns how many keys are remembered.
func (b *Backoff[K]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.keys)
}
