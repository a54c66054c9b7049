package netstack

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TCPListener is a listening TCP socket; it behaves as package net's. Its tag is for ever: connections are born with it,
// and one that waits for Accept must not change what it demands.
type TCPListener struct {
	s     *Stack
	ep    *tcp.Endpoint
	addr  netip.AddrPort
	key   netip.AddrPort // in Stack.listeners
	owner owner
	entry waiter.Entry
	life  life
	rd    side
}

var _ net.Listener = (*TCPListener)(nil)

// ListenTCP listens on addr; an unspecified IPv6 address (or the zero Addr) takes both families. backlog 0 = 4096.
func (s *Stack) ListenTCP(tag *Tag, addr netip.AddrPort, backlog int) (*TCPListener, error) {
	addr = plain(addr)
	l, err := s.listenTCP(tag, addr, backlog)
	if err != nil {
		return nil, opErr("listen", "tcp", nil, net.TCPAddrFromAddrPort(addr), err)
	}
	return l, nil
}

func (s *Stack) listenTCP(tag *Tag, addr netip.AddrPort, backlog int) (*TCPListener, error) {
	switch {
	case backlog == 0:
		backlog = defaultBacklog
	case backlog < 0 || backlog > maxBacklog:
		return nil, fmt.Errorf("netstack: backlog %d is not between 1 and %d", backlog, maxBacklog)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	defer s.openMu.RUnlock()
	wq := new(waiter.Queue)
	gep, gerr := s.gv.NewEndpoint(tcp.ProtocolNumber, listenProto(addr.Addr()), wq)
	if gerr != nil {
		return nil, sysErr("socket", gerr)
	}
	ep, ok := gep.(*tcp.Endpoint)
	if !ok {
		gep.Close()
		return nil, fmt.Errorf("netstack: gVisor made a %T for a TCP endpoint", gep)
	}
	l := &TCPListener{s: s, ep: ep, life: newLife(), rd: newSide()}
	l.owner.listener = l
	l.owner.tag.Store(tag)
	ep.SetOwner(&l.owner)
	ep.SocketOptions().SetReuseAddress(true) // as package net: connections in TIME-WAIT don't keep the port
	if err := ep.Bind(near(addr)); err != nil {
		ep.Close()
		return nil, sysErr("bind", err)
	}
	got, gerr := ep.GetLocalAddress()
	if gerr != nil {
		ep.Close()
		return nil, sysErr("getsockname", gerr)
	}
	l.addr = netip.AddrPortFrom(addr.Addr(), got.Port)
	if !addr.Addr().IsValid() {
		l.addr = netip.AddrPortFrom(netip.IPv6Unspecified(), got.Port)
	}
	l.key = l.addr
	l.entry.Init((*listenEvents)(l), waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr)
	wq.EventRegister(&l.entry)
	s.listenMu.Lock()
	taken := s.portTaken(l.key)
	if !taken {
		s.listeners[l.key] = l
	}
	s.listenMu.Unlock()
	if taken {
		ep.Close()
		return nil, sysErr("listen", &tcpip.ErrPortInUse{})
	}
	s.owners.Store(ep, &l.owner)
	if err := ep.Listen(backlog); err != nil {
		l.forget()
		ep.Close()
		return nil, sysErr("listen", err)
	}
	return l, nil
}

// portTaken reports whether another listener would get some of the connections to key: what a kernel refuses for two
// listeners, and gVisor, with the address reusable, does not. It is called with listenMu held.
func (s *Stack) portTaken(key netip.AddrPort) bool {
	for k := range s.listeners {
		if k.Port() != key.Port() {
			continue
		}
		a, b := k.Addr(), key.Addr()
		if a == b || (a.Is6() && a.IsUnspecified()) || (b.Is6() && b.IsUnspecified()) ||
			(a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())) {
			return true
		}
	}
	return false
}

// listenProto is IPv6, which takes both families, for an unspecified address.
func listenProto(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// listenEvents hides NotifyEvent from TCPListener's users.
type listenEvents TCPListener

// NotifyEvent is called by gVisor with locks held.
func (e *listenEvents) NotifyEvent(waiter.EventMask) { (*TCPListener)(e).rd.wake() }

func (l *TCPListener) forget() {
	l.s.owners.Delete(l.ep)
	l.s.listenMu.Lock()
	if l.s.listeners[l.key] == l {
		delete(l.s.listeners, l.key)
	}
	l.s.listenMu.Unlock()
}

// Accept implements net.Listener; the connection is a *TCPConn.
func (l *TCPListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP is Accept with the concrete type. A connection that was reset while it waited is passed over.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, opErr("accept", "tcp", nil, l.Addr(), err)
	}
	return c, nil
}

func (l *TCPListener) accept() (*TCPConn, error) {
	l.rd.mu.Lock()
	defer l.rd.mu.Unlock()
	for {
		if err := l.rd.check(&l.life); err != nil {
			return nil, err
		}
		gep, wq, err := l.ep.Accept(nil)
		switch {
		case isWouldBlock(err):
			l.rd.wait(&l.life, nil)
			continue
		case err != nil:
			if err := l.life.err(); err != nil {
				return nil, err
			}
			return nil, sysErr("accept", err)
		}
		if c := l.adopt(gep, wq); c != nil {
			return c, nil
		}
	}
}

// adopt makes a connection of what gVisor accepted; nil if it is dead already.
func (l *TCPListener) adopt(gep tcpip.Endpoint, wq *waiter.Queue) *TCPConn {
	ep, ok := gep.(*tcp.Endpoint)
	if !ok {
		gep.Close()
		return nil
	}
	if err := l.s.open(); err != nil {
		ep.Close()
		return nil
	}
	defer l.s.openMu.RUnlock()
	if st := ep.EndpointState(); st == tcp.StateError || st == tcp.StateClose {
		ep.Close()
		return nil
	}
	c := newTCPConn(l.s, ep, wq, l.owner.tag.Load())
	id := ep.Info().(*stack.TransportEndpointInfo).ID
	c.local = netip.AddrPortFrom(fromAddr(id.LocalAddress), id.LocalPort)
	c.remote = netip.AddrPortFrom(fromAddr(id.RemoteAddress), id.RemotePort)
	ep.LockUser() // gVisor's goroutines read the owner under this lock
	ep.SetOwner(&c.owner)
	ep.UnlockUser()
	c.watch()
	return c
}

// Close implements net.Listener: connections that were not accepted are reset.
func (l *TCPListener) Close() error {
	if !l.life.closed.CompareAndSwap(false, true) {
		return opErr("close", "tcp", nil, l.Addr(), net.ErrClosed)
	}
	l.life.end(net.ErrClosed)
	if !l.s.broken.Load() {
		l.ep.Close()
	}
	l.forget() // after Close, which sends resets in the listener's name
	return nil
}

// Addr implements net.Listener; it is a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Tag is the listener's tag.
func (l *TCPListener) Tag() *Tag { return l.owner.tag.Load() }

// SetDeadline is as net.TCPListener's.
func (l *TCPListener) SetDeadline(t time.Time) error {
	if l.life.closed.Load() {
		return opErr("set", "tcp", nil, l.Addr(), net.ErrClosed)
	}
	l.rd.dl.set(t)
	return nil
}
