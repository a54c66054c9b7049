package engine

import (
	"container/heap"
	"time"
)

// delays are calls of the keyer's goroutine that are not due yet. The zero value is empty.
// What is put off is bounded by its causes: one try of each configured child, one look at
// each pair of IKE SAs.
type delays []delayed

type delayed struct {
	at time.Time
	f  func(now time.Time)
}

func (d delays) Len() int           { return len(d) }
func (d delays) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d delays) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *delays) Push(x any) {
	if v, ok := x.(delayed); ok {
		*d = append(*d, v)
	}
}

// Pop implements heap.Interface.
func (d *delays) Pop() any {
	n := len(*d) - 1
	v := (*d)[n]
	(*d)[n] = delayed{}
	*d = (*d)[:n]
	return v
}

// later calls f at a time, unless the host stops before.
func (k *keyer) later(at time.Time, f func(now time.Time)) {
	heap.Push(&k.delays, delayed{at, f})
}

// overdue calls what is due.
func (k *keyer) overdue(now time.Time) {
	for len(k.delays) > 0 && !k.delays[0].at.After(now) {
		if d, ok := heap.Pop(&k.delays).(delayed); ok && !k.stopping {
			d.f(now)
		}
	}
}
