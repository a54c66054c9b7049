//go:build unix

package control

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a directory of another user, who could put a socket of his own in the
// place of ours, sticky bit or not.
func checkOwner(dir string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("control: %s: its owner is not known", dir)
	}
	return ownedBy(dir, int(st.Uid), os.Geteuid())
}

func ownedBy(dir string, uid, own int) error {
	if uid != 0 && uid != own {
		return fmt.Errorf("control: %s belongs to uid %d, not to us (%d) or root", dir, uid, own)
	}
	return nil
}
