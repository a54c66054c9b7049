package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/btns-go/btns/tun/tuntest"
)

// footprint is what the process holds.
type footprint struct{ heap, rss float64 }

// takeFootprint collects garbage and gives its pages back first.
func takeFootprint() footprint {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return footprint{heap: float64(s.HeapAlloc), rss: residentSet()}
}

// residentSet is the process's resident set in bytes, 0 where /proc doesn't tell.
func residentSet() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(f[1])
	return float64(pages * os.Getpagesize())
}

// tunnelMemory measures "ike/heap", "ike/rss" and "ike/peak" of a hub with n tunnels.
func tunnelMemory(ctx context.Context, method string, n int) ([]Result, error) {
	c, err := newCast(method)
	if err != nil {
		return nil, err
	}
	net := tuntest.NewNet(tuntest.Faults{})
	hub, err := c.startHub(net)
	if err != nil {
		return nil, err
	}
	defer func() { _ = hub.Close() }()
	x, err := newCrowd(c, net, n+maxCrowd)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = x.wire.Close() }()
	// The first tunnels make what all of them share.
	if err := x.connect(maxCrowd); err != nil {
		return nil, err
	}
	before := takeFootprint()
	peak := before.rss
	for left := n; left > 0; left -= min(left, defaultHandshakes) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := x.connect(min(left, defaultHandshakes)); err != nil {
			return nil, err
		}
		peak = max(peak, residentSet())
	}
	after := takeFootprint()
	if up := len(hub.Status().IKE); up != n+maxCrowd {
		return nil, fmt.Errorf("bench: the hub has %d tunnels of %d", up, n+maxCrowd)
	}
	var out []Result
	for _, x := range []struct {
		name  string
		grown float64
	}{{"ike/heap", after.heap - before.heap}, {"ike/rss", after.rss - before.rss}, {"ike/peak", peak - before.rss}} {
		r := Result{Name: x.name, Params: map[string]any{"auth": method, "tunnels": n}, Unit: "B/tunnel"}
		r.stats([]float64{x.grown / float64(n)}, []float64{TunnelTarget})
		out = append(out, r)
	}
	return out, nil
}
