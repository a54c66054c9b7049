package netstack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/btns-go/btns/esp/ts"
)

// TCPConn is a TCP connection; it behaves as package net's.
type TCPConn struct {
	// Constant once the connection is handed out.
	s             *Stack
	ep            *tcp.Endpoint
	wq            *waiter.Queue
	local, remote netip.AddrPort

	owner   owner
	entry   waiter.Entry
	life    life
	dialing atomic.Bool
	gone    atomic.Bool

	advertised atomic.Uint64         // acknowledgement number and window field last sent; see window.go
	unjudged   atomic.Bool           // data came after that was sent
	fatal      atomic.Pointer[error] // gVisor reports a connection's end once; both directions must know

	rd, wr side
	dst    tcpip.SliceWriter // under rd.mu
	src    bytes.Reader      // under wr.mu

	goneMu sync.Mutex
	onGone []func()
	told   bool // onGone was run; later functions run at once
}

var (
	_ net.Conn             = (*TCPConn)(nil)
	_ waiter.EventListener = (*tcpEvents)(nil)
)

func newTCPConn(s *Stack, ep *tcp.Endpoint, wq *waiter.Queue, tag *Tag) *TCPConn {
	c := &TCPConn{s: s, ep: ep, wq: wq, life: newLife(), rd: newSide(), wr: newSide()}
	c.owner.tcp = c
	c.owner.tag.Store(tag)
	return c
}

// watch registers for the endpoint's events and notices an end that came before.
func (c *TCPConn) watch() {
	c.s.owners.Store(c.ep, &c.owner)
	c.entry.Init((*tcpEvents)(c), waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
	c.wq.EventRegister(&c.entry)
	(*tcpEvents)(c).NotifyEvent(waiter.EventHUp)
}

// tcpEvents hides NotifyEvent from TCPConn's users.
type tcpEvents TCPConn

// NotifyEvent is called by gVisor with locks held.
func (e *tcpEvents) NotifyEvent(mask waiter.EventMask) {
	c := (*TCPConn)(e)
	ends := mask&(waiter.EventHUp|waiter.EventErr) != 0
	if ends { // first: who is woken by it may dial again
		if st := c.ep.EndpointState(); (st == tcp.StateClose || st == tcp.StateError) && c.gone.CompareAndSwap(false, true) {
			c.s.later.add(c.forget)
		}
	}
	if ends || mask&waiter.ReadableEvents != 0 {
		c.rd.wake()
	}
	if ends || mask&waiter.WritableEvents != 0 {
		c.wr.wake()
	}
}

// forget runs when the transport has nothing left of the connection.
func (c *TCPConn) forget() {
	c.s.owners.Delete(c.ep)
	c.goneMu.Lock()
	list := c.onGone
	c.onGone, c.told = nil, true
	c.goneMu.Unlock()
	for _, f := range list {
		f()
	}
}

// OnGone calls f once, on a goroutine of the stack, when the transport has forgotten the connection (after TIME-WAIT), also
// if that is now. f must not block.
func (c *TCPConn) OnGone(f func()) {
	c.goneMu.Lock()
	defer c.goneMu.Unlock()
	if c.told {
		c.s.later.add(f)
		return
	}
	c.onGone = append(c.onGone, f)
}

// refuse fails a pending dial. It makes no gVisor call.
func (c *TCPConn) refuse(cause error) {
	if c.dialing.CompareAndSwap(true, false) {
		c.life.end(cause)
	}
}

// Read implements net.Conn.
func (c *TCPConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	return n, c.opErr("read", err)
}

func (c *TCPConn) read(b []byte) (int, error) {
	c.rd.mu.Lock()
	defer c.rd.mu.Unlock()
	for {
		if err := c.rd.check(&c.life); err != nil {
			return 0, err
		}
		if len(b) == 0 {
			return 0, nil
		}
		c.dst = b
		res, err := c.ep.Read(&c.dst, tcpip.ReadOptions{})
		c.dst = nil
		switch err.(type) {
		case nil:
			c.ep.ModerateRecvBuf(res.Count) // the receive buffer's auto-tuning runs only here
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			c.rd.wait(&c.life, nil)
		case *tcpip.ErrClosedForReceive:
			// A connection that was reset must not look like one that ended.
			if p := c.fatal.Load(); p != nil {
				return 0, *p
			}
			if err := c.life.err(); err != nil {
				return 0, err
			}
			if c.ep.EndpointState() == tcp.StateError {
				return 0, c.die("read", &tcpip.ErrConnectionReset{})
			}
			return 0, io.EOF
		default:
			return 0, c.die("read", err)
		}
	}
}

// die keeps the error that ended the connection.
func (c *TCPConn) die(call string, e tcpip.Error) error {
	if err := c.life.err(); err != nil {
		return err // it ended because we ended it
	}
	err := sysErr(call, e)
	c.fatal.CompareAndSwap(nil, &err)
	return err
}

// Write implements net.Conn.
func (c *TCPConn) Write(b []byte) (int, error) {
	n, err := c.write(b)
	return n, c.opErr("write", err)
}

func (c *TCPConn) write(b []byte) (int, error) {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	defer c.src.Reset(nil)
	for done := 0; ; {
		if err := c.wr.check(&c.life); err != nil {
			return done, err
		}
		if done == len(b) {
			return done, nil
		}
		c.src.Reset(b[done:])
		n, err := c.ep.Write(&c.src, tcpip.WriteOptions{})
		done += int(n)
		switch err.(type) {
		case nil:
			if done == len(b) {
				return done, nil
			}
			if n == 0 {
				c.wr.wait(&c.life, nil)
			}
		case *tcpip.ErrWouldBlock:
			c.wr.wait(&c.life, nil)
		case *tcpip.ErrClosedForSend:
			if p := c.fatal.Load(); p != nil {
				return done, *p
			}
			if err := c.life.err(); err != nil {
				return done, err
			}
			return done, sysErr("write", err)
		default:
			return done, c.die("write", err)
		}
	}
}

// Close implements net.Conn: what was written is still sent, then FIN. Unread data make it a reset.
func (c *TCPConn) Close() error {
	if !c.life.closed.CompareAndSwap(false, true) {
		return c.opErr("close", net.ErrClosed)
	}
	c.life.end(net.ErrClosed)
	if !c.s.broken.Load() {
		c.ep.Close()
	}
	return nil
}

// CloseRead shuts down the reading side.
func (c *TCPConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

// CloseWrite shuts down the writing side: the peer reads io.EOF.
func (c *TCPConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

func (c *TCPConn) shutdown(how tcpip.ShutdownFlags) error {
	if err := c.life.err(); err != nil {
		return c.opErr("close", err)
	}
	if err := c.ep.Shutdown(how); err != nil {
		return c.opErr("close", sysErr("shutdown", err))
	}
	return nil
}

// Abort kills the connection: a reset is sent, pending and later calls return cause in a *net.OpError (net.ErrClosed for
// nil). It also ends what Close left behind: data not yet acknowledged go no further. Safe from any goroutine, not from a
// hook. The first cause stays.
func (c *TCPConn) Abort(cause error) {
	c.life.end(cause)
	if !c.s.broken.Load() {
		c.ep.Abort()
	}
}

// Flow is the connection's flow: source = local.
func (c *TCPConn) Flow() ts.Flow { return ts.MakeFlow(ts.ProtoTCP, plain(c.local), plain(c.remote)) }

// Tag is the connection's tag: the one dialled with, or the listener's until SetTag.
func (c *TCPConn) Tag() *Tag { return c.owner.tag.Load() }

// SetTag replaces the tag for all later packets, retransmissions included.
func (c *TCPConn) SetTag(tag *Tag) { c.owner.tag.Store(tag) }

// LocalAddr implements net.Conn; it is a *net.TCPAddr.
func (c *TCPConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn; it is a *net.TCPAddr.
func (c *TCPConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *TCPConn) opErr(op string, err error) error {
	if err == nil {
		return nil
	}
	return opErr(op, "tcp", c.LocalAddr(), c.RemoteAddr(), err)
}

// SetDeadline implements net.Conn.
func (c *TCPConn) SetDeadline(t time.Time) error {
	return c.set(func() error { setDeadlines(&c.rd, &c.wr, t); return nil })
}

// SetReadDeadline implements net.Conn.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	return c.set(func() error { c.rd.dl.set(t); return nil })
}

// SetWriteDeadline implements net.Conn.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	return c.set(func() error { c.wr.dl.set(t); return nil })
}

// set runs f unless the connection is closed.
func (c *TCPConn) set(f func() error) error {
	if c.life.closed.Load() || c.s.broken.Load() {
		return c.opErr("set", net.ErrClosed)
	}
	return c.opErr("set", f())
}

// SetNoDelay turns Nagle's algorithm off (the default) or on.
func (c *TCPConn) SetNoDelay(on bool) error {
	return c.set(func() error { c.ep.SocketOptions().SetDelayOption(!on); return nil })
}

// SetLinger is as net.TCPConn's: seconds < 0 the default, 0 discards unsent data and resets at Close.
func (c *TCPConn) SetLinger(seconds int) error {
	return c.set(func() error {
		c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: seconds >= 0, Timeout: time.Duration(max(seconds, 0)) * time.Second})
		return nil
	})
}

