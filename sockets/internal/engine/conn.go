package engine

import (
	"crypto"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/wire"
)

// A Conn is one compiled connection: everything parsed, nothing left to look up but
// outer host names. It is immutable.
type Conn struct {
	Name     string
	Remotes  []Remote // where to find the peer; none: it comes to us
	IKE      []wire.Proposal
	Local    Identity
	RemoteID *wire.ID  // asked for with IDr; nil: none
	PSK      auth.PSK  // of both sides; empty where neither uses one
	Entry    pad.Entry // who the peer may be
	Children []*ChildConf
	// NativeESP: no encapsulation unless a NAT is found.
	NativeESP bool
	DPDDelay  time.Duration
	// DPDTimeout is how long a sign of life may take; 0: the machine's default.
	DPDTimeout time.Duration
	Life       ike.IKELife

	Unique       Unique
	Childless    ike.Childless
	Fragments    ike.Fragments
	FragmentSize int // 0: the machine's default
}

// Unique says what becomes of several IKE SAs with one peer identity. Peers without an
// identity (BTNS) are left alone in any case (RFC 7619, Section 2.5).
type Unique uint8

// The rules. In any case but UniqueNever INITIAL_CONTACT ends older SAs (RFC 7296,
// Section 2.4).
const (
	UniqueNo      Unique = iota // all stand
	UniqueNever                 // all stand, whatever the peer says
	UniqueKeep                  // the first one stands, others are refused
	UniqueReplace               // the last one stands
)

// A Remote is a peer's outer address, or the host name that has it.
type Remote struct {
	Host string // "" when Addr is set
	Addr netip.Addr
	Port uint16
}

// The machine's words for how long SAs live and what is done when they go, for who
// compiles a Conn.
type (
	IKELife  = ike.IKELife
	Terms    = ike.Terms
	Lifetime = ike.Lifetime
	Action   = ike.Action
	// Limits bound what peers may ask for before they have authenticated.
	Limits = gate.Config
)

// The machine's rules.
const (
	ChildlessNever  = ike.ChildlessNever
	ChildlessAllow  = ike.ChildlessAllow
	ChildlessPrefer = ike.ChildlessPrefer
	ChildlessForce  = ike.ChildlessForce
	FragmentsYes    = ike.FragmentsYes
	FragmentsAccept = ike.FragmentsAccept
	FragmentsNo     = ike.FragmentsNo
)

// The actions.
const (
	ActionNone  = ike.ActionNone
	ActionTrap  = ike.ActionTrap
	ActionStart = ike.ActionStart
)

// An Identity is how this host proves who it is to the peer of one Conn.
type Identity struct {
	Method string // "psk", "pubkey" or "btns"
	ID     wire.ID
	Key    crypto.Signer // nil with PSK
	SPKI   []byte        // of Key
	// Canonical is the identity in the form latches compare.
	Canonical string
}

// A ChildConf is one compiled child of a Conn.
type ChildConf struct {
	Name      string // unique on this host
	Conn      *Conn
	Pair      ts.Pair // from our view; what the peer may own bounds Remote further
	ESP       []wire.Proposal
	Transport bool
	StartNow  bool
	Passive   bool // only the peer sets it up
	Terms     ike.Terms

	ReplayWindow int // in packets; 0: the default

	suites []string // all that ESP allows
}

// local is what the machine is told of the identity.
func (id *Identity) local() ike.Local {
	l := ike.Local{ID: id.ID, Method: wire.AuthMethodPSK}
	if id.Key != nil {
		l.Method = wire.AuthMethodDigitalSignature
		// RFC 5386, Section 2: a BTNS node sends its bare key first. Peers that know
		// the key ignore it.
		if c := auth.RawCert(id.Key.Public()); c != nil {
			l.Certs = []wire.Cert{*c}
		}
	}
	return l
}

// anonymous tells whether the peer is known by nothing but a key nobody vouched for.
func (c *Conn) anonymous() bool { return c.Entry.Kind.BTNS() }

// greets tells whether an IKE SA may say INITIAL_CONTACT.
func (c *Conn) greets() bool { return !c.anonymous() && c.Unique != UniqueNever }
