package engine

import "time"

// wanted are the child SAs that the configuration wants up and that are to be tried again.
// There is at most one try of each ahead.
type wanted map[*ChildConf]*retry

type retry struct {
	at    time.Time // of the next try; zero: it is being made
	tries int
}

// want asks for a child SA at a time, unless it is up by then.
func (k *keyer) want(cc *ChildConf, at time.Time) {
	r := k.wanted[cc]
	if r == nil {
		r = &retry{}
		k.wanted[cc] = r
	}
	r.at = at
	k.later(at, func(now time.Time) {
		if k.wanted[cc] != r || !r.at.Equal(at) {
			return // given up, or put off
		}
		r.at = time.Time{}
		if !k.up(cc) {
			k.request(now, &acquire{ref: k.ref(), conf: cc, pair: cc.Pair, keep: true})
		}
	})
}

// retry asks again for a child SA that failed, a while after now.
func (k *keyer) retry(cc *ChildConf, now time.Time) {
	tries := 0
	if r := k.wanted[cc]; r != nil {
		tries = r.tries
	}
	k.want(cc, now.Add(min(retryFirst<<min(tries, 8), retryMost)))
	k.wanted[cc].tries = tries + 1
}
