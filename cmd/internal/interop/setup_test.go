//go:build linux

package interop_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/cmd/internal/interop/swan"
)

// Inner addresses: btns has its own in user space, strongSwan's are on its loopback.
const (
	nearInner = "10.1.0.1"
	farInner  = "10.2.0.1"
	farOther  = "10.3.0.1" // in a second network of strongSwan's
)

// The proposals most scenarios use.
const (
	ikeX25519 = "aes256gcm16-prfsha256-x25519"
	espGCM    = "aes256gcm16"
	espChaCha = "chacha20poly1305"
)

const goodPSK = "a pre-shared key of thirty-six bytes"

// Ports of btns's forwards and exposed services.
const (
	forwardWeb  = "127.0.0.1:8080" // to the web behind the tunnel
	forwardTwo  = "127.0.0.1:8082" // to the web on farOther
	forwardEcho = "127.0.0.1:7000" // UDP
	localWeb    = "127.0.0.1:8081" // exposed at nearInner:80
)

// A setup is one connection as both ends are told of it. The zero value of most fields is
// what most scenarios want.
type setup struct {
	ike, esp          string // proposals; ikeX25519 and espGCM
	swanIKE, swanESP  string // strongSwan's, where they differ
	auth              string // "psk" (default), "ed25519" or "ecdsa"
	swanPSK           string // where it differs
	responder         bool   // strongSwan initiates
	swanPort          string // strongSwan's words about ports when it initiates
	swanConn          string // more of strongSwan's connection
	swanChild         string // more of strongSwan's child
	swanMore          string // more of strongSwan's strongswan.conf, in its charon section
	conn              string // more of our connection, as YAML lines
	child             string // more of our child net, as YAML in one line
	nearTS, farTS     string // selectors as we know them, commas between them; the inner addresses
	swanNear, swanFar string // as strongSwan knows them, where they differ
	two               bool   // a second child to farOther
	yaml              string // more of our file
	keyLog            bool
	noDaemon          bool   // nobody at the other end
	wire              string // YAML
	nearOuter         string // NearAddr
	caps              []string
	command           []string          // runs btns up with btnsConf, instead of start's own way
	snap              int               // bytes of a frame that are captured; 512
	up                func(w *world)    // called when btns is up
	before            func(w *world)    // called when the hosts are there
	rewrite           *strings.Replacer // of both configurations
}

// A world is a setup that runs.
type world struct {
	t         *testing.T
	near, far *interop.NS
	cap       *interop.Capture
	swan      *swan.Daemon
	host      *interop.Host
	web       *interop.Web
}

// start makes the hosts, starts the capture, strongSwan and btns.
func (s setup) start(t *testing.T, web *interop.Web) *world {
	t.Helper()
	interop.Need(t, "ip", "setpriv", "tcpdump", "curl")
	s = s.defaults()
	var swanDir string
	if !s.noDaemon {
		swanDir = swan.Prepare(t)
	}
	path := binary.Path(t)
	w := &world{t: t, web: web}
	w.near, w.far = interop.NewPair(t)
	w.far.IP(t, "addr", "add", farInner+"/24", "dev", "lo")
	w.far.IP(t, "addr", "add", farOther+"/24", "dev", "lo")
	web.Serve(t, w.far, farInner+":80")
	web.Serve(t, w.far, farOther+":80")
	web.Serve(t, w.near, localWeb)
	if s.before != nil {
		s.before(w)
	}
	w.cap = interop.NewCapture(t, w.near, s.snap)

	dir := interop.Dir(t)
	if !s.noDaemon {
		ours, theirs := s.keys(t, dir, swanDir)
		w.swan = swan.StartWith(t, w.far, swanDir, s.rewrite.Replace(s.swanConf(ours, theirs)), s.swanMore)
	}
	w.host = interop.Up(t, interop.HostConfig{
		NS: w.near, Binary: path, Dir: dir, YAML: s.rewrite.Replace(s.btnsConf()), KeyLog: s.keyLog, Caps: s.caps,
		Command: s.command,
	})
	if s.up != nil {
		s.up(w)
	}
	return w
}

func (s setup) defaults() setup {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	if s.rewrite == nil {
		s.rewrite = strings.NewReplacer()
	}
	if s.snap == 0 {
		s.snap = 512
	}
	def(&s.ike, ikeX25519)
	def(&s.esp, espGCM)
	def(&s.swanIKE, s.ike)
	def(&s.swanESP, s.esp)
	def(&s.auth, "psk")
	def(&s.swanPSK, goodPSK)
	def(&s.nearTS, nearInner+"/32")
	def(&s.farTS, "10.2.0.0/24")
	def(&s.swanNear, s.nearTS)
	def(&s.swanFar, s.farTS)
	def(&s.nearOuter, interop.NearAddr)
	def(&s.swanPort, "local_port = 4500\n remote_port = 4500")
	return s
}

// suite is what the table says of it.
func (s setup) suite() string {
	s = s.defaults()
	return s.ike + " / " + s.esp
}

