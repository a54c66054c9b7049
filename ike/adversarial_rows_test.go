package ike_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// A responder speaks of extensions that we did not ask for, in an answer of its own that
// its AUTH covers: the SA comes to stand, and is to the octet the one that it is without
// them. Changed in flight the same makes AUTH fail (ADV-C9).
func TestADV_C11_UnaskedExtensions(t *testing.T) {
	ours := map[wire.NotifyType]bool{ // these we do speak of
		wire.NotifyNATDetectionSourceIP: true, wire.NotifyNATDetectionDestinationIP: true, wire.NotifyCookie: true,
		wire.NotifyChildlessSupported: true, wire.NotifyFragmentationSupported: true, wire.NotifySignatureHashAlgorithms: true,
	}
	plain := extended(t, nil, true)
	if !strings.Contains(plain, "ESTABLISHED") {
		t.Fatal(plain)
	}
	for typ := wire.FirstStatus; typ < wire.FirstStatus+100; typ++ {
		if ours[typ] {
			continue
		}
		for _, data := range [][]byte{nil, {1, 4, 192, 0, 2, 9}, {0, 1}} { // REDIRECT's and ADDITIONAL_KEY_EXCHANGE's
			n := &wire.Notify{NType: typ, Data: data}
			if got := extended(t, n, true); got != plain {
				t.Errorf("%s %x changes\n%s\nto\n%s", typ, data, plain, got)
			}
		}
	}
	if got := extended(t, &wire.Notify{NType: wire.NotifyIntermediateSupported}, false); strings.Contains(got, "ESTABLISHED") {
		t.Error("added in flight, and taken")
	}
	// Fragments are ours to allow: a peer that names them does not switch them on.
	if got := extended(t, &wire.Notify{NType: wire.NotifyFragmentationSupported}, true); got != plain {
		t.Errorf("fragments:\n%s", got)
	}
}

// extended makes an SA with a responder that adds a notify to its IKE_SA_INIT response, and
// signs it if it is its own. It returns all that the initiator holds and has sent.
func extended(t *testing.T, n *wire.Notify, own bool) string {
	t.Helper()
	s, a, b := hosts(t, 601)
	a.Config.Fragments, a.Config.Log, b.Config.Log = ike.FragmentsNo, nil, nil
	var sent []string
	var before, after []byte
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		m, err := wire.Parse(d.Data)
		if err != nil {
			t.Fatal(err)
		}
		if d.From.Addr() == a.Addr.Addr() {
			line := m.Exchange.String() + " to " + d.To.String()
			if o := s.Open(d.Data); o != nil {
				m.Payloads = o.Payloads
			}
			for _, p := range m.Payloads {
				line += " " + p.Type().String()
			}
			sent = append(sent, line)
		}
		if n != nil && m.Exchange == wire.ExchangeIKESAInit && m.Flags.Response() {
			before = bytes.Clone(d.Data)
			m.Payloads = append(m.Payloads, n)
			d.Data = iketest.Encode(m)
			after = bytes.Clone(d.Data)
		}
		return []iketest.Datagram{d}
	}
	b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
		x, ok := w.(*ike.WorkSign)
		if !ok || !own {
			return r
		}
		// RFC 7296, Section 2.15: the responder's octets begin with its first message.
		c := *x
		c.Octets = append(bytes.Clone(after), bytes.TrimPrefix(x.Octets, before)...)
		if n != nil && !bytes.HasPrefix(x.Octets, before) {
			t.Fatal("the responder signs something else")
		}
		return b.Credentials.Answer(&c, nil)
	}
	e := a.Connect(b, nil)
	s.Run(2*time.Second, nil)
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(time.Second, nil)
	rekeyIKE(s, e)
	s.Run(time.Second, nil)
	if s.Panics() != 0 {
		t.Error("panic")
	}
	for _, x := range a.Ends {
		sent = append(sent, x.M.State().String(), x.M.Snapshot())
	}
	return strings.Join(sent, "\n")
}

// A wrong secret and an unknown identity get the same answer, to the length.
func TestADV_D17_SameAnswer(t *testing.T) {
	var got [2]string
	for i := range got {
		s, a, b := hosts(t, 602)
		if i == 0 {
			b.Secret = auth.NewPSK([]byte("another secret, of sufficient length"))
		} else {
			b.WantID = id("venus")
		}
		s.Watch = func(d iketest.Datagram) {
			if o := s.Open(d.Data); o != nil && o.Kind() == "IKE_AUTH response" {
				got[i] += fmt.Sprintf("%d octets:", len(d.Data))
				for _, p := range o.Payloads {
					got[i] += fmt.Sprintf(" %+v", p)
				}
			}
		}
		a.Connect(b, nil)
		s.Run(time.Second, nil)
	}
	if got[0] != got[1] || got[0] == "" {
		t.Errorf("%q, %q", got[0], got[1])
	}
}

// A peer that does not take TFC padding says so: accepted, and nothing is padded by us
// (ADV-E10; package esp has no TFC padding).
func TestADV_E10_NoTFCPadding(t *testing.T) {
	s, a, b := hosts(t, 603)
	s.Rewrite(func(o *iketest.Opened) bool {
		if o.Kind() == "IKE_AUTH request" {
			o.Payloads = append(o.Payloads, &wire.Notify{NType: 16394})
			return true
		}
		return false
	})
	e := a.Connect(b, nil)
	both(t, s, e)
	only(t, e)
	clean(t, s)
}

