package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// A demoProcess is one host of the demo. It speaks JSON lines over its pipes.
type demoProcess struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	done bool
}

func startHost(ctx context.Context, logs io.Writer, verbose bool, role string, args ...string) (*demoProcess, error) {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0] // no /proc in a bare root
	}
	args = append([]string{"demo-host", role}, args...)
	if verbose {
		args = append(args, "--verbose")
	}
	p := &demoProcess{role: role, cmd: exec.CommandContext(ctx, self, args...)}
	p.cmd.Stderr = logs
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return p, nil
}

// next reads the host's next message.
func (p *demoProcess) next(v any) error {
	var m struct {
		Error string          `json:"error"`
		Value json.RawMessage `json:"value"`
	}
	if err := p.out.Decode(&m); err != nil {
		return fmt.Errorf("demo: the %s ended early: %w", p.role, err)
	}
	if m.Error != "" {
		return fmt.Errorf("demo: %s: %s", p.role, m.Error)
	}
	return json.Unmarshal(m.Value, v)
}

// ask sends a line and reads the answer.
func (p *demoProcess) ask(line string, v any) error {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return p.next(v)
}

// stop ends the host by ending its input, reads its last message, and waits.
func (p *demoProcess) stop(v any) error {
	_ = p.in.Close()
	if err := p.next(v); err != nil {
		return err
	}
	p.done = true
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return nil
}

func (p *demoProcess) kill() {
	if !p.done {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