func (s setup) role() string {
	if s.responder {
		return "responder"
	}
	return "initiator"
}

// keys makes a key pair for each end, if public keys are wanted, and tells each end's
// public key file to the other. Each end makes its own with its own tool.
func (s setup) keys(t *testing.T, dir, swanDir string) (ours, theirs string) {
	t.Helper()
	if s.auth == "psk" {
		return "", ""
	}
	kind := map[string]string{"ed25519": "ed25519", "ecdsa": "ecdsa-p256"}[s.auth]
	ours = filepath.Join(dir, "near.key")
	if out, err := exec.Command(binary.Path(t), "keygen", "--type", kind, ours).CombinedOutput(); err != nil {
		t.Fatalf("btns keygen: %v\n%s", err, out)
	}
	theirs = swan.NewKey(t, swanDir, s.auth)
	pub, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	interop.WriteFile(t, filepath.Join(dir, "moon.pub"), string(pub))
	if err := os.Chown(ours, interop.Nobody, interop.Nobody); err != nil {
		t.Fatal(err)
	}
	return ours + ".pub", theirs
}

func (s setup) swanConf(ours, theirs string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("connections {\n net {\n version = 2\n mobike = no")
	p(" local_addrs = %s\n remote_addrs = %s", interop.FarAddr, s.nearOuter)
	p(" proposals = %s", s.swanIKE)
	if s.responder {
		p(" %s", s.swanPort)
	}
	p(" %s", s.swanConn)
	if s.auth == "psk" {
		p(" local {\n auth = psk\n id = moon.example\n }\n remote {\n auth = psk\n id = sun.example\n }")
	} else {
		p(" local {\n auth = pubkey\n id = moon.example\n pubkeys = %s\n }", theirs)
		p(" remote {\n auth = pubkey\n id = sun.example\n pubkeys = %s\n }", ours)
	}
	p(" children {")
	child := func(name, far string) {
		p(" %s {\n local_ts = %s\n remote_ts = %s\n esp_proposals = %s\n %s\n }", name, far, s.swanNear, s.swanESP, s.swanChild)
	}
	child("net", s.swanFar)
	if s.two {
		child("other", "10.3.0.0/24")
	}
	p(" }\n }\n}")
	if s.auth == "psk" {
		p("secrets {\n ike-1 {\n secret = %q\n }\n}", s.swanPSK)
	}
	return b.String()
}

func (s setup) btnsConf() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("addresses: [%q]", nearInner+"/24")
	switch {
	case s.wire != "":
		p("%s", s.wire)
	case s.responder:
		p("listen: [\":4500\"]")
	}
	if s.auth != "psk" {
		p("key: near.key")
	}
	p("connections:\n  moon:")
	if !s.responder {
		p("    remote_addrs: %q", interop.FarAddr)
		if !strings.Contains(s.conn, "remote_port") && s.wire == "" {
			p("    remote_port: 4500")
		}
	}
	p("    proposals: [%s]", s.ike)
	if s.auth == "psk" {
		p("    local: {auth: psk, id: sun.example}\n    remote: {auth: psk, id: moon.example}")
	} else {
		p("    local: {auth: pubkey, id: sun.example}\n    remote: {auth: pubkey, id: moon.example, pubkeys: [moon.pub]}")
	}
	if s.conn != "" {
		p("%s", s.conn)
	}
	p("    children:")
	child := ""
	if s.child != "" {
		child = ", " + s.child
	}
	p("      net: {local_ts: [%q], remote_ts: [%q], esp_proposals: [%s]%s}", s.nearTS, s.farTS, s.esp, child)
	if s.two {
		p("      other: {local_ts: [%q], remote_ts: [10.3.0.0/24], esp_proposals: [%s]}", s.nearTS, s.esp)
	}
	if s.auth == "psk" {
		p("secrets:\n  ike-1: {secret: %q}", goodPSK)
	}
	p("forwards:")
	p("  - {listen: %q, to: %q}", forwardWeb, farInner+":80")
	if s.two || s.covers(farOther) {
		p("  - {listen: %q, to: %q}", forwardTwo, farOther+":80")
	}
	p("  - {listen: %q, to: %q, protocol: udp}", forwardEcho, farInner+":7")
	p("expose:")
	p("  - {listen: 80, to: %q}", localWeb)
	p("%s", s.yaml)
	return b.String()
}

// covers tells whether the child net leads to an address.
func (s setup) covers(addr string) bool {
	return slices.ContainsFunc(strings.Split(s.farTS, ","), func(w string) bool {
		return netip.MustParsePrefix(w).Contains(netip.MustParseAddr(addr))
	})
}

// page fetches the page through a forward, from our host.
func (w *world) page() {
	w.t.Helper()
	interop.FetchPage(w.t, w.near, "http://"+forwardWeb)
}

// pageThere fetches the page through expose, from strongSwan's host.
func (w *world) pageThere() {
	w.t.Helper()
	interop.FetchPage(w.t, w.far, "http://"+nearInner)
}
