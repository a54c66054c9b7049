package iketest

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// standing is two hosts with one IKE SA and one child SA, all quiet.
func standing(t *testing.T) (s *Sim, e *End, c *Child) {
	t.Helper()
	s = New(7)
	a, b := s.AddHost("moon", "192.0.2.1:500"), s.AddHost("sun", "192.0.2.2:500")
	e = a.Connect(b, nil)
	s.Settle(time.Minute)
	c = a.Child()
	if c == nil || b.Child() == nil || !e.Up() || len(s.Errors) > 0 {
		t.Fatalf("no SA: %v\n%s", s.Errors, s.Summary())
	}
	return s, e, c
}

// TestJudgeSees breaks what the simulator watches over, one thing at a time: an invariant
// that can't be seen to break proves nothing about the machines.
func TestJudgeSees(t *testing.T) {
	out := func(o ...ike.Output) func(*Sim, *End, *Child) {
		return func(_ *Sim, e *End, _ *Child) {
			for _, x := range o {
				e.carryOut(x)
			}
		}
	}
	quiet := func(change func(s *Sim, e *End, c *Child)) func(*Sim, *End, *Child) {
		return func(s *Sim, e *End, c *Child) { change(s, e, c); s.CheckQuiet() }
	}
	for _, tc := range []struct {
		name, want string
		do         func(s *Sim, e *End, c *Child)
	}{
		{"established again", "established twice", out(&ike.Established{})},
		{"established by nobody", "I1: established without", func(_ *Sim, e *End, _ *Child) { e.verified = false; e.carryOut(&ike.Established{}) }},
		{"in the state without proof", "I1: in ESTABLISHED", func(_ *Sim, e *End, _ *Child) { e.verified = false; e.check() }},
		{"an inbound SA without an SPI", "ChildInbound", out(&ike.ChildInbound{})},
		{"a child SA too early", "I1: child SA before", func(_ *Sim, e *End, _ *Child) { e.Established = nil; e.carryOut(&ike.ChildInbound{}) }},
		{"an outbound half of nothing", "without its inbound half", out(&ike.ChildOutbound{})},
		{"removal of nothing", "that is not there", out(&ike.ChildRemoved{})},
		{"release of nothing", "released in state", out(&ike.SPIReleased{SPI: 9})},
		{"a failure without reason", "ChildFailed without reason", out(&ike.ChildFailed{})},
		{"a call to nobody", "wakes a machine nobody knows", out(&ike.Wake{})},
		{"a failed rekeying of nothing", "RekeyFailed without reason", out(&ike.RekeyFailed{})},
		{"a rekeying of nobody", "rekeyed from", out(&ike.Rekeyed{})},
		{"a failure that leaves children", "failed with children left", out(&ike.Failed{Err: errors.New("x")})},
		{"two failures", "failed twice", out(&ike.Failed{Err: errors.New("x")}, &ike.Failed{Err: errors.New("y")})},
		{"a failure of nothing", "without reason", out(&ike.Failed{})},
		{"an end that leaves children", "closed with children left", out(&ike.Closed{})},
		{"two ends", "closed twice", out(&ike.Closed{}, &ike.Closed{})},
		{"a life after the end", "after Closed", out(&ike.Closed{}, &ike.PathChanged{})},
		{"deadlines after the end", "I9: a deadline after Closed", func(_ *Sim, e *End, _ *Child) {
			e.Do(func(m *ike.Machine) { m.CheckLiveness(e.Host.Sim.Now) }) // its answer is awaited
			e.Closed = &ike.Closed{}
			e.check()
		}},
		{"an output nobody knows", "unknown output", out(nil)},
		{"a datagram that is none", "malformed", out(&ike.Send{Data: []byte("no")})},
		{"the other role's datagram", "malformed", func(_ *Sim, e *End, _ *Child) { e.sent(&ike.Send{Data: protected(e, 1, false)}) }},
		{"an IV twice", "I4: IV", func(_ *Sim, e *End, _ *Child) {
			e.sent(&ike.Send{Data: protected(e, 1, true)})
			e.sent(&ike.Send{Data: protected(e, 2, true)})
		}},
		{"a message that does not open", "misspells a message (does not open)", func(_ *Sim, e *End, _ *Child) {
			e.sent(&ike.Send{Data: broken(protected(e, 1, true))})
		}},
		{"a message under no keys", "that nobody knows", func(_ *Sim, e *End, _ *Child) {
			b := protected(e, 1, true)
			b[15]++ // another SPI
			e.sent(&ike.Send{Data: b})
		}},
		{"a reserved field that is used", "misspells a message (<nil>)", func(_ *Sim, e *End, _ *Child) {
			first, inner := EncodeChain([]wire.Payload{&wire.Nonce{Data: make([]byte, 32)}})
			inner[1] = 0x10
			e.sent(&ike.Send{Data: e.Host.Sim.Seal(&Opened{From: e, Header: e.header(), First: first, Raw: inner})})
		}},
		{"a reserved field in the clear", "misspells a message (<nil>)", func(_ *Sim, e *End, _ *Child) {
			h := wire.Header{SPIi: e.M.LocalSPI(), Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}
			b := Encode(&wire.Message{Header: h, Payloads: []wire.Payload{&wire.KE{Group: 31, Data: make([]byte, 32)}}})
			b[35] = 1
			e.sent(&ike.Send{Data: b})
		}},
		{"amplification", "I12", func(s *Sim, e *End, _ *Child) {
			o := e.Peer()
			o.Established, o.bytesIn = nil, 0
			o.sent(&ike.Send{Data: protected(o, 1, false)})
		}},
		{"a panic", "a panic was recovered", func(_ *Sim, e *End, _ *Child) { e.Host.Counters.Panics.Add(1); e.check() }},
		{"a decision for nobody", "asked to decide", func(_ *Sim, e *End, _ *Child) { e.verified = false; e.decide(&ike.WorkDecide{}) }},
		{"an SPI that never ends", "was reserved and never ended", quiet(func(_ *Sim, e *End, _ *Child) { e.Host.Reserve() })},
		{"an IKE SA nobody uses", "I9: an IKE SA that nobody uses", quiet(func(_ *Sim, e *End, _ *Child) { e.candidate = true })},
		{"an IKE SA that was rekeyed", "I9: rekeyed, but still up", quiet(func(_ *Sim, e *End, _ *Child) { e.Next = e })},
		{"an end in the middle", "neither established nor closed", quiet(func(_ *Sim, e *End, _ *Child) { e.Established = nil })},
		{"a gate that forgets", "I9: moon: the gate has 0 SAs", quiet(func(_ *Sim, e *End, _ *Child) { e.Host.Gate.Remove(e.key()) })},
		{"a peer that is gone", "I7: established, but the peer is not", quiet(func(s *Sim, e *End, _ *Child) { e.Peer().Host.Crash() })},
		{"a child SA at one end", "I7: the peer does not know child", quiet(func(_ *Sim, e *End, _ *Child) { clear(e.Peer().Children) })},
		{"half a child SA", "has no outbound half", quiet(func(_ *Sim, _ *End, c *Child) { c.Outbound = false })},
		{"other suites", "I11: child SAs differ", quiet(func(_ *Sim, _ *End, c *Child) { c.Suite.KeyBits = 128 })},
		{"other keys", "I11: keys of child SA", quiet(func(_ *Sim, _ *End, c *Child) { c.OutKey[0]++ })},
		{"other selectors", "I11: selectors differ", quiet(func(_ *Sim, _ *End, c *Child) { c.Pair = Pair("10.9.0.0/16", "10.8.0.0/16") })},
		{"other identities", "I11: IKE SAs differ", quiet(func(_ *Sim, e *End, _ *Child) { e.Established.LocalID.Data = []byte("mars") })},
		{"a dropped datagram that counts", "I2: a datagram dropped as", func(_ *Sim, e *End, _ *Child) {
			before := e.look()
			e.Do(func(m *ike.Machine) { m.CheckLiveness(e.Host.Sim.Now) })
			e.dropped(ike.DropICV, before)
		}},
		{"an answer to a dropped datagram", "I2: *ike.Cleared because", func(_ *Sim, e *End, _ *Child) {
			e.dropped(ike.DropICV, e.look())
			e.carryOut(&ike.Cleared{})
		}},
		{"a request executed again", "I6: request 9", func(_ *Sim, e *End, _ *Child) {
			for x := range byte(2) {
				e.acts = acts{}
				e.sent(&ike.Send{Data: answer(e, 1+x)})
				e.served(9)
			}
		}},
		{"work for a request again", "I6: request 9", func(_ *Sim, e *End, _ *Child) {
			for range 2 {
				e.acts = acts{}
				e.act(&ike.WorkDecide{})
				e.served(9)
			}
		}},
		{"more than fits", "I8: ", func(s *Sim, e *End, _ *Child) {
			s.caps.Octets = 1000 // it holds more as it is
			e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
			s.Run(time.Second, nil)
		}},
		{"too many commands", "I8: ", func(s *Sim, e *End, _ *Child) {
			s.caps.Queue = 3
			for range 5 { // the first is sent
				e.CreateChild(e.Host.Request("more", DefaultPair()))
			}
			s.Run(time.Second, nil)
		}},
		{"an ESP packet in clear", "I3: moon: cleartext under SPI", func(_ *Sim, e *End, c *Child) {
			c.Suite.Encr, c.Suite.KeyBits, c.Suite.Integ = wire.EncrNull, 0, wire.IntegHMACSHA256
			c.OutKey = make([]byte, 32)
			e.Host.seal(c, 1)
		}},
		{"a packet in clear", "nobody sent", func(s *Sim, e *End, c *Child) {
			e.Host.seal(c, 1)
			marker[0]++ // what arrives is not what was meant
			s.Run(time.Second, nil)
			marker[0]--
		}},
		{"a packet twice", "I5", func(s *Sim, e *End, c *Child) {
			e.Host.seal(c, 1)
			e.Host.seal(c, 1)
			s.Run(time.Second, nil)
		}},
		{"an ESP IV twice", "I4: moon: an IV twice", func(_ *Sim, e *End, c *Child) {
			e.Host.seal(c, 1)
			c.sealer = nil // starts to count anew
			e.Host.seal(c, 2)
		}},
		{"a queue without end", "packets wait", func(_ *Sim, e *End, c *Child) {
			clear(e.Children)
			for range maxWaiting + 1 {
				e.Host.say()
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, e, c := standing(t)
			tc.do(s, e, c)
			if !strings.Contains(strings.Join(s.Errors, "\n"), tc.want) {
				t.Errorf("unnoticed: want %q, got %q", tc.want, s.Errors)
			}
		})
	}
}

// protected is a datagram of e's SA with a fixed IV.
func protected(e *End, x byte, initiator bool) []byte {
	h := wire.Header{Exchange: wire.ExchangeInformational, MessageID: 9}
	if initiator {
		h.Flags = wire.FlagInitiator
	}
	return closed(e, h, 0, x)
}

// broken is a datagram whose end does not fit the rest.
func broken(b []byte) []byte { b[len(b)-1]++; return b }

// header is that of a message that e may send next.
func (e *End) header() wire.Header {
	h := wire.Header{Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator, MessageID: 2}
	h.SPIi, h.SPIr = e.M.SPIs()
	return h
}

// answer is a response in e's name with an IV of its own.
func answer(e *End, iv byte) []byte {
	return closed(e, wire.Header{Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator | wire.FlagResponse, MessageID: 9}, iv, 1)
}

func closed(e *End, h wire.Header, iv, x byte) []byte {
	h.SPIi, h.SPIr = e.M.SPIs()
	first, inner := EncodeChain([]wire.Payload{&wire.Vendor{Data: bytes.Repeat([]byte{x}, 32)}})
	return e.Host.Sim.forger(e, h.SPIr).close(h, first, nil, inner, append([]byte{iv}, make([]byte, 7)...))
}

// TestNothingToJudge: what is as it should be is counted, and not complained about.
func TestNothingToJudge(t *testing.T) {
	s, e, _ := standing(t)
	j := s.Judged
	if j.Executed != 1 || j.IVs != 2 || j.Spelled != 4 || j.Mistaken+j.Reused+j.Clear+j.Changed+j.Again != 0 || j.Most.HalfOpen != 1 || j.Most.Octets < 1000 {
		t.Errorf("%+v", j)
	}
	s.Inject(Datagram{From: e.M.Path().Local, To: e.M.Path().Remote, Data: broken(protected(e, 1, true))})
	s.Run(time.Second, nil)
	if s.Judged.Dropped != j.Dropped+1 || len(s.Errors) != 0 {
		t.Errorf("%+v, %v", s.Judged, s.Errors)
	}
	var sum Judged
	sum.Add(s.Judged)
	sum.Add(j)
	if sum.Executed != 2 || sum.Most.Children != 1 || sum.Most != s.Judged.Most {
		t.Errorf("%+v", sum)
	}
}

// TestForging uses everything with which tests lie in an end's name.
func TestForging(t *testing.T) {
	s, e, _ := standing(t)
	b := e.Peer().Host
	answers := 0
	s.Watch = func(d Datagram) {
		if o := s.Open(d.Data); o != nil && o.From == e.Peer() && o.Kind() == "INFORMATIONAL response" {
			answers++
		}
	}
	// Message ID 2 follows IKE_SA_INIT and IKE_AUTH.
	s.Forge(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2})
	s.Run(time.Second, nil)
	first, body := EncodeChain([]wire.Payload{&wire.Notify{NType: wire.NotifyInitialContact}})
	s.ForgeFragment(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 3}, first, 1, 1, body)
	s.Run(time.Second, nil)
	if answers != 2 {
		t.Errorf("%d answers", answers)
	}
	if s.Open([]byte("nothing")) != nil {
		t.Error("opened nothing")
	}

	var seen [][]byte
	s.Watch = nil
	flip := Flip(0, 30, 0xff)
	s.Tap = func(d Datagram) []Datagram {
		before := bytes.Clone(d.Data)
		ds := flip(d)
		if !bytes.Equal(before, ds[0].Data) {
			seen = append(seen, ds[0].Data)
		}
		return ds
	}
	e.Peer().Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(2*time.Second, nil)
	if len(seen) < 2 || !bytes.Equal(seen[0], seen[1]) {
		t.Errorf("%d changed copies of the first datagram", len(seen))
	}

	s.Tap = nil
	s.Rewrite(func(o *Opened) bool { return o.Drop(wire.PayloadNotify) || o.Double(wire.PayloadDelete) })
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Run(5*time.Second, nil)
	short := FixLength(append(protected(e, 1, true), 0))
	if h, err := wire.ParseHeader(short); err != nil || int(h.Length) != len(short) {
		t.Errorf("length %d of %d octets, %v", h.Length, len(short), err)
	}
	if s.Host(b.Addr.Addr()) != b || s.Host(netip.MustParseAddr("203.0.113.9")) != nil || b.String() != "host sun" || s.Rand() == nil {
		t.Error("hosts are not found by their address")
	}
}

