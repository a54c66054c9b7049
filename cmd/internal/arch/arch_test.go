package arch

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestTree reads the tree this file is in.
func TestTree(t *testing.T) {
	tree, err := Load(os.DirFS(moduleRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Check(tree) {
		t.Error(p)
	}
	t.Logf("%d packages", len(tree.Packages))
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// parts are what else a package comment says.
const parts = "// It owns nothing, is safe for concurrent use and has no limits.\n"

// good is the smallest tree that has nothing wrong with it.
func good() fstest.MapFS {
	fsys := fstest.MapFS{
		"go.mod":     text("module example.org/m\n\ngo 1.26\n"),
		"go.sum":     text(""),
		"README.md":  text("# m\n"),
		"LICENSE":    text("Apache\n"),
		".gitignore": text("/btns\n*.test\n/.cache/\n# x\n"),
	}
	for _, dir := range folders() {
		name := path.Base(dir)
		src := "// Package " + name + " is here.\n" + parts + "package " + name + "\n"
		if dir == "cmd/btns" {
			src = "// Command btns is here.\npackage main\n"
		}
		fsys[dir+"/"+name+".go"] = text(src)
	}
	return fsys
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func problems(t *testing.T, fsys fs.FS) []Problem {
	t.Helper()
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return Check(tree)
}

func TestGoodTree(t *testing.T) {
	for _, p := range problems(t, good()) {
		t.Error(p)
	}
}

// TestEveryRuleTurnsRed breaks the good tree in one way at a time and wants exactly that found.
func TestEveryRuleTurnsRed(t *testing.T) {
	for name, tc := range map[string]struct {
		file, src string // added, or replaced; without source: removed
		rule      string // empty: nothing is wrong
		says      string
	}{
		"ike imports esp":                {"ike/x.go", `package ike; import _ "example.org/m/esp"`, "imports", "ike imports esp"},
		"ike imports esp/sad":            {"ike/x.go", `package ike; import _ "example.org/m/esp/sad"`, "imports", "ike imports esp/sad"},
		"ike imports netstack":           {"ike/x.go", `package ike; import _ "example.org/m/netstack"`, "imports", "ike imports netstack"},
		"ike imports ike/auth":           {"ike/x.go", `package ike; import _ "example.org/m/ike/auth"`, "imports", "ike imports ike/auth"},
		"latch imports ike":              {"latch/x.go", `package latch; import _ "example.org/m/ike"`, "imports", "latch imports ike"},
		"latch imports netstack":         {"latch/x.go", `package latch; import _ "example.org/m/netstack"`, "imports", "latch imports netstack"},
		"a leaf imports":                 {"esp/ts/x.go", `package ts; import _ "example.org/m/esp"`, "imports", "esp/ts imports esp"},
		"wire imports suite":             {"ike/wire/x.go", `package wire; import _ "example.org/m/ike/suite"`, "imports", "ike/wire imports ike/suite"},
		"netstack imports latch":         {"netstack/x.go", `package netstack; import _ "example.org/m/latch"`, "imports", "netstack imports latch"},
		"upwards":                        {"tun/x.go", `package tun; import _ "example.org/m/sockets"`, "imports", "tun imports sockets"},
		"upwards from a test":            {"tun/x_test.go", `package tun; import _ "example.org/m/sockets"`, "imports", "tun imports sockets"},
		"engine imports a double":        {"sockets/internal/engine/x.go", `package engine; import _ "example.org/m/tun/tuntest"`, "imports", "tun/tuntest"},
		"bench imports cmd":              {"bench/x.go", `package bench; import _ "example.org/m/cmd/internal/interop"`, "imports", "bench imports cmd"},
		"a package without a row":        {"esp/util/util.go", "// Package util is new.\n" + parts + "package util", "imports", "no row"},
		"a row allows it":                {"ike/x.go", `package ike; import _ "example.org/m/ike/suite"`, "", ""},
		"a test imports its room":        {"ike/x_test.go", `package ike; import _ "example.org/m/ike/auth"`, "", ""},
		"a test imports a double":        {"netstack/x_test.go", `package netstack_test; import _ "example.org/m/tun/tuntest"`, "", ""},
		"a test of sockets imports ike":  {"sockets/x_test.go", `package sockets_test; import _ "example.org/m/ike"`, "", ""},
		"a test of sockets imports cmd":  {"sockets/x_test.go", `package sockets_test; import _ "example.org/m/cmd/internal/arch"`, "imports", "cmd/internal/arch"},
		"a counter in the interop tests": {"cmd/internal/interop/x.go", `package interop; var n int`, "", ""},
		"cmd imports what it wants":      {"cmd/btns/x.go", `package main; import _ "example.org/m/sockets/internal/engine"`, "", ""},
		"gVisor in latch":                {"latch/x.go", `package latch; import _ "gvisor.dev/gvisor/pkg/tcpip"`, "outside", "gvisor.dev/gvisor/pkg/tcpip"},
		"gVisor in a test":               {"sockets/x_test.go", `package sockets; import _ "gvisor.dev/gvisor/pkg/tcpip"`, "outside", "only netstack"},
		"gVisor in netstack":             {"netstack/x.go", `package netstack; import _ "gvisor.dev/gvisor/pkg/tcpip"`, "", ""},
		"unix in sockets":                {"sockets/x.go", `package sockets; import _ "golang.org/x/sys/unix"`, "outside", "x/sys/unix"},
		"unix in esp on linux":           {"esp/x_linux.go", `package esp; import _ "golang.org/x/sys/unix"`, "outside", "x/sys/unix"},
		"unix in tun/udp":                {"tun/udp/x.go", `package udp; import _ "golang.org/x/sys/unix"`, "", ""},
		"cobra in sockets":               {"sockets/x.go", `package sockets; import _ "github.com/spf13/cobra"`, "outside", "cobra"},
		"a clock in ike":                 {"ike/x.go", `package ike; import "time"; func f() time.Time { return time.Now() }`, "pure", "time.Now"},
		"a timer in ike/gate":            {"ike/gate/x.go", `package gate; import "time"; func f() { time.AfterFunc(0, nil) }`, "pure", "time.AfterFunc"},
		"a goroutine in esp":             {"esp/x.go", `package esp; func f() { go f() }`, "pure", "goroutine"},
		"a file in ike":                  {"ike/x.go", `package ike; import _ "os"`, "pure", "imports os"},
		"math/rand in ike":               {"ike/x.go", `package ike; import _ "math/rand/v2"`, "random", "math/rand/v2"},
		"math/rand in a test":            {"ike/x_test.go", `package ike; import _ "math/rand/v2"`, "", ""},
		"math/rand in a simulator":       {"ike/iketest/x.go", `package iketest; import _ "math/rand/v2"`, "", ""},
		"a clock in a test":              {"ike/x_test.go", `package ike; import "time"; func f() time.Time { return time.Now() }`, "", ""},
		"a variable named time":          {"ike/x.go", `package ike; func f(time interface{ Now() }) { time.Now() }`, "", ""},
		"two package comments":           {"esp/x.go", "// Package esp again.\n" + parts + "package esp", "comment", "2 package comments"},
		"a comment without ownership":    {"esp/esp.go", "// Package esp is known to be safe for concurrent use, without limits.\npackage esp", "comment", `does not say "own"`},
		"a comment without concurrency":  {"esp/esp.go", "// Package esp owns nothing, without limits.\npackage esp", "comment", `does not say "concurren"`},
		"a comment without limits":       {"esp/esp.go", "// Package esp owns nothing and is for concurrent use.\npackage esp", "comment", `does not say "limit"`},
		"a tool without them":            {"cmd/internal/arch/arch.go", "// Package arch tests.\npackage arch", "", ""},
		"no package comment":             {"esp/esp.go", "package esp", "comment", "0 package comments"},
		"a licence as package comment":   {"esp/esp.go", "// SPDX-License-Identifier: Apache-2.0\n" + parts + "package esp", "comment", "does not begin"},
		"a build line is no comment":     {"esp/x.go", "//go:build linux\n\npackage esp", "", ""},
		"a comment in a test package":    {"esp/x_test.go", "// Package esp_test tests.\npackage esp_test", "", ""},
		"another name than the folder's": {"esp/x.go", "package protect", "name", "package protect in folder esp"},
		"1,001 lines":                    {"esp/x.go", "package esp\n" + strings.Repeat("//\n", 1000), "lines", "1001 lines"},
		"1,001 lines of test":            {"esp/x_test.go", "package esp\n" + strings.Repeat("//\n", 1000), "lines", "1001 lines"},
		"1,000 lines":                    {"esp/x.go", "package esp\n" + strings.Repeat("//\n", 999), "", ""},
		"a tenth folder":                 {"docs/index.md", "x", "toplevel", "does not belong"},
		"a file at the top":              {"Makefile", "x", "toplevel", "does not belong"},
		"a dotfile":                      {".golangci.yml", "x", "", ""},
		"a built binary":                 {"btns", "x", "", ""},
		"a test binary":                  {"esp.test", "x", "", ""},
		"an ignored folder":              {".cache/x.go", "not Go", "", ""},
		"no README":                      {"README.md", "", "toplevel", "is missing"},
		"a missing folder":               {"sockets/pins/pins.go", "", "folders", "sockets/pins"},
		"a sleeping test":                {"tun/x_test.go", `package tun; import "time"; func f() { time.Sleep(1) }`, "sleep", "time.Sleep"},
		"a sleeping test in a bubble":    {"tun/x_test.go", `package tun; import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, "", ""},
		"a sleeping interop test":        {"cmd/internal/interop/swan/x_test.go", `package swan; import "time"; func f() { time.Sleep(1) }`, "", ""},
		"an init function":               {"tokens/x.go", `package tokens; func init() {}`, "init", "func init"},
		"a method called init":           {"tokens/x.go", `package tokens; type t int; func (t) init() {}`, "", ""},
		"a counter":                      {"tokens/x.go", `package tokens; var n int`, "globals", "n has no value"},
		"a mutex":                        {"tokens/x.go", `package tokens; import "sync"; var mu sync.Mutex`, "globals", "mu is of package sync"},
		"a once":                         {"tokens/x.go", `package tokens; import "sync"; var f = sync.OnceValue(func() int { return 1 })`, "globals", "f is of package sync"},
		"an atomic":                      {"tokens/x.go", `package tokens; import "sync/atomic"; var p = atomic.Pointer[int]{}`, "globals", "p is of package sync"},
		"a cache":                        {"tokens/x.go", `package tokens; var m = make(map[string]int)`, "globals", "m is made to be changed"},
		"a pointer":                      {"tokens/x.go", `package tokens; var p = &struct{ n int }{}`, "globals", "p is a pointer"},
		"a sentinel and a table":         {"tokens/x.go", `package tokens; import "errors"; var ( ErrX = errors.New("x"); names = []string{"a"} )`, "", ""},
		"an interface check":             {"tokens/x.go", `package tokens; var _ interface{ F() } = (*t)(nil); type t int; func (*t) F() {}`, "", ""},
		"an embedded file":               {"tokens/x.go", "package tokens\nimport _ \"embed\"\n//go:embed x.txt\nvar page string", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := maps.Clone(good())
			if tc.src == "" {
				delete(fsys, tc.file)
			} else {
				fsys[tc.file] = text(tc.src)
			}
			got := problems(t, fsys)
			if tc.rule == "" {
				for _, p := range got {
					t.Error(p)
				}
				return
			}
			if len(got) != 1 || got[0].Rule != tc.rule || !strings.Contains(got[0].String(), tc.says) {
				t.Errorf("found %v, want one problem of rule %q with %q", got, tc.rule, tc.says)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	if _, err := Load(fstest.MapFS{}); err == nil {
		t.Error("a tree without go.mod was loaded")
	}
	fsys := good()
	fsys["esp/x.go"] = text("package esp; func {")
	if _, err := Load(fsys); err == nil || !strings.Contains(err.Error(), "esp/x.go") {
		t.Errorf("a file that does not parse: %v", err)
	}
}

// TestPolicyIsConsistent finds rows that contradict DESIGN's arrows or name nothing.
func TestPolicyIsConsistent(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range importTable() {
		if seen[row.pkg] {
			t.Errorf("two rows for %s", row.pkg)
		}
		seen[row.pkg] = true
	}
	for _, dir := range folders() {
		found := false
		for _, row := range importTable() {
			found = found || matches(row.pkg, dir)
		}
		if !found {
			t.Errorf("no row for %s", dir)
		}
	}
}
