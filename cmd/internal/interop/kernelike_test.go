//go:build linux

package interop_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/cmd/internal/interop/uml"
)

const kernelSwan = "strongSwan on a Linux kernel"

// guestCharon is charon with the kernel's own ESP, in the guest.
const guestCharon = `charon {
  load_modular = no
  load = random nonce openssl aes sha1 sha2 hmac kdf gcm chapoly curve25519 pem pubkey kernel-netlink socket-default vici
  filelog { stderr { default = 1
 ike = 2
 cfg = 2
 enc = 1
 flush_line = yes } }
  plugins { vici { socket = unix:///run/charon.vici } }
}
`

// TestKernelIKE has IKE key native ESP with a Linux kernel: charon in the guest keeps the
// kernel's SAs, and ours are between netstack and a TUN device. The child SA comes on
// demand, by our first packet or by the guest's, whose selectors go first (RFC 7296,
// Section 2.9).
func TestKernelIKE(t *testing.T) {
	for _, r := range []struct{ role, esp, mode, action string }{
		{"initiator", espGCM, "tunnel", "none"},
		{"responder", espGCM, "tunnel", "trap"},
		{"responder", espChaCha, "transport", "trap"},
	} {
		t.Run(r.role+" "+r.mode, func(t *testing.T) {
			interop.Need(t, "/usr/lib/ipsec/charon", "swanctl")
			path := binary.Path(t)
			g := uml.ForTest(t, uml.Config{
				Host:    []netip.Prefix{netip.MustParsePrefix(interop.NearAddr + "/24")},
				Guest:   []netip.Prefix{netip.MustParsePrefix(interop.FarAddr + "/24")},
				Memory:  "256M",
				Modules: []string{"xfrm4_tunnel"},
			})
			near := &interop.NS{Name: g.NetNS(), Addr: interop.NearAddr, Peer: interop.FarAddr, Link: g.Tap()}
			row := report.Row(t, kernelSwan, "on demand, native ESP keyed by IKE on port 500, netstack over TUN", r.role, r.esp+" "+r.mode)
			near1, far1 := nearInner, farInner
			if r.mode == "transport" {
				near1, far1 = tunOuter, interop.FarAddr
			}

			interop.WriteFile(t, filepath.Join(g.Share(), "strongswan.conf"), guestCharon)
			interop.WriteFile(t, filepath.Join(g.Share(), "swanctl.conf"), fmt.Sprintf(`connections {
  net {
    version = 2
    local_addrs = %[1]s
    remote_addrs = %[2]s
    proposals = %[3]s
    local { auth = psk
 id = moon.example }
    remote { auth = psk
 id = sun.example }
    children { net { local_ts = %[4]s
 remote_ts = %[5]s
 esp_proposals = %[6]s
 mode = %[7]s
 start_action = %[8]s } }
  }
}
secrets { ike-1 { secret = %[9]q } }
`, interop.FarAddr, tunOuter, ikeX25519, far1, near1, r.esp, r.mode, r.action, goodPSK))
			serve := ""
			if r.mode == "tunnel" {
				serve = "ip addr add " + farInner + "/32 dev lo\n"
			}
			g.MustRun(t.Context(), t, serve+fmt.Sprintf(`export STRONGSWAN_CONF=%[1]s/strongswan.conf
/usr/lib/ipsec/charon > %[1]s/charon.log 2>&1 &
for i in $(seq 500); do [ -S /run/charon.vici ] && break; sleep 0.02; done
swanctl --load-all --file %[1]s/swanctl.conf --uri unix:///run/charon.vici`, uml.GuestShare))
			charonLog := func() string {
				b, _ := os.ReadFile(filepath.Join(g.Share(), "charon.log"))
				return string(b)
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("charon:\n%s", charonLog())
				}
			})
			serveInGuest(t, g, far1+":80")

			dir := interop.Dir(t)
			web := kernelWeb()
			web.Serve(t, near, localWeb)
			link := interop.NewCapture(t, near, 65535)
			interop.WriteFile(t, filepath.Join(dir, "psk"), goodPSK)
			host := interop.Up(t, interop.HostConfig{NS: near, Binary: path, Dir: dir, Caps: []string{"net_admin"}, YAML: fmt.Sprintf(`
addresses: [%[1]s/32]
wire: {tun: btns0, addresses: [%[3]s/32]}
connections:
  moon:
    remote_addrs: %[4]s
    proposals: %[5]s
    local:  {auth: psk, id: sun.example}
    remote: {auth: psk, id: moon.example}
    children:
      net: {local_ts: %[1]s, remote_ts: %[2]s, esp_proposals: %[6]s, mode: %[7]s, start_action: %[8]s}
secrets:
  ike-moon: {id: [sun.example, moon.example], file: psk}
forwards:
  - {listen: %[9]q, to: "%[2]s:80"}
expose:
  - {listen: 80, to: %[10]q}
`, near1, far1, tunOuter, interop.FarAddr, ikeX25519, r.esp, r.mode,
				map[string]string{"initiator": "trap", "responder": "none"}[r.role], forwardWeb, localWeb)})
			routeTUN(t, host, near, nil)

			there := fmt.Sprintf("c='curl -sS -m 60 --noproxy * --interface %[1]s'; set -f; $c http://%[2]s/ && $c http://%[2]s/big | sha256sum", far1, near1)
			fetchThere := func() {
				if out, want := g.MustRun(t.Context(), t, there), interop.Page+web.Hash; !strings.HasPrefix(out, want) {
					t.Errorf("the guest fetched %q, want %q", out, want)
				}
			}
			start := time.Now()
			if r.role == "initiator" {
				interop.FetchPage(t, near, "http://"+forwardWeb)
				row.Note("first page after %s", time.Since(start).Round(time.Millisecond))
				fetchThere()
			} else {
				fetchThere()
				row.Note("first page and 5 MB out after %s", time.Since(start).Round(time.Millisecond))
				interop.FetchPage(t, near, "http://"+forwardWeb)
			}
			in := web.FetchBig(t, near, "http://"+forwardWeb)
			row.Note("%d MB in at %.0f Mbit/s", in.Size/1_000_000, in.Rate())
			interop.CheckUnprivileged(t, host.Pid(), capNetAdmin)

			st := host.Status()
			if len(st.IKE) != 1 || st.IKE[0].Encap || st.IKE[0].Initiator != (r.role == "initiator") || len(st.IKE[0].Children) != 1 ||
				!strings.HasPrefix(st.IKE[0].Children[0].Mode, r.mode) {
				t.Errorf("our SAs: %+v", st.IKE)
			}
			demanded(t, r.role, charonLog())
			seen := link.Look()
			if seen.ESPNative == 0 || seen.ESPUDP+seen.Plaintext+len(seen.Clear) > 0 || seen.IKE500 == 0 || len(seen.SPIs) != 2 {
				t.Errorf("the link saw %s, plaintext %d, SPIs %v: %v", seen, seen.Plaintext, seen.SPIs, seen.Clear)
			}
			row.Note("%d native ESP packets", seen.ESPNative)
			// The packets that wait for the trap's SA have none (XfrmOutNoStates).
			if stat := g.MustRun(t.Context(), t, "grep -v -e '\\s0$' -e XfrmOutNoStates /proc/net/xfrm_stat || true"); strings.TrimSpace(stat) != "" {
				t.Errorf("the kernel counts errors:\n%s", stat)
			}
			if err := host.Stop(); err != nil {
				t.Errorf("btns ended with %v", err)
			}
			for deadline := time.Now().Add(10 * time.Second); !strings.Contains(charonLog(), "received DELETE for IKE_SA net"); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("charon got no Delete")
				}
			}
		})
	}
}

// demanded checks that the packet that caused the child SA is named before the selectors
// around it.
func demanded(t *testing.T, role, log string) {
	t.Helper()
	want := `creating acquire job for policy .*\[tcp\] === .*\[tcp/http\]`
	if role == "initiator" {
		want = `received: .*\[tcp/http\]`
	}
	if len(interop.Grep(log, want)) == 0 {
		t.Errorf("charon's log has no %q", want)
	}
}
