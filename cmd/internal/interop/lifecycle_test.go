//go:build linux

package interop_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/sockets"
)

// TestCleanStop: SIGTERM sends a Delete, and the peer has no SA any more (RFC 7296,
// Section 1.4.1).
func TestCleanStop(t *testing.T) {
	for _, s := range []setup{{}, {responder: true}} {
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "SIGTERM: Delete is sent, exit 0", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			start := time.Now()
			if err := w.host.Stop(); err != nil {
				t.Errorf("btns ended with %v", err)
			}
			row.Note("ended in %s", time.Since(start).Round(time.Millisecond))
			w.swan.Await(`received DELETE for IKE_SA net`)
			w.swan.AwaitSAs("")
			w.cap.Judge()
		})
	}
}

// TestPeerDeletes: the peer deletes the child SA, then the IKE SA. What comes next finds a
// new one.
func TestPeerDeletes(t *testing.T) {
	t.Parallel()
	s := setup{}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "charon deletes the child, then the IKE SA; each comes again on demand", s.role(), s.suite())
	w.page()
	w.ended("no child SA", func() error { _, err := w.swan.TerminateChild("net"); return err }, noChild)
	w.page()
	w.ended("no IKE SA", func() error { _, err := w.swan.Terminate("net"); return err }, noIKE)
	w.page()
	if st := w.host.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
		t.Errorf("our SAs: %+v", st.IKE)
	}
	row.Note("%d SPIs on the link", len(w.cap.Judge().SPIs))
}

// TestPeerRestarts: the peer loses its memory and comes again; INITIAL_CONTACT replaces
// the SA (RFC 7296, Section 2.4).
func TestPeerRestarts(t *testing.T) {
	t.Parallel()
	s := setup{responder: true}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "charon is killed and comes again: INITIAL_CONTACT", s.role(), s.suite())
	w.swan.MustInitiate("net")
	w.page()
	before := w.host.Status().IKE[0].SPIi
	w.swan.Restart()
	w.swan.MustInitiate("net")
	w.page()
	w.pageThere()
	st := w.host.AwaitStatus("one IKE SA", func(st *sockets.Status) bool { return len(st.IKE) == 1 })
	if st.IKE[0].SPIi == before {
		t.Error("the old IKE SA stands")
	}
	row.Note("one IKE SA after it")
	w.cap.Judge()
}

// TestWeRestart: we lose our memory and come again; our INITIAL_CONTACT makes the peer
// forget the old SA (RFC 7296, Section 2.4).
func TestWeRestart(t *testing.T) {
	t.Parallel()
	s := setup{}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "btns is killed and comes again: INITIAL_CONTACT", s.role(), s.suite())
	w.page()
	w.host.Signal(syscall.SIGKILL)
	_ = w.host.Wait() // by the signal
	w.host = w.host.Again()
	w.page()
	w.pageThere()
	w.swan.AwaitSAs(`net: #2, ESTABLISHED`)
	if n := strings.Count(w.swan.SAs(), "ESTABLISHED"); n != 1 {
		t.Errorf("charon has %d IKE SAs:\n%s", n, w.swan.SAs())
	}
	row.Note("one IKE SA after it")
	w.cap.Judge()
}

// TestLiveness: each side asks whether the other lives, and is answered (RFC 7296,
// Section 2.4).
func TestLiveness(t *testing.T) {
	t.Run("charon asks", func(t *testing.T) {
		t.Parallel()
		s := setup{swanConn: "dpd_delay = 1s"}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "liveness checks of charon answered", s.role(), s.suite())
		w.page()
		mark := w.swan.Mark()
		for range 3 {
			w.swan.AwaitAfter(mark, `(?s)sending DPD request.*?parsed INFORMATIONAL response`)
			mark = w.swan.Mark()
		}
		w.swan.AwaitSAs(`net: #1, ESTABLISHED`)
		w.page()
		w.cap.Judge()
		row.Note("3 checks")
	})
	t.Run("we ask", func(t *testing.T) {
		t.Parallel()
		s := setup{conn: "    dpd_delay: 1s"}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "our liveness checks answered", s.role(), s.suite())
		w.page()
		mark := w.swan.Mark()
		for range 3 {
			w.swan.AwaitAfter(mark, `parsed INFORMATIONAL request \d+ \[ \]`)
			mark = w.swan.Mark()
		}
		w.page()
		if st := w.host.Status(); len(st.IKE) != 1 || st.IKE[0].State != "ESTABLISHED" {
			t.Errorf("our SAs: %+v", st.IKE)
		}
		row.Note("3 checks")
		w.cap.Judge()
	})
}

// TestChildRekey lets the peer rekey the child SA every few seconds under traffic
// (RFC 7296, Section 2.8). Nothing may be lost, whatever of it we do.
func TestChildRekey(t *testing.T) {
	for _, s := range []setup{
		{swanChild: "rekey_time = 2s\n rand_time = 0s\n life_time = 30s"},
		{swanChild: "rekey_time = 2s\n rand_time = 0s\n life_time = 30s", responder: true},
	} {
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, bigWeb())
			row := report.Row(t, peer, "charon rekeys the child SA under traffic", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			// One connection that lives through all of it, at a pace, and many short ones.
			long := make(chan *interop.Fetch, 1)
			go func() { long <- interop.Curl(t, w.near, "http://"+forwardWeb+"/big", "--limit-rate", "12M") }()
			pages, until := 0, time.Now().Add(8*time.Second)
			for time.Now().Before(until) {
				w.page()
				w.pageThere()
				pages += 2
			}
			f := <-long
			if f.Err != nil || f.Hash != w.web.Hash {
				t.Errorf("the long transfer: %d bytes, %v", f.Size, f.Err)
			}
			row.Note("100 MB in %.1fs", f.Took.Seconds())
			rekeyed := len(interop.Grep(w.swan.Output(), `CHILD_SA net\{\d+\} established`)) - 1
			refused := len(interop.Grep(w.swan.Output(), `received (NO_ADDITIONAL_SAS|TEMPORARY_FAILURE|NO_PROPOSAL_CHOSEN|CHILD_SA_NOT_FOUND)|rekeying failed`))
			row.Note("%d rekeys, %d refused, %d pages", rekeyed, refused, pages)
			if rekeyed < 2 {
				t.Errorf("%d rekeys in 8 s", rekeyed)
			}
			w.host.AwaitStatus("one child SA", func(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1 })
			seen := w.cap.Judge()
			row.Note("%d SPIs", len(seen.SPIs))
		})
	}
}

// TestManyConnections opens connections side by side over one SA.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	s := setup{}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "64 connections at once, the first of them held", s.role(), s.suite())
	urls := make([]string, 64)
	for i := range urls {
		urls[i] = "http://" + forwardWeb + "/"
	}
	f := interop.Curl(t, w.near, urls[0], append([]string{"--parallel", "--parallel-immediate", "--parallel-max", "64"}, urls[1:]...)...)
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	if want := int64(len(urls) * len(interop.Page)); f.Size != want {
		t.Errorf("%d bytes came, want %d", f.Size, want)
	}
	if st := w.host.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
		t.Errorf("our SAs: %+v", st.IKE)
	}
	if n := strings.Count(w.swan.SAs(), "INSTALLED"); n != 1 {
		t.Errorf("charon has %d child SAs", n)
	}
	row.Note("%s", fmt.Sprint(w.cap.Judge()))
}
