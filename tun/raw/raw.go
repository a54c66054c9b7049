// Package raw is the wire over raw protocol-50 sockets.
package raw
