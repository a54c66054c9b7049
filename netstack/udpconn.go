package netstack

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/btns-go/btns/esp/ts"
)

// UDPConn is a UDP socket, connected or not; it behaves as package net's and carries a tag with each datagram.
type UDPConn struct{ d dgram }

var (
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
)

// ListenUDP returns an unconnected UDP socket; an unspecified IPv6 address (or the zero Addr) takes both families.
func (s *Stack) ListenUDP(tag *Tag, addr netip.AddrPort) (*UDPConn, error) {
	addr = plain(addr)
	c := new(UDPConn)
	if err := s.openDgram(&c.d, udp.ProtocolNumber, tag, addr, netip.AddrPort{}); err != nil {
		return nil, opErr("listen", "udp", nil, net.UDPAddrFromAddrPort(addr), err)
	}
	return c, nil
}

// DialUDP returns a connected UDP socket. Nothing is sent.
func (s *Stack) DialUDP(tag *Tag, local, remote netip.AddrPort) (*UDPConn, error) {
	local, remote = plain(local), plain(remote)
	c := new(UDPConn)
	err := c.dial(s, tag, local, remote)
	if err != nil {
		var from net.Addr
		if local.Addr().IsValid() {
			from = net.UDPAddrFromAddrPort(local)
		}
		return nil, opErr("dial", "udp", from, net.UDPAddrFromAddrPort(remote), err)
	}
	return c, nil
}

func (c *UDPConn) dial(s *Stack, tag *Tag, local, remote netip.AddrPort) error {
	switch {
	case !remote.Addr().IsValid() || remote.Port() == 0:
		return fmt.Errorf("netstack: %v is no address to dial", remote)
	case local.Addr().IsValid() && local.Addr().Is4() != remote.Addr().Is4():
		return fmt.Errorf("netstack: %v and %v are of different families", local.Addr(), remote.Addr())
	}
	return s.openDgram(&c.d, udp.ProtocolNumber, tag, local, remote)
}

// ReadMsg reads one datagram, cut to b, the address it was sent to, and the tag under which this very datagram arrived.
func (c *UDPConn) ReadMsg(b []byte) (n int, from netip.AddrPort, to netip.Addr, tag *Tag, err error) {
	n, it, err := c.d.read(b, nil)
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, nil, c.opErr("read", err)
	}
	return n, it.from, it.to, it.tag, nil
}

// WriteMsg sends one datagram of up to 65,507 bytes under tag (nil = the socket's). to must be the zero AddrPort on a
// connected socket. An error given to Packet.Refuse comes back from this very call, one given to Stack.Unreachable from the
// next.
func (c *UDPConn) WriteMsg(b []byte, to netip.AddrPort, tag *Tag) (int, error) {
	to = plain(to)
	connected := c.d.remote.IsValid()
	switch {
	case connected && to.IsValid():
		return 0, c.opErr("write", net.ErrWriteToConnected)
	case !connected && (!to.IsValid() || to.Port() == 0):
		return 0, c.opErr("write", sysErrno("write", syscall.EDESTADDRREQ))
	case !connected && to.Addr().Is6() && c.d.local.Addr().Is4():
		return 0, c.opErr("write", sysErrno("write", syscall.EAFNOSUPPORT))
	}
	n, err := c.d.write(b, to, tag)
	if err != nil {
		return 0, c.opErrTo("write", to, err)
	}
	return n, nil
}

// Read implements net.Conn.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, _, _, _, err := c.ReadMsg(b)
	return n, err
}

// Write implements net.Conn; it needs a connected socket.
func (c *UDPConn) Write(b []byte) (int, error) { return c.WriteMsg(b, netip.AddrPort{}, nil) }

// ReadFrom implements net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, _, _, err := c.ReadMsg(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn.
func (c *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok || a == nil {
		return 0, c.opErr("write", sysErrno("write", syscall.EINVAL))
	}
	return c.WriteMsg(b, a.AddrPort(), nil)
}

// ReadFromUDPAddrPort is as net.UDPConn's.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, _, _, err := c.ReadMsg(b)
	return n, from, err
}

// WriteToUDPAddrPort is as net.UDPConn's.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.WriteMsg(b, to, nil)
}

// Close implements net.Conn.
func (c *UDPConn) Close() error { return c.opErr("close", c.d.close()) }

// Abort closes the socket with a cause that pending and later calls return (net.ErrClosed for nil). Not from a hook.
func (c *UDPConn) Abort(cause error) { c.d.abort(cause) }

// Flow is the flow of a connected socket (source = local); of an unconnected one the zero Flow.
func (c *UDPConn) Flow() ts.Flow { return ts.MakeFlow(ts.ProtoUDP, c.d.local, c.d.remote) }

// Tag is the socket's tag.
func (c *UDPConn) Tag() *Tag { return c.d.owner.tag.Load() }

// SetTag replaces the socket's tag.
func (c *UDPConn) SetTag(tag *Tag) { c.d.owner.tag.Store(tag) }

// LocalAddr implements net.Conn; it is a *net.UDPAddr.
func (c *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.d.local) }

// RemoteAddr implements net.Conn; nil on an unconnected socket.
func (c *UDPConn) RemoteAddr() net.Addr {
	if !c.d.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.d.remote)
}

func (c *UDPConn) opErr(op string, err error) error {
	if err == nil {
		return nil
	}
	return opErr(op, "udp", c.LocalAddr(), c.RemoteAddr(), err)
}

func (c *UDPConn) opErrTo(op string, to netip.AddrPort, err error) error {
	if !to.IsValid() {
		return c.opErr(op, err)
	}
	return opErr(op, "udp", c.LocalAddr(), net.UDPAddrFromAddrPort(to), err)
}

// SetDeadline implements net.Conn.
func (c *UDPConn) SetDeadline(t time.Time) error {
	return c.set(func() { setDeadlines(&c.d.rd, &c.d.wr, t) })
}

// SetReadDeadline implements net.Conn.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return c.set(func() { c.d.rd.dl.set(t) }) }

// SetWriteDeadline implements net.Conn.
func (c *UDPConn) SetWriteDeadline(t time.Time) error { return c.set(func() { c.d.wr.dl.set(t) }) }

func (c *UDPConn) set(f func()) error {
	if c.d.life.closed.Load() {
		return c.opErr("set", net.ErrClosed)
	}
	f()
	return nil
}
