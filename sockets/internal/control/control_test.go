package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, h Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "h.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(h)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket outlived its server: %v", err)
		}
	})
	return path
}

func TestCall(t *testing.T) {
	path := listen(t, func(_ context.Context, r Request) (any, error) {
		if r.Op != "echo" {
			return nil, fmt.Errorf("unknown operation %q", r.Op)
		}
		return r.Args, nil
	})
	var got map[string]string
	if err := Call(t.Context(), path, Request{Op: "echo", Args: map[string]string{"a": "b\n"}}, &got); err != nil || got["a"] != "b\n" {
		t.Fatalf("got %v, %v", got, err)
	}
	var re *RemoteError
	if err := Call(t.Context(), path, Request{Op: "nope"}, nil); !errors.As(err, &re) || !strings.Contains(re.Msg, "nope") {
		t.Fatalf("got %v", err)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	path := listen(t, func(context.Context, Request) (any, error) { return 1, nil })
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		fi, err := os.Stat(p)
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", p, fi.Mode().Perm(), want, err)
		}
	}
}

func TestLiveSocketIsKept(t *testing.T) {
	path := listen(t, func(context.Context, Request) (any, error) { return 1, nil })
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "already answers") {
		t.Fatalf("got %v", err)
	}
}

func TestStaleSocketIsReplacedAndFilesAreNot(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	s, err := Listen(stale)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil {
		t.Fatal("a plain file was replaced")
	}
}

// A host that starts as another one ends, as at a restart, keeps its socket.
func TestSocketOfTheNextHostIsKept(t *testing.T) {
	h := func(context.Context, Request) (any, error) { return nil, nil }
	path := filepath.Join(t.TempDir(), "control")
	last, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		ended := make(chan error, 1)
		go func() { ended <- last.Close() }()
		next, err := Listen(path)
		for err != nil {
			next, err = Listen(path)
		}
		next.Serve(h)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := Call(t.Context(), path, Request{Op: "x"}, nil); err != nil {
			_ = next.Close()
			t.Fatal(err)
		}
		last = next
	}
	_ = last.Close()
}

func TestNobodyThere(t *testing.T) {
	err := Call(t.Context(), filepath.Join(t.TempDir(), "x"), Request{Op: "status"}, nil)
	if err == nil || !strings.Contains(err.Error(), "btns up") {
		t.Fatalf("got %v", err)
	}
}

func TestStaleSocketSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stale.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	if err := Call(t.Context(), path, Request{Op: "status"}, nil); err == nil || !strings.Contains(err.Error(), "btns up") {
		t.Fatalf("got %v", err)
	}
}

func TestPlacesForASocket(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(open, "s")); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("a directory open to everybody: %v", err)
	}
	if err := os.Chmod(open, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(filepath.Join(open, "s"))
	if err != nil {
		t.Errorf("a sticky one: %v", err)
	} else {
		_ = s.Close()
	}
	if _, err := Listen(filepath.Join(open, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a path that is too long: %v", err)
	}
}

// CVE-2018-5388: a local control socket that did not check lengths.
func TestCVE_2018_5388_RequestLengthIsCapped(t *testing.T) {
	path := listen(t, func(context.Context, Request) (any, error) { return nil, errors.New("reached") })
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = c.Write(bytes.Repeat([]byte("a"), maxRequest+4096)) }()
	line, _ := bufio.NewReader(c).ReadString('\n')
	if line != "" && !strings.Contains(line, "too long") {
		t.Fatalf("got %q", line)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"op":"status"}`))
	f.Add([]byte(`{"op":"initiate","args":{"name":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil && r.Op == "" {
			t.Fatal("a request without an operation")
		}
	})
}
