package ike

import (
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// Role is the part an end plays in an IKE SA, for the SA's whole life. It is not
// who started one exchange: after the SA stands, either role starts exchanges.
type Role uint8

// The roles. The zero Role is invalid.
const (
	Initiator Role = 1 // sent the IKE_SA_INIT request
	Responder Role = 2 // answered it
)

// String returns "initiator" or "responder".
func (r Role) String() string {
	switch r {
	case Initiator:
		return "initiator"
	case Responder:
		return "responder"
	}
	return "invalid role"
}

// Path is the outer path of a datagram from this host's view. The zero Local
// address means that the wire picks it; the machine learns it from the answers.
type Path struct{ Local, Remote netip.AddrPort }

// unmapped returns the path with IPv4 addresses as such, so that paths compare.
func (p Path) unmapped() Path {
	return Path{
		Local:  netip.AddrPortFrom(p.Local.Addr().Unmap(), p.Local.Port()),
		Remote: netip.AddrPortFrom(p.Remote.Addr().Unmap(), p.Remote.Port()),
	}
}

// String returns "local→remote".
func (p Path) String() string { return p.Local.String() + "→" + p.Remote.String() }

// Local is the identity with which this end authenticates.
type Local struct {
	// ID is sent as IDi or IDr.
	ID wire.ID

	// Method is the kind of AUTH payload that WorkSign will be answered with. It
	// is passed on in WorkSign and decides whether Certs are sent: not with PSK.
	Method wire.AuthMethod

	// Certs are sent in this order. The first is the end entity's own key; a
	// BTNS node puts its bare key (encoding 15, RFC 7670) first (RFC 5386,
	// Section 2). Empty sends none.
	Certs []wire.Cert
}

// Config is what a Machine is made with. It must not be modified after use; one
// Config may serve any number of machines at once. The zero values of all fields
// not marked "required" are sane.
type Config struct {
	// Name names the peer or connection in errors and log lines.
	Name string

	// Proposals are the IKE proposals, most wanted first; required. Num is set
	// by the machine.
	Proposals []wire.Proposal

	// Local is who we are; ID is required. A responder may replace it per peer in
	// VerifyResult.
	Local Local

	// RemoteID is the identity asked for (sent as IDr by an initiator); nil asks
	// for none. Whether the peer's identity is the wanted one is decided by
	// WorkVerify, which is also told what was asked.
	RemoteID *wire.ID

	// CertRequest are the encodings asked for with CERTREQ, with an empty
	// authority field (RFC 7670, Section 3, for encoding 15). Empty asks for none.
	CertRequest []wire.CertEncoding

	// HashAlgs are announced in SIGNATURE_HASH_ALGORITHMS (RFC 7427, Section 4).
	// Empty announces nothing: the peer then cannot use method 14.
	HashAlgs []uint16

	// ForceEncap fakes a NAT on our side, so that ESP is carried in UDP whatever
	// the path is (RFC 7296, Section 2.23). For wires without native ESP.
	ForceEncap bool

	// FloatPort is the local port used after the move to port 4500, when the
	// exchange started on port 500. Zero: 4500 if we were on 500, else unchanged.
	FloatPort uint16

	// InitialContact makes an initiator say that this is its only SA with the
	// peer (RFC 7296, Section 2.4).
	InitialContact bool

	// Childless says what is done about IKE SAs that begin without a child SA
	// (RFC 6023).
	Childless Childless

	// FragmentSize is the longest IP datagram that a protected message is sent in;
	// longer ones go in fragments if the peer takes them (RFC 7383). 0: 1280 octets.
	FragmentSize int

	// Fragments says whether messages are sent and taken in fragments at all.
	Fragments Fragments

	// Retransmit is the schedule of requests.
	Retransmit Retransmit

	// DPDDelay is the silence after which the peer is asked for a sign of life;
	// zero never asks (RFC 7296, Section 2.4).
	DPDDelay time.Duration

	// DPDTimeout is how long the peer may take for a sign of life before it counts as
	// dead. Zero: 45 s, in which the default schedule sends nine times.
	DPDTimeout time.Duration

	// Life bounds established SAs; zero values keep them until they are deleted.
	Life IKELife

	// Heirs says that who runs the machine carries out Rekeying, Rekeyed and Wake.
	// Without it a peer that wants to rekey the IKE SA is refused with
	// NO_ADDITIONAL_SAS (RFC 7296, Section 1.3), and we ask for reauthentication
	// instead of doing it.
	Heirs bool

	// HalfOpenLife bounds a responder's life before IKE_AUTH has succeeded. Zero
	// is DefaultHalfOpenLife, which outlasts our own retransmission schedule.
	HalfOpenLife time.Duration

	// MaxChildren bounds the child SAs of this IKE SA; zero is
	// DefaultMaxChildren. Beyond it a peer is told NO_ADDITIONAL_SAS.
	MaxChildren int

	// Rand gives SPIs, nonces and CBC IVs; required.
	Rand io.Reader

	// KeyLog emits KeyLog events. The keys in them decrypt the traffic.
	KeyLog bool

	// Counters, if not nil, is added to by every machine of this Config.
	Counters *Counters

	// Log gets at most a line per exchange; nil discards.
	Log *slog.Logger

	faults fault // tests only
}

// Childless is what an end does about IKE SAs that begin without a child SA (RFC 6023).
type Childless uint8

// The rules. A responder announces and takes such SAs with all but the first.
const (
	ChildlessNever  Childless = iota // a responder takes none
	ChildlessAllow                   // an initiator asks for its child SA in IKE_AUTH nevertheless
	ChildlessPrefer                  // an initiator asks for it in CREATE_CHILD_SA, if the peer lets it
	ChildlessForce                   // the same, or there is no IKE SA
)

// Fragments is what an end does about messages in fragments (RFC 7383).
type Fragments uint8

// The rules.
const (
	FragmentsYes    Fragments = iota // sent and taken
	FragmentsAccept                  // taken
	FragmentsNo                      // neither
)

// Retransmit is a schedule of requests: the wait after send n (from 0) is
// Initial × Factor^n, at most Max. The zero value is 13 sends within 270 s.
type Retransmit struct {
	Initial time.Duration // zero: 500 ms
	Factor  float64       // zero: 1.55; below 1 counts as 1
	Max     time.Duration // longest wait; zero: none
	Sends   int           // zero: 13, which is also the most
}
