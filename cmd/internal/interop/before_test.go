//go:build linux

package interop_test

import (
	"crypto/rand"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// TestFragmentation has long IKE messages over a link whose packets are small: each end cuts
// what it sends, and no IP fragment is needed (RFC 7383).
func TestFragmentation(t *testing.T) {
	const mtu = 700
	for _, r := range []struct {
		name     string
		setup    setup
		we, they bool // send fragments
	}{
		{"both", setup{conn: "    fragmentation: yes\n    fragment_size: 400"}, true, true},
		{"both", setup{conn: "    fragmentation: force\n    fragment_size: 400", responder: true}, true, true},
		{"only charon", setup{conn: "    fragmentation: accept"}, false, true},
		{"only charon", setup{conn: "    fragmentation: accept", responder: true}, false, true},
		{"only we", setup{conn: "    fragment_size: 400", swanConn: "fragmentation = accept"}, true, false},
		{"only we", setup{conn: "    fragment_size: 400", swanConn: "fragmentation = accept", responder: true}, true, false},
		{"nobody", setup{conn: "    fragmentation: no"}, false, false},
		{"nobody", setup{conn: "    fragment_size: 400", swanConn: "fragmentation = no", responder: true}, false, false},
	} {
		s := r.setup
		t.Run(r.name+" "+s.role(), func(t *testing.T) {
			t.Parallel()
			s.auth = "ecdsa"
			s.snap = 65535
			s.swanMore = "fragment_size = 400"
			long := strings.Repeat("a.long.name.", 19)
			s.rewrite = strings.NewReplacer("sun.example", long+"sun.example", "moon.example", long+"moon.example")
			s.before = func(w *world) {
				w.near.IP(t, "link", "set", w.near.Link, "mtu", "700")
				w.far.IP(t, "link", "set", w.far.Link, "mtu", "700")
			}
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "fragments of IKE messages, link MTU 700: "+r.name, s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.agree()
			out := w.swan.Output()
			sent, got := len(interop.Grep(out, `splitting IKE message`)), len(interop.Grep(out, `received fragment #\d`))
			if (sent > 0) != r.they || (got > 0) != r.we {
				t.Errorf("charon sent %d messages in fragments and received %d fragments", sent, got)
			}
			w.cap.Stop()
			longest, cut := frames(t, w.cap.File)
			cuts := r.we // the request is the long one
			if s.responder {
				cuts = r.they
			}
			if longest > mtu || (cut > 0) == cuts {
				t.Errorf("the longest packet has %d octets, %d are IP fragments", longest, cut)
			}
			row.Note("charon sent %d messages in fragments and received %d fragments; %d IP fragments, longest packet %d", sent, got, cut, longest)
		})
	}
}

// frames measures the IP packets that carry IKE in a capture.
func frames(t *testing.T, file string) (longest, cut int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return longest, cut
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
		ip, ok := p.NetworkLayer().(*layers.IPv4)
		if !ok {
			continue
		}
		longest = max(longest, int(ip.Length))
		if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
			cut++
		}
	}
}

// TestCookies: each side in turn wants a cookie before it does anything (RFC 7296,
// Section 2.6).
func TestCookies(t *testing.T) {
	t.Run("charon wants one", func(t *testing.T) {
		t.Parallel()
		// From the second IKE SA that is being set up: ours is the second.
		s := setup{swanMore: "cookie_threshold = 1\n half_open_timeout = 60"}
		s.up = func(w *world) { halfOpen(t, w) }
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "cookies: charon wants one of us", s.role(), s.suite())
		w.page()
		w.pageThere()
		w.swan.Await(`generating IKE_SA_INIT response 0 \[ N\(COOKIE\) \]`)
		w.swan.Await(`parsed IKE_SA_INIT request 0 \[ N\(COOKIE\) `)
		w.swan.AwaitSAs(`net: #\d+, ESTABLISHED`)
		row.Note("%s", w.cap.Judge())
	})
	t.Run("we want one", func(t *testing.T) {
		t.Parallel()
		s := setup{responder: true, yaml: "half_open: {cookie_threshold: always}"}
		w := s.start(t, smallWeb())
		row := report.Row(t, peer, "cookies: we want one of charon", s.role(), s.suite())
		w.swan.MustInitiate("net")
		w.page()
		w.pageThere()
		w.swan.Await(`parsed IKE_SA_INIT response 0 \[ N\(COOKIE\) \]`)
		w.swan.Await(`generating IKE_SA_INIT request 0 \[ N\(COOKIE\) `)
		w.agree()
		row.Note("%s", w.cap.Judge())
	})
}

// halfOpen begins an IKE SA with charon from our host and leaves it at that.
func halfOpen(t *testing.T, w *world) {
	t.Helper()
	proposals, err := suite.IKEProposals(ikeX25519)
	if err != nil {
		t.Fatal(err)
	}
	conn := w.near.DialUDP(t, interop.FarAddr+":4500")
	path := ike.Path{Local: netip.MustParseAddrPort(interop.NearAddr + ":4501"), Remote: netip.MustParseAddrPort(interop.FarAddr + ":4500")}
	m, err := ike.NewInitiator(&ike.Config{Name: "half-open", Proposals: proposals, Rand: rand.Reader, ForceEncap: true,
		Local: ike.Local{ID: wire.ID{IType: wire.IDFQDN, Data: []byte("nobody")}, Method: wire.AuthMethodPSK}}, path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.Start(time.Now(), nil)
	for {
		o, ok := m.Next()
		if !ok {
			break
		}
		switch o := o.(type) {
		case *ike.WorkKE:
			k, err := suite.GenerateKE(o.Group, rand.Reader)
			m.Complete(time.Now(), o.ID, &ike.KEResult{Key: k, Err: err})
		case *ike.Send:
			if _, err := conn.Write(append(make([]byte, 4), o.Data...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.swan.Await(`generating IKE_SA_INIT response 0 \[ SA KE No `)
}
