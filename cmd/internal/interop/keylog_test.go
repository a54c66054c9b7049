//go:build linux

package interop_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// TestKeyLog reads what we sent with somebody else's eyes: tshark decrypts IKE and ESP with
// the lines of --keylog, finds every ICV good, and finds nothing without them. No ESN:
// tshark takes a good ICV with ESN for a bad one.
func TestKeyLog(t *testing.T) {
	for _, s := range []setup{
		{keyLog: true},
		{keyLog: true, responder: true, ike: "aes256-sha256-ecp256", esp: "aes256-sha256"},
	} {
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			interop.Need(t, "tshark")
			s.snap = 65535
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "tshark decrypts IKE and ESP with --keylog", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.pageThere()
			if err := w.host.Stop(); err != nil {
				t.Errorf("btns ended with %v", err)
			}
			w.cap.Judge()

			info, err := os.Stat(w.host.KeyLog)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("the key log's mode is %v", info.Mode())
			}
			keys, err := os.ReadFile(w.host.KeyLog)
			if err != nil {
				t.Fatal(err)
			}
			var options []string
			for line := range strings.Lines(string(keys)) {
				options = append(options, "-o", strings.TrimSuffix(line, "\n"))
			}
			if len(options) != 6 {
				t.Errorf("%d lines, want one for IKE and one for each direction of ESP:\n%s", len(options)/2, keys)
			}

			blind := tshark(t, w.cap.File, "-V")
			open := tshark(t, w.cap.File, append(options, "-V")...)
			for _, secret := range []string{interop.Plaintext, "GET / HTTP/1.1", "sun.example", "moon.example", "HTTP/1.1 200 OK"} {
				if strings.Contains(blind, secret) {
					t.Errorf("without the keys tshark shows %q", secret)
				}
				if !strings.Contains(open, secret) {
					t.Errorf("with the keys tshark does not show %q", secret)
				}
			}
			count := func(filter string) int {
				out := tshark(t, w.cap.File, append(options, "-Y", filter, "-T", "fields", "-e", "frame.number")...)
				return strings.Count(out, "\n")
			}
			sealed, good, bad := count("esp"), count("esp.icv_good == 1"), count("esp.icv_bad == 1")
			if sealed == 0 || good != sealed || bad != 0 {
				t.Errorf("of %d ESP packets %d have a good ICV, %d a bad one", sealed, good, bad)
			}
			deletes := count("isakmp.typepayload == 42 && udp")
			requests := count("http.request")
			if requests != 2 {
				t.Errorf("tshark saw %d HTTP requests, want 2", requests)
			}
			row.Note("%d ESP packets, ICVs good; %d HTTP requests and %d IKE message with a Delete in clear to it", sealed, requests, deletes)
		})
	}
}

// tshark reads a capture; ESP is decrypted and its ICVs are checked where keys are given.
func tshark(t *testing.T, file string, args ...string) string {
	t.Helper()
	args = append([]string{"-r", file, "-n", "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}, args...)
	var stderr strings.Builder
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	return string(out)
}
