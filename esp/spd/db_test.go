package spd

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

func set(t testing.TB, texts ...string) ts.Set {
	t.Helper()
	var out ts.Set
	for _, s := range texts {
		x, err := ts.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

func pair(t testing.TB, local, remote string) ts.Pair {
	t.Helper()
	return ts.Pair{Local: set(t, strings.Fields(local)...), Remote: set(t, strings.Fields(remote)...)}
}

func flow(proto uint8, src, dst string) ts.Flow {
	return ts.MakeFlow(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
}

func mustNew(t testing.TB, ps ...Policy) *DB {
	t.Helper()
	db, err := New(ps)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestLookupOrder(t *testing.T) {
	db := mustNew(t,
		Policy{Name: "hole", Sel: pair(t, "10.0.0.1", "10.2.0.5[tcp/22]"), Word: Block},
		Policy{Name: "net", Sel: pair(t, "10.0.0.0/24", "10.2.0.0/16"), Word: Private},
		Policy{Name: "rest", Sel: pair(t, "0.0.0.0/0 ::/0", "0.0.0.0/0 ::/0"), Word: Clear},
	)
	for _, tc := range []struct {
		out  bool
		f    ts.Flow
		want string
	}{
		{true, flow(6, "10.0.0.1:1000", "10.2.0.5:22"), "hole"},
		{false, flow(6, "10.2.0.5:22", "10.0.0.1:1000"), "hole"},
		{true, flow(6, "10.0.0.1:22", "10.2.0.5:1000"), "net"},
		{true, flow(6, "10.0.0.1:1000", "10.2.0.5:22").WithoutPorts(), "net"},
		{true, flow(17, "10.0.0.9:53", "10.2.9.9:53"), "net"},
		{false, flow(17, "10.0.0.9:53", "10.2.9.9:53"), "rest"},
		{true, flow(6, "[fd00::1]:1", "[fd00::2]:2"), "rest"},
	} {
		if p := db.Lookup(tc.out, tc.f); p == nil || p.Name != tc.want {
			t.Errorf("out %v %v: %v, want %s", tc.out, tc.f, p, tc.want)
		}
	}
	empty := mustNew(t)
	if empty.Lookup(true, flow(6, "10.0.0.1:1", "10.0.0.2:2")) != nil || db.Lookup(true, ts.Flow{}) != nil {
		t.Error("a packet without a policy is not discarded")
	}
	if db.Epoch() == 0 || db.Epoch() == empty.Epoch() {
		t.Error("epochs")
	}
}

// randPolicies makes overlapping policies of all shapes.
func randPolicies(r *rand.Rand, n int) []Policy {
	side := func(v6 bool) ts.Selector {
		var s ts.Selector
		if v6 {
			var b [16]byte
			b[0], b[1], b[15] = 0xfd, byte(r.IntN(2)), byte(r.IntN(256))
			s = ts.FromPrefix(netip.PrefixFrom(netip.AddrFrom16(b), []int{0, 8, 64, 120, 124, 126, 128, 128}[r.IntN(8)]))
		} else {
			b := [4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256))}
			a := netip.AddrFrom4(b)
			s = ts.FromPrefix(netip.PrefixFrom(a, []int{0, 8, 16, 24, 28, 30, 32, 32}[r.IntN(8)]))
			if r.IntN(4) == 0 { // a range that is no prefix
				last := a
				for range r.IntN(40) {
					last = last.Next()
				}
				s = ts.FromAddr(a)
				s.Last = last
			}
		}
		return s
	}
	upper := func(s *ts.Selector, proto uint8) {
		s.Proto = proto
		if proto != 0 && r.IntN(2) == 0 {
			p := uint16(r.IntN(8))
			s.Ports = []ts.Ports{ts.Port(p), {First: p, Last: p + 3}, ts.OpaquePorts(), ts.ICMP(int(p), -1)}[r.IntN(4)]
		}
	}
	out := make([]Policy, 0, n)
	for len(out) < n {
		v6 := r.IntN(4) == 0
		proto := []uint8{0, 0, 1, 6, 17, 47}[r.IntN(6)]
		p := Policy{Word: Private}
		for range 1 + r.IntN(3)*r.IntN(2) {
			l, m := side(v6), side(v6)
			upper(&l, proto)
			upper(&m, proto)
			p.Sel.Local = append(p.Sel.Local, l)
			p.Sel.Remote = append(p.Sel.Remote, m)
		}
		if !p.Sel.Empty() {
			out = append(out, p)
		}
	}
	return out
}

func randFlow(r *rand.Rand) ts.Flow {
	port := func() uint16 {
		if r.IntN(2) == 0 {
			return uint16(r.IntN(12))
		}
		return uint16(r.IntN(12)) << 8
	}
	proto := []uint8{1, 6, 17, 47, 99}[r.IntN(5)]
	var f ts.Flow
	if r.IntN(4) == 0 {
		a := [16]byte{0: 0xfd, 1: byte(r.IntN(2)), 15: byte(r.IntN(256))}
		b := [16]byte{0: 0xfd, 1: byte(r.IntN(2)), 15: byte(r.IntN(256))}
		f = ts.MakeFlow(proto, netip.AddrPortFrom(netip.AddrFrom16(a), port()), netip.AddrPortFrom(netip.AddrFrom16(b), port()))
	} else {
		a := [4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256))}
		b := [4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256))}
		f = ts.MakeFlow(proto, netip.AddrPortFrom(netip.AddrFrom4(a), port()), netip.AddrPortFrom(netip.AddrFrom4(b), port()))
	}
	if r.IntN(8) == 0 {
		f = f.WithoutPorts()
	}
	return f
}

