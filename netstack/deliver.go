package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/btns-go/btns/esp/ts"
)

// Deliver injects one IP packet, gathered (copied) from parts; parts[0] starts with the IP header. TCP super-packets up to
// 65,535 bytes are welcome; bytes behind the packet's own length are ignored. IP fragments, packets from one of the stack's
// own addresses and packets not to one are dropped. TCP and UDP checksums, and the IPv4 header's, are not verified (see
// VerifyChecksum). Hooks.Admit is called on this goroutine. Safe for concurrent use; not from a hook.
func (s *Stack) Deliver(tag *Tag, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if s.broken.Load() || !s.link.IsAttached() || tag == s.loopTag {
		s.drop(DropClosed)
		return
	}
	if n == 0 || n > maxPacket {
		s.drop(DropMalformed)
		return
	}
	v := buffer.NewView(n)
	for _, p := range parts {
		_, _ = v.Write(p) // grows, never fails
	}
	f, info, ok := ts.ParseFlow(v.AsSlice())
	if !ok {
		v.Release()
		s.drop(DropMalformed)
		return
	}
	if info.TotalLen < n {
		v.CapLength(info.TotalLen)
	}
	why := s.screen(f, &info, tag, v.AsSlice()[info.HeaderLen:])
	if why != DropUnset {
		v.Release()
		s.drop(why)
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	if tag != nil {
		pkt.Owner = tag
	}
	s.counters.delivered.Add(1)
	if f.Proto() == ts.ProtoTCP || f.Proto() == ts.ProtoUDP {
		s.inject(pkt)
		return
	}
	s.provoked.put(f, tag) // an echo reply is sent before inject returns
	s.inject(pkt)
	s.provoked.forget(f)
}

// screen decides what no socket needs to be known for.
func (s *Stack) screen(f ts.Flow, info *ts.PacketInfo, tag *Tag, upper []byte) Drop {
	switch {
	case info.Fragment:
		return DropFragment
	case s.owns(f.Src()) || !s.owns(f.Dst()) || notAHost(f.Src()):
		return DropMartian
	}
	switch f.Proto() {
	case ts.ProtoTCP, ts.ProtoUDP:
		return DropUnset
	case ts.ProtoICMP, ts.ProtoICMPv6:
		if (f.Proto() == ts.ProtoICMPv6) != f.IsV6() {
			return DropProtocol
		}
		return s.screenICMP(f, tag, upper)
	}
	return DropProtocol
}

// notAHost reports source addresses that no packet may have (RFC 1122, Section 3.2.1.3; RFC 4291, Section 2.7).
func notAHost(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// inject gives gVisor an inbound packet and releases it. A panic of gVisor's leaves its locks in an unknown state: the stack
// is dead from then on, and says so, instead of taking the process with it.
func (s *Stack) inject(pkt *stack.PacketBuffer) {
	defer func() {
		if v := recover(); v != nil {
			s.broken.Store(true)
			s.panicked("gvisor", v)
			s.owners.Range(func(_, o any) bool {
				o.(*owner).end(ErrBroken)
				return true
			})
		}
	}()
	s.link.deliver(pkt)
	pkt.DecRef()
}
