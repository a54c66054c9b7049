//go:build linux

package interop_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// readmeLines returns the lines of the only block of README that has a line with the word.
func readmeLines(t *testing.T, word string) []string {
	t.Helper()
	b, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```\\w*\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		if strings.Contains(m[1], word) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks of README have %q in them, want 1", len(found), word)
	}
	return strings.Split(strings.TrimSpace(found[0]), "\n")
}

// checkout is a copy of the source that a test may build in.
func checkout(t *testing.T) string {
	t.Helper()
	const root = "../../.."
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())
		switch {
		case e.Name() == ".git" || e.Name() == "btns":
		case e.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		default:
			var b []byte
			if b, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sh runs lines as README's reader does, except that builds share the cache of others.
func sh(t *testing.T, dir string, lines ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(lines, "\n"))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(lines, "\n"), err, out)
	}
	return string(out)
}

// README's lines for a root with nothing in it do what it says, and leave nothing in the
// checkout that does not belong there.
func TestReadmeEmptyRoot(t *testing.T) {
	interop.Need(t, "bwrap")
	dir := checkout(t)
	before := fileNames(t, dir)
	out := sh(t, dir, readmeLines(t, "bwrap")...)
	if !strings.HasSuffix(out, "Everything held.\n") {
		t.Errorf("it printed:\n%s", out)
	}
	left := slices.DeleteFunc(fileNames(t, dir), func(n string) bool { return slices.Contains(before, n) })
	if !slices.Equal(left, []string{"btns"}) { // which .gitignore knows
		t.Errorf("left in the checkout: %s", left)
	}
}

// A containerImage is what a Containerfile makes.
type containerImage struct {
	root       string
	user       string
	entrypoint []string
	cmd        []string
}

// containerBuild follows a Containerfile of the few instructions that ours has. A file that
// needs more has to be built by what knows them.
func containerBuild(t *testing.T, context, file string) (img containerImage) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(context, file))
	if err != nil {
		t.Fatal(err)
	}
	img.root = filepath.Join(interop.Dir(t), "root")
	if err := os.Mkdir(img.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		args := strings.Fields(rest)
		var err error
		switch {
		case instruction == "" || strings.HasPrefix(instruction, "#"):
		case instruction == "FROM" && rest == "scratch":
		case instruction == "COPY" && len(args) == 2:
			err = copyFile(filepath.Join(context, args[0]), filepath.Join(img.root, args[1]))
		case instruction == "USER":
			img.user = rest
		case instruction == "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &img.entrypoint)
		case instruction == "CMD":
			err = json.Unmarshal([]byte(rest), &img.cmd)
		default:
			err = errors.New("not known here")
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", file, strings.TrimSpace(line), err)
		}
	}
	return img
}

// copyFile keeps the mode; the owner is who copies.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Chmod(fi.Mode().Perm()), dst.Close())
}

// TestContainerfile does what README's lines for a container do, as far as that goes without
// a container runtime: the first one is run, the image is made of what it left, and its
// entrypoint runs in a root that is nothing else, as the user that the image names and with
// what README's flags leave it.
func TestContainerfile(t *testing.T) {
	interop.Need(t, "bwrap", "setpriv")
	lines := readmeLines(t, "podman")
	if len(lines) != 3 {
		t.Fatalf("README's lines for a container are %q", lines)
	}
	build := regexp.MustCompile(`^podman build -f (\S+) -t (\S+) \.$`).FindStringSubmatch(lines[1])
	if build == nil {
		t.Fatalf("README: %s", lines[1])
	}
	// Each flag stands for something that caged does.
	run := regexp.MustCompile(`^podman run --rm --read-only --cap-drop=all --security-opt=no-new-privileges (\S+)(.*)$`).FindStringSubmatch(lines[2])
	if run == nil || run[1] != build[2] {
		t.Fatalf("README: %s", lines[2])
	}
	dir := checkout(t)
	sh(t, dir, lines[0])
	img := containerBuild(t, dir, build[1])
	if img.user != "65534:65534" {
		t.Errorf("the image's user is %q, not the one without rights", img.user)
	}
	for _, args := range [][]string{strings.Fields(run[2]), img.cmd} {
		cmd := caged(t, img.root, []string{"--unshare-all"}, append(img.entrypoint, args...)...)
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "Everything held.\n") {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	// The file repeats README's lines.
	b, err := os.ReadFile(filepath.Join(dir, build[1]))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(string(b), "#   "+line+"\n") {
			t.Errorf("%s does not say: %s", build[1], line)
		}
	}
}
