package uml

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
)

const (
	ethLen        = 14
	etherIPv4     = 0x0800
	etherIPv6     = 0x86dd
	protoESP      = 50
	protoICMP     = 1
	protoICMPv6   = 58
	frameMax      = 2048
	receiveTicker = 100 * time.Millisecond // how soon the reader sees that it has to stop
)

// segment is the tap seen as an Ethernet: what the guest sends comes in, what is
// sent goes to the guest. It keeps every frame that was seen, in both directions.
type segment struct {
	fd       int
	ifindex  int
	hostMAC  net.HardwareAddr
	guestMAC net.HardwareAddr

	mu     sync.Mutex
	frames [][]byte
	recv   func(frame []byte) // runs on the reader's goroutine
	stop   chan struct{}
	done   chan struct{}
}

func newSegment(t *testing.T, g *Guest) *segment {
	t.Helper()
	s := &segment{fd: -1, stop: make(chan struct{}), done: make(chan struct{})}
	err := g.InNetNS(func() error {
		dev, err := net.InterfaceByName(g.Tap())
		if err != nil {
			return err
		}
		s.ifindex, s.hostMAC = dev.Index, dev.HardwareAddr
		if s.guestMAC, err = net.ParseMAC(g.cfg.GuestMAC); err != nil {
			return err
		}
		s.fd, err = syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, int(htons(syscall.ETH_P_ALL)))
		if err != nil {
			return err
		}
		tv := syscall.NsecToTimeval(receiveTicker.Nanoseconds())
		return errors.Join(
			syscall.Bind(s.fd, &syscall.SockaddrLinklayer{Protocol: htons(syscall.ETH_P_ALL), Ifindex: s.ifindex}),
			syscall.SetsockoptTimeval(s.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.read()
	t.Cleanup(func() {
		close(s.stop)
		<-s.done
		_ = syscall.Close(s.fd)
	})
	return s
}

func htons(v uint16) uint16 { return v<<8 | v>>8 } // on the little-endian machines that have User-Mode Linux

func (s *segment) read() {
	defer close(s.done)
	b := make([]byte, frameMax)
	for {
		n, _, err := syscall.Recvfrom(s.fd, b, 0)
		select {
		case <-s.stop:
			return
		default:
		}
		if err != nil || n < ethLen {
			continue // the ticker
		}
		f := append([]byte(nil), b[:n]...)
		s.mu.Lock()
		s.frames = append(s.frames, f)
		recv := s.recv
		s.mu.Unlock()
		if recv != nil {
			recv(f)
		}
	}
}

// send puts an IP packet on the wire.
func (s *segment) send(pkt []byte) error {
	f := append(append([]byte(nil), s.guestMAC...), s.hostMAC...)
	if pkt[0]>>4 == 4 {
		f = binary.BigEndian.AppendUint16(f, etherIPv4)
	} else {
		f = binary.BigEndian.AppendUint16(f, etherIPv6)
	}
	f = append(f, pkt...)
	s.mu.Lock()
	s.frames = append(s.frames, f)
	s.mu.Unlock()
	return syscall.Sendto(s.fd, f, 0, &syscall.SockaddrLinklayer{Ifindex: s.ifindex})
}

// take returns the frames seen since the last take, and changes who gets new ones.
func (s *segment) take(recv func([]byte)) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.frames
	s.frames, s.recv = nil, recv
	return f
}

// parseIP splits an IP packet without options or extension headers.
func parseIP(b []byte) (proto uint8, src, dst netip.Addr, payload []byte, ok bool) {
	switch {
	case len(b) >= 20 && b[0] == 0x45:
		total := int(binary.BigEndian.Uint16(b[2:]))
		if total < 20 || total > len(b) {
			return
		}
		src, _ = netip.AddrFromSlice(b[12:16])
		dst, _ = netip.AddrFromSlice(b[16:20])
		return b[9], src, dst, b[20:total], true
	case len(b) >= 40 && b[0]>>4 == 6:
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return
		}
		src, _ = netip.AddrFromSlice(b[8:24])
		dst, _ = netip.AddrFromSlice(b[24:40])
		return b[6], src, dst, b[40:total], true
	}
	return
}

// appendIP appends an IP header for a payload of n octets.
func appendIP(b []byte, proto uint8, src, dst netip.Addr, n int) []byte {
	if src.Is6() {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(b, proto, 64)
		return append(append(b, src.AsSlice()...), dst.AsSlice()...)
	}
	at := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+n))
	b = append(b, 0, 0, 0x40, 0, 64, proto, 0, 0) // DF
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[at+10:], checksum(0, b[at:]))
	return b
}

