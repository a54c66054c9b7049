// Package outer is the wire over a TUN device.
package outer
