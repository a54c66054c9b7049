package datapath

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
)

// A SocketKind says how a socket is latched.
type SocketKind uint8

// The kinds of socket.
const (
	// SocketDatagram is an unconnected datagram socket, or the demand of one datagram: nothing is latched, each packet is
	// judged by itself.
	SocketDatagram SocketKind = iota
	// SocketConnected is a TCP connection that this host opens, or a connected UDP socket: latched at the first packet.
	SocketConnected
	// SocketListener is a TCP listener: each connection it accepts gets a latch at its SYN.
	SocketListener
)

// String returns the kind's name.
func (k SocketKind) String() string {
	switch k {
	case SocketDatagram:
		return "datagram"
	case SocketConnected:
		return "connected"
	case SocketListener:
		return "listener"
	}
	return "invalid"
}

// SocketConfig is what a socket demands.
type SocketConfig struct {
	Kind SocketKind
	// Want limits which peers and protections will do. The zero Want leaves that to the policy.
	Want latch.Want
	// AllowBypass lets the policy send and receive in the clear for this socket. It changes no policy.
	AllowBypass bool
	// Alert is told of changes of the socket's latches, by the goroutine that caused them and without locks. It must not
	// block. Connections accepted from a listener inherit it until they are adopted with Accepted. May be nil.
	Alert func(latch.Alert)
	// V is the owner's own.
	V any
}

// A Socket is what the data path knows about one socket: the V of its tag. It is made before the socket, so that its first
// packet is judged already.
type Socket struct {
	// Constant.
	path *Path
	cfg  SocketConfig
	tag  netstack.Tag
	want string // cfg.Want in a comparable form, "" for the zero Want
	loop bool   // a connection of this stack with itself

	// Atomic.
	grip     atomic.Pointer[grip] // on the latch
	listener atomic.Pointer[latch.Latch]
	own      atomic.Pointer[ownDecision]
	child    atomic.Pointer[Child]
	failure  atomic.Pointer[AcquireError]

	mu     sync.Mutex // guards birth and end of the latch
	closed bool
}

// grip is a hold on a latch that several holders share: a socket, and the next connection of the same flow that began while
// the last one was in TIME-WAIT. The last holder releases the latch.
type grip struct {
	l    *latch.Latch
	refs atomic.Int32
}

func newGrip(l *latch.Latch) *grip {
	g := &grip{l: l}
	g.refs.Store(1)
	return g
}

// share adds a holder unless the last one is gone.
func (g *grip) share() bool {
	for {
		n := g.refs.Load()
		if n <= 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *grip) release(db *latch.DB) {
	if g.refs.Add(-1) == 0 {
		db.Release(g.l)
	}
}

// Tag is the tag to give to netstack.
func (s *Socket) Tag() *netstack.Tag { return &s.tag }

// Kind returns the socket's kind.
func (s *Socket) Kind() SocketKind { return s.cfg.Kind }

// Want returns what the socket demands.
func (s *Socket) Want() latch.Want { return s.cfg.Want }

// V returns SocketConfig.V.
func (s *Socket) V() any { return s.cfg.V }

// Latch returns the socket's latch: nil before its first packet, and for unconnected sockets.
func (s *Socket) Latch() *latch.Latch {
	if l := s.listener.Load(); l != nil {
		return l
	}
	if g := s.grip.Load(); g != nil {
		return g.l
	}
	return nil
}

// Child returns the child that the socket's last packet was sent under, or the one that its connection came in under; nil if
// there was none, or it was removed.
func (s *Socket) Child() *Child {
	if c := s.child.Load(); c != nil && !c.Removed() {
		return c
	}
	return nil
}

// LastChild is Child, also if it was removed meanwhile: who the peer was does not change with it.
func (s *Socket) LastChild() *Child { return s.child.Load() }

// LastFailure returns why no SA could be had for the socket the last time one was needed, nil if nothing failed since its
// last packet went out. It is for the message of a deadline that passed: unless it is an *AcquireError that says
// Final, anybody on the path may have caused it.
func (s *Socket) LastFailure() error {
	if f := s.failure.Load(); f != nil {
		return f
	}
	return nil
}

// Listen makes the LISTENER latch of a SocketListener for its local address and port; segments that begin a connection are
// dropped until then. It fails with latch.ErrExists if somebody listens there.
func (s *Socket) Listen(key latch.Key3) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.cfg.Kind != SocketListener || s.listener.Load() != nil:
		return latch.ErrState
	}
	l, err := s.path.cfg.Latches.Listen(key, s.cfg.Want, s.cfg.Alert)
	if err != nil {
		return err
	}
	s.listener.Store(l)
	return nil
}

// Close releases the socket's latch; packets of the socket that come later are dropped. To be called when the stack has
// forgotten the connection, not when the application has closed it: a connection in TIME-WAIT still sends. Not from a hook.
func (s *Socket) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if g := s.grip.Load(); g != nil {
		g.release(s.path.cfg.Latches)
	}
	if l := s.listener.Load(); l != nil {
		s.path.cfg.Latches.Release(l)
	}
}

func (p *Path) newSocket(cfg SocketConfig) *Socket {
	s := &Socket{path: p, cfg: cfg, want: wantKey(&cfg.Want)}
	s.cfg.Want.Suites = slices.Clone(cfg.Want.Suites)
	s.tag.V = s
	return s
}

// wantKey is a text that is equal for equal wants, as far as they choose SAs.
func wantKey(w *latch.Want) string {
	if w.Peer == "" && w.Local == "" && len(w.Suites) == 0 && w.Protection == 0 && w.Mode == 0 && !w.Narrow {
		return ""
	}
	return fmt.Sprintf("%q %q %q %d %d %t", w.Peer, w.Local, w.Suites, w.Protection, w.Mode, w.Narrow)
}

// wants reports whether c is what the socket demands. out: for sending, where a child for the flow alone may be demanded;
// what a peer sends under is the peer's choice.
func (s *Socket) wants(f ts.Flow, c *Child, out bool) bool {
	if s.want == "" {
		return true
	}
	if s.cfg.Want.Check(c.Params) != nil {
		return false
	}
	return !out || !s.cfg.Want.NeedsNarrow() || c.narrow == f
}

// latchFor returns the latch of a connected socket, and makes it at the first packet.
func (s *Socket) latchFor(f ts.Flow) (*latch.Latch, Drop) {
	if g := s.grip.Load(); g != nil {
		if g.l.Flow() != f {
			return nil, DropConflict
		}
		return g.l, DropUnset
	}
	if s.loop {
		return nil, DropConflict
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, DropBroken
	}
	if g := s.grip.Load(); g != nil {
		if g.l.Flow() != f {
			return nil, DropConflict
		}
		return g.l, DropUnset
	}
	l, err := s.path.cfg.Latches.Connect(f, s.cfg.Want, s.cfg.Alert)
	if err != nil {
		return nil, DropConflict
	}
	s.grip.Store(newGrip(l))
	return l, DropUnset
}

// sent records that a packet went out, under c or in clear.
func (s *Socket) sent(c *Child) {
	if s.child.Load() != c {
		s.child.Store(c)
	}
	if s.failure.Load() != nil {
		s.failure.Store(nil)
	}
}

func (s *Socket) failed(err error) {
	if ae := (*AcquireError)(nil); errors.As(err, &ae) {
		s.failure.Store(ae)
	}
}
