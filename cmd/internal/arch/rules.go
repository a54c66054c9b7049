package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"unicode"
)

// checkImports applies the import table. Tests may import their own room and test doubles too.
func checkImports(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		i := slices.IndexFunc(importTable(), func(m may) bool { return matches(m.pkg, p.Dir) })
		if i < 0 {
			ps = append(ps, Problem{Path: p.Dir, Text: "the import table has no row for this package"})
			continue
		}
		row := importTable()[i]
		room, _, _ := strings.Cut(p.Dir, "/")
		for _, f := range p.Files {
			for _, imp := range f.Imports {
				of, ours := strings.CutPrefix(imp, t.Module+"/")
				if !ours || of == p.Dir {
					continue
				}
				ok := anyMatches(row.imports, of) && !anyMatches(row.never, of)
				if f.Test {
					ok = ok || matches(room+"/...", of) || anyMatches(testDoubles(), of) || anyMatches(testRooms()[room], of)
				}
				if !ok {
					ps = append(ps, Problem{Path: f.Path, Text: fmt.Sprintf("%s imports %s: not in the import table, which is policy", p.Dir, of)})
				}
			}
		}
	}
	return ps
}

// checkOutside keeps foreign packages where they belong.
func checkOutside(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, imp := range f.Imports {
				for _, o := range outsideTable() {
					if (imp == o.prefix || strings.HasPrefix(imp, o.prefix+"/")) && !anyMatches(o.only, p.Dir) {
						ps = append(ps, Problem{Path: f.Path, Text: fmt.Sprintf("imports %s, which only %s may", imp, strings.Join(o.only, ", "))})
					}
				}
			}
		}
	}
	return ps
}

// checkRandom keeps predictable numbers away from secrets.
func checkRandom(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, imp := range f.Imports {
				if !f.Test && strings.HasPrefix(imp, "math/rand") && anyMatches(secretive(), p.Dir) && !slices.Contains(testDoubles(), p.Dir) {
					ps = append(ps, Problem{Path: f.Path, Text: "imports " + imp + " where numbers must not be guessed"})
				}
			}
		}
	}
	return ps
}

// checkPure looks for clocks, goroutines and the system in packages that have none.
func checkPure(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		if !slices.Contains(pure(), p.Dir) {
			continue
		}
		for _, f := range p.Files {
			if f.Test {
				continue
			}
			for _, imp := range f.Imports {
				if slices.Contains(pureNever(), imp) || imp == "os" && !slices.Contains(pureOS(), p.Dir) {
					ps = append(ps, Problem{Path: f.Path, Text: "a pure package imports " + imp})
				}
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					ps = append(ps, Problem{Path: t.at(n), Text: "a pure package starts a goroutine"})
				case *ast.SelectorExpr:
					if isTime(f, n) && slices.Contains(clockCalls(), n.Sel.Name) {
						ps = append(ps, Problem{Path: t.at(n), Text: "a pure package uses time." + n.Sel.Name})
					}
				}
				return true
			})
		}
	}
	return ps
}

// isTime tells whether s selects from package time.
func isTime(f *File, s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "time" && slices.Contains(f.Imports, "time")
}

func (t *Tree) at(n ast.Node) string {
	pos := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

// commentParts are what a package comment has to speak of, by the beginnings of words that each
// way to say it has: who owns memory, what may be called at once, and limits.
func commentParts() []string { return []string{"own", "concurren", "limit"} }

// words splits a text so that "own" does not begin where "known" ends.
func words(text string) string {
	return " " + strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }), " ")
}

// checkComments wants exactly one package comment, in the form godoc has and with all its
// parts. Commands, and what is below cmd and for tests only, are nobody's to call.
func checkComments(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		var where []string
		code := false
		for _, f := range p.Files {
			if strings.HasSuffix(f.AST.Name.Name, "_test") {
				continue
			}
			if !f.Test {
				code = true
			}
			if f.AST.Doc == nil {
				continue
			}
			where = append(where, f.Path)
			want := "Package " + f.AST.Name.Name + " "
			if f.AST.Name.Name == "main" {
				want = "Command " + path.Base(p.Dir) + " "
			}
			if !strings.HasPrefix(f.AST.Doc.Text(), want) {
				ps = append(ps, Problem{Path: f.Path, Text: fmt.Sprintf("the package comment does not begin with %q", want)})
			}
			if strings.HasPrefix(p.Dir, "cmd/") {
				continue
			}
			text := words(f.AST.Doc.Text())
			for _, part := range commentParts() {
				if !strings.Contains(text, " "+part) {
					ps = append(ps, Problem{Path: f.Path, Text: fmt.Sprintf("the package comment does not say %q…: ownership, concurrency and limits belong there", part)})
				}
			}
		}
		if code && len(where) != 1 {
			ps = append(ps, Problem{Path: p.Dir, Text: fmt.Sprintf("%d package comments, want one %v", len(where), where)})
		}
	}
	return ps
}

