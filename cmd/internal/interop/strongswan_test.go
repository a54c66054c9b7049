//go:build linux

package interop_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

const peer = "strongSwan"

// The webs that are fetched from, through both directions.
var (
	smallWeb = sync.OnceValue(func() *interop.Web { return interop.NewWeb(100_000) })
	bigWeb   = sync.OnceValue(func() *interop.Web { return interop.NewWeb(100_000_000) })
)

// TestStrongSwan sets up one child SA in every combination of role, authentication and
// suite that is promised, and uses it in both directions: through a forward to a server on
// the far side, and from there through expose to a server on ours.
func TestStrongSwan(t *testing.T) {
	rows := []struct {
		name string
		setup
		big bool
	}{
		{"PSK", setup{}, true},
		{"PSK", setup{responder: true}, true},
		{"PSK", setup{esp: espChaCha}, true},
		{"PSK", setup{esp: espChaCha, responder: true}, false},
		{"PSK", setup{ike: "aes256-sha256-ecp256"}, false},
		{"PSK", setup{ike: "aes256-sha256-ecp256", responder: true}, false},
		{"PSK", setup{ike: "aes256-sha256-modp2048"}, false},
		{"PSK", setup{ike: "aes256-sha256-modp2048", responder: true}, false},
		{"PSK", setup{ike: "chacha20poly1305-prfsha384-ecp384", esp: "aes128gcm16"}, false},
		{"PSK", setup{ike: "aes128gcm16-prfsha512-x25519", esp: "aes256-sha256", responder: true}, false},
		{"raw Ed25519 keys", setup{auth: "ed25519"}, false},
		{"raw Ed25519 keys", setup{auth: "ed25519", responder: true, esp: espChaCha}, false},
		{"raw ECDSA P-256 keys", setup{auth: "ecdsa", esp: espChaCha}, false},
		{"raw ECDSA P-256 keys", setup{auth: "ecdsa", responder: true}, false},
		{"PSK, everything left out that has a default", setup{ike: "default", esp: "default"}, false},
		{"PSK, everything left out that has a default", setup{ike: "default", esp: "default", responder: true}, false},
		{"PSK, charon from port 500 to our 4500", setup{responder: true, swanPort: "remote_port = 4500"}, false},
	}
	for _, r := range rows {
		name := strings.Join([]string{r.name, r.role(), r.suite()}, ", ")
		t.Run(strings.NewReplacer(" / ", "_", ", ", "_", " ", "-").Replace(name), func(t *testing.T) {
			row := report.Row(t, peer, r.name, r.role(), r.suite())
			web := smallWeb
			if r.big {
				web = bigWeb
			}
			w := r.start(t, web())
			if r.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			in := w.web.FetchBig(t, w.near, "http://"+forwardWeb)
			w.pageThere()
			out := w.web.FetchBig(t, w.far, "http://"+nearInner)
			if r.big {
				row.Note("100 MB in at %.0f Mbit/s, out at %.0f, hashes equal", in.Rate(), out.Rate())
			}
			interop.CheckUnprivileged(t, w.host.Pid(), 0)

			st := w.host.Status()
			if len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
				t.Fatalf("%d IKE SAs, want one with one child: %+v", len(st.IKE), st.IKE)
			}
			sa := st.IKE[0]
			if sa.RemoteID != "fqdn:moon.example" || sa.Initiator == r.responder || sa.Anonymous {
				t.Errorf("the SA is with %q, initiator %v, anonymous %v", sa.RemoteID, sa.Initiator, sa.Anonymous)
			}
			if esp := r.defaults().esp; esp == "default" {
				row.Note("%s / %s", sa.Suite, sa.Children[0].Suite)
			} else if sa.Children[0].Suite != esp {
				t.Errorf("the child's suite is %s, want %s", sa.Children[0].Suite, esp)
			}
			seen := w.cap.Judge()
			if seen.ESPNative > 0 || len(seen.SPIs) != 2 {
				t.Errorf("the link saw %s, SPIs %v", seen, seen.SPIs)
			}
		})
	}
}

// TestIPv6 does the same with IPv6 inside, outside, and both.
func TestIPv6(t *testing.T) {
	outer := []string{interop.NearAddr, "2001:db8::1", interop.FarAddr, "2001:db8::2"}
	inner := []string{nearInner + "/32", "fd01::1/128", nearInner + "/24", "fd01::1/64", "10.2.0.0/24", "fd02::/64",
		farInner + ":", "[fd02::1]:", farOther + ":", "[fd03::1]:"}
	for _, r := range []struct {
		name    string
		setup   setup
		rewrite []string
		in      bool
	}{
		{"IPv6 in IPv4", setup{}, inner, true},
		{"IPv4 in IPv6", setup{responder: true}, outer, false},
		{"IPv6 in IPv6", setup{esp: espChaCha}, append(outer, inner...), true},
		{"IPv6 in IPv6", setup{responder: true, auth: "ed25519"}, append(outer, inner...), true},
	} {
		t.Run(r.name+" "+r.setup.role(), func(t *testing.T) {
			t.Parallel()
			s := r.setup
			s.rewrite = strings.NewReplacer(r.rewrite...)
			s.before = func(w *world) {
				w.near.IP(t, "addr", "add", "2001:db8::1/64", "dev", w.near.Link, "nodad")
				w.far.IP(t, "addr", "add", "2001:db8::2/64", "dev", w.far.Link, "nodad")
				w.far.IP(t, "addr", "add", "fd02::1/64", "dev", "lo", "nodad")
				w.web.Serve(t, w.far, "[fd02::1]:80")
			}
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, r.name, s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.web.FetchBig(t, w.near, "http://"+forwardWeb)
			if r.in {
				interop.FetchPage(t, w.far, "http://[fd01::1]")
			} else {
				w.pageThere()
			}
			row.Note("%s", w.cap.Judge())
		})
	}
}
