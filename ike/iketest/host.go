package iketest

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// maxPerAddr is how many half-open SAs a host lets others have.
const maxPerAddr = 1000

// Host is one host: the engine's stand-in around its machines.
type Host struct {
	Sim  *Sim
	Name string
	// Addr is its address and the port it starts from; it listens on all ports.
	Addr netip.AddrPort
	// Outside, if valid, is the address a NAT in front of it shows; ports change too,
	// unless KeepPorts is set, as for a server.
	Outside   netip.Addr
	KeepPorts bool
	// Mapped shows it IPv4 addresses as IPv4-mapped ones, as some sockets do.
	Mapped bool

	// Config is the template for its machines.
	Config ike.Config

	Credentials
	// WantID is the only identity accepted; nil accepts any.
	WantID *wire.ID

	// Allow is the traffic granted to peers, from this host's view, ESP what is
	// accepted for it, Transport whether transport mode is.
	Allow     ts.Pair
	ESP       []wire.Proposal
	Transport bool
	// RekeyESP is offered when a child SA is rekeyed; empty offers its suite again.
	RekeyESP []wire.Proposal
	// Terms are those of child SAs.
	Terms ike.Terms
	// Refuse, if not 0, refuses every child SA.
	Refuse wire.NotifyType
	// Answer, if not nil, may replace what the host would answer to Work.
	Answer func(w ike.Work, r ike.WorkResult) ike.WorkResult
	// OnEvent, if not nil, is told of all events.
	OnEvent func(e *End, ev ike.Event)

	Gate *gate.Gate
	Ends []*End
	SPIs map[uint32]SPIState // every SPI ever reserved
	// Down says that nobody is there: what comes is lost.
	Down bool
	// Mute sends no INVALID_SPI, like most of the world.
	Mute bool
	// Counters of all machines.
	Counters ike.Counters

	rand    *rand.Rand
	ref     uint64
	mapping uint16
	plane   plane

	machines map[*ike.Machine]*End // of Ends
	recovery recovery
	live     []*End // those of Ends that are not over
}

// SPIState is what became of a reserved SPI.
type SPIState uint8

// The states of a reserved SPI.
const (
	SPIReserved SPIState = 1 + iota
	SPIInstalled
	SPIReleased
	SPIRemoved
)

// AddHost adds a host with a shared key and default proposals.
func (s *Sim) AddHost(name string, addr string) *Host {
	h := &Host{Sim: s, Name: name, Addr: netip.MustParseAddrPort(addr), SPIs: map[uint32]SPIState{}, machines: map[*ike.Machine]*End{},
		rand: rand.New(rand.NewPCG(s.Seed, uint64(len(s.hosts)+1)))}
	h.Secret = auth.NewPSK([]byte("a secret that both ends know, and nobody else"))
	h.ESP = MustESP("aes256gcm16-esn-noesn", "chacha20poly1305", "aes128-sha256")
	inner := ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.0.0.0/8")), ts.FromPrefix(netip.MustParsePrefix("fd00::/16"))}
	h.Allow = ts.Pair{Local: inner, Remote: inner}
	h.Transport = true
	h.Config = ike.Config{Name: name, Proposals: MustIKE("aes256gcm16-prfsha256-x25519"),
		Local: ike.Local{ID: wire.ID{IType: wire.IDFQDN, Data: []byte(name)}, Method: wire.AuthMethodPSK},
		Rand:  reader{h.rand}, Counters: &h.Counters, KeyLog: true, Heirs: true}
	g, err := gate.New(gate.Config{MaxPerAddr: maxPerAddr, MaxPerPrefix: maxPerAddr, InitRate: 1 << 20}, reader{h.rand}, s.Now)
	if err != nil {
		s.fail("%s: %v", name, err)
	}
	h.Gate = g
	s.hosts = append(s.hosts, h)
	return h
}

