package datapath

import (
	"time"

	"github.com/btns-go/btns/tun"
)

const (
	// maxBatch is how many ESP packets are sealed and sent at once: a 64 KiB super-packet in segments of 536 bytes, or a
	// datagram of 65,507 bytes in fragments of 576.
	maxBatch = 128
	// arenaSize holds maxBatch packets of up to 1,280 bytes with their room, or a super-packet in segments of 1,400, or one
	// packet of the largest size.
	arenaSize = 192 << 10
	// slotAlign keeps the packets of an arena on cache lines of their own.
	slotAlign = 64
	// maxESP is the longest ESP packet that IPv4 and UDP can carry (RFC 768; RFC 791, Section 3.1).
	maxESP = tun.MaxPacket - 20 - 8

	// minMTU4 and minMTU6 are the smallest inner packets that everything must take (RFC 791, Section 3.2; RFC 8200,
	// Section 5). If the wire's MTU allows less, the outer packet is fragmented.
	minMTU4 = 576
	minMTU6 = 1280

	// receiveBatch is how many packets are received at once if the wire does not say.
	receiveBatch = 64
	// maxReceiveBatch bounds what a wire may say: each packet takes a buffer of 64 KiB.
	maxReceiveBatch = 128
	// receiveRetry is the pause after an error of the wire that is not its end.
	receiveRetry = 10 * time.Millisecond

	// ESP packets that came before their SA. maxEarlyOfSPI is what a peer sends that has a stream under way, as after it was
	// authenticated anew, until we have verified its answer: 60 ms at 100 Mbit/s. maxEarly and maxEarlyBytes bound those of
	// all SPIs, as those of first packets are. Within earlyLifetime an answer that was lost comes again: our request is
	// repeated three times.
	maxEarlyOfSPI = 512
	maxEarly      = 4096
	maxEarlyBytes = 4 << 20
	earlyLifetime = 3 * time.Second

	// lateness is how long packets are taken under a child that another has replaced, and maxRetired bounds those children:
	// more are removed at once.
	lateness   = 500 * time.Millisecond
	maxRetired = 1024

	// strangerGap is how often Config.UnknownSPI is called at most: more than the engine answers.
	strangerGap = 20 * time.Millisecond

	// silence is how long packets leave under a child, and none comes, before Config.Silent: longer than a request waits for
	// its answer. lull is how long there must have been none for that to begin.
	silence = 5 * time.Second
	lull    = time.Second

	// maxMerges is how many flows of one batch are coalesced side by side.
	maxMerges = 8
	// maxMerged bounds an injected packet: what an IPv4 total length can say.
	maxMerged = 65535

	// Reassembly, for each SA: enough for a burst of datagrams of the largest size over several flows; and for all SAs
	// together. A datagram whose fragments were refused is remembered for as long as one that is incomplete.
	maxDatagrams     = 64
	maxReasmBytes    = 1 << 20
	maxReasmBytesAll = 32 << 20
	maxFragments     = 1024 // of one datagram: 65,535 bytes in the smallest fragments that make sense
	reasmLifetime    = 15 * time.Second

	// maxEmbryos bounds connections that peers began and nobody accepted yet, maxPeerEmbryos those of one peer: netstack's
	// default backlog. embryoGrace is how long one without a socket may last after its SYN: a handshake that uses a SYN
	// cookie has none.
	maxEmbryos     = 32768
	maxPeerEmbryos = 4096
	embryoGrace    = 30 * time.Second

	// tickInterval is how often expiry is looked at.
	tickInterval = time.Second
	// maxSendErrors is how many packets of a batch the wire may refuse before the rest is not tried.
	maxSendErrors = 4
)
