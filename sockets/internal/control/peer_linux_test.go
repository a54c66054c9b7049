package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// One user of a machine must not act with another's credentials: who asks is what the kernel
// says, whatever the modes of the files are.
func TestCVE_2025_9615_OtherUsersAreRefused(t *testing.T) {
	for _, c := range []struct {
		uid, own int
		ok       bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {65534, 0, false}, {-1, 1000, false}} {
		if err := admit(c.uid, c.own); (err == nil) != c.ok {
			t.Errorf("uid %d to a host of uid %d: %v", c.uid, c.own, err)
		}
	}

	// For real: a socket that the file system keeps from nobody. Only root can be two users.
	if os.Geteuid() != 0 {
		t.Log("not root: nobody else to ask as")
		return
	}
	reached := make(chan struct{}, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "h.sock")
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(func(context.Context, Request) (any, error) { reached <- struct{}{}; return 1, nil })
	defer s.Close()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread stays another user's, so it ends with this goroutine.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			done <- result{err: e}
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			done <- result{err: err}
			return
		}
		f := os.NewFile(uintptr(fd), "nobody")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte(`{"op":"status"}` + "\n"))
		b := make([]byte, 1000)
		n, err := c.Read(b)
		done <- result{b[:n], err}
	}()
	r := <-done
	if r.err != nil || !bytes.Contains(r.line, []byte("may not speak")) || !strings.Contains(string(r.line), "65534") {
		t.Errorf("%q, %v", r.line, r.err)
	}
	select {
	case <-reached:
		t.Error("another user's request was served")
	default:
	}
	var got int
	if err := Call(t.Context(), path, Request{Op: "status"}, &got); err != nil || got != 1 {
		t.Errorf("our own: %d, %v", got, err)
	}
}
