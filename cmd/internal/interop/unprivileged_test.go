//go:build linux

package interop_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// emptyRoot makes a folder with nothing but the binary and the files, everybody's to read.
func emptyRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(interop.Dir(t), "root")
	b, err := os.ReadFile(binary.Path(t))
	if err == nil {
		err = errors.Join(os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(root, "btns"), b, 0o755))
	}
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// caged wraps a command so that it runs as Nobody without capabilities, in namespaces of
// its own, on a read-only root that is all there is: no /proc, no /dev, no /tmp.
func caged(t *testing.T, root string, unshare []string, args ...string) []string {
	t.Helper()
	interop.Need(t, "bwrap", "setpriv")
	w := append([]string{"bwrap"}, unshare...)
	w = append(w, "--ro-bind", root, "/", "--remount-ro", "/", "--clearenv", "--die-with-parent")
	probe := interop.Unprivileged(nil, append(w, "/btns", "version")...)
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		interop.Missing(t, "unprivileged user namespaces: bwrap: %v: %s", err, out)
	}
	return interop.Unprivileged(nil, append(w, args...)...)
}

// TestUnprivilegedDemo runs the demo where there is nothing: uid 65534, no capabilities,
// no_new_privs, an empty read-only root, no network but loopback, no /dev/net/tun.
func TestUnprivilegedDemo(t *testing.T) {
	interop.Need(t)
	root := emptyRoot(t, nil)
	args := caged(t, root, []string{"--unshare-all"}, "/btns", "demo")
	row := report.Row(t, "itself", "demo in an empty read-only root, uid 65534, no capabilities", "both", "btns")
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("btns demo: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "Everything held.") {
		t.Errorf("btns demo printed:\n%s", out)
	}
	for _, line := range interop.Grep(string(out), `^5\. `) {
		row.Note("%s", strings.TrimPrefix(line, "5. "))
	}
}

// TestUnprivilegedUp runs a host there and reaches strongSwan through its forwards.
func TestUnprivilegedUp(t *testing.T) {
	interop.Need(t)
	s := setup{}
	root := emptyRoot(t, map[string]string{"btns.yaml": s.defaults().btnsConf()})
	s.command = caged(t, root, []string{"--unshare-user", "--unshare-ipc", "--unshare-uts", "--unshare-pid", "--unshare-cgroup-try"},
		"/btns", "up", "-c", "/btns.yaml")
	w := s.start(t, bigWeb())
	row := report.Row(t, peer, "up in an empty read-only root, uid 65534, no capabilities", s.role(), s.suite())
	w.page()
	f := w.web.FetchBig(t, w.near, "http://"+forwardWeb)
	w.pageThere()
	row.Note("100 MB in at %.0f Mbit/s", f.Rate())

	// bwrap, its process 1, and btns.
	pids := descendants(t, w.host.Pid())
	if len(pids) < 2 {
		t.Errorf("processes below bwrap: %v", pids)
	}
	for _, pid := range append(pids, w.host.Pid()) {
		interop.CheckUnprivileged(t, pid, 0)
	}
	last := pids[len(pids)-1]
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(last) + "/root")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "btns btns.yaml" {
		t.Errorf("btns sees in its root: %s", got)
	}
	w.cap.Judge()
}

// descendants are the processes below pid, children after their parents.
func descendants(t *testing.T, pid int) (pids []int) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(b)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(append(pids, child), descendants(t, child)...)
	}
	return pids
}
