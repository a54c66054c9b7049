package esp

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestADV_P4_CVE_2026_23440_OneOfManyCopies: copies of the same packets go to several goroutines
// at once; each packet is delivered once.
func TestADV_P4_CVE_2026_23440_OneOfManyCopies(t *testing.T) {
	const copies, rounds, batch = 4, 200, 16
	for _, s := range []string{"aes128gcm16", "chacha20poly1305", "aes128-sha256", "null-sha256"} {
		for _, esn := range []bool{false, true} {
			c := testConfig(suite(t, s))
			c.ESN = esn
			o, i := pair(t, c)
			if esn { // across the end of the low half
				o.seq.Store(1<<32 - rounds*batch/2)
				i.win.Commit(1<<32 - rounds*batch/2)
			}
			for range rounds {
				var wire [batch][]byte
				for k := range wire {
					wire[k] = sealed(t, o, []byte("one of many"), 17)
				}
				var delivered [batch]atomic.Int32
				var wg sync.WaitGroup
				for range copies {
					wg.Go(func() {
						var w Worker
						pkts := make([]Packet, batch)
						for k := range pkts {
							pkts[k] = received(wire[k])
						}
						i.Open(&w, pkts)
						for k := range pkts {
							switch pkts[k].Drop {
							case Pass:
								delivered[k].Add(1)
							case DropReplay:
							default:
								t.Errorf("%s: %s", s, pkts[k].Drop)
							}
						}
					})
				}
				wg.Wait()
				for k := range delivered {
					if n := delivered[k].Load(); n != 1 {
						t.Fatalf("%s: a packet was delivered %d times", s, n)
					}
				}
			}
			if st := i.Snapshot(); st.Packets != rounds*batch || st.Drops[DropReplay] != (copies-1)*rounds*batch {
				t.Errorf("%s: %+v", s, st)
			}
		}
	}
}

// TestADV_P18_NoNumberTwice: goroutines seal batches of odd sizes on many SAs,
// to the hard limit; no (SA, IV) is used twice, and none beyond the limit.
func TestADV_P18_NoNumberTwice(t *testing.T) {
	const workers, limit = 8, 5000
	sas := 20
	if testing.Short() {
		sas = 3
	}
	for range sas {
		c := testConfig(suite(t, "aes128gcm16"))
		c.MaxPackets = limit
		o, _ := pair(t, c)
		var used [limit + 1]atomic.Int32
		var wg sync.WaitGroup
		for g := range workers {
			wg.Go(func() {
				var w Worker
				r := newRand(uint64(g))
				for {
					pkts := make([]Packet, 1+r.IntN(40))
					for k := range pkts {
						pkts[k] = packet(nil, 17)
					}
					if o.Seal(&w, pkts) == DropExhausted {
						if len(pkts) == 1 {
							return
						}
						continue
					}
					for k := range pkts {
						seq := pkts[k].Seq()
						if k > 0 && seq != pkts[k-1].Seq()+1 {
							t.Errorf("a batch with holes: %d after %d", seq, pkts[k-1].Seq())
						}
						iv := pkts[k].Payload()[headerLen : headerLen+aeadIVLen]
						if iv[7] != byte(seq) || iv[6] != byte(seq>>8) {
							t.Errorf("IV %x with number %d", iv, seq)
						}
						used[seq].Add(1)
					}
				}
			})
		}
		wg.Wait()
		for seq := 1; seq <= limit; seq++ {
			if n := used[seq].Load(); n != 1 {
				t.Fatalf("number %d was used %d times", seq, n)
			}
		}
		if o.Packets() != limit || o.Remaining() != 0 {
			t.Errorf("%d packets, %d left", o.Packets(), o.Remaining())
		}
	}
}

// TestADV_P39_CVE_2026_72451_NothingPassesAfterZero closes an SA while packets are in flight.
func TestADV_P39_CVE_2026_72451_NothingPassesAfterZero(t *testing.T) {
	for _, s := range allSuites(t) {
		for range 20 {
			o, i := pair(t, testConfig(s))
			var closed atomic.Bool
			var late atomic.Int32
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					var w Worker
					for {
						pkts := []Packet{packet([]byte("x"), 17), packet([]byte("y"), 17)}
						if o.Seal(&w, pkts) != Pass {
							return
						}
						was := closed.Load()
						i.Open(&w, pkts)
						if was && (pkts[0].Drop != DropClosed || pkts[1].Drop != DropClosed || pkts[0].Len != 0) {
							late.Add(1)
						}
					}
				})
			}
			i.Zero()
			closed.Store(true)
			passed := i.Packets()
			o.Zero()
			wg.Wait()
			if late.Load() != 0 {
				t.Errorf("%s: packets passed after Zero", s)
			}
			if i.Packets() != passed {
				t.Errorf("%s: %d packets passed after Zero had returned", s, i.Packets()-passed)
			}
			p := []Packet{packet([]byte("clear text"), 17)}
			var w Worker
			if d := o.Seal(&w, p); d != DropClosed || p[0].Drop != DropClosed || string(p[0].Payload()) != "clear text" {
				t.Errorf("%s: %s, %s", s, d, p[0].Drop)
			}
			i.Open(&w, p)
			if p[0].Drop != DropClosed || p[0].Len != 0 {
				t.Errorf("%s: open: %s", s, p[0].Drop)
			}
			if i.Snapshot().Drops[DropClosed] == 0 || o.Snapshot().Drops[DropClosed] == 0 {
				t.Errorf("%s: not counted", s)
			}
			o.Zero()
			i.Zero()
		}
	}
}

// TestConcurrentStress has sealers and openers with loss, reordering and copies;
// every packet is delivered at most once, and its content is right.
func TestConcurrentStress(t *testing.T) {
	for _, s := range []string{"aes256gcm16", "aes256-sha512"} {
		c := testConfig(suite(t, s))
		c.ReplayWindow = 4096
		o, i := pair(t, c)
		const total = 4000
		wire := make(chan []byte, total*2)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				var w Worker
				r := newRand(uint64(g))
				for range total / 4 {
					p := []Packet{packet(randomBytes(r, 1+r.IntN(100)), 17)}
					o.Seal(&w, p)
					b := append([]byte(nil), p[0].Payload()...)
					wire <- b
					if r.IntN(4) == 0 {
						wire <- b
					}
				}
			})
		}
		wg.Wait()
		close(wire)
		var delivered [total + 1]atomic.Int32
		for range 4 {
			wg.Go(func() {
				var w Worker
				for b := range wire {
					p := []Packet{received(b)}
					i.Open(&w, p)
					if p[0].Drop == Pass {
						delivered[p[0].Seq()].Add(1)
					} else if p[0].Drop != DropReplay {
						t.Errorf("%s: %s", s, p[0].Drop)
					}
				}
			})
		}
		wg.Wait()
		for seq := 1; seq <= total; seq++ {
			if n := delivered[seq].Load(); n != 1 {
				t.Fatalf("%s: packet %d delivered %d times", s, seq, n)
			}
		}
	}
}
