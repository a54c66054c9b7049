//go:build linux

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets"
)

// Nobody is the user that btns runs as.
const Nobody = 65534

// A Binary is the btns command, built once for all tests.
type Binary struct {
	once sync.Once
	dir  string
	err  error
}

// Path builds the command if need be: statically, as a container gets it.
func (b *Binary) Path(t testing.TB) string {
	t.Helper()
	b.once.Do(func() { b.err = b.build() })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, "btns")
}

// build makes a folder that outlives the test which happens to come first.
func (b *Binary) build() (err error) {
	if b.dir, err = os.MkdirTemp("", "btns-interop-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(b.dir, "btns"), "github.com/btns-go/btns/cmd/btns")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Remove deletes the build.
func (b *Binary) Remove() error { return os.RemoveAll(b.dir) }

// Dir is a new folder that every user may enter and that Nobody owns.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	// The parent is the test's, for root alone.
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, Nobody, Nobody)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// WriteFile writes a file of Nobody's that nobody else but root may read.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, Nobody, Nobody)); err != nil {
		t.Fatal(err)
	}
}

// Unprivileged wraps a command so that it runs as Nobody with no capabilities but those
// named, and can never get any.
func Unprivileged(caps []string, args ...string) []string {
	set := "-all"
	for _, c := range caps {
		set += ",+" + c
	}
	w := []string{"setpriv", fmt.Sprintf("--reuid=%d", Nobody), fmt.Sprintf("--regid=%d", Nobody), "--clear-groups",
		"--inh-caps=" + set, "--ambient-caps=" + set, "--bounding-set=" + set, "--no-new-privs"}
	return append(w, args...)
}

// A Host is a running `btns up`.
type Host struct {
	*Process
	Dir     string // its files, btns.yaml and keys
	KeyLog  string // "" unless asked for
	control string
	cfg     HostConfig
}

// HostConfig says how to run a Host.
type HostConfig struct {
	NS     *NS
	Binary string   // of Binary.Path
	Dir    string   // with key files that YAML names; "": a new one
	YAML   string   // the configuration
	KeyLog bool     // write the keys of all SAs to Host.KeyLog
	Caps   []string // capabilities, as "net_admin"
	// Command runs `btns up` in another way: unprivileged already, and with the
	// configuration and no control socket. The fields but NS are not used then.
	Command []string
}

// Up runs a host and waits until it is up.
func Up(t testing.TB, cfg HostConfig) *Host {
	t.Helper()
	h := launch(t, cfg)
	h.Await(`msg=up `)
	return h
}

// Again runs a host that ended as it was run before.
func (h *Host) Again() *Host {
	h.t.Helper()
	return Up(h.t, h.cfg)
}

func launch(t testing.TB, cfg HostConfig) *Host {
	t.Helper()
	Need(t, "setpriv")
	if cfg.Command != nil {
		return &Host{Process: Start(t, "btns", cfg.NS.Command(cfg.Command...))}
	}
	if cfg.Dir == "" {
		cfg.Dir = Dir(t)
	}
	file := filepath.Join(cfg.Dir, "btns.yaml")
	WriteFile(t, file, cfg.YAML)
	h := &Host{Dir: cfg.Dir, control: filepath.Join(cfg.Dir, "control"), cfg: cfg}
	if out, err := exec.Command(cfg.Binary, "check", "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("btns check: %v\n%s", err, out)
	}
	args := []string{cfg.Binary, "up", "-c", file, "--control", h.control, "--verbose"}
	if cfg.KeyLog {
		h.KeyLog = filepath.Join(cfg.Dir, "keys")
		args = append(args, "--keylog", h.KeyLog)
	}
	h.Process = Start(t, "btns", cfg.NS.Command(Unprivileged(cfg.Caps, args...)...))
	return h
}

// Status asks the running host, as `btns status --json` does.
func (h *Host) Status() *sockets.Status {
	h.t.Helper()
	out, err := exec.Command(h.cfg.Binary, "status", "--json", "--control", h.control).CombinedOutput()
	if err != nil {
		h.t.Fatalf("btns status: %v: %s", err, out)
	}
	st := new(sockets.Status)
	if err := json.Unmarshal(out, st); err != nil {
		h.t.Fatalf("btns status: %v: %s", err, out)
	}
	return st
}

// Events starts `btns events --json` for the running host, and waits until it sees all.
func (h *Host) Events() *Events {
	h.t.Helper()
	mark := h.Mark()
	p := Start(h.t, "btns events", exec.Command(h.cfg.Binary, "events", "--json", "--control", h.control))
	h.AwaitAfter(mark, "events are watched")
	return &Events{p}
}

// Events are what `btns events --json` prints.
type Events struct{ *Process }

// Await waits for an event of a kind that ok takes, nil for any.
func (p *Events) Await(kind string, ok func(e *sockets.Event) bool) *sockets.Event {
	p.t.Helper()
	for mark := 0; ; {
		line := p.AwaitAfter(mark, `(?m)^.*"kind":"`+kind+`".*$`)[0]
		mark += strings.Index(p.Output()[mark:], line) + len(line)
		e := new(sockets.Event)
		if err := json.Unmarshal([]byte(line), e); err != nil {
			p.t.Fatalf("btns events: %v: %s", err, line)
		}
		if e.Kind.String() != kind {
			p.t.Fatalf("btns events: %s is %s", line, e.Kind)
		}
		if ok == nil || ok(e) {
			return e
		}
	}
}

// Operate runs `btns initiate`, `terminate` or `rekey` for a name.
func (h *Host) Operate(op, name string, more ...string) error {
	out, err := exec.Command(h.cfg.Binary, append([]string{op, name, "--control", h.control}, more...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("btns %s %s: %w: %s", op, name, err, out)
	}
	return nil
}

// StatusText is what `btns status` prints for people.
func (h *Host) StatusText() string {
	h.t.Helper()
	out, err := exec.Command(h.cfg.Binary, "status", "--control", h.control).CombinedOutput()
	if err != nil {
		h.t.Fatalf("btns status: %v: %s", err, out)
	}
	return string(out)
}

// AwaitStatus polls the host's status until it is as wanted; what says it in words.
func (h *Host) AwaitStatus(what string, ok func(*sockets.Status) bool) *sockets.Status {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		st := h.Status()
		if ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			b, err := json.MarshalIndent(st, "", "  ")
			h.t.Fatalf("not within %s: %s\n%s %v", patience, what, b, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// CheckUnprivileged fails the test if a process of the tree below pid is not Nobody's, or
// holds or could get capabilities other than those of mask.
func CheckUnprivileged(t testing.TB, pid int, mask uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Uid": fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", Nobody), "Gid": fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", Nobody),
		"Groups": "", "NoNewPrivs": "1",
	}
	for _, k := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[k] = fmt.Sprintf("%016x", mask)
	}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		if w, ok := want[k]; ok {
			delete(want, k)
			if v = strings.Join(strings.Fields(v), " "); v != w {
				t.Errorf("/proc/%d/status: %s is %q, want %q", pid, k, v, w)
			}
		}
	}
	for k := range want {
		t.Errorf("/proc/%d/status has no %s", pid, k)
	}
}

// Wake gives other programs of the machine a moment before a condition is looked at again.
func Wake() { time.Sleep(20 * time.Millisecond) }

// Grep returns the lines of a text that match.
func Grep(text, expr string) (out []string) {
	re := regexp.MustCompile(expr)
	for line := range strings.Lines(text) {
		if re.MatchString(line) {
			out = append(out, strings.TrimRight(line, "\n"))
		}
	}
	return out
}
