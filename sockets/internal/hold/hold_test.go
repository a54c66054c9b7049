package hold

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/btns-go/btns/esp/ts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func flow(n int) ts.Flow {
	return ts.MakeFlow(ts.ProtoUDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 1),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 2))
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTable(t *testing.T) {
	var released []int
	tab := New[string](Limits{PerPeer: 2, Packets: 3, Bytes: 1000, Lifetime: 30 * time.Second}, func(p int) { released = append(released, p) })
	put := func(after time.Duration, peer string, f, size, p int, want Result) {
		t.Helper()
		if got := tab.Put(epoch.Add(after), peer, flow(f), size, p); got != want {
			t.Errorf("packet %d: %v, want %v", p, got, want)
		}
	}
	put(0, "a", 1, 100, 1, Kept)
	put(time.Second, "a", 1, 200, 2, Replaced) // a retransmission
	put(0, "a", 2, 100, 3, Kept)
	put(0, "a", 3, 100, 4, RefusedPeer)
	put(0, "b", 4, 700, 5, Kept)
	put(0, "b", 5, 10, 6, RefusedFull)
	put(0, "b", 4, 701, 7, RefusedFull)
	put(0, "b", 9, 1001, 8, Refused)
	put(0, "b", 2, 100, 9, Replaced) // the flow's policy names another peer now
	if !slices.Equal(released, []int{1, 3}) {
		t.Errorf("released %v", released)
	}
	if n, b := tab.Len(); n != 3 || b != 1000 {
		t.Errorf("%d packets, %d bytes", n, b)
	}
	if p, ok := tab.Take(flow(4)); !ok || p != 5 {
		t.Errorf("took %d, %t", p, ok)
	}
	if _, ok := tab.Take(flow(4)); ok {
		t.Error("took it twice")
	}
	if ps := tab.TakePeer("b"); !slices.Equal(ps, []int{9}) {
		t.Errorf("took %v", ps)
	}
	if ps := tab.TakePeer("b"); ps != nil {
		t.Errorf("took %v", ps)
	}
	// A retransmission does not make a packet younger.
	if n := tab.Expire(epoch.Add(29 * time.Second)); n != 0 {
		t.Errorf("%d expired early", n)
	}
	if n := tab.Expire(epoch.Add(30 * time.Second)); n != 1 || !slices.Equal(released, []int{1, 3, 2}) {
		t.Errorf("%d expired, released %v", n, released)
	}
	put(0, "a", 1, 1, 10, Kept)
	if n := tab.Close(); n != 1 {
		t.Errorf("%d at Close", n)
	}
	put(0, "a", 1, 1, 11, Refused)
	if n, b := tab.Len(); n != 0 || b != 0 {
		t.Errorf("%d packets, %d bytes after Close", n, b)
	}
}

func TestDefaults(t *testing.T) {
	tab := New[int, int](Limits{}, nil)
	for i := range DefaultPackets + 10 {
		want := Kept
		if i >= DefaultPackets {
			want = RefusedFull
		}
		if r := tab.Put(epoch, i/DefaultPerPeer, flow(i), 60, i); r != want {
			t.Fatalf("packet %d: %v", i, r)
		}
	}
	one := New[int, int](Limits{}, nil)
	for i := range DefaultPerPeer + 1 {
		if r := one.Put(epoch, 0, flow(i), 60, i); r.Held() != (i < DefaultPerPeer) {
			t.Fatalf("packet %d: %v", i, r)
		}
	}
	big := New[int, int](Limits{}, nil)
	for i := range 65 {
		if r := big.Put(epoch, i, flow(i), 65536, i); r.Held() != (i < 64) {
			t.Fatalf("packet %d: %v", i, r)
		}
	}
}

