//go:build !linux

package control

import "net"

// checkPeer relies on the socket's mode and its directory's where the system has
// no portable way to tell the peer's uid.
func checkPeer(*net.UnixConn) error { return nil }
