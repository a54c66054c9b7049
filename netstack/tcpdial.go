package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialTCP connects. A zero local address or port is chosen by the stack. It ends with the context; when it fails nothing is
// left behind. The error is a *net.OpError whose cause is package net's kind, or the very error that Packet.Refuse or
// Unreachable was given.
func (s *Stack) DialTCP(ctx context.Context, tag *Tag, local, remote netip.AddrPort) (*TCPConn, error) {
	local, remote = plain(local), plain(remote)
	c, err := s.dialTCP(ctx, tag, local, remote)
	if err != nil {
		var from net.Addr
		if local.Addr().IsValid() {
			from = net.TCPAddrFromAddrPort(local)
		}
		return nil, opErr("dial", "tcp", from, net.TCPAddrFromAddrPort(remote), err)
	}
	return c, nil
}

func (s *Stack) dialTCP(ctx context.Context, tag *Tag, local, remote netip.AddrPort) (*TCPConn, error) {
	if ctx.Err() != nil {
		return nil, ctxErr(ctx)
	}
	if !remote.Addr().IsValid() || remote.Port() == 0 {
		return nil, fmt.Errorf("netstack: %v is no address to dial", remote)
	}
	if local.Addr().IsValid() && local.Addr().Is4() != remote.Addr().Is4() {
		return nil, fmt.Errorf("netstack: %v and %v are of different families", local.Addr(), remote.Addr())
	}
	c, err := s.startDial(tag, local, remote)
	if err == nil {
		err = c.finishDial(ctx)
	}
	if err == nil {
		return c, nil
	}
	if c != nil {
		c.life.end(net.ErrClosed)
		if !s.broken.Load() {
			c.ep.Abort() // resets what the handshake may have made meanwhile
			c.ep.Close()
		}
	}
	return nil, err
}

// startDial sends the first SYN.
func (s *Stack) startDial(tag *Tag, local, remote netip.AddrPort) (*TCPConn, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	defer s.openMu.RUnlock()
	wq := new(waiter.Queue)
	gep, gerr := s.gv.NewEndpoint(tcp.ProtocolNumber, netProto(remote.Addr()), wq)
	if gerr != nil {
		return nil, sysErr("socket", gerr)
	}
	ep, ok := gep.(*tcp.Endpoint)
	if !ok {
		gep.Close()
		return nil, fmt.Errorf("netstack: gVisor made a %T for a TCP endpoint", gep)
	}
	c := newTCPConn(s, ep, wq, tag)
	c.remote = remote
	ep.SetOwner(&c.owner)
	if local.Port() != 0 || (local.Addr().IsValid() && !local.Addr().IsUnspecified()) {
		if err := ep.Bind(near(local)); err != nil {
			ep.Close()
			return nil, sysErr("bind", err)
		}
		// A port is free before the functions are run that OnGone was given for the connection that had it.
		s.later.wait()
	}
	c.dialing.Store(true)
	c.s.owners.Store(ep, &c.owner) // before the answer can come
	err := ep.Connect(far(remote))
	c.watch()
	switch err.(type) {
	case nil, *tcpip.ErrConnectStarted:
		return c, nil
	}
	return c, sysErr("connect", err)
}

// finishDial waits for the handshake.
func (c *TCPConn) finishDial(ctx context.Context) error {
	for {
		if err := c.life.err(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctxErr(ctx)
		}
		switch st := c.ep.EndpointState(); st {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			c.wr.wait(&c.life, ctx.Done())
			continue
		case tcp.StateError, tcp.StateClose:
			if err := c.ep.LastError(); err != nil {
				return sysErr("connect", err)
			}
			if err := c.life.err(); err != nil {
				return err
			}
			return sysErr("connect", &tcpip.ErrConnectionAborted{})
		default:
		}
		if !c.dialing.CompareAndSwap(true, false) {
			continue // refused at the last moment
		}
		id := c.ep.Info().(*stack.TransportEndpointInfo).ID
		c.local = netip.AddrPortFrom(fromAddr(id.LocalAddress), id.LocalPort)
		return nil
	}
}
