package sockets

import (
	"context"
	"crypto"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/sockets/internal/engine"
	"github.com/btns-go/btns/tun"
)

// A Config describes one host. The zero value works: a fresh Ed25519 key, an
// address derived from it, one UDP socket on a port the system picks, no peers,
// and nothing allowed in or out in the clear.
//
// New copies what it needs; the Config may be reused for another host, but must
// not be modified while New runs. Sharing a Wire or a Key between hosts is the
// caller's decision.
type Config struct {
	// Name is the host's in its log lines; left out there when empty.
	Name string

	// Key signs for this host where a Connection's Local has no key of its own.
	// Ed25519 or ECDSA on P-256 or P-384. Nil: a fresh Ed25519 key, which makes
	// the host a new BTNS identity every time (RFC 5386, Section 2).
	Key crypto.Signer

	// Addrs are the addresses of this host inside the tunnels, with the length
	// of their network. Empty: one IPv6 address derived from Key (KeyAddress).
	Addrs []netip.Prefix

	// MTU is the largest packet, in bytes, sent inside a tunnel, at least 1280; DefaultMTU
	// when 0.
	MTU int

	// Wire carries IKE and ESP. Nil: UDP sockets on Listen.
	Wire tun.Wire

	// Listen holds the local UDP addresses of the default wire, as "host:port",
	// "addr:port" or ":port". Empty: one socket on any port, enough for a host
	// that only initiates. Ignored when Wire is set.
	Listen []string

	// Connections are the peers this host keys with, in the order in which they
	// are searched. A zero Connection is BTNS with whoever comes.
	Connections []Connection

	// HalfOpen bounds what peers may ask for before they have authenticated.
	HalfOpen HalfOpen

	// Policies come before the policies of the connections' children and say what
	// may pass unprotected or must not pass at all (RFC 4301, Section 4.4.1).
	Policies []Policy

	// Hosts maps names to inner addresses, searched before Resolver.
	Hosts map[string][]netip.Addr

	// Resolver resolves names that Hosts lacks. Nil: DNS, if set; names are never
	// given to the host's own resolver.
	Resolver func(ctx context.Context, host string) ([]netip.Addr, error)

	// DNS are name servers reached through the tunnels.
	DNS []netip.AddrPort

	// DialTimeout bounds a Dial whose context has no deadline; DefaultDialTimeout
	// when 0.
	DialTimeout time.Duration

	// KeyLog, if set, receives a line with the keys of every IKE SA and of each direction
	// of every ESP SA, as a preference of Wireshark's that tshark takes as -o. It defeats
	// the protection. What Wireshark 4.0 has no words for does not upset it: lines for
	// ChaCha20-Poly1305 are comments of its tables, with the keys in them, and the columns
	// for extended sequence numbers are dropped with a warning; the packets are decrypted
	// then, but if it is told to check ICVs it takes theirs for wrong.
	KeyLog io.Writer

	// Logger receives what happens to SAs and latches; nil discards. Nothing above
	// Debug is logged per packet.
	Logger *slog.Logger
}

// Limits and defaults that a Config leaves out.
const (
	DefaultMTU         = 1400             // leaves room for IPv6, UDP and ESP in 1,500 bytes
	DefaultDialTimeout = 30 * time.Second // seven sends of an unanswered IKE_SA_INIT
	DefaultIKERekey    = 4 * time.Hour    // swanctl.conf's rekey_time of connections
	DefaultChildRekey  = time.Hour        // and of their children
	DefaultDPDDelay    = 30 * time.Second // swanctl.conf's default is never
	DefaultDPDTimeout  = 45 * time.Second // nine sends; charon takes 165 s
)

// HalfOpen are the limits for peers that have not authenticated; zero values are defaults
// that suit a gateway of thousands of peers. Beyond a limit a request is as good as lost.
type HalfOpen struct {
	// CookieThreshold is the number of IKE SAs being set up from which peers must first
	// show that they receive at their address (RFC 7296, Section 2.6); negative: always.
	CookieThreshold int
	// Limit is how many may be set up at once, AddressLimit how many from one address.
	Limit, AddressLimit int
	// Timeout is how long a peer has for it.
	Timeout time.Duration
}

