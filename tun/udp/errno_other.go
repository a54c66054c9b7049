//go:build !windows

package udp

import "syscall"

const (
	errInUse    = syscall.EADDRINUSE
	errAccess   = syscall.EACCES
	errNotAvail = syscall.EADDRNOTAVAIL
)

// transient reports whether a read error is about an earlier packet of ours.
func transient(error) bool { return false }
