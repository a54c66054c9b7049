package iketest_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ran is what the simulations have done, for the table at the end.
var ran results

type results struct {
	mu   sync.Mutex
	rows []result
}

type result struct {
	name         string
	first, last  uint64
	runs, failed int
	took         time.Duration
}

func (r *results) add(x result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, x)
}

func (r *results) table() string {
	var b strings.Builder
	rows := slices.SortedFunc(slices.Values(r.rows), func(x, y result) int { return cmp.Compare(x.name, y.name) })
	for _, x := range rows {
		fmt.Fprintf(&b, "%-60s %7d runs, seeds %d to %d, %d failed, %v\n", x.name, x.runs, x.first, x.last, x.failed, x.took.Round(time.Second/10))
	}
	return b.String()
}

// TestMain prints the table. The go command shows nothing of a package that passes, unless -v.
func TestMain(m *testing.M) {
	status := m.Run()
	fmt.Print(ran.table())
	os.Exit(status)
}
