package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A fence is a fenced block of README.
type fence struct {
	line int // of its first line of text
	lang string
	text string
}

// span is README's inline code.
var span = regexp.MustCompile("`([^`]+)`")

// readme returns README's blocks, and its other lines by number with the blocks left empty.
func readme(t *testing.T) (fences []fence, prose []string) {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var in *fence
	for i, line := range strings.Split(string(b), "\n") {
		lang, border := strings.CutPrefix(line, "```")
		prose = append(prose, "")
		switch {
		case border && in == nil:
			in = &fence{line: i + 2, lang: lang}
		case border:
			fences, in = append(fences, *in), nil
		case in != nil:
			in.text += line + "\n"
		default:
			prose[i] = line
		}
	}
	if in != nil {
		t.Fatalf("README:%d: a block without end", in.line)
	}
	return fences, prose
}

func inLanguage(t *testing.T, fences []fence, lang string) []fence {
	t.Helper()
	out := slices.DeleteFunc(slices.Clone(fences), func(f fence) bool { return f.lang != lang })
	if len(out) == 0 {
		t.Fatalf("README has no block in %q", lang)
	}
	return out
}

// README's Go is what go vet has nothing against, in a module that requires this one: each
// block, followed by the values in the text behind it.
func TestReadmeGo(t *testing.T) {
	fences, prose := readme(t)
	value := regexp.MustCompile(`^(sockets|http)\.\w+\{.*\}$`)
	packages := []string{"context", "errors", "fmt", "io", "log", "net", "net/http", "github.com/btns-go/btns/sockets"}
	blocks := inLanguage(t, fences, "go")
	for i, f := range blocks {
		end := len(prose)
		if i+1 < len(blocks) {
			end = blocks[i+1].line
		}
		body := f.text
		for _, m := range span.FindAllStringSubmatch(strings.Join(prose[f.line:end], "\n"), -1) {
			if value.MatchString(m[1]) {
				body += fmt.Sprintf("_ = &%s\n", m[1])
			}
		}
		src := "package main\n\n"
		for _, p := range packages {
			if regexp.MustCompile(`\b` + path.Base(p) + `\.`).MatchString(body) {
				src += fmt.Sprintf("import %q\n", p)
			}
		}
		vet(t, f.line, src+"\nfunc main() {\n"+body+"}\n")
	}
}

// vet has go vet look at a program outside of this module.
func vet(t *testing.T, line int, src string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	// All that we require at the versions we have: nothing is looked for elsewhere.
	const ours = "github.com/btns-go/btns"
	theirs := strings.Replace(string(mod), "module "+ours, "module readme", 1) +
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %q\n", ours, ours, root)
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": src, "go.mod": theirs, "go.sum": string(sum)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-mod=mod", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("README:%d: go vet: %v\n%s\n%s", line, err, out, src)
	}
}

// README's configuration is what btns check has nothing against: its blocks, and the keys
// with a value in its text.
func TestReadmeConfig(t *testing.T) {
	fences, prose := readme(t)
	files := inLanguage(t, fences, "yaml")
	for i, line := range prose {
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			if regexp.MustCompile(`^\w+: [{\["]`).MatchString(m[1]) {
				files = append(files, fence{line: i + 1, text: m[1] + "\n"})
			}
		}
	}
	for _, f := range files {
		dir := t.TempDir()
		for _, m := range regexp.MustCompile(`file: ([\w.]+)`).FindAllStringSubmatch(f.text, -1) {
			if err := os.WriteFile(filepath.Join(dir, m[1]), []byte("0sMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY="), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		name := filepath.Join(dir, "btns.yaml")
		if err := os.WriteFile(name, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := command(t.Context(), "check", "-c", name); err != nil || !strings.HasSuffix(out, ": good\n") || f.lang == "yaml" && strings.Contains(out, "warning") {
			t.Errorf("README:%d: %v\n%s%s", f.line, err, out, f.text)
		}
	}
}

// README's commands and those of the package comment are there, and have the flags; and
// each command is in README's table.
func TestReadmeCommands(t *testing.T) {
	fences, prose := readme(t)
	type mention struct {
		at   string
		args string
	}
	var all []mention
	tabled := map[string]bool{}
	for _, f := range fences {
		for i, line := range strings.Split(f.text, "\n") {
			if m := regexp.MustCompile(`^(?:go run \./cmd/btns|podman run .* btns|bwrap .* /btns|btns) (.*)$`).FindStringSubmatch(line); m != nil && f.lang == "" {
				all = append(all, mention{fmt.Sprintf("README:%d", f.line+i), m[1]})
			}
		}
	}
	for i, line := range prose {
		at, first := fmt.Sprintf("README:%d", i+1), ""
		if strings.HasPrefix(line, "| `btns ") {
			first, _, _ = strings.Cut(line[1:], "|") // names several: `btns initiate`, `terminate`
			line = line[len(first)+1:]
		}
		for _, m := range span.FindAllStringSubmatch(first, -1) {
			args := strings.TrimPrefix(m[1], "btns ")
			tabled[strings.Fields(args)[0]] = true
			all = append(all, mention{at, args})
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			if args, ok := strings.CutPrefix(m[1], "btns "); ok {
				all = append(all, mention{at, args})
			}
		}
	}
	src, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^//\tbtns (.*?)(?:  |$)`).FindAllStringSubmatch(string(src), -1) {
		all = append(all, mention{"main.go", m[1]})
	}
	if len(all) < 2*len(root().Commands())-4 {
		t.Errorf("found only %d commands", len(all))
	}
	for _, m := range all {
		if err := known(strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(m.args))); err != nil {
			t.Errorf("%s: btns %s: %v", m.at, m.args, err)
		}
	}
	for _, c := range root().Commands() {
		if !c.Hidden && !tabled[c.Name()] {
			t.Errorf("README's table lacks btns %s", c.Name())
		}
	}
}

// known tells whether there is such a command with such flags. An argument may be missing:
// a text that names a command does not call it.
func known(args []string) error {
	cmd, rest, err := root().Find(args)
	if err != nil {
		return err
	}
	if !cmd.HasParent() {
		return errors.New("no command")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if rest = cmd.Flags().Args(); len(rest) > 0 {
		return cmd.ValidateArgs(rest)
	}
	return nil
}
