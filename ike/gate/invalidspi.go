package gate

import (
	"encoding/binary"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// This file is INVALID_SPI outside an IKE SA (RFC 7296, Section 1.5): a host that was
// restarted tells those who still send ESP to it, and takes such a message for the hint that
// it is. It has no IKE SPIs, is no part of an exchange, and is never answered.

// hintLen is the length of such a message: one Notify payload with a child SA's SPI.
const hintLen = headerLen + notifyLen + 4

// nonESPMarker goes with it on the wire (RFC 3948, Section 2.2).
const nonESPMarker = 4

// InvalidSPI says what to answer to an ESP packet of size octets in UDP whose SPI this host
// neither has nor had: one that it has ended a moment ago may still be on its way. Nothing
// is due to a packet without UDP, whose sender may not have IKE at a port we could know.
func (g *Gate) InvalidSPI(now time.Time, path Path, spi uint32, size int) Verdict {
	v := g.invalidSPI(now, path, spi, size)
	g.stats.count[v.Reason]++
	return v
}

func (g *Gate) invalidSPI(now time.Time, path Path, spi uint32, size int) Verdict {
	switch {
	case !answerable(path):
		return drop(ReasonSource)
	case size < hintLen+nonESPMarker:
		return drop(ReasonAmplifies)
	case !g.answers.allow(now, path.Remote.Addr()):
		return drop(ReasonRateLimited)
	}
	// RFC 7296, Section 1.5: zero for both SPIs, Initiator set, Response not.
	out := append(g.reply[:0], make([]byte, headerLen)...)
	out[offNext] = byte(wire.PayloadNotify)
	out[offVersion] = 0x20
	out[offExchange] = byte(wire.ExchangeInformational)
	out[offFlags] = byte(wire.FlagInitiator)
	binary.BigEndian.PutUint32(out[offLength:], hintLen)
	out = append(out, 0, 0, 0, notifyLen+4, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(wire.NotifyInvalidSPI))
	g.reply = binary.BigEndian.AppendUint32(out, spi)
	return Verdict{Kind: Reply, Reason: ReasonInvalidSPI, Reply: g.reply}
}

// hinted reads such a message. The IKE SPIs may be anything: "zero values or random values
// are both acceptable".
func hinted(b []byte) (spi uint32, ok bool) {
	if len(b) != hintLen || b[offVersion]>>4 != 2 || wire.ExchangeType(b[offExchange]) != wire.ExchangeInformational ||
		wire.Flags(b[offFlags]).Response() || wire.PayloadType(b[offNext]) != wire.PayloadNotify {
		return 0, false
	}
	n := b[headerLen:]
	if n[0] != byte(wire.PayloadNone) || binary.BigEndian.Uint16(n[2:]) != notifyLen+4 || n[5] != 0 ||
		wire.NotifyType(binary.BigEndian.Uint16(n[6:])) != wire.NotifyInvalidSPI {
		return 0, false
	}
	return binary.BigEndian.Uint32(n[notifyLen:]), true
}
