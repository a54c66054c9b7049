package gate

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// Offsets in the IKE header (RFC 7296, Section 3.1). The gate reads it in place: a flood must not
// cost a parsed header each.
const (
	offSPIr     = 8
	offNext     = 16
	offVersion  = 17
	offExchange = 18
	offFlags    = 19
	offMsgID    = 20
	offLength   = 24
	headerLen   = 28
)

// Classify says what to do with the datagram b that arrived along path. b is borrowed for the
// call and starts at the IKE header, without a non-ESP marker.
func (g *Gate) Classify(now time.Time, path Path, b []byte) Verdict {
	v := g.classify(now, path, b)
	switch v.Kind {
	case Drop, Reply, Hint:
		g.stats.count[v.Reason]++
	case Existing:
		g.stats.Existing++
		if v.Retransmit {
			g.stats.Retransmits++
		}
	case NewResponder:
		g.stats.Responders++
	}
	return v
}

func drop(r Reason) Verdict { return Verdict{Reason: r} }

func (g *Gate) classify(now time.Time, path Path, b []byte) Verdict {
	if len(b) < headerLen {
		return drop(ReasonShort)
	}
	if !answerable(path) {
		return drop(ReasonSource)
	}
	if uint64(binary.BigEndian.Uint32(b[offLength:])) != uint64(len(b)) {
		return drop(ReasonLength)
	}
	if spi, ok := hinted(b); ok {
		return Verdict{Kind: Hint, Reason: ReasonHint, SPI: spi}
	}
	flags := wire.Flags(b[offFlags])
	spii, spir := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[offSPIr:])
	if spii == 0 { // RFC 7296, Section 3.1: MUST NOT be zero, so nothing can answer it
		return drop(ReasonZeroSPI)
	}
	switch major := b[offVersion] >> 4; {
	case major < 2:
		return drop(ReasonOldVersion)
	case major > 2 && flags.Response():
		return drop(ReasonResponse)
	case major > 2:
		// RFC 7296, Section 2.5: drop, and SHOULD name the version we speak.
		return g.refuse(now, path, b, wire.NotifyInvalidMajorVersion, ReasonInvalidVersion)
	}

	// The Initiator flag says which of the SPIs is ours (RFC 7296, Section 2.6).
	ours, theirs := Key{spii, true}, Key{spir, false}
	if flags.Initiator() {
		ours, theirs = Key{spir, false}, Key{spii, true}
	}
	if ours.SPI != 0 {
		if _, ok := g.byKey[ours]; ok {
			return Verdict{Kind: Existing, Key: ours}
		}
	}
	if _, ok := g.byKey[theirs]; ok && theirs.SPI != 0 {
		return drop(ReasonReflected)
	}
	if flags.Response() {
		return drop(ReasonResponse) // RFC 7296, Section 2.21.4: MUST NOT respond
	}
	exchange := wire.ExchangeType(b[offExchange])
	if exchange == wire.ExchangeIKESAInit {
		return g.classifyInit(now, path, b, spii, spir, flags)
	}
	return g.classifyUnknown(now, path, b, spir, exchange)
}

// classifyInit handles an IKE_SA_INIT request.
func (g *Gate) classifyInit(now time.Time, path Path, b []byte, spii, spir uint64, flags wire.Flags) Verdict {
	switch {
	case !flags.Initiator():
		return drop(ReasonExchange)
	case spir != 0:
		return drop(ReasonInitSPI)
	case binary.BigEndian.Uint32(b[offMsgID:]) != 0:
		return drop(ReasonInitMessageID)
	case len(b) > maxInit:
		return drop(ReasonInitSize)
	}
	from := initKey{spii, path.Remote}
	if i, digest := g.findInit(from, b); i != none {
		s := &g.slots[i]
		if s.done {
			return drop(ReasonLate)
		}
		return Verdict{Kind: Existing, Key: s.key, Retransmit: true}
	} else if req, reason := scanInit(b); reason != ReasonNone {
		return drop(reason)
	} else {
		return g.admit(now, path, spii, req, ticket{path: path, spii: spii, digest: digest, hashed: digest != [32]byte{}}, b)
	}
}

// admit decides whether a well-formed request of a stranger may start a responder.
func (g *Gate) admit(now time.Time, path Path, spii uint64, req initRequest, t ticket, b []byte) Verdict {
	g.initRate.refill(now)
	addr, prefix := source(path.Remote)
	if g.needCookie(addr, prefix) && !g.cookies.check(now, req.cookie, spii, addr, req.nonce) {
		return g.demandCookie(now, b, spii, addr, req.nonce)
	}
	if r := g.room(addr, prefix); r != ReasonNone {
		return drop(r)
	}
	if !g.initRate.take() {
		return drop(ReasonBusy)
	}
	t.fill(b)
	return Verdict{Kind: NewResponder, SPIi: spii, ticket: t}
}

// needCookie tells whether strangers from addr must show that they can receive: when half-open
// SAs are many in all, when new responders start too fast, or when half of addr's own share is
// used, so that forged requests never use up the share of the address they name.
func (g *Gate) needCookie(addr netip.Addr, prefix netip.Prefix) bool {
	return g.busy() ||
		g.initRate.low() ||
		2*int(g.perAddr[addr]) >= g.cfg.MaxPerAddr ||
		2*int(g.perPrefix[prefix]) >= g.cfg.MaxPerPrefix
}

// busy tells whether so many SAs are half-open that cookies are demanded of everybody.
func (g *Gate) busy() bool { return g.waiting.n+g.queued >= g.cfg.CookieThreshold }

// room names the cap that stands in the way of one more half-open SA, or ReasonNone.
func (g *Gate) room(addr netip.Addr, prefix netip.Prefix) Reason {
	switch {
	case g.waiting.n >= g.cfg.MaxHalfOpen:
		return ReasonFull
	case int(g.perAddr[addr]) >= g.cfg.MaxPerAddr:
		return ReasonAddrFull
	case int(g.perPrefix[prefix]) >= g.cfg.MaxPerPrefix:
		return ReasonPrefixFull
	}
	return ReasonNone
}

// classifyUnknown handles a request outside any SA that is not IKE_SA_INIT.
func (g *Gate) classifyUnknown(now time.Time, path Path, b []byte, spir uint64, exchange wire.ExchangeType) Verdict {
	switch exchange {
	case wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational,
		wire.ExchangeIKEIntermediate, wire.ExchangeIKEFollowupKE:
	default:
		return drop(ReasonExchange)
	}
	if spir == 0 {
		return drop(ReasonExchange)
	}
	// RFC 7296, Section 1.5: only "an encrypted IKE request" is worth an answer. An unprotected
	// INFORMATIONAL would make two confused nodes answer each other.
	switch wire.PayloadType(b[offNext]) {
	case wire.PayloadEncrypted, wire.PayloadEncryptedFragment:
	default:
		return drop(ReasonClear)
	}
	return g.refuse(now, path, b, wire.NotifyInvalidIKESPI, ReasonInvalidIKESPI)
}

// answerable tells whether a datagram's source can be a peer. Replies to anything else would
// go to ourselves or to many.
func answerable(p Path) bool {
	a := p.Remote.Addr()
	return a.IsValid() && p.Remote.Port() != 0 && p.Remote != p.Local &&
		!a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
