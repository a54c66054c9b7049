package engine

import (
	"sync"
	"time"
)

// A mailbox hands calls to the keyer's goroutine. Posting never blocks, so that the data
// path may post while it holds gVisor's locks. What is posted is bounded by its senders:
// one Acquire per held flow, one result per piece of work, one call per API caller.
type mailbox struct {
	mu     sync.Mutex
	calls  []func(now time.Time)
	closed bool
	signal chan struct{}
}

func newMailbox() *mailbox { return &mailbox{signal: make(chan struct{}, 1)} }

// post reports whether the call will be made.
func (m *mailbox) post(f func(now time.Time)) bool {
	m.mu.Lock()
	ok := !m.closed
	if ok {
		m.calls = append(m.calls, f)
	}
	m.mu.Unlock()
	if ok {
		select {
		case m.signal <- struct{}{}:
		default:
		}
	}
	return ok
}

// take empties the mailbox.
func (m *mailbox) take() []func(now time.Time) {
	m.mu.Lock()
	calls := m.calls
	m.calls = nil
	m.mu.Unlock()
	return calls
}

// close refuses what comes later and returns what is left.
func (m *mailbox) close() []func(now time.Time) {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.take()
}
