//go:build linux

package interop_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// streamWeb is big enough for several rekeys at streamRate.
var streamWeb = sync.OnceValue(func() *interop.Web { return interop.NewWeb(40_000_000) })

const (
	streamRate = "5M"             // bytes a second: 8 seconds
	maxGap     = 10 * time.Second // of a machine that does other things; the row prints what it was
)

// What charon logs when something happens.
const (
	ourChildRekey   = `parsed CREATE_CHILD_SA request \d+ \[ (N\(\w+\) )*N\(REKEY_SA\)`
	theirChildRekey = `generating CREATE_CHILD_SA request \d+ \[ (N\(\w+\) )*N\(REKEY_SA\)`
	anyChildRekey   = `CREATE_CHILD_SA request \d+ \[ (N\(\w+\) )*N\(REKEY_SA\)`
	childWithKE     = `CREATE_CHILD_SA re\w+ \d+ \[ (N\(\w+\) )*SA No KE TSi`
	ourIKERekey     = `parsed CREATE_CHILD_SA request \d+ \[ SA No KE \]`
	theirIKERekey   = `generating CREATE_CHILD_SA request \d+ \[ SA No KE \]`
	ikeRekeyed      = `IKE_SA net\[\d+\] rekeyed between`
	ikeUp           = `IKE_SA net\[\d+\] established between`
	theirReauth     = `reauthenticating IKE_SA net`
	ourAuth         = `parsed IKE_AUTH request`
)

// TestRekey replaces SAs under traffic, started by either end or both at once, in both
// roles (RFC 7296, Sections 2.8 and 2.18). Nothing may stall, nothing may be lost, and in
// the end both ends have the same SAs.
func TestRekey(t *testing.T) {
	const (
		ourChild   = "rekey_time: 2s, life_time: 30s, rand_time: 1ms"
		theirChild = "rekey_time = 2s\n rand_time = 0s\n life_time = 30s"
		ourIKE     = "    rekey_time: 3s\n    over_time: 30s\n    rand_time: 1ms"
		theirIKE   = "rekey_time = 3s\n rand_time = 0s\n over_time = 30s"
		pfs        = "aes256gcm16-x25519"
	)
	for _, r := range []struct {
		name  string
		setup setup
		min   map[string]int // lines of charon's log: at least so many
	}{
		{"we rekey the child SA", setup{child: ourChild}, map[string]int{ourChildRekey: 3}},
		{"we rekey the child SA with PFS", setup{child: ourChild, esp: pfs}, map[string]int{ourChildRekey: 3, childWithKE: 6}},
		{"charon rekeys the child SA with PFS", setup{swanChild: theirChild, esp: pfs}, map[string]int{theirChildRekey: 3, childWithKE: 6}},
		{"both rekey the child SA", setup{child: ourChild, swanChild: theirChild}, map[string]int{anyChildRekey: 3}},
		{"we rekey the IKE SA", setup{conn: ourIKE}, map[string]int{ourIKERekey: 2, ikeRekeyed: 2}},
		{"charon rekeys the IKE SA", setup{swanConn: theirIKE}, map[string]int{theirIKERekey: 2, ikeRekeyed: 2}},
		{"both rekey the IKE SA", setup{conn: ourIKE, swanConn: theirIKE}, map[string]int{ikeRekeyed: 2}},
		{"both rekey the IKE SA and the child SA", setup{conn: ourIKE, swanConn: theirIKE, child: ourChild, swanChild: theirChild},
			// Each refuses what the other has under way: a rekeying put off may come too late to count.
			map[string]int{ikeRekeyed: 1, anyChildRekey: 2}},
	} {
		for _, responder := range []bool{false, true} {
			s := r.setup
			s.responder = responder
			t.Run(strings.ReplaceAll(r.name+" "+s.role(), " ", "-"), func(t *testing.T) {
				t.Parallel()
				w := s.start(t, streamWeb())
				row := report.Row(t, peer, "rekey: "+r.name+", under traffic", s.role(), s.suite())
				if s.responder {
					w.swan.MustInitiate("net")
				}
				w.page()
				w.stream(row, false, maxGap)
				w.lostNothing(row)
				w.charonLostNothing()
				w.count(row, r.min)
				w.agree()
				w.page()
				w.pageThere()
				row.Note("%d SPIs", len(w.cap.Judge().SPIs))
			})
		}
	}
}

