package ike_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// selfSigned is a certificate that its own key vouches for.
func selfSigned(t testing.TB, k crypto.Signer) wire.Cert {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		OCSPServer: []string{"http://192.0.2.66/ocsp"}, CRLDistributionPoints: []string{"http://192.0.2.66/crl"}, IssuingCertificateURL: []string{"http://192.0.2.66/ca"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return wire.Cert{Encoding: wire.CertX509, Data: der}
}

func bare(k crypto.Signer) wire.Cert {
	return wire.Cert{Encoding: wire.CertRawPublicKey, Data: auth.SPKI(k.Public())}
}

// What a peer shows and what it signs with, in every combination, at either end: nothing but
// the trusted key's own signature over this very exchange is believed.
func TestAuthenticationMatrix(t *testing.T) {
	var old []byte // AUTH of another session of the trusted key
	setAuth := func(change func(a *wire.Auth)) func(o *iketest.Opened) {
		return func(o *iketest.Opened) {
			if a, ok := wire.Get[*wire.Auth](o.Payloads); ok {
				change(a)
			}
		}
	}
	tests := []struct {
		name   string
		kind   auth.Kind
		certs  func(trusted, other crypto.Signer) []wire.Cert
		sign   bool // with the trusted key
		change func(o *iketest.Opened)
		want   bool
	}{
		{"the trusted key", auth.KindEd25519, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, true,
			func(o *iketest.Opened) {
				if a, ok := wire.Get[*wire.Auth](o.Payloads); ok {
					old = bytes.Clone(a.Data)
				}
			}, true},
		{"CVE-2023-26463 a key that nobody trusts", auth.KindEd25519, func(_, x crypto.Signer) []wire.Cert { return []wire.Cert{bare(x)} }, false, nil, false},
		{"CVE-2023-26463 a trusted key second", auth.KindEd25519, func(k, x crypto.Signer) []wire.Cert { return []wire.Cert{bare(x), bare(k)} }, false, nil, false},
		{"CVE-2024-45337 a trusted key shown, another signs", auth.KindEd25519, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, false, nil, false},
		{"CVE-2026-46595 a trusted key first, another signs", auth.KindEd25519, func(k, x crypto.Signer) []wire.Cert { return []wire.Cert{bare(k), bare(x)} }, false, nil, false},
		{"CVE-2020-16088 ECDSA P-256", auth.KindECDSAP256, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, false, nil, false},
		{"CVE-2020-16088 ECDSA P-384", auth.KindECDSAP384, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, false, nil, false},
		{"CVE-2004-0155 no signature in it", auth.KindEd25519, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, true,
			setAuth(func(a *wire.Auth) { clear(a.Data[len(a.Data)-64:]) }), false},
		{"CVE-2004-0155 the signature of another session", auth.KindEd25519, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, true,
			setAuth(func(a *wire.Auth) { a.Data = old }), false},
		{"CVE-2026-50751 a key, and no AUTH", auth.KindEd25519, func(k, _ crypto.Signer) []wire.Cert { return []wire.Cert{bare(k)} }, true,
			func(o *iketest.Opened) { o.Drop(wire.PayloadAuth) }, false},
		{"CVE-2026-50751 a certificate instead of a key", auth.KindEd25519, func(_, x crypto.Signer) []wire.Cert { return []wire.Cert{selfSigned(t, x)} }, false, nil, false},
		{"CVE-2026-50751 a certificate beside a trusted key", auth.KindEd25519, func(k, x crypto.Signer) []wire.Cert { return []wire.Cert{selfSigned(t, x), bare(k)} }, false, nil, false},
		{"nothing shown", auth.KindEd25519, func(_, _ crypto.Signer) []wire.Cert { return nil }, true, nil, false},
	}
	for i, tt := range tests {
		for _, byResponder := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				s, a, b := hosts(t, uint64(800+i))
				liar, judge := a, b
				if byResponder {
					liar, judge = b, a
				}
				trusted, other := key(t, tt.kind), key(t, tt.kind)
				judge.UseKey(key(t, auth.KindEd25519))
				liar.UseKey(other)
				if tt.sign {
					liar.Key = trusted
				}
				liar.Config.Local.Certs = tt.certs(trusted, other)
				judge.Trust = [][]byte{auth.SPKI(trusted.Public())}
				s.Rewrite(func(o *iketest.Opened) bool {
					if tt.change == nil || o.From.Host != liar || o.Header.Exchange != wire.ExchangeIKEAuth {
						return false
					}
					tt.change(o)
					return !tt.want
				})
				a.Connect(b, nil)
				s.Run(time.Second, nil)
				clean(t, s)
				if len(judge.Ends) != 1 {
					t.Fatalf("%d ends", len(judge.Ends))
				}
				e := judge.Ends[0]
				if (e.Established != nil) != tt.want || (len(e.Made) != 0) != tt.want || (e.Failed == nil) != tt.want {
					t.Errorf("established %v, %d child SAs: %v", e.Established != nil, len(e.Made), e.Failed)
				}
				if !tt.want && len(b.Established()) != 0 && !byResponder {
					t.Error("the responder believes it")
				}
			})
		}
	}
}

