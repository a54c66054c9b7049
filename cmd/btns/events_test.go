package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets"
)

// A page collects what a command prints while it runs.
type page struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func TestEvents(t *testing.T) {
	b, err := sockets.New(sockets.Config{Listen: []string{"127.0.0.1:0"}, Connections: []sockets.Connection{{Name: "anybody"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := sockets.New(sockets.Config{Connections: []sockets.Connection{{Name: "sun", RemoteAddrs: []string{b.LocalAddr().String()}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	path := filepath.Join(t.TempDir(), "ctl")
	ctl, err := a.ServeControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()

	watch := func(ctx context.Context, args ...string) (*page, chan error) {
		out, done := new(page), make(chan error, 1)
		cmd := root()
		cmd.SetArgs(append([]string{"events", "--control", path}, args...))
		cmd.SetOut(out)
		cmd.SetErr(io.Discard)
		go func() { done <- cmd.ExecuteContext(ctx) }()
		return out, done
	}
	interrupted, interrupt := context.WithCancel(t.Context())
	people, stopped := watch(interrupted)
	programs, gone := watch(t.Context(), "--json")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Nothing says when they watch, but every rekeying is one more chance.
	if err := a.Initiate(ctx, "sun"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both hear", func() bool {
		_, _ = a.Rekey("sun")
		return strings.Contains(people.String(), "ike-rekey: sun[") && strings.Contains(programs.String(), `"kind":"ike-rekey"`)
	})
	interrupt()
	if err := <-stopped; err != nil {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := time.Parse(time.TimeOnly, strings.Fields(people.String())[0][:8]); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err == nil || err.Error() != "the host has stopped" {
		t.Errorf("the host is gone: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(programs.String()), "\n")
	for _, line := range lines {
		var e sockets.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if again, err := json.Marshal(e); err != nil || string(again) != line {
			t.Errorf("%q became %q, %v", line, again, err)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, `"kind":"ike-updown"`) && !strings.Contains(last, `"kind":"shutdown-signal"`) {
		t.Errorf("the last was %s", last)
	}
	_, gone = watch(t.Context()) // its control socket is still there
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "the host has stopped") {
		t.Errorf("after the end: %v", err)
	}
}