func slowLookup(db *DB, out bool, f ts.Flow) *Policy {
	for i := range db.policies {
		if p := &db.policies[i]; out && p.Sel.MatchOut(f) || !out && p.Sel.MatchIn(f) {
			return p
		}
	}
	return nil
}

func TestADV_P42_LookupEqualsLinearScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	compare := func(n, lookups int) {
		db := mustNew(t, randPolicies(r, n)...)
		for range lookups {
			f, out := randFlow(r), r.IntN(2) == 0
			if got, want := db.Lookup(out, f), slowLookup(db, out, f); got != want {
				t.Fatalf("%d policies, out %v, %v: got %+v, want %+v", n, out, f, got, want)
			}
		}
	}
	small := 200
	if raceEnabled { // one goroutine: nothing to race
		small = 20
	}
	for range small {
		compare(1+r.IntN(60), 100)
	}
	if testing.Short() || raceEnabled {
		return
	}
	compare(10000, 20000)
}

// bigDB has one policy per peer address, as a gateway has, some wide ones at the end and a block
// list at the start.
func bigDB(t testing.TB, n int) *DB {
	ps := make([]Policy, 0, n)
	local := set(t, "10.0.0.0/8")
	for i := range n - 2 {
		remote := ts.FromAddr(netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)}))
		if i%10 == 0 {
			remote.Proto, remote.Ports = 6, ts.Port(uint16(i))
		}
		ps = append(ps, Policy{Sel: ts.Pair{Local: local, Remote: ts.Set{remote}}, Word: Private})
	}
	ps = append(ps, Policy{Sel: pair(t, "10.0.0.0/8", "100.64.0.0/10"), Word: Block},
		Policy{Sel: pair(t, "0.0.0.0/0", "0.0.0.0/0"), Word: Clear})
	return mustNew(t, ps...)
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			db := bigDB(b, n)
			flows := make([]ts.Flow, 1024)
			r := rand.New(rand.NewPCG(1, 2))
			for i := range flows {
				k := r.IntN(n)
				dst := netip.AddrFrom4([4]byte{100, byte(64 + k>>16), byte(k >> 8), byte(k)})
				flows[i] = ts.MakeFlow(6, netip.MustParseAddrPort("10.1.2.3:4000"), netip.AddrPortFrom(dst, 80))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				db.Lookup(true, flows[i%len(flows)])
				i++
			}
		})
	}
	b.Run("random-10000", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 2))
		db := mustNew(b, randPolicies(r, 10000)...)
		flows := make([]ts.Flow, 1024)
		for i := range flows {
			flows[i] = randFlow(r)
		}
		i := 0
		for b.Loop() {
			db.Lookup(true, flows[i%len(flows)])
			i++
		}
	})
}

