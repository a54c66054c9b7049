// Package config reads a host's YAML file into a sockets.Config and the few things that
// only the command does: forwards, exposed services, the control socket.
//
// Keys and proposal strings are swanctl.conf's wherever it has them. An unknown key, a bad
// value or a contradiction is refused with file, line, column and the nearest valid word,
// and all of them are told at once; a file with an error configures nothing.
//
// Concurrency: Load and Parse may be called by any number of goroutines. Ownership: a File
// is the caller's. Secrets in it redact themselves. Limits: maxFile bytes, maxErrors
// errors, maxDepth levels of nesting.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/parser"

	"github.com/btns-go/btns/sockets"
)

const (
	maxFile  = 4 << 20 // thousands of connections
	maxDepth = 32      // a configuration has six levels
)

// A File is what a configuration file says.
type File struct {
	// Path is where it was read; key files in it are relative to its folder.
	Path string
	// Host is the host itself, but for its wire.
	Host sockets.Config
	// Wire says what carries its packets.
	Wire Wire
	// Forwards take local connections to addresses behind the tunnels.
	Forwards []Forward
	// Expose takes connections to the host's inner addresses to local services.
	Expose []Forward
	// Control is the control socket's path; "" means DefaultControl.
	Control string
	// LogLevel is slog.LevelInfo unless said otherwise.
	LogLevel slog.Level

	positions map[string]position
}

type position struct{ line, column int }

// Load reads a regular file, or a descriptor as /dev/stdin.
func Load(path string, log *slog.Logger) (*File, error) {
	if err := regular(path); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(path, b, log)
}

// Parse reads the text of a file whose name is path.
func Parse(path string, b []byte, log *slog.Logger) (*File, error) {
	return newReader(path).parse(path, b, log)
}

func (r *reader) parse(path string, b []byte, log *slog.Logger) (out *File, err error) {
	if len(b) > maxFile {
		return nil, &Error{File: path, Msg: fmt.Sprintf("larger than %d bytes", maxFile)}
	}
	if line := deep(b); line > 0 {
		return nil, &Error{File: path, Line: line, Column: 1, Msg: fmt.Sprintf("nested more than %d levels deep", maxDepth)}
	}
	defer func() {
		// The YAML parser is somebody else's: what it does not expect must not end a host
		// that rereads its file.
		if v := recover(); v != nil {
			out, err = nil, &Error{File: path, Msg: fmt.Sprintf("not YAML: %v", v)}
		}
	}()
	doc, err := parser.ParseBytes(bytes.TrimPrefix(b, []byte("\uFEFF")), 0) // some editors' mark of UTF-8
	if err != nil {
		return nil, syntaxError(path, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &decoder{r: r, dir: filepath.Dir(path), log: log, file: &File{Path: path}}
	read := false
	for _, body := range doc.Docs {
		switch {
		case body.Body == nil:
		case read:
			r.failf(r.node(body.Body, "second document"), "a file is one document: the first ends at the line before, with ---")
		default:
			read = true
			d.root(r.node(body.Body, ""))
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	d.file.positions = r.positions()
	return d.file, nil
}

// Check compiles the host as New would, and puts positions to what is wrong with it or with
// its forwards.
func (f *File) Check() (warnings []string, err error) {
	plan, err := f.Host.Plan()
	if err != nil {
		return nil, f.locate(err)
	}
	if err := f.checkForwards(plan); err != nil {
		return nil, err
	}
	return plan.Warnings(), nil
}

// Locate puts the file's line and column to a *sockets.ConfigError.
func (f *File) Locate(err error) error { return f.locate(err) }

func (f *File) locate(err error) error {
	var ce *sockets.ConfigError
	if !errors.As(err, &ce) {
		return err
	}
	e := &Error{File: f.Path, Path: ce.Path, Msg: ce.Err.Error(), Err: err}
	// The error may be about a key that was left out: its parent's place will do.
	for p := ce.Path; p != ""; p = parent(p) {
		if at, ok := f.positions[p]; ok {
			e.Line, e.Column = at.line, at.column
			break
		}
	}
	return e
}

func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	return path[:max(i, 0)]
}

// deep is the line from which on the text could be nested deeper than maxDepth, found before
// a recursive parser sees it: by brackets, or by indentation. 0: nowhere.
func deep(b []byte) int {
	brackets, line := 0, 1
	indents := []int{}
	lineStart, indent := true, 0
	for _, c := range b {
		switch {
		case c == '\n':
			lineStart, indent = true, 0
			line++
			continue
		case lineStart && (c == ' ' || c == '-'):
			indent++
			continue
		case lineStart:
			lineStart = false
			for len(indents) > 0 && indents[len(indents)-1] >= indent {
				indents = indents[:len(indents)-1]
			}
			indents = append(indents, indent)
		}
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(0, brackets-1)
		}
		if brackets+len(indents) > maxDepth {
			return line
		}
	}
	return 0
}
