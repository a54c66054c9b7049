//go:build !windows

package auth

import "io/fs"

// readableByOthers tells whether group or world may read a file.
func readableByOthers(mode fs.FileMode) bool { return mode.IsRegular() && mode.Perm()&0o044 != 0 }
