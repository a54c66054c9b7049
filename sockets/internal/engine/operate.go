package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/btns-go/btns/ike"
)

// ErrUnknown says that nothing on this host has the name given.
var ErrUnknown = errors.New("engine: nothing has that name")

// Initiate sets up the child SA of that name, or the first child of the connection of that
// name, and waits until it is up or has failed. Of a connection that has to begin
// childless it sets up the IKE SA alone (RFC 6023). One that is up already is no error.
// When ctx ends first the error says what was tried by then, and wraps ctx's; it is tried
// further.
func (e *Engine) Initiate(ctx context.Context, name string) error {
	done := make(chan error, 1)
	posted := e.k.mail.post(func(now time.Time) {
		cc := e.k.conf(name)
		switch {
		case cc == nil:
			done <- fmt.Errorf("%w: no child or connection %q", ErrUnknown, name)
			return
		case e.k.up(cc):
			done <- nil
			return
		case len(cc.Conn.Remotes) == 0:
			done <- fmt.Errorf("engine: connection %s has no remote_addrs: its peer comes to us", cc.Conn.Name)
			return
		}
		e.k.request(now, &acquire{ref: e.k.ref(), conf: cc, pair: cc.Pair, done: done,
			alone: e.k.conns[name] != nil && cc.Conn.Childless == ike.ChildlessForce})
	})
	if !posted {
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	err := context.Cause(ctx)
	e.ask(func(now time.Time) {
		for _, a := range e.k.acquires {
			if a.done == chan<- error(done) {
				err = fmt.Errorf("engine: %w: %w", e.k.standing(now, a), err)
			}
		}
	})
	return err
}

// ErrTerminated says that what was being set up was given up because somebody terminated it.
var ErrTerminated = errors.New("engine: terminated by name")

// Terminate deletes what has the name, telling the peers: all child SAs of a child, or all
// IKE SAs of a connection with their children. What is being set up is given up, and what
// the configuration wants up is not tried again. It returns how many it found of all that.
func (e *Engine) Terminate(name string) (n int, err error) {
	err = ErrClosed
	e.ask(func(now time.Time) {
		var conn *Conn
		var child *ChildConf
		if conn, child, err = e.k.named(name); err != nil {
			return
		}
		sas := e.k.those(conn, child, (*ikeSA).ours)
		n = e.k.desist(now, conn, child)
		if conn != nil && len(sas) > 0 {
			n = 0 // it was for these
		}
		for _, s := range sas {
			if conn != nil {
				n++
				s.deleted = true
				s.m.Delete(now)
			} else {
				for _, spi := range s.ofConf(child) {
					n++
					s.m.DeleteChild(now, spi)
				}
			}
			e.k.drain(now, s)
		}
		for _, s := range e.k.those(conn, child, func(s *ikeSA) bool { return s.yields }) { // to these
			if conn != nil {
				s.m.Delete(now)
				e.k.drain(now, s)
			} else {
				e.k.leave(now, s)
			}
		}
	})
	return n, err
}

// ErrNothing says that no SA of the name is up.
var ErrNothing = errors.New("engine: nothing to rekey")

// Rekey gives new keys to what has the name: all child SAs of a child, or all IKE SAs of a
// connection. It returns how many it found, which is one at least; that they succeed shows
// in Status and events.
func (e *Engine) Rekey(name string) (n int, err error) {
	err = ErrClosed
	e.ask(func(now time.Time) {
		var conn *Conn
		var child *ChildConf
		if conn, child, err = e.k.named(name); err != nil {
			return
		}
		for _, s := range e.k.those(conn, child, (*ikeSA).ours) {
			if conn != nil && s.est != nil {
				n++
				s.m.RekeyIKE(now)
			}
			if conn == nil {
				for _, spi := range s.ofConf(child) {
					n++
					s.m.RekeyChild(now, spi)
				}
			}
			e.k.drain(now, s)
		}
		if n == 0 {
			err = fmt.Errorf("%w: no SA of %s is up", ErrNothing, name)
		}
	})
	return n, err
}

// named finds what a name means: a connection or a child. A name of both is the connection's.
func (k *keyer) named(name string) (*Conn, *ChildConf, error) {
	switch conn, child := k.conns[name], k.confs[name]; {
	case conn != nil:
		return conn, nil, nil
	case child != nil:
		return nil, child, nil
	}
	return nil, nil, fmt.Errorf("%w: no child or connection %q", ErrUnknown, name)
}

// those are IKE SAs that are not closed, as a copy: a connection's, or of the connection that
// a child is of.
func (k *keyer) those(c *Conn, cc *ChildConf, are func(*ikeSA) bool) (out []*ikeSA) {
	if c == nil {
		c = cc.Conn
	}
	for s := range k.roster.ofConn(c) {
		if s.until.IsZero() && are(s) {
			out = append(out, s)
		}
	}
	return out
}

// ours tells whether an IKE SA stands or is being made. Who comes to us is nobody's until it
// has authenticated.
func (s *ikeSA) ours() bool {
	return !s.deleted && !s.next && !s.rekeyed && (s.initiator || s.peer != nil)
}

// ofConf are our SPIs of the child SAs that were made of cc.
func (s *ikeSA) ofConf(cc *ChildConf) []uint32 {
	var out []uint32
	for spi, c := range s.children {
		if c.Name == cc.Name {
			out = append(out, spi)
		}
	}
	return out
}

// conf is the child of that name, or the first one of the connection of that name.
func (k *keyer) conf(name string) *ChildConf {
	if cc := k.confs[name]; cc != nil {
		return cc
	}
	if c := k.conns[name]; c != nil && len(c.Children) > 0 {
		return c.Children[0]
	}
	return nil
}

// up tells whether a child SA of cc may carry packets both ways.
func (k *keyer) up(cc *ChildConf) bool {
	for s := range k.roster.ofConn(cc.Conn) {
		for _, spi := range s.ofConf(cc) {
			if s.children[spi].OutSPI() != 0 {
				return true
			}
		}
	}
	return false
}

// desist gives up what is being set up of a connection, or of a child, and what is to be
// tried again. It returns how many there were.
func (k *keyer) desist(now time.Time, c *Conn, cc *ChildConf) (n int) {
	of := func(conf *ChildConf) bool { return conf == cc || conf.Conn == c }
	for conf, r := range k.wanted {
		if of(conf) {
			delete(k.wanted, conf)
			if !r.at.IsZero() {
				n++
			}
		}
	}
	maps.DeleteFunc(k.trapped, func(conf *ChildConf, _ bool) bool { return of(conf) })
	var as []*acquire
	for _, a := range k.acquires {
		if of(a.conf) && a.ahead == nil && !(a.alone && c == nil) {
			as = append(as, a)
		}
	}
	for _, a := range as {
		k.cancel(now, a)
	}
	return n + len(as)
}

// cancel gives up an acquire, and those behind it. Its child SA may have been asked for: it is
// deleted as soon as it is there. An IKE SA that is being made for nothing else is not made.
func (k *keyer) cancel(now time.Time, a *acquire) {
	x := a.replaces
	a.replaces, a.keep = nil, false
	for _, b := range a.behind {
		b.replaces, b.keep = nil, false
	}
	k.failAcquire(now, a.ref, ErrTerminated)
	for s := range k.roster.ofConn(a.conf.Conn) {
		if !slices.Contains(s.waiting, a.ref) {
			continue
		}
		s.settle(a.ref)
		if s.initiator && s.est == nil && len(s.waiting) == 0 {
			s.deleted = true
			s.m.Delete(now)
		} else {
			s.m.DeleteChild(now, a.spi)
		}
		k.drain(now, s)
		break
	}
	k.mail.post(func(now time.Time) { k.succeeded(now, x) })
}