// Before the peer has proved who it is, it gets nothing of ours: no signature that could be
// tried offline, no decision about its child SA, no child SA, and afterwards no word but the
// refusal.
func TestCVE_2015_4171_NothingBeforeThePeerIsChecked(t *testing.T) {
	for _, judgeIsResponder := range []bool{true, false} {
		for _, slow := range []time.Duration{0, 30 * time.Millisecond} {
			s, a, b := hosts(t, 820)
			judge := a
			if judgeIsResponder {
				judge = b
			}
			judge.WantID = id("venus")
			s.Faults.Work = slow
			checked := false
			judge.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
				switch w.(type) {
				case *ike.WorkVerify:
					checked = true
				case *ike.WorkSign:
					if judgeIsResponder {
						t.Error("asked to sign for a peer that is not checked")
					}
				case *ike.WorkDecide, *ike.WorkRekey:
					t.Errorf("asked for %T", w)
				case *ike.WorkKE:
				}
				return r
			}
			a.Talk(5 * time.Millisecond)
			e := a.Connect(b, nil)
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			var said []string
			s.Rewrite(func(o *iketest.Opened) bool {
				if o.From.Host == judge && (judgeIsResponder || checked) {
					for _, p := range o.Payloads {
						if n, ok := p.(*wire.Notify); ok && n.NType == wire.NotifyAuthenticationFailed {
							continue
						}
						said = append(said, o.Kind()+" with "+p.Type().String())
					}
				}
				return false
			})
			s.Run(5*time.Second, nil)
			if !checked || len(said) != 0 || s.Traffic.Sealed != 0 || s.Traffic.Offered == 0 {
				t.Errorf("responder %v: checked %v, said %v, %+v", judgeIsResponder, checked, said, s.Traffic)
			}
			for _, x := range judge.Ends {
				if x.Established != nil || len(x.Made) != 0 {
					t.Errorf("%v: established", x)
				}
			}
			clean(t, s)
		}
	}
}

// AUTH methods 0 to 255 with the data of the right one, and a second AUTH.
func TestADV_D10_ROW_55_EveryMethodNumber(t *testing.T) {
	for m := range 256 {
		s, _, _, d, to := at(t, 821, "IKE_AUTH request")
		got := deliver(t, s, d, to, resealed(t, s, d, func(o *iketest.Opened) {
			a, _ := wire.Get[*wire.Auth](o.Payloads)
			a.Method = wire.AuthMethod(m)
		}))
		want := outcome{answer: wire.NotifyAuthenticationFailed}
		if wire.AuthMethod(m) == wire.AuthMethodPSK {
			want = outcome{lives: true}
		}
		if got != want || (to.Established != nil) != want.lives {
			t.Errorf("method %d: %+v", m, got)
		}
		clean(t, s)
	}
	for _, front := range []bool{true, false} {
		s, _, _, d, to := at(t, 822, "IKE_AUTH request")
		got := deliver(t, s, d, to, resealed(t, s, d, func(o *iketest.Opened) {
			second := wire.Payload(&wire.Auth{Method: 0, Data: make([]byte, 32)})
			if front {
				o.Payloads = slices.Insert(o.Payloads, 0, second)
			} else {
				o.Payloads = append(o.Payloads, second)
			}
		}))
		if (got != outcome{answer: wire.NotifyInvalidSyntax}) || to.Established != nil {
			t.Errorf("two AUTH: %+v", got)
		}
		clean(t, s)
	}
}

