package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// regular refuses a path that is no file's: a named pipe would keep whoever opens it waiting
// for somebody to write to it, and a device may have no end. Descriptors are open already,
// and somebody writes to them: the shell's <(command) is one.
func regular(path string) error {
	if p := filepath.ToSlash(filepath.Clean(path)); p == "/dev/stdin" || strings.HasPrefix(p, "/dev/fd/") || strings.HasPrefix(p, "/proc/self/fd/") {
		return nil
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	what := "a device"
	switch m := fi.Mode(); {
	case m.IsRegular():
		return nil
	case m.IsDir():
		what = "a directory"
	case m&os.ModeNamedPipe != 0:
		what = "a named pipe"
	case m&os.ModeSocket != 0:
		what = "a socket"
	}
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("is %s, not a regular file; /dev/stdin and the shell's <(command) are read too", what)}
}
