package auth

import "io/fs"

// readableByOthers knows nothing: access control lists are not in the mode.
func readableByOthers(fs.FileMode) bool { return false }
