// Package conformance keeps the promise that a requirement this release claims has a test that
// carries its number: LATCH-n of RFC 5660, BTNS-n of RFC 5386, ADV-… of the adversarial lists, and
// CVE-… or ROW-n of the record of mistakes that others made.
//
// # Use
//
// A test says what it proves in its name (TestLATCH_12_ParametersStay or TestLATCH12_ParametersStay,
// TestADV_A14_A15_Chains, TestCVE_2018_16151_LaxPadding, TestROW_49_TableWalked) or, for a row of a
// table, in a string that begins with the number ("ADV-E6 not asked for"). [Scan] collects them from
// the tree, [Compare] compares them with the lists in claims.go, [CompareRecord] with the rows in
// record.go. Numbers that no list has are typing errors, and fail.
//
// A number in a name is a pointer, not a proof: whether the test does what its row says is for
// its reader to judge.
//
// Functions keep nothing and share nothing, and what they return is the caller's. There is no
// limit: the tree is our own.
package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Covered maps each ID to the tests that carry it, as file:name.
type Covered map[string][]string

// Scan reads all test files below fsys.
func Scan(fsys fs.FS) (Covered, error) {
	found := Covered{}
	fset := token.NewFileSet()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			// This package's own tests are full of examples.
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || strings.HasSuffix(name, "internal/conformance")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found.scan(name, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	return found, nil
}

// scan collects the IDs of one file.
func (c Covered) scan(file string, f *ast.File) {
	add := func(ids []string, where string) {
		for _, id := range ids {
			if at := file + ":" + where; !slices.Contains(c[id], at) {
				c[id] = append(c[id], at)
			}
		}
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !isTest(fn.Name.Name) {
			continue
		}
		name := fn.Name.Name
		add(idsOfName(name), name)
		if fn.Body == nil {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					add(idsOfText(s), name)
				}
			}
			return true
		})
	}
}

func isTest(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
}

// idsOfName reads TestADV_A14_A15_Chains as ADV-A14 and ADV-A15: after a list's name come its
// numbers, then words, or another list's name.
func idsOfName(name string) (ids []string) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(name, "Test"), "Fuzz"), "_")
	list := ""
	for i := 0; i < len(parts); i++ {
		p := parts[i]
		switch {
		case p == "ADV" || p == "LATCH" || p == "BTNS" || p == "ROW":
			list = p
		case cutDigits(p, "LATCH") || cutDigits(p, "BTNS"): // LATCH12, BTNS6
			list = strings.TrimRight(p, "0123456789")
			ids = append(ids, list+"-"+p[len(list):])
		case p == "CVE" && i+2 < len(parts) && number(parts[i+1]) && number(parts[i+2]):
			ids = append(ids, "CVE-"+parts[i+1]+"-"+parts[i+2])
			i += 2
		case list == "ADV" && advRow(p), list != "" && list != "ADV" && number(p):
			ids = append(ids, list+"-"+p)
		default:
			list = ""
		}
	}
	return ids
}

// cutDigits tells whether s is list and a number.
func cutDigits(s, list string) bool {
	n, ok := strings.CutPrefix(s, list)
	return ok && number(n)
}

func number(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func advRow(s string) bool { return len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && number(s[1:]) }

// idsOfText reads the IDs at the beginning of a string: "ADV-E6 not granted", "LATCH-3, LATCH-5: x".
func idsOfText(s string) (ids []string) {
	id := regexp.MustCompile(`^(ADV-[A-Z]\d+|LATCH-\d+|BTNS-\d+|ROW-\d+|CVE-\d{4}-\d+)\b[ ,/:;]*`)
	for {
		m := id.FindStringSubmatch(s)
		if m == nil {
			return ids
		}
		ids = append(ids, m[1])
		s = s[len(m[0]):]
	}
}

// Report is what a comparison of tests and claims found.
type Report struct {
	Missing []string // claimed, without a test
	Unknown []string // in a test, in no list: a typing error
	Spare   []string // tested, not claimed: a candidate
	Counts  []Count  // per list
}

// Count says how far a list is covered.
type Count struct {
	List                   string
	Covered, Claimed, Size int
}

// Compare checks tests against lists and claims.
func Compare(c Covered, lists []List, claims []string) (Report, error) {
	var r Report
	claimed := map[string]bool{}
	known := map[string]bool{}
	for _, l := range lists {
		for _, id := range l.ids() {
			known[id] = true
		}
	}
	for _, s := range claims {
		ids, err := expand(s)
		if err != nil {
			return r, err
		}
		for _, id := range ids {
			if !known[id] || claimed[id] {
				return r, fmt.Errorf("conformance: the claim %s is in no list, or twice", id)
			}
			claimed[id] = true
			if len(c[id]) == 0 {
				r.Missing = append(r.Missing, id)
			}
		}
	}
	for id := range c {
		switch {
		case strings.HasPrefix(id, "CVE-"), strings.HasPrefix(id, "ROW-"): // CompareRecord's
		case !known[id]:
			r.Unknown = append(r.Unknown, fmt.Sprintf("%s in %s", id, strings.Join(c[id], ", ")))
		case !claimed[id]:
			r.Spare = append(r.Spare, id)
		}
	}
	for _, l := range lists {
		n := Count{List: l.name()}
		for _, id := range l.ids() {
			n.Size++
			if claimed[id] {
				n.Claimed++
			}
			if len(c[id]) > 0 {
				n.Covered++
			}
		}
		r.Counts = append(r.Counts, n)
	}
	slices.SortFunc(r.Missing, byNumber)
	slices.Sort(r.Unknown)
	slices.SortFunc(r.Spare, byNumber)
	return r, nil
}

// expand reads "ADV-A3-A16" and "LATCH-2-5" as all from the first to the last, "ADV-A1" as itself.
func expand(s string) ([]string, error) {
	bad := fmt.Errorf("conformance: the claim %q is not written as ID or ID-last", s)
	m := regexp.MustCompile(`^(ADV-[A-Z]|LATCH-|BTNS-)(\d+)(?:-([A-Z]?)(\d+))?$`).FindStringSubmatch(s)
	if m == nil || m[4] != "" && !strings.HasSuffix(m[1], m[3]) {
		return nil, bad
	}
	first, _ := strconv.Atoi(m[2])
	last := first
	if m[4] != "" {
		last, _ = strconv.Atoi(m[4])
	}
	if last < first || last > 1000 {
		return nil, bad
	}
	var ids []string
	for n := first; n <= last; n++ {
		ids = append(ids, m[1]+strconv.Itoa(n))
	}
	return ids, nil
}

// byNumber sorts ADV-A2 before ADV-A10.
func byNumber(a, b string) int {
	split := func(s string) (string, int) {
		i := strings.LastIndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) + 1
		n, _ := strconv.Atoi(s[i:])
		return s[:i], n
	}
	la, na := split(a)
	lb, nb := split(b)
	if la != lb {
		return strings.Compare(la, lb)
	}
	return na - nb
}
