//go:build linux

package interop_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	p := interop.Start(t, "btns demo", exec.Command(args[0], args[1:]...))
	p.Await(`(?m)^   client   SHA256:`) // both hosts are up, and end when the demo tells them

	var btns []int
	pids := descendants(t, p.Pid())
	for _, pid := range pids {
		if strings.HasPrefix(procFile(t, pid, "cmdline"), "/btns\x00") {
			btns = append(btns, pid)
		}
	}
	if len(btns) != 3 {
		t.Fatalf("of the processes %v below bwrap, %v are btns: want the demo and two hosts", pids, btns)
	}
	// The relay stands still too, for a moment: packets wait, or are lost and sent again.
	stop := func(s syscall.Signal) {
		if err := syscall.Kill(btns[0], s); err != nil {
			t.Fatal(err)
		}
	}
	stop(syscall.SIGSTOP)
	for _, pid := range append(pids, p.Pid()) {
		interop.CheckUnprivileged(t, pid, 0)
	}
	for _, pid := range btns {
		checkCage(t, pid, "btns")
		if devs := interop.Grep(procFile(t, pid, "net/dev"), `:`); len(devs) != 1 || !strings.HasPrefix(strings.TrimSpace(devs[0]), "lo:") {
			t.Errorf("process %d has network devices besides loopback:\n%s", pid, strings.Join(devs, "\n"))
		}
	}
	stop(syscall.SIGCONT)
	if err := p.Wait(); err != nil {
		t.Errorf("btns demo: %v", err)
	}
	if !strings.HasSuffix(p.Output(), "Everything held.\n") {
		t.Error("btns demo does not say that everything held")
	}
	for _, line := range interop.Grep(p.Output(), `^5\. `) {
		row.Note("%s", strings.TrimPrefix(line, "5. "))
	}
}

// checkCage fails the test unless a process sees nothing but one read-only file system, and
// in it nothing but these files.
func checkCage(t *testing.T, pid int, files ...string) {
	t.Helper()
	mounts := strings.Split(strings.TrimSpace(procFile(t, pid, "mountinfo")), "\n")
	// 36 35 98:0 /in/its/file/system /mount/point ro,nosuid … (proc_pid_mountinfo(5))
	if f := strings.Fields(mounts[0]); len(mounts) != 1 || len(f) < 6 || f[4] != "/" || !slices.Contains(strings.Split(f[5], ","), "ro") {
		t.Errorf("process %d has more than one read-only mount:\n%s", pid, strings.Join(mounts, "\n"))
	}
	if names := fileNames(t, "/proc/"+strconv.Itoa(pid)+"/root"); !slices.Equal(names, files) {
		t.Errorf("process %d sees in its root: %s", pid, names)
	}
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func procFile(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
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
	checkCage(t, pids[len(pids)-1], "btns", "btns.yaml")
	w.cap.Judge()
}

// descendants are the processes below pid, children after their parents. A process is the
// child of the thread that started it.
func descendants(t *testing.T, pid int) (pids []int) {
	t.Helper()
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		children, err := os.ReadFile(thread + "/children")
		if err != nil {
			continue // it has ended, and its children are another thread's
		}
		for _, f := range strings.Fields(string(children)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(append(pids, child), descendants(t, child)...)
		}
	}
	return pids
}
