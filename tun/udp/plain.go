package udp

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/btns-go/btns/tun"
)

// startPlain sets w up with one reading goroutine per socket and package net's calls.
func (w *Wire) startPlain() {
	r := &plainReceiver{w: w, full: make(chan *plainBuf), done: make(chan struct{})}
	w.in = r
	for _, s := range w.socks {
		s.out = &plainSender{s: s}
		r.wg.Go(func() { r.read(s) })
	}
}

// A plainBuf is one datagram, lent by a reading goroutine until it is sent back.
type plainBuf struct {
	data   []byte
	local  netip.AddrPort
	remote netip.AddrPort
	err    error
	free   chan struct{} // a token means that the goroutine has it back
}

// A plainReceiver collects datagrams from one goroutine per socket. It copies each.
type plainReceiver struct {
	w    *Wire
	full chan *plainBuf
	done chan struct{}
	wg   sync.WaitGroup
}

func (r *plainReceiver) read(s *socket) {
	b := &plainBuf{free: make(chan struct{}, 1)}
	buf := make([]byte, tun.MaxPacket)
	var routes routeCache
	for {
		n, remote, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil && transient(err) {
			continue
		}
		b.data, b.err = buf[:n], err
		b.remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
		b.local = s.bound
		if err == nil && s.bound.Addr().IsUnspecified() {
			b.local = netip.AddrPortFrom(routes.source(b.remote.Addr(), time.Now()), s.bound.Port())
		}
		select {
		case r.full <- b:
			<-b.free
		case <-r.done:
			return
		}
	}
}

func (r *plainReceiver) receive(pkts []tun.Packet) (n, bytes int, err error) {
	for n == 0 {
		select {
		case b := <-r.full:
			err = b.err
			if err == nil && r.accept(b, &pkts[0]) {
				n, bytes = 1, pkts[0].Len
			}
			b.free <- struct{}{}
		case <-r.done:
			err = net.ErrClosed
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return n, bytes, nil
}

func (r *plainReceiver) accept(b *plainBuf, p *tun.Packet) bool {
	p.Path = tun.Path{Local: b.local, Remote: b.remote}
	p.ECN = tun.ECNNotECT
	kind, skip, drop := r.w.classify(p.Path, b.data)
	if kind == tun.KindInvalid {
		r.w.count.Drop(drop)
		return false
	}
	data := b.data[skip:]
	if len(data) > len(p.Buf)-tun.Headroom {
		r.w.count.Drop(tun.DropTruncated)
		return false
	}
	p.Kind, p.Off, p.Len = kind, tun.Headroom, len(data)
	p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
	copy(p.Data(), data)
	return true
}

func (r *plainReceiver) close() {
	close(r.done)
	r.wg.Wait()
}

// classify judges source and content of one datagram.
func classify(p tun.Path, b []byte) (kind tun.Kind, skip int, drop tun.Drop) {
	if !p.Plausible() {
		return tun.KindInvalid, 0, tun.DropSource
	}
	return tun.Classify(p, b)
}

// opaque takes everything that an answer can be sent to.
func opaque(p tun.Path, b []byte) (kind tun.Kind, skip int, drop tun.Drop) {
	if !p.Plausible() {
		return tun.KindInvalid, 0, tun.DropSource
	}
	if len(b) == 0 {
		return tun.KindInvalid, 0, tun.DropShort
	}
	return tun.KindESP, 0, tun.DropUnset
}

// A plainSender sends one packet at a time. The kernel chooses the source address.
type plainSender struct {
	s  *socket
	mu sync.Mutex
	// marked is room for an IKE datagram behind its marker.
	marked []byte
}

func (o *plainSender) send(pkts []tun.Packet) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range pkts {
		p := &pkts[i]
		data := p.Data()
		if p.Kind == tun.KindIKE && tun.Marked(o.s.bound.Port(), p.Path.Remote.Port()) {
			o.marked = append(append(o.marked[:0], 0, 0, 0, 0), data...)
			data = o.marked
		}
		if _, err := o.s.conn.WriteToUDPAddrPort(data, p.Path.Remote); err != nil {
			return i, err
		}
	}
	return len(pkts), nil
}

// A routeCache remembers from which address the host would send to others.
type routeCache struct {
	m map[netip.Addr]routeEntry
}

type routeEntry struct {
	source netip.Addr
	until  time.Time
}

func (c *routeCache) source(remote netip.Addr, now time.Time) netip.Addr {
	if e, ok := c.m[remote]; ok && now.Before(e.until) {
		return e.source
	}
	if c.m == nil || len(c.m) >= routeCacheSize {
		c.m = make(map[netip.Addr]routeEntry)
	}
	e := routeEntry{source: routeSource(remote), until: now.Add(routeCacheLife)}
	c.m[remote] = e
	return e.source
}
