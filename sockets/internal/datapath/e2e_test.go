package datapath

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/latch"
)

func TestTransferTCP(t *testing.T) {
	for _, tt := range []struct {
		name string
		l    link
		v6   bool
		opt  hostOpt
	}{
		{"tunnel4", link{}, false, hostOpt{}},
		{"tunnel6", link{suite: "chacha20poly1305", esn: true}, true, hostOpt{}},
		{"transport4", link{mode: esp.ModeTransport}, false, hostOpt{}},
		{"transport6", link{mode: esp.ModeTransport, v6: true}, true, hostOpt{}},
		{"native", link{native: true}, false, hostOpt{native: true}},
		{"cbc", link{suite: "aes256-sha256"}, false, hostOpt{}},
		{"small", link{}, false, hostOpt{mtu: 700}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			a, b := w.host(t, 1, tt.opt), w.host(t, 2, tt.opt)
			ca, cb := connect(t, a, b, tt.l)
			transfer(t, a, b, tt.v6, 1<<20)
			w.noCleartext(t, a, b)
			st := b.path.Stats()
			if st.Coalesced == 0 {
				t.Error("nothing was coalesced")
			}
			eventually(t, "what one child sent, the other received", func() bool {
				sa, sb := ca.Stats(), cb.Stats()
				return sa.OutPackets != 0 && sb.InPackets == sa.OutPackets && sb.InBytes == sa.OutBytes &&
					!sb.LastHeard.IsZero() && !sa.LastSent.IsZero()
			})
			if n := st.Drops.Total(); n != 0 {
				t.Errorf("drops: %v", st.Drops.Map())
			}
			recv(t, b.first, "first inbound packet")
		})
	}
}

// TestUDPLargest: datagrams of every size up to the largest pass, both ways, fragmented inside the tunnel.
func TestUDPLargest(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		w := newWorld()
		a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
		connect(t, a, b, link{})
		sa, sb := a.path.NewSocket(SocketConfig{}), b.path.NewSocket(SocketConfig{})
		ua, err := a.st.ListenUDP(sa.Tag(), netip.AddrPortFrom(a.addr(v6), 1000))
		if err != nil {
			t.Fatal(err)
		}
		defer ua.Close()
		ub, err := b.st.ListenUDP(sb.Tag(), netip.AddrPortFrom(b.addr(v6), 2000))
		if err != nil {
			t.Fatal(err)
		}
		defer ub.Close()
		buf := make([]byte, 65536)
		for _, n := range []int{0, 1, 1371, 1372, 1373, 1400, 8192, 40000, 65506, 65507} {
			out := make([]byte, n)
			_, _ = rand.Read(out)
			copy(out, secret)
			if _, err := ua.WriteMsg(out, netip.AddrPortFrom(b.addr(v6), 2000), nil); err != nil {
				t.Fatal(n, err)
			}
			_ = ub.SetReadDeadline(time.Now().Add(patience))
			got, from, to, tag, err := ub.ReadMsg(buf)
			if err != nil || !bytes.Equal(buf[:got], out) || to != b.addr(v6) {
				t.Fatalf("%d bytes: got %d, %v", n, got, err)
			}
			c, ok := tag.V.(*Child)
			if !ok || c.Peer.ID != a.name {
				t.Fatalf("tag %v", tag.V)
			}
			// And back, under the SA that it came in by.
			if _, err := ub.WriteMsg(out, from, tag); err != nil {
				t.Fatal(n, err)
			}
			_ = ua.SetReadDeadline(time.Now().Add(patience))
			if got, _, _, _, err = ua.ReadMsg(buf); err != nil || !bytes.Equal(buf[:got], out) {
				t.Fatalf("%d bytes back: got %d, %v", n, got, err)
			}
		}
		w.noCleartext(t, a, b)
		if s := b.path.Stats(); s.Reassembled == 0 || s.Fragmented == 0 || s.Drops.Total() != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestUDPConnected: a connected socket is latched by its first packet, and hears only its latch's peer.
func TestUDPConnected(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	connect(t, a, b, link{})
	sb := b.path.NewSocket(SocketConfig{})
	ub, err := b.st.ListenUDP(sb.Tag(), netip.AddrPortFrom(b.in4, 2000))
	if err != nil {
		t.Fatal(err)
	}
	defer ub.Close()
	sa := a.path.NewSocket(SocketConfig{Kind: SocketConnected})
	ua, err := a.st.DialUDP(sa.Tag(), netip.AddrPort{}, netip.AddrPortFrom(b.in4, 2000))
	if err != nil {
		t.Fatal(err)
	}
	defer sa.Close()
	defer ua.Close()
	if sa.Latch() != nil {
		t.Error("latched before the first packet")
	}
	if _, err := ua.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if l := sa.Latch(); l == nil || l.State() != latch.StateEstablished || l.Params().Peer != "fqdn:h2" {
		t.Fatalf("latch %v", l)
	}
	buf := make([]byte, 100)
	_, from, _, tag, err := ub.ReadMsg(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ub.WriteMsg([]byte("y"), from, tag); err != nil {
		t.Fatal(err)
	}
	_ = ua.SetReadDeadline(time.Now().Add(patience))
	if n, err := ua.Read(buf); err != nil || string(buf[:n]) != "y" {
		t.Fatal(n, err)
	}
}
