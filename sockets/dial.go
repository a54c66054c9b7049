package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// A Dialer opens connections with what net.Dialer has no words for.
type Dialer struct {
	// Stack is the host that dials.
	Stack *Stack
	// PToken demands a protection and a peer; nil leaves both to the policy. It is read at
	// each dial; a live one is refused with tokens.ErrLatched.
	PToken *tokens.PToken
	// LocalAddr is the inner address to dial from; the zero value lets the host choose.
	LocalAddr netip.AddrPort
}

// DialContext connects like net.Dialer's: it has the shape that http.Transport, gRPC and
// database drivers take. No packet leaves before an SA protects it (RFC 5660, Section 2);
// where the context has no deadline Config.DialTimeout is one.
//
// The error is a *net.OpError. A refusal that came protected, in an SK payload, fails the
// dial at once with its reason: nobody sent it but who answered our IKE_SA_INIT, which is the
// peer, or before it has authenticated itself somebody on the path who could as well have
// kept silent. Silence and unprotected answers, which anybody can send, only count at the
// deadline, and the error then says what was tried.
func (st *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := Dialer{Stack: st}
	return d.DialContext(ctx, network, address)
}

// Dial is DialContext without a context.
func (st *Stack) Dial(network, address string) (net.Conn, error) {
	return st.DialContext(context.Background(), network, address)
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects; see Stack.DialContext.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	st := d.Stack
	fail := func(err error) error { return &net.OpError{Op: "dial", Net: network, Err: err} }
	host, p, err := splitAddr(network, address)
	if err != nil {
		return nil, fail(err)
	}
	ctx, cancel := st.deadline(ctx)
	defer cancel()
	addrs, err := st.resolve(ctx, host)
	if err != nil {
		return nil, fail(err)
	}
	if addrs = family(addrs, network); len(addrs) == 0 {
		return nil, fail(&net.AddrError{Err: "no suitable address", Addr: host})
	}
	w, err := want(d.PToken)
	if err != nil {
		return nil, fail(err)
	}
	var first error // the answer of the most wanted address
	for i, a := range addrs {
		// Each address gets its share of the time, as package net's dialer has it.
		ctx, cancel := share(ctx, len(addrs)-i)
		to := netip.AddrPortFrom(a, p)
		s := &socket{st: st}
		s.data = st.e.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketConnected, Want: w, Alert: s.alert, V: s})
		var c net.Conn
		if network[:3] == "tcp" {
			c, err = d.dialTCP(ctx, s, to)
		} else {
			c, err = d.dialUDP(ctx, s, to)
		}
		if err == nil {
			cancel()
			return c, nil
		}
		s.data.Close()
		err = st.why(ctx, s, to, network, err)
		cancel()
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// share is ctx for the next of n addresses.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && n > 1 {
		return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
	}
	return context.WithCancel(ctx)
}

func (d *Dialer) dialTCP(ctx context.Context, s *socket, to netip.AddrPort) (net.Conn, error) {
	c, err := d.Stack.e.Stack.DialTCP(ctx, s.data.Tag(), d.LocalAddr, to)
	if err != nil {
		return nil, err
	}
	return newConn(s, c), nil
}

func (d *Dialer) dialUDP(ctx context.Context, s *socket, to netip.AddrPort) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: err}
	}
	c, err := d.Stack.e.Stack.DialUDP(s.data.Tag(), d.LocalAddr, to)
	if err != nil {
		return nil, err
	}
	return newPacketConn(s, c), nil
}

// why adds to a dial's time-out what was tried, and what somebody answered who could not
// prove to be the peer.
func (st *Stack) why(ctx context.Context, s *socket, to netip.AddrPort, network string, err error) error {
	if ctx.Err() == nil {
		return err
	}
	reason := s.data.LastFailure()
	if reason == nil {
		reason = st.e.Explain(ts.MakeFlow(protocol(network), netip.AddrPortFrom(st.source(to.Addr()), 0), to))
	}
	if reason == nil {
		return err
	}
	cause := context.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		cause = os.ErrDeadlineExceeded
	}
	addr := net.Addr(net.TCPAddrFromAddrPort(to))
	if network[:3] == "udp" {
		addr = net.UDPAddrFromAddrPort(to)
	}
	return &net.OpError{Op: "dial", Net: network, Addr: addr, Err: &DialError{Cause: cause, Reason: reason}}
}

// source is the host's address of a family, for naming flows.
func (st *Stack) source(to netip.Addr) netip.Addr {
	for _, a := range st.addrs {
		if a.Addr().Is4() == to.Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

func protocol(network string) uint8 {
	if network[:3] == "tcp" {
		return 6
	}
	return 17
}

// A DialError is a dial that ended without an answer from the peer.
type DialError struct {
	Cause  error // os.ErrDeadlineExceeded or context.Canceled
	Reason error // what was tried, or what kept the SA from coming up
}

func (e *DialError) Error() string { return fmt.Sprintf("%v: %v", e.Cause, e.Reason) }

// Unwrap returns both.
func (e *DialError) Unwrap() []error { return []error{e.Cause, e.Reason} }

// Timeout implements net.Error.
func (e *DialError) Timeout() bool { return errors.Is(e.Cause, os.ErrDeadlineExceeded) }

// Temporary implements net.Error.
func (e *DialError) Temporary() bool { return e.Timeout() }
