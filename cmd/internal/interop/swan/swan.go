// Package swan runs strongSwan's charon on a host of package interop, with ESP in user
// space (its kernel-libipsec): tunnel mode in UDP, which needs nothing of the kernel but a
// TUN device.
//
// Concurrency and ownership: a Daemon is its test's; the test's cleanup ends it. Limits:
// those of package interop.
package swan
