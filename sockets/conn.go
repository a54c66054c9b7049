package sockets

import (
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// A socket joins what the transport, the data path and the latch database know of one
// socket.
type socket struct {
	st    *Stack
	data  *datapath.Socket
	abort atomic.Pointer[func(error)] // nil while dialling and for listeners
}

// alert is told what becomes of the socket's latch, by whoever caused it and without
// locks (RFC 5660, Section 2.3: the holder is told before a byte passes).
func (s *socket) alert(a latch.Alert) {
	if a.State != latch.StateBroken && a.State != latch.StateClosed {
		return
	}
	if a.State == latch.StateBroken && a.Disposition == latch.DispositionWait {
		return // the flow waits: the data path passes nothing meanwhile
	}
	if f := s.abort.Load(); f != nil {
		go (*f)(&LatchError{State: a.State, Reason: a.Latch.Err()})
	}
}

// A Conn is a latched TCP connection: every byte in and out is protected by SAs with the
// peer identity and protection of its birth (RFC 5660). It behaves as *net.TCPConn does,
// CloseRead, CloseWrite, SetNoDelay, SetLinger, SetKeepAlive and SetKeepAliveConfig included.
type Conn struct {
	stream
	s *socket
}

var _ net.Conn = (*Conn)(nil)

// A stream is what a Conn passes on of netstack's connection. What could move it to other
// SAs stays inside.
type stream interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
	SetNoDelay(on bool) error
	SetLinger(seconds int) error
	SetKeepAlive(on bool) error
	SetKeepAliveConfig(cfg net.KeepAliveConfig) error
}

func newConn(s *socket, c *netstack.TCPConn) *Conn {
	conn := &Conn{stream: c, s: s}
	s.alertTo(c.Abort)
	c.OnGone(s.data.Close)
	return conn
}

// alertTo makes abort end the connection when its latch does. A latch that broke before
// has told nobody.
func (s *socket) alertTo(abort func(error)) {
	s.abort.Store(&abort)
	l := s.data.Latch()
	if l == nil {
		return
	}
	if snap := l.Inquire(); snap.State == latch.StateBroken {
		s.alert(latch.Alert{Latch: l, State: snap.State, Disposition: snap.Want.Disposition.For(l.Flow().Proto())})
	}
}

// PToken is the connection's protection, live: it says what holds now.
func (c *Conn) PToken() *tokens.PToken { return c.s.ptoken() }

// A PacketConn is a UDP socket. Connected ones are latched like a Conn; on others each
// datagram comes and goes with a PToken of its own. It behaves as *net.UDPConn does, with
// ReadFromUDPAddrPort and WriteToUDPAddrPort.
type PacketConn struct {
	datagrams
	c *netstack.UDPConn
	s *socket
}

// datagrams is to a PacketConn what stream is to a Conn.
type datagrams interface {
	net.Conn
	ReadFrom(b []byte) (int, net.Addr, error)
	WriteTo(b []byte, addr net.Addr) (int, error)
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

var (
	_ net.PacketConn = (*PacketConn)(nil)
	_ net.Conn       = (*PacketConn)(nil)
)

func newPacketConn(s *socket, c *netstack.UDPConn) *PacketConn {
	s.alertTo(c.Abort)
	return &PacketConn{datagrams: c, c: c, s: s}
}

// PToken is the socket's protection. Before a connected socket's first packet, and on an
// unconnected one always, Info of it fails with tokens.ErrNotYet.
func (c *PacketConn) PToken() *tokens.PToken { return c.s.ptoken() }

// Close closes the socket and ends its latch.
func (c *PacketConn) Close() error {
	err := c.c.Close()
	c.s.data.Close()
	return err
}

// ReadMsg reads one datagram, who sent it, and the protection under which this very
// datagram came. What does not fit b is lost.
func (c *PacketConn) ReadMsg(b []byte) (n int, from netip.AddrPort, pt *tokens.PToken, err error) {
	n, from, _, tag, err := c.c.ReadMsg(b)
	if err != nil {
		return 0, netip.AddrPort{}, nil, err
	}
	return n, from, ptokenOf(tag), nil
}

// WriteMsg sends one datagram under the protection pt: that of a datagram read, so that
// an answer goes to whoever asked, or what a template asks for; never less than the
// socket's own PToken demands. A nil PToken leaves it to that and the policy. On a
// connected socket, which is latched, to and pt must be zero: it is tokens.ErrLatched.
func (c *PacketConn) WriteMsg(b []byte, to netip.AddrPort, pt *tokens.PToken) (int, error) {
	var tag *netstack.Tag
	var err error
	switch {
	case pt == nil:
	case c.RemoteAddr() != nil:
		err = tokens.ErrLatched
	default:
		tag, err = c.s.demand(pt)
	}
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Err: err}
	}
	return c.c.WriteMsg(b, to, tag)
}
