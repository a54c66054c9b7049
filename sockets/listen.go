package sockets

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// A ListenConfig listens with what net.ListenConfig has no words for.
type ListenConfig struct {
	// Stack is the host that listens.
	Stack *Stack
	// PToken demands a protection and a peer of every connection; nil leaves both to the
	// policy.
	PToken *tokens.PToken
	// Backlog is how many connections may wait for Accept; 0 is netstack's default.
	Backlog int
}

// Listen listens for TCP connections on an inner address, as ":80". A peer without a
// protected path reaches nothing.
func (st *Stack) Listen(network, address string) (net.Listener, error) {
	lc := ListenConfig{Stack: st}
	return lc.Listen(context.Background(), network, address)
}

// ListenPacket opens an unconnected UDP socket on an inner address.
func (st *Stack) ListenPacket(network, address string) (*PacketConn, error) {
	lc := ListenConfig{Stack: st}
	return lc.ListenPacket(context.Background(), network, address)
}

// Listen listens; see Stack.Listen.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	s, at, err := lc.socket(ctx, network, address, "tcp", datapath.SocketListener)
	if err == nil {
		var l *netstack.TCPListener
		if l, err = lc.Stack.e.Stack.ListenTCP(s.data.Tag(), at, lc.Backlog); err == nil {
			// The LISTENER latch; until it stands no connection begins (RFC 5660, Section 2.1).
			bound := l.Addr().(*net.TCPAddr).AddrPort()
			if err = s.data.Listen(latch.Key3{Addr: at.Addr(), Proto: ts.ProtoTCP, Port: bound.Port()}); err == nil {
				return &Listener{st: lc.Stack, s: s, l: l}, nil
			}
			_ = l.Close()
		}
		s.data.Close()
	}
	return nil, listenError(network, address, err)
}

// ListenPacket opens a UDP socket; see Stack.ListenPacket.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (*PacketConn, error) {
	s, at, err := lc.socket(ctx, network, address, "udp", datapath.SocketDatagram)
	if err == nil {
		var c *netstack.UDPConn
		if c, err = lc.Stack.e.Stack.ListenUDP(s.data.Tag(), at); err == nil {
			return newPacketConn(s, c), nil
		}
		s.data.Close()
	}
	return nil, listenError(network, address, err)
}

func (lc *ListenConfig) socket(ctx context.Context, network, address, proto string, kind datapath.SocketKind) (*socket, netip.AddrPort, error) {
	host, p, err := splitAddr(network, address)
	if err == nil && network[:3] != proto {
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	var a netip.Addr
	if host != "" {
		addrs, err := lc.Stack.resolve(ctx, host)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		if addrs = family(addrs, network); len(addrs) == 0 {
			return nil, netip.AddrPort{}, &net.AddrError{Err: "no suitable address", Addr: host}
		}
		a = addrs[0]
	} else if network[len(network)-1] == '4' {
		a = netip.IPv4Unspecified()
	}
	w, err := want(lc.PToken)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	s := &socket{st: lc.Stack}
	s.data = lc.Stack.e.Data.NewSocket(datapath.SocketConfig{Kind: kind, Want: w, Alert: s.alert, V: s})
	return s, netip.AddrPortFrom(a, p), nil
}

// listenError is a *net.OpError, as package net's.
func listenError(network, address string, err error) error {
	if oe := (*net.OpError)(nil); errors.As(err, &oe) {
		return err
	}
	return &net.OpError{Op: "listen", Net: network, Addr: textAddr{network, address}, Err: err}
}

// A textAddr is an address that was never resolved.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }

// A Listener accepts latched TCP connections.
type Listener struct {
	st *Stack
	s  *socket
	l  *netstack.TCPListener
}

// Accept waits for the next connection; it is a *Conn. A connection whose latch broke
// while it waited is closed and passed over.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		s := &socket{st: l.st}
		s.data, err = l.st.e.Data.Accepted(c.Flow(), datapath.SocketConfig{
			Kind: datapath.SocketConnected, Want: l.s.data.Want(), Alert: s.alert, V: s})
		if err != nil {
			l.st.log.Debug("connection without a latch", "flow", c.Flow().String(), "error", err)
			c.Abort(err)
			continue
		}
		c.SetTag(s.data.Tag())
		return newConn(s, c), nil
	}
}

// Close stops listening; connections not yet accepted are reset.
func (l *Listener) Close() error {
	err := l.l.Close()
	l.s.data.Close()
	return err
}

// Addr is the inner address; a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return l.l.Addr() }
