package datapath

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/tun"
)

// clearSent counts what a host has given to its wire since it records: packets in clear, and ESP.
func (h *host) clearSent() (clear, protected int) {
	for _, k := range h.wire.take() {
		if k.kind == tun.KindClear || bytes.Contains(k.data, []byte(secret)) {
			clear++
		} else if k.kind == tun.KindESP {
			protected++
		}
	}
	return clear, protected
}

// Every way that a packet takes through memory, all at once: coalesced segments, fragments put
// together, IKE datagrams, held packets. What the wire lent is overwritten as soon as it may be,
// and so is what was lent to it (tuntest.Poison): nothing arrives that was not sent.
func TestCVE_2026_64566_EveryPathOwnsItsPackets(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
	_, _, install := prepare(t, a, b, link{})
	var wg sync.WaitGroup
	sa, sb := a.path.NewSocket(SocketConfig{}), b.path.NewSocket(SocketConfig{})
	ua, err1 := a.st.ListenUDP(sa.Tag(), netip.AddrPortFrom(a.in4, 1000))
	ub, err2 := b.st.ListenUDP(sb.Tag(), netip.AddrPortFrom(b.in4, 2000))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer ua.Close()
	defer ub.Close()
	held := bytes.Repeat([]byte("held"), 300)
	if _, err := ua.WriteMsg(held, netip.AddrPortFrom(b.in4, 2000), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a packet is held", func() bool { return a.path.Stats().Now.HeldPackets == 1 })
	install()
	buf := make([]byte, 65536)
	_ = ub.SetReadDeadline(time.Now().Add(patience))
	if n, _, _, _, err := ub.ReadMsg(buf); err != nil || !bytes.Equal(buf[:n], held) {
		t.Errorf("what was held: %d octets, %v", n, err)
	}
	wg.Go(func() { transfer(t, a, b, false, 1<<20) })
	wg.Go(func() {
		for i := range 20 {
			out := make([]byte, 60_000-i*1000)
			_, _ = rand.Read(out)
			if _, err := ua.WriteMsg(out, netip.AddrPortFrom(b.in4, 2000), nil); err != nil {
				t.Error(err)
			}
			_ = ub.SetReadDeadline(time.Now().Add(patience))
			if n, _, _, _, err := ub.ReadMsg(buf); err != nil || !bytes.Equal(buf[:n], out) {
				t.Errorf("%d octets of %d, or others: %v", n, len(out), err)
			}
		}
	})
	wg.Go(func() {
		for i := range 60 {
			msg := bytes.Repeat([]byte{byte(i)}, 100+i)
			k := make([]byte, tun.Headroom+len(msg))
			copy(k[tun.Headroom:], msg)
			if err := a.path.SendIKE([]tun.Packet{{Buf: k, Off: tun.Headroom, Len: len(msg), Kind: tun.KindIKE,
				Path: tun.Path{Local: a.outer, Remote: b.outer}}}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for i := range 60 {
		k := recv(t, b.ike, "IKE datagram")
		if !bytes.Equal(k.Data(), bytes.Repeat([]byte{byte(i)}, 100+i)) {
			t.Errorf("IKE datagram %d: %x", i, k.Data())
		}
	}
	if st := b.path.Stats(); st.Coalesced == 0 {
		t.Error("nothing was coalesced")
	}
	w.noCleartext(t, a, b)
}

// The SA goes before its successor has come, on a wire that could carry clear packets: what the
// application sends waits or is lost, and nothing of it is seen.
func TestROW_93_SAGoneBeforeItsSuccessor(t *testing.T) {
	w := newWorld()
	a, b := w.host(t, 1, hostOpt{clear: true}), w.host(t, 2, hostOpt{clear: true})
	s := a.path.NewSocket(SocketConfig{AllowBypass: true})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPortFrom(a.in4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	a.wire.record()
	say := func() {
		for port := range uint16(20) {
			_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(b.in4, 9+port), nil)
		}
	}
	for round := range 3 {
		say() // without an SA
		if clear, protected := a.clearSent(); clear != 0 || round > 0 && protected != 0 {
			t.Errorf("round %d, no SA: %d in clear, %d protected", round, clear, protected)
		}
		ca, cb := connect(t, a, b, link{})
		say()
		eventually(t, "packets are protected", func() bool { _, protected := a.clearSent(); say(); return protected > 0 })
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					say()
				}
			}
		})
		a.path.Remove(ca.InSPI)
		b.path.Remove(cb.InSPI)
		say()
		close(stop)
		wg.Wait()
		if clear, _ := a.clearSent(); clear != 0 {
			t.Errorf("round %d: %d packets in clear", round, clear)
		}
	}
	w.noCleartext(t, a, b)
}

// A host that has just been started knows no policy: nothing leaves and nothing comes in, and a
// policy that is taken away leaves nothing open.
func TestROW_94_EmptyPolicy(t *testing.T) {
	w := newWorld()
	h := w.host(t, 1, hostOpt{clear: true, policy: []spd.Policy{}})
	h.wire.record()
	s := h.path.NewSocket(SocketConfig{AllowBypass: true})
	u, err := h.st.ListenUDP(s.Tag(), netip.AddrPortFrom(h.in4, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	l := h.listen(h.in4, 80, latch.Want{}, true)
	try := func(when string) {
		t.Helper()
		for _, to := range []string{"10.0.0.2:9", "192.0.2.2:53", "255.255.255.255:67", "127.0.0.1:9"} {
			_, _ = u.WriteMsg([]byte(secret), netip.MustParseAddrPort(to), nil)
		}
		if _, _, err := h.dial(within(t, 2*time.Second), netip.MustParseAddrPort("10.0.0.2:80"), latch.Want{}); err == nil {
			t.Errorf("%s: connected", when)
		}
		before := drops(h, DropClear)
		for _, b := range [][]byte{
			tcpPacket(flowOf(ts.ProtoTCP, "10.0.0.2:1000", l.ap.String()), tcpSYN, 1, 0, nil),
			udpPacket(flowOf(ts.ProtoUDP, "10.0.0.2:1000", "10.0.0.1:53"), []byte("x")),
			ipPacket(icmpFlow("10.0.0.2", "10.0.0.1", 8, 0), []byte{8, 0, 0, 0, 0, 0, 0, 0}),
		} {
			h.inject(tun.Packet{Buf: b, Len: len(b), Kind: tun.KindClear})
		}
		if n := drops(h, DropClear) - before; n != 3 {
			t.Errorf("%s: %d of 3 clear packets dropped", when, n)
		}
		if sent := h.wire.take(); len(sent) != 0 {
			t.Errorf("%s: %d packets left", when, len(sent))
		}
	}
	try("at the start")
	open, err1 := spd.New([]spd.Policy{{Name: "clear", Word: spd.Clear, Sel: pairOf("10.0.0.1/32", "0.0.0.0/0")}})
	empty, err2 := spd.New(nil)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	h.path.SetPolicy(open)
	if _, err := u.WriteMsg([]byte("x"), netip.MustParseAddrPort("10.0.0.2:9"), nil); err != nil {
		t.Fatal(err)
	}
	if clear, _ := h.clearSent(); clear != 1 {
		t.Fatal("the test's wire does not carry clear packets")
	}
	h.path.SetPolicy(empty)
	try("taken away")
}

// All traffic is to be protected, and the destination looks like one that need not be: the peer's
// own outer address, a neighbour on the network that the wire is on, the network itself. There is
// no route that goes round the policy.
func TestCVE_2023_36672_CVE_2023_36673_NoRouteRoundThePolicy(t *testing.T) {
	w := newWorld()
	all := ts.Pair{Local: ts.Set{ts.FromAddr(netip.MustParseAddr("10.0.0.1")), ts.FromAddr(netip.MustParseAddr("fd00::1"))},
		Remote: ts.Set{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), ts.FromPrefix(netip.MustParsePrefix("::/0"))}}
	a, b := w.host(t, 1, hostOpt{clear: true}), w.host(t, 2, hostOpt{clear: true})
	s := a.path.NewSocket(SocketConfig{AllowBypass: true})
	u, err := a.st.ListenUDP(s.Tag(), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	a.wire.record()
	looks := []string{b.outer.Addr().String(), "192.0.2.77", "192.0.2.255", "255.255.255.255", "10.0.0.255", "10.0.0.200", "169.254.1.1", "224.0.0.251",
		"8.8.8.8", "fe80::1", "ff02::fb", "2001:db8::1"}
	say := func() {
		for _, to := range looks {
			for _, port := range []uint16{53, 67, 500, 4500, 5353} {
				_, _ = u.WriteMsg([]byte(secret), netip.AddrPortFrom(netip.MustParseAddr(to), port), nil)
			}
		}
		_, _, _ = a.dial(within(t, 50*time.Millisecond), netip.AddrPortFrom(b.outer.Addr(), 443), latch.Want{})
	}
	say()
	if sent := a.wire.take(); len(sent) != 0 {
		t.Errorf("without an SA %d packets leave", len(sent))
	}
	connect(t, a, b, link{pairA: all})
	a.wire.take()
	say()
	clear, protected := a.clearSent()
	if clear != 0 || protected < len(looks) {
		t.Errorf("%d packets in clear, %d protected", clear, protected)
	}
	w.noCleartext(t, a, b)
}