func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// icmpSum fills in the checksum of an ICMP or ICMPv6 message.
func icmpSum(msg []byte, src, dst netip.Addr) {
	msg[2], msg[3] = 0, 0
	var sum uint32
	if src.Is6() { // pseudo-header
		for _, a := range [][]byte{src.AsSlice(), dst.AsSlice()} {
			for ; len(a) > 0; a = a[2:] {
				sum += uint32(a[0])<<8 | uint32(a[1])
			}
		}
		sum += uint32(len(msg)) + protoICMPv6
	}
	binary.BigEndian.PutUint16(msg[2:], checksum(sum, msg))
}

// echo returns an echo request with its IP header.
func echo(src, dst netip.Addr, id, seq uint16, data []byte) []byte {
	proto, kind := uint8(protoICMP), byte(8)
	if src.Is6() {
		proto, kind = protoICMPv6, 128
	}
	msg := binary.BigEndian.AppendUint16([]byte{kind, 0, 0, 0}, id)
	msg = binary.BigEndian.AppendUint16(msg, seq)
	msg = append(msg, data...)
	icmpSum(msg, src, dst)
	return append(appendIP(nil, proto, src, dst, len(msg)), msg...)
}

// host is our end of a pair of SAs: it seals and opens, answers echo requests and
// hands over echo replies.
type host struct {
	seg          *segment
	mode         esp.Mode
	outer, inner [2]netip.Addr // ours, the guest's
	out          *esp.Outbound
	in           *esp.Inbound
	replies      chan []byte // ICMP messages

	mu       sync.Mutex
	w        esp.Worker
	requests int
	drops    map[esp.Drop]int
	highest  uint64   // sequence number that passed
	odd      [][]byte // what passed and was neither request nor reply
}

// seal puts an inner IP packet into an ESP packet with its outer header.
func (h *host) seal(pkt []byte) ([]byte, esp.Drop) {
	proto, _, _, payload, _ := parseIP(pkt)
	if h.mode == esp.ModeTunnel {
		payload, proto = pkt, 4
		if pkt[0]>>4 == 6 {
			proto = 41
		}
	}
	b := make([]byte, esp.Headroom+len(payload)+esp.Tailroom)
	copy(b[esp.Headroom:], payload)
	p := []esp.Packet{{Buf: b, Off: esp.Headroom, Len: len(payload), Next: proto}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.out.Seal(&h.w, p); d != esp.Pass {
		return nil, d
	}
	return append(appendIP(nil, protoESP, h.outer[0], h.outer[1], p[0].Len), p[0].Payload()...), p[0].Drop
}

func (h *host) send(pkt []byte) {
	b, d := h.seal(pkt)
	if d == esp.Pass {
		_ = h.seg.send(b) // a lost packet shows as a missing reply
	}
}

// receive gets every frame on the wire.
func (h *host) receive(frame []byte) {
	proto, src, dst, payload, ok := parseIP(frame[ethLen:])
	if !ok || proto != protoESP || src != h.outer[1] || dst != h.outer[0] {
		return
	}
	b := append([]byte(nil), payload...) // the frame stays as it was on the wire
	p := []esp.Packet{{Buf: b, Len: len(b)}}
	h.mu.Lock()
	h.in.Open(&h.w, p)
	h.drops[p[0].Drop]++
	h.highest = max(h.highest, p[0].Seq())
	h.mu.Unlock()
	if p[0].Drop != esp.Pass {
		return
	}
	icmp := p[0].Payload()
	if h.mode == esp.ModeTunnel {
		_, src, dst, icmp, ok = parseIP(icmp)
		ok = ok && src == h.inner[1] && dst == h.inner[0]
	}
	if !ok || len(icmp) < 8 {
		h.mu.Lock()
		h.odd = append(h.odd, p[0].Payload())
		h.mu.Unlock()
		return
	}
	switch icmp[0] {
	case 0, 129:
		select {
		case h.replies <- append([]byte(nil), icmp...):
		default:
		}
	case 8, 128:
		h.mu.Lock()
		h.requests++
		h.mu.Unlock()
		reply := echo(h.inner[0], h.inner[1], 0, 0, icmp[8:])
		_, _, _, msg, _ := parseIP(reply)
		copy(msg[4:8], icmp[4:8])
		msg[0] = icmp[0] + 1 // 129 after 128
		if icmp[0] == 8 {
			msg[0] = 0
		}
		icmpSum(msg, h.inner[0], h.inner[1])
		h.send(reply)
	default:
		h.mu.Lock()
		h.odd = append(h.odd, p[0].Payload())
		h.mu.Unlock()
	}
}
