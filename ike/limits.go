package ike

import (
	"time"

	"github.com/btns-go/btns/ike/wire"
)

const (
	// DefaultHalfOpenLife outlasts our own schedule of requests (at most 300 s), so
	// that a responder still knows an initiator whose last IKE_AUTH got through. The
	// gate shortens it under load.
	DefaultHalfOpenLife = 310 * time.Second

	// DefaultMaxChildren bounds what one peer can make us keep (ADV-E11). Gateways
	// with one child SA per pair of subnets have tens.
	DefaultMaxChildren = 256

	// maxSends and maxTotal bound the schedule of one request: RFC 7296, Section
	// 2.4 suggests a dozen sends over several minutes.
	maxSends = 13
	maxTotal = 300 * time.Second

	defaultInitial = 500 * time.Millisecond
	defaultFactor  = 1.55 // 13 sends in 270 s

	// defaultDPDTimeout is nine sends of the default schedule: a peer that has lost its
	// SAs is not coming back to them, so there is no use in minutes.
	defaultDPDTimeout = 45 * time.Second

	// suspectSends is how often a request is sent before the peer is a suspect, 4.3 s by
	// default: what is lost on the way, or a busy peer, is seen less often than that.
	suspectSends = 4

	// doubtGap is the least time between two liveness checks of one SA that
	// unauthenticated hints ask for (RFC 7296, Section 2.21.4). hintSilence is how long the
	// peer must have been silent for a hint to make it a suspect: who is heard lives.
	doubtGap    = 10 * time.Second
	hintSilence = time.Second

	// keepaliveGap is how long nothing may go out through a NAT in front of us: RFC 3948,
	// Section 4, has 20 s.
	keepaliveGap = 20 * time.Second

	// initGrace is how long an initiator goes on after the first unauthenticated
	// refusal of its IKE_SA_INIT, and initRefusals how many it wants to have seen:
	// a forged one loses against the true response (RFC 7296, Section 2.21.1).
	initGrace    = 10 * time.Second
	initRefusals = 3

	// maxResponses bounds the responses to one IKE_SA_INIT that are followed (RFC 7296,
	// Section 2.4): each costs a key agreement and a signature. initAgainSends is how often
	// IKE_AUTH is sent, 7 s, before IKE_SA_INIT is sent again beside it.
	maxResponses   = 4
	initAgainSends = 5

	// maxInstantRetries bounds the retries of an IKE_SA_INIT that are sent at once
	// because of a COOKIE or an INVALID_KE_PAYLOAD. Later ones wait for the
	// schedule: forged answers can't make us send faster (ADV-C3, ADV-C4). An honest
	// responder needs at most three.
	maxInstantRetries = 4

	// maxCookie is the longest cookie (RFC 7296, Section 2.6).
	maxCookie = 64

	// maxUnverified bounds the different refusals reported per handshake.
	maxUnverified = 4

	// maxHashAlgs bounds what is kept of SIGNATURE_HASH_ALGORITHMS; the registry
	// has fewer than ten (ADV-B25).
	maxHashAlgs = 32

	// maxPeerCerts bounds the CERT payloads of a peer that are handed on.
	maxPeerCerts = 16

	// maxQueue bounds the commands that wait for their turn. The window is one
	// request, so a silent peer makes them pile up.
	maxQueue = 128

	// createBurst is how many CREATE_CHILD_SA requests a peer has worked on at once, before
	// it is told TEMPORARY_FAILURE: all child SAs that it may have made, and rekeyed. Then
	// one in every createGap: at 0.3 ms each a peer costs 3 % of a core, and one that makes
	// an SA for each of its connections opens a hundred a second (RFC 8019, Section 5).
	createBurst = 2 * DefaultMaxChildren
	createGap   = 10 * time.Millisecond

	// requestBurst and requestGap are the same for requests of any kind, those that need
	// little but an answer. What is beyond is dropped unread, and so waits for the peer's
	// retransmission: RFC 8019's artificial delay.
	requestBurst = 2 * createBurst
	requestGap   = 5 * time.Millisecond

	// maxGone bounds the unknown SPIs remembered from Deletes that come while a
	// CREATE_CHILD_SA request is out; an honest peer deletes one it just made.
	maxGone = 64

	// retryFirst and retryMost bound the wait before a request that was answered with
	// TEMPORARY_FAILURE, or a rekeying that failed, is tried again, and before a
	// reauthentication is asked for again; half of it at least, one and a half at most.
	// refusedMost is how long nothing but TEMPORARY_FAILURE is taken (RFC 7296, Section
	// 2.25: several minutes).
	retryFirst  = 4 * time.Second
	retryMost   = 60 * time.Second
	refusedMost = 4 * time.Minute
	refusedGap  = 2 * retryMost // what is further apart has nothing to do with each other

	// replacedLife is how long a rekeyed IKE SA waits for the peer's Delete: longer than
	// the peer can go on sending it.
	replacedLife = 310 * time.Second

	// redundantLife is how long a new IKE SA that lost against ours waits for the peer's
	// Delete. A peer that has forgotten its exchange sends none.
	redundantLife = 90 * time.Second

	// defaultFragmentSize passes every IPv6 path whole (RFC 8200), and nearly every
	// IPv4 path; minFragmentSize is what every IPv4 path takes (RFC 7383, Section 2.5.1,
	// has 576), with room for small ones.
	defaultFragmentSize = 1280
	minFragmentSize     = 256

	// maxFragments bounds the fragments of a message, maxFragmented their octets, and
	// maxFragmentedEarly those before the peer is authenticated: a chain of
	// certificates, or a post-quantum key, has less (ADV-G7). fragmentsLife covers
	// several retransmissions.
	maxFragments       = 128
	maxFragmented      = wire.MaxMessage
	maxFragmentedEarly = 32 << 10
	fragmentsLife      = 60 * time.Second

	// lingerLife is how long a finished SA stays to repeat its last answer. It
	// covers the first six sends of the default schedule, more than strongSwan
	// makes in that time.
	lingerLife = 15 * time.Second

	// maxMessageID is where an IKE SA is closed, long before its message IDs wrap
	// (RFC 7296, Section 2.2; ADV-F4).
	maxMessageID = 1<<32 - 1<<10

	// rekeyMessageID is where it is rekeyed, with time for many attempts.
	rekeyMessageID = 1<<32 - 1<<20

	// minAuthLifetime is how long an authentication lasts at the least, whatever
	// AUTH_LIFETIME says: every new SA may bring one, and a peer that wants next to none
	// would have us authenticate without end. RFC 4478, Section 5, calls less than 300 s
	// unreasonable, but peers are configured so.
	minAuthLifetime = 5 * time.Second

	// lastReauth is how close to its end an SA is not authenticated anew any more: four
	// messages and the work in them take about as long.
	lastReauth = 500 * time.Millisecond

	// nonceLen is enough for every PRF: at least half its key (RFC 7296, Section
	// 2.10), 32 octets for HMAC-SHA2-512.
	nonceLen = 32

	// minSPI is the first child SPI that is not reserved (RFC 4303, Section 2.1).
	minSPI = 256
)
