//go:build linux

package interop_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/cmd/internal/interop/swan"
)

// symmetric makes both ends able to initiate.
func (s setup) symmetric() setup {
	s.wire = `listen: [":4500"]`
	s.swanConn += "\n local_port = 4500\n remote_port = 4500"
	return s
}

// TestSimultaneousInitiation has both ends initiate at the same moment, under each of
// charon's rules for several IKE SAs with one peer. Whatever comes up, they end with one.
func TestSimultaneousInitiation(t *testing.T) {
	for _, unique := range []string{"no", "never", "keep", "replace"} {
		t.Run(unique, func(t *testing.T) {
			t.Parallel()
			// Charon takes its time, so that the two cross in every round.
			s := setup{swanConn: "unique = " + unique, swanMore: "send_delay = 200\n receive_delay = 200"}.symmetric()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "both initiate at the same moment; charon has unique = "+unique, "both", s.suite())
			rounds, twins := 0, 0
			// With keep charon refuses one of the two. Else they must have crossed at least once, on a
			// machine that is busy with other things too.
			for ; rounds < 3 || twins == 0 && unique != "keep" && rounds < 12; rounds++ {
				mark := w.swan.Mark()
				var both sync.WaitGroup
				both.Go(func() { _, _ = w.swan.Initiate("net") })                          // keep refuses one of the two
				both.Go(func() { _ = w.host.Operate("initiate", "net") })                  // as well
				both.Go(func() { interop.Curl(t, w.near, "http://"+forwardWeb+"/") })      // held, then sent
				both.Go(func() { interop.Curl(t, w.far, "http://"+nearInner+"/", "-m5") }) // may find no SA
				both.Wait()
				if n := len(interop.Grep(w.swan.Output()[mark:], ikeUp)); n > 1 {
					twins++
				}
				w.agreeWithin(40 * time.Second)
				w.page()
				w.pageThere()
				w.ended("no IKE SA", func() error { _, err := w.swan.Terminate("net"); return err }, noIKE)
			}
			if twins == 0 && unique != "keep" {
				t.Errorf("in %d rounds they never crossed", rounds)
			}
			row.Note("%d rounds, in %d of them two IKE SAs came up, one stayed; %d SPIs", rounds, twins, len(w.cap.Judge().SPIs))
		})
	}
}

