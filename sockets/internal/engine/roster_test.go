package engine

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// TestRosterModel compares a roster with plain lists.
func TestRosterModel(t *testing.T) {
	conns := []*Conn{{Name: "a"}, {Name: "b", Entry: anonymousEntry()}}
	addrs := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), {}}
	var peers []*peer
	for _, c := range conns {
		for i, a := range addrs {
			peers = append(peers, &peer{conn: c, canonical: string(rune('x' + i)), sole: a})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := roster{}
		sas := make([]*ikeSA, 6)
		for i := range sas {
			sas[i] = &ikeSA{num: uint64(i), conn: conns[i%2], initiator: i < 2}
		}
		var order []*ikeSA
		out := func(s *ikeSA) { order = slices.DeleteFunc(order, func(o *ikeSA) bool { return o == s }) }
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			s := rapid.SampledFrom(sas).Draw(t, "sa")
			switch rapid.IntRange(0, 2).Draw(t, "do") {
			case 0:
				out(s)
				order = append(order, s)
				r.enter(s)
			case 1:
				out(s)
				r.strike(s)
			case 2:
				p := rapid.SampledFrom(peers).Draw(t, "peer")
				s.peer, s.conn = p, p.conn
				out(s)
				order = append(order, s)
				r.enter(s)
			}
			for _, c := range conns {
				want := filter(order, func(s *ikeSA) bool { return s.conn == c })
				if got := slices.Collect(r.ofConn(c)); !slices.Equal(got, want) {
					t.Fatalf("connection %s: %d SAs, want %d", c.Name, len(got), len(want))
				}
				for _, a := range addrs[:2] {
					got := map[*ikeSA]bool{}
					for s := range r.reaching(c, ts.Set{ts.FromAddr(a)}) {
						got[s] = true
					}
					for _, s := range order {
						may := s.conn == c && (!c.anonymous() || s.peer == nil && s.initiator || s.peer != nil && (s.peer.sole == a || !s.peer.sole.IsValid()))
						if got[s] != may {
							t.Fatalf("connection %s, %s: yields SA %d: %t", c.Name, a, s.num, got[s])
						}
					}
				}
				if n := len(slices.Collect(r.reaching(c, ts.Set{ts.FromAddr(addrs[0]), ts.FromAddr(addrs[1])}))); n != len(want) {
					t.Fatalf("connection %s: %d of %d", c.Name, n, len(want))
				}
			}
			for _, p := range peers {
				want := filter(order, func(s *ikeSA) bool { return s.peer == p })
				if got := slices.Collect(r.ofPeer(p)); !slices.Equal(got, want) {
					t.Fatalf("peer %s of %s: %d SAs, want %d", p.canonical, p.conn.Name, len(got), len(want))
				}
			}
		}
		for _, s := range order {
			r.strike(s)
		}
		if len(r) != 0 {
			t.Fatalf("%d chains of nobody", len(r))
		}
	})
}

