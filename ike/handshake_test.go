package ike_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// hosts returns a simulation with an initiator and a responder.
func hosts(t testing.TB, seed uint64) (s *iketest.Sim, a, b *iketest.Host) {
	t.Helper()
	s = iketest.New(seed)
	a = s.AddHost("moon", "192.0.2.1:500")
	b = s.AddHost("sun", "192.0.2.2:500")
	// With full logging: refusals have crashed others in their log lines (CVE-2022-23094).
	log := slog.New(slog.NewTextHandler(formatted{}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a.Config.Log, b.Config.Log = log, log
	ike.SetFaults(&a.Config, ike.Fault(*faults))
	ike.SetFaults(&b.Config, ike.Fault(*faults))
	return s, a, b
}

// formatted takes log lines that have been formatted; a discarding handler would not.
type formatted struct{}

func (formatted) Write(b []byte) (int, error) { return len(b), nil }

// clean fails the test if an invariant was broken.
func clean(t testing.TB, s *iketest.Sim) {
	t.Helper()
	for _, e := range s.Errors {
		t.Error(e)
	}
	if len(s.Errors) > 0 {
		t.Log(s.Summary())
	}
}

// both runs until both ends of the handshake are up, and returns the responder's.
func both(t testing.TB, s *iketest.Sim, e *iketest.End) *iketest.End {
	t.Helper()
	if !s.Run(2*time.Minute, func() bool { return e.Up() && e.Peer() != nil && e.Peer().Up() }) {
		t.Fatalf("no handshake:\n%s\n%s", s.Summary(), strings.Join(s.Errors, "\n"))
	}
	return e.Peer()
}

// up makes a handshake and checks that all is well in the end.
func up(t testing.TB, s *iketest.Sim, a, b *iketest.Host) (e, o *iketest.End) {
	t.Helper()
	e = a.Connect(b, nil)
	o = both(t, s, e)
	s.Run(time.Second, nil)
	clean(t, s)
	return e, o
}

func id(name string) *wire.ID { return &wire.ID{IType: wire.IDFQDN, Data: []byte(name)} }

func TestHandshakePSK(t *testing.T) {
	s, a, b := hosts(t, 1)
	e, o := up(t, s, a, b)
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.Children) != 1 || len(o.Children) != 1 {
		t.Fatalf("%d and %d child SAs", len(e.Children), len(o.Children))
	}
	if s.Datagrams != 4 {
		t.Errorf("%d datagrams for a handshake", s.Datagrams)
	}
	if x := e.Established; x.Encap || x.LocalNAT || x.RemoteNAT || x.Role != ike.Initiator || x.Peer == nil {
		t.Errorf("%+v", x)
	}
	if p := e.M.Path(); p.Remote.Port() != 500 || p.Local.Port() != 500 {
		t.Errorf("path %v", p)
	}
	if d := a.Counters.Drops() + b.Counters.Drops(); d != 0 {
		t.Errorf("%d drops", d)
	}
	if c := a.Child(); c.Name != "net" || !c.Initiator || c.Pair.String() != "10.1.0.0/16 === 10.2.0.0/16" {
		t.Errorf("%+v", c.Child)
	}
	if e.M.Deadline() != (time.Time{}) {
		t.Errorf("an idle SA has a deadline")
	}
}

func TestHandshakeSignatures(t *testing.T) {
	for _, kind := range []auth.Kind{auth.KindEd25519, auth.KindECDSAP256, auth.KindECDSAP384} {
		t.Run(kind.String(), func(t *testing.T) {
			s, a, b := hosts(t, 2)
			ka, kb := key(t, kind), key(t, kind)
			a.UseKey(ka)
			b.UseKey(kb)
			var certFirst bool
			s.Rewrite(func(o *iketest.Opened) bool {
				if c, ok := wire.Get[*wire.Cert](o.Payloads); ok {
					certFirst = c.Encoding == wire.CertRawPublicKey
				}
				return false
			})
			up(t, s, a, b)
			s.Settle(time.Minute)
			clean(t, s)
			if !certFirst {
				t.Error("no bare key was sent (BTNS-12)")
			}
		})
	}
	t.Run("mixed", func(t *testing.T) {
		s, a, b := hosts(t, 3)
		a.UseKey(key(t, auth.KindEd25519))
		b.UseKey(key(t, auth.KindECDSAP256))
		up(t, s, a, b)
		s.Settle(time.Minute)
		clean(t, s)
	})
	t.Run("untrusted", func(t *testing.T) {
		s, a, b := hosts(t, 4)
		a.UseKey(key(t, auth.KindEd25519))
		b.UseKey(key(t, auth.KindEd25519))
		b.Trust = [][]byte{auth.SPKI(b.Key.Public())}
		e := a.Connect(b, nil)
		s.Settle(time.Minute)
		clean(t, s)
		wantNotify(t, e.Failed, wire.NotifyAuthenticationFailed, true)
	})
}

func key(t testing.TB, k auth.Kind) crypto.Signer {
	t.Helper()
	s, err := auth.GenerateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantNotify checks a *NotifyError.
func wantNotify(t testing.TB, err error, typ wire.NotifyType, remote bool) {
	t.Helper()
	var n *ike.NotifyError
	if !errors.As(err, &n) || n.Type != typ || n.Remote != remote {
		t.Errorf("error is %v, want %v (remote %v)", err, typ, remote)
		return
	}
	if !strings.Contains(err.Error(), "192.0.2.") {
		t.Errorf("the error does not name the peer: %v", err)
	}
}

func TestEverySuite(t *testing.T) {
	encrs := []string{"aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha384", "aes128-sha512"}
	prfs := []string{"prfsha256", "prfsha384", "prfsha512"}
	groups := []string{"x25519", "ecp256", "ecp384", "modp2048"}
	esps := []string{"aes128gcm16", "aes256gcm16-esn", "chacha20poly1305", "aes128-sha256", "aes256-sha384", "aes256-sha512-noesn"}
	n := uint64(0)
	for i, encr := range encrs {
		for j, prf := range prfs {
			group := groups[(i+j)%len(groups)]
			esp := esps[(i+2*j)%len(esps)]
			n++
			t.Run(encr+"-"+prf+"-"+group+"/"+esp, func(t *testing.T) {
				s, a, b := hosts(t, n)
				a.Config.Proposals = iketest.MustIKE(encr + "-" + prf + "-" + group)
				b.Config.Proposals = a.Config.Proposals
				a.ESP, b.ESP = iketest.MustESP(esp+"-"+group), iketest.MustESP(esp+"-"+group)
				e, _ := up(t, s, a, b)
				e.CreateChild(a.Request("more", iketest.Pair("10.3.0.1", "10.4.0.1")))
				s.Settle(time.Minute)
				clean(t, s)
				if len(e.Children) != 2 {
					t.Errorf("%d child SAs: %v", len(e.Children), e.ChildErrors)
				}
			})
		}
	}
}

func TestInvalidKERetry(t *testing.T) {
	s, a, b := hosts(t, 5)
	a.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-x25519-ecp256-modp2048")
	b.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-modp2048")
	e, _ := up(t, s, a, b)
	if e.Established.Suite.Group != wire.GroupMODP2048 {
		t.Errorf("suite %v", e.Established.Suite)
	}
	if s.Datagrams != 6 {
		t.Errorf("%d datagrams", s.Datagrams)
	}
	s.Settle(time.Minute)
	clean(t, s)
}

func TestADV_C5_CookieAndGroupInEveryOrder(t *testing.T) {
	for _, cookieFirst := range []bool{true, false} {
		s, a, b := hosts(t, 6)
		b.Gate = newGate(t, s, gate.Config{CookieThreshold: -1})
		a.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-x25519-ecp256")
		b.Config.Proposals = iketest.MustIKE("aes256gcm16-prfsha256-ecp256")
		forged := false
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			m, err := wire.Parse(d.Data)
			if err != nil || m.Exchange != wire.ExchangeIKESAInit || !m.Flags.Response() || forged || cookieFirst {
				return []iketest.Datagram{d}
			}
			// The group comes before the cookie.
			forged = true
			m.Payloads = []wire.Payload{&wire.Notify{NType: wire.NotifyInvalidKEPayload, Data: []byte{0, byte(wire.GroupECP256)}}}
			d.Data = iketest.Encode(m)
			return []iketest.Datagram{d}
		}
		up(t, s, a, b)
		s.Settle(time.Minute)
		clean(t, s)
	}
}

func newGate(t testing.TB, s *iketest.Sim, c gate.Config) *gate.Gate {
	t.Helper()
	g, err := gate.New(c, bytes.NewReader(bytes.Repeat([]byte("seed"), 100)), s.Now)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCookieIsFirstPayload(t *testing.T) {
	s, a, b := hosts(t, 7)
	b.Gate = newGate(t, s, gate.Config{CookieThreshold: -1})
	var inits [][]wire.Payload
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if m, err := wire.Parse(d.Data); err == nil && m.Exchange == wire.ExchangeIKESAInit && !m.Flags.Response() {
			inits = append(inits, m.Payloads)
		}
		return []iketest.Datagram{d}
	}
	up(t, s, a, b)
	if len(inits) != 2 {
		t.Fatalf("%d requests", len(inits))
	}
	// RFC 7296, Section 2.6: "as the first payload, and all other payloads unchanged".
	if n, ok := inits[1][0].(*wire.Notify); !ok || n.NType != wire.NotifyCookie {
		t.Fatalf("first payload is %v", inits[1][0].Type())
	}
	_, first := iketest.EncodeChain(inits[0])
	_, second := iketest.EncodeChain(inits[1][1:])
	if !bytes.Equal(first, second) {
		t.Error("the retry differs in more than the cookie")
	}
}

func TestIdentities(t *testing.T) {
	t.Run("asked for", func(t *testing.T) {
		s, a, b := hosts(t, 8)
		a.Config.RemoteID = id("sun")
		a.WantID = id("sun")
		b.WantID = id("moon")
		var asked *wire.ID
		b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			if v, ok := w.(*ike.WorkVerify); ok {
				asked = v.AskedID
			}
			return r
		}
		up(t, s, a, b)
		if asked.String() != id("sun").String() {
			t.Errorf("responder was asked for %v", asked)
		}
	})
	t.Run("ADV-D14, ROW-48: another than wanted", func(t *testing.T) {
		s, a, b := hosts(t, 9)
		a.WantID = id("venus")
		e := a.Connect(b, nil)
		s.Settle(time.Minute)
		clean(t, s)
		wantNotify(t, e.Failed, wire.NotifyAuthenticationFailed, false)
		if len(b.Established()) != 0 {
			t.Error("the responder was not told")
		}
	})
	t.Run("ADV-D13 unknown initiator", func(t *testing.T) {
		s, a, b := hosts(t, 10)
		b.WantID = id("venus")
		e := a.Connect(b, nil)
		s.Settle(time.Minute)
		clean(t, s)
		wantNotify(t, e.Failed, wire.NotifyAuthenticationFailed, true)
		if !strings.Contains(e.Failed.Error(), "moon") {
			t.Errorf("%v", e.Failed)
		}
	})
	t.Run("responder chooses its own", func(t *testing.T) {
		s, a, b := hosts(t, 11)
		b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
			if v, ok := r.(*ike.VerifyResult); ok {
				v.Local = &ike.Local{ID: *id("alias"), Method: wire.AuthMethodPSK}
			}
			return r
		}
		e, o := up(t, s, a, b)
		if e.Established.RemoteID.String() != id("alias").String() || o.Established.LocalID.String() != id("alias").String() {
			t.Errorf("%v %v", e.Established, o.Established)
		}
	})
}

