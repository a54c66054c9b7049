package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// Terminate deletes what has the name, telling the peers: all child SAs of a child, or all
// IKE SAs of a connection with their children. It returns how many it found. What the
// configuration wants up is not tried again.
func (e *Engine) Terminate(name string) (n int, err error) {
	e.ask(func(time.Time) { e.k.desist(name) })
	return e.each(name, func(now time.Time, s *ikeSA, child uint32) {
		if child != 0 {
			s.m.DeleteChild(now, child)
			return
		}
		s.deleted = true
		s.m.Delete(now)
	})
}

// Rekey gives new keys to what has the name: all child SAs of a child, or all IKE SAs of a
// connection. It returns how many it found; that they succeed shows in Status.
func (e *Engine) Rekey(name string) (n int, err error) {
	return e.each(name, func(now time.Time, s *ikeSA, child uint32) {
		if child != 0 {
			s.m.RekeyChild(now, child)
			return
		}
		s.m.RekeyIKE(now)
	})
}

// each finds the SAs of a name: a child's, or a connection's, which come with child 0. A
// name of both is the connection's.
func (e *Engine) each(name string, do func(now time.Time, s *ikeSA, child uint32)) (n int, err error) {
	err = ErrClosed
	e.ask(func(now time.Time) {
		conn, child := e.k.conns[name], e.k.confs[name]
		if conn == nil && child == nil {
			err = fmt.Errorf("%w: no child or connection %q", ErrUnknown, name)
			return
		}
		err = nil
		for _, s := range e.k.live() {
			switch {
			case conn != nil && s.conn == conn:
				n++
				do(now, s, 0)
			case conn == nil && s.conn == child.Conn:
				for _, c := range s.ofConf(child) {
					n++
					do(now, s, c)
				}
			default:
				continue
			}
			e.k.drain(now, s)
		}
	})
	return n, err
}

// live are the IKE SAs that stand or are being made, as a copy.
func (k *keyer) live() []*ikeSA {
	var out []*ikeSA
	for _, s := range k.sas {
		if s.until.IsZero() && !s.deleted && !s.next {
			out = append(out, s)
		}
	}
	return out
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

// desist gives up what is to be tried again under a name.
func (k *keyer) desist(name string) {
	for _, a := range k.acquires {
		if a.conf.Name == name || a.conf.Conn.Name == name {
			a.keep = false
		}
	}
	maps.DeleteFunc(k.wanted, func(cc *ChildConf, _ *retry) bool { return cc.Name == name || cc.Conn.Name == name })
}