// UseKey makes the host authenticate with a bare key.
func (h *Host) UseKey(k crypto.Signer) {
	h.Key = k
	h.Config.HashAlgs = auth.Hashes()
	h.Config.CertRequest = []wire.CertEncoding{wire.CertRawPublicKey}
	h.Config.Local.Method = wire.AuthMethodDigitalSignature
	h.Config.Local.Certs = []wire.Cert{{Encoding: wire.CertRawPublicKey, Data: auth.SPKI(k.Public())}}
}

// MustIKE parses IKE proposal strings.
func MustIKE(ss ...string) []wire.Proposal { return must(suite.IKEProposals(ss...)) }

// MustESP parses ESP proposal strings.
func MustESP(ss ...string) []wire.Proposal { return must(suite.ESPProposals(ss...)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Pair returns the pair of two selectors in swanctl's words.
func Pair(local, remote string) ts.Pair {
	return ts.Pair{Local: ts.Set{must(ts.Parse(local))}, Remote: ts.Set{must(ts.Parse(remote))}}
}

// Request returns a request for a child SA with a fresh SPI.
func (h *Host) Request(name string, pair ts.Pair, proposals ...wire.Proposal) *ike.ChildRequest {
	h.ref++
	if len(proposals) == 0 {
		proposals = h.ESP
	}
	return &ike.ChildRequest{Name: name, Ref: h.ref, SPI: h.Reserve(), Proposals: proposals, Pair: pair, Terms: h.Terms}
}

// DefaultPair is covered by what hosts allow by default.
func DefaultPair() ts.Pair { return Pair("10.1.0.0/16", "10.2.0.0/16") }

// Connect starts an IKE SA with a child SA; req nil takes a default one.
func (h *Host) Connect(to *Host, req *ike.ChildRequest) *End {
	if req == nil {
		req = h.Request("net", DefaultPair())
	}
	return h.ConnectTo(to.PublicAddr(), req)
}

// ConnectTo is Connect to an address; req nil makes a childless SA.
func (h *Host) ConnectTo(remote netip.AddrPort, req *ike.ChildRequest) *End {
	cfg := h.Config
	m, err := ike.NewInitiator(&cfg, path(h.Addr, remote), h.Sim.Now)
	if err != nil {
		h.Sim.fail("%s: %v", h.Name, err)
		return nil
	}
	e := h.Adopt(m)
	e.input(func() { m.Start(h.Sim.Now, req) })
	return e
}

// PublicAddr is where others reach the host.
func (h *Host) PublicAddr() netip.AddrPort {
	if h.Outside.IsValid() {
		return netip.AddrPortFrom(h.Outside, h.outsidePort(h.Addr.Port()))
	}
	return h.Addr
}

// outsidePort is the port a NAT shows for an inside port.
func (h *Host) outsidePort(p uint16) uint16 {
	if h.KeepPorts {
		return p
	}
	return p ^ 0x4000 ^ h.mapping
}

// Rebind makes the NAT in front of the host forget: from now on it shows other ports, and what
// comes for the old ones is lost.
func (h *Host) Rebind() { h.mapping = uint16(h.rand.Uint32()) & 0x3f00 }

// Crash makes the host forget everything it knew, without a word, and start again.
func (h *Host) Crash() {
	h.Ends, h.live, h.SPIs = nil, nil, map[uint32]SPIState{}
	clear(h.machines)
	h.plane.waiting, h.plane.got = nil, nil
	g, err := gate.New(gate.Config{MaxPerAddr: maxPerAddr, MaxPerPrefix: maxPerAddr, InitRate: 1 << 20}, reader{h.rand}, h.Sim.Now)
	if err != nil {
		h.Sim.fail("%s: %v", h.Name, err)
	}
	h.Gate = g
}

// receives reports whether the datagram is for the host, and along which path it sees it.
func (h *Host) receives(d Datagram) (ike.Path, bool) {
	switch {
	case h.Outside.IsValid() && d.To.Addr() == h.Outside:
		port := h.outsidePort(d.To.Port())
		mapped := h.KeepPorts || port == h.Addr.Port() || port == wire.PortNATT
		return path(netip.AddrPortFrom(h.Addr.Addr(), port), d.From), mapped
	case !h.Outside.IsValid() && d.To.Addr() == h.Addr.Addr():
		return path(d.To, d.From), true
	}
	return ike.Path{}, false
}

// send puts a machine's datagram on the network.
func (h *Host) send(p ike.Path, b []byte) {
	h.Sim.send(Datagram{From: h.Source(p), To: p.Remote, Data: bytes.Clone(b)})
}

// Source is where others see what leaves along a path come from.
func (h *Host) Source(p ike.Path) netip.AddrPort {
	from := p.Local
	if !from.IsValid() || from.Addr().IsUnspecified() {
		from = h.Addr
	}
	if h.Outside.IsValid() {
		from = netip.AddrPortFrom(h.Outside, h.outsidePort(from.Port()))
	}
	return from
}

// datagram is the receive path: gate, then the machine. The buffer is overwritten
// afterwards: nobody may have kept it.
func (h *Host) datagram(p ike.Path, b []byte) {
	defer func() {
		for i := range b {
			b[i] = 0xaa
		}
	}()
	s := h.Sim
	if h.Mapped {
		p = path(mapped(p.Local), mapped(p.Remote))
	}
	v := h.Gate.Classify(s.Now, gate.Path(p), b)
	switch v.Kind {
	case gate.Drop:
	case gate.Reply:
		if len(v.Reply) > len(b) {
			s.fail("I12: %s answers a stranger's %d octets with %d", h.Name, len(b), len(v.Reply))
		}
		h.send(p, v.Reply)
	case gate.Hint:
		h.hinted(p, v.SPI)
	case gate.Existing:
		for _, e := range h.live {
			if e.key() == v.Key {
				e.datagram(p, b)
				return
			}
		}
		s.fail("I9: %s: the gate knows an SA that is gone: %v", h.Name, v.Key)
	case gate.NewResponder:
		cfg := h.Config
		m, err := ike.NewResponder(&cfg, p, b, s.Now)
		if err != nil {
			return
		}
		e := h.add(m)
		if m.State() == ike.StateInitBusy && !h.Gate.Open(s.Now, v, m.LocalSPI()) {
			s.fail("%s: gate refuses to open", h.Name)
		}
		e.bytesIn += len(b)
		e.input(func() {})
	}
}

func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

func (h *Host) add(m *ike.Machine) *End {
	e := &End{Host: h, M: m, Children: map[uint32]*Child{}, role: m.Role()}
	h.Ends, h.live = append(h.Ends, e), append(h.live, e)
	h.machines[m] = e
	return e
}

// Reserve takes a fresh SPI.
func (h *Host) Reserve() uint32 {
	for {
		spi := h.rand.Uint32()
		if _, used := h.SPIs[spi]; spi >= 256 && !used {
			h.SPIs[spi] = SPIReserved
			return spi
		}
	}
}

func (h *Host) end(m *ike.Machine) *End { return h.machines[m] }

// Established returns the ends that are established now, without those that were made
// by rekeying and not chosen yet.
func (h *Host) Established() []*End {
	return slices.DeleteFunc(slices.Clone(h.Ends), func(e *End) bool { return !e.Up() || e.candidate || e.Next != nil })
}

// Child returns the only child SA of the host; nil if there is none or more than one.
func (h *Host) Child() *Child {
	var found *Child
	for _, e := range h.Ends {
		for _, c := range e.Children {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}

// String returns the name.
func (h *Host) String() string { return fmt.Sprintf("host %s", h.Name) }

// Adopt makes a machine one of the host's.
func (h *Host) Adopt(m *ike.Machine) *End {
	e := h.add(m)
	if m.State() != ike.StateClosed && !h.Gate.Add(e.key()) {
		h.Sim.fail("%s: SPI taken", h.Name)
	}
	return e
}
