package ike_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

func TestChildless(t *testing.T) {
	s, a, b := hosts(t, 13)
	b.Config.Childless = ike.ChildlessAllow
	e := a.ConnectTo(b.Addr, nil)
	both(t, s, e)
	if len(e.Children) != 0 {
		t.Error("a child")
	}
	e.CreateChild(a.Request("later", iketest.DefaultPair()))
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 1 {
		t.Errorf("%d child SAs: %v", len(e.Children), e.ChildErrors)
	}

	s, a, b = hosts(t, 13)
	e = a.ConnectTo(b.Addr, nil)
	s.Settle(10 * time.Minute)
	clean(t, s)
	var m *ike.MismatchError
	if !errors.As(e.Failed, &m) || !strings.Contains(m.Error(), "RFC 6023") {
		t.Errorf("%v", e.Failed)
	}
}

// TestChildlessRules: which rules lead to an IKE_AUTH without child SA, with the child SA
// in a CREATE_CHILD_SA after it (RFC 6023, Section 3).
func TestChildlessRules(t *testing.T) {
	for _, r := range []struct {
		initiator, responder ike.Childless
		deferred, fails      bool
	}{
		{initiator: ike.ChildlessNever, responder: ike.ChildlessForce},
		{initiator: ike.ChildlessAllow, responder: ike.ChildlessAllow},
		{initiator: ike.ChildlessPrefer, responder: ike.ChildlessNever},
		{initiator: ike.ChildlessPrefer, responder: ike.ChildlessAllow, deferred: true},
		{initiator: ike.ChildlessForce, responder: ike.ChildlessPrefer, deferred: true},
		{initiator: ike.ChildlessForce, responder: ike.ChildlessNever, fails: true},
	} {
		s, a, b := hosts(t, 16)
		a.Config.Childless, b.Config.Childless = r.initiator, r.responder
		var said, inAuth bool
		b.Answer = func(w ike.Work, res ike.WorkResult) ike.WorkResult {
			switch w := w.(type) {
			case *ike.WorkVerify:
				said = w.Childless
			case *ike.WorkDecide:
				inAuth = w.First
			}
			return res
		}
		e := a.Connect(b, nil)
		if r.fails {
			s.Settle(10 * time.Minute)
			clean(t, s)
			if e.Failed == nil || len(e.ChildErrors) != 1 {
				t.Errorf("%+v: %v, %v", r, e.Failed, e.ChildErrors)
			}
			continue
		}
		both(t, s, e)
		s.Settle(time.Minute)
		clean(t, s)
		if said != r.deferred || inAuth == r.deferred || len(e.Children) != 1 {
			t.Errorf("%+v: the responder heard of a child SA in IKE_AUTH: %v, %v; %d child SAs", r, !said, inAuth, len(e.Children))
		}
	}
}

// TestInitialContactTakenBack: INITIAL_CONTACT is not said any more when there is another
// SA with the peer by the time of IKE_AUTH (RFC 7296, Section 2.4).
func TestInitialContactTakenBack(t *testing.T) {
	for _, others := range []bool{false, true} {
		s, a, b := hosts(t, 17)
		a.Config.InitialContact = true
		a.Answer = func(_ ike.Work, r ike.WorkResult) ike.WorkResult {
			if sign, ok := r.(*ike.SignResult); ok {
				sign.Others = others
			}
			return r
		}
		var heard bool
		b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			if v, ok := w.(*ike.WorkVerify); ok {
				heard = v.Contact
			}
			return r
		}
		_, o := up(t, s, a, b)
		if heard == others || o.Established.InitialContact == others {
			t.Errorf("others %v: INITIAL_CONTACT %v, %v", others, heard, o.Established.InitialContact)
		}
	}
}
