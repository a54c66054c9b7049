package sockets

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/replay"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/engine"
	"github.com/btns-go/btns/tun"
)

// minMTU is what IPv6 wants of every link (RFC 8200, Section 5).
const minMTU = 1280

// A compiler turns a Config into what the engine joins. It stops at the first error.
type compiler struct {
	cfg   *Config
	key   crypto.Signer
	addrs []netip.Prefix
	caps  tun.Caps

	conns    []*engine.Conn
	entries  []pad.Entry
	policies []spd.Policy
	names    map[string]bool   // of connections
	children map[string]string // names of children → of their connections
}

// A ConfigError names the part of a Config that can't be.
type ConfigError struct {
	Path string // as "connections.moon.children.net.local_ts"
	Err  error
}

func (e *ConfigError) Error() string { return "config: " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

func bad(err error, path ...string) error {
	return &ConfigError{Path: strings.Join(path, "."), Err: err}
}

// key is the host's key, a fresh one if the Config has none.
func (c *Config) key() (crypto.Signer, error) {
	if c.Key == nil {
		return auth.GenerateKey(auth.KindEd25519)
	}
	if auth.SPKI(c.Key.Public()) == nil {
		return nil, bad(fmt.Errorf("%T is no Ed25519, P-256 or P-384 key", c.Key.Public()), "key")
	}
	return c.Key, nil
}

// caps are the wire's, or those the default wire will have.
func (c *Config) caps() tun.Caps {
	if c.Wire != nil {
		return c.Wire.Caps()
	}
	return tun.Caps{}
}

func compile(cfg *Config, key crypto.Signer, caps tun.Caps) (*engine.Config, error) {
	c := &compiler{cfg: cfg, key: key, caps: caps, addrs: slices.Clone(cfg.Addrs), names: map[string]bool{}, children: map[string]string{}}
	if len(c.addrs) == 0 {
		c.addrs = []netip.Prefix{netip.PrefixFrom(pad.KeyAddress(auth.SPKI(key.Public())), 128)}
	}
	for i, a := range c.addrs {
		if !a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
			return nil, bad(fmt.Errorf("%s is no address with a prefix length", a), "addresses", strconv.Itoa(i))
		}
		if a := a.Addr(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return nil, bad(fmt.Errorf("%s can be no host's inside a tunnel", a), "addresses", strconv.Itoa(i))
		}
	}
	if cfg.MTU != 0 && (cfg.MTU < minMTU || cfg.MTU > 65535) {
		return nil, bad(fmt.Errorf("%d is outside %d to 65535", cfg.MTU, minMTU), "mtu")
	}
	for i := range cfg.Policies {
		if err := c.policy(i); err != nil {
			return nil, err
		}
	}
	for i := range cfg.Connections {
		if err := c.connection(i); err != nil {
			return nil, err
		}
	}
	db, err := pad.New(c.entries)
	if err != nil {
		return nil, bad(err, "connections")
	}
	policy, err := spd.New(c.policies)
	if err != nil {
		return nil, bad(err, "policies")
	}
	if err := policy.Check(spd.Allow{ClearPackets: caps.ClearPackets}); err != nil {
		return nil, bad(err, "policies")
	}
	limits, err := cfg.HalfOpen.compile()
	if err != nil {
		return nil, err
	}
	return &engine.Config{Addrs: c.addrs, MTU: cfg.MTU, Policy: policy, PAD: db, Conns: c.conns, Limits: limits}, nil
}

