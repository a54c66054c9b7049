package latch

import "github.com/btns-go/btns/esp/ts"

// Alert tells an owner that its latch changed without it (RFC 5660, Section 2.3, ALERT), or a
// listener's owner that a latch was born from it.
type Alert struct {
	Latch   *Latch
	Flow    ts.Flow
	State   State   // the new one
	Reasons Reasons // for BROKEN
	Detail  string
	Seq     uint64 // grows by one with each alert of a latch: an older one is out of date
	Child   *Latch // for a listener: the latch that was born
	// Disposition is what the owner chose for a break, the default resolved.
	Disposition Disposition
}

// Alerts are deliveries that are due once the caller holds no lock.
type Alerts []Alert

// Deliver calls the owners' functions, in order, in this goroutine. It must not be called under a
// lock that an owner's function may want, nor inside a packet hook.
func (as Alerts) Deliver() {
	for _, a := range as {
		if f := a.Latch.alert.Load(); f != nil {
			(*f)(a)
		}
	}
}

// alertNow makes the alert for the state l has just reached. The lock is held.
func (l *Latch) alertNow() Alert {
	l.seq++
	return Alert{
		Latch: l, Flow: l.flow, State: l.State(), Reasons: l.reasons, Detail: l.detail, Seq: l.seq,
		Disposition: l.want.Disposition.For(l.flow.Proto()),
	}
}
