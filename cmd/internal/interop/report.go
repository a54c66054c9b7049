package interop

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// A Report is the table of scenarios that ran, for people.
type Report struct {
	mu   sync.Mutex
	rows []*Row
}

// A Row is one scenario.
type Row struct {
	peer, scenario, role, suite string

	mu     sync.Mutex
	notes  []string
	result string
	took   time.Duration
}

// Row begins a scenario; the test's end ends it. Role is btns's, suite its proposals.
func (r *Report) Row(t testing.TB, peer, scenario, role, suite string) *Row {
	t.Helper()
	p := &Row{peer: peer, scenario: scenario, role: role, suite: suite}
	start := time.Now()
	r.mu.Lock()
	r.rows = append(r.rows, p)
	r.mu.Unlock()
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.took, p.result = time.Since(start), "passed"
		switch {
		case t.Failed():
			p.result = "FAILED"
		case t.Skipped():
			p.result = "skipped"
		}
	})
	return p
}

// Note adds to the row what was seen.
func (p *Row) Note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Quoted attributes of log lines read better without their escapes.
	p.notes = append(p.notes, strings.ReplaceAll(fmt.Sprintf(format, args...), `\"`, `"`))
}

// Lacking returns those of the scenarios, each "role: words of the scenario", that no row has.
func (r *Report) Lacking(scenarios []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(scenarios), func(s string) bool {
		role, words, _ := strings.Cut(s, ": ")
		return slices.ContainsFunc(r.rows, func(p *Row) bool {
			return (p.role == role || p.role == "both") && strings.Contains(p.scenario, words)
		})
	})
}

// Write prints the table.
func (r *Report) Write(w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return nil
	}
	rows := slices.Clone(r.rows)
	slices.SortStableFunc(rows, func(a, b *Row) int {
		return cmp.Or(cmp.Compare(a.peer, b.peer), cmp.Compare(a.scenario, b.scenario), cmp.Compare(a.role, b.role))
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "peer\tscenario\trole\tsuite\tresult\ttime\tseen")
	for _, p := range rows {
		p.mu.Lock()
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%.1fs\t%s\n", p.peer, p.scenario, p.role, p.suite, p.result, p.took.Seconds(), strings.Join(p.notes, "; "))
		p.mu.Unlock()
	}
	return tw.Flush()
}
