package config

import (
	"crypto"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/replay"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/sockets"
)

func newReader(file string) *reader {
	return &reader{file: file, told: map[string]bool{}, at: map[string]*token.Token{}}
}

func (r *reader) positions() map[string]position {
	out := make(map[string]position, len(r.at))
	for path, tok := range r.at {
		if tok != nil && tok.Position != nil {
			out[path] = position{tok.Position.Line, tok.Position.Column}
		}
	}
	return out
}

func syntaxError(path string, err error) error {
	e := &Error{File: path, Msg: "not YAML", Err: err}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Msg = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	return e
}

// A decoder fills a File from one document.
type decoder struct {
	r    *reader
	dir  string
	log  *slog.Logger
	file *File

	secrets []pad.PSK
	manuals []node // keys set by hand
}

func (d *decoder) root(n node) {
	h := &d.file.Host
	var connections node
	n.fields(map[string]func(node){
		"name": func(n node) { h.Name = n.text() },
		"key":  func(n node) { h.Key = d.privateKey(n) },
		"addresses": func(n node) {
			for _, i := range n.items() {
				h.Addrs = append(h.Addrs, i.prefix())
			}
		},
		"mtu":          func(n node) { h.MTU = int(n.number(1280, 65535)) },
		"wire":         d.wire,
		"listen":       func(n node) { h.Listen = d.listen(n) },
		"hosts":        d.hosts,
		"dns":          d.dns,
		"half_open":    d.halfOpen,
		"dial_timeout": func(n node) { h.DialTimeout = n.duration() },
		"connections":  func(n node) { connections = n },
		"secrets":      d.secretsSection,
		"policies":     d.policies,
		"forwards":     func(n node) { d.file.Forwards = d.forwards(n, true) },
		"expose":       func(n node) { d.file.Expose = d.forwards(n, false) },
		"control":      func(n node) { d.file.Control = d.path(n.text()) },
		"log": func(n node) {
			d.file.LogLevel = choice(n, map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError})
		},
	})
	for _, m := range d.manuals {
		if d.file.Wire.TUN == "" {
			d.r.failf(m, "keys set by hand need a tun wire: UDP sockets carry no ESP without IKE's ports")
		}
	}
	// Connections look their secrets up, wherever in the file those stand.
	for _, e := range connections.entries() {
		d.connection(e.key, e.val)
	}
}

func (d *decoder) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(d.dir, p)
}

// keyFile reads the path of a file with a key.
func (d *decoder) keyFile(n node) (string, error) {
	p := d.path(n.text())
	if err := regular(p); err != nil {
		return "", &auth.KeyFileError{Path: p, Err: err}
	}
	return p, nil
}

func (d *decoder) privateKey(n node) crypto.Signer {
	if n.absent() {
		return nil
	}
	path, err := d.keyFile(n)
	if err == nil {
		var key crypto.Signer
		if key, err = auth.LoadPrivateKey(path, d.log); err == nil {
			return key
		}
	}
	d.r.fail(n, err)
	return nil
}

func (d *decoder) publicKeys(n node) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, i := range n.items() {
		var spki []byte
		path, err := d.keyFile(i)
		if err == nil {
			spki, err = auth.LoadPublicKey(path)
		}
		if err != nil {
			d.r.fail(i, err)
			continue
		}
		pub, err := auth.ParseSPKI(spki)
		if err != nil {
			d.r.fail(i, err)
			continue
		}
		out = append(out, pub)
	}
	return out
}

func (d *decoder) listen(n node) []string {
	var out []string
	for _, i := range n.items() {
		w := d.hostPort(i, true)
		switch {
		case w == "":
		case slices.Contains(out, w) && !strings.HasSuffix(w, ":0"):
			d.r.failf(i, "%q is given twice", w)
		default:
			out = append(out, w)
		}
	}
	return out
}

func (d *decoder) hosts(n node) {
	d.file.Host.Hosts = map[string][]netip.Addr{}
	for _, e := range n.entries() {
		for _, i := range e.val.items() {
			d.file.Host.Hosts[e.key] = append(d.file.Host.Hosts[e.key], i.addr())
		}
	}
}

