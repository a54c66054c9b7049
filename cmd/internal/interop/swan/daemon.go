//go:build linux

package swan

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
)

const (
	charon  = "/usr/lib/ipsec/charon"
	plugins = "/usr/lib/ipsec/plugins/libstrongswan-"
)

// settings are charon's: openssl before gcm and aes, or AES-GCM is the slow one; no
// modular loading, so that what runs is what is named here.
const settings = `charon {
  load_modular = no
  load = random nonce openssl aesni aes sha1 sha2 hmac kdf gcm ccm chapoly curve25519 pem pkcs1 pkcs8 x509 pubkey constraints gmp kernel-libipsec kernel-netlink socket-default vici updown
  install_routes = yes
  retransmit_timeout = 1
  %s
  filelog {
    stderr {
      default = 1
      ike = 2
      cfg = 2
      esp = 2
      enc = 1
      flush_line = yes
    }
  }
  plugins {
    vici { socket = unix://%s }
    kernel-libipsec { allow_peer_ts = yes }
  }
}
`

// A Daemon is a running charon.
type Daemon struct {
	*interop.Process
	Dir  string // its configuration; private and pubkey hold its keys
	Conf string // its swanctl.conf

	t  testing.TB
	ns *interop.NS
}

// Prepare makes a folder for a Daemon's configuration, for keys that must be there first.
func Prepare(t testing.TB) string {
	t.Helper()
	interop.Need(t, charon, "swanctl", plugins+"kernel-libipsec.so", plugins+"chapoly.so", "unshare")
	dir := interop.Dir(t)
	// swanctl wants all of them.
	for _, sub := range []string{"private", "pubkey", "rsa", "ecdsa", "bliss", "pkcs8", "pkcs12", "x509", "x509ca", "x509ocsp", "x509aa", "x509ac", "x509crl"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Version is what charon says it is.
func Version(t testing.TB) string {
	t.Helper()
	interop.Need(t, charon)
	out, err := exec.Command(charon, "--version").Output()
	if err != nil {
		t.Fatalf("charon --version: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// Start runs charon on a host, with the text of a swanctl.conf; dir is Prepare's, or "".
func Start(t testing.TB, ns *interop.NS, dir, conf string) *Daemon {
	t.Helper()
	return StartWith(t, ns, dir, conf, "")
}

// StartWith is Start with more settings for the charon section of strongswan.conf.
func StartWith(t testing.TB, ns *interop.NS, dir, conf, more string) *Daemon {
	t.Helper()
	if dir == "" {
		dir = Prepare(t)
	}
	d := &Daemon{Dir: dir, t: t, ns: ns}
	interop.WriteFile(t, d.settings(), fmt.Sprintf(settings, more, d.vici()))
	d.start()
	d.Load(conf)
	return d
}

func (d *Daemon) start() {
	d.t.Helper()
	// A private /run keeps the pid files of several daemons apart.
	cmd := d.ns.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs t /run && exec "+charon)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+d.settings())
	d.Process = interop.Start(d.t, "charon", cmd)
	d.Await(`spawning \d+ worker threads`)
	d.await("control socket", func() bool {
		c, err := net.Dial("unix", d.vici())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Restart kills it, so that it tells nobody, and runs it again.
func (d *Daemon) Restart() {
	d.t.Helper()
	d.Kill()
	d.Return()
}

// Kill ends it without a word to anybody.
func (d *Daemon) Kill() {
	d.t.Helper()
	d.Signal(syscall.SIGKILL)
	_ = d.Wait() // by the signal
}

// Return starts it anew after Kill, with what it had been told and without its SAs.
func (d *Daemon) Return() {
	d.t.Helper()
	d.start()
	d.Load(d.Conf)
}

func (d *Daemon) settings() string { return filepath.Join(d.Dir, "strongswan.conf") }

func (d *Daemon) vici() string { return filepath.Join(d.Dir, "vici") }

func (d *Daemon) await(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("charon: no %s in 30 s", what)
		}
	}
}

// Load replaces its connections and secrets.
func (d *Daemon) Load(conf string) {
	d.t.Helper()
	file := filepath.Join(d.Dir, "swanctl.conf")
	interop.WriteFile(d.t, file, conf)
	d.Conf = conf
	if out, err := d.swanctl("--load-all", "--clear", "--file", file); err != nil {
		d.t.Fatalf("swanctl --load-all: %v\n%s", err, out)
	}
}

func (d *Daemon) swanctl(args ...string) (string, error) {
	cmd := exec.Command("swanctl", append(args, "--uri", "unix://"+d.vici())...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+d.settings())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Initiate sets up a child SA from its side and returns what it printed about it.
func (d *Daemon) Initiate(child string) (string, error) {
	return d.swanctl("--initiate", "--timeout", "20", "--child", child)
}

// MustInitiate is Initiate for what must work.
func (d *Daemon) MustInitiate(child string) {
	d.t.Helper()
	if out, err := d.Initiate(child); err != nil {
		d.t.Fatalf("swanctl --initiate: %v\n%s", err, out)
	}
}

// Terminate deletes an IKE SA from its side.
func (d *Daemon) Terminate(ike string) (string, error) {
	return d.swanctl("--terminate", "--timeout", "10", "--ike", ike)
}

// TerminateChild deletes a child SA from its side.
func (d *Daemon) TerminateChild(child string) (string, error) {
	return d.swanctl("--terminate", "--timeout", "10", "--child", child)
}

// RekeyIKE gives an IKE SA new keys.
func (d *Daemon) RekeyIKE(ike string) (string, error) {
	d.t.Helper()
	return d.swanctl("--rekey", "--ike", ike)
}

// SAs is what it says about its SAs.
func (d *Daemon) SAs() string {
	d.t.Helper()
	out, err := d.swanctl("--list-sas")
	if err != nil {
		d.t.Fatalf("swanctl --list-sas: %v\n%s", err, out)
	}
	return out
}

// AwaitSAs waits until what it says about its SAs matches, or is empty for "".
func (d *Daemon) AwaitSAs(expr string) string {
	d.t.Helper()
	re := regexp.MustCompile(expr)
	var out string
	ok := func() bool {
		out = d.SAs()
		if expr == "" {
			return strings.TrimSpace(out) == ""
		}
		return re.MatchString(out)
	}
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("charon's SAs do not match %q:\n%s", expr, out)
		}
	}
	return out
}

// NewKey makes a further key; Load makes it known.
func (d *Daemon) NewKey(kind string) { d.t.Helper(); NewKey(d.t, d.Dir, kind) }

// NewKey makes a key with strongSwan's own tool: the private half where the daemon finds
// it. It returns the file with the public half.
func NewKey(t testing.TB, dir, kind string) string {
	t.Helper()
	interop.Need(t, "pki")
	private := filepath.Join(dir, "private", kind+".pem")
	public := filepath.Join(dir, "pubkey", kind+".pem")
	gen := []string{"--gen", "--type", kind, "--outform", "pem"}
	if kind == "ecdsa" {
		gen = append(gen, "--size", "256")
	}
	pki(t, private, gen...)
	pki(t, public, "--pub", "--in", private, "--outform", "pem")
	return public
}

func pki(t testing.TB, file string, args ...string) {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command("pki", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pki %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}
