package sockets

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"
)

// testLogger shows a host's log with -v.
func testLogger(t *testing.T, name string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", name)
}

func newStack(t *testing.T, name string, cfg Config) *Stack {
	t.Helper()
	cfg.Name, cfg.Logger = name, testLogger(t, name)
	if cfg.Listen == nil && cfg.Wire == nil {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	st, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return st
}

// pair returns two hosts that key with BTNS over loopback.
func pair(t *testing.T) (a, b *Stack) {
	b = newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a = newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}}}})
	return a, b
}

func TestBTNSOverLoopback(t *testing.T) {
	a, b := pair(t)
	ln, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			done <- err.Error()
			return
		}
		defer c.Close()
		pt, err := PTokenFrom(c)
		if err != nil {
			done <- err.Error()
			return
		}
		info, err := pt.Info()
		if err != nil {
			done <- err.Error()
			return
		}
		_, _ = io.Copy(c, c)
		done <- info.Remote.Fingerprint()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := a.DialContext(ctx, "tcp", net.JoinHostPort(b.Addrs()[0].String(), "80"))
	if err != nil {
		for _, st := range []*Stack{a, b} {
			j, _ := json.Marshal(st.Status())
			t.Log(string(j))
			t.Logf("%+v", st.e.Stack.Stats())
			t.Logf("%+v", st.e.Wire().Stats())
		}
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = c.(*Conn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if fp := <-done; fp != Fingerprint(a.PublicKey()) {
		t.Fatalf("b saw %s, a is %s", fp, Fingerprint(a.PublicKey()))
	}
	pt, err := PTokenFrom(c)
	if err != nil {
		t.Fatal(err)
	}
	info, err := pt.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Remote.Fingerprint() != Fingerprint(b.PublicKey()) {
		t.Fatalf("a saw %v", info)
	}
	t.Log("\n" + info.String())
}