// TestTranslated puts a NAT in front of a host that sees IPv4 addresses mapped.
func TestTranslated(t *testing.T) {
	s := New(8)
	a, b := s.AddHost("moon", "10.0.0.1:500"), s.AddHost("sun", "192.0.2.2:500")
	a.Outside, b.Mapped = netip.MustParseAddr("198.51.100.1"), true
	e := a.Connect(b, nil)
	if !s.Run(time.Minute, e.Up) || e.Peer() == nil {
		t.Fatalf("no SA: %s", s.Summary())
	}
	if got := a.PublicAddr(); got.Addr() != a.Outside || got.Port() == a.Addr.Port() {
		t.Errorf("others see %v", got)
	}
	a.Rebind()
	e.Do(func(m *ike.Machine) { m.CheckLiveness(s.Now) })
	s.Settle(time.Minute)
	if got := e.Peer().M.Path().Remote.Addr(); got != a.Outside || len(s.Errors) > 0 {
		t.Errorf("the peer is at %v; %v", got, s.Errors)
	}
	e.CreateChild(a.Request("net", DefaultPair()))
	s.Run(time.Second, nil)
	if a.Child() != nil {
		t.Error("one of two child SAs is the only one")
	}
}

// TestNobodyTrusted: what hosts refuse.
func TestNobodyTrusted(t *testing.T) {
	for name, spoil := range map[string]func(a, b *Host){
		"identity": func(_, b *Host) { b.WantID = &wire.ID{IType: wire.IDFQDN, Data: []byte("mars")} },
		"secret":   func(a, _ *Host) { a.Secret = a.Secret.Clone(); a.Secret.Zero() },
	} {
		s := New(9)
		a, b := s.AddHost("moon", "192.0.2.1:500"), s.AddHost("sun", "192.0.2.2:500")
		spoil(a, b)
		e := a.Connect(b, nil)
		s.Settle(6 * time.Minute)
		if e.Up() || len(b.Established()) > 0 || len(s.Errors) > 0 {
			t.Errorf("%s: %s %v", name, s.Summary(), s.Errors)
		}
	}
}