func (c *compiler) policy(i int) error {
	p := &c.cfg.Policies[i]
	name := p.Name
	if name == "" {
		name = "policy-" + strconv.Itoa(i+1)
	}
	out := spd.Policy{Name: name, Manual: p.Manual}
	var err error
	if out.Sel.Local, err = c.selectors(p.LocalTS, "policies", name, "local_ts"); err != nil {
		return err
	}
	if out.Sel.Remote, err = c.selectors(p.RemoteTS, "policies", name, "remote_ts"); err != nil {
		return err
	}
	if len(p.LocalTS) == 0 {
		out.Sel.Local = everything()
	}
	if len(p.RemoteTS) == 0 {
		out.Sel.Remote = everything()
	}
	switch {
	case p.Word != "":
		if out.Word, err = spd.ParseWord(p.Word); err != nil {
			return bad(err, "policies", name, "policy")
		}
	case p.Manual != nil:
		out.Word = spd.Private
	}
	if out.Word.AllowsSA() && p.Manual == nil {
		return bad(fmt.Errorf("%s needs a peer: put it under a connection's children", out.Word), "policies", name, "policy")
	}
	if p.Manual != nil {
		if err := p.Manual.Check(false); err != nil {
			return bad(err, "policies", name, "manual")
		}
		if _, err := replay.New(p.Manual.ReplayWindow); err != nil {
			return bad(err, "policies", name, "manual", "replay_window")
		}
		if s, err := esp.ParseSuite(p.Manual.Suite); err != nil {
			return bad(err, "policies", name, "manual", "suite")
		} else if n := s.KeyLen(); len(p.Manual.InKey) != n || len(p.Manual.OutKey) != n {
			return bad(fmt.Errorf("%s needs keys of %d bytes, not %d and %d", s, n, len(p.Manual.InKey), len(p.Manual.OutKey)),
				"policies", name, "manual")
		}
		// Its own SAs alone serve it, whoever else's selectors overlap.
		out.Child, out.Mode = name, p.Manual.Mode
	}
	c.policies = append(c.policies, out)
	return nil
}

func (c *compiler) selectors(words []string, path ...string) (ts.Set, error) {
	var set ts.Set
	for _, w := range words {
		s, err := ts.Parse(w)
		if err != nil {
			return nil, bad(err, path...)
		}
		set = append(set, s)
	}
	return set, nil
}

func everything() ts.Set {
	return ts.Set{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), ts.FromPrefix(netip.MustParsePrefix("::/0"))}
}

// own are the selectors of this host's addresses.
func (c *compiler) own() ts.Set {
	var set ts.Set
	for _, a := range c.addrs {
		set = append(set, ts.FromAddr(a.Addr()))
	}
	return set
}

func (c *compiler) connection(i int) error {
	in := &c.cfg.Connections[i]
	name := in.Name
	if name == "" {
		name = "conn-" + strconv.Itoa(i+1)
	}
	path := func(rest ...string) []string { return append([]string{"connections", name}, rest...) }
	out := &engine.Conn{Name: name, DPDDelay: orDefault(in.DPDDelay, DefaultDPDDelay),
		DPDTimeout: orDefault(in.DPDTimeout, DefaultDPDTimeout),
		Life:       engine.IKELife{Rekey: orDefault(in.RekeyTime, DefaultIKERekey), Reauth: in.ReauthTime, Over: in.OverTime, Rand: in.RandTime}}
	if out.DPDTimeout < 0 || out.DPDTimeout > 5*time.Minute {
		return bad(fmt.Errorf("%s is not between 0 and 5 minutes", out.DPDTimeout), path("dpd_timeout")...)
	}
	var err error
	native := c.caps.NativeESP && in.Encap != EncapAlways
	if out.Remotes, err = remotes(in, native); err != nil {
		return bad(err, path("remote_addrs")...)
	}
	out.NativeESP = native && (in.Encap == EncapNever || !slices.ContainsFunc(out.Remotes, func(r engine.Remote) bool { return r.Port == tun.PortNATT }))
	words := in.Proposals
	if len(words) == 0 {
		words = []string{"default"}
	}
	if out.IKE, err = suite.IKEProposals(words...); err != nil {
		return bad(err, path("proposals")...)
	}
	if err := sessions(in, out, path); err != nil {
		return err
	}
	if err := c.local(in, out); err != nil {
		return bad(err, path("local")...)
	}
	if err := c.remote(in, out); err != nil {
		return bad(err, path("remote")...)
	}
	children := in.Children
	if len(children) == 0 {
		children = []Child{{Name: name}}
		if in.Remote.Owns == OwnsOuterAddress {
			children[0].Mode = esp.ModeTransport
		}
	}
	for j := range children {
		if err := c.child(in, out, &children[j], j); err != nil {
			return err
		}
	}
	if c.names[name] {
		return bad(fmt.Errorf("two connections have this name"), path()...)
	}
	c.names[name] = true
	out.Entry.Name, out.Entry.Conn = name, name
	owns(&out.Entry, out.Children)
	c.entries = append(c.entries, out.Entry)
	c.conns = append(c.conns, out)
	return nil
}