// halfOpen reads the limits that strongswan.conf has for the daemon.
func (d *decoder) halfOpen(n node) {
	h := &d.file.Host.HalfOpen
	n.fields(map[string]func(node){
		"cookie_threshold": func(n node) {
			if n.text() == "always" {
				h.CookieThreshold = -1
				return
			}
			h.CookieThreshold = int(n.number(1, 1<<20))
		},
		"block_threshold": func(n node) { h.AddressLimit = int(n.number(1, 1<<20)) },
		"limit":           func(n node) { h.Limit = int(n.number(1, 1<<20)) },
		"timeout":         func(n node) { h.Timeout = n.duration() },
	})
}

func (d *decoder) dns(n node) {
	for _, i := range n.items() {
		w := i.text()
		if ap, err := netip.ParseAddrPort(w); err == nil {
			d.file.Host.DNS = append(d.file.Host.DNS, ap)
			continue
		}
		d.file.Host.DNS = append(d.file.Host.DNS, netip.AddrPortFrom(i.addr(), 53))
	}
}

func (d *decoder) secretsSection(n node) {
	for _, e := range n.entries() {
		if !strings.HasPrefix(e.key, "ike") {
			d.r.failf(e.val, "only ike secrets are known: name it ike-1")
			continue
		}
		var s pad.PSK
		given := false
		read := func(n node, psk auth.PSK, err error) {
			if given {
				d.r.failf(n, "a secret was given already")
			}
			if err != nil {
				d.r.fail(n, err)
			}
			given, s.Secret = true, psk
		}
		e.val.fields(map[string]func(node){
			"id": func(n node) {
				for _, w := range n.texts() {
					id, err := pad.ParseID(w)
					if err != nil {
						d.r.fail(n, err)
						continue
					}
					s.IDs = append(s.IDs, id)
				}
			},
			"secret": func(n node) {
				psk, err := auth.ParsePSK(n.text())
				read(n, psk, err)
			},
			"file": func(n node) {
				var psk auth.PSK
				path, err := d.keyFile(n)
				if err == nil {
					psk, err = auth.LoadPSK(path, d.log)
				}
				read(n, psk, err)
			},
		})
		if !given {
			d.r.failf(e.val, "a secret or a file is needed")
		}
		d.secrets = append(d.secrets, s)
	}
}

// secretFor finds the secret of two identities as swanctl does: the one that names both, or
// one of them, or nobody.
func (d *decoder) secretFor(local, remote string) (auth.PSK, bool) {
	l, _ := pad.ParseID(local) // what is wrong with an id was said where it stands
	r, _ := pad.ParseID(remote)
	all := pad.Entry{PSKs: d.secrets}
	return all.PSK(l, r)
}

func (d *decoder) connection(name string, n node) {
	c := sockets.Connection{Name: name}
	var local, remote, children node
	n.fields(map[string]func(node){
		"version": func(n node) {
			if v := n.text(); v != "2" {
				d.r.failf(n, "IKE version %s is not spoken here, only 2", v)
			}
		},
		"local_addrs": func(n node) {
			d.r.failf(n, "not known here: the wire's listen says where we are")
		},
		"remote_addrs": func(n node) { c.RemoteAddrs = n.texts() },
		"remote_port":  func(n node) { c.RemotePort = uint16(n.number(1, 65535)) },
		"proposals":    func(n node) { c.Proposals = d.proposals(n, false) },
		"encap": func(n node) {
			c.Encap = sockets.EncapNever
			if n.yes() {
				c.Encap = sockets.EncapAlways
			}
		},
		"dpd_delay":   func(n node) { c.DPDDelay = n.neverOr() },
		"dpd_timeout": func(n node) { c.DPDTimeout = n.duration() },
		"rekey_time":  func(n node) { c.RekeyTime = n.neverOr() },
		"reauth_time": func(n node) { c.ReauthTime = n.duration() },
		"over_time":   func(n node) { c.OverTime = n.duration() },
		"rand_time":   func(n node) { c.RandTime = n.duration() },
		"unique": func(n node) {
			c.Unique = choice(n, map[string]sockets.Unique{"no": sockets.UniqueNo, "never": sockets.UniqueNever,
				"keep": sockets.UniqueKeep, "replace": sockets.UniqueReplace})
		},
		"childless": func(n node) {
			c.Childless = choice(n, map[string]sockets.Childless{"allow": sockets.ChildlessAllow, "prefer": sockets.ChildlessPrefer,
				"force": sockets.ChildlessForce, "never": sockets.ChildlessNever})
		},
		"fragmentation": func(n node) {
			// swanctl's force differs from yes in IKEv1 only.
			c.Fragmentation = choice(n, map[string]sockets.Fragmentation{"yes": sockets.FragmentationYes, "force": sockets.FragmentationYes,
				"accept": sockets.FragmentationAccept, "no": sockets.FragmentationNo})
		},
		"allow_weak_psk": func(n node) { c.AllowWeakPSK = n.yes() },
		"fragment_size":  func(n node) { c.FragmentSize = int(n.number(1, 65535)) },
		"local":          func(n node) { local = n },
		"remote":         func(n node) { remote = n },
		"children":       func(n node) { children = n },
	})
	c.Local = d.auth(local, false)
	c.Remote = d.auth(remote, true)
	if c.Local.Method == sockets.AuthPSK || c.Remote.Method == sockets.AuthPSK {
		psk, ok := d.secretFor(c.Local.ID, c.Remote.ID)
		if !ok {
			d.r.failf(n, "no entry of secrets fits its ids %q and %q", c.Local.ID, c.Remote.ID)
		}
		c.Local.Secret, c.Remote.Secret = psk, psk
	}
	for _, e := range children.entries() {
		c.Children = append(c.Children, d.child(e.key, e.val))
	}
	d.file.Host.Connections = append(d.file.Host.Connections, c)
}

