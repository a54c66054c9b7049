package netstack

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/btns-go/btns/esp/ts"
)

// dgram is what UDP and ping sockets have in common: a gVisor endpoint for everything but receiving, and a receive queue in
// which each datagram keeps its tag.
type dgram struct {
	// Constant after openDgram.
	s             *Stack
	ep            tcpip.Endpoint
	tep           stack.TransportEndpoint
	local, remote netip.AddrPort // remote is invalid on an unconnected socket

	wq      waiter.Queue
	entry   waiter.Entry
	owner   owner
	life    life
	rd, wr  side
	refused atomic.Pointer[error] // by Packet.Refuse, within the write that wr.mu is held for
	failed  atomic.Bool           // gVisor may have an error for us
	src     bytes.Reader          // under wr.mu
	to      tcpip.FullAddress     // under wr.mu
	dst     tcpip.SliceWriter     // under rd.mu

	qmu    sync.Mutex
	queue  []datagram // queue[head:] waits
	head   int
	used   int
	err    error          // for the next call on a connected socket
	errTo  netip.AddrPort // for the next write to there on an unconnected one
	errFor error
	closed bool
}

// datagram is one received datagram. Its packet's data begin behind the UDP header, but at the ICMP header.
type datagram struct {
	pkt  *stack.PacketBuffer
	from netip.AddrPort
	to   netip.Addr
	tag  *Tag
	cost int
}