// owns says which addresses an authenticated peer may own: those of its children, which
// somebody wrote down for it.
func owns(e *pad.Entry, children []*engine.ChildConf) {
	if e.Kind.BTNS() {
		return // its rule was given
	}
	for _, cc := range children {
		e.Allow.Selectors = append(e.Allow.Selectors, cc.Pair.Remote...)
	}
}

// remotes reads where the peer is: "%any" and nothing mean that it comes to us. Port 4500 is
// for IKE and ESP in UDP (RFC 7296, Section 2.23).
func remotes(in *Connection, native bool) ([]engine.Remote, error) {
	port := in.RemotePort
	switch {
	case port != 0:
	case native:
		port = tun.PortIKE
	default:
		port = tun.PortNATT
	}
	var out []engine.Remote
	for _, w := range in.RemoteAddrs {
		if w == "%any" || w == "" {
			continue
		}
		if a, err := netip.ParseAddr(w); err == nil {
			out = append(out, engine.Remote{Addr: a.Unmap(), Port: port})
			continue
		}
		r := engine.Remote{Host: w, Port: port}
		if h, p, err := net.SplitHostPort(w); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("%q has no port to send to behind its colon", w)
			}
			r.Host, r.Port = h, uint16(n)
		}
		if a, err := netip.ParseAddr(r.Host); err == nil {
			out = append(out, engine.Remote{Addr: a.Unmap(), Port: r.Port})
			continue
		}
		if r.Host == "" || strings.ContainsAny(r.Host, " /%:") || numeric(r.Host) {
			return nil, fmt.Errorf("%q is no address and no host name", w)
		}
		out = append(out, r)
	}
	return out, nil
}

// numeric tells of a name that ends in a number, which no host's does (RFC 1123, Section 2.1):
// an address that is wrong.
func numeric(host string) bool {
	_, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 10, 64)
	return err == nil
}

// local compiles who we are to the peer.
func (c *compiler) local(in *Connection, out *engine.Conn) error {
	l := &in.Local
	out.Local.Method = l.Method.String()
	switch l.Method {
	case AuthPSK:
		if l.Key != nil {
			return fmt.Errorf("psk uses no key")
		}
	case AuthPubKey, AuthBTNS:
		key := l.Key
		if key == nil {
			key = c.key
		}
		out.Local.Key, out.Local.SPKI = key, auth.SPKI(key.Public())
		if out.Local.SPKI == nil {
			return fmt.Errorf("%T is no Ed25519, P-256 or P-384 key", key.Public())
		}
	default:
		return fmt.Errorf("no such method")
	}
	if l.ID == "" && l.Method == AuthPSK {
		return fmt.Errorf("psk needs an id: the peer finds the key by it")
	}
	if out.Local.SPKI != nil {
		out.Local.Canonical = pad.KeyIdentity(out.Local.SPKI)
	}
	if l.ID == "" {
		// Peers that know us know the key; the id only has to be ours alone.
		out.Local.ID = *keyID(out.Local.SPKI).Wire(false)
		return nil
	}
	id, err := pad.ParseID(l.ID)
	if err != nil {
		return err
	}
	w := id.Wire(false)
	if w == nil {
		return fmt.Errorf("%s is a pattern, not who we are", l.ID)
	}
	out.Local.ID = *w
	if l.Method != AuthBTNS {
		out.Local.Canonical = id.Canonical()
	}
	return nil
}

// keyID is the identity a host asserts when its configuration names none.
func keyID(spki []byte) pad.ID {
	sum := sha256.Sum256(spki)
	return pad.ID{Type: wire.IDKeyID, Data: string(sum[:])}
}