// checkNames wants packages named like their folder.
func checkNames(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			name := strings.TrimSuffix(f.AST.Name.Name, "_test")
			if name != path.Base(p.Dir) && name != "main" {
				ps = append(ps, Problem{Path: f.Path, Text: "package " + name + " in folder " + p.Dir})
			}
		}
	}
	return ps
}

func checkLines(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			if f.Lines > maxLines {
				ps = append(ps, Problem{Path: f.Path, Text: fmt.Sprintf("%d lines, more than %d: split it", f.Lines, maxLines)})
			}
		}
	}
	return ps
}

func checkTopLevel(t *Tree) (ps []Problem) {
	allowed := slices.Clone(topFiles())
	for _, f := range topFolders() {
		allowed = append(allowed, f+"/")
	}
	for _, name := range t.Root {
		if !slices.Contains(allowed, name) && !strings.HasPrefix(name, ".") {
			ps = append(ps, Problem{Path: name, Text: "does not belong at the top level"})
		}
	}
	for _, name := range allowed {
		if !slices.Contains(t.Root, name) {
			ps = append(ps, Problem{Path: name, Text: "is missing at the top level"})
		}
	}
	return ps
}

func checkFolders(t *Tree) (ps []Problem) {
	for _, dir := range folders() {
		if !slices.ContainsFunc(t.Packages, func(p *Package) bool { return matches(dir+"/...", p.Dir) }) {
			ps = append(ps, Problem{Path: dir, Text: "DESIGN names this folder; it holds no Go file"})
		}
	}
	return ps
}

// checkSleep finds unit tests that wait on the real clock.
func checkSleep(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			if !f.Test || slices.Contains(f.Imports, "testing/synctest") || excused(maySleep(), f.Path) {
				continue
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && isTime(f, s) && s.Sel.Name == "Sleep" {
					ps = append(ps, Problem{Path: t.at(n), Text: "time.Sleep in a unit test; pass the time, or use testing/synctest"})
				}
				return true
			})
		}
	}
	return ps
}

// excused tells whether name has a row in a list of exceptions.
func excused(list map[string]string, name string) bool {
	for pattern := range list {
		if matches(pattern, name) {
			return true
		}
	}
	return false
}

func checkInit(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, d := range f.AST.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					ps = append(ps, Problem{Path: t.at(fn), Text: "func init"})
				}
			}
		}
	}
	return ps
}

// checkGlobals finds package variables that can only be meant to change: without a value, made,
// newed, or of package sync. Tables, errors and interface checks pass.
func checkGlobals(t *Tree) (ps []Problem) {
	for _, p := range t.Packages {
		if excused(mayVary(), p.Dir) {
			continue
		}
		for _, f := range p.Files {
			if f.Test {
				continue
			}
			for _, d := range f.AST.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					if why := mutable(v); why != "" && v.Names[0].Name != "_" && !embedded(g, v) {
						ps = append(ps, Problem{Path: t.at(v), Text: fmt.Sprintf("package variable %s %s", v.Names[0].Name, why)})
					}
				}
			}
		}
	}
	return ps
}

func mutable(v *ast.ValueSpec) string {
	if ofSync(v.Type) {
		return "is of package sync"
	}
	if len(v.Values) == 0 {
		return "has no value"
	}
	for _, e := range v.Values {
		switch e := e.(type) {
		case *ast.CallExpr:
			if id, ok := e.Fun.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
				return "is made to be changed"
			}
			if ofSync(e.Fun) {
				return "is of package sync"
			}
		case *ast.CompositeLit:
			if ofSync(e.Type) {
				return "is of package sync"
			}
		case *ast.UnaryExpr:
			if e.Op == token.AND {
				return "is a pointer to something"
			}
		}
	}
	return ""
}

// ofSync tells whether e names something in sync or sync/atomic.
func ofSync(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && (x.Name == "sync" || x.Name == "atomic")
	case *ast.IndexExpr:
		return ofSync(e.X)
	}
	return false
}

// embedded tells whether a go:embed directive gives the variable its value.
func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
			return true
		}
	}
	return false
}
