package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// An Error is one thing wrong with a file, and where.
type Error struct {
	File         string
	Line, Column int    // from 1; 0: the file as a whole
	Path         string // the key, as "connections.moon.local.auth"; may be empty
	Msg          string
	Err          error // cause, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A reader collects the errors of one file, so that all of them are told at once.
type reader struct {
	file string
	errs []error
	told map[string]bool         // paths that an error was told about, at them or below
	at   map[string]*token.Token // where each key's value stands

	known func(path, key string) // tests: told of every key that a mapping may have
}

// maxErrors ends a list nobody reads.
const maxErrors = 20

func (r *reader) failf(n node, format string, args ...any) {
	r.fail(n, fmt.Errorf(format, args...))
}

// fail tells of an error, unless it follows from one told already about the same value or
// a part of it.
func (r *reader) fail(n node, err error) {
	if len(r.errs) >= maxErrors || r.told[n.path] {
		return
	}
	for p := n.path; p != "" && !r.told[p]; p = parent(p) {
		r.told[p] = true
	}
	e := &Error{File: r.file, Path: n.path, Msg: err.Error(), Err: err}
	if n.tok != nil {
		e.Line, e.Column = n.tok.Position.Line, n.tok.Position.Column
	}
	r.errs = append(r.errs, e)
}

func (r *reader) err() error { return errors.Join(r.errs...) }

// A node is one value in the file. The zero node is an absent one; reading it gives zero
// values and no errors.
type node struct {
	r    *reader
	n    ast.Node
	tok  *token.Token
	path string
}

func (n node) absent() bool {
	if n.n == nil {
		return true
	}
	_, null := n.n.(*ast.NullNode)
	return null
}

func (r *reader) node(v ast.Node, path string) node {
	for {
		switch w := v.(type) {
		case *ast.AnchorNode:
			v = w.Value
			continue
		case *ast.TagNode:
			v = w.Value
			continue
		}
		break
	}
	n := node{r: r, n: v, path: path}
	if v != nil {
		n.tok = v.GetToken()
		r.at[path] = n.tok
	}
	return n
}

// An entry is one key of a mapping.
type entry struct {
	key string
	val node
	tok *token.Token // the key's
}

// entries reads a mapping in the file's order.
func (n node) entries() []entry {
	if n.absent() {
		return nil
	}
	var values []*ast.MappingValueNode
	switch m := n.n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		n.r.failf(n, "expected keys and values, found %s", kindOf(n.n))
		return nil
	}
	out := make([]entry, 0, len(values))
	seen := map[string]bool{}
	for _, v := range values {
		key := strings.Trim(v.Key.String(), `"'`)
		path := key
		if n.path != "" {
			path = n.path + "." + key
		}
		val := n.r.node(v.Value, path)
		if val.tok == nil || val.absent() {
			val.tok = v.Key.GetToken()
		}
		if seen[key] {
			val.tok = v.Key.GetToken()
			n.r.failf(val, "given twice")
			continue
		}
		seen[key] = true
		out = append(out, entry{key, val, v.Key.GetToken()})
	}
	return out
}

// fields hands each key of a mapping to its function; others are refused with the nearest
// one that exists.
func (n node) fields(known map[string]func(node)) {
	if n.r != nil && n.r.known != nil {
		for key := range known {
			n.r.known(n.path, key)
		}
	}
	for _, e := range n.entries() {
		f := known[e.key]
		if f == nil {
			names := slices.Collect(maps.Keys(known))
			meant := nearest(e.key, names)
			if meant == "" {
				meant = ": one of " + list(names)
			}
			e.val.tok = e.tok
			n.r.failf(e.val, "unknown key%s", meant)
			continue
		}
		f(e.val)
	}
}

// items reads a list; a single value is a list of one.
func (n node) items() []node {
	if n.absent() {
		return nil
	}
	s, ok := n.n.(*ast.SequenceNode)
	if !ok {
		return []node{n}
	}
	out := make([]node, len(s.Values))
	for i, v := range s.Values {
		out[i] = n.r.node(v, n.path+"["+strconv.Itoa(i)+"]")
	}
	return out
}

// text reads a scalar as it was written.
func (n node) text() string {
	if n.absent() {
		return ""
	}
	switch v := n.n.(type) {
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case *ast.AliasNode: // a scalar to its package
	case ast.ScalarNode:
		return n.n.GetToken().Value
	}
	hint := ""
	switch n.n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		hint = ": quote what has a colon in it, as IPv6 addresses have"
	}
	n.r.failf(n, "expected one word, found %s%s", kindOf(n.n), hint)
	return ""
}

func (n node) texts() []string {
	var out []string
	for _, i := range n.items() {
		// swanctl.conf separates the words of a list by commas.
		for w := range strings.SplitSeq(i.text(), ",") {
			if w = strings.TrimSpace(w); w != "" {
				out = append(out, w)
			}
		}
	}
	return out
}

// number reads an integer from lo to hi.
func (n node) number(lo, hi uint64) uint64 {
	if n.absent() {
		return 0
	}
	v, err := strconv.ParseUint(n.text(), 0, 64)
	if err != nil || v < lo || v > hi {
		n.r.failf(n, "%q is no number from %d to %d", n.text(), lo, hi)
		return 0
	}
	return v
}

// yes reads yes or no in the words of YAML and of swanctl.conf.
func (n node) yes() bool {
	switch w := strings.ToLower(n.text()); w {
	case "yes", "true", "on", "1":
		return true
	case "", "no", "false", "off", "0":
	default:
		n.r.failf(n, "%q is neither yes nor no", w)
	}
	return false
}

// duration reads "30s", "4h" or, as swanctl.conf has it, seconds.
func (n node) duration() time.Duration {
	w := n.text()
	if w == "" {
		return 0
	}
	if s, err := strconv.ParseUint(w, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if days, ok := strings.CutSuffix(w, "d"); ok {
		if d, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(d) * 24 * time.Hour
		}
	}
	d, err := time.ParseDuration(w)
	if err != nil || d < 0 {
		n.r.failf(n, "%q is no time span: write 30s, 5m or 4h", w)
		return 0
	}
	return d
}

// neverOr reads a time span for which 0 means never, as swanctl.conf has it; left out it
// is the default.
func (n node) neverOr() time.Duration {
	if n.absent() {
		return 0
	}
	if d := n.duration(); d > 0 {
		return d
	}
	return -1
}

func (n node) prefix() netip.Prefix {
	w := n.text()
	if a, err := netip.ParseAddr(w); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(w)
	if err != nil {
		n.r.failf(n, "%q is no address: write 10.1.0.1/24", w)
	}
	return p
}

func (n node) addr() netip.Addr {
	a, err := netip.ParseAddr(n.text())
	if err != nil {
		n.r.failf(n, "%q is no address", n.text())
	}
	return a
}

// choice reads one of the words of a table.
func choice[T any](n node, words map[string]T) (v T) {
	w := n.text()
	if v, ok := words[w]; ok {
		return v
	}
	names := slices.Collect(maps.Keys(words))
	n.r.failf(n, "%q is none of %s%s", w, list(names), nearest(w, names))
	return v
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AliasNode:
		return "an alias"
	}
	return "a single value"
}
