//go:build linux

package interop_test

import (
	"slices"
	"syscall"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/sockets"
)

func up(e *sockets.Event) bool   { return e.Up }
func down(e *sockets.Event) bool { return !e.Up }

// events ends `btns events` as a person does, and counts what it printed.
func (w *world) events(ev *interop.Events) int {
	w.t.Helper()
	ev.Signal(syscall.SIGINT)
	if err := ev.Wait(); err != nil {
		w.t.Errorf("btns events, interrupted: %v", err)
	}
	return len(interop.Grep(ev.Output(), `^\{"time":"[^"]*","kind":"[a-z-]+".*\}`))
}

// TestEventsOfLife follows an SA from its beginning to its end with btns events: what is
// told is what the capture shows.
func TestEventsOfLife(t *testing.T) {
	for _, responder := range []bool{false, true} {
		s := setup{responder: responder}
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "events: an SA comes, is rekeyed, goes", s.role(), s.suite())
			ev := w.host.Events()
			if responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			e := ev.Await("ike-updown", up)
			if e.Connection != "moon" || e.Peer.Remote != "fqdn:moon.example" || e.Peer.Local != "fqdn:sun.example" || e.Peer.Method != "psk" ||
				e.IKE.Initiator == responder || e.IKE.Suite != ikeX25519 || e.Unauthenticated {
				t.Errorf("%s", e)
			}
			first := ev.Await("child-updown", up)
			if first.Child.Name != "net" || first.Child.Suite != espGCM || first.Child.Mode != "tunnel" {
				t.Errorf("%s", first)
			}
			// One is rekeyed by us, the other by charon.
			if err := w.host.Operate("rekey", "net"); err != nil {
				t.Error(err)
			}
			child := ev.Await("child-rekey", nil)
			if child.Child.OldSPIIn != first.Child.SPIIn {
				t.Errorf("%s replaces %s", child, first)
			}
			if out, err := w.swan.RekeyIKE("net"); err != nil {
				t.Errorf("swanctl --rekey: %v\n%s", err, out)
			}
			if again := ev.Await("ike-rekey", nil); again.IKE.OldNum != e.IKE.Num {
				t.Errorf("%s replaces %s", again, e)
			}
			w.page()
			if err := w.host.Operate("terminate", "moon"); err != nil {
				t.Error(err)
			}
			ev.Await("child-updown", down)
			last := ev.Await("ike-updown", down)
			if last.Reason != "deleted by us" {
				t.Errorf("%s", last)
			}
			seen := w.cap.Judge()
			for _, e := range []*sockets.Event{first, child} {
				if seen.SPIs[uint32(e.Child.SPIIn)] == 0 || seen.SPIs[uint32(e.Child.SPIOut)] == 0 {
					t.Errorf("the link never saw the SPIs of %s: %v", e, seen.SPIs)
				}
				delete(seen.SPIs, uint32(e.Child.SPIIn))
				delete(seen.SPIs, uint32(e.Child.SPIOut))
			}
			if len(seen.SPIs) > 0 {
				t.Errorf("the link saw SPIs that no event told of: %v", seen.SPIs)
			}
			row.Note("%d events; %s", w.events(ev), first)
		})
	}
}

// TestEventsOfFailure reads with btns events why there is no SA: both sides' offers as far
// as the peer says them, and the first thing that did not match.
func TestEventsOfFailure(t *testing.T) {
	another := "another pre-shared key altogether"
	for _, r := range []struct {
		name string
		setup
		kind  string
		words []string
		check func(e *sockets.Event) bool
	}{
		{"wrong PSK", setup{swanPSK: another}, "local-auth-failed", []string{"moon", interop.FarAddr, "AUTHENTICATION_FAILED"},
			func(e *sockets.Event) bool { return e.Connection == "moon" && e.Peer.Local == "fqdn:sun.example" }},
		{"wrong PSK", setup{swanPSK: another, responder: true}, "peer-auth-failed", []string{interop.FarAddr, "psk", "fqdn:moon.example", "fqdn:sun.example"},
			func(e *sockets.Event) bool {
				return e.Unauthenticated && e.Peer.Claimed == "fqdn:moon.example" && e.Peer.Asked == "fqdn:sun.example"
			}},
		{"no common IKE proposal", setup{swanIKE: "aes128-sha256-ecp256"}, "proposal-mismatch-ike", []string{"moon", "NO_PROPOSAL_CHOSEN", ikeX25519},
			func(e *sockets.Event) bool {
				return e.Unauthenticated && len(e.Offers.Peer) == 0 && slices.Equal(e.Offers.Ours, []string{ikeX25519})
			}},
		{"no common IKE proposal", setup{swanIKE: "aes128-sha256-ecp256", responder: true}, "proposal-mismatch-ike",
			[]string{interop.FarAddr, "peer offers aes128, we accept aes256gcm16"},
			func(e *sockets.Event) bool {
				return e.Unauthenticated && slices.Equal(e.Offers.Peer, []string{"aes128-sha256-ecp256"}) && slices.Equal(e.Offers.Ours, []string{ikeX25519})
			}},
		{"no common ESP proposal", setup{swanESP: espChaCha}, "proposal-mismatch-child", []string{"moon", "CHILD_SA net", "NO_PROPOSAL_CHOSEN", espGCM},
			func(e *sockets.Event) bool {
				return !e.Unauthenticated && slices.Equal(e.Offers.Ours, []string{espGCM})
			}},
		{"no common ESP proposal", setup{swanESP: espChaCha, responder: true}, "proposal-mismatch-child",
			[]string{"fqdn:moon.example", "peer offers chacha20poly1305, we accept aes256gcm16"},
			func(e *sockets.Event) bool {
				return slices.Equal(e.Offers.Peer, []string{espChaCha}) && slices.Equal(e.Offers.Ours, []string{espGCM})
			}},
		{"no common traffic selectors", setup{swanFar: "10.9.0.0/24"}, "ts-mismatch", []string{"moon", "TS_UNACCEPTABLE", "10.2.0.0/24"},
			func(e *sockets.Event) bool { return len(e.Offers.Ours) == 1 }},
		{"no common traffic selectors", setup{swanFar: "10.9.0.0/24", responder: true}, "ts-mismatch",
			[]string{"fqdn:moon.example", "10.9.0.0/24", "remote: the peer asks for 10.9.0.0/24 and may own 10.2.0.0/24"},
			func(e *sockets.Event) bool { return len(e.Offers.Peer) == 1 && len(e.Offers.Ours) == 1 }},
	} {
		t.Run(r.name+" "+r.role(), func(t *testing.T) {
			t.Parallel()
			w := r.start(t, smallWeb())
			row := report.Row(t, peer, "events: "+r.name, r.role(), r.suite())
			ev := w.host.Events()
			if r.responder {
				if out, err := w.swan.Initiate("net"); err == nil {
					t.Errorf("it came up:\n%s", out)
				}
			} else if err := w.host.Operate("initiate", "net", "--timeout", "2s"); err == nil {
				t.Error("it came up")
			}
			e := ev.Await(r.kind, nil)
			names(t, e.String(), r.words...)
			if !r.check(e) {
				t.Errorf("%s: %+v", e, *e)
			}
			row.Note("%s", e)
			w.events(ev)
			w.noESP()
		})
	}
}
