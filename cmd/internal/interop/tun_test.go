//go:build linux

package interop_test

import (
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// tunOuter is the address that btns has on the outside when its wire is a TUN device.
const tunOuter = "198.51.100.1"

// capNetAdmin is all that a TUN device needs.
const capNetAdmin = 1 << 12

// TestTUN puts the netstack over a TUN device: outer IP and UDP are built by us, IKE
// begins on port 500 unless the connection says otherwise, and CAP_NET_ADMIN is the only
// privilege. This strongSwan has its own ESP in user space, which demands UDP.
func TestTUN(t *testing.T) {
	for _, s := range []setup{
		{},
		{conn: "    encap: yes", esp: espChaCha},
		{responder: true, swanPort: "remote_port = 500"},
	} {
		t.Run(s.role()+" "+s.esp, func(t *testing.T) {
			s.caps = []string{"net_admin"}
			s.nearOuter = tunOuter
			s.wire = "wire: {tun: btns0, addresses: [" + tunOuter + "/32]}"
			s.up = func(w *world) { routeTUN(t, w.host, w.near, w.far) }
			w := s.start(t, bigWeb())
			row := report.Row(t, peer, "netstack over TUN, CAP_NET_ADMIN alone", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			in := w.web.FetchBig(t, w.near, "http://"+forwardWeb)
			w.pageThere()
			out := w.web.FetchBig(t, w.far, "http://"+nearInner)
			row.Note("100 MB in at %.0f Mbit/s, out at %.0f", in.Rate(), out.Rate())
			interop.CheckUnprivileged(t, w.host.Pid(), capNetAdmin)
			from500 := s.conn == ""
			if seen := w.cap.Judge(); seen.ESPUDP == 0 || from500 != (seen.IKE500 > 0) {
				t.Errorf("the link saw %s, %d IKE datagrams at port 500", seen, seen.IKE500)
			}
		})
	}
}

// routeTUN lets the kernel route between the link and the device that btns made, with the
// very command that btns tells.
func routeTUN(t *testing.T, host *interop.Host, near, far *interop.NS) {
	t.Helper()
	near.Run(t, "sh", "-c", host.Await(`device=btns0 run="([^"]+)"`)[1])
	if far != nil {
		far.IP(t, "route", "add", tunOuter, "via", near.Addr)
	}
}
