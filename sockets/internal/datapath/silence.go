package datapath

import "time"

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
func (c *Child) company(now time.Time) {
	c.heard.Store(now.UnixNano())
	if c.lone.Load() != 0 {
		c.lone.Store(0)
	}
}
