//go:build unix

package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// CVE-2025-9615 is about one user in another's place: who owns the directory of a socket could
// answer instead of it.
func TestDirectoryOfAnotherUser(t *testing.T) {
	for _, tt := range []struct {
		uid, own int
		ok       bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}} {
		if err := ownedBy("/tmp/x", tt.uid, tt.own); (err == nil) != tt.ok {
			t.Errorf("directory of %d, host of %d: %v", tt.uid, tt.own, err)
		}
	}
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		return // cannot give a directory away
	}
	if err := os.Chown(dir, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if s, err := Listen(filepath.Join(dir, "control")); err == nil {
		_ = s.Close()
		t.Error("listens in another user's directory")
	} else if !strings.Contains(err.Error(), "belongs to uid 65534") {
		t.Error(err)
	}
}