func (d *decoder) proposals(n node, forESP bool) []string {
	words := n.texts()
	parse := suite.IKEProposals
	if forESP {
		parse = suite.ESPProposals
	}
	if len(words) > 0 {
		if _, err := parse(words...); err != nil {
			d.r.fail(n, err)
		}
	}
	return words
}

func (d *decoder) auth(n node, remote bool) sockets.Auth {
	var a sockets.Auth
	known := map[string]func(node){
		"auth": func(n node) {
			a.Method = choice(n, map[string]sockets.AuthMethod{
				"btns": sockets.AuthBTNS, "psk": sockets.AuthPSK, "pubkey": sockets.AuthPubKey})
		},
		"id": func(n node) {
			a.ID = n.text()
			if a.ID != "" && a.ID != "%any" {
				if _, err := pad.ParseID(a.ID); err != nil {
					d.r.fail(n, err)
				}
			}
		},
	}
	if remote {
		known["pubkeys"] = func(n node) { a.PublicKeys = d.publicKeys(n) }
		known["owns"] = func(n node) {
			a.Owns = choice(n, map[string]sockets.AddressRule{
				"key": sockets.OwnsKeyAddress, "outer": sockets.OwnsOuterAddress, "any": sockets.OwnsAny})
		}
	} else {
		known["key"] = func(n node) { a.Key = d.privateKey(n) }
	}
	n.fields(known)
	return a
}

func (d *decoder) child(name string, n node) sockets.Child {
	c := sockets.Child{Name: name}
	n.fields(map[string]func(node){
		"local_ts":      func(n node) { c.LocalTS = d.selectors(n) },
		"remote_ts":     func(n node) { c.RemoteTS = d.selectors(n) },
		"esp_proposals": func(n node) { c.Proposals = d.proposals(n, true) },
		"mode": func(n node) {
			c.Mode = choice(n, map[string]esp.Mode{"tunnel": esp.ModeTunnel, "transport": esp.ModeTransport})
		},
		"policy": func(n node) { c.Word = d.word(n) },
		"start_action": func(n node) {
			c.Start = choice(n, map[string]sockets.StartAction{
				"trap": sockets.StartTrap, "start": sockets.StartNow, "trap|start": sockets.StartNow, "none": sockets.StartNone})
		},
		"dpd_action":    func(n node) { c.OnDPD = lossAction(n, "restart") },
		"close_action":  func(n node) { c.OnClose = lossAction(n, "start") },
		"rekey_time":    func(n node) { c.RekeyTime = n.neverOr() },
		"life_time":     func(n node) { c.LifeTime = n.duration() },
		"rand_time":     func(n node) { c.RandTime = n.duration() },
		"rekey_bytes":   func(n node) { c.RekeyBytes = n.number(0, 1<<63) },
		"life_bytes":    func(n node) { c.LifeBytes = n.number(0, 1<<63) },
		"rand_bytes":    func(n node) { c.RandBytes = n.number(0, 1<<63) },
		"rekey_packets": func(n node) { c.RekeyPackets = n.number(0, 1<<63) },
		"life_packets":  func(n node) { c.LifePackets = n.number(0, 1<<63) },
		"rand_packets":  func(n node) { c.RandPackets = n.number(0, 1<<63) },
		"inactivity":    func(n node) { c.Inactivity = n.duration() },
		"replay_window": func(n node) { c.ReplayWindow = int(n.number(replay.MinSize, replay.MaxSize)) },
	})
	return c
}

