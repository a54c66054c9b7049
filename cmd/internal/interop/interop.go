// Package interop drives the built btns binary against IPsec that nobody here wrote:
// strongSwan in network namespaces (package swan) and the Linux kernel in User-Mode Linux
// (package uml). It is the harness; the scenarios are its tests.
//
// A test makes two hosts joined by one Ethernet link, runs the binary on one of them as a
// user without any privilege, and the peer on the other. A capture on the link, outside of
// both, is the judge of what was protected: Capture.Judge knows every packet of it by name
// or fails.
//
// The tests need root, for the namespaces, and Debian packages. Without them they skip and
// say what is missing; with BTNS_INTEROP=require in the environment that is a failure, and with BTNS_INTEROP=skip they are left to another run.
//
// RFC sections are cited where a scenario shows one. Concurrency: tests may run in
// parallel, all names are unique. Ownership: what a function here starts, the test's
// cleanup ends, by the process id it holds. Limits: patience bounds each wait.
package interop

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// patience is how long a program may take for what takes it milliseconds on a machine with
// nothing else to do.
const patience = 30 * time.Second

// required tells whether a missing peer is a failure.
func required() bool { return os.Getenv("BTNS_INTEROP") == "require" }

// Missing skips the test for a reason, or fails it where the peers are required.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf("BTNS_INTEROP=require: "+format, args...)
	}
	t.Skipf(format, args...)
}

// packages says what to install for a program.
func packages() map[string]string {
	return map[string]string{
		"ip": "iproute2", "tcpdump": "tcpdump", "tshark": "tshark", "curl": "curl", "bwrap": "bubblewrap",
		"setpriv": "util-linux", "unshare": "util-linux", "swanctl": "strongswan-swanctl", "pki": "strongswan-pki",
		"/usr/lib/ipsec/charon": "strongswan-charon", "linux.uml": "user-mode-linux", "depmod": "kmod",
		"/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so": "libcharon-extra-plugins",
		"/usr/lib/ipsec/plugins/libstrongswan-chapoly.so":         "libstrongswan-extra-plugins",
	}
}

// Need skips the test unless it runs as root and the programs, or files, are there.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv("BTNS_INTEROP") == "skip" {
		t.Skip("BTNS_INTEROP=skip")
	}
	if os.Geteuid() != 0 {
		Missing(t, "network namespaces need root")
	}
	var missing []string
	for _, p := range programs {
		_, err := exec.LookPath(p)
		if strings.HasSuffix(p, ".so") {
			_, err = os.Stat(p)
		}
		if err != nil {
			missing = append(missing, p+" (package "+packages()[p]+")")
		}
	}
	if len(missing) > 0 {
		Missing(t, "not installed: %s", strings.Join(missing, ", "))
	}
}