// remote compiles who the peer may be: its PAD entry.
func (c *compiler) remote(in *Connection, out *engine.Conn) error {
	r := &in.Remote
	if mine := in.Local.Secret; !mine.Empty() && !r.Secret.Empty() && !mine.Equal(r.Secret) {
		return fmt.Errorf("psk has one secret for both sides, not two")
	}
	e := &out.Entry
	if r.ID != "" && !(r.ID == "%any" && r.Method == AuthBTNS) {
		id, err := pad.ParseID(r.ID)
		if err != nil {
			return err
		}
		e.IDs = []pad.ID{id}
		out.RemoteID = id.Wire(true) // a pattern asks for nobody in particular
	}
	switch r.Method {
	case AuthPSK:
		out.PSK = r.Secret
		if out.PSK.Empty() {
			out.PSK = in.Local.Secret
		}
		if out.PSK.Empty() {
			return fmt.Errorf("psk needs a secret")
		}
		e.Kind, e.Method = pad.KindAuthenticated, pad.MethodPSK
		e.PSKs = []pad.PSK{{Secret: out.PSK}}
		if len(e.IDs) == 0 {
			e.IDs = []pad.ID{pad.AnyID()}
		}
	case AuthPubKey:
		e.Kind, e.Method = pad.KindAuthenticated, pad.MethodPublicKey
		for _, k := range r.PublicKeys {
			spki := auth.SPKI(k)
			if spki == nil {
				return fmt.Errorf("%T is no key this host can verify with", k)
			}
			e.Keys = append(e.Keys, spki)
			if r.ID == "" {
				e.IDs = append(e.IDs, keyID(spki)) // what a host of ours asserts without an id
			}
		}
		if len(e.Keys) == 0 {
			return fmt.Errorf("pubkey needs the peer's public keys")
		}
	case AuthBTNS:
		if len(e.IDs) > 0 {
			return fmt.Errorf("btns believes no id: %s would prove nothing", r.ID)
		}
		e.Kind, e.Method = pad.KindWildcard, pad.MethodBTNS
		switch r.Owns {
		case OwnsKeyAddress:
			e.Allow.KeyDerived = true
		case OwnsOuterAddress:
			e.Allow.Outer = true
		case OwnsAny:
			e.Allow.Any = true
		default:
			return fmt.Errorf("no such address rule")
		}
	default:
		return fmt.Errorf("no such method")
	}
	if in.Local.Method == AuthPSK && out.PSK.Empty() {
		out.PSK = in.Local.Secret
		if out.PSK.Empty() {
			return fmt.Errorf("psk needs a secret")
		}
	}
	// Whoever answers one handshake can guess at leisure (RFC 7296, Section 2.15; ADV-D18).
	if why := out.PSK.Weak(); !out.PSK.Empty() && why != "" && !in.AllowWeakPSK {
		return fmt.Errorf("%s: take a longer one, or set allow_weak_psk", why)
	}
	return nil
}

