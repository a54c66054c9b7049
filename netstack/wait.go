package netstack

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// life is how a socket ends: by its holder's Close, or by an abort with a cause. What comes first stays.
type life struct {
	done   chan struct{}
	cause  atomic.Pointer[error]
	closed atomic.Bool
}

func newLife() life { return life{done: make(chan struct{})} }

// end makes pending and later calls return cause, net.ErrClosed for nil. The first cause stays.
func (l *life) end(cause error) {
	if cause == nil {
		cause = net.ErrClosed
	}
	if l.cause.CompareAndSwap(nil, &cause) {
		close(l.done)
	}
}

// err is why the socket can't be used, nil while it can. The holder who closed it sees that, whatever came before.
func (l *life) err() error {
	p := l.cause.Load()
	switch {
	case p == nil:
		return nil
	case l.closed.Load():
		return net.ErrClosed
	}
	return *p
}

// side is one direction of a socket. Calls of one direction take turns, as on package net's.
type side struct {
	mu    sync.Mutex
	ready chan struct{} // capacity 1: something may have changed
	dl    deadline
}

func newSide() side { return side{ready: make(chan struct{}, 1)} }

// wake lets the one who waits look again. It never blocks.
func (d *side) wake() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// check is what every attempt starts with.
func (d *side) check(l *life) error {
	if err := l.err(); err != nil {
		return err
	}
	if d.dl.isPast() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait blocks until it is worth trying again; the caller then runs check.
func (d *side) wait(l *life, cancel <-chan struct{}) {
	select {
	case <-d.ready:
	case <-l.done:
	case <-d.dl.done():
	case <-cancel:
	}
}

// runner runs functions, in order, on one goroutine.
type runner struct {
	mu   sync.Mutex
	cond sync.Cond
	list []func()
	quit bool
	wg   sync.WaitGroup
}

func startRunner() *runner {
	r := new(runner)
	r.cond.L = &r.mu
	r.wg.Go(r.run)
	return r
}

// add queues f. After stop it runs nothing. The list is bounded by the number of connections: each adds once.
func (r *runner) add(f func()) {
	r.mu.Lock()
	r.list = append(r.list, f)
	r.mu.Unlock()
	r.cond.Signal()
}

func (r *runner) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.list) == 0 {
			if r.quit {
				return
			}
			r.cond.Wait()
		}
		list := r.list
		r.list = nil
		r.mu.Unlock()
		for _, f := range list {
			f()
		}
		r.mu.Lock()
	}
}

// wait returns when what was queued before has run. Not after stop, nor from a function that is queued.
func (r *runner) wait() {
	done := make(chan struct{})
	r.add(func() { close(done) })
	<-done
}

// stop runs what is queued and ends the goroutine.
func (r *runner) stop() {
	r.mu.Lock()
	r.quit = true
	r.mu.Unlock()
	r.cond.Signal()
	r.wg.Wait()
}

// setDeadlines sets both directions'.
func setDeadlines(rd, wr *side, t time.Time) {
	rd.dl.set(t)
	wr.dl.set(t)
}
