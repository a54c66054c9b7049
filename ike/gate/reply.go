package gate

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// notifyLen is a Notify payload without SPI and data (RFC 7296, Section 3.10).
const notifyLen = 8

// appendNotify writes into g.reply the unprotected answer to b: one Notify payload in a message
// that copies b's SPIs, exchange type and Message ID (RFC 7296, Sections 1.5 and 2.21.4). The
// version we speak stands in the header (Section 3.10.1). The Initiator flag is turned over.
func (g *Gate) appendNotify(b []byte, t wire.NotifyType, data int) []byte {
	out := append(g.reply[:0], b[:headerLen]...)
	out[offNext] = byte(wire.PayloadNotify)
	out[offVersion] = 0x20
	out[offFlags] = byte(wire.FlagResponse | (^wire.Flags(b[offFlags]) & wire.FlagInitiator))
	binary.BigEndian.PutUint32(out[offLength:], uint32(headerLen+notifyLen+data))
	out = append(out, 0, 0, 0, byte(notifyLen+data), 0, 0)
	return binary.BigEndian.AppendUint16(out, uint16(t))
}

// demandCookie answers an IKE_SA_INIT request with a COOKIE. It is not rate limited: a legitimate
// initiator behind a flood needs it, it keeps nothing, and it is shorter than the request.
func (g *Gate) demandCookie(now time.Time, b []byte, spii uint64, addr netip.Addr, nonce []byte) Verdict {
	if len(b) < headerLen+notifyLen+1+cookieMAC {
		return drop(ReasonAmplifies)
	}
	out := g.appendNotify(b, wire.NotifyCookie, 1+cookieMAC)
	g.reply = g.cookies.appendCookie(out, now, spii, addr, nonce)
	return Verdict{Kind: Reply, Reason: ReasonCookie, Reply: g.reply}
}

// refuse answers b with an error, if strangers have not had their share of answers.
func (g *Gate) refuse(now time.Time, path Path, b []byte, t wire.NotifyType, why Reason) Verdict {
	if len(b) < headerLen+notifyLen {
		return drop(ReasonAmplifies)
	}
	if !g.answers.allow(now, path.Remote.Addr()) {
		return drop(ReasonRateLimited)
	}
	g.reply = g.appendNotify(b, t, 0)
	return Verdict{Kind: Reply, Reason: why, Reply: g.reply}
}

// answerLimit spends error answers: a bucket for all, a gap per source. The table of sources has
// a fixed size and a keyed hash, so that nobody can choose whose slot is taken.
type answerLimit struct {
	all  bucket
	key  [2]uint64
	last [answerSlots]time.Time
}

func (l *answerLimit) allow(now time.Time, a netip.Addr) bool {
	ip := a.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(ip[:])^l.key[0], binary.BigEndian.Uint64(ip[8:])^l.key[1])
	last := &l.last[(hi^lo)%answerSlots]
	if !last.IsZero() && now.Sub(*last) < answerGap {
		return false
	}
	l.all.refill(now)
	if !l.all.take() {
		return false
	}
	*last = now
	return true
}

// bucket is a token bucket on virtual time. Tokens are counted in nanoseconds of one token's
// worth, so nothing is lost to rounding.
type bucket struct {
	cost, have, max time.Duration
	at              time.Time
}

func newBucket(rate, burst int, now time.Time) bucket {
	cost := time.Second / time.Duration(rate)
	return bucket{cost: cost, have: cost * time.Duration(burst), max: cost * time.Duration(burst), at: now}
}

func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.have, b.at = min(b.have+min(d, b.max), b.max), now
	}
}

func (b *bucket) take() bool {
	if b.have < b.cost {
		return false
	}
	b.have -= b.cost
	return true
}

// low tells whether less than half is left.
func (b *bucket) low() bool { return b.have < b.max/2 }
