package engine

import "time"

// wanted are the child SAs that the configuration wants up and that are to be asked for
// again. There is at most one entry for each configured child. The zero value is empty.
type wanted struct {
	by map[*ChildConf]retry
	at time.Time // of the first one; zero: none
}

type retry struct {
	at    time.Time // zero: asked for
	tries int
}

// add asks for a child once, at a time.
func (r *wanted) add(cc *ChildConf, at time.Time) {
	if r.by == nil {
		r.by = map[*ChildConf]retry{}
	}
	x := r.by[cc]
	x.at = at
	r.by[cc] = x
	if r.at.IsZero() || at.Before(r.at) {
		r.at = at
	}
}

// later asks again for one that failed, a while after now.
func (r *wanted) later(cc *ChildConf, now time.Time) {
	tries := r.by[cc].tries
	r.add(cc, now.Add(min(retryFirst<<min(tries, 8), retryMost)))
	r.by[cc] = retry{at: r.by[cc].at, tries: tries + 1}
}

// done forgets a child that is up.
func (r *wanted) done(cc *ChildConf) { delete(r.by, cc) }

// due returns what is to be asked for now.
func (r *wanted) due(now time.Time) (ccs []*ChildConf) {
	if r.at.IsZero() || now.Before(r.at) {
		return nil
	}
	r.at = time.Time{}
	for cc, x := range r.by {
		switch {
		case x.at.IsZero():
		case !now.Before(x.at):
			ccs = append(ccs, cc)
			x.at = time.Time{}
			r.by[cc] = x
		case r.at.IsZero() || x.at.Before(r.at):
			r.at = x.at
		}
	}
	return ccs
}
