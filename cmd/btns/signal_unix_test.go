//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is the command in a process of its own, which ends with the test.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// A configuration may come through a pipe; who waits for it can be stopped by one signal.
func TestSignalEndsWaitForConfig(t *testing.T) {
	cmd := process(t, "check", "-c", "/dev/stdin")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: the command reads.
	if _, err := io.WriteString(in, strings.Repeat("# a comment\n", 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(10*time.Second, func() { t.Error("it goes on"); _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || stderr.String() != "btns: terminated signal received\n" {
		t.Errorf("%v, %q", err, &stderr)
	}
}

// What does not end by one signal ends by the next.
func TestSecondSignalEnds(t *testing.T) {
	// More warnings than a pipe holds, and nobody reads them.
	var file bytes.Buffer
	file.WriteString("addresses: 10.1.0.1\nsecrets: {ike: {secret: a secret of more than sixteen octets}}\nconnections:\n")
	for i := range 2000 {
		fmt.Fprintf(&file, "  c%d: {local: {auth: psk, id: us}, remote: {auth: psk, id: b%d}, children: {%d: {local_ts: 10.9.0.0/24, remote_ts: 10.2.0.0/24}}, remote_addrs: 192.0.2.1}\n", i, i, i)
	}
	path := filepath.Join(t.TempDir(), "many.yaml")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "check", "-c", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 100 {
			_ = cmd.Process.Signal(os.Interrupt)
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
		t.Error("100 signals do not end it")
		_ = cmd.Process.Kill()
	}()
	err = cmd.Wait()
	close(ended)
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Error(err)
	}
}

// Opening a pipe waits for its other end; a command does not.
func TestPipesAreNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	pipe, key := filepath.Join(dir, "pipe"), filepath.Join(dir, "key.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "listen: \"127.0.0.1:0\"\nkey: pipe\nsecrets: {ike: {file: pipe}}\nconnections: {m: {remote: {pubkeys: pipe}}}\n"
	if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("listen: \"127.0.0.1:0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		args []string
		want []string
	}{
		{[]string{"check", "-c", pipe}, []string{"config: open " + pipe + ": is a named pipe, not a regular file"}},
		{[]string{"check", "-c", dir}, []string{"is a directory, not a regular file"}},
		{[]string{"check", "-c", os.DevNull}, []string{"is a device, not a regular file"}},
		{[]string{"up", "-c", key}, []string{"key.yaml:2:6: key: auth: key file " + pipe + ": is a named pipe", "key.yaml:3:23: secrets.ike.file: auth: key file", "key.yaml:4:37: connections.m.remote.pubkeys: auth: key file"}},
		{[]string{"up", "-c", good, "--keylog", pipe}, []string{"key log: nobody reads from " + pipe}},
	} {
		done := make(chan error, 1)
		go func() { _, err := command(t.Context(), x.args...); done <- err }()
		select {
		case err := <-done:
			for _, want := range x.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q: %v", x.args, err)
				}
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%q: it waits", x.args)
			f, err := os.OpenFile(pipe, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
	}
}