// Identifications of every type and many lengths, from a peer that has exchanged keys and
// nothing else.
func TestADV_D15_CVE_2025_9242_IdentificationLength(t *testing.T) {
	lengths := []int{63, 64, 65, 127, 128, 129, 255, 256, 257, 520, 4095, 4096, 4097, 40000}
	for n := range 34 {
		lengths = append(lengths, n)
	}
	for _, responder := range []bool{false, true} {
		for _, typ := range []wire.IDType{0, wire.IDIPv4Addr, wire.IDFQDN, wire.IDIPv6Addr, wire.IDDERASN1DN, wire.IDKeyID, wire.IDNull, 255} {
			for _, n := range lengths {
				s, _, _, d, to := at(t, 823, "IKE_AUTH request")
				pt := wire.PayloadIDi
				if responder {
					pt = wire.PayloadIDr
				}
				got := deliver(t, s, d, to, resealed(t, s, d, func(o *iketest.Opened) {
					o.Drop(pt)
					body := append([]byte{byte(typ), 0, 0, 0}, bytes.Repeat([]byte{0x30}, n)...)
					o.Payloads = slices.Insert(o.Payloads, 0, wire.Payload(&wire.Unknown{PType: pt, Data: body}))
				}))
				if !responder && (got.lives || to.Established != nil || got.answer != wire.NotifyInvalidSyntax && got.answer != wire.NotifyAuthenticationFailed) {
					t.Errorf("type %d with %d octets: %+v", typ, n, got)
				}
				clean(t, s)
			}
		}
	}
}

// Chains of certificates, URLs in place of them and in them: a bounded number is looked at,
// and nobody but the peer is sent anything.
func TestADV_D19_CVE_2022_40617_NothingIsFetched(t *testing.T) {
	k := key(t, auth.KindEd25519)
	x := selfSigned(t, k)
	url := append(bytes.Repeat([]byte{7}, 20), "http://192.0.2.66/certificate"...)
	tests := map[string][]wire.Cert{
		"chain of 50":  slices.Repeat([]wire.Cert{x}, 50),
		"hash and URL": {{Encoding: wire.CertHashURL, Data: url}, {Encoding: wire.CertHashURLChain, Data: url}},
		"60,000":       {{Encoding: wire.CertX509, Data: bytes.Repeat([]byte{0x30, 0x80}, 30000)}},
		"CRL":          {{Encoding: wire.CertCRL, Data: url}},
	}
	for name, certs := range tests {
		for _, byResponder := range []bool{false, true} {
			s, a, b := hosts(t, 824)
			liar, judge := a, b
			if byResponder {
				liar, judge = b, a
			}
			judge.UseKey(key(t, auth.KindEd25519))
			liar.UseKey(k)
			liar.Config.Local.Certs = certs
			victim := s.AddHost("venus", "192.0.2.66:80")
			most := 0
			judge.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
				if v, ok := w.(*ike.WorkVerify); ok {
					most = max(most, len(v.Certs))
				}
				return r
			}
			s.Watch = func(d iketest.Datagram) {
				if to := d.To.Addr(); to != a.Addr.Addr() && to != b.Addr.Addr() {
					t.Errorf("%s: a datagram to %v", name, d.To)
				}
			}
			a.Connect(b, nil)
			s.Run(10*time.Second, nil)
			clean(t, s)
			if len(judge.Ends) != 1 || judge.Ends[0].Established != nil || most > 16 || len(victim.Ends) != 0 {
				t.Errorf("%s: %d certificates looked at\n%s", name, most, s.Summary())
			}
		}
	}
}

// What a peer was granted once it had authenticated holds for the SAs that follow: who it is,
// when it must authenticate again, how many child SAs it may have.
func TestCVE_2026_39828_RestrictionsOutliveRekeying(t *testing.T) {
	s, a, b := hosts(t, 825)
	b.Config.Life.Reauth = 3 * time.Hour
	b.Config.MaxChildren = 3
	var who []any
	b.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
		if d, ok := w.(*ike.WorkDecide); ok {
			who = append(who, d.Peer)
		}
		return r
	}
	e, o := up(t, s, a, b)
	for range 3 {
		rekeyIKE(s, e.Last())
		s.Run(time.Second, nil)
	}
	if e.Last() == e {
		t.Fatal("not rekeyed")
	}
	for range 5 {
		e.Last().CreateChild(a.Request("more", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	}
	s.Run(5*time.Second, nil)
	last := e.Last()
	if len(last.Children) != 3 || len(last.ChildErrors) != 3 {
		t.Errorf("%d child SAs, %v", len(last.Children), last.ChildErrors)
	}
	// What is asked for beyond the policy is refused as it was before.
	last.CreateChild(a.Request("all", iketest.Pair("172.16.0.0/12", "172.16.0.0/12")))
	s.Run(5*time.Second, nil)
	if len(last.ChildErrors) != 4 {
		t.Errorf("%v", last.ChildErrors)
	}
	for i, p := range who {
		if p == nil || p != o.Established.Peer {
			t.Errorf("decision %d was asked for %v", i, p)
		}
	}
	start := s.Elapsed()
	s.Run(4*time.Hour, func() bool { return o.Last().Closed != nil })
	if c := o.Last().Closed; c == nil || c.Reason != ike.ReasonExpired {
		t.Errorf("no end of the authentication: %+v after %v", c, s.Elapsed()-start)
	}
	clean(t, s)
}
