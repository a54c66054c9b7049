package ike_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
)

// The end behind a NAT, and only that one, keeps its translation while nothing else goes out
// (RFC 3948, Section 4; RFC 7296, Section 2.23), through rekeying too.
func TestNATKeepalive(t *testing.T) {
	s, a, b := hosts(t, 640)
	a.Outside = netip.MustParseAddr("198.51.100.1")
	e, o := up(t, s, a, b)
	begun := s.Elapsed()
	s.Run(5*time.Minute, nil)
	if n := len(e.Keepalives); n < 14 || n > 15 {
		t.Fatalf("%d keepalives in 5 minutes", n)
	}
	last := begun
	for _, at := range e.Keepalives {
		if gap := at - last; gap > 20*time.Second+100*time.Millisecond {
			t.Errorf("%v without one", gap)
		}
		last = at
	}
	if len(o.Keepalives) != 0 {
		t.Errorf("%d from who has no NAT in front", len(o.Keepalives))
	}
	// Traffic makes them superfluous.
	before := len(e.Keepalives)
	for range 30 {
		s.Run(10*time.Second, nil)
		e.Do(func(m *ike.Machine) { m.Used(s.Now, first(e)) })
	}
	if n := len(e.Keepalives) - before; n != 0 {
		t.Errorf("%d beside traffic", n)
	}
	rekeyIKE(s, e)
	s.Run(5*time.Minute, nil)
	if n := len(live(t, a).Keepalives); n < 14 || n > 15 {
		t.Errorf("%d keepalives of the heir", n)
	}
	if n := len(e.Keepalives); n != before {
		t.Errorf("%d of the old SA", n-before)
	}
	live(t, a).Do(func(m *ike.Machine) { m.Delete(s.Now) })
	s.Settle(time.Minute)
	clean(t, s)
	for _, x := range b.Ends {
		if len(x.Keepalives) > 0 {
			t.Error("the other end sent some")
		}
	}
}
