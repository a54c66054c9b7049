package latch

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/btns-go/btns/esp/ts"
)

func numbered(i int) ts.Flow {
	return ts.MakeFlow(6, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1+i)),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i % 7), byte(i % 5)}), 80))
}

// TestADV_L32_L39_Concurrent lets goroutines do everything at once and checks what must hold in
// any interleaving: no packet of another peer passes, and at the end the database is empty.
func TestADV_L32_L39_Concurrent(t *testing.T) {
	db := New(Config{})
	peers := [...]*Params{params("a"), params("b")}
	const flows = 64
	var alerts atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 3000 {
				f := numbered(r.IntN(flows))
				l := db.Find(f)
				switch r.IntN(9) {
				case 0, 1, 2:
					if n, err := db.Connect(f, Want{}, func(Alert) { alerts.Add(1) }); err == nil {
						_ = db.Establish(n, peers[r.IntN(2)])
					}
				case 3:
					if l != nil {
						db.Break(l, ReasonConflict, "").Deliver()
					}
				case 4:
					if l != nil {
						db.Clear(l, ReasonConflict|ReasonDead).Deliver()
					}
				case 5:
					db.PeerDead("a", "").Deliver()
				case 6:
					for _, c := range db.Conflicts(ts.Pair{Local: ts.Set{ts.FromAddr(f.Src())}, Remote: ts.Set{ts.FromAddr(f.Dst())}}, *peers[0]) {
						if p := c.Params(); p == peers[0] {
							t.Error("a congruent latch is a conflict")
						}
					}
				case 7:
					if l != nil {
						db.Release(l)
					}
				default:
					if l == nil {
						continue
					}
					s := l.Inquire()
					if (s.State == StateEstablished || s.State == StateBroken) != (s.Params != nil) && s.State != StateClosed {
						t.Errorf("inconsistent: %v", s)
					}
					if p := l.Params(); p != nil {
						for _, q := range peers {
							if q != p && l.Permits(q) {
								t.Error("packets of another peer pass")
							}
						}
					}
				}
			}
		})
	}
	wg.Wait()
	db.CloseAll(nil)
	if db.Len() != 0 {
		t.Errorf("%d latches are left", db.Len())
	}
	for i := range db.shards {
		if len(db.shards[i].flows) != 0 || len(db.shards[i].remotes) != 0 {
			t.Error("a shard is not empty")
		}
	}
	if alerts.Load() == 0 {
		t.Error("no alerts")
	}
}

// TestADV_L22_OneBirth: of many that connect one flow at once, one gets the latch.
func TestADV_L22_OneBirth(t *testing.T) {
	db := New(Config{})
	ln, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 200 {
		f := numbered(round)
		var born atomic.Int32
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				var err error
				if g%2 == 0 {
					_, err = db.Connect(f, Want{}, nil)
				} else {
					_, _, err = db.Accept(ln, f, params(fmt.Sprint("peer", g)))
				}
				if err == nil {
					born.Add(1)
				}
			})
		}
		wg.Wait()
		if born.Load() != 1 {
			t.Fatalf("%d latches for one flow", born.Load())
		}
	}
}

// TestListenerClosedMeanwhile: whatever the order, a latch born from a listener that closes is
// either handed out or gone.
func TestListenerClosedMeanwhile(t *testing.T) {
	for i := range 200 {
		db := New(Config{})
		ln, err := db.Listen(Key3{Proto: 6, Port: 80}, Want{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var l *Latch
		wg.Go(func() { l, _, err = db.Accept(ln, numbered(i), params("a")) })
		wg.Go(func() { db.Release(ln) })
		wg.Wait()
		if (err == nil) != (l != nil) || db.Len() != 0 && l == nil || db.Len() != 1 && l != nil {
			t.Fatal(err, l, db.Len())
		}
	}
}

func TestAlertsMayCallBack(t *testing.T) {
	db := New(Config{})
	f := numbered(1)
	l := connect(t, db, f, params("a"), func(a Alert) {
		if a.State == StateBroken {
			db.Release(a.Latch) // the owner's reset
		}
	})
	db.Break(l, ReasonConflict, "").Deliver()
	if l.State() != StateClosed || db.Len() != 0 {
		t.Error(l.State())
	}
}

func TestPermitsDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	db := New(Config{})
	l := connect(t, db, numbered(1), params("a"), nil)
	p, q := params("a"), params("a")
	if n := testing.AllocsPerRun(100, func() {
		if !l.Permits(p) || !l.Permits(q) || db.Find(l.flow) != l {
			panic("not permitted")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPermits(b *testing.B) {
	db := New(Config{})
	p := params("a")
	l := connect(b, db, numbered(1), p, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Permits(p)
		}
	})
}

func BenchmarkFind100000(b *testing.B) {
	db := New(Config{})
	flows := make([]ts.Flow, 100000)
	for i := range flows {
		flows[i] = ts.MakeFlow(6, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), uint16(i)),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80))
		connect(b, db, flows[i], nil, nil)
	}
	i := 0
	for b.Loop() {
		db.Find(flows[i%len(flows)])
		i++
	}
}

// BenchmarkConflictsOneAddress asks about one address among 100,000 latches of 50,000.
func BenchmarkConflictsOneAddress(b *testing.B) {
	db := New(Config{})
	for i := range 100000 {
		connect(b, db, ts.MakeFlow(6, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), uint16(i)),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 9), byte(i >> 1)}), 80)), params("a"), nil)
	}
	pair := pairFor("10.0.0.0/8", "10.1.7.9")
	for b.Loop() {
		db.Conflicts(pair, *params("b"))
	}
}
