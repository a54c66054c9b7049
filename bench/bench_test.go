package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/btns-go/btns/esp"
)

func TestESPReport(t *testing.T) {
	r, err := ESP(t.Context(), Options{Sizes: []int{64, 1400}, Rounds: 2, ESN: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != 3*2*2 {
		t.Fatalf("%d results", len(r.Results))
	}
	seen := map[string]bool{}
	for _, x := range r.Results {
		seen[x.Name+" "+params(x.Params)] = true
		if x.Unit != "MB/s" || x.Min <= 0 || x.Median < x.Min || x.Max < x.Median || x.Baseline <= 0 || x.Ratio <= 0 {
			t.Errorf("odd result: %+v", x)
		}
	}
	if !seen["esp/open size=1400 suite=aes256gcm16"] || len(seen) != len(r.Results) {
		t.Errorf("results: %v", seen)
	}

	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(table.String(), "\n"); n != 3+len(r.Results) {
		t.Errorf("table has %d lines:\n%s", n, table.String())
	}

	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Machine map[string]string
		Results []map[string]any
	}
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"cpu", "flags", "kernel", "go"} {
		if _, ok := back.Machine[k]; !ok {
			t.Errorf("machine lacks %q", k)
		}
	}
	for _, k := range []string{"name", "params", "unit", "median", "min", "max", "baseline", "ratio", "allocs_per_op"} {
		if _, ok := back.Results[0][k]; !ok {
			t.Errorf("result lacks %q", k)
		}
	}
	if len(back.Results[0]) != 9 || len(back.Machine) != 4 {
		t.Errorf("fields beyond the agreed shape: %s", b)
	}
}

func TestESPRefuses(t *testing.T) {
	for _, o := range []Options{
		{Suites: []string{"rot13"}},
		{Suites: []string{"aes128-sha256"}},
		{Sizes: []int{0}},
		{Sizes: []int{maxSize + 1}},
		{Rounds: -1},
		{Rounds: maxRounds + 1},
	} {
		if o.Rounds == 0 {
			o.Rounds = 1
		}
		if _, err := ESP(t.Context(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ESP(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{1, 3}, 2}, {[]float64{1, 2, 9}, 2}, {[]float64{1, 2, 4, 9}, 3}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v", c.in, got)
		}
	}
}

func TestCPUInfo(t *testing.T) {
	cpu, flags := cpuinfo("processor\t: 0\nmodel name\t: Quick One\nflags\t\t: fpu aes avx2 vaes\nprocessor\t: 1\nmodel name\t: Other\nflags\t\t: aes\n")
	if cpu != "Quick One" || flags != "aes avx2 vaes" {
		t.Errorf("%q, %q", cpu, flags)
	}
}

// BenchmarkESP has one operation per ring of packets; MB/s are of payload. The
// baseline stands beside each.
func BenchmarkESP(b *testing.B) {
	for _, name := range []string{"aes128gcm16", "aes256gcm16", "chacha20poly1305"} {
		suite, err := esp.ParseSuite(name)
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{64, 1400} {
			x, err := newESPRun(suite, size, false)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(x.free)
			var nonce uint64
			seal := func() error { return x.seal(x.pkts) }
			open := func() error { return x.open(x.pkts) }
			bareSeal := func() error { nonce += ringPackets; return x.bareSeal(x.pkts, nonce) }
			bareOpen := func() error { return x.bareOpen(x.pkts, nonce) }
			for _, c := range []struct {
				name         string
				before, what func() error
				after        func() error
			}{
				{"seal", nil, seal, open},
				{"open", seal, open, nil},
				{"bare-seal", nil, bareSeal, bareOpen},
				{"bare-open", bareSeal, bareOpen, nil},
			} {
				b.Run(name+"/"+params(map[string]any{"size": size})+"/"+c.name, func(b *testing.B) {
					b.SetBytes(int64(len(x.pkts) * size))
					b.ReportAllocs()
					untimed := func(f func() error) {
						if f != nil {
							b.StopTimer()
							if err := f(); err != nil {
								b.Fatal(err)
							}
							b.StartTimer()
						}
					}
					for b.Loop() {
						untimed(c.before)
						if err := c.what(); err != nil {
							b.Fatal(err)
						}
						untimed(c.after)
					}
				})
			}
		}
	}
}

func TestIKEReport(t *testing.T) {
	r, err := IKE(t.Context(), IKEOptions{Handshakes: 40, Rounds: 2, Tunnels: 100})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, x := range r.Results {
		seen[x.Name+" "+x.Unit]++
		// A hundred tunnels are less than what the runtime may give back to the system meanwhile.
		ofProcess := x.Name == "ike/rss" || x.Name == "ike/peak"
		if (x.Min <= 0 || x.Ratio <= 0) && !ofProcess || x.Median < x.Min || x.Max < x.Median || x.Baseline <= 0 {
			t.Errorf("odd result: %+v", x)
		}
	}
	if seen["ike/handshake 1/s"] != 2 || seen["ike/heap B/tunnel"] != 2 || seen["ike/rss B/tunnel"] != 2 || seen["ike/peak B/tunnel"] != 2 {
		t.Errorf("results: %v", seen)
	}
}

func TestIKEOptions(t *testing.T) {
	for _, o := range []IKEOptions{{Methods: []string{"rsa"}}, {Handshakes: -1}, {Rounds: -1}, {Handshakes: maxTunnels, Rounds: 2}, {Tunnels: maxTunnels + 1}} {
		if _, err := IKE(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := IKE(ctx, IKEOptions{Handshakes: 4, Rounds: 1, Tunnels: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
