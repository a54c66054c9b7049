//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Who writes the keys to a pipe or a device leaves it as open as it was for others.
func TestKeyLogLeavesDevicesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0) // so that opening it for writing waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := openKeyLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o622 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
