package engine

import (
	"container/heap"
	"time"
)

// timers orders IKE SAs by their next deadline. The zero value is empty.
type timers struct{ sas []*ikeSA }

func (t *timers) Len() int           { return len(t.sas) }
func (t *timers) Less(i, j int) bool { return t.sas[i].deadline.Before(t.sas[j].deadline) }
func (t *timers) Swap(i, j int) {
	t.sas[i], t.sas[j] = t.sas[j], t.sas[i]
	t.sas[i].timer, t.sas[j].timer = i, j
}

// Push implements heap.Interface.
func (t *timers) Push(x any) {
	if s, ok := x.(*ikeSA); ok {
		s.timer = len(t.sas)
		t.sas = append(t.sas, s)
	}
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	n := len(t.sas) - 1
	s := t.sas[n]
	t.sas[n] = nil
	t.sas = t.sas[:n]
	s.timer = -1
	return s
}

// set moves s to its new deadline; the zero time takes it out.
func (t *timers) set(s *ikeSA, at time.Time) {
	switch {
	case at.IsZero() && s.timer >= 0:
		heap.Remove(t, s.timer)
	case at.IsZero():
	case s.timer < 0:
		s.deadline = at
		heap.Push(t, s)
	case !s.deadline.Equal(at):
		s.deadline = at
		heap.Fix(t, s.timer)
	}
}

// next is the earliest deadline; false: none.
func (t *timers) next() (time.Time, bool) {
	if len(t.sas) == 0 {
		return time.Time{}, false
	}
	return t.sas[0].deadline, true
}

// due takes out one SA whose deadline has come, or returns nil.
func (t *timers) due(now time.Time) *ikeSA {
	if len(t.sas) == 0 || t.sas[0].deadline.After(now) {
		return nil
	}
	s, _ := heap.Pop(t).(*ikeSA)
	return s
}