func (c *compiler) child(in *Connection, conn *engine.Conn, ch *Child, j int) error {
	name := ch.Name
	if name == "" {
		name = conn.Name + "-" + strconv.Itoa(j+1)
	}
	path := func(rest ...string) []string {
		return append([]string{"connections", conn.Name, "children", name}, rest...)
	}
	if other, taken := c.children[name]; taken {
		return bad(fmt.Errorf("connection %s has a child of this name", other), path()...)
	}
	c.children[name] = conn.Name
	if _, err := replay.New(ch.ReplayWindow); err != nil {
		return bad(err, path("replay_window")...)
	}
	cc := &engine.ChildConf{Name: name, Conn: conn, StartNow: ch.Start == StartNow, Passive: ch.Start == StartNone, ReplayWindow: ch.ReplayWindow}
	cc.Terms = engine.Terms{
		Lifetime: engine.Lifetime{
			Rekey: orDefault(ch.RekeyTime, DefaultChildRekey), Life: ch.LifeTime, Rand: ch.RandTime,
			RekeyBytes: ch.RekeyBytes, LifeBytes: ch.LifeBytes, RandBytes: ch.RandBytes,
			RekeyPackets: ch.RekeyPackets, LifePackets: ch.LifePackets, RandPackets: ch.RandPackets,
		},
		Inactivity: ch.Inactivity, DPDAction: action(ch.OnDPD), CloseAction: action(ch.OnClose),
	}
	if key, err := lives(&cc.Terms.Lifetime); err != nil {
		return bad(err, path(key)...)
	}
	switch ch.Mode {
	case 0, esp.ModeTunnel:
	case esp.ModeTransport:
		cc.Transport = true
	default:
		return bad(fmt.Errorf("no such mode"), path("mode")...)
	}
	words := ch.Proposals
	if len(words) == 0 {
		words = []string{"default"}
	}
	var err error
	if cc.ESP, err = suite.ESPProposals(words...); err != nil {
		return bad(err, path("esp_proposals")...)
	}
	if cc.Pair.Local, err = c.selectors(ch.LocalTS, path("local_ts")...); err != nil {
		return err
	}
	if len(ch.LocalTS) == 0 {
		cc.Pair.Local = c.own()
	}
	if cc.Pair.Remote, err = c.selectors(ch.RemoteTS, path("remote_ts")...); err != nil {
		return err
	}
	if len(ch.RemoteTS) == 0 {
		if cc.Pair.Remote, err = c.dynamicRemote(in, conn); err != nil {
			return bad(err, path("remote_ts")...)
		}
	}
	policy := spd.Policy{
		Name: name, Child: name, Word: spd.Private, BTNSOK: in.Remote.Method == AuthBTNS,
		Sel: ts.Pair{Local: cc.Pair.Local, Remote: cc.Pair.Remote}, Peer: "",
	}
	if ch.Word != "" {
		if policy.Word, err = spd.ParseWord(ch.Word); err != nil {
			return bad(err, path("policy")...)
		}
	}
	if in.Remote.Method == AuthBTNS && in.Remote.Owns != OwnsAny {
		// Each peer owns its own address only: one child SA a peer.
		policy.PFP |= spd.PFPRemoteAddr
	}
	if cc.Transport {
		policy.Mode = spd.ModeTransport
		policy.PFP |= spd.PFPLocalAddr | spd.PFPRemoteAddr // RFC 7296, Section 1.3.1: one address each
	} else {
		policy.Mode = spd.ModeTunnel
	}
	if cc.StartNow && len(conn.Remotes) == 0 {
		return bad(fmt.Errorf("start needs remote_addrs: we do not know where the peer is"), path("start_action")...)
	}
	if _, err := spd.New([]spd.Policy{policy}); err != nil {
		return bad(err, path()...)
	}
	conn.Children = append(conn.Children, cc)
	c.policies = append(c.policies, policy)
	return nil
}

// lives refuses a child SA that would end before it is replaced, and names the key.
func lives(l *engine.Lifetime) (key string, err error) {
	switch {
	case l.Life > 0 && l.Rekey > 0 && l.Life <= l.Rekey:
		return "life_time", fmt.Errorf("%s is not longer than rekey_time, %s", l.Life, l.Rekey)
	case l.LifeBytes > 0 && l.RekeyBytes > 0 && l.LifeBytes <= l.RekeyBytes:
		return "life_bytes", fmt.Errorf("%d is not more than rekey_bytes, %d", l.LifeBytes, l.RekeyBytes)
	case l.LifePackets > 0 && l.RekeyPackets > 0 && l.LifePackets <= l.RekeyPackets:
		return "life_packets", fmt.Errorf("%d is not more than rekey_packets, %d", l.LifePackets, l.RekeyPackets)
	}
	return "", nil
}

// orDefault reads a time for which 0 is the default and less is never.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d == 0:
		return def
	}
	return d
}

func action(a LossAction) engine.Action {
	switch a {
	case LossTrap:
		return engine.ActionTrap
	case LossStart:
		return engine.ActionStart
	case LossClear:
	}
	return engine.ActionNone
}

// dynamicRemote is what a child without remote_ts covers on the peer's side.
func (c *compiler) dynamicRemote(in *Connection, conn *engine.Conn) (ts.Set, error) {
	if in.Remote.Method == AuthBTNS && in.Remote.Owns == OwnsKeyAddress {
		return ts.Set{ts.FromPrefix(pad.KeyPrefix())}, nil
	}
	var set ts.Set
	for _, r := range conn.Remotes {
		if r.Host == "" {
			set = append(set, ts.FromAddr(r.Addr))
		}
	}
	if len(set) > 0 {
		return set, nil
	}
	if in.Remote.Method == AuthBTNS && in.Remote.Owns == OwnsOuterAddress {
		return everything(), nil
	}
	return nil, fmt.Errorf("needed: nothing else says which addresses are the peer's")
}