// TestReauthentication makes the IKE SA anew, with its children, from scratch (RFC 7296,
// Section 2.8.3). Whoever can breaks the old one only when the new one is there.
func TestReauthentication(t *testing.T) {
	const (
		ours   = "    reauth_time: 3s\n    over_time: 30s\n    rand_time: 1ms"
		theirs = "reauth_time = 3s\n rand_time = 0s\n over_time = 30s"
	)
	for _, r := range []struct {
		name  string
		setup setup
		min   map[string]int
		// Connections that begin while there is no SA may fail, where we cannot make one.
		breaks bool
		// Charon deletes the old SA with packets under way.
		loses bool
	}{
		{"we do", setup{conn: ours}, map[string]int{ourAuth: 3, ikeUp: 3}, false, false},
		{"charon does, break before make", setup{responder: true, swanConn: theirs}, map[string]int{theirReauth: 2, ikeUp: 3}, true, true},
		{"charon does, make before break", setup{responder: true, swanConn: theirs, swanMore: "make_before_break = yes"}, map[string]int{theirReauth: 2, ikeUp: 3}, false, true},
		// RFC 4478: the responder says for how long it believes the initiator.
		{"charon does, make before break", setup{swanConn: theirs, swanMore: "make_before_break = yes"}, map[string]int{theirReauth: 2, ikeUp: 3}, false, true},
		{"we ask for it with AUTH_LIFETIME", setup{responder: true, conn: "    reauth_time: 4s\n    over_time: 30s", swanConn: "over_time = 1s\n rand_time = 0s"},
			map[string]int{ikeUp: 3, `N\(AUTH_LFT\)`: 3, theirReauth: 2}, true, true},
	} {
		t.Run(strings.ReplaceAll(r.name+" "+r.setup.role(), " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := r.setup
			w := s.start(t, streamWeb())
			row := report.Row(t, peer, "reauthentication: "+r.name, s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.stream(row, r.breaks, maxGap)
			if !r.loses {
				w.lostNothing(row)
				w.charonLostNothing()
			}
			w.count(row, r.min)
			w.agree()
			w.page()
			w.pageThere()
			row.Note("%d SPIs", len(w.cap.Judge().SPIs))
		})
	}
}

// stream carries a file each way at a pace, on connections that live through whatever
// happens meanwhile, and opens new ones all the time. With breaks those may fail; the
// others may pause, but for no longer than gap.
func (w *world) stream(row *interop.Row, breaks bool, gap time.Duration) {
	w.t.Helper()
	var in, out *interop.Fetch
	var both sync.WaitGroup
	both.Go(func() { in = interop.Curl(w.t, w.near, "http://"+forwardWeb+"/big", "--limit-rate", streamRate) })
	both.Go(func() { out = interop.Curl(w.t, w.far, "http://"+nearInner+"/big", "--limit-rate", streamRate) })
	done := make(chan struct{})
	go func() { both.Wait(); close(done) }()
	pages, missed := 0, 0
	for running := true; running; pages += 2 {
		for _, f := range []*interop.Fetch{interop.Curl(w.t, w.near, "http://"+forwardWeb+"/"), interop.Curl(w.t, w.far, "http://"+nearInner+"/")} {
			if f.Err == nil && f.Head == interop.Page && f.Took <= maxGap {
				continue
			}
			if missed++; !breaks {
				w.t.Errorf("a page: %q after %s, %v", f.Head, f.Took, f.Err)
			}
		}
		select {
		case <-done:
			running = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	for _, f := range []*interop.Fetch{in, out} {
		if f.Err != nil || f.Hash != w.web.Hash {
			w.t.Errorf("a transfer: %d bytes of %d, hash equal: %v, %v", f.Size, len(w.web.File), f.Hash == w.web.Hash, f.Err)
		}
		if f.Gap > gap {
			w.t.Errorf("a transfer stalled for %s", f.Gap)
		}
	}
	row.Note("%d MB in %.1fs in, %.1fs out, longest gap %.1fs, %d pages, %d missed", len(w.web.File)/1e6, in.Took.Seconds(), out.Took.Seconds(), max(in.Gap, out.Gap).Seconds(), pages, missed)
}

// lostNothing holds us to it that no packet found its SA gone, not yet there or used up: a stall
// that TCP mends in time is one all the same.
func (w *world) lostNothing(row *interop.Row) {
	w.t.Helper()
	drops := w.host.Status().Data.Drops.Map()
	for _, reason := range []string{"in_spi", "in_early", "in_esp", "out_removed", "out_exhausted", "out_refused", "hold_expired", "hold_failed"} {
		if n := drops[reason]; n > 0 {
			w.t.Errorf("we lost packets of the stream: %d %s", n, reason)
		}
	}
	row.Note("drops %v", drops)
}

// charonLostNothing is the same of charon.
func (w *world) charonLostNothing() {
	w.t.Helper()
	if n := len(interop.Grep(w.swan.Output(), `does not belong to an installed SA|could not find an outbound IPsec SA`)); n > 0 {
		w.t.Errorf("charon lost %d packets of the stream", n)
	}
}

// count looks for what must have happened in charon's log.
func (w *world) count(row *interop.Row, least map[string]int) {
	w.t.Helper()
	for expr, n := range least {
		if got := len(interop.Grep(w.swan.Output(), expr)); got < n {
			w.t.Errorf("charon printed %q %d times, want %d", expr, got, n)
		}
	}
	out := w.swan.Output()
	n := func(expr string) int { return len(interop.Grep(out, expr)) }
	row.Note("child rekeys %d ours %d charon's, IKE rekeys %d and %d, %d authentications, %d refusals", n(ourChildRekey), n(theirChildRekey),
		n(ourIKERekey), n(theirIKERekey), n(ikeUp),
		n(`N\((NO_ADD_SAS|TEMP_FAIL|NO_PROP|CHILD_NOT_FOUND|INVAL_SYN)\)`))
}

var (
	swanSPIs  = regexp.MustCompile(`ESTABLISHED, IKEv2, ([0-9a-f]{16})_i\*? ([0-9a-f]{16})_r`)
	swanChild = regexp.MustCompile(`(?s)net: #\d+, reqid \d+, INSTALLED.*?\n\s+in\s+([0-9a-f]{8}).*?\n\s+out\s+([0-9a-f]{8})`)
)

// agree waits until both ends have one IKE SA with one child SA, the same.
func (w *world) agree() {
	w.t.Helper()
	w.agreeWithin(10 * time.Second)
}

func (w *world) agreeWithin(patience time.Duration) {
	w.t.Helper()
	var ours, theirs []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); interop.Wake() {
		ours, theirs = nil, nil
		for _, s := range w.host.Status().IKE {
			if s.State == "CONNECTING" && !s.Initiator {
				continue // of a peer that died while it called, until its time is up
			}
			ours = append(ours, s.SPIi+" "+s.SPIr)
			for _, c := range s.Children {
				ours = append(ours, c.InSPI+" "+c.OutSPI)
			}
		}
		out := w.swan.SAs()
		for _, m := range swanSPIs.FindAllStringSubmatch(out, -1) {
			theirs = append(theirs, m[1]+" "+m[2])
		}
		for _, m := range swanChild.FindAllStringSubmatch(out, -1) {
			theirs = append(theirs, m[2]+" "+m[1])
		}
		if len(ours) == 2 && slices.Equal(ours, theirs) {
			return
		}
	}
	st := w.host.Status()
	w.t.Errorf("the ends do not agree on one SA: ours %v, charon's %v\n%s\n%s", ours, theirs, fmt.Sprintf("%+v", st.IKE), w.swan.SAs())
}
