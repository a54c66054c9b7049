// Package uml boots a User-Mode Linux guest for tests that want a real Linux
// kernel's ESP as the peer: one process in a network namespace of its own, with a
// tap device as the only link between the two kernels.
//
// # Use
//
// ForTest starts a guest for a test and ends it with the test; Start and Close do
// it by hand. Run runs a shell script in the guest and returns what it printed; the
// guest keeps running in between, with everything that scripts set up or left in
// the background. Command starts programs at the host's end of the tap, and InNetNS
// opens sockets there.
//
//	g := uml.ForTest(t, uml.Config{
//		Host:  []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
//		Guest: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")},
//	})
//	out, err := g.Run(ctx, "ip xfrm state add …")
//	cmd := g.Command(ctx, "btns", "up", "-c", file)
//
// # The guest
//
// Its root is the machine's own root, read-only, so that every program and file of
// the machine is there under the same path (a test binary included); it can write
// to /run and to the directory Share only. The kernel's modules for ESP are loaded,
// nothing else is: no route but one to Gateway, no policy, no daemon. Without a
// policy its kernel passes traffic in the clear: look at the wire.
//
// # Concurrency and ownership
//
// A Guest may be used by one goroutine at a time. It is stopped by its process
// group, which Start made and Close ends, on every path; a guest whose starter
// dies powers off when its standard input ends. Namespace, tap and directory go
// with it.
//
// # Limits
//
// Linux, root, and the Debian packages user-mode-linux, kmod, iproute2 and
// iputils-ping. See Available.
package uml

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	kernel  = "linux.uml"
	modules = "/usr/lib/uml/modules" // of package user-mode-linux

	bootTimeout = 60 * time.Second       // a loaded machine needs ten
	poll        = 5 * time.Millisecond   // between looks at what the guest wrote
	kick        = 50 * time.Millisecond  // between empty lines to the console, see kicker
	helperDelay = 200 * time.Millisecond // helpers of a guest that is gone hold its output open until killed
	stopTimeout = 5 * time.Second        // from power-off to the end by signal
	maxConsole  = 1 << 20                // console output kept
	setupTime   = 10 * time.Second       // for one ip command
	defaultMem  = "128M"                 // enough for a kernel and a few shells
	defaultTap  = "tap0"
	modprobeDir = "/run/modules" // in the guest
	shareDir    = "/run/share"   // in the guest
	guestPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// espModules are loaded before the first script: one request of the kernel for a
// module by name takes seconds there.
const espModules = "esp4 esp6 tunnel4 tunnel6 xfrm_user af_key authenc authencesn drbg jitterentropy_rng hmac gcm ghash_generic ctr cbc " +
	"seqiv echainiv chacha20poly1305 chacha_generic poly1305_generic sha512_generic"

// Config says what to boot. The zero Config gives a guest without addresses.
type Config struct {
	NetNS string         // namespace to make for the tap and the guest; "": a unique name
	Tap   string         // name of the tap in it; "": tap0
	Host  []netip.Prefix // addresses of the host's end; none: the host's kernel keeps quiet
	Guest []netip.Prefix // addresses of the guest's eth0

	// Gateway is where the guest's default routes point to, one per family at most;
	// nil: the first address of each family in Host. Decapsulated packets are
	// answered only where there is a route.
	Gateway []netip.Addr

	// HostMAC and GuestMAC are the Ethernet addresses, "": 02:…:01 and 02:…:02.
	HostMAC, GuestMAC string

	Memory  string   // "": 128M
	Modules []string // kernel modules to load in addition
}

// Guest is a running guest. Use Start or ForTest.
type Guest struct {
	// constant
	cfg Config
	dir string // Share

	cmd     *exec.Cmd
	stdin   interface{ Close() error }
	tell    func(string) error
	console tail
	exited  chan struct{} // closed when the process ended
	runs    int
	closed  bool
}

var started atomic.Uint64 // distinguishes the namespaces of one process

// Available returns nil if a guest can be started here, or an error that names what
// is missing.
func Available() error {
	if err := supported(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("uml: not root: network namespaces and tap devices need it")
	}
	for tool, pkg := range map[string]string{
		kernel: "user-mode-linux", "modprobe": "kmod", "ip": "iproute2", "ping": "iputils-ping",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("uml: no %s: package %s is not installed", tool, pkg)
		}
	}
	if found, err := filepath.Glob(modules + "/*/modules.dep"); err != nil || len(found) == 0 {
		return fmt.Errorf("uml: no kernel modules in %s: package user-mode-linux is incomplete", modules)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("uml: no tap devices: %w", err)
	}
	return nil
}

