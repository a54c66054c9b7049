package datapath

import (
	"time"

	"github.com/btns-go/btns/esp/ts"
)

// unheard is c.alone after Config.Silent was called.
const unheard = -1

// alone notes that a packet left under c at now, the last one before at prev, and tells the engine if packets have been leaving for a while and none has
// come: "essential to confirm liveness of the other endpoint to avoid black holes" (RFC 7296, Section 2.4). Traffic in both
// directions only reads here.
func (p *Path) alone(c *Child, prev, now int64) {
	switch since := c.lone.Load(); {
	case since == unheard:
	case since == 0:
		heard := c.heard.Load()
		switch {
		case now-heard <= int64(lull):
		case prev > heard && now-prev < int64(silence): // it was not answered either
			c.lone.CompareAndSwap(0, prev)
		default:
			c.lone.CompareAndSwap(0, now)
		}
	case now-since >= int64(silence) && p.cfg.Silent != nil && c.lone.CompareAndSwap(since, unheard):
		p.cfg.Silent(c)
	}
}

// company notes that a packet came under c at now.
func (p *Path) company(c *Child, now time.Time) {
	c.heard.Store(now.UnixNano())
	if c.lone.Load() != 0 {
		c.lone.Store(0)
		for _, h := range p.held.TakeMatch(func(_ ts.Flow, h heldPacket) bool { return h.sent == c }) {
			h.pkt.Release()
		}
	}
}

// remember keeps a copy of a TCP segment that left under c while nobody answers, the last one of each connection. If another
// SA takes over it goes out again at once; TCP's own timer has doubled with each segment that was lost, and may be far away
// (RFC 6298, Section 5.5).
func (p *Path) remember(c *Child, o *outgoing, now int64) {
	since := c.lone.Load()
	if since == 0 || since != unheard && now-since < int64(lull) || o.held || o.flow.Proto() != ts.ProtoTCP {
		return
	}
	pkt := o.pkt.Hold()
	if !p.held.Put(time.Unix(0, now), peerKey{peer: c.Peer.ID}, o.flow, pkt.Size(), heldPacket{tag: o.tag, pkt: pkt, sent: c}).Held() {
		pkt.Release()
	}
}