func TestWrongPSK(t *testing.T) {
	s, a, b := hosts(t, 12)
	b.Secret = auth.NewPSK([]byte("another secret, of sufficient length"))
	e := a.Connect(b, nil)
	s.Settle(time.Minute)
	clean(t, s)
	wantNotify(t, e.Failed, wire.NotifyAuthenticationFailed, true)
	wantNotify(t, b.Ends[0].Failed, wire.NotifyAuthenticationFailed, false)
	if !strings.Contains(b.Ends[0].Failed.Error(), "pre-shared keys differ") {
		t.Errorf("%v", b.Ends[0].Failed)
	}
	if e.Closed == nil || len(e.ChildErrors) != 1 || e.Established != nil {
		t.Errorf("%+v", e)
	}
}

func TestTransportMode(t *testing.T) {
	host := func(x, y string) ts.Pair { return iketest.Pair(x, y) }
	t.Run("granted", func(t *testing.T) {
		s, a, b := hosts(t, 14)
		b.Allow = host("192.0.2.2", "192.0.2.1")
		req := a.Request("host", host("192.0.2.1", "192.0.2.2"))
		req.Transport = true
		e := a.Connect(b, req)
		both(t, s, e)
		s.Settle(time.Minute)
		clean(t, s)
		if c := a.Child(); c == nil || !c.Transport || !b.Child().Transport {
			t.Error("no transport mode")
		}
	})
	t.Run("ADV-E6 not granted", func(t *testing.T) {
		s, a, b := hosts(t, 15)
		b.Allow = host("192.0.2.2", "192.0.2.1")
		b.Transport = false
		req := a.Request("host", host("192.0.2.1", "192.0.2.2"))
		req.Transport = true
		e := a.Connect(b, req)
		o := both(t, s, e)
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.Made) != 0 || len(o.Made) != 1 || len(o.Children) != 0 || !e.Up() {
			t.Errorf("%s: %v", s.Summary(), o.Made)
		}
	})
	t.Run("ADV-E6 not asked for", func(t *testing.T) {
		s, a, b := hosts(t, 16)
		s.Rewrite(func(o *iketest.Opened) bool {
			if o.Kind() != "IKE_AUTH response" {
				return false
			}
			o.Payloads = append(o.Payloads, &wire.Notify{NType: wire.NotifyUseTransportMode})
			return true
		})
		e := a.Connect(b, nil)
		o := both(t, s, e)
		s.Settle(time.Minute)
		clean(t, s)
		if len(e.Made) != 0 || len(o.Children) != 0 {
			t.Error("installed")
		}
	})
	t.Run("behind a NAT", func(t *testing.T) {
		s, a, b := hosts(t, 17)
		a.Outside = netip.MustParseAddr("198.51.100.1")
		a.Addr = netip.MustParseAddrPort("10.9.9.9:500")
		b.Allow = host("192.0.2.2[tcp]", "198.51.100.1")
		req := a.Request("host", host("10.9.9.9[tcp]", "192.0.2.2[tcp/80]"))
		req.Transport = true
		e := a.Connect(b, req)
		both(t, s, e)
		s.Run(time.Second, nil)
		clean(t, s)
		ca, cb := a.Child(), b.Child()
		if ca == nil || cb == nil {
			t.Fatalf("%v", e.ChildErrors)
		}
		// RFC 7296, Section 2.23.1: each sees the addresses of its own packets.
		if got := ca.Pair.String(); got != "10.9.9.9/32[tcp] === 192.0.2.2/32[tcp/80]" {
			t.Errorf("initiator %s", got)
		}
		if got := cb.Pair.String(); got != "192.0.2.2/32[tcp/80] === 198.51.100.1/32[tcp]" {
			t.Errorf("responder %s", got)
		}
	})
}

