package datapath

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// A Peer is the proven identity behind a child. It is immutable and shared by all children of one IKE SA.
type Peer struct {
	// Name is the name of the connection in the configuration; spd.Policy.Peer is compared with it.
	Name string
	// ID and LocalID are the identities that both sides proved, as text.
	ID, LocalID string
	// Method says how the peer proved its identity: "psk", "pubkey", "btns", "manual" …
	Method string
	// SPKI is the peer's public key as SubjectPublicKeyInfo, nil if it used none; LocalSPKI is ours.
	SPKI, LocalSPKI []byte
	// Anonymous: the key is all that is known (BTNS). Only policies with BTNSOK use such a peer's SAs, and never while one
	// of an authenticated peer fits.
	Anonymous bool
	// V is the engine's own.
	V any
}

// A Child is a pair of SAs. The caller fills the exported fields, gives it to InstallInbound, and never changes them again.
// A child is found by its inbound SPI, which the caller reserved with ReserveSPI.
type Child struct {
	// Name is the name of the child's configuration; spd.Policy.Child is compared with it.
	Name string
	// InSPI is the SPI that the peer puts into its packets.
	InSPI uint32
	Suite esp.Suite
	Mode  esp.Mode
	ESN   bool
	// ReplayWindow is in packets; 0 means 1,024.
	ReplayWindow int
	// Pair is what the child may carry, from this host's view.
	Pair ts.Pair
	// Params is what a latch on this child binds a flow to. Children of one peer share it where it is equal.
	Params *latch.Params
	Peer   *Peer
	// Local and Remote are the addresses of the packets of a transport-mode child. If they are zero they are taken from
	// Pair, which must then hold one address on each side.
	Local, Remote netip.Addr
	// MTU bounds the inner packets, IP header included. 0: what fits the wire's MTU.
	MTU int
	// Path is where the peer is when the child is installed; SetPath changes it.
	Path tun.Path
	// Suites are those that a replacement of the child may have: the configuration's list. A latch on the child is bound to
	// the set, unless the child is as narrow as one flow (RFC 5660, Section 2.1).
	Suites []string
	// VerifyInner demands that transport checksums of inbound packets are verified. It is implied where the peer forwards
	// for others: in tunnel mode, when Pair.Remote is more than one address.
	VerifyInner bool
	// Spare: until Prefer it carries only what no other child covers.
	Spare bool
	// Limits end the child's use by what it carried.
	Limits SALimits
	// V is the engine's own.
	V any

	// Constant from InstallInbound on.
	tag    netstack.Tag // rides on inbound packets; V is the child
	verify bool         // VerifyInner or implied
	narrow ts.Flow      // the only flow of Pair, zero if there are more
	suites []string     // what a latch on the child may be continued with: Suites, none if narrow
	in     *esp.Inbound
	since  int64 // Unix nanoseconds of InstallInbound
	reasm  reassembler

	// Atomic.
	out       atomic.Pointer[outboundSA] // nil until InstallOutbound
	path      atomic.Pointer[pathState]
	told      atomic.Pointer[tun.Path] // what Config.Moved was called with last, nil once the peer is back or SetPath was called
	serial    atomic.Uint64            // order of InstallOutbound: later ones win
	gone      atomic.Bool              // set by Retire and Remove: nothing is sent
	shut      atomic.Bool              // set by Remove: nothing is delivered
	heardAny  atomic.Bool              // Config.FirstInbound was called
	exhausted atomic.Bool              // Config.Exhausted was called
	softened  atomic.Bool              // Config.SoftLimit was called
	spent     atomic.Bool              // a hard limit of Limits is reached
	heard     atomic.Int64             // Unix nanoseconds of the last authentic packet, 0 for none
	sent      atomic.Int64             // same, of the last packet sent
	lone      atomic.Int64             // same, of the first packet sent since the last one heard; see silence.go

	// gate is held for reading while a batch of packets is opened and delivered, and for writing to close the child, so that
	// nothing is delivered after Remove returned.
	gate   sync.RWMutex
	closed bool // under gate
}

// Tag is the tag of packets that arrived under the child. Written with WriteMsg it demands a child that protects equally.
func (c *Child) Tag() *netstack.Tag { return &c.tag }

// OutSPI is the SPI under which packets leave, 0 until InstallOutbound.
func (c *Child) OutSPI() uint32 {
	if o := c.out.Load(); o != nil {
		return o.spi
	}
	return 0
}

// CurrentPath is where packets are sent.
func (c *Child) CurrentPath() tun.Path {
	if st := c.path.Load(); st != nil {
		return st.path
	}
	return c.Path
}

// Narrow reports whether the child is as narrow as one flow: what a latch on it is bound to is its one suite.
func (c *Child) Narrow() bool { _, one := oneFlow(c.Pair); return one }

// Removed reports whether the child was retired or removed: nothing is sent under it any more.
func (c *Child) Removed() bool { return c.gone.Load() }

// Installed is when the child was installed.
func (c *Child) Installed() time.Time { return fromNanos(c.since) }

// LastHeard is when the last authentic packet arrived, the zero Time if none did.
func (c *Child) LastHeard() time.Time { return fromNanos(c.heard.Load()) }

// LastSent is when the last packet was sent, the zero Time if none was.
func (c *Child) LastSent() time.Time { return fromNanos(c.sent.Load()) }

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// ChildStats counts what a child carried. Bytes are those of ESP payloads: inner packets in tunnel mode.
type ChildStats struct {
	InPackets  uint64    `json:"in_packets"`
	InBytes    uint64    `json:"in_bytes"`
	OutPackets uint64    `json:"out_packets"`
	OutBytes   uint64    `json:"out_bytes"`
	InDropped  uint64    `json:"in_dropped"`
	LastHeard  time.Time `json:"last_heard"`
	LastSent   time.Time `json:"last_sent"`
}

// Stats returns the child's counters.
func (c *Child) Stats() ChildStats {
	s := ChildStats{LastHeard: c.LastHeard(), LastSent: c.LastSent()}
	if c.in != nil {
		st := c.in.Snapshot()
		s.InPackets, s.InBytes, s.InDropped = st.Packets, st.Bytes, st.Dropped()
	}
	if o := c.out.Load(); o != nil {
		st := o.sa.Snapshot()
		s.OutPackets, s.OutBytes = st.Packets, st.Bytes
	}
	return s
}