func filter(list []*ikeSA, keep func(*ikeSA) bool) (out []*ikeSA) {
	for _, s := range list {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}

// Whoever closes while its chain is walked does not end the walk.
func TestRosterStrikesWhileWalking(t *testing.T) {
	r, c := roster{}, &Conn{}
	for i := range 4 {
		r.enter(&ikeSA{num: uint64(i), conn: c})
	}
	n := 0
	for s := range r.ofConn(c) {
		r.strike(s)
		n++
	}
	if n != 4 || len(r) != 0 {
		t.Errorf("walked %d, %d chains left", n, len(r))
	}
}

// DESIGN, Section 5: an anonymous peer gets no address that another one has.
func TestHolders(t *testing.T) {
	child := func(peer string, remote ...string) *datapath.Child {
		c := &datapath.Child{Peer: &datapath.Peer{ID: peer}}
		for _, w := range remote {
			c.Pair.Remote = append(c.Pair.Remote, ts.FromPrefix(netip.MustParsePrefix(w)))
		}
		return c
	}
	set := func(w string) ts.Set { return child("", w).Pair.Remote }
	h := newHolders([]*Conn{{Entry: anonymousEntry()}})
	net, host, own := child("gw", "10.0.0.0/8", "fd00::/16"), child("gw", "10.1.1.1/32"), child("me", "192.0.2.7/32")
	for _, c := range []*datapath.Child{net, host, own, net} { // net twice: rekeyed
		h.add(c)
	}
	for _, tc := range []struct{ set, peer, want string }{
		{"10.9.9.9/32", "me", "gw"}, {"0.0.0.0/0", "me", "gw"}, {"fd00:0:1::/48", "me", "gw"}, {"10.9.9.9/32", "gw", ""},
		{"192.0.2.7/32", "me", ""}, {"192.0.2.7/32", "gw", "me"}, {"192.0.2.0/24", "me", ""}, {"203.0.113.0/24", "me", ""},
	} {
		if got := h.other(set(tc.set), tc.peer); got != tc.want {
			t.Errorf("%s for %s: held by %q, want %q", tc.set, tc.peer, got, tc.want)
		}
	}
	h.remove(net)
	if h.other(set("10.9.9.9/32"), "me") != "gw" {
		t.Error("the second of two children is forgotten with the first")
	}
	h.remove(net)
	if got := h.other(set("10.9.9.9/32"), "me"); got != "" {
		t.Errorf("still held by %s", got)
	}
	if h.other(set("10.0.0.0/8"), "me") != "gw" {
		t.Error("the host in the net is forgotten")
	}
	h.remove(host)
	h.remove(own)
	if h.table.Size() != 0 {
		t.Errorf("%d prefixes of nobody", h.table.Size())
	}
	if h := newHolders([]*Conn{{}}); h.other(set("::/0"), "") != "" || h != nil {
		t.Error("a host without anonymous peers keeps holders")
	}
}

func anonymousEntry() pad.Entry { return pad.Entry{Kind: pad.KindWildcard} }

// Who is answered with what before it has said who it is.
func TestGreetings(t *testing.T) {
	at := func(a string) []Remote { return []Remote{{Addr: netip.MustParseAddr(a)}} }
	props := func(words ...string) []wire.Proposal {
		ps, err := suite.IKEProposals(words...)
		if err != nil {
			t.Fatal(err)
		}
		return ps
	}
	conns := []*Conn{
		{Name: "named", Remotes: []Remote{{Host: "moon.example"}}, IKE: props("aes256gcm16-prfsha256-x25519"), NativeESP: true},
		{Name: "one", Remotes: append(at("192.0.2.1"), at("192.0.2.1")...), IKE: props("aes128gcm16-prfsha256-x25519"), NativeESP: true},
		{Name: "two", Remotes: at("192.0.2.2"), IKE: props("aes128gcm16-prfsha256-x25519")},
		{Name: "any", IKE: props("aes256gcm16-prfsha256-x25519"), NativeESP: true},
	}
	config := func(c *Conn) *ike.Config {
		return &ike.Config{Name: c.Name, Proposals: c.IKE, ForceEncap: !c.NativeESP}
	}
	g := newGreetings(conns)
	for _, tc := range []struct {
		from  string
		conn  string
		props int
		encap bool
	}{{"192.0.2.1", "named", 2, false}, {"192.0.2.2", "named", 2, true}, {"203.0.113.9", "named", 1, false}} {
		x := g.to(netip.MustParseAddr(tc.from), config)
		if x.conn.Name != tc.conn || len(x.cfg.Proposals) != tc.props || x.cfg.ForceEncap != tc.encap {
			t.Errorf("%s: %s, %d proposals, encap %v", tc.from, x.conn.Name, len(x.cfg.Proposals), x.cfg.ForceEncap)
		}
		if g.to(netip.MustParseAddr(tc.from), config) != x {
			t.Errorf("%s: made twice", tc.from)
		}
	}
	for i := range 100 {
		g.to(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), config)
	}
	if len(g.made) != 3 || len(conns[0].IKE) != 1 {
		t.Errorf("%d greetings for 3 kinds of hosts", len(g.made))
	}
	if x := newGreetings(conns[1:3]).to(netip.MustParseAddr("203.0.113.9"), config); x != nil {
		t.Errorf("a stranger is expected by %s", x.conn.Name)
	}
}
