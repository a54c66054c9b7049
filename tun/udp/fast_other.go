//go:build !linux

package udp

// startFast reports that this system has only the plain implementation.
func (w *Wire) startFast(*Config) (bool, error) { return false, nil }
