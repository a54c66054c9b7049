package netstack

import (
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/btns-go/btns/esp/ts"
)

// link is gVisor's link endpoint: WritePackets is the way down, the dispatcher the way up.
type link struct {
	s    *Stack
	disp atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func (*link) MTU() uint32                             { return nicMTU }
func (*link) SetMTU(uint32)                           {}
func (*link) MaxHeaderLength() uint16                 { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress          { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)        {}
func (*link) Wait()                                   {}
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)           {}
func (*link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (*link) Close()                                  {}
func (*link) SetOnCloseAction(func())                 {}
func (*link) GSOMaxSize() uint32                      { return gsoMaxSize }
func (*link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }

// Capabilities: checksums are the affair of whoever copies (out) or authenticated (in).
func (*link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.disp.Store(nil)
		return
	}
	l.disp.Store(&d)
}

func (l *link) IsAttached() bool { return l.disp.Load() != nil }

// deliver hands a packet to gVisor's network layer.
func (l *link) deliver(pkt *stack.PacketBuffer) {
	proto := header.IPv4ProtocolNumber
	if b, ok := pkt.Data().PullUp(1); ok && b[0]>>4 == 6 {
		proto = header.IPv6ProtocolNumber
	}
	if d := l.disp.Load(); d != nil {
		(*d).DeliverNetworkPacket(proto, pkt)
	}
}

// WritePackets takes what the stack emits, on the sender's goroutine, with the sender's locks held.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	list := pkts.AsSlice()
	for _, pkt := range list {
		l.s.output(pkt)
	}
	return len(list), nil
}

func (s *Stack) output(pkt *stack.PacketBuffer) {
	if s.broken.Load() {
		s.drop(DropClosed)
		return
	}
	p := s.packets.Get().(*Packet)
	p.init(s, pkt)
	switch why := s.outputCheck(p); {
	case why != DropUnset:
		s.drop(why)
		p.recycle()
		return
	case p.owner != nil && p.owner.tcp != nil:
		p.owner.tcp.advertise(pkt)
	}
	switch {
	case s.owns(p.dst()):
		s.loop.put(pkt)
	case s.cfg.Hooks.Output == nil:
		s.drop(DropNoHook)
	default:
		s.counters.output.Add(1)
		s.callOutput(p)
	}
	p.recycle()
}

// outputCheck refuses what must never leave.
func (s *Stack) outputCheck(p *Packet) Drop {
	nh := p.pkt.NetworkHeader().Slice()
	switch {
	case len(nh) >= header.IPv4MinimumSize && nh[0]>>4 == 4:
		if h := header.IPv4(nh); h.More() || h.FragmentOffset() != 0 {
			return DropOutFragment
		}
	case len(nh) >= header.IPv6MinimumSize && nh[0]>>4 == 6:
		if header.IPv6(nh).NextHeader() == uint8(header.IPv6FragmentHeader) {
			return DropOutFragment
		}
	default:
		return DropUnsolicited
	}
	if p.owner == nil && !p.isReply() {
		return DropUnsolicited
	}
	return DropUnset
}

// isReply reports whether a packet without a socket is of a kind that only answers something.
func (p *Packet) isReply() bool {
	switch p.proto {
	case ts.ProtoTCP:
		return true
	case ts.ProtoICMP:
		switch header.ICMPv4Type(p.icmpType()) {
		case header.ICMPv4EchoReply, header.ICMPv4DstUnreachable, header.ICMPv4TimeExceeded, header.ICMPv4ParamProblem:
			return true
		}
	case ts.ProtoICMPv6:
		switch header.ICMPv6Type(p.icmpType()) {
		case header.ICMPv6EchoReply, header.ICMPv6DstUnreachable, header.ICMPv6PacketTooBig, header.ICMPv6TimeExceeded, header.ICMPv6ParamProblem:
			return true
		}
	}
	return false
}

// callOutput runs the hook. A panic in it stops here, below gVisor's frames, so that gVisor's locks stay sound.
func (s *Stack) callOutput(p *Packet) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked("output hook", v)
		}
	}()
	s.cfg.Hooks.Output(p.tag, p)
}

// callAdmit runs the hook; a panic in it is a no.
func (s *Stack) callAdmit(in Inbound) (ok bool) {
	if s.cfg.Hooks.Admit == nil {
		return false
	}
	defer func() {
		if v := recover(); v != nil {
			s.panicked("admit hook", v)
			ok = false
		}
	}()
	return s.cfg.Hooks.Admit(in)
}

func (s *Stack) panicked(where string, v any) {
	s.counters.panics.Add(1)
	s.log.Error("panic", "where", where, "value", v, "stack", string(debug.Stack()))
}

// looper turns packets to own addresses round. It needs a goroutine: the sender's locks are held.
type looper struct {
	s    *Stack
	ch   chan *stack.PacketBuffer
	quit chan struct{}
	wg   sync.WaitGroup
}

func startLooper(s *Stack) *looper {
	l := &looper{s: s, ch: make(chan *stack.PacketBuffer, loopQueue), quit: make(chan struct{})}
	l.wg.Go(l.run)
	return l
}

func (l *looper) put(pkt *stack.PacketBuffer) {
	in := pkt.CloneToInbound()
	in.Owner = l.s.loopTag
	select {
	case l.ch <- in:
		l.s.counters.looped.Add(1)
	default:
		in.DecRef()
		l.s.drop(DropLoopFull)
	}
}

func (l *looper) run() {
	for {
		select {
		case <-l.quit:
			l.drain()
			return
		case pkt := <-l.ch:
			l.s.inject(pkt)
		}
	}
}

func (l *looper) drain() {
	for {
		select {
		case pkt := <-l.ch:
			pkt.DecRef()
		default:
			return
		}
	}
}

func (l *looper) stop() {
	close(l.quit)
	l.wg.Wait()
	l.drain()
}

// dst is the destination address.
func (p *Packet) dst() netip.Addr {
	nh := p.pkt.NetworkHeader().Slice()
	if nh[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(nh[16:20]))
	}
	return netip.AddrFrom16([16]byte(nh[24:40]))
}
