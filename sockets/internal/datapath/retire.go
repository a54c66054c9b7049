package datapath

import (
	"slices"
	"time"
)

// A retired child sends nothing any more, for another has replaced it; for a while it still receives. The Delete that ended
// it is one of few packets among many, and may have overtaken some on the way, or in its sender. It admits what belongs to
// what there is: a connection is not born under it.
type retired struct {
	child *Child
	at    time.Time
}

// retire: see Path.Retire.
func (p *Path) retire(inSPI uint32) *Child {
	p.mu.Lock()
	c := p.sad.Lookup(inSPI)
	if c == nil || c.gone.Load() {
		p.mu.Unlock()
		return nil
	}
	if len(p.retired) == maxRetired || c.out.Load() == nil {
		p.mu.Unlock()
		return p.remove(inSPI)
	}
	c.gone.Store(true)
	p.index.remove(c)
	p.epoch.Add(1)
	p.retired = append(p.retired, retired{c, p.now()})
	p.mu.Unlock()
	c.mute()
	p.log.Debug("child replaced", "child", c.Name, "in_spi", c.InSPI, "peer", c.Peer.ID)
	return c
}

// mute ends sending.
func (c *Child) mute() {
	if o := c.out.Load(); o != nil {
		o.mu.Lock()
		o.closed = true
		o.mu.Unlock()
		o.sa.Zero()
	}
}

// sweepRetired removes those whose time is over.
func (p *Path) sweepRetired(now time.Time) {
	var over []*Child
	p.mu.Lock()
	for _, r := range p.retired {
		if now.Sub(r.at) >= lateness {
			over = append(over, r.child)
		}
	}
	p.mu.Unlock()
	for _, c := range over {
		p.remove(c.InSPI)
	}
}

// unretire forgets a child that is removed. The caller has p.mu.
func (p *Path) unretire(c *Child) {
	p.retired = slices.DeleteFunc(p.retired, func(r retired) bool { return r.child == c })
}