// A Connection is one peer or class of peers: how to reach it, how both sides
// prove who they are, and what traffic it may carry. Fields have the names and
// meanings of swanctl.conf. The zero Connection accepts any peer with a bare key
// (BTNS) and lets each own only the address derived from its key.
type Connection struct {
	Name        string   // "conn-N" when empty
	RemoteAddrs []string // "host", "host:port"; empty or "%any": the peer comes to us
	// RemotePort is for RemoteAddrs without one. When 0 it is 500 where the wire carries
	// ESP natively and Encap lets it, else 4500.
	RemotePort uint16
	Proposals  []string // IKE proposals, as "aes256gcm16-prfsha256-x25519"; empty: the default list
	Local      Auth
	Remote     Auth
	Encap      Encap
	// DPDDelay is the silence after which the peer is asked whether it lives, so that one
	// that restarted is found out: DefaultDPDDelay when 0, never when negative.
	DPDDelay time.Duration
	// DPDTimeout is how long it may take for a sign of life: DefaultDPDTimeout when 0, at
	// most 5 minutes. swanctl.conf's dpd_timeout is for IKEv1 alone; its IKEv2 waits as long
	// for a sign of life as for any answer.
	DPDTimeout time.Duration
	// RekeyTime is when the IKE SA gets new keys, DefaultIKERekey when 0, never when
	// negative. ReauthTime is when it is made anew from scratch; 0: never. OverTime, 10 %
	// when 0, later the SA ends if neither happened. A random part of RandTime, OverTime
	// when 0, is taken off the first two.
	RekeyTime, ReauthTime, OverTime, RandTime time.Duration
	// Unique says what becomes of several IKE SAs with one peer.
	Unique Unique
	// Childless says what is done about IKE SAs that begin without a child SA.
	Childless Childless
	// Fragmentation says whether IKE messages longer than FragmentSize, 1280 octets with
	// IP and UDP header when 0, are cut.
	Fragmentation Fragmentation
	FragmentSize  int
	// AllowWeakPSK takes a shared key that can be guessed offline, with a warning (auth.PSK.Weak);
	// one is refused otherwise.
	AllowWeakPSK bool
	Children     []Child // empty: one child, all traffic between the two hosts
}

// Unique says what becomes of several IKE SAs with the same peer identity (swanctl.conf's
// unique). Peers without one (BTNS) never replace anybody, not even themselves.
type Unique = engine.Unique

// The rules.
const (
	// UniqueNo lets all stand until the peer says that it has lost the others
	// (INITIAL_CONTACT, RFC 7296, Section 2.4).
	UniqueNo = engine.UniqueNo
	// UniqueNever lets all stand whatever the peer says.
	UniqueNever = engine.UniqueNever
	// UniqueKeep refuses the peer while it has one, unless it comes from the same address
	// and port, to authenticate again, or has lost it.
	UniqueKeep = engine.UniqueKeep
	// UniqueReplace ends the older ones.
	UniqueReplace = engine.UniqueReplace
)

// Childless says what is done about IKE SAs that begin without a child SA (RFC 6023,
// swanctl.conf's childless).
type Childless uint8

const (
	// ChildlessAllow takes them from peers.
	ChildlessAllow Childless = iota
	// ChildlessPrefer makes them where the peer takes them.
	ChildlessPrefer
	// ChildlessForce makes and takes no others.
	ChildlessForce
	// ChildlessNever takes none.
	ChildlessNever
)

// Encap says whether ESP goes in UDP where no NAT demands it (RFC 3948, swanctl.conf's
// encap). A wire of UDP sockets carries no other ESP.
type Encap uint8

const (
	// EncapPort follows the port: in UDP with peers reached at port 4500, which IKE and ESP
	// share, native with all others.
	EncapPort Encap = iota
	// EncapAlways is ESP in UDP.
	EncapAlways
	// EncapNever is native ESP, whatever the port.
	EncapNever
)

// Fragmentation says what is done about IKE messages in fragments (RFC 7383,
// swanctl.conf's fragmentation).
type Fragmentation uint8

const (
	// FragmentationYes cuts long messages where the peer takes fragments, and takes them.
	FragmentationYes Fragmentation = iota
	// FragmentationAccept takes them only.
	FragmentationAccept
	// FragmentationNo does neither.
	FragmentationNo
)

// An AuthMethod says how a side proves its identity.
type AuthMethod uint8

const (
	// AuthBTNS is a bare public key without prior trust (RFC 5386).
	AuthBTNS AuthMethod = iota
	// AuthPSK is a shared key (RFC 7296, Section 2.15).
	AuthPSK
	// AuthPubKey is a public key known to the other side (RFC 7670, RFC 7427).
	AuthPubKey
)

