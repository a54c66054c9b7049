package datapath

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/sad"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/hold"
	"github.com/btns-go/btns/tun"
)

// Config configures a Path. It must not be modified after New.
//
// The callbacks are made by goroutines that may hold gVisor's locks or be in the middle of a batch. They must not block,
// and must not call the Path or the stack: they hand over to a goroutine of their own. A nil callback is not called.
type Config struct {
	// Wire is where packets come from and go to.
	Wire tun.Wire
	// Policy is the first policy; nil discards everything.
	Policy *spd.DB
	// Latches is the latch database.
	Latches *latch.DB

	// Deliver injects a packet into the stack: netstack.Stack.Deliver.
	Deliver func(tag *netstack.Tag, parts ...[]byte)
	// Exists tells whether the stack has a connected socket for a flow: netstack.Stack.Exists.
	Exists func(ts.Flow) bool
	// Unreachable tells the sender of a held packet that it will not be sent: netstack.Stack.Unreachable. Called only by
	// goroutines that are in FailAcquire.
	Unreachable func(p *netstack.Packet, cause error)

	// Acquire asks for a child. Answered by InstallOutbound or FailAcquire.
	Acquire func(Acquire)
	// IKE takes the IKE datagrams of one batch, which are borrowed. It is called by the goroutine that receives, which holds
	// nothing then, and may call SendIKE.
	IKE func([]tun.Packet)
	// FirstInbound: the first authentic packet of a child arrived (RFC 7296, Section 2.8: now its responder may send).
	FirstInbound func(*Child)
	// Moved: the newest authentic packet of a child came over another path than CurrentPath (RFC 7296, Section 2.23). The
	// callee decides and calls SetPath. It is called once for each new path.
	Moved func(*Child, tun.Path)
	// Silent: packets have been leaving under the child for a while, and none has come. Called once for each silence.
	Silent func(*Child)
	// UnknownSPI: an ESP packet in UDP of so many octets came for an SPI that is not in use or reserved and was not a moment ago
	// (RFC 7296, Section 1.5). It is called for few of them.
	UnknownSPI func(from tun.Path, spi uint32, size int)
	// SoftLimit: the child has reached a soft limit of its Limits; called once.
	SoftLimit func(*Child)
	// Exhausted: the child has no sequence number left, or has reached a hard limit of its Limits; called once.
	Exhausted func(*Child)
	// Alerts takes alerts of latches that changed inside a hook; the callee delivers them.
	Alerts func(latch.Alerts)

	// MTU bounds inner packets for all children. 0: each child's own or the wire's.
	MTU int
	// Hold and Backoff bound first packets and requests; see package hold.
	Hold    hold.Limits
	Backoff hold.BackoffLimits
	// AllowManualAEAD lets InstallManual use counter-mode suites. For tests: a restart repeats (key, IV) pairs.
	AllowManualAEAD bool
	// Rand is crypto/rand's Reader if nil.
	Rand io.Reader
	// Now is time.Now if nil.
	Now func() time.Time
	// Log is nil for none.
	Log *slog.Logger
}

// Path is the data path of one host. Use New.
type Path struct {
	// Constant.
	cfg     Config
	caps    tun.Caps
	now     func() time.Time
	log     *slog.Logger
	sad     *sad.Table[Child]
	held    *hold.Table[peerKey, heldPacket]
	backoff *hold.Backoff[acquireKey]
	cache   *spd.Cache[decision]
	nothing *spd.DB       // the empty policy
	done    chan struct{} // closed by Close
	torn    chan struct{} // closed when it has taken everything down
	poison  bool          // tests: overwrite buffers after use

	// Atomic.
	policy    atomic.Pointer[spd.DB]
	epoch     atomic.Uint64 // moves with every change of policy or children
	fragID    atomic.Uint32
	fragBytes atomic.Int64
	closed    atomic.Bool
	strange   atomic.Int64 // Unix nanoseconds of the last call of Config.UnknownSPI
	count     counters
	batches   sync.Pool // of *batch

	// With locks of their own.
	requests requests
	embryos  embryos
	early    early
	clear    Child // what clear packets come under: a tag and a reassembler

	fragMu   sync.Mutex // guards fragging
	fragging map[*Child]struct{}

	policyMu sync.Mutex // one change of policy at a time
	tickMu   sync.Mutex // one Tick at a time: what was due is done when it returns

	mu      sync.Mutex // guards changes of children
	index   childIndex // read without mu
	serial  uint64
	retired []retired // at most maxRetired
}

// New returns a Path. Nothing is received until Run.
func New(cfg Config) (*Path, error) { return newPath(cfg) }

// Run receives from the wire until Close, or until the end of ctx, which closes the Path. Only an unexpected error of the
// wire is returned.
func (p *Path) Run(ctx context.Context) error { return p.run(ctx) }

