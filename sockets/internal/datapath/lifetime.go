package datapath

import "math"

// SALimits bound what a child carries, each direction by itself; 0 is no limit (RFC 4301, Section 4.4.2.1). They are
// compared once a batch, so that a batch may pass them.
type SALimits struct {
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
}

// numbered are the limits l of an SA that counts with or without extended sequence numbers: one that would never be replaced
// is, before the numbers end and the traffic with them (RFC 4303, Section 3.3.3). 2^64 of them never do.
func (l SALimits) numbered(esn bool) SALimits {
	const soft = math.MaxUint32 / 8 * 7
	if !esn && (l.SoftPackets == 0 || l.SoftPackets > soft) {
		l.SoftPackets = soft
	}
	return l
}

// spend compares what one direction has carried with the limits: at a soft one Config.SoftLimit is called, at a hard one
// Config.Exhausted, and the child carries nothing more.
func (p *Path) spend(c *Child, packets, bytes uint64) {
	l := &c.Limits
	if *l == (SALimits{}) {
		return
	}
	if past(packets, l.HardPackets) || past(bytes, l.HardBytes) {
		c.spent.Store(true)
		p.exhausted(c)
		return
	}
	if (past(packets, l.SoftPackets) || past(bytes, l.SoftBytes)) && c.softened.CompareAndSwap(false, true) && p.cfg.SoftLimit != nil {
		p.cfg.SoftLimit(c)
	}
}

func past(n, limit uint64) bool { return limit != 0 && n >= limit }
