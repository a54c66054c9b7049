package iketest_test

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

func TestMain(m *testing.M) {
	status := m.Run()
	table := ran.table()
	fmt.Print(table)
	if o := hidden(); o != nil && status == 0 {
		_, _ = io.WriteString(o, table) // there is nowhere else to say that it failed
		_ = o.Close()
	}
	os.Exit(status)
}

// hidden is where the go command writes, if it keeps to itself what we print: it shows nothing
// of a package that passes, unless -v. Only Linux tells, and of a pipe or a terminal only; nil
// elsewhere.
func hidden() io.WriteCloser {
	if testing.Verbose() {
		return nil
	}
	proc := fmt.Sprintf("/proc/%d/", os.Getppid())
	exe, err := os.Readlink(proc + "exe")
	if err != nil || filepath.Base(exe) != "go" {
		return nil
	}
	ours, err := os.Stdout.Stat()
	if err != nil {
		return nil
	}
	theirs, err := os.Stat(proc + "fd/1")
	if err != nil || os.SameFile(ours, theirs) || theirs.Mode().IsRegular() { // a file would be written over
		return nil
	}
	f, err := os.OpenFile(proc+"fd/1", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil
	}
	return f
}
