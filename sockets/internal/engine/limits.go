package engine

import (
	"time"

	"github.com/btns-go/btns/ike/gate"
)

const (
	// maxKnownBytes bounds received datagrams for SAs that wait for the keyer: a quarter of a
	// second of its work, or a large message of every peer in a thousand. maxShare is how many
	// of them may be of one SA: a message in fragments, and its retransmission.
	maxKnownBytes = 4 << 20
	maxShare      = 64

	// maxFresh bounds requests for new SAs that wait for the keyer: twice those from which the
	// gate demands cookies, so that who has shown that it can receive finds room.
	maxFresh = 2 * gate.DefaultCookieThreshold

	// maxStrays is how many datagrams of nobody's SA are remembered to be told of until the
	// keyer does so; of more than that nothing but their number is.
	maxStrays = 16

	// knownTurn and freshTurn are what the keyer does of both before it looks at timers and
	// calls again: a few milliseconds.
	knownTurn = 64
	freshTurn = 16

	// maxChildrenPerPeer bounds child SAs of one identity over all its IKE SAs
	// (RFC 8019, Section 5): a narrow SA per connection and thousands of connections fit.
	maxChildrenPerPeer = 16384

	// maxSAsPerPeer bounds IKE SAs of one identity that came to us: a group of clients that
	// share one name and key fits.
	maxSAsPerPeer = 4096

	// maxSilentSends is how often a request is sent to an address that has not made an SA
	// while the peer has another: the four sends take 4 s, so that a dial of 30 s gets to the sixth address.
	maxSilentSends = 4

	// longestWait bounds the wait between two sends of a request: a peer that comes back
	// after minutes is found within it. The 13 sends then take 160 s.
	longestWait = 30 * time.Second

	// suspectGap is how often an IKE SA, or those that follow it, may be made anew because
	// the peer is suspected to have lost it. Hints can be forged: it bounds what they cost.
	suspectGap = time.Minute

	// retryFirst and retryMost bound the wait before a child SA that is to be up is tried
	// again; it doubles. Whatever the reason was, an operator may mend it at the other end.
	retryFirst = 5 * time.Second
	retryMost  = 2 * time.Minute

	// maxStrangers bounds IKE SAs with anonymous peers that came to us, maxStrangerChildren
	// the child SAs of all of them: one each, another while it is rekeyed, and as many again
	// for who needs more. That is some 250 MiB.
	maxStrangers        = 16384
	maxStrangerChildren = 4 * maxStrangers

	// eventBuffer is how many events wait for a reader: a restart of a host with 100 peers,
	// at half a KiB each.
	eventBuffer = 1024

	// strangerBurst and strangerGap bound what strangers can put into the log and into
	// events: for each kind ten at once, and one more each second. An operator sees that
	// something is wrong, and with whom; Status has the numbers.
	strangerBurst = 10
	strangerGap   = time.Second

	// closeGrace is how long Close waits for peers to answer a Delete.
	closeGrace = time.Second

	// twinLook is when a new IKE SA is compared with others of its peer, and how often:
	// what began with it has come about by then, or is late and waits a little more.
	// twinInsists is how long the peer has to end the one that it initiated, with time for
	// four sends of its Delete, and how long either may take to get the children of the
	// other. twinWindow is longer than IKE_SA_INIT is repeated (at most 300 s): one that was
	// sent before the other end's SA was up may come as late as that.
	twinLook    = 500 * time.Millisecond
	twinInsists = 8 * time.Second
	twinWindow  = 5 * time.Minute

	// yieldPause is how long an SA that yields stays as it is after we have ceased to send
	// under it. A peer may take longer to decrypt what has come than to answer a Delete.
	yieldPause = 500 * time.Millisecond

	// resolveTimeout bounds the look-up of a peer's outer host name.
	resolveTimeout = 10 * time.Second
)