// String gives the word that configuration files use.
func (m AuthMethod) String() string {
	switch m {
	case AuthBTNS:
		return "btns"
	case AuthPSK:
		return "psk"
	case AuthPubKey:
		return "pubkey"
	}
	return "invalid"
}

// An Auth is one side of a Connection's authentication.
type Auth struct {
	Method AuthMethod
	// ID is the identity asserted (Local) or required (Remote), in swanctl's
	// forms: an address, a name, user@name, "@#hex" for a key id. Empty: derived
	// from the key (Local), or any (Remote).
	ID string
	// Secret is the shared key; AuthPSK only, and either side may hold it.
	Secret auth.PSK
	// Key signs for the local side; nil: Config.Key.
	Key crypto.Signer
	// PublicKeys are the peer's accepted keys, for Remote with AuthPubKey.
	PublicKeys []crypto.PublicKey
	// Owns says which inner addresses the remote side may claim beyond the
	// children's selectors; Remote with AuthBTNS only.
	Owns AddressRule
}

// An AddressRule says which inner addresses an anonymous peer may own (RFC 5386,
// Section 2: the wildcard's constraints must not overlap those of other entries).
type AddressRule uint8

const (
	// OwnsKeyAddress allows the one address derived from the peer's key.
	OwnsKeyAddress AddressRule = iota
	// OwnsOuterAddress allows the address its packets come from (transport mode).
	OwnsOuterAddress
	// OwnsAny allows whatever the children's selectors allow. A peer nobody
	// vouched for can then claim any of these addresses.
	OwnsAny
)

// A Child is one child SA's worth of traffic (swanctl.conf's children section).
type Child struct {
	Name      string   // "NAME-N" of the connection when empty
	LocalTS   []string // selectors of our side, as "10.1.0.0/24[tcp/80]"; empty: our own addresses
	RemoteTS  []string // selectors of the peer; empty: what it may own
	Mode      esp.Mode // zero: tunnel
	Proposals []string // ESP proposals, as "aes256gcm16-esn-noesn"; empty: the default list
	// Word is the policy for this traffic (spd.ParseWord); "private" when empty.
	Word string
	// Start says when the child SA is set up.
	Start StartAction
	// OnDPD says what becomes of it when the peer is dead, OnClose when the peer deletes it
	// or it expires.
	OnDPD, OnClose LossAction
	// RekeyTime is when the child SA is replaced, DefaultChildRekey when 0, never when
	// negative; LifeTime, 110 % of it when 0, when it ends. A random part of RandTime,
	// their difference when 0, is taken off RekeyTime. The others are the same in bytes and
	// packets, for each direction by itself; 0: no limit.
	RekeyTime, LifeTime, RandTime          time.Duration
	RekeyBytes, LifeBytes, RandBytes       uint64
	RekeyPackets, LifePackets, RandPackets uint64
	// ReplayWindow is how many packets behind the newest may still come: a multiple of 64
	// from replay.MinSize to replay.MaxSize, replay.DefaultSize when 0.
	ReplayWindow int
	// Inactivity deletes it after this long without a packet; 0: never.
	Inactivity time.Duration
}

// A LossAction says what becomes of a child SA that was lost (swanctl.conf's dpd_action
// and close_action). Its policy stays in any case: nothing leaks.
type LossAction uint8

const (
	// LossClear does nothing more about it. What its StartAction says goes on: with StartTrap
	// or StartNow the next packet that needs it makes it again, with StartNone the peer or
	// somebody by name. The words are swanctl's clear and none.
	LossClear LossAction = iota
	// LossTrap makes it again when the next packet needs it, even with StartNone, from then on
	// until it is terminated by name.
	LossTrap
	// LossStart makes it again at once.
	LossStart
)

// A StartAction says when a child SA is set up (swanctl.conf start_action).
type StartAction uint8

const (
	// StartTrap sets it up when the first packet needs it.
	StartTrap StartAction = iota
	// StartNow sets it up when the host comes up, trying for ever, and again when it has
	// expired or a packet needs it.
	StartNow
	// StartNone leaves it to the peer, or to somebody who initiates it by name. Packets
	// find no SA until then.
	StartNone
)

// A Policy is one SPD entry of its own, without a peer.
type Policy struct {
	Name     string
	LocalTS  []string // empty: anything
	RemoteTS []string // empty: anything
	Word     string   // as spd.ParseWord reads it; "block" when empty, "private" with Manual
	// Manual keys the traffic by hand, for peers without IKE. Suites with a counter IV
	// are refused: a restart would repeat (key, IV) pairs (RFC 4106, Section 2).
	Manual *spd.Manual
}
