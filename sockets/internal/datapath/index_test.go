package datapath

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/btns-go/btns/esp/ts"
)

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// TestIndexModel compares the index with a search through all children.
func TestIndexModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x childIndex
		x.init()
		var all []*Child
		sel := func(what string) ts.Selector {
			a := rapid.Uint32Range(0, 40).Draw(t, what)
			s := ts.Selector{First: addr4(a), Last: addr4(a + rapid.Uint32Range(0, 9).Draw(t, "width")), Ports: ts.AnyPorts()}
			if rapid.Bool().Draw(t, "proto") {
				s.Proto = ts.ProtoUDP
				if rapid.Bool().Draw(t, "port") {
					s.Ports = ts.Port(rapid.Uint16Range(1, 2).Draw(t, "port"))
				}
			}
			return s
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "op") == 0 {
				k := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				x.remove(all[k])
				all = slices.Delete(all, k, k+1)
			} else {
				c := &Child{Peer: &Peer{Anonymous: rapid.Bool().Draw(t, "anonymous")},
					Pair: ts.Pair{Local: ts.Set{sel("local")}, Remote: ts.Set{sel("remote"), sel("remote2")}}}
				if rapid.Bool().Draw(t, "narrow") {
					c.Pair = flowPair(ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(addr4(rapid.Uint32Range(0, 40).Draw(t, "n")), 1),
						netip.AddrPortFrom(addr4(rapid.Uint32Range(0, 40).Draw(t, "n")), 2)))
				}
				c.serial.Store(uint64(i) + 1)
				x.add(c)
				all = append(all, c)
			}
			f := ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(addr4(rapid.Uint32Range(0, 50).Draw(t, "src")), 1),
				netip.AddrPortFrom(addr4(rapid.Uint32Range(0, 50).Draw(t, "dst")), 2))
			fits := func(c *Child) bool { return c.serial.Load()%3 != 0 }
			var want *Child
			for _, c := range all {
				if c.Pair.MatchOut(f) && fits(c) && (want == nil || better(c, want)) {
					want = c
				}
			}
			if got := x.best(f, fits); got != want {
				t.Fatalf("%v: got %v, want %v", f, got, want)
			}
		}
	})
}

// crowd is an index of n children with one address each under one policy.
func crowd(n int) (x *childIndex, cs []*Child) {
	x = new(childIndex)
	x.init()
	peer := &Peer{}
	for i := range n {
		c := &Child{Peer: peer, Pair: ts.Pair{Local: ts.Set{ts.FromAddr(addr4(1))}, Remote: ts.Set{ts.FromAddr(addr4(0x0a000000 + uint32(i)))}}}
		x.add(c)
		cs = append(cs, c)
	}
	return x, cs
}

// BenchmarkInstall: the cost of one more child, and one fewer.
func BenchmarkInstall(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, cs := crowd(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c := cs[i%n]
				x.remove(c)
				x.add(c)
			}
		})
	}
}

// BenchmarkIndex: the cost of a decision that nobody made before.
func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, _ := crowd(n)
			flows := make([]ts.Flow, 1024)
			for i := range flows {
				flows[i] = ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(addr4(1), 1), netip.AddrPortFrom(addr4(0x0a000000+rand.Uint32N(uint32(n))), 2))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if x.best(flows[i%len(flows)], func(*Child) bool { return true }) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
