//go:build !linux

package outer

// setUp leaves the interface to whoever owns the host.
func setUp(string) error { return nil }
