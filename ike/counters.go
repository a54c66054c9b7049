package ike

import "sync/atomic"

// Drop says why a datagram changed nothing.
type Drop uint8

// The reasons. The zero Drop means that none was given and is never counted.
const (
	DropShort     Drop = 1 + iota // no whole header
	DropVersion                   // major version not 2
	DropLength                    // header length is not the datagram's
	DropSPI                       // not this SA's SPIs
	DropDirection                 // Initiator flag of our own role: a reflection
	DropState                     // no such message in this state
	DropNoKeys                    // protected, but there are no keys yet
	DropBusy                      // its request, or the one before, is still being worked on
	DropLate                      // an IKE_SA_INIT message after its time
	DropEarly                     // a request from a peer that is not authenticated yet
	DropUnasked                   // response to no request of ours
	DropWindow                    // message ID outside the window
	DropRepeat                    // request seen before that is not bit-identical or has no answer any more
	DropSyntax                    // does not parse, unauthenticated
	DropClear                     // payloads in clear where none belong, or no SK payload
	DropFragment                  // SKF: not negotiated, or does not fit what is being collected
	DropICV                       // integrity check failed
	DropAddress                   // IKE_SA_INIT response from another address than asked
	DropSelection                 // IKE_SA_INIT response selects what was not offered
	DropReflected                 // IKE_SA_INIT response repeats our own values
	DropKE                        // public value refused
	DropNotify                    // unauthenticated notify, remembered or ignored
	DropClosed                    // the SA is closed
	DropPace                      // the peer asks more than it may
)

const dropCount = int(DropPace) + 1

// String returns a short text.
func (d Drop) String() string {
	names := [...]string{
		DropShort: "short", DropVersion: "version", DropLength: "length", DropSPI: "spi",
		DropDirection: "direction", DropState: "state", DropNoKeys: "no-keys", DropBusy: "busy",
		DropLate: "late", DropEarly: "early", DropUnasked: "unasked", DropWindow: "window",
		DropRepeat: "repeat", DropSyntax: "syntax", DropClear: "clear", DropFragment: "fragment",
		DropICV: "icv", DropAddress: "address", DropSelection: "selection",
		DropReflected: "reflected", DropKE: "ke", DropNotify: "notify", DropClosed: "closed",
		DropPace: "pace",
	}
	if d == 0 || int(d) >= len(names) {
		return "invalid"
	}
	return names[d]
}

// Counters are shared by the machines of a Config. All methods may be called
// concurrently. The zero value is ready.
type Counters struct {
	drops [dropCount]atomic.Uint64

	// Requests, Responses count messages sent for the first time.
	Requests, Responses atomic.Uint64
	// Resends counts requests and responses sent again.
	Resends atomic.Uint64
	// Verified counts received messages whose integrity was verified.
	Verified atomic.Uint64
	// Panics counts recovered panics. It must stay zero.
	Panics atomic.Uint64
}

// Dropped returns how often datagrams were dropped for this reason.
func (c *Counters) Dropped(d Drop) uint64 {
	if int(d) >= dropCount {
		return 0
	}
	return c.drops[d].Load()
}

// ByReason returns how many datagrams were dropped, by the reasons that occurred.
func (c *Counters) ByReason() map[string]uint64 {
	out := map[string]uint64{}
	for i := range c.drops {
		if n := c.drops[i].Load(); n > 0 {
			out[Drop(i).String()] = n
		}
	}
	return out
}

// Drops returns how many datagrams were dropped in all.
func (c *Counters) Drops() uint64 {
	var n uint64
	for i := range c.drops {
		n += c.drops[i].Load()
	}
	return n
}
