// Package arch checks the source tree against DESIGN: which package may import which, what stands
// where, and a few rules that keep packages pure. It reads files and types nothing, so it is fast
// and works on trees that do not compile.
//
// The tables in policy.go are a statement of policy. They are not edited to make a build pass; a
// change there is a change of the architecture and says why.
//
// A Tree is the caller's and does not change once it is read; checks may run at the same time. The
// only limit is maxLines, of a file.
package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is not as it should be.
type Problem struct {
	Rule string // the check that found it
	Path string // file or folder, relative to the module's root
	Text string
}

// String is one line for a test log.
func (p Problem) String() string { return fmt.Sprintf("%s: %s [%s]", p.Path, p.Text, p.Rule) }

// Package is one folder with Go files.
type Package struct {
	Dir   string // slash-separated, "." for the root
	Files []*File
}

// File is one Go file.
type File struct {
	Path    string
	Test    bool // name ends in _test.go
	Lines   int
	Imports []string
	AST     *ast.File
}

// Tree is a module's source.
type Tree struct {
	Module   string
	Packages []*Package
	Root     []string // names in the root folder, folders with a slash behind
	Folders  []string // all folders
	fset     *token.FileSet
}

// Load reads the module whose root is fsys. A Go file that does not parse is an error.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet()}
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, fmt.Errorf("arch: %w", err)
	}
	for line := range strings.Lines(string(mod)) {
		if m, ok := strings.CutPrefix(line, "module "); ok {
			t.Module = strings.TrimSpace(m)
		}
	}
	ignored := ignorePatterns(fsys)
	packages := map[string]*Package{}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		base := path.Base(name)
		if path.Dir(name) == "." && !ignored(name) {
			t.Root = append(t.Root, map[bool]string{true: base + "/", false: base}[d.IsDir()])
		}
		if d.IsDir() {
			if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || ignored(name) {
				return fs.SkipDir
			}
			t.Folders = append(t.Folders, name)
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := t.parse(fsys, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if packages[dir] == nil {
			packages[dir] = &Package{Dir: dir}
			t.Packages = append(t.Packages, packages[dir])
		}
		packages[dir].Files = append(packages[dir].Files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("arch: %w", err)
	}
	return t, nil
}

func (t *Tree) parse(fsys fs.FS, name string) (*File, error) {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	a, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &File{Path: name, Test: strings.HasSuffix(name, "_test.go"), AST: a, Lines: bytes.Count(src, []byte("\n"))}
	for _, i := range a.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		f.Imports = append(f.Imports, p)
	}
	return f, nil
}

// ignorePatterns reads the simple patterns of .gitignore: what builds and tests leave. One that
// begins with a slash is for the top level only.
func ignorePatterns(fsys fs.FS) func(name string) bool {
	data, _ := fs.ReadFile(fsys, ".gitignore") // without one nothing is ignored
	var patterns []string
	for line := range strings.Lines(string(data)) {
		if p := strings.TrimSuffix(strings.TrimSpace(line), "/"); p != "" && !strings.HasPrefix(p, "#") {
			patterns = append(patterns, p)
		}
	}
	return func(name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			target := path.Base(name)
			if rooted, ok := strings.CutPrefix(p, "/"); ok {
				p, target = rooted, name
			}
			ok, err := path.Match(p, target)
			return ok && err == nil
		})
	}
}

// Check runs all rules of policy.go.
func Check(t *Tree) []Problem {
	var all []Problem
	for _, rule := range []struct {
		name  string
		check func(*Tree) []Problem
	}{
		{"imports", checkImports},
		{"outside", checkOutside},
		{"pure", checkPure},
		{"random", checkRandom},
		{"comment", checkComments},
		{"name", checkNames},
		{"lines", checkLines},
		{"toplevel", checkTopLevel},
		{"folders", checkFolders},
		{"sleep", checkSleep},
		{"init", checkInit},
		{"globals", checkGlobals},
	} {
		for _, p := range rule.check(t) {
			p.Rule = rule.name
			all = append(all, p)
		}
	}
	return all
}

// matches tells whether dir is named by pattern: a folder, or "folder/..." for it and all below.
func matches(pattern, dir string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == below || strings.HasPrefix(dir, below+"/")
	}
	return pattern == "..." || pattern == dir
}

func anyMatches(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, dir) })
}
