//go:build linux

package interop_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/cmd/internal/interop/uml"
)

const kernelPeer = "Linux kernel"

// kernelWeb is what the guest can take in a second or two.
var kernelWeb = sync.OnceValue(func() *interop.Web { return interop.NewWeb(5_000_000) })

// TestKernelNativeESP speaks HTTP over native ESP (protocol 50) with a Linux kernel whose
// SAs `ip xfrm` set up by hand: the netstack on one side, the kernel's TCP/IP on the other,
// and our wire is a TUN device. Manual keys take no AEAD.
func TestKernelNativeESP(t *testing.T) {
	for _, r := range []struct{ suite, integ, mode string }{
		{"aes256-sha256", "hmac(sha256)", "tunnel"},
		{"aes128-sha512", "hmac(sha512)", "tunnel"},
		{"aes256-sha384", "hmac(sha384)", "transport"},
	} {
		t.Run(r.suite+" "+r.mode, func(t *testing.T) {
			interop.Need(t)
			path := binary.Path(t)
			g := uml.ForTest(t, uml.Config{
				Host:  []netip.Prefix{netip.MustParsePrefix(interop.NearAddr + "/24")},
				Guest: []netip.Prefix{netip.MustParsePrefix(interop.FarAddr + "/24")},
			})
			near := &interop.NS{Name: g.NetNS(), Addr: interop.NearAddr, Peer: interop.FarAddr, Link: g.Tap()}
			row := report.Row(t, kernelPeer, "HTTP over native ESP, netstack over TUN, keys by hand", r.mode+" mode", r.suite)

			// In transport mode the outer addresses are all there is.
			near1, far1 := nearInner, farInner
			if r.mode == "transport" {
				near1, far1 = tunOuter, interop.FarAddr
			}
			var encr, integ int
			if _, err := fmt.Sscanf(r.suite, "aes%d-sha%d", &encr, &integ); err != nil {
				t.Fatal(err)
			}
			key := func(c string, bits int) string { return strings.Repeat(c, bits/8) }
			e1, i1, e2, i2 := key("1a", encr), key("2b", integ), key("3c", encr), key("4d", integ)
			state := func(src, dst string, spi int, e, i string) string {
				return fmt.Sprintf("ip xfrm state add src %s dst %s proto esp spi %#x mode %s replay-window 32 auth-trunc '%s' 0x%s %d enc 'cbc(aes)' 0x%s\n",
					src, dst, spi, r.mode, r.integ, i, integ/2, e)
			}
			policy := func(dir, src, dst, from, to string) string {
				return fmt.Sprintf("ip xfrm policy add src %s dst %s dir %s tmpl src %s dst %s proto esp mode %s\n", src, dst, dir, from, to, r.mode)
			}
			g.MustRun(t.Context(), t, "set -e\nip addr add "+farInner+"/32 dev lo\n"+
				state(tunOuter, interop.FarAddr, 0x1001, e1, i1)+
				state(interop.FarAddr, tunOuter, 0x1002, e2, i2)+
				policy("in", near1, far1, tunOuter, interop.FarAddr)+
				policy("out", far1, near1, interop.FarAddr, tunOuter))
			serveInGuest(t, g, far1+":80")

			dir := interop.Dir(t)
			web := kernelWeb()
			web.Serve(t, near, localWeb)
			link := interop.NewCapture(t, near, 65535)
			host := interop.Up(t, interop.HostConfig{NS: near, Binary: path, Dir: dir, Caps: []string{"net_admin"}, YAML: fmt.Sprintf(`
addresses: [%[1]s/32]
wire: {tun: btns0, addresses: [%[3]s/32]}
policies:
  kernel:
    local_ts: %[1]s
    remote_ts: %[2]s
    manual:
      mode: %[5]s
      suite: %[6]s
      local: %[3]s
      remote: %[4]s
      spi_out: 0x1001
      key_out: 0x%[7]s
      spi_in: 0x1002
      key_in: 0x%[8]s
forwards:
  - {listen: %[9]q, to: "%[2]s:80"}
expose:
  - {listen: 80, to: %[10]q}
`, near1, far1, tunOuter, interop.FarAddr, r.mode, r.suite, e1+i1, e2+i2, forwardWeb, localWeb)})
			routeTUN(t, host, near, nil)

			interop.FetchPage(t, near, "http://"+forwardWeb)
			in := web.FetchBig(t, near, "http://"+forwardWeb)
			row.Note("%d MB in at %.0f Mbit/s", in.Size/1_000_000, in.Rate())
			out := g.MustRun(t.Context(), t, fmt.Sprintf("c='curl -sS -m 60 --noproxy * --interface %[1]s'; set -f; $c http://%[2]s/ && $c http://%[2]s/big | sha256sum", far1, near1))
			if want := interop.Page + web.Hash; !strings.HasPrefix(out, want) {
				t.Errorf("the guest fetched %q, want %q", out, want)
			}
			interop.CheckUnprivileged(t, host.Pid(), capNetAdmin)

			if st := host.Status(); len(st.Manual) != 1 || st.Manual[0].InPackets == 0 || st.Manual[0].OutPackets == 0 {
				t.Errorf("our SAs: %+v", st.Manual)
			}
			seen := link.Look()
			if seen.ESPNative == 0 || seen.ESPUDP+seen.IKE+seen.Plaintext+len(seen.Clear) > 0 || len(seen.SPIs) != 2 {
				t.Errorf("the link saw %s, plaintext %d, SPIs %v: %v", seen, seen.Plaintext, seen.SPIs, seen.Clear)
			}
			row.Note("%d native ESP packets", seen.ESPNative)
			if stat := g.MustRun(t.Context(), t, "grep -v '\\s0$' /proc/net/xfrm_stat || true"); strings.TrimSpace(stat) != "" {
				t.Errorf("the kernel counts errors:\n%s", stat)
			}
		})
	}
}

// serveInGuest runs this very test program in the guest, as a web server.
func serveInGuest(t *testing.T, g *uml.Guest, addr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g.MustRun(t.Context(), t, fmt.Sprintf("%s=%s %s > /run/web.out 2>&1 &\nfor i in $(seq 500); do grep -q serving /run/web.out && exit 0; sleep 0.02; done; cat /run/web.out; exit 1",
		serveEnv, addr, self))
}
