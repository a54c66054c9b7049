// Package auth makes and checks the proof of identity in IKE_AUTH: the AUTH payload over the
// octets of RFC 7296, Section 2.15, with a pre-shared key, or with a signature as RFC 7427
// (method 14; Ed25519 as RFC 8420) and RFC 4754 (methods 9 and 10) describe. It reads and writes
// the keys themselves: SubjectPublicKeyInfo for raw public keys (RFC 7670), PEM files.
//
// # Use
//
// [Sign] and [PSKAuth] make the data of an AUTH payload, [Verify] and [VerifyPSK] check it. Which
// key or secret belongs to which identity is not known here: that is ike/pad. A public key is
// compared, pinned and named by the bytes of its SubjectPublicKeyInfo, so [ParseSPKI] accepts one
// encoding per key and nothing else.
//
// # Strictness
//
// An AlgorithmIdentifier is accepted if it equals, octet for octet, one that RFC 7427, Appendix A
// or RFC 4055 allows; there is no ASN.1 parser to confuse. SHA-1 is refused always, and so is a
// hash that this host did not announce (RFC 7427, Section 4: the peer "MUST pick" one of those).
// RSA keys are verified with (2048 to 8192 bits), not signed with.
//
// # Errors
//
// A refusal is an [*Error]; on the wire it is AUTHENTICATION_FAILED, whatever the reason. Errors
// about keys and files are sentences for the operator.
//
// # Concurrency, ownership
//
// Functions keep nothing they are given and share no state. A returned slice is the caller's.
//
// # Limits
//
// All are in limits.go. Every check is bounded by them before any arithmetic on a peer's numbers.
package auth

import (
	"fmt"

	"github.com/btns-go/btns/ike/wire"
)

// Reason says why an AUTH payload was refused. The zero Reason is the plain one.
type Reason uint8

// The reasons of an [Error].
const (
	ReasonWrong    Reason = iota // the MAC or the signature is not right
	ReasonMethod                 // an authentication method that is not acceptable here
	ReasonEncoding               // not the encoding that the method has
	ReasonHash                   // a hash that is too weak or that was not announced
	ReasonKey                    // a key that the method cannot be used with
)

// String returns the reason in a word.
func (r Reason) String() string {
	switch r {
	case ReasonWrong:
		return "wrong"
	case ReasonMethod:
		return "method"
	case ReasonEncoding:
		return "encoding"
	case ReasonHash:
		return "hash"
	case ReasonKey:
		return "key"
	}
	return "invalid"
}

// Error is a refused AUTH payload, or one that cannot be made for this peer.
type Error struct {
	Reason Reason
	Method wire.AuthMethod
	Detail string // for the operator; never sent
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("auth: %v: %s", e.Method, e.Detail) }

// Code is the notification that a peer gets for it (RFC 7296, Section 2.21.2).
func (e *Error) Code() wire.NotifyType { return wire.NotifyAuthenticationFailed }

func refuse(r Reason, m wire.AuthMethod, format string, args ...any) error {
	return &Error{Reason: r, Method: m, Detail: fmt.Sprintf(format, args...)}
}
