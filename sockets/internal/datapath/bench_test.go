package datapath

import (
	"io"
	"testing"
	"time"

	"github.com/btns-go/btns/latch"
)

// BenchmarkTransfer is one TCP connection between two hosts in this process, over a wire in memory.
func BenchmarkTransfer(b *testing.B) {
	w := newWorld()
	w.net.Record(nil)
	x, y := w.host(b, 1, hostOpt{raw: true}), w.host(b, 2, hostOpt{raw: true})
	connect(b, x, y, link{suite: "aes256gcm16"})
	l := y.listen(y.in4, 0, latch.Want{}, false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, _, err := l.accept()
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}()
	c, _, err := x.dial(within(b, 5*time.Second), l.ap, latch.Want{})
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	<-done
	st := y.path.Stats()
	b.ReportMetric(float64(st.Coalesced)/float64(st.Delivered), "merged/injection")
}
