package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/sockets/config"
)

const (
	// maxFlows bounds the connections and UDP conversations of one forward.
	maxFlows = 4096
	// udpIdle ends a UDP conversation that went quiet.
	udpIdle = 2 * time.Minute
	// maxWaiting bounds the datagrams of one source that wait while its destination is
	// dialled.
	maxWaiting = 16
	// minCopy is what one direction of a connection takes at once at first, maxCopy what it
	// takes in the end if so much keeps coming.
	minCopy, maxCopy = 8 << 10, 256 << 10
	// maxDatagram is the largest UDP payload there is.
	maxDatagram = 65507
)

// A side is where a forward listens or where it goes.
type side struct {
	listen       func(network, addr string) (net.Listener, error)
	listenPacket func(network, addr string) (packetConn, error)
	dial         func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A packetConn is what package net's UDP socket and ours have in common.
type packetConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// machine is the side of this machine's own network.
func machine() side {
	var d net.Dialer
	return side{
		listen: net.Listen,
		listenPacket: func(network, addr string) (packetConn, error) {
			a, err := net.ResolveUDPAddr(network, addr)
			if err != nil {
				return nil, err
			}
			return net.ListenUDP(network, a)
		},
		dial: d.DialContext,
	}
}

// tunnels is the side of the host's addresses inside the tunnels.
func tunnels(st *sockets.Stack) side {
	return side{
		listen: st.Listen,
		listenPacket: func(network, addr string) (packetConn, error) {
			return st.ListenPacket(network, addr)
		},
		dial: st.DialContext,
	}
}

// A forwarder is a forward at work. Closing it ends its flows.
type forwarder struct {
	config.Forward
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	port   io.Closer // a net.Listener or a packetConn
	slots  chan struct{}
}

// take takes a forward's port. Who comes waits for serve.
func take(f config.Forward, from side, log *slog.Logger) (*forwarder, error) {
	fw := &forwarder{Forward: f, log: log, slots: make(chan struct{}, maxFlows)}
	var err error
	if f.Network == "udp" {
		fw.port, err = from.listenPacket(f.Network, f.Listen)
	} else {
		fw.port, err = from.listen(f.Network, f.Listen)
	}
	if err != nil {
		return nil, err
	}
	fw.ctx, fw.cancel = context.WithCancel(context.Background())
	return fw, nil
}

// serve takes flows to the other side until the forwarder is closed.
func (f *forwarder) serve(to side, wg *sync.WaitGroup) {
	f.dial = to.dial
	switch port := f.port.(type) {
	case net.Listener:
		wg.Go(func() { f.tcp(port, wg) })
	case packetConn:
		wg.Go(func() { f.udp(port, wg) })
	}
}

// Close gives the port back and ends all flows.
func (f *forwarder) Close() error {
	f.cancel()
	return f.port.Close()
}

func (f *forwarder) tcp(l net.Listener, wg *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if err != nil {
			if f.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			f.log.Warn("accept", "listen", f.Listen, "error", err)
			if !f.pause(100 * time.Millisecond) {
				return
			}
			continue
		}
		select {
		case f.slots <- struct{}{}:
		default:
			f.log.Warn("too many connections", "listen", f.Listen, "limit", maxFlows)
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-f.slots }()
			f.splice(c)
		})
	}
}

// pause waits; false: the forward is closed.
func (f *forwarder) pause(d time.Duration) bool {
	select {
	case <-f.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// splice joins an accepted connection to its destination until both directions ended.
func (f *forwarder) splice(a net.Conn) {
	defer a.Close()
	b, err := f.dial(f.ctx, f.Network, f.To)
	if err != nil {
		f.log.Warn("forward", "from", a.RemoteAddr().String(), "to", f.To, "error", err)
		reset(a)
		return
	}
	defer b.Close()
	stop := context.AfterFunc(f.ctx, func() { _, _ = a.Close(), b.Close() })
	defer stop()
	keepAlive(a)
	keepAlive(b)
	var wg sync.WaitGroup
	wg.Go(func() { pipe(a, b) })
	pipe(b, a)
	wg.Wait()
}

// keepAlive lets a connection end whose other end is gone without a word: nobody else
// would give its slot back.
func keepAlive(c net.Conn) {
	if k, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		_ = k.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
	}
}

// pipe copies from one connection to another and passes on the end, or the failure. Its
// buffer grows as it is filled: there may be thousands of connections, and few need much.
func pipe(to, from net.Conn) {
	buf := make([]byte, minCopy)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, failed := to.Write(buf[:n]); failed != nil {
				err = failed
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if w, ok := to.(interface{ CloseWrite() error }); ok {
				_ = w.CloseWrite()
			}
			return
		case err != nil:
			reset(to)
			reset(from)
			return
		case n == len(buf) && n < maxCopy:
			buf = make([]byte, 2*n)
		}
	}
}

