package datapath

// SALimits bound what a child carries, each direction by itself; 0 is no limit (RFC 4301, Section 4.4.2.1). They are
// compared once a batch, so that a batch may pass them.
type SALimits struct {
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
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
