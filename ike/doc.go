// Package ike is the IKEv2 key manager's core: one IKE SA as one pure machine
// (RFC 7296).
package ike
