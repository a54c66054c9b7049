package netstack

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/btns-go/btns/esp/ts"
)

// Config configures a Stack. It must not be modified after New.
type Config struct {
	// Addrs are the addresses the stack owns. Only the address of a prefix counts; nothing is routed by its length.
	Addrs []netip.Prefix
	// MTU is the inner route MTU in bytes, IP header included: TCP takes its MSS from it, UDP ignores it. 0 = 1400, at
	// least 1280.
	MTU int
	// Hooks are called for every packet; see Hooks for the rules.
	Hooks Hooks
	// ReceiveBuffer and SendBuffer are the largest sizes, in bytes, that one TCP connection's buffers grow to. 0 = just below 16 MiB,
	// at least 1 MiB.
	ReceiveBuffer, SendBuffer int
	// UDPReceiveBuffer is how many bytes one UDP socket queues. 0 = 4 MiB.
	UDPReceiveBuffer int
	// TimeWait is how long TCP stays in TIME-WAIT. 0 = 60 s.
	TimeWait time.Duration
	// Log is nil for none.
	Log *slog.Logger
}

// nic is the only network interface.
const nic tcpip.NICID = 1

// Stack is one TCP/IP host.
type Stack struct {
	// Constant after New.
	cfg      Config
	log      *slog.Logger
	gv       *stack.Stack
	link     *link
	loopTag  *Tag
	scale    uint8 // of the windows we advertise
	provoked *provokeTable
	packets  sync.Pool // *Packet

	// owners has every socket by its gVisor endpoint: stack.TransportEndpoint → *owner.
	owners sync.Map

	listenMu  sync.RWMutex
	listeners map[netip.AddrPort]*TCPListener

	// own is the set of the stack's addresses, replaced as a whole under addrMu.
	addrMu sync.Mutex
	own    atomic.Pointer[map[netip.Addr]struct{}]

	// openMu is read-held while a socket is made, and write-held to close.
	openMu sync.RWMutex
	closed bool

	broken   atomic.Bool // a panic went through gVisor: its locks can't be trusted
	counters counters
	later    *runner
	loop     *looper
	probe    atomic.Pointer[probe]
}

// New starts a Stack. It refuses to start when gVisor does not call the inbound hook.
func New(cfg Config) (*Stack, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Stack{
		cfg:       cfg,
		log:       cfg.Log,
		loopTag:   &Tag{V: Loopback{}},
		scale:     windowScale(cfg.ReceiveBuffer),
		provoked:  newProvokeTable(),
		listeners: make(map[netip.AddrPort]*TCPListener),
	}
	s.packets.New = func() any { return new(Packet) }
	s.own.Store(&map[netip.Addr]struct{}{})
	s.link = &link{s: s}
	s.gv = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			func(g *stack.Stack) stack.TransportProtocol { return newTCPProtocol(s, tcp.NewProtocolCUBIC(g)) },
			func(g *stack.Stack) stack.TransportProtocol { return &dgramProtocol{udp.NewProtocol(g), s} },
			func(g *stack.Stack) stack.TransportProtocol { return &dgramProtocol{icmp.NewProtocol4(g), s} },
			func(g *stack.Stack) stack.TransportProtocol { return &dgramProtocol{icmp.NewProtocol6(g), s} },
		},
		// Packets to own addresses come to the link and are turned round there, with a tag.
		HandleLocal: false,
	})
	s.later = startRunner()
	s.loop = startLooper(s)
	err := s.configure()
	if err == nil {
		err = s.probeHooks()
	}
	if err == nil {
		err = s.SetAddrs(cfg.Addrs)
	}
	if err != nil {
		_ = s.Close() // the reason why New failed is worth more
		return nil, err
	}
	return s, nil
}

func (c *Config) fill() error {
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.MTU < minMTU || c.MTU > gsoMaxSize {
		return fmt.Errorf("netstack: MTU %d is not between %d and %d", c.MTU, minMTU, gsoMaxSize)
	}
	for _, b := range []*int{&c.ReceiveBuffer, &c.SendBuffer} {
		if *b == 0 {
			*b = defaultTCPBuffer
		}
		if *b < initialTCPBuffer || *b > 1<<30 {
			return fmt.Errorf("netstack: TCP buffer of %d bytes is not between 1 MiB and 1 GiB", *b)
		}
	}
	if c.UDPReceiveBuffer == 0 {
		c.UDPReceiveBuffer = defaultUDPBuffer
	}
	if c.UDPReceiveBuffer < 0 {
		return fmt.Errorf("netstack: UDP buffer of %d bytes", c.UDPReceiveBuffer)
	}
	if c.TimeWait == 0 {
		c.TimeWait = defaultTimeWait
	}
	if c.TimeWait < 0 {
		return fmt.Errorf("netstack: TIME-WAIT of %v", c.TimeWait)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// configure sets gVisor's options and makes the interface.
func (s *Stack) configure() error {
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minTCPBuffer, Default: initialTCPBuffer, Max: s.cfg.ReceiveBuffer}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minTCPBuffer, Default: initialTCPBuffer, Max: s.cfg.SendBuffer}
	sack := tcpip.TCPSACKEnabled(true)
	// No RACK: gVisor's begins a fast recovery inside the one that a timeout began, which must not be (RFC 6675, Section 5.1),
	// and counts what it has marked as lost as in flight. When a whole flight is lost, as with an SA, the window stays full of
	// it, and two segments leave for each further timeout. The price is throughput on paths that change the order of packets.
	recovery := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	wait := tcpip.TCPTimeWaitTimeoutOption(s.cfg.TimeWait)
	for _, o := range []tcpip.SettableTransportProtocolOption{&rcv, &snd, &sack, &recovery, &moderate, &wait} {
		if err := s.gv.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: setting %T: %s", o, err)
		}
	}
	if err := s.gv.CreateNICWithOptions(nic, s.link, stack.NICOptions{Name: "btns"}); err != nil {
		return fmt.Errorf("netstack: creating the interface: %s", err)
	}
	// TCP takes its MSS from the route, the IP layer fragments by the interface: nothing is fragmented in here.
	mtu := uint32(s.cfg.MTU)
	s.gv.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic, MTU: mtu},
		{Destination: header.IPv6EmptySubnet, NIC: nic, MTU: mtu},
	})
	return nil
}

