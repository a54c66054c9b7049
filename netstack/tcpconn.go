package netstack

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp/ts"
)

var errThin = errors.New("netstack: not built yet")

// TCPConn is a TCP connection; it behaves as package net's.
type TCPConn struct{}

var _ net.Conn = (*TCPConn)(nil)

// Read implements net.Conn.
func (c *TCPConn) Read(b []byte) (int, error) { return 0, errThin }

// Write implements net.Conn.
func (c *TCPConn) Write(b []byte) (int, error) { return 0, errThin }

// Close implements net.Conn: what was written is still sent, then FIN.
func (c *TCPConn) Close() error { return errThin }

// CloseRead shuts down the reading side.
func (c *TCPConn) CloseRead() error { return errThin }

// CloseWrite shuts down the writing side: the peer reads io.EOF.
func (c *TCPConn) CloseWrite() error { return errThin }

// Abort kills the connection: a reset is sent, pending and later calls return cause in a *net.OpError (net.ErrClosed for
// nil). Safe from any goroutine, not from a hook. The first cause stays.
func (c *TCPConn) Abort(cause error) {}

// OnGone calls f once, on a goroutine of the stack, when the transport has forgotten the connection (after TIME-WAIT), also
// if that is now. f must not block.
func (c *TCPConn) OnGone(f func()) {}

// Flow is the connection's flow: source = local.
func (c *TCPConn) Flow() ts.Flow { return ts.Flow{} }

// Tag is the connection's tag: the one dialled with, or the listener's until SetTag.
func (c *TCPConn) Tag() *Tag { return nil }

// SetTag replaces the tag for all later packets, retransmissions included.
func (c *TCPConn) SetTag(tag *Tag) {}

// LocalAddr implements net.Conn; it is a *net.TCPAddr.
func (c *TCPConn) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn; it is a *net.TCPAddr.
func (c *TCPConn) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn.
func (c *TCPConn) SetDeadline(t time.Time) error { return errThin }

// SetReadDeadline implements net.Conn.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return errThin }

// SetWriteDeadline implements net.Conn.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return errThin }

// SetNoDelay turns Nagle's algorithm off (the default) or on.
func (c *TCPConn) SetNoDelay(on bool) error { return errThin }

// SetLinger is as net.TCPConn's: seconds < 0 the default, 0 discards unsent data and resets at Close.
func (c *TCPConn) SetLinger(seconds int) error { return errThin }

// SetKeepAlive turns keep-alive probes on or off (default on).
func (c *TCPConn) SetKeepAlive(on bool) error { return errThin }

// SetKeepAliveConfig is as net.TCPConn's.
func (c *TCPConn) SetKeepAliveConfig(cfg net.KeepAliveConfig) error { return errThin }

// TCPListener is a listening TCP socket; it behaves as package net's.
type TCPListener struct{}

var _ net.Listener = (*TCPListener)(nil)

// Accept implements net.Listener; the connection is a *TCPConn.
func (l *TCPListener) Accept() (net.Conn, error) { return nil, errThin }

// AcceptTCP is Accept with the concrete type.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) { return nil, errThin }

// Close implements net.Listener: connections that were not accepted are reset.
func (l *TCPListener) Close() error { return errThin }

// Addr implements net.Listener; it is a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return nil }

// Tag is the listener's tag.
func (l *TCPListener) Tag() *Tag { return nil }

// SetTag replaces the listener's tag; connections born before keep what they were born with.
func (l *TCPListener) SetTag(tag *Tag) {}

// SetDeadline is as net.TCPListener's.
func (l *TCPListener) SetDeadline(t time.Time) error { return errThin }

// UDPConn is a UDP socket, connected or not; it behaves as package net's and carries a tag with each datagram.
type UDPConn struct{}

var (
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
)

// ReadMsg reads one datagram and the tag it arrived under.
func (c *UDPConn) ReadMsg(b []byte) (n int, from netip.AddrPort, to netip.Addr, tag *Tag, err error) {
	return 0, netip.AddrPort{}, netip.Addr{}, nil, errThin
}

// WriteMsg sends one datagram of up to 65,507 bytes under tag (nil = the socket's). to must be the zero AddrPort on a
// connected socket. An error given to Packet.Refuse comes back from this very call.
func (c *UDPConn) WriteMsg(b []byte, to netip.AddrPort, tag *Tag) (int, error) { return 0, errThin }

// Read implements net.Conn.
func (c *UDPConn) Read(b []byte) (int, error) { return 0, errThin }

// Write implements net.Conn; it needs a connected socket.
func (c *UDPConn) Write(b []byte) (int, error) { return 0, errThin }

// ReadFrom implements net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) { return 0, nil, errThin }

// WriteTo implements net.PacketConn.
func (c *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) { return 0, errThin }

// ReadFromUDPAddrPort is as net.UDPConn's.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, errThin
}

// WriteToUDPAddrPort is as net.UDPConn's.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) { return 0, errThin }

// Close implements net.Conn.
func (c *UDPConn) Close() error { return errThin }

// Abort closes the socket with a cause that pending and later calls return (net.ErrClosed for nil). Not from a hook.
func (c *UDPConn) Abort(cause error) {}

// Flow is the flow of a connected socket (source = local); of an unconnected one the zero Flow.
func (c *UDPConn) Flow() ts.Flow { return ts.Flow{} }

// Tag is the socket's tag.
func (c *UDPConn) Tag() *Tag { return nil }

// SetTag replaces the socket's tag.
func (c *UDPConn) SetTag(tag *Tag) {}

// LocalAddr implements net.Conn; it is a *net.UDPAddr.
func (c *UDPConn) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn; nil on an unconnected socket.
func (c *UDPConn) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn.
func (c *UDPConn) SetDeadline(t time.Time) error { return errThin }

// SetReadDeadline implements net.Conn.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return errThin }

// SetWriteDeadline implements net.Conn.
func (c *UDPConn) SetWriteDeadline(t time.Time) error { return errThin }
