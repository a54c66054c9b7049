package netstack

import (
	"sync"
	"time"
)

// deadline is one direction's deadline; the zero value is none. Setting it anew moves those who wait already.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed while the deadline has passed; nil until somebody cares
}

// set moves the deadline; the zero time removes it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		if !d.timer.Stop() {
			<-d.passed // the timer has run or is running: see its close
		}
		d.timer = nil
	}
	wait := time.Until(t)
	if !t.IsZero() && wait <= 0 {
		if d.passed == nil {
			d.passed = make(chan struct{})
		}
		if !isClosed(d.passed) {
			close(d.passed)
		}
		return
	}
	if d.passed != nil && isClosed(d.passed) {
		d.passed = nil
	}
	if t.IsZero() {
		return
	}
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	ch := d.passed
	d.timer = time.AfterFunc(wait, func() { close(ch) })
}

// done is closed when the deadline passes.
func (d *deadline) done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}

// isPast reports whether the deadline has passed.
func (d *deadline) isPast() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed != nil && isClosed(d.passed)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