// lossAction reads dpd_action and close_action, whose words for making it again differ.
func lossAction(n node, again string) sockets.LossAction {
	return choice(n, map[string]sockets.LossAction{
		"trap": sockets.LossTrap, "clear": sockets.LossClear, "none": sockets.LossClear, again: sockets.LossStart})
}

func (d *decoder) word(n node) string {
	w := n.text()
	if _, err := spd.ParseWord(w); err != nil {
		choice(n, map[string]bool{"clear": true, "clear-or-private": true, "private-or-clear": true, "private": true, "block": true})
	}
	return w
}

func (d *decoder) selectors(n node) []string {
	words := n.texts()
	// "dynamic" is swanctl's word for leaving them out.
	words = slices.DeleteFunc(words, func(w string) bool { return w == "dynamic" })
	for _, w := range words {
		if _, err := ts.Parse(w); err != nil {
			d.r.fail(n, err)
		}
	}
	return words
}

func (d *decoder) policies(n node) {
	for _, e := range n.entries() {
		p := sockets.Policy{Name: e.key}
		e.val.fields(map[string]func(node){
			"local_ts":  func(n node) { p.LocalTS = d.selectors(n) },
			"remote_ts": func(n node) { p.RemoteTS = d.selectors(n) },
			"policy":    func(n node) { p.Word = d.word(n) },
			"manual":    func(n node) { p.Manual, d.manuals = d.manual(n), append(d.manuals, n) },
		})
		d.file.Host.Policies = append(d.file.Host.Policies, p)
	}
}

func (d *decoder) manual(n node) *spd.Manual {
	m := &spd.Manual{Mode: spd.ModeTunnel}
	key := func(to *spd.Key) func(node) {
		return func(n node) {
			b, err := hex.DecodeString(strings.TrimPrefix(n.text(), "0x"))
			if err != nil {
				d.r.failf(n, "no hexadecimal key") // never the key itself
			}
			*to = b
		}
	}
	n.fields(map[string]func(node){
		"spi_in":  func(n node) { m.InSPI = uint32(n.number(256, 1<<32-1)) },
		"spi_out": func(n node) { m.OutSPI = uint32(n.number(256, 1<<32-1)) },
		"suite":   func(n node) { m.Suite = n.text() },
		"key_in":  key(&m.InKey),
		"key_out": key(&m.OutKey),
		"mode": func(n node) {
			m.Mode = choice(n, map[string]spd.Mode{"tunnel": spd.ModeTunnel, "transport": spd.ModeTransport})
		},
		"local":         func(n node) { m.Local = n.addr() },
		"remote":        func(n node) { m.Remote = n.addr() },
		"esn":           func(n node) { m.ESN = n.yes() },
		"replay_window": func(n node) { m.ReplayWindow = int(n.number(64, 4096)) },
	})
	return m
}

// hostPort reads "host:port"; a bare port is ":port" to listen on, and local to go to.
func (d *decoder) hostPort(n node, listen bool) string {
	w := n.text()
	if _, err := strconv.ParseUint(w, 10, 16); err == nil {
		if listen {
			w = ":" + w
		} else {
			w = "127.0.0.1:" + w
		}
	}
	if !d.port(n, w, listen) {
		return ""
	}
	return w
}

// port refuses what has no port behind its last colon. Port 0 is the system's choice and
// nowhere to go to.
func (d *decoder) port(n node, w string, listen bool) bool {
	_, port, err := net.SplitHostPort(w)
	if err != nil {
		d.r.failf(n, "%q is no address with a port, as 192.0.2.1:4500 is", w)
		return false
	}
	switch p, err := net.LookupPort("ip", port); {
	case err != nil || port == "":
		d.r.failf(n, "%q: %q is no port from 0 to 65535", w, port)
	case p == 0 && !listen:
		d.r.failf(n, "%q: there is no port 0 to go to", w)
	default:
		return true
	}
	return false
}
