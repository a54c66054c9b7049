//go:build linux

package interop

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// maxShown is how much of a program's output a failed test shows.
const maxShown = 16 << 10

// A Process is a running program. Its output is kept, and shown if the test fails.
type Process struct {
	Name string

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; after done

	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{} // closed and made anew when out grows
}

// Start starts a program; the test's cleanup ends it.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Name: name, t: t, cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			out := p.Output()
			if len(out) > maxShown {
				out = out[:maxShown/4] + "\n[…]\n" + out[len(out)-maxShown*3/4:]
			}
			t.Logf("%s printed:\n%s", name, out)
		}
	})
	return p
}

// Write takes the program's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

// Pid is the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output is what the program printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Mark is a place in the program's output: its end so far.
func (p *Process) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Len()
}

// Await waits until the program has printed what the regular expression matches, and
// returns the match and its groups.
func (p *Process) Await(expr string) []string {
	p.t.Helper()
	return p.AwaitAfter(0, expr)
}

// AwaitAfter is Await for what was printed after a Mark.
func (p *Process) AwaitAfter(mark int, expr string) []string {
	p.t.Helper()
	re := regexp.MustCompile(expr)
	deadline := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		m, more := re.FindStringSubmatch(p.out.String()[mark:]), p.more
		p.mu.Unlock()
		switch {
		case m != nil:
			return m
		case ended:
			p.t.Fatalf("%s ended (%v) without printing %q", p.Name, p.err, expr)
		}
		select {
		case <-more:
		case <-p.done:
			ended = true
		case <-deadline:
			p.t.Fatalf("%s did not print %q in %s", p.Name, expr, patience)
		}
	}
}

// Signal sends the program a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.Name, err)
	}
}

// Wait waits for the program's end and returns how it ended.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end in %s", p.Name, patience)
	}
	return p.err
}

// Stop asks the program to end, and waits.
func (p *Process) Stop() error {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Ended tells whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end ends the program if it runs, kindly for a moment.
func (p *Process) end() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(s); err != nil {
			break
		}
		select {
		case <-p.done:
			return
		case <-time.After(5 * time.Second):
		}
	}
	<-p.done
}

// ExitCode is an ended program's exit status, -1 if a signal ended it.
func ExitCode(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return -1
}