// reset closes a connection so that its other end sees that something was lost.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

// A conversation is what one source of datagrams and the destination have to say.
type conversation struct {
	mu      sync.Mutex
	out     net.Conn  // nil until it is dialled
	waiting [][]byte  // for that
	quiet   time.Time // when it will have been quiet for udpIdle
	ended   bool
}

// say passes a datagram on, or keeps it until the destination is dialled. It reports false if
// the conversation has ended.
func (c *conversation) say(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return false
	case c.out != nil:
		_, _ = c.out.Write(b)
		c.listen()
	case len(c.waiting) < maxWaiting:
		c.waiting = append(c.waiting, bytes.Clone(b))
	}
	return true
}

// listen begins the wait for an answer, or for the next one.
func (c *conversation) listen() {
	c.quiet = time.Now().Add(udpIdle)
	_ = c.out.SetReadDeadline(c.quiet)
}

// heard goes on with the conversation after an answer.
func (c *conversation) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listen()
}

// end ends the conversation because of an error, but not because it has been quiet if
// something was said just then.
func (c *conversation) end(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(c.quiet)
	return c.ended
}

// dialled passes on what has waited.
func (c *conversation) dialled(out net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.waiting {
		_, _ = out.Write(b)
	}
	c.out, c.waiting = out, nil
	c.listen()
}

// udp gives each source a conversation of its own. Dialling may take its time, where the
// destination is a name: that keeps nobody else waiting.
func (f *forwarder) udp(in packetConn, wg *sync.WaitGroup) {
	var mu sync.Mutex
	flows := map[netip.AddrPort]*conversation{}
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := in.ReadFromUDPAddrPort(buf)
		if err != nil {
			if f.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// An ICMP error of an earlier answer; what stays wrong must not keep a core busy.
			if !f.pause(time.Millisecond) {
				return
			}
			continue
		}
		mu.Lock()
		c := flows[from]
		full := c == nil && len(flows) >= maxFlows
		mu.Unlock()
		if full || c != nil && c.say(buf[:n]) {
			continue
		}
		c = new(conversation)
		c.say(buf[:n])
		mu.Lock()
		flows[from] = c
		mu.Unlock()
		wg.Go(func() {
			f.converse(in, from, c)
			mu.Lock()
			if flows[from] == c {
				delete(flows, from)
			}
			mu.Unlock()
		})
	}
}

// converse dials the destination and brings its answers back.
func (f *forwarder) converse(in packetConn, from netip.AddrPort, c *conversation) {
	out, err := f.dial(f.ctx, f.Network, f.To)
	if err != nil {
		f.log.Warn("forward", "from", from.String(), "to", f.To, "error", err)
		c.end(err)
		return
	}
	c.dialled(out)
	f.answers(in, from, c, out)
}

// answers brings a conversation's answers back until both sides are quiet.
func (f *forwarder) answers(in packetConn, to netip.AddrPort, c *conversation, out net.Conn) {
	defer out.Close()
	stop := context.AfterFunc(f.ctx, func() { _ = out.Close() })
	defer stop()
	buf := make([]byte, maxDatagram)
	for {
		n, err := out.Read(buf)
		if err != nil {
			if c.end(err) {
				return
			}
			continue
		}
		c.heard()
		if _, err := in.WriteToUDPAddrPort(buf[:n], to); err != nil && errors.Is(err, net.ErrClosed) {
			return
		}
	}
}
