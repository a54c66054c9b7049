package outer

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/tun"
)

// Types and codes of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const (
	icmp4EchoReply   = 0
	icmp4Unreachable = 3
	icmp4NeedsFrag   = 4 // code
	icmp4Echo        = 8
	icmp6TooBig      = 2
	icmp6Echo        = 128
	icmp6EchoReply   = 129

	icmpLen = 8
)

// icmp4 handles an ICMP message to us. It borrows b.
func (w *Wire) icmp4(h *header, b []byte) {
	switch {
	case len(b) < icmpLen:
		w.count.Drop(tun.DropHeader)
	case fold(sum(0, b)) != 0xFFFF:
		w.count.Drop(tun.DropChecksum)
	case b[0] == icmp4Echo && b[1] == 0:
		w.echo(h, b, icmp4EchoReply, protoICMP)
	case b[0] == icmp4Unreachable && b[1] == icmp4NeedsFrag:
		// The MTU is where RFC 1191, Section 4 put it.
		w.tooBig(h.src, int(binary.BigEndian.Uint16(b[6:])), b[icmpLen:])
	default:
		w.count.Drop(tun.DropProto)
	}
}

// icmp6 handles an ICMPv6 message to us. It borrows b.
func (w *Wire) icmp6(h *header, b []byte) {
	switch {
	case len(b) < icmpLen:
		w.count.Drop(tun.DropHeader)
	case fold(sum(pseudo(h.src, h.dst, protoICMPv6, len(b)), b)) != 0xFFFF:
		w.count.Drop(tun.DropChecksum)
	case b[0] == icmp6Echo && b[1] == 0:
		w.echo(h, b, icmp6EchoReply, protoICMPv6)
	case b[0] == icmp6TooBig:
		w.tooBig(h.src, int(min(binary.BigEndian.Uint32(b[4:]), tun.MaxPacket)), b[icmpLen:])
	default:
		w.count.Drop(tun.DropProto)
	}
}

// echo answers a ping with as many bytes as it has (RFC 792; RFC 4443, Section 4.2).
func (w *Wire) echo(h *header, b []byte, typ, proto uint8) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	m := w.out.scratch[tun.WireRoom:]
	m = m[:copy(m, b)]
	m[0], m[1], m[2], m[3] = typ, 0, 0, 0
	s := uint64(0)
	if proto == protoICMPv6 {
		s = pseudo(h.dst, h.src, protoICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], ^fold(sum(s, m)))
	if err := w.emit(w.out.scratch, tun.WireRoom, len(m), h.dst, h.src, proto, tun.ECNNotECT); err != nil {
		w.count.Drop(tun.DropSend)
	}
}

// tooBig handles the message that a packet of ours, of which b is the beginning, was too
// big. It may be forged by anybody who knows our address and ports.
func (w *Wire) tooBig(from netip.Addr, mtu int, b []byte) {
	t := TooBig{From: from, MTU: mtu}
	if !w.quoted(&t, b) {
		w.count.Drop(tun.DropHeader)
		return
	}
	w.count.TooBig()
	if w.onTooBig != nil {
		w.onTooBig(t)
	}
}

// quoted reads the beginning of a packet of ours, and reports whether it can be one.
func (w *Wire) quoted(t *TooBig, b []byte) bool {
	var src, dst netip.Addr
	var proto uint8
	switch {
	case len(b) >= ip4Len && b[0]>>4 == 4 && t.From.Is4():
		// We send no options, and only the first fragment has ports and SPI.
		if b[0] != 0x45 || binary.BigEndian.Uint16(b[6:])&0x1FFF != 0 {
			return false
		}
		src, dst, proto = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9]
		b = b[ip4Len:]
	case len(b) >= ip6Len && b[0]>>4 == 6 && t.From.Is6():
		src, dst, proto = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6]
		b = b[ip6Len:]
		if proto == protoFragment {
			if len(b) < fragmentLen || binary.BigEndian.Uint16(b[2:])&^7 != 0 {
				return false
			}
			proto, b = b[0], b[fragmentLen:]
		}
	default:
		return false
	}
	if len(b) < 8 || !w.own(src) {
		return false
	}
	switch proto {
	case protoESP:
		t.Path = tun.Path{Local: netip.AddrPortFrom(src, 0), Remote: netip.AddrPortFrom(dst, 0)}
		t.SPI = binary.BigEndian.Uint32(b)
		return true
	case protoUDP:
		t.Path.Local = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
		t.Path.Remote = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
		if !slices.Contains(w.ports, t.Path.Local.Port()) {
			return false
		}
		if b = b[udpLen:]; t.Path.Marked() && len(b) >= 4 {
			t.SPI = binary.BigEndian.Uint32(b) // 0 if it is IKE
		}
		return true
	}
	return false
}
