//go:build linux

package interop_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/sockets"
)

// longGap is how long a transfer may pause when its SA is gone: the time it takes to make
// another, and TCP's wait for its next try (RFC 6298, Section 5.5), which doubles while the
// peer, or a busy machine, is slow. The row prints what it was.
const longGap = 45 * time.Second

// TestDeletedUnderTraffic deletes the child SA in the middle of transfers, from either
// end, and then the IKE SA where we can make another: they go on with SAs made on demand.
func TestDeletedUnderTraffic(t *testing.T) {
	for _, r := range []struct {
		who   string
		setup setup
	}{
		{"charon", setup{}},
		{"charon", setup{responder: true}},
		{"we", setup{}},
		{"we", setup{responder: true}},
	} {
		s := r.setup
		t.Run(r.who+" "+s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, streamWeb())
			what := "the child SA and the IKE SA"
			if s.responder {
				what = "the child SA"
				w.swan.MustInitiate("net")
			}
			child := func() error { return w.host.Operate("terminate", "net") }
			all := func() error { return w.host.Operate("terminate", "moon") }
			verb := " delete "
			if r.who == "charon" {
				child = func() error { _, err := w.swan.TerminateChild("net"); return err }
				all = func() error { _, err := w.swan.Terminate("net"); return err }
				verb = " deletes "
			}
			row := report.Row(t, peer, r.who+verb+what+" under traffic; made again on demand", s.role(), s.suite())
			w.page()
			done := w.streams(row)
			time.Sleep(2 * time.Second)
			if err := child(); err != nil {
				t.Errorf("deleting the child SA: %v", err)
			}
			if !s.responder {
				time.Sleep(2 * time.Second)
				if err := all(); err != nil {
					t.Errorf("deleting the IKE SA: %v", err)
				}
			}
			<-done
			w.agree()
			w.page()
			w.pageThere()
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

func noIKE(st *sockets.Status) bool { return len(st.IKE) == 0 }

func noChild(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 0 }

// ended has somebody end SAs until our status is as wanted: the last segments of a connection
// that find no SA bring up another one.
func (w *world) ended(what string, end func() error, ok func(*sockets.Status) bool) {
	w.t.Helper()
	if err := end(); err != nil {
		w.t.Errorf("ending what stands: %v", err)
	}
	for again := 0; again < 5; again++ {
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); interop.Wake() {
			if ok(w.host.Status()) {
				return
			}
		}
		_ = end() // or there is nothing by now
	}
	w.host.AwaitStatus(what, ok)
}

// TestDeletedFromEachSide deletes the child SA and then the IKE SA from each end, in each
// role, with nothing under way: both ends have nothing left, and make it again.
func TestDeletedFromEachSide(t *testing.T) {
	for _, who := range []string{"charon", "we"} {
		for _, responder := range []bool{false, true} {
			s := setup{responder: responder}
			t.Run(who+" "+s.role(), func(t *testing.T) {
				t.Parallel()
				w := s.start(t, smallWeb())
				row := report.Row(t, peer, who+": delete the child SA, then the IKE SA", s.role(), s.suite())
				child := func() error { return w.host.Operate("terminate", "net") }
				all := func() error { return w.host.Operate("terminate", "moon") }
				if who == "charon" {
					child = func() error { _, err := w.swan.TerminateChild("net"); return err }
					all = func() error { _, err := w.swan.Terminate("net"); return err }
				}
				up := func() {
					if s.responder {
						w.swan.MustInitiate("net")
					}
					w.page()
					w.pageThere()
				}
				up()
				w.ended("no child SA", child, noChild)
				if out := w.swan.AwaitSAs(`net: #1, ESTABLISHED`); strings.Contains(out, "INSTALLED") {
					t.Errorf("charon has a child SA:\n%s", out)
				}
				up()
				w.agree()
				w.ended("no IKE SA", all, noIKE)
				w.swan.AwaitSAs("")
				up()
				w.agree()
				row.Note("%d SPIs", len(w.cap.Judge().SPIs))
			})
		}
	}
}

// TestInactivity: we delete a child SA that nobody uses, and the next packet makes one.
func TestInactivity(t *testing.T) {
	for _, s := range []setup{{child: "inactivity: 1s"}, {child: "inactivity: 1s", responder: true}} {
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "we delete the child SA after inactivity; it comes again on demand", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			for range 3 {
				mark := w.swan.Mark()
				w.page()
				w.pageThere()
				w.swan.AwaitAfter(mark, `received DELETE for ESP CHILD_SA`)
				w.host.AwaitStatus("an IKE SA without a child SA", noChild)
			}
			w.page()
			w.agree()
			row.Note("3 times, %d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

// TestPeerDies kills charon under traffic, which comes again after a while: the transfers
// go on, with nothing done by hand at either end (RFC 7296, Section 2.4).
func TestPeerDies(t *testing.T) {
	for _, s := range []setup{
		{wire: `listen: [":4500"]`, swanConn: "local_port = 4500\n remote_port = 4500"},
		{responder: true},
	} {
		s.conn, s.child = "    dpd_delay: 1s", "dpd_action: restart"
		s.swanChild = "start_action = start"
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, streamWeb())
			row := report.Row(t, peer, "charon is killed under traffic and returns; transfers go on", s.role(), s.suite())
			if s.responder {
				w.host.AwaitStatus("an SA", func(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1 })
			}
			w.page()
			done := w.streams(row)
			time.Sleep(2 * time.Second)
			w.swan.Restart()
			<-done
			w.agree()
			w.page()
			w.pageThere()
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

// TestPeerFoundDead kills charon while nobody sends anything, and it stays away and waits when it
// is back: our liveness checks alone find out, and dpd_action says what then (RFC 7296, Section 2.4).
func TestPeerFoundDead(t *testing.T) {
	for _, action := range []string{"restart", "trap"} {
		for _, who := range []string{"we", "charon"} {
			t.Run(action+" "+who, func(t *testing.T) {
				t.Parallel()
				s := setup{conn: "    dpd_delay: 1s\n    dpd_timeout: 4s", child: "dpd_action: " + action}.symmetric()
				w := s.start(t, smallWeb())
				row := report.Row(t, peer, "idle, charon dies: our liveness checks find it dead; dpd_action "+action+", "+who+" had initiated", "both", s.suite())
				if who == "charon" {
					w.swan.MustInitiate("net")
				}
				w.page()
				ev := w.host.Events()
				w.swan.Kill()
				start := time.Now()
				e := ev.Await("retransmit-send-timeout", nil)
				names(t, e.String(), "moon", interop.FarAddr)
				row.Note("found dead after %.1fs", time.Since(start).Seconds())
				w.host.AwaitStatus("no child SA", func(st *sockets.Status) bool {
					for _, s := range st.IKE {
						if len(s.Children) > 0 {
							return false
						}
					}
					return true
				})
				w.swan.Return()
				if action == "trap" {
					// Nothing calls before somebody sends.
					w.host.AwaitStatus("no IKE SA", noIKE)
					w.page()
				} else {
					back := time.Now()
					w.agreeWithin(40 * time.Second)
					row.Note("called %.1fs after its return", time.Since(back).Seconds())
				}
				w.page()
				w.pageThere()
				w.agree()
				w.events(ev)
				w.cap.Judge()
			})
		}
	}
}

// TestWeDie kills btns, which comes again and waits: charon finds the old SA dead and makes
// a new one.
func TestWeDie(t *testing.T) {
	t.Parallel()
	s := setup{responder: true, swanConn: "dpd_delay = 1s", swanChild: "start_action = start\n dpd_action = restart", swanMore: "retransmit_tries = 2"}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "btns is killed and returns; charon's dpd_action is restart", s.role(), s.suite())
	w.host.AwaitStatus("an SA", func(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1 })
	w.page()
	w.host.Signal(syscall.SIGKILL)
	_ = w.host.Wait() // by the signal
	w.host = w.host.Again()
	start := time.Now()
	w.host.AwaitStatus("an SA again", func(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1 })
	row.Note("back after %.1fs", time.Since(start).Seconds())
	w.page()
	w.pageThere()
	w.agree()
	w.cap.Judge()
}

// streams is stream beside the test, for what breaks it; the channel closes at its end.
func (w *world) streams(row *interop.Row) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.stream(row, true, longGap)
	}()
	return done
}