func TestNarrowing(t *testing.T) {
	tests := []struct {
		name, local, remote string // asked for by a
		allowL, allowR      string // by b, from its view
		want                string // from a's view; "" = refused
	}{
		{"equal", "10.1.0.0/16", "10.2.0.0/16", "10.2.0.0/16", "10.1.0.0/16", "10.1.0.0/16 === 10.2.0.0/16"},
		{"superset", "0.0.0.0/0", "0.0.0.0/0", "10.2.0.0/16", "10.1.0.0/16", "10.1.0.0/16 === 10.2.0.0/16"},
		{"overlap", "10.1.0.0/16", "10.0.0.0/8[tcp]", "10.2.0.0/16", "10.1.1.0/24", "10.1.1.0/24 === 10.2.0.0/16[tcp]"},
		{"ports", "10.1.0.1", "10.2.0.1[tcp/80-90]", "10.2.0.0/16[tcp/85-100]", "10.0.0.0/8", "10.1.0.1/32 === 10.2.0.1/32[tcp/85-90]"},
		{"IPv6", "fd00:1::/32", "fd00:2::/32", "fd00:2::1", "::/0", "fd00:1::/32 === fd00:2::1/128"},
		{"disjoint", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.1.0.0/16", ""},
		{"families", "10.1.0.0/16", "fd00::/16", "0.0.0.0/0", "::/0", ""},
	}
	for i, tt := range tests {
		t.Run("ADV-E2 "+tt.name, func(t *testing.T) {
			s, a, b := hosts(t, uint64(20+i))
			b.Allow = iketest.Pair(tt.allowL, tt.allowR)
			e := a.Connect(b, a.Request("net", iketest.Pair(tt.local, tt.remote)))
			both(t, s, e)
			s.Settle(time.Minute)
			clean(t, s)
			if tt.want == "" {
				// RFC 7296, Section 1.2: the IKE SA is created as usual (ADV-D23).
				if len(e.ChildErrors) != 1 || !e.Up() {
					t.Fatalf("%v", e.ChildErrors)
				}
				wantNotify(t, e.ChildErrors[0], wire.NotifyTSUnacceptable, true)
				return
			}
			c := a.Child()
			if c == nil {
				t.Fatalf("%v", e.ChildErrors)
			}
			if got := c.Pair.String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNATTraversal(t *testing.T) {
	tests := []struct {
		name           string
		a, b           string // addresses
		natA, natB     string
		force          bool // a forces encapsulation
		forceB         bool
		encap          bool
		aLocal, aRemot uint16 // a's ports in the end
	}{
		{name: "no NAT", a: "192.0.2.1:500", b: "192.0.2.2:500", aLocal: 500, aRemot: 500},
		{name: "NAT at the initiator", a: "10.9.0.1:500", b: "192.0.2.2:500", natA: "198.51.100.1", encap: true, aLocal: 4500, aRemot: 4500},
		{name: "NAT at the responder", a: "192.0.2.1:500", b: "10.9.0.2:500", natB: "198.51.100.2", encap: true, aLocal: 4500, aRemot: 4500},
		{name: "NAT at both", a: "10.9.0.1:500", b: "10.9.0.2:500", natA: "198.51.100.1", natB: "198.51.100.2", encap: true, aLocal: 4500, aRemot: 4500},
		{name: "forced from 500", a: "192.0.2.1:500", b: "192.0.2.2:500", force: true, encap: true, aLocal: 4500, aRemot: 4500},
		{name: "forced by the responder", a: "192.0.2.1:500", b: "192.0.2.2:500", forceB: true, encap: true, aLocal: 4500, aRemot: 4500},
		{name: "any port to 500", a: "192.0.2.1:40001", b: "192.0.2.2:500", force: true, encap: true, aLocal: 40001, aRemot: 4500},
		{name: "directly to 4500", a: "192.0.2.1:40001", b: "192.0.2.2:4500", force: true, encap: true, aLocal: 40001, aRemot: 4500},
		{name: "any port to any port", a: "192.0.2.1:40001", b: "192.0.2.2:40002", force: true, encap: true, aLocal: 40001, aRemot: 40002},
		{name: "4500 without NAT", a: "192.0.2.1:4500", b: "192.0.2.2:4500", aLocal: 4500, aRemot: 4500},
		{name: "IPv6", a: "[2001:db8::1]:500", b: "[2001:db8::2]:500", force: true, encap: true, aLocal: 4500, aRemot: 4500},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := iketest.New(uint64(i))
			a, b := s.AddHost("moon", tt.a), s.AddHost("sun", tt.b)
			if tt.natA != "" {
				a.Outside = netip.MustParseAddr(tt.natA)
			}
			if tt.natB != "" {
				b.Outside, b.KeepPorts = netip.MustParseAddr(tt.natB), true
			}
			a.Config.ForceEncap, b.Config.ForceEncap = tt.force, tt.forceB
			e := a.Connect(b, nil)
			o := both(t, s, e)
			s.Run(time.Second, nil)
			clean(t, s)
			x, y := e.Established, o.Established
			if x.Encap != tt.encap || y.Encap != tt.encap {
				t.Errorf("encapsulation %v and %v", x.Encap, y.Encap)
			}
			p := e.M.Path()
			if p.Local.Port() != tt.aLocal || p.Remote.Port() != tt.aRemot {
				t.Errorf("path %v, want ports %d and %d", p, tt.aLocal, tt.aRemot)
			}
			// Who fakes a NAT deceives its peer, not itself.
			if x.LocalNAT != (tt.natA != "") || y.RemoteNAT != (tt.natA != "" || tt.force) {
				t.Errorf("NAT at initiator: %v %v", x.LocalNAT, y.RemoteNAT)
			}
			if y.LocalNAT != (tt.natB != "") || x.RemoteNAT != (tt.natB != "" || tt.forceB) {
				t.Errorf("NAT at responder: %v %v", y.LocalNAT, x.RemoteNAT)
			}
			if c := a.Child(); c.Encap != tt.encap || c.Path != p {
				t.Errorf("child %+v", c.Child)
			}
		})
	}
}

// A wire that can only do UDP needs a peer that knows NAT traversal.
func TestForcedEncapWithoutNATD(t *testing.T) {
	s, a, b := hosts(t, 40)
	a.Config.ForceEncap = true
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		m, err := wire.Parse(d.Data)
		if err == nil && m.Exchange == wire.ExchangeIKESAInit && m.Flags.Response() {
			m.Payloads = slices.DeleteFunc(m.Payloads, func(p wire.Payload) bool { _, ok := p.(*wire.Notify); return ok })
			d.Data = iketest.Encode(m)
		}
		return []iketest.Datagram{d}
	}
	e := a.Connect(b, nil)
	s.Run(10*time.Minute, nil)
	s.Settle(time.Minute)
	clean(t, s)
	if e.Failed == nil || !strings.Contains(e.Failed.Error(), "NAT_DETECTION") || len(e.Unverified) != 1 {
		t.Errorf("%v, %v", e.Failed, e.Unverified)
	}
}

func TestLocalAddressIsLearned(t *testing.T) {
	s, a, b := hosts(t, 41)
	addr := a.Addr
	cfg := a.Config
	m, err := ike.NewInitiator(&cfg, ike.Path{Remote: b.Addr}, s.Now)
	if err != nil {
		t.Fatal(err)
	}
	e := a.Adopt(m)
	e.Do(func(m *ike.Machine) { m.Start(s.Now, a.Request("net", iketest.DefaultPair())) })
	both(t, s, e)
	if got := m.Path().Local.Addr(); got != addr.Addr() {
		t.Errorf("local address %v", got)
	}
}

func TestKeyLog(t *testing.T) {
	s, a, b := hosts(t, 42)
	e, o := up(t, s, a, b)
	logs := func(e *iketest.End) (x *ike.IKEKeys, esp map[uint32]*ike.ESPKeys) {
		esp = map[uint32]*ike.ESPKeys{}
		for _, ev := range e.Events {
			if k, ok := ev.(*ike.KeyLog); ok {
				if k.IKE != nil {
					x = k.IKE
				} else {
					esp[k.ESP.SPI] = k.ESP
				}
			}
		}
		return x, esp
	}
	x, xe := logs(e)
	y, ye := logs(o)
	if x == nil || y == nil || !bytes.Equal(x.SKei, y.SKei) || !bytes.Equal(x.SKer, y.SKer) || bytes.Equal(x.SKei, x.SKer) {
		t.Error("IKE keys")
	}
	if len(xe) != 2 || len(ye) != 2 {
		t.Fatalf("%d and %d ESP keys", len(xe), len(ye))
	}
	for spi, k := range xe {
		if o := ye[spi]; o == nil || !bytes.Equal(o.Key, k.Key) || o.Inbound == k.Inbound {
			t.Errorf("ESP key of %08x", spi)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %x", xe, *x, *x, x.SKei); !strings.Contains(s, "redacted") || strings.Contains(s, fmt.Sprintf("%x", []byte(x.SKei))) {
		t.Error("keys print")
	}

	s, a, b = hosts(t, 42)
	a.Config.KeyLog = false
	e, _ = up(t, s, a, b)
	if x, _ := logs(e); x != nil {
		t.Error("key log without being asked")
	}
}

func TestConfigErrors(t *testing.T) {
	s, a, b := hosts(t, 43)
	good := a.Config
	p := ike.Path{Local: a.Addr, Remote: b.Addr}
	if _, err := ike.NewInitiator(&good, p, s.Now); err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(*ike.Config, *ike.Path){
		"proposals":    func(c *ike.Config, p *ike.Path) { c.Proposals = nil },
		"key exchange": func(c *ike.Config, p *ike.Path) { c.Proposals = iketest.MustESP("aes256gcm16") },
		"identity":     func(c *ike.Config, p *ike.Path) { c.Local.ID = wire.ID{} },
		"random":       func(c *ike.Config, p *ike.Path) { c.Rand = nil },
		"address":      func(c *ike.Config, p *ike.Path) { p.Remote = netip.AddrPort{} },
		"source":       func(c *ike.Config, p *ike.Path) { c.Rand = bytes.NewReader(nil) },
		"zeros":        func(c *ike.Config, p *ike.Path) { c.Rand = bytes.NewReader(make([]byte, 1000)) },
	} {
		c, q := good, p
		breakIt(&c, &q)
		if _, err := ike.NewInitiator(&c, q, s.Now); err == nil || !strings.Contains(err.Error(), "moon") && !strings.Contains(err.Error(), "random") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStartTwice(t *testing.T) {
	s, a, b := hosts(t, 44)
	e, _ := up(t, s, a, b)
	req := a.Request("again", iketest.DefaultPair())
	e.Do(func(m *ike.Machine) { m.Start(s.Now, req) })
	e.Do(func(m *ike.Machine) { m.Start(s.Now, nil) })
	if len(e.ChildErrors) != 1 || !errors.Is(e.ChildErrors[0], ike.ErrClosed) || a.SPIs[req.SPI] != iketest.SPIReleased {
		t.Errorf("%v", e.ChildErrors)
	}
	clean(t, s)
}