// TestReauthenticationAgainstInitiation: charon breaks its IKE SA to make another, under
// traffic that makes us initiate at the same moment.
func TestReauthenticationAgainstInitiation(t *testing.T) {
	for _, before := range []string{"no", "yes"} {
		t.Run("make before break "+before, func(t *testing.T) {
			t.Parallel()
			s := setup{swanConn: "reauth_time = 4s\n rand_time = 0s\n over_time = 60s", swanMore: "make_before_break = " + before}.symmetric()
			w := s.start(t, streamWeb())
			row := report.Row(t, peer, "reauthentication by charon, make_before_break = "+before+", while we can initiate", "both", s.suite())
			w.swan.MustInitiate("net")
			w.page()
			w.stream(row, false, maxGap)
			w.count(row, map[string]int{theirReauth: 1, ikeUp: 2})
			// It goes on reauthenticating: the moment of agreement is between two.
			w.agreeWithin(40 * time.Second)
			w.page()
			w.pageThere()
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

// TestStart: what is to stand from the start comes up by itself, however late the peer.
func TestStart(t *testing.T) {
	t.Run("charon comes late", func(t *testing.T) {
		t.Parallel()
		s := setup{child: "start_action: start", noDaemon: true}
		dir := swan.Prepare(t)
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "start_action start: charon comes up after us", s.role(), s.suite())
		time.Sleep(4 * time.Second)
		d := s.defaults()
		w.swan = swan.StartWith(t, w.far, dir, d.swanConf("", ""), "")
		start := time.Now()
		w.agreeWithin(40 * time.Second)
		row.Note("up %.1fs after it", time.Since(start).Seconds())
		w.page()
		w.pageThere()
		w.cap.Judge()
	})
	t.Run("charon refuses at first", func(t *testing.T) {
		t.Parallel()
		s := setup{child: "start_action: start", swanPSK: "another secret, by mistake"}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "start_action start: charon's secret is put right later", s.role(), s.suite())
		w.host.Await(`AUTHENTICATION_FAILED`)
		s.swanPSK = ""
		w.swan.Load(s.defaults().swanConf("", ""))
		start := time.Now()
		w.agreeWithin(60 * time.Second)
		row.Note("up %.1fs after it", time.Since(start).Seconds())
		w.page()
		w.pageThere()
		w.cap.Judge()
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := setup{child: "start_action: none"}.symmetric()
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "start_action none: packets wait for charon", s.role(), s.suite())
		if f := interop.Curl(t, w.near, "http://"+forwardWeb+"/", "-m", "3"); f.Err == nil {
			t.Error("a page without an SA")
		}
		if st := w.host.Status(); len(st.IKE) != 0 {
			t.Errorf("our SAs: %+v", st.IKE)
		}
		w.swan.MustInitiate("net")
		w.page()
		w.pageThere()
		w.agree()
		row.Note("nothing before charon initiated; %s", w.cap.Judge())
	})
}

// TestOnDemand: the packet that asks for a child SA comes first among its traffic selectors,
// and decides which of charon's children it becomes (RFC 7296, Section 2.9). Rekeying is
// about the whole of it (Section 2.9.2).
func TestOnDemand(t *testing.T) {
	for _, r := range []struct {
		name  string
		setup setup
		in    string // where the IKE SA is when the packet comes
	}{
		{"in IKE_AUTH", setup{}, "IKE_AUTH"},
		{"in CREATE_CHILD_SA", setup{conn: "    childless: force"}, "CREATE_CHILD_SA"},
	} {
		t.Run(r.in, func(t *testing.T) {
			t.Parallel()
			s := r.setup
			// One child here, two there: each packet has to find its own.
			s.child = "rekey_time: 3s, life_time: 30s, rand_time: 1ms"
			s.farTS, s.swanFar = "10.2.0.0/24,10.3.0.0/24", "10.2.0.0/24"
			s.rewrite = strings.NewReplacer("children {\n", "children {\n other {\n local_ts = 10.3.0.0/24\n remote_ts = 10.1.0.1/32\n esp_proposals = aes256gcm16\n }\n")
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "on demand: the packet's selectors choose charon's child, "+r.name, s.role(), s.suite())
			for _, x := range []struct{ url, ts, packet string }{
				{forwardWeb, "10.2.0.0/24", `10\.2\.0\.1/32\[tcp/http\]`},
				{forwardTwo, "10.3.0.0/24", `10\.3\.0\.1/32\[tcp/http\]`},
			} {
				mark := w.swan.Mark()
				interop.FetchPage(t, w.near, "http://"+x.url)
				w.swan.AwaitAfter(mark, `looking for a child config for `+x.packet+` `+strings.ReplaceAll(x.ts, ".", `\.`))
				w.swan.AwaitAfter(mark, `CHILD_SA \w+\{\d+\} established with SPIs \w+ \w+ and TS `+strings.ReplaceAll(x.ts, ".", `\.`)+` === 10\.1\.0\.1/32\n`)
			}
			mark := w.swan.Mark()
			w.swan.AwaitAfter(mark, ourChildRekey)
			w.swan.AwaitAfter(mark, `established with SPIs \w+ \w+ and TS 10\.[23]\.0\.0/24 === 10\.1\.0\.1/32\n`)
			if packet := interop.Grep(w.swan.Output()[mark:], `received: .*\[tcp/`); len(packet) > 0 {
				t.Errorf("rekeying asks for %s", packet)
			}
			w.page()
			interop.FetchPage(t, w.near, "http://"+forwardTwo)
			if st := w.host.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) < 2 {
				t.Errorf("our SAs: %+v", st.IKE)
			}
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}