// TestTableModel compares the table with a slice.
func TestTableModel(t *testing.T) {
	type held struct {
		peer, flow, size, p int
		born                time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		lim := Limits{PerPeer: rapid.IntRange(1, 4).Draw(t, "perPeer"), Packets: rapid.IntRange(1, 8).Draw(t, "packets"),
			Bytes: rapid.IntRange(1, 300).Draw(t, "bytes"), Lifetime: 10 * time.Second}
		out := map[int]int{} // packets that came back, by release or Take
		tab := New[int](lim, func(p int) { out[p]++ })
		var model []held
		now, serial, in := epoch, 0, 0
		bytes := func() (n int) {
			for _, h := range model {
				n += h.size
			}
			return n
		}
		peers := func(peer int) (n int) {
			for _, h := range model {
				if h.peer == peer {
					n++
				}
			}
			return n
		}
		takeAll := func(ps []int, match func(held) bool) {
			var want []int
			model = slices.DeleteFunc(model, func(h held) bool {
				if match(h) {
					want = append(want, h.p)
				}
				return match(h)
			})
			if !slices.Equal(ps, want) {
				t.Fatalf("took %v, want %v", ps, want)
			}
			for _, p := range ps {
				out[p]++
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "wait")) * time.Second)
			peer, f, size := rapid.IntRange(0, 3).Draw(t, "peer"), rapid.IntRange(0, 9).Draw(t, "flow"), rapid.IntRange(0, 120).Draw(t, "size")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				serial++
				i := slices.IndexFunc(model, func(h held) bool { return h.flow == f })
				same := i >= 0 && model[i].peer == peer
				old := 0
				if i >= 0 {
					old = model[i].size
				}
				want := Kept
				switch {
				case size > lim.Bytes:
					want = Refused
				case !same && peers(peer) >= lim.PerPeer:
					want = RefusedPeer
				case bytes()-old+size > lim.Bytes || i < 0 && len(model) >= lim.Packets:
					want = RefusedFull
				case i >= 0:
					want = Replaced
				}
				r := tab.Put(now, peer, flow(f), size, serial)
				if r != want {
					t.Fatalf("put: %v, want %v", r, want)
				}
				if r.Held() {
					in++
				}
				switch {
				case r == Replaced && same:
					model[i].size, model[i].p = size, serial
				case r == Replaced:
					model = slices.Delete(model, i, i+1)
					model = append(model, held{peer, f, size, serial, now})
				case r == Kept:
					model = append(model, held{peer, f, size, serial, now})
				}
			case 2:
				p, ok := tab.Take(flow(f))
				if ok {
					takeAll([]int{p}, func(h held) bool { return h.flow == f })
				}
			case 3:
				if rapid.Bool().Draw(t, "match") {
					takeAll(tab.TakeMatch(func(_ ts.Flow, p int) bool { return p%2 == 0 }), func(h held) bool { return h.p%2 == 0 })
				} else {
					takeAll(tab.TakePeer(peer), func(h held) bool { return h.peer == peer })
				}
			case 4:
				n := tab.Expire(now)
				before := len(model)
				model = slices.DeleteFunc(model, func(h held) bool { return now.Sub(h.born) >= lim.Lifetime })
				if n != before-len(model) {
					t.Fatalf("%d expired, want %d", n, before-len(model))
				}
			}
			if n, b := tab.Len(); n != len(model) || b != bytes() {
				t.Fatalf("%d packets, %d bytes; want %d, %d", n, b, len(model), bytes())
			}
		}
		tab.Close()
		total := 0
		for p, n := range out {
			if n != 1 {
				t.Fatalf("packet %d came back %d times", p, n)
			}
			total++
		}
		if total != in {
			t.Fatalf("%d packets went in, %d came back", in, total)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := NewBackoff[string](BackoffLimits{Keys: 2})
	start := func(after time.Duration, k string, want Verdict) {
		t.Helper()
		if v, _ := b.Start(epoch.Add(after), k); v != want {
			t.Errorf("%s at %v: %v, want %v", k, after, v, want)
		}
	}
	fail := errors.New("refused")
	start(0, "a", Go)
	start(time.Second, "a", Pending)
	if !b.Pending("a") || b.Pending("b") {
		t.Error("what is out")
	}
	start(DefaultLifetime, "a", Go) // nobody answered
	at := DefaultLifetime
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		b.Fail(epoch.Add(at), "a", fail)
		pause *= time.Second
		start(at+pause-1, "a", Failed)
		if _, err := b.Start(epoch.Add(at+pause-1), "a"); !errors.Is(err, fail) || !errors.Is(b.Err("a"), fail) || b.Pending("a") {
			t.Errorf("error %v, pending %t", err, b.Pending("a"))
		}
		at += pause
		start(at, "a", Go)
	}
	b.Done("a")
	start(at, "a", Go)
	b.Fail(epoch.Add(at), "a", fail)
	start(at+time.Second, "a", Go) // success in between began the pauses anew

	start(at, "b", Go)
	start(at, "c", Full)
	b.Fail(epoch.Add(at), "c", fail) // and is not remembered either
	if b.Len() != 2 {
		t.Errorf("%d keys", b.Len())
	}
	start(at+time.Hour, "c", Go) // old ones made room
	b.Reset()
	if b.Len() != 0 {
		t.Error("keys after Reset")
	}
	b.Fail(epoch, "d", fail)
	b.Expire(epoch.Add(time.Second + DefaultRetryMax - 1))
	if b.Len() != 1 {
		t.Error("forgotten early")
	}
	b.Expire(epoch.Add(time.Second + DefaultRetryMax))
	if b.Len() != 0 {
		t.Error("not forgotten")
	}
}

func TestConcurrent(t *testing.T) {
	var mu sync.Mutex
	in, out := 0, 0
	tab := New[int](Limits{Packets: 50}, func(int) { mu.Lock(); out++; mu.Unlock() })
	b := NewBackoff[int](BackoffLimits{})
	goes := 0
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				if tab.Put(epoch, i%7, flow(i%100), 10, i).Held() {
					mu.Lock()
					in++
					mu.Unlock()
				}
				if (i+g)%50 == 0 {
					n := len(tab.TakePeer(i % 7))
					mu.Lock()
					out += n
					mu.Unlock()
				}
				if v, _ := b.Start(epoch, i); v == Go {
					mu.Lock()
					goes++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	tab.Close()
	if in != out || goes != 500 {
		t.Errorf("%d in, %d out, %d requests", in, out, goes)
	}
}

func TestStrings(t *testing.T) {
	seen := map[string]bool{}
	for r := range numberResults + 1 {
		seen[r.String()] = true
	}
	for v := range Go + 2 {
		seen[v.String()] = true
	}
	if len(seen) != int(numberResults)+int(Go)+2 {
		t.Errorf("%v", seen)
	}
}
