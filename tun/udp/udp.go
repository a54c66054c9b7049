// Package udp is the wire that needs no privilege: UDP sockets, with IKE and ESP-in-UDP on
// them (RFC 3948; RFC 7296, Section 2.23).
//
// # What it does
//
// Each local address is one socket; a packet leaves from the socket that Path.Local names.
// The address that a packet was sent to is known (IP_PKTINFO, IPV6_PKTINFO) and answers
// leave from it, which NAT detection and multi-homed hosts rely on. The non-ESP marker is
// added and stripped, keepalives are dropped. ECN of the outer header is read and set.
//
// On Linux batches go through sendmmsg and recvmmsg; where the kernel has them, equal-sized
// ESP packets of one path leave as one UDP GSO message and arrive through GRO. Elsewhere a plain
// implementation sends and receives one by one, knows the local address only by asking for
// the route, and leaves ECN alone.
//
// # Ownership and concurrency
//
// As package tun says. Sends on different sockets run in parallel. There is no allocation
// per packet in steady state.
//
// # Fragmentation
//
// DF is clear by default and the kernel fragments what exceeds the MTU of the interface, so
// that large ESP packets pass on loopback and on a LAN, and no spoofed ICMP message can
// make a path too small. Config.DontFragment is for those who find out the path MTU.
//
// # Limits
//
// The wire queues nothing but what one system call brought through GRO and the caller had
// no slot for; limits.go has the numbers.
package udp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/btns-go/btns/tun"
)

// Config says where a Wire listens. The zero value means one socket on any free port, for
// IPv4 and IPv6. It must not be changed after use.
type Config struct {
	// Addrs are the local addresses, one socket each. Port 0 means any free port. An
	// AddrPort with no address, or with ::, takes both families where the host has both;
	// 0.0.0.0 takes IPv4 alone.
	Addrs []netip.AddrPort
	// MTU is what Caps reports as the largest outer IP packet; 0 means 1500.
	MTU int
	// DontFragment sets DF on everything and refuses what exceeds the interface's MTU.
	// The default leaves DF clear and lets the kernel fragment.
	DontFragment bool
	// NoOffload keeps the kernel from splitting what is sent (UDP GSO) and joining what is
	// received (UDP GRO), which it does by default where it can. With GRO, received packets
	// may be parts of one buffer.
	NoOffload bool
	// Opaque makes the wire look at nothing, for those who pass on other people's datagrams:
	// every one of them is a packet of KindESP, also keepalives and markers.
	Opaque bool
	// SocketBuffer is the size in bytes to which the kernel's buffers are raised where it
	// allows that; 0 means 7 MiB, less than 0 leaves them alone.
	SocketBuffer int
	// Log gets what is worth a line at start-up; nil discards it.
	Log *slog.Logger
}

// A Wire is a tun.Wire over UDP sockets.
type Wire struct {
	// Constant after Listen.
	socks []*socket
	in    receiver
	caps  tun.Caps
	log   *slog.Logger
	// classify judges a received datagram.
	classify func(p tun.Path, b []byte) (tun.Kind, int, tun.Drop)

	count  tun.Counters
	closed atomic.Bool
}

var _ tun.Wire = (*Wire)(nil)

// A socket is one local address.
type socket struct {
	conn   *net.UDPConn
	bound  netip.AddrPort // the address may be unspecified
	v4, v6 bool           // the families it reaches
	out    sender
}

// A receiver reads from all sockets of a wire. It is called by one goroutine at a time or
// serves one at a time.
type receiver interface {
	receive(pkts []tun.Packet) (n, bytes int, err error)
	// close is called after the sockets are closed and waits for what the receiver started.
	close()
}

// A sender sends a run of packets, which CheckSend accepted, from one socket.
// It returns how many it sent, and why not the next one. It is safe for concurrent use.
type sender interface {
	send(pkts []tun.Packet) (n int, err error)
}

