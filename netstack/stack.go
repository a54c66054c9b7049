package netstack

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp/ts"
)

// Config configures a Stack. It must not be modified after New.
type Config struct {
	// Addrs are the addresses the stack owns. Only the address of a prefix counts; nothing is routed by its length.
	Addrs []netip.Prefix
	// MTU is the inner route MTU in bytes, IP header included: TCP takes its MSS from it, UDP ignores it. 0 = 1400.
	MTU int
	// Hooks are called for every packet; see Hooks for the rules.
	Hooks Hooks
	// ReceiveBuffer and SendBuffer are the largest sizes, in bytes, that one TCP connection's buffers grow to. 0 = 16 MiB.
	ReceiveBuffer, SendBuffer int
	// UDPReceiveBuffer is how many payload bytes one UDP socket queues. 0 = 4 MiB.
	UDPReceiveBuffer int
	// TimeWait is how long TCP stays in TIME-WAIT. 0 = 60 s.
	TimeWait time.Duration
	// Log is nil for none.
	Log *slog.Logger
}

// Stack is one TCP/IP host.
type Stack struct{}

// New starts a Stack. It refuses to start when gVisor does not call the inbound hook.
func New(cfg Config) (*Stack, error) { return nil, errors.New("netstack: not built yet") }

// Close aborts every connection and waits for everything the stack started. Calls after it match net.ErrClosed.
func (s *Stack) Close() error { return nil }

// Deliver injects one IP packet, gathered (copied) from parts; parts[0] starts with the IP header and holds all of it.
// TCP super-packets up to 65,535 bytes are welcome. IP fragments, and packets from one of the stack's own addresses, are
// dropped. The TCP and UDP checksums are not verified (see VerifyChecksum). Safe for concurrent use; not from a hook.
func (s *Stack) Deliver(tag *Tag, parts ...[]byte) {}

// LoopbackTag is the tag under which packets from this stack to itself arrive; its V is Loopback{}.
func (s *Stack) LoopbackTag() *Tag { return nil }

// Unreachable tells the socket that sent p that it can't be delivered: a pending DialTCP returns cause itself (in a
// *net.OpError), a connected UDP socket's next Read or Write does, an unconnected UDP socket's next WriteMsg to that
// destination does. An established TCP connection ignores it (use Abort). p is still the caller's to Release. Not from a hook.
func (s *Stack) Unreachable(p *Packet, cause error) {}

// Abort kills the TCP connection or pending dial of flow (local to remote), accepted or not; its holder's calls return
// cause. It reports whether there was one. A reset is sent. Not from a hook.
func (s *Stack) Abort(flow ts.Flow, cause error) bool { return false }

// Exists reports whether a connected socket for flow (local to remote) exists. Not from a hook.
func (s *Stack) Exists(flow ts.Flow) bool { return false }

// SetFlowMTU tells the TCP connection of flow (local to remote) that packets above mtu bytes (IP header included) do not
// fit any more: the segments in flight are resent smaller. It only ever lowers. Not from a hook.
func (s *Stack) SetFlowMTU(flow ts.Flow, mtu int) {}

// SetAddrs makes addrs the stack's addresses. Connections on removed addresses stop receiving.
func (s *Stack) SetAddrs(addrs []netip.Prefix) error { return nil }

// AddAddr adds one address; adding one that is there is no error.
func (s *Stack) AddAddr(a netip.Prefix) error { return nil }

// RemoveAddr removes one address.
func (s *Stack) RemoveAddr(a netip.Addr) error { return nil }

// Addrs returns the stack's addresses.
func (s *Stack) Addrs() []netip.Addr { return nil }

// Stats returns a snapshot of the counters.
func (s *Stack) Stats() Stats { return Stats{} }

// Stats counts packets. See the fields of Drops for what is dropped here and why.
type Stats struct {
	Output, Delivered uint64
}

// DialTCP connects. A zero local address or port is chosen by the stack. The error is a *net.OpError.
func (s *Stack) DialTCP(ctx context.Context, tag *Tag, local, remote netip.AddrPort) (*TCPConn, error) {
	return nil, errors.New("netstack: not built yet")
}

// ListenTCP listens on addr; an unspecified IPv6 address (or the zero Addr) takes both families. backlog 0 = 4096.
func (s *Stack) ListenTCP(tag *Tag, addr netip.AddrPort, backlog int) (*TCPListener, error) {
	return nil, errors.New("netstack: not built yet")
}

// ListenUDP returns an unconnected UDP socket; an unspecified IPv6 address (or the zero Addr) takes both families.
func (s *Stack) ListenUDP(tag *Tag, addr netip.AddrPort) (*UDPConn, error) {
	return nil, errors.New("netstack: not built yet")
}

// DialUDP returns a connected UDP socket.
func (s *Stack) DialUDP(tag *Tag, local, remote netip.AddrPort) (*UDPConn, error) {
	return nil, errors.New("netstack: not built yet")
}

// Ping sends one ICMP echo request to addr and waits for its reply. It returns the round-trip time and the tag the reply
// came under. tag is the socket's, nil for none.
func (s *Stack) Ping(ctx context.Context, tag *Tag, addr netip.Addr) (time.Duration, *Tag, error) {
	return 0, nil, errors.New("netstack: not built yet")
}

// VerifyChecksum reports whether the IPv4 header checksum and the TCP, UDP or ICMP checksum of an unfragmented IP packet
// are right; for packets whose origin is not the peer that authenticated them.
func VerifyChecksum(pkt []byte) bool { return false }

// SetChecksum computes the TCP or UDP checksum of an unfragmented IP packet, and the IPv4 header checksum, in place.
// ipLen is the length of the IP header with its extension headers.
func SetChecksum(pkt []byte, ipLen int) {}
