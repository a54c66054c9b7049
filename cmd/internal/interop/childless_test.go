//go:build linux

package interop_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/sockets"
)

// TestChildless sets up IKE SAs with and without a child SA in IKE_AUTH, as the rules of both
// ends want (RFC 6023).
func TestChildless(t *testing.T) {
	for _, r := range []struct {
		ours, theirs string
		responder    bool
		alone        bool   // no child SA in IKE_AUTH
		refused      string // what the initiator says
	}{
		{ours: "never", theirs: "allow"},
		{ours: "prefer", theirs: "never"},
		{ours: "prefer", theirs: "allow", alone: true},
		{ours: "force", theirs: "force", alone: true},
		{ours: "force", theirs: "never", refused: "CHILDLESS_IKEV2_SUPPORTED"},
		{ours: "allow", theirs: "never", responder: true},
		{ours: "allow", theirs: "force", responder: true, alone: true},
		{ours: "prefer", theirs: "force", responder: true, alone: true},
		{ours: "force", theirs: "force", responder: true, alone: true},
		{ours: "never", theirs: "force", responder: true, refused: "does not support childless"},
	} {
		s := setup{conn: "    childless: " + r.ours, swanConn: "childless = " + r.theirs, responder: r.responder}
		t.Run(r.ours+" "+r.theirs+" "+s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "childless: we "+r.ours+", charon "+r.theirs, s.role(), s.suite())
			if r.refused != "" {
				if s.responder {
					_, _ = w.swan.Initiate("net")
					w.swan.Await(r.refused)
				} else if err := w.host.Operate("initiate", "moon"); err == nil || !strings.Contains(err.Error(), r.refused) {
					t.Errorf("btns initiate: %v", err)
				}
				if seen := w.cap.Look(); seen.ESP() != 0 || len(seen.Clear) != 0 {
					t.Errorf("the link saw %s", seen)
				}
				row.Note("refused: %s", r.refused)
				return
			}
			parsed := `parsed IKE_AUTH request \d+ \[ .*\]`
			if s.responder {
				parsed = `generating IKE_AUTH request \d+ \[ .*\]`
				w.swan.MustInitiate("net")
			} else if err := w.host.Operate("initiate", "moon"); err != nil {
				t.Errorf("btns initiate: %v", err)
			}
			auth := w.swan.Await(parsed)[0]
			if got := !strings.Contains(auth, " TSi "); got != r.alone {
				t.Errorf("childless %v, want %v: %s", got, r.alone, auth)
			}
			if !s.responder && r.ours == "force" {
				st := w.host.AwaitStatus("an IKE SA", func(st *sockets.Status) bool { return len(st.IKE) == 1 && st.IKE[0].State == "ESTABLISHED" })
				if len(st.IKE[0].Children) != 0 {
					t.Errorf("our SAs: %+v", st.IKE)
				}
			}
			w.page()
			w.pageThere()
			w.agree()
			where := regexp.MustCompile(`TSi`).FindString(auth)
			row.Note("child SA in IKE_AUTH: %v; %s", where != "", w.cap.Judge())
		})
	}
	t.Run("we force, charon does not", func(t *testing.T) {
		t.Parallel()
		s := setup{conn: "    childless: force", swanConn: "childless = never", responder: true}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "childless: we force, charon never", s.role(), s.suite())
		out, err := w.swan.Initiate("net")
		if err == nil {
			t.Errorf("a child SA in IKE_AUTH: %s", out)
		}
		if st := w.host.Status(); len(st.IKE) > 0 && len(st.IKE[0].Children) > 0 {
			t.Errorf("our SAs: %+v", st.IKE)
		}
		row.Note("refused: %s", strings.Join(interop.Grep(w.swan.Output(), `received NO_ADDITIONAL_SAS`), ""))
	})
}