// TestPeersSpell holds the second encoder to what strongSwan sent: it must have the same octets
// for the same values.
func TestPeersSpell(t *testing.T) {
	files, _ := filepath.Glob("testdata/transcripts/*.txt")
	open, protected := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := ParseTranscript(text)
		if err != nil {
			t.Fatal(err)
		}
		c := tr.Replay()
		for i, l := range tr.Lines {
			if l.Kind != Came {
				continue
			}
			again, err := c.respelled(l.Data)
			if err != nil || !bytes.Equal(again, l.Data) {
				t.Errorf("%s, line %d: %v: was %x, is %x", file, i+1, err, l.Data, again)
			}
			if l.Data[18] == byte(wire.ExchangeIKESAInit) {
				open++
			} else {
				protected++
			}
		}
	}
	if open < 20 || protected < 50 {
		t.Errorf("%d messages in the clear and %d protected ones", open, protected)
	}
}

// respelled reads a message of the peer's and writes it again.
func (c *Conversation) respelled(b []byte) ([]byte, error) {
	h, err := wire.ParseHeader(b)
	if err != nil {
		return nil, err
	}
	role := ike.Responder
	if h.Flags.Initiator() {
		role = ike.Initiator
	}
	var peer *closer
	for _, e := range c.Host.Ends {
		if k := e.keys[h.SPIr]; k != nil && e.role != role {
			if peer, err = newCloser(k, role); err != nil {
				return nil, err
			}
		}
	}
	again, err := peer.rewritten(h, b)
	if err == nil && peer != nil && peer.aead == nil {
		// RFC 7296, Section 3.14: pad octets may have any value, and strongSwan's do.
		_, _, was, _, _ := peer.open(b)
		if _, _, is, _, err := peer.open(again); err == nil && bytes.Equal(is, was) && len(again) == len(b) {
			again = b
		}
	}
	return again, err
}