func (c *Config) fill() {
	if c.NetNS == "" {
		c.NetNS = fmt.Sprintf("btns-uml-%d-%d", os.Getpid(), started.Add(1))
	}
	if c.Tap == "" {
		c.Tap = defaultTap
	}
	if c.HostMAC == "" {
		c.HostMAC = "02:00:00:00:00:01"
	}
	if c.GuestMAC == "" {
		c.GuestMAC = "02:00:00:00:00:02"
	}
	if c.Memory == "" {
		c.Memory = defaultMem
	}
	if c.Gateway == nil {
		for _, v6 := range []bool{false, true} {
			for _, p := range c.Host {
				if p.Addr().Is6() == v6 {
					c.Gateway = append(c.Gateway, p.Addr())
					break
				}
			}
		}
	}
}

// Start makes the namespace and the tap, boots the guest and waits until it is
// ready for Run. ctx bounds the start, not the guest's life.
func Start(ctx context.Context, cfg Config) (*Guest, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	cfg.fill()
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	g := &Guest{cfg: cfg, exited: make(chan struct{})}
	close(g.exited) // no process yet
	if err := ip(ctx, "netns", "add", cfg.NetNS); err != nil {
		return nil, err // exists: it is somebody else's
	}
	if err := g.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("uml: %w; console:\n%s", err, g.Console()), g.Close())
	}
	return g, nil
}

func (g *Guest) start(ctx context.Context) error {
	c := &g.cfg
	tap := []string{"-n", c.NetNS}
	steps := [][]string{
		append(tap, "link", "set", "lo", "up"),
		append(tap, "tuntap", "add", "dev", c.Tap, "mode", "tap"),
		append(tap, "link", "set", c.Tap, "address", c.HostMAC),
		append(tap, "link", "set", c.Tap, "addrgenmode", "none"), // nothing unsolicited from here
		append(tap, "link", "set", c.Tap, "up"),
	}
	for _, p := range c.Host {
		add := append(tap, "addr", "add", p.String(), "dev", c.Tap)
		if p.Addr().Is6() {
			add = append(add, "nodad")
		}
		steps = append(steps, add)
	}
	for _, s := range steps {
		if err := ip(ctx, s...); err != nil {
			return err
		}
	}

	var err error
	if g.dir, err = os.MkdirTemp("", "btns-uml-"); err != nil {
		return err
	}
	initFile := filepath.Join(g.dir, "init")
	if err := os.WriteFile(initFile, []byte(g.initScript()), 0o700); err != nil {
		return err
	}
	cmd := exec.Command("ip", "netns", "exec", c.NetNS, kernel,
		"mem="+c.Memory, "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "init="+initFile,
		"eth0=tuntap,"+c.Tap+","+c.GuestMAC, "con=null", "con0=fd:0,fd:1", "quiet")
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "TMPDIR="+os.TempDir()) // HOME holds ~/.uml
	cmd.Stdout, cmd.Stderr = &g.console, &g.console
	cmd.SysProcAttr = ownGroup()
	cmd.WaitDelay = helperDelay
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	g.cmd, g.stdin = cmd, in
	g.tell = func(s string) error { _, err := in.Write([]byte(s + "\n")); return err }
	g.exited = make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit status of a kernel says nothing
		close(g.exited)
	}()
	if _, err = g.await(ctx, "ready"); err != nil {
		return err
	}
	go g.kicker()
	return nil
}

// kicker sends empty lines to the guest's console. User-Mode Linux now and then
// misses the signal for a packet on the tap and then sees the packet only with the
// next signal for any input, which may be never.
func (g *Guest) kicker() {
	t := time.NewTicker(kick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if g.tell("") != nil {
				return // closed
			}
		case <-g.exited:
			return
		}
	}
}

