//go:build linux

package interop_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets"
)

// TestPeerReturnsAndWaits kills charon under traffic; it comes back and waits to be called,
// and says nothing of its lost SAs. We find out from traffic that nobody answers, whatever
// dpd_delay is, and call it; transfers go on (RFC 7296, Section 2.4).
func TestPeerReturnsAndWaits(t *testing.T) {
	for _, r := range []struct{ action, delay string }{{"trap", ""}, {"clear", ""}, {"restart", "    dpd_delay: 2s"}} {
		s := setup{conn: r.delay, child: "dpd_action: " + r.action}
		t.Run(r.action, func(t *testing.T) {
			t.Parallel()
			w := s.start(t, streamWeb())
			what := "default dpd_delay"
			if r.delay != "" {
				what = "dpd_delay 2s"
			}
			row := report.Row(t, peer, "charon is killed under traffic, returns and waits; "+what+", dpd_action "+r.action, s.role(), s.suite())
			w.page()
			before := w.host.Status().IKE[0].SPIi
			done := w.streams(row)
			time.Sleep(2 * time.Second)
			w.swan.Restart()
			start := time.Now()
			st := w.host.AwaitStatus("another SA", func(st *sockets.Status) bool {
				return len(st.IKE) == 1 && st.IKE[0].SPIi != before && len(st.IKE[0].Children) == 1
			})
			row.Note("called %.1fs after its return", time.Since(start).Seconds())
			if st.IKE[0].State != "ESTABLISHED" {
				t.Errorf("%+v", st.IKE)
			}
			<-done
			w.agree()
			w.page()
			w.pageThere()
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

// TestWeCallBack kills btns, which comes back with nothing to send. What charon still sends
// under the old SA makes it call charon, which takes INITIAL_CONTACT (RFC 7296, Sections
// 1.5 and 2.4).
func TestWeCallBack(t *testing.T) {
	t.Parallel()
	s := setup{wire: `listen: [":4500"]`}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "btns is killed and returns with nothing to send; what charon sends makes it call", s.role(), s.suite())
	w.page()
	w.pageThere()
	w.host.Signal(syscall.SIGKILL)
	_ = w.host.Wait() // by the signal
	w.host = w.host.Again()
	start := time.Now()
	w.pageThere()
	row.Note("a page from charon's side after %.1fs", time.Since(start).Seconds())
	w.agree()
	w.page()
	if n := w.host.Status().Gate.Refused["invalid-spi"]; n == 0 {
		t.Error("no INVALID_SPI was sent")
	}
	w.cap.Judge()
}

// TestWeReturnAndWait kills btns, which comes back and waits: with each dpd_action charon
// finds the old SA dead, and the next one it makes works.
func TestWeReturnAndWait(t *testing.T) {
	for _, action := range []string{"clear", "trap"} {
		s := setup{responder: true, swanConn: "dpd_delay = 1s", swanChild: "dpd_action = " + action, swanMore: "retransmit_tries = 2"}
		if action == "trap" {
			s.swanChild += "\n start_action = trap"
		}
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "btns is killed and returns and waits; charon's dpd_action is "+action, s.role(), s.suite())
			w.swan.MustInitiate("net")
			w.page()
			w.host.Signal(syscall.SIGKILL)
			_ = w.host.Wait() // by the signal
			w.host = w.host.Again()
			start := time.Now()
			w.swan.Await(`giving up after 2 retransmits`)
			row.Note("found dead after %.1fs", time.Since(start).Seconds())
			w.swan.AwaitSAs("")
			w.swan.MustInitiate("net")
			w.pageThere()
			w.page()
			w.agree()
			w.cap.Judge()
		})
	}
}
