package outer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/btns-go/btns/tun"
)

// input is the state of Receive.
type input struct {
	mu    sync.Mutex // held by the one Receive at work
	bufs  [][]byte   // what the device reads into
	sizes []int
	parts assembler

	// Packets read into our own buffers, because the caller's were too few or too small,
	// that have not been looked at: own[next:count].
	own         [][]byte
	ownSizes    []int
	next, count int
}

func (in *input) init(w *Wire) {
	in.bufs = make([][]byte, w.batch)
	in.sizes = make([]int, w.batch)
}

// Receive implements tun.Wire. It saves a copy if there are at least Caps().Batch packets
// and their buffers are large enough for the MTU.
func (w *Wire) Receive(pkts []tun.Packet) (n int, err error) {
	if len(pkts) == 0 {
		return 0, nil
	}
	direct := len(pkts) >= w.batch
	for i := range pkts {
		if len(pkts[i].Buf) < tun.Headroom {
			return 0, tun.ErrPacket
		}
		if i < w.batch && len(pkts[i].Buf)-tun.Headroom < w.mtu {
			direct = false
		}
	}
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	for n == 0 && err == nil {
		if w.closed.Load() {
			return 0, net.ErrClosed
		}
		var bytes int
		if direct && w.in.next == w.in.count {
			n, bytes, err = w.readDirect(pkts)
		} else {
			n, bytes, err = w.readOwn(pkts)
		}
		w.count.Received(n, bytes)
	}
	return n, err
}

// readDirect reads into the packets' buffers and sorts out what is for us.
func (w *Wire) readDirect(pkts []tun.Packet) (n, bytes int, err error) {
	in := &w.in
	for i := range in.bufs {
		b := pkts[i].Buf
		in.bufs[i] = b[:len(b):len(b)]
	}
	k, err := w.dev.Read(in.bufs, in.sizes, tun.Headroom)
	clear(in.bufs) // the caller's memory is not ours any more
	if err != nil && k <= 0 {
		return 0, 0, w.closedErr(err)
	}
	for i := range k {
		// A slot that stays empty gets the buffer of the one that takes its place.
		p := &pkts[n]
		p.Buf, pkts[i].Buf = pkts[i].Buf, p.Buf
		p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
		end := min(tun.Headroom+max(in.sizes[i], 0), len(p.Buf))
		if w.accept(p, p.Buf[tun.Headroom:end], tun.Headroom) {
			n++
			bytes += p.Len
		}
	}
	return n, bytes, nil
}

// readOwn reads into buffers of ours, if nothing is left in them, and copies what is for us.
func (w *Wire) readOwn(pkts []tun.Packet) (n, bytes int, err error) {
	in := &w.in
	if in.next == in.count {
		if in.own == nil {
			in.ownSizes = make([]int, w.batch)
			for range w.batch {
				in.own = append(in.own, make([]byte, tun.MaxPacket))
			}
		}
		k, err := w.dev.Read(in.own, in.ownSizes, 0)
		if err != nil && k <= 0 {
			return 0, 0, w.closedErr(err)
		}
		in.next, in.count = 0, k
	}
	for ; in.next < in.count && n < len(pkts); in.next++ {
		p := &pkts[n]
		p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
		raw := in.own[in.next]
		if w.accept(p, raw[:min(max(in.ownSizes[in.next], 0), len(raw))], -1) {
			n++
			bytes += p.Len
		}
	}
	return n, bytes, nil
}

// accept looks at one IP packet and makes p of what it holds. The packet is at
// p.Buf[base:] or, if base is -1, somewhere else. It reports whether there is a packet.
func (w *Wire) accept(p *tun.Packet, raw []byte, base int) bool {
	h, drop := parse(raw)
	if drop == tun.DropUnset {
		drop = w.checkEnds(h.src, h.dst)
	}
	if drop != tun.DropUnset {
		w.count.Drop(drop)
		return false
	}
	payload := raw[h.off:h.end]
	if base >= 0 {
		base += h.off
	}
	if h.fragment {
		// ESP never sees a fragment: RFC 4303, Section 3.4.1.
		whole, drop := w.in.parts.add(time.Now(), &h, payload)
		if drop != tun.DropUnset {
			w.count.Drop(drop)
		}
		if whole == nil {
			return false
		}
		if whole.size > len(p.Buf)-tun.Headroom {
			w.count.Drop(tun.DropTruncated)
			return false
		}
		base = tun.Headroom
		payload = p.Buf[base : base+whole.size]
		whole.copyTo(payload)
		h.proto, h.ecn = whole.proto, whole.ecn()
		if h.src.Is6() {
			// More extension headers may have been in the fragments.
			var at int
			if h.proto, at, drop = extensions(payload, h.proto, 0); drop != tun.DropUnset || h.proto == protoFragment {
				w.count.Drop(tun.DropFragment)
				return false
			}
			base, payload = base+at, payload[at:]
		}
	}
	p.ECN = h.ecn
	switch {
	case h.proto == protoESP:
		return w.acceptESP(p, &h, payload, base)
	case h.proto == protoUDP:
		return w.acceptUDP(p, &h, payload, base)
	case h.proto == protoICMP && h.dst.Is4():
		w.icmp4(&h, payload)
	case h.proto == protoICMPv6 && h.dst.Is6():
		w.icmp6(&h, payload)
	default:
		w.count.Drop(tun.DropProto)
	}
	return false
}

