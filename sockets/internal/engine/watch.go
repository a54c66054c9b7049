package engine

import (
	"context"
	"sync"
	"time"
)

// A hub passes events on to whoever watches. Its methods never wait for a reader.
type hub struct {
	mu       sync.Mutex
	watchers map[*Watcher]struct{}
	closed   error // why there are no more events
}

// A Watcher receives the events of a host from Watch on. What comes while eventBuffer
// events wait is lost, and an EventLost stands in its place. Its methods are safe for
// concurrent use.
type Watcher struct {
	h    *hub
	wake chan struct{}

	// Under h.mu.
	queue  []Event
	lost   uint64
	lostAt time.Time // the last of them
	closed error
}

// Watch starts to receive events. The Watcher is to be closed; after Close of the host it
// yields what it still has and then an error.
func (e *Engine) Watch() *Watcher { return e.k.events.watch() }

func (h *hub) watch() *Watcher {
	w := &Watcher{h: h, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.closed = h.closed; w.closed != nil {
		return w
	}
	if h.watchers == nil {
		h.watchers = map[*Watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	return w
}

func (h *hub) publish(e *Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.put(e)
	}
}

// close ends all watchers, now and later, with err.
func (h *hub) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = err
	for w := range h.watchers {
		w.closed = err
		w.signal()
	}
	h.watchers = nil
}

func (w *Watcher) put(e *Event) {
	if len(w.queue) >= eventBuffer {
		w.lost, w.lostAt = w.lost+1, e.Time
		return
	}
	if w.lost > 0 {
		w.queue = append(w.queue, Event{Time: w.lostAt, Kind: EventLost, Lost: w.lost})
		w.lost = 0
	}
	w.queue = append(w.queue, *e)
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next returns the next event, waiting for it until ctx ends. Slices in it are read-only.
// After Close, of the Watcher or of the host, the error matches net.ErrClosed.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		w.h.mu.Lock()
		e, ok := w.take()
		if ok || w.closed != nil {
			w.signal() // for the next caller, who may be waiting already
			err := w.closed
			w.h.mu.Unlock()
			if ok {
				err = nil
			}
			return e, err
		}
		w.h.mu.Unlock()
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// take returns the oldest event that waits, and what was lost after the last of them.
func (w *Watcher) take() (e Event, ok bool) {
	if len(w.queue) == 0 {
		e = Event{Time: w.lostAt, Kind: EventLost, Lost: w.lost}
		ok, w.lost = w.lost > 0, 0
		return e, ok
	}
	e, w.queue[0] = w.queue[0], Event{}
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return e, true
}

// Close stops receiving. Events that were not read are gone.
func (w *Watcher) Close() error {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	delete(w.h.watchers, w)
	w.queue, w.lost, w.closed = nil, 0, ErrClosed
	w.signal()
	return nil
}
