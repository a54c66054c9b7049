package udp

import (
	"errors"
	"syscall"
)

// Winsock's numbers, which package syscall does not map to its own.
const (
	errAccess   = syscall.Errno(10013) // WSAEACCES
	errMsgSize  = syscall.Errno(10040) // WSAEMSGSIZE
	errInUse    = syscall.Errno(10048) // WSAEADDRINUSE
	errNotAvail = syscall.Errno(10049) // WSAEADDRNOTAVAIL
	errNetReset = syscall.Errno(10052) // WSAENETRESET
	errReset    = syscall.Errno(10054) // WSAECONNRESET
)

// transient reports whether a read error is about an earlier packet of ours: Windows
// returns what ICMP said about it.
func transient(err error) bool {
	return errors.Is(err, errReset) || errors.Is(err, errNetReset) || errors.Is(err, errMsgSize)
}