func BenchmarkNew100000(b *testing.B) {
	for b.Loop() {
		bigDB(b, 100000)
	}
}

// TestLookupIsSublinear counts the nodes that lookups visit: 100,000 policies may cost a few times
// what 1,000 cost, not a hundred times.
func TestLookupIsSublinear(t *testing.T) {
	visits := func(n int) int {
		db := bigDB(t, n)
		total := 0
		for i := range 500 {
			k := i * (n - 2) / 500
			dst := netip.AddrFrom4([4]byte{100, byte(64 + k>>16), byte(k >> 8), byte(k)})
			f := ts.MakeFlow(17, netip.MustParseAddrPort("10.1.2.3:4000"), netip.AddrPortFrom(dst, 80))
			if db.Lookup(true, f) != slowLookup(db, true, f) {
				t.Fatal("wrong answer")
			}
			total += db.v4.visits(db, f)
		}
		return total / 500
	}
	small, large := visits(1000), visits(20000)
	t.Logf("nodes visited per lookup: %d of 1,000 policies, %d of 20,000", small, large)
	if large > 4*small {
		t.Errorf("%d nodes for 20,000 policies, %d for 1,000", large, small)
	}
}

// visits counts the nodes whose box contains the packet, without the pruning by order: an upper
// bound of what a lookup does.
func (t *tree) visits(db *DB, f ts.Flow) int {
	n := 0
	at := point{addrs: [2]addr{addrOf(f.Dst()), addrOf(f.Src())}, nums: [3]uint32{uint32(f.DstPort()), uint32(f.SrcPort()), uint32(f.Proto())}}
	var walk func(int32)
	walk = func(i int32) {
		n++
		if nd := &t.nodes[i]; nd.box.contains(&at) && nd.count == 0 {
			walk(nd.first)
			walk(nd.first + 1)
		}
	}
	for _, r := range t.roots {
		walk(r)
	}
	return n
}

func TestLookupDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	db := bigDB(t, 1000)
	c := NewCache[int](64)
	f := flow(6, "10.1.2.3:1", "100.64.0.7:80")
	c.Put(f, 1, 7)
	if n := testing.AllocsPerRun(100, func() {
		db.Lookup(true, f)
		c.Get(f, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewRefuses(t *testing.T) {
	any4 := pair(t, "0.0.0.0/0", "0.0.0.0/0")
	bad := any4.Local[0]
	bad.Last = netip.Addr{}
	many := make(ts.Set, MaxSelectors+1)
	for i := range many {
		many[i] = any4.Local[0]
	}
	for want, ps := range map[string][]Policy{
		"0 local selectors":     {{Sel: ts.Pair{Remote: any4.Remote}}},
		"256 remote selectors":  {{Sel: ts.Pair{Local: any4.Local, Remote: many}}},
		"selector without":      {{Sel: ts.Pair{Local: ts.Set{bad}, Remote: any4.Remote}}},
		"share no family":       {{Sel: pair(t, "10.0.0.0/8", "fd00::/8")}},
		"unknown word":          {{Sel: any4, Word: 9}},
		"unknown mode":          {{Sel: any4, Mode: 9}},
		"unknown PFP":           {{Sel: any4, PFP: 0x80}},
		"named \"a\"":           {{Name: "a", Sel: any4}, {Name: "a", Sel: any4}},
		"local port is OPAQUE":  {{Sel: pair(t, "10.0.0.0/8[tcp/opaque]", "10.0.0.0/8[tcp]"), PFP: PFPLocalPort}},
		"remote port is OPAQUE": {{Sel: pair(t, "10.0.0.0/8[tcp]", "10.0.0.0/8[tcp/opaque]"), PFP: PFPRemotePort}},
		"must be private":       {{Sel: any4, Word: Clear, Manual: &Manual{}}},
	} {
		if _, err := New(ps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNewCopies(t *testing.T) {
	ps := []Policy{{Name: "a", Sel: pair(t, "10.0.0.1", "10.0.0.2"), Word: Private, Manual: manual()}}
	db := mustNew(t, ps...)
	ps[0].Sel.Local[0] = ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	ps[0].Manual.InKey[0] ^= 1
	ps[0].Word = Clear
	p := db.Policy(0)
	if p.Word != Private || db.Lookup(true, flow(6, "10.9.9.9:1", "10.0.0.2:2")) != nil || p.Manual.InKey[0] != 1 || p.Index() != 0 || db.Len() != 1 {
		t.Error("the snapshot changed with what it was made from")
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		word                 Word
		name                 string
		action               Action
		clear, sa, initiates bool
	}{
		{Block, "block", Discard, false, false, false},
		{Clear, "clear", Bypass, true, false, false},
		{ClearOrPrivate, "clear-or-private", Bypass, true, true, false},
		{PrivateOrClear, "private-or-clear", Protect, true, true, true},
		{Private, "private", Protect, false, true, true},
		{Word(9), "word(9)", Discard, false, false, false},
	} {
		w := tc.word
		if w.String() != tc.name || w.Action() != tc.action || w.AllowsClear() != tc.clear || w.AllowsSA() != tc.sa || w.Initiates() != tc.initiates {
			t.Errorf("%v: %v %v %v %v", w, w.Action(), w.AllowsClear(), w.AllowsSA(), w.Initiates())
		}
		if back, err := ParseWord(tc.name); w <= Private && (err != nil || back != w) || w > Private && err == nil {
			t.Errorf("ParseWord(%q) = %v, %v", tc.name, back, err)
		}
	}
	var zero Word
	var zeroAction Action
	if zero != Block || zeroAction != Discard || Bypass.String() != "BYPASS" || Discard.String() != "DISCARD" || Protect.String() != "PROTECT" {
		t.Error("zero values are not the safe ones")
	}
}

func TestClearNeedsAWay(t *testing.T) {
	for _, w := range []Word{Block, Clear, ClearOrPrivate, PrivateOrClear, Private} {
		db := mustNew(t, Policy{Name: "p", Sel: pair(t, "0.0.0.0/0", "0.0.0.0/0"), Word: w})
		err := db.Check(Allow{})
		if w.AllowsClear() != errors.Is(err, ErrClear) || (err != nil && !strings.Contains(err.Error(), w.String())) {
			t.Errorf("%v: %v", w, err)
		}
		if err := db.Check(Allow{ClearPackets: true}); err != nil {
			t.Errorf("%v with clear packets: %v", w, err)
		}
		if err := db.Check(Allow{HostDialer: true}); err != nil {
			t.Errorf("%v with a host dialer: %v", w, err)
		}
	}
}

func TestNarrow(t *testing.T) {
	// RFC 4301, Section 4.4.2.2, row by row.
	sel := pair(t, "10.0.0.0/24[tcp] 10.1.0.0/24[udp]", "10.2.0.0/24[tcp/80-90] 10.2.0.0/24[udp]")
	f := flow(6, "10.0.0.7:1000", "10.2.0.9:81")
	for _, tc := range []struct {
		pfp  PFP
		want ts.Pair
	}{
		{0, sel},
		{PFPLocalAddr, pair(t, "10.0.0.7[tcp]", "10.2.0.0/24[tcp/80-90]")},
		{PFPRemoteAddr, pair(t, "10.0.0.0/24[tcp] 10.1.0.0/24[udp]", "10.2.0.9[tcp/80-90] 10.2.0.9[udp]")},
		{PFPProto, pair(t, "10.0.0.0/24[tcp]", "10.2.0.0/24[tcp/80-90]")},
		{PFPLocalPort, pair(t, "10.0.0.0/24[tcp/1000]", "10.2.0.0/24[tcp/80-90]")},
		{PFPRemotePort, pair(t, "10.0.0.0/24[tcp]", "10.2.0.0/24[tcp/81]")},
		{PFPAll, pair(t, "10.0.0.7[tcp/1000]", "10.2.0.9[tcp/81]")},
	} {
		db := mustNew(t, Policy{Sel: sel, PFP: tc.pfp, Word: Private})
		got := db.Policy(0).Narrow(f)
		if !got.Equal(tc.want) || !got.MatchOut(f) || !sel.Covers(got) {
			t.Errorf("PFP %v: %v, want %v", tc.pfp, got, tc.want)
		}
		if other := db.Policy(0).Narrow(flow(6, "10.9.0.7:1000", "10.2.0.9:81")); !other.Empty() {
			t.Errorf("PFP %v: a packet of another policy gives %v", tc.pfp, other)
		}
	}
	frag := flow(17, "10.1.0.7:1000", "10.2.0.9:81").WithoutPorts()
	for _, pfp := range []PFP{0, PFPLocalAddr, PFPLocalPort, PFPRemotePort} {
		db := mustNew(t, Policy{Sel: sel, PFP: pfp, Word: Private})
		if got := db.Policy(0).Narrow(frag); got.Empty() != (pfp&(PFPLocalPort|PFPRemotePort) != 0) {
			t.Errorf("PFP %v of a packet without ports: %v", pfp, got)
		}
	}
	ping := ts.MakeFlow(1, netip.MustParseAddrPort("10.0.0.1:2048"), netip.MustParseAddrPort("10.0.0.2:2048"))
	db := mustNew(t, Policy{Sel: pair(t, "10.0.0.0/24", "10.0.0.0/24"), PFP: PFPAll, Word: Private})
	if got := db.Policy(0).Narrow(ping); got.String() != "10.0.0.1/32[icmp/8(0)] === 10.0.0.2/32[icmp/8(0)]" {
		t.Errorf("ping: %v", got)
	}
}

func TestSelect(t *testing.T) {
	db := mustNew(t,
		Policy{Name: "bypass", Sel: pair(t, "10.0.0.1", "10.9.0.1"), Word: Clear},
		Policy{Name: "q", Sel: pair(t, "10.0.0.1", "10.9.0.2"), Word: Private},
		Policy{Name: "b", Sel: pair(t, "10.0.0.1", "10.8.0.0/16"), Word: Private, Peer: "fqdn:b.example"},
		Policy{Name: "web", Sel: pair(t, "10.0.0.1[tcp/80]", "0.0.0.0/0"), Word: ClearOrPrivate, BTNSOK: true},
		Policy{Name: "any", Sel: pair(t, "10.0.0.1", "0.0.0.0/0"), Word: Private, BTNSOK: true},
		Policy{Name: "by hand", Sel: pair(t, "10.0.0.1", "0.0.0.0/0"), Word: Private, Manual: manual()},
	)
	names := func(q Query) string {
		var out []string
		for p, x := range db.Select(q) {
			if !p.Sel.Covers(x) || !q.Pair.Covers(x) || x.Empty() {
				t.Errorf("%+v: %s gives %v", q, p.Name, x)
			}
			out = append(out, p.Name)
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct {
		q    Query
		want string
	}{
		{Query{Pair: pair(t, "10.0.0.1", "10.9.0.2")}, "q web any"},
		{Query{Pair: pair(t, "10.0.0.1", "10.9.0.2"), BTNS: true}, "web any"}, // BTNS-11
		{Query{Pair: pair(t, "10.0.0.1[udp]", "10.9.0.2[udp]"), BTNS: true}, "any"},
		{Query{Pair: pair(t, "10.0.0.1", "10.8.1.1")}, "web any"},
		{Query{Pair: pair(t, "10.0.0.1", "10.8.1.1"), Peer: "fqdn:b.example"}, "b web any"},
		{Query{Pair: pair(t, "10.0.0.1", "10.8.1.1"), Peer: "fqdn:b.example", ByID: true}, "b"},
		{Query{Pair: pair(t, "10.0.0.1", "10.8.1.1"), Peer: "fqdn:c.example", ByID: true}, ""},
		{Query{Pair: pair(t, "10.0.0.2", "0.0.0.0/0")}, ""},
		{Query{Pair: pair(t, "0.0.0.0/0", "0.0.0.0/0"), First: pair(t, "10.0.0.1[tcp/443]", "10.8.1.1[tcp/1000]")}, "any q web"},
		{Query{}, ""},
	} {
		if got := names(tc.q); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.q, got, tc.want)
		}
	}
	if got := db.ByPeer("fqdn:b.example"); len(got) != 1 || got[0].Name != "b" {
		t.Error(got)
	}
	for p := range db.Select(Query{Pair: pair(t, "10.0.0.1", "10.9.0.2")}) {
		if p.Name != "q" {
			t.Error("after break")
		}
		break
	}
}

func TestSelectEqualsLinearScan(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	n := 60
	if raceEnabled {
		n = 6
	}
	for range n {
		ps := randPolicies(r, 80)
		db := mustNew(t, ps...)
		for _, q := range randPolicies(r, 20) {
			var got, want []int
			for p := range db.Select(Query{Pair: q.Sel}) {
				got = append(got, p.Index())
			}
			for i := range ps {
				if _, ok := q.Sel.Intersect(ps[i].Sel); ok {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v: %v, want %v", q.Sel, got, want)
			}
		}
	}
}

func TestManyCombinations(t *testing.T) {
	var l, rm ts.Set
	for i := range byte(100) {
		l = append(l, ts.FromAddr(netip.AddrFrom4([4]byte{10, 0, 0, 2 * i})))
		rm = append(rm, ts.FromAddr(netip.AddrFrom4([4]byte{10, 1, 0, 2 * i})))
	}
	db := mustNew(t, Policy{Sel: ts.Pair{Local: l, Remote: rm}, Word: Private})
	if n := len(db.v4.entries); n != 1 {
		t.Errorf("%d index entries", n)
	}
	if db.Lookup(true, flow(6, "10.0.0.4:1", "10.1.0.6:2")) == nil || db.Lookup(true, flow(6, "10.0.0.4:1", "10.1.0.7:2")) != nil {
		t.Error("lookup under a hull")
	}
}

func TestPFPText(t *testing.T) {
	for f := PFP(1); f <= PFPAll; f <<= 1 {
		if back, err := ParsePFP(f.String()); err != nil || back != f {
			t.Errorf("%v: %v %v", f, back, err)
		}
	}
	if f, err := ParsePFP("all"); err != nil || f != PFPAll {
		t.Error(f, err)
	}
	if f, err := ParsePFP("none"); err != nil || f != 0 || f.String() != "none" {
		t.Error(f, err)
	}
	if _, err := ParsePFP("port"); err == nil {
		t.Error("port")
	}
	if (PFPLocalAddr | PFPProto).String() != "local_addr|proto" {
		t.Error(PFPLocalAddr | PFPProto)
	}
	if ModeTunnel.String() != "tunnel" || ModeTransport.String() != "transport" || ModeUnset.String() != "unset" {
		t.Error("modes")
	}
}
