// Package gate decides what happens to an IKE datagram before an IKE SA exists: which SA it
// belongs to, whether it may start one, whether its sender must first show that it can receive
// (RFC 7296, Section 2.6), and what a stranger is told (RFC 7296, Sections 1.5, 2.5 and 2.21.4).
//
// # Use
//
// The engine gives every received IKE datagram to [Gate.Classify] and does what the [Verdict]
// says. [Existing] names the SA by the SPI this host chose for it. [NewResponder] asks for a new
// responder; once its first answer is a full one the engine calls [Gate.Open] with the SPI, and
// [Gate.Establish] when IKE_AUTH is done. A stateless refusal (NO_PROPOSAL_CHOSEN,
// INVALID_KE_PAYLOAD) opens nothing. [Gate.Add] registers SAs this host initiated and SAs made by
// rekeying. [Gate.Remove] ends all of them. [Gate.Expire] hands back half-open SAs that never
// authenticated; [Gate.Deadline] says when to ask.
//
// # Purity
//
// A Gate has no clock, socket, goroutine or randomness of its own: the time is an argument, the
// cookie secret comes from the reader given to [New]. Times must not run backwards.
//
// # Concurrency
//
// A Gate is not safe for concurrent use; the engine holds one lock around it. [Gate.Stats] too.
//
// # Ownership
//
// The datagram is borrowed for the call. [Verdict.Reply] is the gate's own buffer, valid until
// the next call of Classify.
//
// # Limits
//
// All are in limits.go with a reason each. A dropped or stateless datagram allocates nothing,
// and answers to strangers are never longer than what they answer (invariant I12).
package gate

import (
	"io"
	"net/netip"
	"time"
)

// Path is the outer address pair of a datagram, as the wire saw it.
type Path struct{ Local, Remote netip.AddrPort }

// Key names an IKE SA by the SPI this host chose for it, and by who started the SA: an
// initiator's SPI and a responder's SPI are different name spaces (RFC 7296, Section 2.6).
type Key struct {
	SPI       uint64 // never zero
	Initiator bool   // this host is the SA's original initiator: SPI is the header's first
}

// Kind is what to do with a datagram. The zero Kind is Drop.
type Kind uint8

// The kinds of verdict.
const (
	Drop         Kind = iota // nothing; Verdict.Reason says why
	Existing                 // give it to the IKE SA Verdict.Key
	NewResponder             // start a responder for it, then Open
	Reply                    // send Verdict.Reply back along the path, keep nothing
	Hint                     // somebody says that the path's remote does not have the child SA Verdict.SPI
)

// Verdict is the answer of [Gate.Classify].
type Verdict struct {
	Kind       Kind
	Reason     Reason // why it was dropped, or what Reply says
	Key        Key    // Existing: the SA
	Retransmit bool   // Existing: a bit-identical copy of the IKE_SA_INIT request that opened Key
	SPIi       uint64 // NewResponder: the initiator's SPI
	SPI        uint32 // Hint: of a child SA, as we put it into packets
	Reply      []byte // Reply: the whole datagram, valid until the next Classify

	ticket ticket // NewResponder: what Open remembers of the request
}

// Gate is the state before SAs exist. Make one with [New].
type Gate struct {
	cfg Config
	core
}

// New returns a gate. The zero Config has the defaults of limits.go. random gives the cookie
// secrets; an error is its error.
func New(cfg Config, random io.Reader, now time.Time) (*Gate, error) {
	g := &Gate{cfg: cfg.withDefaults()}
	if err := g.init(random, now); err != nil {
		return nil, err
	}
	return g, nil
}