// Close stops sending and receiving, closes the wire, releases held packets and erases all keys. Run returns soon after.
func (p *Path) Close() error { return p.close() }

// SendIKE sends IKE datagrams. Their buffers are the caller's again on return.
func (p *Path) SendIKE(pkts []tun.Packet) error { return p.sendIKE(pkts) }

// SetPolicy makes db the policy. Every packet is judged wholly by the old or wholly by the new one. Latches whose flow is no
// longer protected are broken and their holders told before the new policy counts (RFC 5660, Section 2.3).
func (p *Path) SetPolicy(db *spd.DB) { p.setPolicy(db) }

// Policy returns the policy in force.
func (p *Path) Policy() *spd.DB { return p.policy.Load() }

// ReserveSPI returns a random unused SPI for a child to be installed with InstallInbound, or to be released.
func (p *Path) ReserveSPI() (uint32, error) { return p.sad.Reserve(p.now()) }

// ReleaseSPI gives back a reserved SPI that was not used. What came for it is dropped.
func (p *Path) ReleaseSPI(spi uint32) { p.releaseSPI(spi) }

// InstallInbound makes c receive; what came for it already is delivered before it returns. c.InSPI must be reserved. key may
// be erased by the caller afterwards. Not from a callback.
func (p *Path) InstallInbound(c *Child, key esp.Key) error { return p.installInbound(c, key) }

// InstallOutbound makes c send, with the peer's SPI; held packets that fit it go out before it returns. key may be erased by
// the caller afterwards. c must have been installed inbound.
func (p *Path) InstallOutbound(c *Child, spi uint32, key esp.Key) error {
	return p.installOutbound(c, spi, key)
}

// InstallManual makes a child of a policy's manual keys, sending and receiving at once. Its latches know the peer by its
// address, for want of an identity.
func (p *Path) InstallManual(pol *spd.Policy) (*Child, error) { return p.installManual(pol) }

// Conflicting reports whether a child covers the flow that is of another peer, local identity, mode or kind of protection
// than params. It is for latch.Config.Conflicting.
func (p *Path) Conflicting(flow ts.Flow, params *latch.Params) bool {
	return p.conflicting(flow, params)
}

// Remove ends a child: after it returns, nothing is sent or delivered under it, and its keys are erased. It returns nil if
// there is no such child. Not from a callback.
func (p *Path) Remove(inSPI uint32) *Child { return p.remove(inSPI) }

// Retire ends a child that another one has replaced: after it returns nothing is sent under it, and its key for that is
// erased. What comes under it is taken for half a second more, and then until Tick, which removes it. It returns nil if there
// is no such child. Not from a callback.
func (p *Path) Retire(inSPI uint32) *Child { return p.retire(inSPI) }

// Prefer makes a child the first choice for what it covers, as if it had just been installed.
func (p *Path) Prefer(inSPI uint32) { p.prefer(inSPI) }

// Child returns the child with this inbound SPI, nil if there is none. One that was retired is still there.
func (p *Path) Child(inSPI uint32) *Child { return p.sad.Lookup(inSPI) }

// Children calls f for every child that may be used until f returns false.
func (p *Path) Children(f func(*Child) bool) { p.children(f) }

// SetPath changes where the child's packets are sent.
func (p *Path) SetPath(c *Child, path tun.Path) { p.setPath(c, path) }

// FailAcquire ends a request: the packets that wait for it are dropped, and the next ones do not ask again for a while. With
// final nobody has to be believed for it, so that pending dials fail with err at once; otherwise err is only remembered for
// Socket.LastFailure, and the packets count as lost (RFC 5660, Section 2.3). Not from a callback.
func (p *Path) FailAcquire(id uint64, err error, final bool) {
	p.failAcquire(id, err, final)
}

// Waiting reports whether a request has neither got a child that serves it nor failed.
func (p *Path) Waiting(id uint64) bool { return p.waiting(id) }

// NewSocket returns what a socket's tag points to.
func (p *Path) NewSocket(cfg SocketConfig) *Socket { return p.newSocket(cfg) }

// Accepted returns the Socket of a connection that a listener's Socket accepted; flow is the connection's, from this host's
// view. cfg.Want may not be narrower than the listener's was; the connection keeps the latch that its SYN made. The error
// says that the connection has none, and must be closed.
func (p *Path) Accepted(flow ts.Flow, cfg SocketConfig) (*Socket, error) {
	return p.accepted(flow, cfg)
}

// Output is netstack's Output hook.
func (p *Path) Output(tag *netstack.Tag, pkt *netstack.Packet) { p.output(tag, pkt) }

// Admit is netstack's Admit hook.
func (p *Path) Admit(in netstack.Inbound) bool { return p.admit(in) }

// Tick does what is due: expiry of held packets, requests, unfinished connections and fragments. Run calls it each second.
func (p *Path) Tick() { p.tick() }

// Stats returns the counters.
func (p *Path) Stats() Stats { return p.snapshot() }
