package ike_test

import (
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// hosts returns a simulation with an initiator and a responder.
func hosts(t testing.TB, seed uint64) (s *iketest.Sim, a, b *iketest.Host) {
	t.Helper()
	s = iketest.New(seed)
	a = s.AddHost("moon", "192.0.2.1:500")
	b = s.AddHost("sun", "192.0.2.2:500")
	return s, a, b
}

// clean fails the test if an invariant was broken.
func clean(t testing.TB, s *iketest.Sim) {
	t.Helper()
	for _, e := range s.Errors {
		t.Error(e)
	}
	if t.Failed() {
		t.Log(s.Summary())
	}
}

// both runs until both ends of the handshake are up.
func both(t testing.TB, s *iketest.Sim, e *iketest.End) *iketest.End {
	t.Helper()
	if !s.Run(time.Minute, func() bool { return e.Up() && e.Peer() != nil && e.Peer().Up() }) {
		t.Fatalf("no handshake:\n%s", s.Summary())
	}
	return e.Peer()
}

func TestHandshakePSK(t *testing.T) {
	s, a, b := hosts(t, 1)
	e := a.Connect(b, nil)
	o := both(t, s, e)
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 1 || len(o.Children) != 1 {
		t.Fatalf("%d and %d child SAs", len(e.Children), len(o.Children))
	}
	if s.Datagrams != 4 {
		t.Errorf("%d datagrams for a handshake", s.Datagrams)
	}
	if e.Established.RemoteID.String() != o.Established.LocalID.String() {
		t.Error("identities differ")
	}
	_ = ike.Initiator
	_ = auth.Hashes
	_ = wire.ExchangeIKEAuth
}
