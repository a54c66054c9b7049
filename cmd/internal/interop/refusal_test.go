//go:build linux

package interop_test

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// failing fetches through a forward that can't work and returns the reason that btns
// logged, and how long the client waited for its reset.
func (w *world) failing() (reason string, took time.Duration) {
	w.t.Helper()
	mark := w.host.Mark()
	f := interop.Curl(w.t, w.near, "http://"+forwardWeb+"/")
	if f.Err == nil {
		w.t.Fatal("a page came where none can")
	}
	m := w.host.AwaitAfter(mark, `msg=forward .*to=10\.2\.0\.1:80 error="((?:[^"\\]|\\.)*)"`)
	return strings.ReplaceAll(m[1], `\"`, `"`), f.Took
}

// names fails the test unless the text has all the words.
func names(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the message lacks %q: %s", w, text)
		}
	}
}

// noESP fails the test if anything but IKE passed the link.
func (w *world) noESP() {
	w.t.Helper()
	if seen := w.cap.Look(); seen.ESP() > 0 || len(seen.Clear) > 0 || seen.Plaintext > 0 || seen.IKE == 0 {
		w.t.Errorf("the link saw %s: %v", seen, seen.Clear)
	}
}

// TestWrongPSK: AUTHENTICATION_FAILED, and our message names the peer and the reason.
func TestWrongPSK(t *testing.T) {
	t.Run("initiator", func(t *testing.T) {
		t.Parallel()
		s := setup{swanPSK: "another pre-shared key altogether"}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "wrong PSK", s.role(), s.suite())
		reason, took := w.failing()
		names(t, reason, "moon", interop.FarAddr, "AUTHENTICATION_FAILED")
		w.swan.Await(`tried 1 shared key for 'moon.example' - 'sun.example', but MAC mismatched`)
		if took > 5*time.Second {
			t.Errorf("the client waited %s for a refusal", took)
		}
		row.Note("%s", reason)
		w.noESP()
	})
	t.Run("responder", func(t *testing.T) {
		t.Parallel()
		s := setup{swanPSK: "another pre-shared key altogether", responder: true}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "wrong PSK", s.role(), s.suite())
		if out, err := w.swan.Initiate("net"); err == nil {
			t.Errorf("it came up:\n%s", out)
		}
		w.swan.Await(`received AUTHENTICATION_FAILED notify error`)
		m := w.host.Await(`level=(?:WARN|INFO) .*error="((?:[^"\\]|\\.)*shared key(?:[^"\\]|\\.)*)"`)
		names(t, m[0], "moon", interop.FarAddr)
		row.Note("%s", m[1])
		if st := w.host.Status(); len(st.IKE) > 0 {
			t.Errorf("an SA stands: %+v", st.IKE)
		}
		w.noESP()
	})
}

// TestWrongKey: a raw public key that nobody configured is refused, whoever it claims to be.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	s := setup{auth: "ed25519", responder: true}.defaults()
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "raw key that is not configured", s.role(), s.suite())
	// charon takes another key pair under the same name.
	conf := strings.Replace(w.swan.Conf, "pubkey/ed25519.pem", "pubkey/ecdsa.pem", 1)
	if conf == w.swan.Conf {
		t.Fatal("nothing to replace in swanctl.conf")
	}
	w.swan.NewKey("ecdsa")
	w.swan.Load(conf)
	if out, err := w.swan.Initiate("net"); err == nil {
		t.Errorf("it came up:\n%s", out)
	}
	w.swan.Await(`received AUTHENTICATION_FAILED notify error`)
	m := w.host.Await(`level=(?:WARN|INFO) .*error="((?:[^"\\]|\\.)*)"`)
	names(t, m[0], "moon", interop.FarAddr)
	row.Note("%s", m[1])
	w.noESP()
}

// TestNoProposal: suites that do not meet are NO_PROPOSAL_CHOSEN, in IKE_SA_INIT where
// nobody is authenticated yet, and in IKE_AUTH for the child SA.
func TestNoProposal(t *testing.T) {
	for _, r := range []struct {
		name string
		setup
		words []string
	}{
		{"IKE proposals", setup{swanIKE: "aes128-sha256-ecp256", yaml: "dial_timeout: 3s"}, []string{"moon", interop.FarAddr, "NO_PROPOSAL_CHOSEN", ikeX25519}},
		{"IKE proposals", setup{swanIKE: "aes128-sha256-ecp256", responder: true}, []string{interop.FarAddr, // nobody has said yet who it is
			"aes128-sha256-ecp256", ikeX25519}},
		{"ESP proposals", setup{swanESP: espChaCha}, []string{"moon", interop.FarAddr, "NO_PROPOSAL_CHOSEN", espGCM}},
		{"ESP proposals", setup{swanESP: espChaCha, responder: true}, []string{"moon", espChaCha, espGCM}},
	} {
		t.Run(r.name+" "+r.role(), func(t *testing.T) {
			t.Parallel()
			w := r.start(t, smallWeb())
			row := report.Row(t, peer, "no common "+r.name, r.role(), r.suite())
			if !r.responder {
				reason, took := w.failing()
				names(t, reason, r.words...)
				row.Note("after %.1fs: %s", took.Seconds(), reason)
				w.noESP()
				return
			}
			if out, err := w.swan.Initiate("net"); err == nil {
				t.Errorf("it came up:\n%s", out)
			}
			w.swan.Await(`received NO_PROPOSAL_CHOSEN notify`)
			m := w.host.Await(`level=WARN .*event=proposal-mismatch-(?:ike|child) .*error="((?:[^"\\]|\\.)*)"`)
			names(t, m[0], r.words...)
			row.Note("%s", m[1])
			w.noESP()
		})
	}
}

// TestSilentPeer dials a peer that never answers: the time-out says what was tried.
func TestSilentPeer(t *testing.T) {
	for _, r := range []struct {
		name string
		bind bool // a socket that swallows; else the kernel answers that the port is closed
	}{{"silent peer", true}, {"closed port", false}} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := setup{noDaemon: true, yaml: "dial_timeout: 4s"}
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, r.name, s.role(), s.suite())
			if r.bind {
				w.far.ListenUDP(t, interop.FarAddr+":4500")
			}
			reason, took := w.failing()
			names(t, reason, "moon", interop.FarAddr+":4500", "IKE_SA_INIT", "sent ")
			if took < 3*time.Second || took > 10*time.Second {
				t.Errorf("the client waited %s, want the dial_timeout of 4s", took)
			}
			row.Note("%s", reason)
			if r.bind {
				w.noESP()
			}
		})
	}
}