// SetKeepAlive turns keep-alive probes on or off. Other than package net's connections these start with it off: the peer's
// liveness is the keying protocol's affair.
func (c *TCPConn) SetKeepAlive(on bool) error {
	return c.set(func() error { c.ep.SocketOptions().SetKeepAlive(on); return nil })
}

// SetKeepAliveConfig is as net.TCPConn's: zero durations and count stand for 15 s, 15 s and 9, negative ones change nothing.
func (c *TCPConn) SetKeepAliveConfig(cfg net.KeepAliveConfig) error {
	return c.set(func() error {
		c.ep.SocketOptions().SetKeepAlive(cfg.Enable)
		var err tcpip.Error
		setOpt := func(o tcpip.SettableSocketOption) {
			if e := c.ep.SetSockOpt(o); e != nil {
				err = e
			}
		}
		if d := orDefault(cfg.Idle, 15*time.Second); d > 0 {
			o := tcpip.KeepaliveIdleOption(d)
			setOpt(&o)
		}
		if d := orDefault(cfg.Interval, 15*time.Second); d > 0 {
			o := tcpip.KeepaliveIntervalOption(d)
			setOpt(&o)
		}
		if n := orDefault(cfg.Count, 9); n > 0 {
			if e := c.ep.SetSockOptInt(tcpip.KeepaliveCountOption, n); e != nil {
				err = e
			}
		}
		if err != nil {
			return sysErr("setsockopt", err)
		}
		return nil
	})
}

func orDefault[T time.Duration | int](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