// Close aborts every connection (their resets still go to Hooks.Output) and waits for everything the stack started, OnGone
// functions included; it must not be called from one. Calls after it match net.ErrClosed.
func (s *Stack) Close() error {
	s.openMu.Lock()
	if s.closed {
		s.openMu.Unlock()
		return fmt.Errorf("netstack: %w", net.ErrClosed)
	}
	s.closed = true
	s.openMu.Unlock()

	// Order: no caller may block on a socket that is about to go; gVisor's endpoints and goroutines, which may still send
	// and loop packets; then our two goroutines, the one that runs OnGone last.
	s.owners.Range(func(_, o any) bool {
		o.(*owner).end(net.ErrClosed)
		return true
	})
	if !s.broken.Load() {
		s.gv.Close()
		s.gv.Wait()
	}
	s.loop.stop()
	s.later.stop()
	s.owners.Range(func(_, v any) bool {
		switch o := v.(*owner); {
		case o.tcp != nil:
			o.tcp.forget() // a timer of gVisor's ended it just now, too late for the runner
		case o.listener != nil:
			o.listener.forget()
		case o.dgram != nil:
			o.dgram.abort(nil) // releases what waits in its queue
		}
		return true
	})
	return nil
}

// open read-holds the stack open; release with s.openMu.RUnlock.
func (s *Stack) open() error {
	s.openMu.RLock()
	if s.closed || s.broken.Load() {
		s.openMu.RUnlock()
		return net.ErrClosed
	}
	return nil
}

// LoopbackTag is the tag under which packets from this stack to itself arrive; its V is Loopback{}.
func (s *Stack) LoopbackTag() *Tag { return s.loopTag }

// Unreachable tells the socket that sent p that it can't be delivered: a pending DialTCP returns cause itself (in a
// *net.OpError), a connected UDP socket's next Read or Write does, an unconnected UDP socket's next WriteMsg to that
// destination does. An established TCP connection ignores it (use Abort); a connection that was not accepted yet is
// dropped. p is still the caller's to Release. Not from a hook.
func (s *Stack) Unreachable(p *Packet, cause error) {
	if p == nil || p.pkt == nil || p.owner == nil || s.broken.Load() {
		return
	}
	if p.owner.listener != nil {
		s.Abort(p.Flow(), cause)
		return
	}
	f := p.Flow()
	p.owner.unreachable(netip.AddrPortFrom(f.Dst(), f.DstPort()), cause)
}

// find returns the connected endpoint of a flow (local to remote), never a listener.
func (s *Stack) find(flow ts.Flow) (stack.TransportEndpoint, *owner) {
	if !flow.IsValid() || s.broken.Load() {
		return nil, nil
	}
	id := stack.TransportEndpointID{
		LocalAddress: toAddr(flow.Src()), LocalPort: flow.SrcPort(),
		RemoteAddress: toAddr(flow.Dst()), RemotePort: flow.DstPort(),
	}
	ep := s.gv.FindTransportEndpoint(netProto(flow.Src()), tcpip.TransportProtocolNumber(flow.Proto()), id, nic)
	if ep == nil {
		return nil, nil
	}
	o := s.ownerOf(ep)
	switch e := ep.(type) {
	case *tcp.Endpoint:
		if e.EndpointState() == tcp.StateListen {
			return nil, nil
		}
	default:
		if o == nil || o.dgram == nil || !o.dgram.remote.IsValid() {
			return nil, nil
		}
	}
	return ep, o
}

// Abort kills the TCP connection or pending dial or connected UDP socket of flow (local to remote), accepted or not; its
// holder's calls return cause. It reports whether there was one. TCP sends a reset. Not from a hook.
func (s *Stack) Abort(flow ts.Flow, cause error) bool {
	ep, o := s.find(flow)
	switch {
	case ep == nil:
		return false
	case o == nil:
		ep.Abort() // not accepted yet: Accept passes over it
	case o.tcp != nil:
		o.tcp.Abort(cause)
	case o.dgram != nil:
		o.dgram.abort(cause)
	}
	return true
}

// Exists reports whether a connected socket for flow (local to remote) exists. Not from a hook.
func (s *Stack) Exists(flow ts.Flow) bool {
	ep, _ := s.find(flow)
	return ep != nil
}

// SetFlowMTU tells the TCP connection of flow (local to remote) that packets above mtu bytes (IP header included) do not
// fit any more: segments in flight are resent smaller. It only ever lowers, and not below 576 for IPv4, 1280 for IPv6. Not
// from a hook.
func (s *Stack) SetFlowMTU(flow ts.Flow, mtu int) {
	ep, _ := s.find(flow)
	if ep == nil || flow.Proto() != ts.ProtoTCP {
		return
	}
	hdr, least := header.IPv4MinimumSize, 576
	if flow.IsV6() {
		hdr, least = header.IPv6MinimumSize, minPathMTU6
	}
	mtu = max(mtu, least)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	defer pkt.DecRef()
	pkt.NetworkProtocolNumber = netProto(flow.Src())
	pkt.NICID = nic
	ep.HandleError(tooBig(mtu-hdr), pkt)
}
