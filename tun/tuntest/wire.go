package tuntest

import (
	"net"
	"net/netip"

	"github.com/btns-go/btns/tun"
)

// wireBatch is what Caps reports.
const wireBatch = 64

// A Wire is a tun.Wire on a Net.
type Wire struct {
	net    *Net
	addrs  []netip.AddrPort
	native bool
	q      *queue
	turn   chan struct{} // held by the one Receive at work
	count  tun.Counters

	overtaken *datagram // under Net.mu: waits for the next one to pass
}

var _ tun.Wire = (*Wire)(nil)

// Addr returns the wire's first address and port.
func (w *Wire) Addr() netip.AddrPort { return w.addrs[0] }

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
	select {
	case w.turn <- struct{}{}:
	case <-w.q.done:
		return 0, net.ErrClosed
	}
	defer func() { <-w.turn }()
	for n == 0 {
		bytes := 0
		err := w.q.take(func(d *datagram) bool {
			if w.accept(&pkts[n], d) {
				bytes += pkts[n].Len
				n++
			}
			return n < len(pkts)
		})
		if err != nil {
			return 0, err
		}
		w.count.Received(n, bytes)
	}
	return n, nil
}

// accept turns a datagram into a packet.
func (w *Wire) accept(p *tun.Packet, d *datagram) bool {
	p.Path = tun.Path{Local: d.dst, Remote: d.src}
	if !p.Path.Plausible() {
		w.count.Drop(tun.DropSource)
		return false
	}
	p.ECN = d.ecn
	skip := 0
	if p.Path.Native() {
		p.Kind = tun.KindESP
	} else {
		var drop tun.Drop
		if p.Kind, skip, drop = tun.Classify(p.Path, d.data); p.Kind == tun.KindInvalid {
			w.count.Drop(drop)
			return false
		}
	}
	if !fits(p, len(d.data)-skip) {
		w.count.Drop(tun.DropTruncated)
		return false
	}
	copy(p.Data(), d.data[skip:])
	return true
}

// Send implements tun.Wire.
func (w *Wire) Send(pkts []tun.Packet) (n int, err error) {
	select {
	case <-w.q.done:
		return 0, net.ErrClosed
	default:
	}
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	bytes := 0
	for n = range pkts {
		if err = w.send(&pkts[n]); err != nil {
			w.count.Drop(tun.DropSend)
			w.count.Sent(n, bytes)
			return n, err
		}
		bytes += pkts[n].Len
	}
	w.count.Sent(len(pkts), bytes)
	return len(pkts), nil
}

func (w *Wire) send(p *tun.Packet) error {
	src, ok := w.source(p.Path)
	if ok && w.native && p.Path.Native() && p.Kind == tun.KindESP {
		data := p.Data()
		if len(data) == 0 {
			return tun.ErrPacket
		}
		w.net.transmit(datagram{src: netip.AddrPortFrom(src.Addr(), 0), dst: p.Path.Remote, ecn: p.ECN & 3, data: data})
		return nil
	}
	q := *p
	if ok {
		q.Path.Local = src
	}
	marker, err := q.CheckSend()
	if err != nil {
		return err
	}
	if !ok {
		return tun.ErrPath
	}
	data := p.Data()
	if marker {
		data = append(make([]byte, tun.MarkerLen, tun.MarkerLen+len(data)), data...)
	}
	if len(data) > tun.MaxPacket-48 {
		return tun.ErrTooBig
	}
	w.net.transmit(datagram{src: src, dst: p.Path.Remote, ecn: p.ECN & 3, data: data})
	return nil
}

// source returns the address of ours from which a packet on p leaves.
func (w *Wire) source(p tun.Path) (netip.AddrPort, bool) {
	if !p.Remote.IsValid() {
		return netip.AddrPort{}, false
	}
	for _, ap := range w.addrs {
		if ap.Addr().Is4() != p.Remote.Addr().Is4() ||
			p.Local.Port() != 0 && p.Local.Port() != ap.Port() ||
			p.Local.Addr().IsValid() && !p.Local.Addr().IsUnspecified() && p.Local.Addr() != ap.Addr() {
			continue
		}
		return ap, true
	}
	return netip.AddrPort{}, false
}

// LocalAddr implements tun.Wire.
func (w *Wire) LocalAddr(remote netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ap := range w.addrs {
		if !remote.IsValid() || ap.Addr().Is4() == remote.Unmap().Is4() {
			out = append(out, ap)
		}
	}
	return out
}

// Caps implements tun.Wire.
func (w *Wire) Caps() tun.Caps {
	c := tun.Caps{NativeESP: w.native, MTU: 1500, Batch: wireBatch}
	for _, ap := range w.addrs {
		c.Ports = append(c.Ports, ap.Port())
	}
	return c
}

// Stats implements tun.Wire.
func (w *Wire) Stats() tun.Stats { return w.count.Snapshot() }

// Close implements tun.Wire.
func (w *Wire) Close() error {
	if !w.q.close() {
		return net.ErrClosed
	}
	w.net.remove(w)
	return nil
}