// Listen opens the sockets. Its errors are of type *ListenError.
func Listen(cfg Config) (*Wire, error) { return listen(cfg, false) }

// listen opens the sockets, with the plain implementation if that is asked for.
func listen(cfg Config, plain bool) (*Wire, error) {
	addrs := cfg.Addrs
	if len(addrs) == 0 {
		addrs = []netip.AddrPort{{}}
	}
	w := &Wire{log: cfg.Log, caps: tun.Caps{MTU: cfg.MTU, Batch: batchSize}, classify: classify}
	if cfg.Opaque {
		w.classify = opaque
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.caps.MTU <= 0 {
		w.caps.MTU = defaultMTU
	}
	for _, ap := range addrs {
		s, err := openSocket(ap, &cfg)
		if err != nil {
			return nil, &ListenError{Addr: ap, Err: errors.Join(err, w.closeSockets())}
		}
		w.socks = append(w.socks, s)
		w.caps.Ports = append(w.caps.Ports, s.bound.Port())
	}
	if err := w.start(&cfg, plain); err != nil {
		return nil, &ListenError{Addr: addrs[0], Err: errors.Join(err, w.closeSockets())}
	}
	for _, s := range w.socks {
		w.log.Debug("listening", "wire", "udp", "addr", s.bound)
	}
	return w, nil
}

// start makes the receiver and the senders.
func (w *Wire) start(cfg *Config, plain bool) error {
	if !plain {
		if ok, err := w.startFast(cfg); ok || err != nil {
			return err
		}
	}
	w.startPlain()
	return nil
}

// openSocket opens one socket and raises its buffers.
func openSocket(ap netip.AddrPort, cfg *Config) (*socket, error) {
	network, address := "udp", ap.String()
	switch a := ap.Addr(); {
	case !a.IsValid(), a == netip.IPv6Unspecified():
		// Package net opens both families for this, or the one that the host has.
		address = netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port()).String()
	case a.Unmap().Is4():
		network, address = "udp4", netip.AddrPortFrom(a.Unmap(), ap.Port()).String()
	default:
		network = "udp6"
	}
	lc := net.ListenConfig{}
	pc, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil && !ap.Addr().IsValid() && network == "udp" {
		// A host without IPv6.
		pc, err = lc.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port()).String())
	}
	if err != nil {
		return nil, err
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.ErrUnsupported, pc.Close())
	}
	s := &socket{conn: conn, bound: localOf(conn)}
	a := s.bound.Addr()
	s.v4 = a.Is4() || network == "udp" && a.IsUnspecified()
	s.v6 = !a.Is4()
	size := cfg.SocketBuffer
	if size == 0 {
		size = socketBuffer
	}
	if size > 0 {
		// As much as the host allows; less costs speed, not correctness.
		_ = conn.SetReadBuffer(size)
		_ = conn.SetWriteBuffer(size)
	}
	return s, nil
}