// openDgram makes and binds a socket, and connects it if remote is valid.
func (s *Stack) openDgram(d *dgram, proto tcpip.TransportProtocolNumber, tag *Tag, local, remote netip.AddrPort) error {
	if err := s.open(); err != nil {
		return err
	}
	defer s.openMu.RUnlock()
	np := listenProto(local.Addr())
	if remote.Addr().IsValid() {
		np = netProto(remote.Addr())
	}
	d.s, d.remote = s, remote
	d.life, d.rd, d.wr = newLife(), newSide(), newSide()
	d.owner.dgram = d
	d.owner.tag.Store(tag)
	ep, err := s.gv.NewEndpoint(proto, np, &d.wq)
	if err != nil {
		return sysErr("socket", err)
	}
	tep, ok := ep.(stack.TransportEndpoint)
	if !ok {
		ep.Close()
		return fmt.Errorf("netstack: gVisor made a %T for a datagram endpoint", ep)
	}
	d.ep, d.tep = ep, tep
	ep.SetOwner(&d.owner)
	ep.SocketOptions().SetMulticastLoop(false) // a loop inside gVisor would bypass the hooks
	// Datagrams above the inner MTU are fragmented below: DF must be clear, which also gives each its own identification
	// (RFC 6864, Section 4.1).
	if np == header.IPv4ProtocolNumber || proto == tcpip.TransportProtocolNumber(ts.ProtoUDP) {
		if err := ep.SetSockOptInt(tcpip.MTUDiscoverOption, int(tcpip.PMTUDiscoveryDont)); err != nil {
			ep.Close()
			return sysErr("setsockopt", err)
		}
	}
	s.owners.Store(tep, &d.owner) // before Bind makes it reachable
	d.entry.Init((*dgramEvents)(d), waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
	d.wq.EventRegister(&d.entry)
	err = ep.Bind(near(local))
	call := "bind"
	if err == nil && remote.Addr().IsValid() {
		call, err = "connect", ep.Connect(far(remote))
	}
	var got tcpip.FullAddress
	if err == nil {
		got, err = ep.GetLocalAddress()
	}
	if err != nil {
		d.abort(nil)
		return sysErr(call, err)
	}
	d.local = netip.AddrPortFrom(local.Addr(), got.Port)
	if a := fromAddr(got.Addr); a.IsValid() {
		d.local = netip.AddrPortFrom(a, got.Port)
	} else if !local.Addr().IsValid() {
		d.local = netip.AddrPortFrom(netip.IPv6Unspecified(), got.Port)
	}
	return nil
}

// dgramEvents hides NotifyEvent.
type dgramEvents dgram

// NotifyEvent is called by gVisor with locks held.
func (e *dgramEvents) NotifyEvent(mask waiter.EventMask) {
	d := (*dgram)(e)
	if mask&(waiter.EventErr|waiter.EventHUp) != 0 {
		d.failed.Store(true)
		d.rd.wake()
	}
	d.wr.wake()
}

// push queues a datagram; it is called from the hook. false = no room.
func (d *dgram) push(pkt *stack.PacketBuffer, from netip.AddrPort, to netip.Addr, tag *Tag) bool {
	cost := pkt.Data().Size() + datagramOverhead
	d.qmu.Lock()
	if d.closed || d.used+cost > max(d.s.cfg.UDPReceiveBuffer, cost) {
		d.qmu.Unlock()
		return false
	}
	if d.head > 0 && len(d.queue) == cap(d.queue) {
		n := copy(d.queue, d.queue[d.head:])
		clear(d.queue[n:])
		d.queue, d.head = d.queue[:n], 0
	}
	d.used += cost
	d.queue = append(d.queue, datagram{pkt: pkt.Clone(), from: from, to: to, tag: tag, cost: cost})
	d.qmu.Unlock()
	d.rd.wake()
	return true
}

// pop takes a datagram or, before it, an error out.
func (d *dgram) pop() (datagram, bool, error) {
	if d.failed.CompareAndSwap(true, false) && !d.s.broken.Load() {
		if err := d.ep.LastError(); err != nil {
			return datagram{}, false, sysErr("read", err)
		}
	}
	d.qmu.Lock()
	defer d.qmu.Unlock()
	if err := d.err; err != nil {
		d.err = nil
		return datagram{}, false, err
	}
	if d.head == len(d.queue) {
		return datagram{}, false, nil
	}
	it := d.queue[d.head]
	d.queue[d.head] = datagram{}
	d.head++
	d.used -= it.cost
	if d.head == len(d.queue) {
		d.queue, d.head = d.queue[:0], 0
		if cap(d.queue) > 1024 {
			d.queue = nil // a burst is over
		}
	}
	return it, true, nil
}

// read reads one datagram, cut to b. cancel, which may be nil, ends the wait; the caller looks why.
func (d *dgram) read(b []byte, cancel <-chan struct{}) (n int, it datagram, err error) {
	d.rd.mu.Lock()
	defer d.rd.mu.Unlock()
	for {
		if err := d.rd.check(&d.life); err != nil {
			return 0, datagram{}, err
		}
		it, ok, err := d.pop()
		switch {
		case err != nil:
			return 0, datagram{}, err
		case ok:
			n = d.copyOut(b, &it)
			it.pkt.DecRef()
			it.pkt = nil
			return n, it, nil
		}
		if isClosed(cancel) {
			return 0, datagram{}, errCancelled
		}
		d.rd.wait(&d.life, cancel)
	}
}

// copyOut copies the payload: for UDP what follows its header, for ICMP the whole message.
func (d *dgram) copyOut(b []byte, it *datagram) int {
	n := 0
	if it.pkt.TransportProtocolNumber != tcpip.TransportProtocolNumber(ts.ProtoUDP) {
		n = copy(b, it.pkt.TransportHeader().Slice())
	}
	d.dst = b[n:]
	m, _ := it.pkt.Data().ReadTo(&d.dst, true) // short for a small b: the rest is lost, as on any datagram socket
	d.dst = nil
	return n + m
}

// write sends one datagram, waiting for room in the send buffer (which held packets fill). to is the zero AddrPort on a
// connected socket; tag, if not nil, replaces the socket's for this one.
func (d *dgram) write(b []byte, to netip.AddrPort, tag *Tag) (int, error) {
	if len(b) > maxUDP {
		return 0, sysErr("write", &tcpip.ErrMessageTooLong{})
	}
	d.wr.mu.Lock()
	defer d.wr.mu.Unlock()
	defer d.src.Reset(nil)
	var opts tcpip.WriteOptions
	if to.IsValid() {
		d.to = tcpip.FullAddress{NIC: nic, Addr: d.family(to.Addr()), Port: to.Port()}
		opts.To = &d.to
	}
	if tag != nil {
		d.owner.once.Store(tag)
		defer d.owner.once.Store(nil)
	}
	for {
		if err := d.wr.check(&d.life); err != nil {
			return 0, err
		}
		if err := d.takeErr(to); err != nil {
			return 0, err
		}
		d.refused.Store(nil)
		d.src.Reset(b)
		// gVisor sends on this goroutine, down to Hooks.Output: what that refuses is known when Write returns.
		n, err := d.ep.Write(&d.src, opts)
		if p := d.refused.Load(); p != nil {
			return 0, *p
		}
		switch {
		case err == nil:
			return int(n), nil
		case isWouldBlock(err):
			d.wr.wait(&d.life, nil)
		default:
			if err := d.life.err(); err != nil {
				return 0, err
			}
			return 0, sysErr("write", err)
		}
	}
}

// family writes an IPv4 address as a dual-stack socket wants it.
func (d *dgram) family(a netip.Addr) tcpip.Address {
	if a.Is4() && (!d.local.Addr().IsValid() || d.local.Addr().Is6()) {
		return tcpip.AddrFrom16(a.As16())
	}
	return toAddr(a)
}

// takeErr is the error that waits for a write to there.
func (d *dgram) takeErr(to netip.AddrPort) (err error) {
	d.qmu.Lock()
	defer d.qmu.Unlock()
	switch {
	case d.err != nil:
		err, d.err = d.err, nil
	case d.errFor != nil && d.errTo == to:
		err, d.errFor = d.errFor, nil
	}
	return err
}

// unreachable keeps an error for the next call: any call on a connected socket; on an unconnected one a write to the same
// destination, of which the last is remembered: a server's reads must not fail for one client.
func (d *dgram) unreachable(dst netip.AddrPort, cause error) {
	d.qmu.Lock()
	if d.remote.IsValid() {
		d.err = cause
	} else {
		d.errTo, d.errFor = dst, cause
	}
	d.qmu.Unlock()
	d.rd.wake()
	d.wr.wake()
}

// abort ends the socket; what waits in the queue is dropped.
func (d *dgram) abort(cause error) {
	d.life.end(cause)
	if !d.s.broken.Load() {
		d.ep.Close()
	}
	d.s.owners.Delete(d.tep)
	d.qmu.Lock()
	d.closed = true
	queue := d.queue[d.head:]
	d.queue, d.head = nil, 0
	d.qmu.Unlock()
	for _, it := range queue {
		it.pkt.DecRef()
	}
}

// close is abort on behalf of the holder.
func (d *dgram) close() error {
	if !d.life.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	d.abort(net.ErrClosed)
	return nil
}