// initScript is process 1 of the guest. It sets the machine up, then runs one
// script file per line that comes in on the console.
func (g *Guest) initScript() string {
	var s strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	say("#!/bin/sh")
	say("stty -echo")
	say("export PATH=%s HOME=/run", guestPath)
	say("mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run")
	say("mkdir -p %s/lib %s /run/netns", modprobeDir, shareDir)
	say("ln -s %s %s/lib/modules", modules, modprobeDir)
	say("modprobe -d %s -a %s %s", modprobeDir, espModules, strings.Join(g.cfg.Modules, " "))
	say("echo > /proc/sys/kernel/modprobe")
	say("mount -t hostfs none %s -o %s", shareDir, g.dir)
	say("hostname uml; ip link set lo up")
	say("ip link set eth0 addrgenmode none; ip link set eth0 up")
	for _, p := range g.cfg.Guest {
		nodad := ""
		if p.Addr().Is6() {
			nodad = " nodad"
		}
		say("ip addr add %s dev eth0%s", p, nodad)
	}
	for _, a := range g.cfg.Gateway {
		say("ip route add default via %s dev eth0", a)
	}
	say("cd %s; echo 0 > ready.tmp; mv ready.tmp ready", shareDir)
	// A line is the name of a script; its status is what the host waits for.
	say(`while read n; do`)
	say(`  case $n in "") continue;; off) break;; esac`)
	say(`  sh "%s/$n.sh" > "$n.out" 2>&1 < /dev/null; echo $? > "$n.tmp"; mv "$n.tmp" "$n.rc"`, shareDir)
	say(`done`)
	say("echo o > /proc/sysrq-trigger; while :; do sleep 1; done")
	return s.String()
}

// await waits for a file that the guest puts in the shared directory.
func (g *Guest) await(ctx context.Context, name string) (string, error) {
	for {
		b, err := os.ReadFile(filepath.Join(g.dir, name))
		if err == nil && bytes.HasSuffix(b, []byte("\n")) {
			return strings.TrimSpace(string(b)), nil
		}
		select {
		case <-g.exited:
			return "", errors.New("the guest is gone")
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the guest: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
}

// Run runs a shell script in the guest, standard input empty, and returns what it
// printed, standard error included. A status other than 0 is an error that carries
// the output too. What the script leaves in the background stays; give it output
// of its own.
func (g *Guest) Run(ctx context.Context, script string) (string, error) {
	if g.closed {
		return "", os.ErrClosed
	}
	g.runs++
	name := "run" + strconv.Itoa(g.runs)
	if err := os.WriteFile(filepath.Join(g.dir, name+".sh"), []byte(script), 0o600); err != nil {
		return "", err
	}
	if err := g.tell(name); err != nil {
		return "", fmt.Errorf("uml: %w; console:\n%s", err, g.Console())
	}
	rc, err := g.await(ctx, name+".rc")
	out, readErr := os.ReadFile(filepath.Join(g.dir, name+".out"))
	switch {
	case err != nil:
		return string(out), fmt.Errorf("uml: %w; output:\n%s\nconsole:\n%s", err, out, g.Console())
	case readErr != nil:
		return "", readErr
	case rc != "0":
		return string(out), fmt.Errorf("uml: script ended with %s:\n%s", rc, out)
	}
	return string(out), nil
}

// NetNS returns the name of the namespace with the host's end of the tap.
func (g *Guest) NetNS() string { return g.cfg.NetNS }

// Tap returns the name of the tap device.
func (g *Guest) Tap() string { return g.cfg.Tap }

// Share returns a directory that both ends can write to. The guest has it under
// GuestShare.
func (g *Guest) Share() string { return g.dir }

// GuestShare is where the guest has the directory Share.
const GuestShare = shareDir

// Console returns what the guest's kernel and shell said so far.
func (g *Guest) Console() string { return g.console.String() }

// Command prepares a program to run at the host's end of the tap.
func (g *Guest) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", g.cfg.NetNS, name}, args...)...)
}

// InNetNS calls f on a thread that is in the namespace with the host's end of the
// tap. Sockets that f opens stay there. f must not start goroutines that matter
// where they run.
func (g *Guest) InNetNS(f func() error) error { return inNetNS("/run/netns/"+g.cfg.NetNS, f) }

// Close powers the guest off, ends its process group, and removes namespace, tap
// and directory. It may be called more than once.
func (g *Guest) Close() error {
	if g.closed {
		return nil
	}
	g.closed = true
	if g.cmd != nil {
		_ = g.tell("off")
		_ = g.stdin.Close() // powers it off as well, where somebody still reads
		select {
		case <-g.exited:
		case <-time.After(stopTimeout):
		}
		endGroup(g.cmd.Process.Pid) // what is left of it, helpers included
		<-g.exited
	}
	var err error
	if g.dir != "" {
		err = os.RemoveAll(g.dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTime)
	defer cancel()
	return errors.Join(err, ip(ctx, "netns", "del", g.cfg.NetNS)) // the tap goes with it
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
