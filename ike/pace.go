package ike

import "time"

// A pace bounds how often an authenticated peer can make us do something (RFC 8019, Section
// 5): a burst, and then one in every gap. The zero pace has its whole burst.
type pace struct {
	next time.Time // when all that was spent has come back
}

// spent reports whether nothing of the burst is left.
func (p *pace) spent(now time.Time, gap time.Duration, burst int) bool {
	return p.next.Sub(now) > gap*time.Duration(burst-1)
}

// spend takes one, if there is one left.
func (p *pace) spend(now time.Time, gap time.Duration, burst int) bool {
	if p.spent(now, gap, burst) {
		return false
	}
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(gap)
	return true
}