// localOf returns the address that a socket is bound to, never IPv4-mapped.
func localOf(conn *net.UDPConn) netip.AddrPort {
	ua, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := ua.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Receive implements tun.Wire.
func (w *Wire) Receive(pkts []tun.Packet) (n int, err error) {
	if len(pkts) == 0 {
		return 0, nil
	}
	for i := range pkts {
		if len(pkts[i].Buf) < tun.Headroom {
			return 0, tun.ErrPacket
		}
	}
	for n == 0 {
		var bytes int
		n, bytes, err = w.in.receive(pkts)
		if w.closed.Load() {
			return 0, net.ErrClosed
		}
		if err != nil {
			return 0, err
		}
		w.count.Received(n, bytes)
	}
	return n, nil
}

// Send implements tun.Wire. Packets that go to different sockets leave in order, too.
func (w *Wire) Send(pkts []tun.Packet) (n int, err error) {
	bytes := 0
	for n < len(pkts) && err == nil {
		var s *socket
		var k, end int
		if s, err = w.check(&pkts[n]); err == nil {
			for end = n + 1; end < len(pkts); end++ {
				if next, bad := w.check(&pkts[end]); bad != nil || next != s {
					break
				}
			}
			k, err = s.out.send(pkts[n:end])
		}
		for i := n; i < n+k; i++ {
			bytes += pkts[i].Len
		}
		n += k
	}
	if w.closed.Load() {
		return n, net.ErrClosed
	}
	w.count.Sent(n, bytes)
	if err != nil {
		w.count.Drop(tun.DropSend)
	}
	return n, err
}

// check returns the socket from which p leaves.
func (w *Wire) check(p *tun.Packet) (*socket, error) {
	s := w.choose(p.Path)
	path := p.Path
	if s != nil {
		path.Local = netip.AddrPortFrom(path.Local.Addr(), s.bound.Port())
	}
	q := tun.Packet{Buf: p.Buf, Off: p.Off, Len: p.Len, Kind: p.Kind, Path: path}
	if _, err := q.CheckSend(); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, tun.ErrPath
	}
	if p.Len > maxPayload {
		return nil, tun.ErrTooBig
	}
	return s, nil
}

// choose returns the socket for a path, nil if there is none. Without a local port, the
// socket with the same port as the remote end comes first, so that 500 speaks to 500.
func (w *Wire) choose(p tun.Path) *socket {
	if len(w.socks) == 1 {
		if s := w.socks[0]; s.fits(p) {
			return s
		}
		return nil
	}
	var first *socket
	for _, s := range w.socks {
		if !s.fits(p) {
			continue
		}
		if p.Local.Port() != 0 || s.bound.Port() == p.Remote.Port() {
			return s
		}
		if first == nil {
			first = s
		}
	}
	return first
}

// fits reports whether s can send on p.
func (s *socket) fits(p tun.Path) bool {
	if port := p.Local.Port(); port != 0 && port != s.bound.Port() {
		return false
	}
	remote := p.Remote.Addr()
	if is4 := remote.Is4() || remote.Is4In6(); is4 && !s.v4 || !is4 && !s.v6 {
		return false
	}
	local := p.Local.Addr()
	return !local.IsValid() || local.IsUnspecified() || s.bound.Addr().IsUnspecified() || local == s.bound.Addr()
}

// LocalAddr implements tun.Wire. It asks the kernel for its route to remote; no packet is sent.
func (w *Wire) LocalAddr(remote netip.Addr) []netip.AddrPort {
	remote = remote.Unmap()
	var source netip.Addr
	if remote.IsValid() {
		source = routeSource(remote)
	}
	var out []netip.AddrPort
	for _, s := range w.socks {
		a := s.bound.Addr()
		switch {
		case !remote.IsValid():
		case !s.fits(tun.Path{Remote: netip.AddrPortFrom(remote, 1)}):
			continue
		case a.IsUnspecified():
			if a = source; !a.IsValid() {
				continue
			}
		}
		out = append(out, netip.AddrPortFrom(a, s.bound.Port()))
	}
	return out
}

// routeSource returns the address from which the host would send to remote, or none.
func routeSource(remote netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, 9)))
	if err != nil {
		return netip.Addr{}
	}
	a := localOf(conn).Addr()
	_ = conn.Close() // it was never used
	return a
}

// Caps implements tun.Wire.
func (w *Wire) Caps() tun.Caps {
	c := w.caps
	c.Ports = append([]uint16(nil), c.Ports...)
	return c
}

// Stats implements tun.Wire.
func (w *Wire) Stats() tun.Stats { return w.count.Snapshot() }

// Close implements tun.Wire.
func (w *Wire) Close() error {
	if w.closed.Swap(true) {
		return net.ErrClosed
	}
	err := w.closeSockets()
	w.in.close()
	return err
}

func (w *Wire) closeSockets() error {
	var errs []error
	for _, s := range w.socks {
		errs = append(errs, s.conn.Close())
	}
	return errors.Join(errs...)
}
