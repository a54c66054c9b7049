package outer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/tun"
)

// Send implements tun.Wire.
func (w *Wire) Send(pkts []tun.Packet) (n int, err error) {
	if w.closed.Load() {
		return 0, net.ErrClosed
	}
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	bytes := 0
	for n = range pkts {
		if err = w.send(&pkts[n]); err != nil {
			err = w.closedErr(err)
			w.count.Drop(tun.DropSend)
			w.count.Sent(n, bytes)
			return n, err
		}
		bytes += pkts[n].Len
	}
	w.count.Sent(len(pkts), bytes)
	return len(pkts), nil
}

// send puts headers in front of one packet and sends it.
func (w *Wire) send(p *tun.Packet) error {
	if p.Len > tun.MaxPacket && p.Data() != nil {
		return tun.ErrTooBig
	}
	path, ok := w.complete(p.Path)
	native := ok && p.Kind == tun.KindESP && path.Native()
	if native {
		if len(p.Data()) == 0 {
			return tun.ErrPacket
		}
		buf, off := w.room(p)
		return w.emit(buf, off, p.Len, path.Local.Addr(), path.Remote.Addr(), protoESP, p.ECN&3)
	}
	q := *p
	if ok {
		q.Path = path
	}
	marker, err := q.CheckSend()
	if err != nil {
		return err
	}
	if !ok {
		return tun.ErrPath
	}
	buf, off := w.room(p)
	n := p.Len
	if marker {
		off, n = off-tun.MarkerLen, n+tun.MarkerLen
		clear(buf[off : off+tun.MarkerLen])
	}
	off, n = off-udpLen, n+udpLen
	if n > tun.MaxPacket {
		return tun.ErrTooBig
	}
	u := buf[off : off+n]
	binary.BigEndian.PutUint16(u, path.Local.Port())
	binary.BigEndian.PutUint16(u[2:], path.Remote.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	u[6], u[7] = 0, 0
	if p.Kind == tun.KindIKE || !path.Remote.Addr().Is4() {
		// ESP in IPv4 has its ICV and goes without: RFC 3948, Section 2.1.
		c := ^fold(sum(pseudo(path.Local.Addr(), path.Remote.Addr(), protoUDP, n), u))
		if c == 0 {
			c = 0xFFFF
		}
		binary.BigEndian.PutUint16(u[6:], c)
	}
	return w.emit(buf, off, n, path.Local.Addr(), path.Remote.Addr(), protoUDP, p.ECN&3)
}

// complete fills in the local end of a path, and reports whether the wire has it.
func (w *Wire) complete(p tun.Path) (tun.Path, bool) {
	remote := p.Remote.Addr().Unmap().WithZone("")
	if !remote.IsValid() {
		return p, false
	}
	local := p.Local.Addr()
	switch {
	case !local.IsValid() || local.IsUnspecified():
		if local = w.source(remote); !local.IsValid() {
			return p, false
		}
	case !w.own(local) || local.Is4() != remote.Is4():
		return p, false
	}
	port := p.Local.Port()
	switch {
	case p.Native():
	case port != 0:
		if !slices.Contains(w.ports, port) {
			return p, false
		}
	case slices.Contains(w.ports, p.Remote.Port()):
		port = p.Remote.Port()
	case slices.Contains(w.ports, tun.PortNATT):
		port = tun.PortNATT
	default:
		port = w.ports[0]
	}
	return tun.Path{Local: netip.AddrPortFrom(local, port), Remote: netip.AddrPortFrom(remote, p.Remote.Port())}, true
}

// room returns a buffer with the packet at off and at least tun.WireRoom in front of it:
// the packet's own, or a copy.
func (w *Wire) room(p *tun.Packet) (buf []byte, off int) {
	if p.Off >= tun.WireRoom {
		return p.Buf, p.Off
	}
	copy(w.out.scratch[tun.WireRoom:], p.Data())
	return w.out.scratch, tun.WireRoom
}

// emit sends buf[off:off+n] as the payload of an IP packet, in fragments if it has to be.
// There is room in front of off for the IP header and the TUN library's.
func (w *Wire) emit(buf []byte, off, n int, src, dst netip.Addr, proto, ecn uint8) error {
	is4, head := src.Is4(), ip6Len
	if is4 {
		head = ip4Len
	}
	switch {
	case head+n <= w.mtu:
		start := off - head
		if is4 {
			frag := uint16(0)
			if w.dontFragment {
				frag = 0x4000
			}
			put4(buf[start:], src, dst, proto, ecn, n, w.nextID(), frag)
		} else {
			put6(buf[start:], src, dst, proto, ecn, n)
		}
		return w.write(buf[start-offloadRoom : off+n : off+n])
	case w.dontFragment:
		return tun.ErrTooBig
	case is4 && head+n > tun.MaxPacket, n > tun.MaxPacket:
		return tun.ErrTooBig
	}
	return w.fragment(buf[off:off+n], src, dst, proto, ecn)
}

// fragment sends a payload in parts (RFC 791, Section 3.2; RFC 8200, Section 4.5).
func (w *Wire) fragment(payload []byte, src, dst netip.Addr, proto, ecn uint8) error {
	is4, head := src.Is4(), ip6Len+fragmentLen
	if is4 {
		head = ip4Len
	}
	size := (w.mtu - head) &^ 7
	id := w.nextID()
	for at := 0; at < len(payload); at += size {
		part := payload[at:min(at+size, len(payload))]
		more := uint16(0)
		if at+size < len(payload) {
			more = 1
		}
		b := w.out.piece[:offloadRoom+head+len(part)]
		ip := b[offloadRoom:]
		if is4 {
			put4(ip, src, dst, proto, ecn, len(part), id, more<<13|uint16(at/8))
		} else {
			put6(ip, src, dst, protoFragment, ecn, fragmentLen+len(part))
			f := ip[ip6Len:]
			f[0], f[1] = proto, 0
			binary.BigEndian.PutUint16(f[2:], uint16(at)|more)
			binary.BigEndian.PutUint32(f[4:], id)
		}
		copy(ip[head:], part)
		if err := w.write(b); err != nil {
			return err
		}
	}
	return nil
}

// nextID returns the number of a packet that may be fragmented. It need not be unguessable,
// since what belongs together is proved by IKE and ESP, but it must not repeat soon.
func (w *Wire) nextID() uint32 {
	w.out.id++
	return w.out.id
}

// write hands one packet to the device, behind the room for its library.
func (w *Wire) write(b []byte) error {
	w.out.one[0] = b
	_, err := w.dev.Write(w.out.one[:], offloadRoom)
	w.out.one[0] = nil
	return err
}