// checkEnds judges the addresses of a packet.
func (w *Wire) checkEnds(src, dst netip.Addr) tun.Drop {
	if !w.own(dst) {
		return tun.DropDest
	}
	if src.IsUnspecified() || src.IsMulticast() || src.IsLoopback() || src.Is4In6() || w.own(src) ||
		src.Is4() && w.isBroadcast(src) {
		return tun.DropSource
	}
	return tun.DropUnset
}

// isBroadcast reports whether a is the limited broadcast address or the directed one of a
// net that we are in. The network address counts too: it was broadcast once (RFC 1122,
// Section 3.3.6).
func (w *Wire) isBroadcast(a netip.Addr) bool {
	v4 := a.As4()
	v := binary.BigEndian.Uint32(v4[:])
	if v == ^uint32(0) {
		return true
	}
	for _, p := range w.addrs {
		if p.Addr().Is4() && p.Bits() <= 30 && p.Contains(a) {
			host := ^uint32(0) >> p.Bits()
			if v&host == host || v&host == 0 {
				return true
			}
		}
	}
	return false
}

func (w *Wire) acceptESP(p *tun.Packet, h *header, payload []byte, base int) bool {
	// SPI and sequence number: RFC 4303, Section 2.
	if len(payload) < 8 {
		w.count.Drop(tun.DropShort)
		return false
	}
	p.Path = tun.Path{Local: netip.AddrPortFrom(h.dst, 0), Remote: netip.AddrPortFrom(h.src, 0)}
	p.Kind = tun.KindESP
	return w.place(p, payload, base)
}

func (w *Wire) acceptUDP(p *tun.Packet, h *header, payload []byte, base int) bool {
	if len(payload) < udpLen {
		w.count.Drop(tun.DropHeader)
		return false
	}
	n := int(binary.BigEndian.Uint16(payload[4:]))
	if n < udpLen || n > len(payload) {
		w.count.Drop(tun.DropHeader)
		return false
	}
	payload = payload[:n]
	if payload[6]|payload[7] == 0 {
		// No checksum, which only IPv4 allows: RFC 8200, Section 8.1.
		if h.src.Is6() {
			w.count.Drop(tun.DropChecksum)
			return false
		}
	} else if fold(sum(pseudo(h.src, h.dst, protoUDP, n), payload)) != 0xFFFF {
		w.count.Drop(tun.DropChecksum)
		return false
	}
	p.Path.Remote = netip.AddrPortFrom(h.src, binary.BigEndian.Uint16(payload))
	p.Path.Local = netip.AddrPortFrom(h.dst, binary.BigEndian.Uint16(payload[2:]))
	if !slices.Contains(w.ports, p.Path.Local.Port()) {
		w.count.Drop(tun.DropPort)
		return false
	}
	if !p.Path.Plausible() {
		w.count.Drop(tun.DropSource)
		return false
	}
	kind, skip, drop := tun.Classify(p.Path, payload[udpLen:])
	if kind == tun.KindInvalid {
		w.count.Drop(drop)
		return false
	}
	p.Kind = kind
	skip += udpLen
	if base >= 0 {
		base += skip
	}
	return w.place(p, payload[skip:], base)
}

// place makes data, which is at p.Buf[base:] or elsewhere, the packet.
func (w *Wire) place(p *tun.Packet, data []byte, base int) bool {
	if base >= 0 {
		p.Off, p.Len = base, len(data)
		return true
	}
	if len(data) > len(p.Buf)-tun.Headroom {
		w.count.Drop(tun.DropTruncated)
		return false
	}
	p.Off, p.Len = tun.Headroom, copy(p.Buf[tun.Headroom:], data)
	return true
}
