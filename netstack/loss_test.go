package netstack

import (
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"
)

// TestFlightLost: nothing that is in flight arrives, as when an SA is lost, until TCP has tried twice by its timer. All of it
// goes again as acknowledgements come, and not a few segments for each further timeout.
func TestFlightLost(t *testing.T) {
	const size, from = 8 << 20, 4 << 20
	for _, v6 := range []bool{false, true} {
		a, b := newPair(t)
		client, server := connect(t, a, b, v6)
		var mu sync.Mutex
		passed, first, tries := 0, uint32(0), 0
		eaten := make(map[uint32]bool)
		a.mu.Lock()
		a.mangle = func(p []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			ip := 20
			if v6 {
				ip = 40
			}
			th := p[ip:]
			n, seq := len(th)-int(th[12]>>4)*4, binary.BigEndian.Uint32(th[4:])
			if passed += n; passed < from || tries == 3 {
				return p
			}
			if len(eaten) == 0 {
				first = seq
			}
			if seq == first {
				tries++
			}
			eaten[seq] = true
			return nil
		}
		a.mu.Unlock()
		before := a.gv.Stats().TCP.Timeouts.Value()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := client.Write(make([]byte, size)); err != nil {
				t.Error(err)
			}
		})
		if n, err := io.CopyN(io.Discard, server, size); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		wg.Wait()
		mu.Lock()
		lost := len(eaten)
		mu.Unlock()
		timeouts := a.gv.Stats().TCP.Timeouts.Value() - before
		t.Logf("%d segments lost, %d timeouts, %s", lost, timeouts, time.Since(start).Round(time.Millisecond))
		if lost < 10 {
			t.Errorf("only %d segments were lost", lost)
		}
		// On a slow machine the timer runs out now and then for what is merely late.
		if most := uint64(4 + lost/10); timeouts > most {
			t.Errorf("%d timeouts for %d segments lost at once", timeouts, lost)
		}
	}
}
