//go:build linux

package interop_test

import (
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/sockets"
)

// TestInvalidKE guesses the peer's group wrong: the responder names its own, and the
// initiator begins again with it (RFC 7296, Section 1.2).
func TestInvalidKE(t *testing.T) {
	const both = "aes256gcm16-prfsha256-ecp256-x25519"
	for _, s := range []setup{
		{ike: both, swanIKE: ikeX25519},
		{ike: "aes256gcm16-prfsha256-ecp256, aes256gcm16-prfsha256-modp2048", swanIKE: "aes256gcm16-prfsha256-modp2048"},
		{ike: ikeX25519, swanIKE: both, responder: true},
	} {
		t.Run(strings.ReplaceAll(s.role()+" "+s.ike, ", ", "+"), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "INVALID_KE_PAYLOAD", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
				w.swan.Await(`peer didn't accept DH group ECP_256, it requested CURVE_25519`)
			} else {
				w.page()
				row.Note("%s", w.swan.Await(`DH group ECP_256 unacceptable, requesting \w+`)[0])
			}
			w.page()
			w.pageThere()
			w.cap.Judge()
		})
	}
}

// TestNarrowing lets the two sides disagree on the selectors: what both allow is what the
// child SA covers (RFC 7296, Section 2.9).
func TestNarrowing(t *testing.T) {
	for _, r := range []struct {
		name string
		setup
		far string // our status's remote_ts
	}{
		{"responder has less", setup{farTS: "10.2.0.0/16", swanFar: "10.2.0.0/24"}, "10.2.0.0/24"},
		{"initiator offers less", setup{farTS: "10.2.0.0/16", swanFar: "10.2.0.0/28", responder: true}, "10.2.0.0/28"},
		{"initiator offers more", setup{farTS: "10.2.0.0/24", swanFar: "10.2.0.0/16", swanNear: "10.1.0.0/16", responder: true}, "10.2.0.0/24"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			w := r.start(t, smallWeb())
			row := report.Row(t, peer, "narrowing: "+r.name, r.role(), r.suite())
			if r.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.pageThere()
			st := w.host.Status()
			if len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
				t.Fatalf("SAs: %+v", st.IKE)
			}
			c := st.IKE[0].Children[0]
			if c.RemoteTS != r.far || c.LocalTS != nearInner+"/32" {
				t.Errorf("the child covers %s === %s, want %s === %s", c.LocalTS, c.RemoteTS, nearInner+"/32", r.far)
			}
			row.Note("%s === %s", c.LocalTS, c.RemoteTS)
			w.cap.Judge()
		})
	}
}

// TestNarrowedAway dials an address that our policy puts into the tunnel and the peer's
// does not: the dial fails and says so, and the SA for the others stays.
func TestNarrowedAway(t *testing.T) {
	t.Parallel()
	s := setup{farTS: "10.0.0.0/8", swanFar: "10.2.0.0/24", yaml: "dial_timeout: 3s"}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "address outside the narrowed selectors", s.role(), s.suite())
	w.page()
	mark := w.host.Mark()
	f := interop.Curl(t, w.near, "http://"+forwardTwo+"/") // to farOther
	if f.Err == nil {
		t.Fatal("a page came from behind no SA")
	}
	m := w.host.AwaitAfter(mark, `msg=forward .*error="(.*which leaves out.*)"`)
	row.Note("%s", m[1])
	if f.Took > 2*time.Second {
		t.Errorf("the failure took %s: a refusal is no silence", f.Took)
	}
	w.page()
	w.swan.AwaitSAs(`net: #\d+, reqid \d+, INSTALLED`)
	w.host.AwaitStatus("one child SA left", func(st *sockets.Status) bool { return len(st.IKE) == 1 && len(st.IKE[0].Children) == 1 })
	if n := strings.Count(w.swan.SAs(), "INSTALLED"); n != 1 {
		t.Errorf("charon has %d child SAs:\n%s", n, w.swan.SAs())
	}
	w.cap.Judge()
}

// TestTwoChildren keys two networks with one IKE SA (RFC 7296, Section 1.3.1).
func TestTwoChildren(t *testing.T) {
	for _, s := range []setup{{two: true}, {two: true, responder: true}} {
		t.Run(s.role(), func(t *testing.T) {
			t.Parallel()
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "two child SAs on one IKE SA", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
				w.swan.MustInitiate("other")
			}
			w.page()
			interop.FetchPage(t, w.near, "http://"+forwardTwo)
			w.pageThere()
			out := w.swan.AwaitSAs(`(?s)net: #\d+, reqid.*INSTALLED.*other: #\d+, reqid.*INSTALLED|other: #\d+, reqid.*INSTALLED.*net: #\d+, reqid.*INSTALLED`)
			if n := strings.Count(out, "ESTABLISHED"); n != 1 {
				t.Errorf("charon has %d IKE SAs, want 1:\n%s", n, out)
			}
			if st := w.host.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) != 2 {
				t.Errorf("our SAs: %+v", st.IKE)
			}
			names(t, w.host.StatusText(), "moon: #1, ESTABLISHED, IKEv2", "remote 'fqdn:moon.example' @ "+interop.FarAddr, "  net: INSTALLED", "  other: INSTALLED",
				"local  "+nearInner, "remote 10.3.0.0/24", "IKE SAs: 1 authenticated")
			seen := w.cap.Judge()
			if len(seen.SPIs) != 4 {
				t.Errorf("the link saw the SPIs %v, want four", seen.SPIs)
			}
			row.Note("%d SPIs on the link", len(seen.SPIs))
		})
	}
}

// TestLargeUDP sends datagrams through a forward to an echo server: small ones, and ones
// that are fragmented inside the tunnel.
func TestLargeUDP(t *testing.T) {
	t.Parallel()
	s := setup{}
	w := s.start(t, smallWeb())
	row := report.Row(t, peer, "UDP forward, fragments inside the tunnel", s.role(), s.suite())
	echo := w.far.ListenUDP(t, farInner+":7")
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	c := w.near.DialUDP(t, forwardEcho)
	for _, size := range []int{100, 1300, 1400, 4000, 20000, 65507} {
		msg := string(interop.Big(size))
		got, err := interop.Ask(c, msg)
		if err != nil || got != msg {
			t.Fatalf("%d bytes: %v, %d came back", size, err, len(got))
		}
		row.Note("%d bytes", size)
	}
	w.cap.Judge()
}