// SET_WINDOW_SIZE of any value changes nothing: ours is one.
func TestADV_F6_WindowSize(t *testing.T) {
	for _, data := range [][]byte{{0, 0, 0, 0}, {255, 255, 255, 255}, {1}, {0, 0, 0, 2}, nil, make([]byte, 500)} {
		s, a, b := hosts(t, 604)
		e, o := up(t, s, a, b)
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, &wire.Notify{NType: 16385, Data: data})
		s.Run(time.Second, nil)
		n := b.Counters.Responses.Load()
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 5})
		s.Run(time.Second, nil)
		if b.Counters.Responses.Load() != n || !o.Up() {
			t.Errorf("%x: window has grown, or the SA is gone", data)
		}
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 3})
		s.Run(time.Second, nil)
		if b.Counters.Responses.Load() != n+1 {
			t.Errorf("%x: window has shrunk", data)
		}
		clean(t, s)
	}
}

// No response: sent again with growing waits, then every child SA is removed before the
// SA fails, so that its traffic has nowhere to go.
func TestADV_F16_ResponseNeverComes(t *testing.T) {
	for _, what := range []string{"child", "IKE", "liveness"} {
		s, a, b := hosts(t, 605)
		e, _ := up(t, s, a, b)
		s.Faults.Loss = 1
		var sent []time.Duration
		s.Watch = func(iketest.Datagram) { sent = append(sent, s.Elapsed()) }
		switch what {
		case "child":
			rekeyChild(s, e, first(e))
		case "IKE":
			rekeyIKE(s, e)
		case "liveness":
			e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
		}
		s.Run(10*time.Minute, nil)
		want, most := 13, 300*time.Second
		if what == "liveness" {
			want, most = 9, 45*time.Second
		}
		if e.Failed == nil || len(e.Children) != 0 || len(sent) != want || sent[want-1]-sent[0] > most {
			t.Errorf("%s: %v, %d sends", what, e.Failed, len(sent))
		}
		for i := 2; i < len(sent); i++ {
			if sent[i]-sent[i-1] <= sent[i-1]-sent[i-2] {
				t.Errorf("%s: wait %d does not grow", what, i)
			}
		}
		removed := -1
		for i, ev := range e.Events {
			switch ev.(type) {
			case *ike.ChildRemoved:
				removed = i
			case *ike.Failed:
				if removed < 0 || i < removed {
					t.Errorf("%s: failed before its child SAs were removed", what)
				}
			}
		}
		clean(t, s)
	}
}

// The peer restarts without a word and comes back with INITIAL_CONTACT: the old SA of
// that identity is replaced at once, not after its liveness check.
func TestADV_F17_SilentReboot(t *testing.T) {
	s, a, b := hosts(t, 606)
	a.Config.InitialContact = true
	e, o := up(t, s, a, b)
	e.Do(func(m *ike.Machine) { m.Replaced(s.Now) }) // it has forgotten
	fresh := a.Connect(b, nil)
	n := both(t, s, fresh)
	if !n.Established.InitialContact {
		t.Fatal("not told")
	}
	o.Do(func(m *ike.Machine) { m.Replaced(s.Now) })
	s.Settle(time.Minute)
	clean(t, s)
	if o.Closed == nil || len(b.Established()) != 1 {
		t.Errorf("%s", s.Summary())
	}
}

// MOBIKE was not negotiated: its notifies move nothing.
func TestADV_F19_MobikeNotNegotiated(t *testing.T) {
	for _, typ := range []wire.NotifyType{16396, 16397, 16398, 16399, 16400, 16401} {
		s, a, b := hosts(t, 607)
		e, o := up(t, s, a, b)
		old := o.M.Path()
		s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, &wire.Notify{NType: typ, Data: []byte{203, 0, 113, 66}})
		s.Run(time.Second, nil)
		if o.M.Path() != old || !o.Up() {
			t.Errorf("%d: moved to %v", typ, o.M.Path())
		}
		clean(t, s)
	}
}

// An established peer that floods: one request at a time, each answered once; children
// are capped and rekeyings leave nothing behind. Another peer's SA is not affected.
func TestADV_H5_EstablishedPeerFloods(t *testing.T) {
	s, a, b := hosts(t, 608)
	b.Config.MaxChildren = 8
	e, o := up(t, s, a, b)
	c := s.AddHost("mars", "192.0.2.3:500")
	x := c.Connect(b, nil)
	both(t, s, x)
	id := uint32(2)
	for i := range 400 {
		var ps []wire.Payload
		typ := wire.ExchangeInformational
		if i%2 == 0 {
			typ = wire.ExchangeCreateChildSA
			p := iketest.MustESP("aes256gcm16")[0]
			p.Num, p.SPI = 1, spi32(uint32(5000+i))
			ts := wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.3.0.0"), End: mustAddr("10.3.255.255")}
			ps = []wire.Payload{&wire.SA{Proposals: []wire.Proposal{p}}, &wire.Nonce{Data: bytes.Repeat([]byte{byte(i)}, 32)},
				&wire.TS{Initiator: true, Selectors: []wire.TrafficSelector{ts}}, &wire.TS{Selectors: []wire.TrafficSelector{ts}}}
		}
		s.Forge(e, wire.Header{Exchange: typ, MessageID: id}, ps...)
		id++
		s.Run(15*time.Millisecond, nil)
	}
	if n := len(o.Children); n != 8 || !o.Up() {
		t.Errorf("%d child SAs", n)
	}
	rekeyChild(s, x, first(x))
	s.Run(time.Second, nil)
	if only(t, x).Replaces == 0 {
		t.Error("another peer is affected")
	}
	clean(t, s)
}
