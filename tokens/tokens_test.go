package tokens

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/btns-go/btns/esp/ts"
)

var spkiA = []byte("not a real SubjectPublicKeyInfo, A")

func keyToken(t testing.TB, spki []byte) IToken {
	t.Helper()
	tok, err := NewIToken(Identity{Method: MethodBTNS, SPKI: spki})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func nameToken(t testing.TB, name string) IToken {
	t.Helper()
	tok, err := NewIToken(Identity{Method: MethodPreSharedKey, ID: "fqdn:" + name})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func sample(t testing.TB) Info {
	sel := func(s string) ts.Set {
		x, err := ts.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return ts.Set{x}
	}
	return Info{
		Source: SourceLatched, Method: MethodBTNS, Local: keyToken(t, []byte("me")), Remote: keyToken(t, spkiA),
		Policy: "secure", State: "ESTABLISHED", Integrity: true, Confidentiality: true, Replay: true,
		Mode: ModeTunnel, Suite: "aes256gcm16", SPIIn: 0xc0ffee01, SPIOut: 0x1234,
		Selectors:  ts.Pair{Local: sel("fd00::1"), Remote: sel("fd00::2")},
		InnerLocal: netip.MustParseAddrPort("[fd00::1]:1000"), InnerRemote: netip.MustParseAddrPort("[fd00::2]:80"),
		OuterLocal: netip.MustParseAddrPort("192.0.2.1:4500"), OuterRemote: netip.MustParseAddrPort("192.0.2.2:4500"), Encap: true,
	}
}

func TestIToken(t *testing.T) {
	a, b := keyToken(t, spkiA), keyToken(t, []byte("other"))
	if a == b || a != keyToken(t, spkiA) || a.IsZero() || !(IToken{}).IsZero() {
		t.Error("comparison")
	}
	if !strings.HasPrefix(a.Fingerprint(), "SHA256:") || a.ID() != "key:"+a.Fingerprint() || a.Method() != MethodBTNS {
		t.Error(a)
	}
	k := a.PublicKey()
	k[0] ^= 1
	if !bytes.Equal(a.PublicKey(), spkiA) {
		t.Error("the key can be changed from outside")
	}
	for id, want := range map[string]uint16{"ipv4:192.0.2.1": 1, "ipv6:::1": 1, "fqdn:a": 2, "email:a@b": 3, "keyid:61": 0, "": 0} {
		tok, err := NewIToken(Identity{Method: MethodPreSharedKey, ID: id})
		if err != nil || tok.IdentType() != want {
			t.Errorf("%q: %d, %v", id, tok.IdentType(), err)
		}
	}
	if (IToken{}).Audit() != "anybody" || (IToken{}).Fingerprint() != "" || (IToken{}).PublicKey() != nil {
		t.Error("zero")
	}
	full, err := NewIToken(Identity{MethodPKIX, "dn:x", spkiA, "O=CA", "CN=moon"})
	if err != nil || full.AuthorityDN() != "O=CA" || full.HolderDN() != "CN=moon" {
		t.Fatal(err)
	}
	for _, want := range []string{"pkix", "dn:x", full.Fingerprint(), "CN=moon", "by O=CA"} {
		if !strings.Contains(full.String(), want) {
			t.Errorf("%q has no %q", full, want)
		}
	}
}

func TestADV_L25_BTNSPeerBorrowsNoName(t *testing.T) {
	if _, err := NewIToken(Identity{Method: MethodBTNS, ID: "fqdn:bank.example", SPKI: spkiA}); !errors.Is(err, ErrValue) {
		t.Errorf("a BTNS peer has a name: %v", err)
	}
	if _, err := NewIToken(Identity{Method: MethodBTNS, ID: keyToken(t, []byte("other")).ID(), SPKI: spkiA}); !errors.Is(err, ErrValue) {
		t.Errorf("a BTNS peer has another's fingerprint: %v", err)
	}
	if tok, err := NewIToken(Identity{Method: MethodBTNS, ID: keyToken(t, spkiA).ID()}); err != nil || tok.Fingerprint() != "" {
		t.Errorf("a fingerprint to ask for: %v, %v", tok, err)
	}
}

func TestADV_L40_TextIsBoundedAndEscaped(t *testing.T) {
	for _, x := range []Identity{
		{Method: MethodPreSharedKey, ID: "fqdn:a\nb"},
		{Method: MethodPreSharedKey, ID: "fqdn:" + strings.Repeat("x", 1<<20)},
		{Method: MethodPreSharedKey, ID: "fqdn:\x1b[31m"},
		{Method: MethodPreSharedKey, ID: "fqdn:\xff"},
		{Method: MethodPreSharedKey, ID: "fqdn:\u202eevil"},
		{Method: MethodPKIX, Holder: "CN=\x00"},
		{Method: MethodPKIX, Authority: strings.Repeat("x", MaxDN+1)},
		{Method: MethodBTNS, SPKI: make([]byte, MaxSPKI+1)},
		{Method: methodCount},
	} {
		if tok, err := NewIToken(x); !errors.Is(err, ErrValue) {
			t.Errorf("%.60q: %v", x.ID, tok)
		} else if len(err.Error()) > 300 || !clean(err.Error(), 300) {
			t.Errorf("error %q", err)
		}
	}
	for in, want := range map[string]string{
		"plain": "plain", "a\nb": `a\x0ab`, "\x1b[31m": `\x1b[31m`, `back\slash`: `back\\slash`, "\xff": `\xff`,
		"\u202e": `\u{202e}`, "é": "é", "\u0085": `\u{85}`, "": "",
	} {
		if got := Escape(in, 100); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
	i := sample(t)
	i.Reason, i.Policy = strings.Repeat("\n", 1<<20), strings.Repeat("\x00", 1<<20)
	js, err := json.Marshal(i)
	if err != nil || len(i.Audit()) > MaxAudit || len(i.String()) > 10000 || len(js) > 10000 {
		t.Errorf("%d %d %d, %v", len(i.Audit()), len(i.String()), len(js), err)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\nb\xff\u202e\\", 10)
	f.Fuzz(func(t *testing.T, s string, max int) {
		if max < 8 || max > 1<<20 {
			return
		}
		got := Escape(s, max)
		if len(got) > max || !utf8.ValidString(got) {
			t.Fatalf("%d bytes, at most %d: %q", len(got), max, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q in %q", r, got)
			}
		}
	})
}

func TestITokenText(t *testing.T) {
	for _, x := range []Identity{
		{}, {Method: MethodBTNS, SPKI: spkiA}, {Method: MethodPreSharedKey, ID: "fqdn:moon.example"},
		{Method: MethodPKIX, ID: "dn:2.5.4.3=a;b=c%", SPKI: []byte{0, 1, 255}, Authority: "O=A;B, C", Holder: "CN=/ü"},
		{ID: "email:a@b"},
	} {
		tok, err := NewIToken(x)
		if err != nil {
			t.Fatal(err)
		}
		text, err := tok.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseIToken(string(text))
		if err != nil || back != tok {
			t.Errorf("%s reads back as %v, %v", text, back, err)
		}
		for n := range text {
			if cut, err := ParseIToken(string(text[:n])); err == nil && cut == tok {
				t.Errorf("%d of %d bytes read as the whole", n, len(text))
			}
		}
		js, err := json.Marshal(tok)
		var again IToken
		if err != nil || json.Unmarshal(js, &again) != nil || again != tok {
			t.Errorf("JSON %s: %v, %v", js, again, err)
		}
	}
	for _, bad := range []string{
		"", "x", "itoken2", "itoken1;", "itoken1;method=nope", "itoken1;id=a", "itoken1;method=psk;id=%zz", "itoken1;method=psk;id=a%0a",
		"itoken1;id=a;method=psk", "itoken1;method=psk;id=a;id=a", "itoken1;method=btns;key=AB=", "itoken1;method=btns;key=A!",
		"itoken1;method=btns;id=fqdn:a", "itoken1;method=psk;id=a;x=y", strings.Repeat("a", MaxText+1),
	} {
		if tok, err := ParseIToken(bad); !errors.Is(err, ErrValue) {
			t.Errorf("%.60q: %v, %v", bad, tok, err)
		}
	}
}

func FuzzParseIToken(f *testing.F) {
	f.Add("itoken1")
	f.Add("itoken1;method=psk;id=fqdn:moon.example")
	f.Add("itoken1;method=pkix;id=dn:x;key=AAEC;authority=O=CA;holder=CN=moon")
	f.Fuzz(func(t *testing.T, in string) {
		tok, err := ParseIToken(in)
		if err != nil {
			return
		}
		if text, err := tok.MarshalText(); err != nil || string(text) != in {
			t.Fatalf("%q is written as %q", in, text)
		}
	})
}

func TestADV_L28_CVE_2024_45337_NothingBeforeAuthentication(t *testing.T) {
	proven := false
	i := sample(t)
	p := NewLive(func() (Info, error) {
		if !proven {
			return Info{}, ErrNotYet
		}
		return i, nil
	})
	if _, err := p.Info(); !errors.Is(err, ErrNotYet) {
		t.Error(err)
	}
	if tok, err := p.Peer(); !errors.Is(err, ErrNotYet) || !tok.IsZero() {
		t.Error(tok, err)
	}
	for a := AttrPrivacy; a <= AttrChannelBinding; a++ {
		if a == AttrAuditString || a > AttrInformationString && a < AttrAuthenticationMethod {
			continue
		}
		if v, err := p.Attr(a); !errors.Is(err, ErrNotYet) || v != nil {
			t.Errorf("%v: %v, %v", a, v, err)
		}
	}
	proven = true
	if tok, err := p.Peer(); err != nil || tok != i.Remote {
		t.Error(tok, err)
	}
	if got, err := p.Info(); err != nil || got.SPIIn != i.SPIIn {
		t.Error(err)
	}
}

func TestLiveIsReadOnly(t *testing.T) {
	p := NewFixed(sample(t))
	if _, err := p.Bind(); !errors.Is(err, ErrLatched) {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"peer": p.SetPeer(IToken{}), "local": p.SetLocal(IToken{}), "method": p.SetMethod(MethodBTNS, LevelEnable),
		"privacy": p.SetPrivacy(LevelHigh), "integrity": p.SetIntegrity(LevelHigh), "compression": p.SetCompression(LevelAny),
		"mode": p.SetMode(ModeTunnel), "suites": p.SetSuites("x"), "policy": p.SetPolicyName("x"), "narrow": p.SetNarrow(true),
		"disposition": p.SetDisposition(DispositionWait), "bypass": p.SetBypass(true), "attr": p.SetAttr(AttrPrivacy, LevelHigh),
		"read-only attr": p.SetAttr(AttrAuditString, "x"),
	} {
		if !errors.Is(err, ErrLatched) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADV_L30_BoundIsASnapshot(t *testing.T) {
	var p PToken
	if err := errors.Join(p.SetPeer(keyToken(t, spkiA)), p.SetSuites("aes256gcm16"), p.SetMethod(MethodBTNS, LevelEnable),
		p.SetDisposition(DispositionWait), p.SetNarrow(true), p.SetLocal(keyToken(t, []byte("me"))), p.SetMode(ModeTransport)); err != nil {
		t.Fatal(err)
	}
	b, err := p.Bind()
	if err != nil || b.Kind() != KindBound || !b.Equal(&p) {
		t.Fatal(err)
	}
	if err := errors.Join(p.SetPeer(IToken{}), p.SetSuites("other")); err != nil {
		t.Fatal(err)
	}
	p.req.Suites[0] = "changed in place"
	if r := b.Request(); r.Peer != keyToken(t, spkiA) || r.Suites[0] != "aes256gcm16" || b.Equal(&p) {
		t.Errorf("%+v", r)
	}
	if err := b.SetPeer(IToken{}); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	c := b.Clone()
	if c.Kind() != KindTemplate || !c.Equal(b) || c.SetPeer(IToken{}) != nil || c.Equal(b) {
		t.Error("a clone of a bound token is a template")
	}
	if b2, err := b.Bind(); err != nil || !b2.Equal(b) {
		t.Error("a bound token may be set on another socket:", err)
	}
}

func TestADV_L29_UseAfterClose(t *testing.T) {
	p, q := NewFixed(sample(t)), NewFixed(sample(t))
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	var null *PToken
	for _, x := range []*PToken{p, p.Clone(), null} {
		if _, err := x.Info(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := x.Attr(AttrPrivacy); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if x.Equal(q) || q.Equal(x) {
			t.Error("equal to a closed token")
		}
		if x != nil {
			if _, err := x.Bind(); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if err := x.SetPrivacy(LevelHigh); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if s := x.AuditString(); !strings.Contains(s, "closed") {
			t.Error(s)
		}
		if x == null {
			break
		}
	}
	if _, err := q.Info(); err != nil {
		t.Error("another token closed with it:", err)
	}
	gone := NewLive(func() (Info, error) { return Info{}, net.ErrClosed })
	if _, err := gone.Privacy(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestADV_L31_RefusesToBeSerialised(t *testing.T) {
	p := NewFixed(sample(t))
	if _, err := json.Marshal(p); !errors.Is(err, ErrSerialize) {
		t.Error(err)
	}
	if _, err := json.Marshal(map[string]any{"p": p}); !errors.Is(err, ErrSerialize) {
		t.Error(err)
	}
	if err := gob.NewEncoder(&bytes.Buffer{}).Encode(p); !errors.Is(err, ErrSerialize) {
		t.Error(err)
	}
	if _, err := p.MarshalText(); !errors.Is(err, ErrSerialize) {
		t.Error(err)
	}
	var q PToken
	for _, err := range []error{json.Unmarshal([]byte(`{}`), &q), q.UnmarshalText(nil), q.UnmarshalBinary(nil)} {
		if !errors.Is(err, ErrSerialize) {
			t.Error(err)
		}
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", p)
	for _, s := range []string{fmt.Sprint(p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", p), log.String()} {
		if !strings.Contains(s, "ESTABLISHED: peer btns key:SHA256:") {
			t.Error(s)
		}
	}
}

// TestADV_L32_ConsistentSnapshots reads while the connection is rekeyed: what belongs together
// stays together.
func TestADV_L32_ConsistentSnapshots(t *testing.T) {
	var current atomic.Pointer[Info]
	set := func(n uint32) {
		i := sample(t)
		i.SPIIn, i.SPIOut = SPI(n), SPI(n)
		current.Store(&i)
	}
	set(1)
	p := NewLive(func() (Info, error) { return *current.Load(), nil })
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				i, err := p.Info()
				if err != nil || i.SPIIn != i.SPIOut {
					t.Errorf("%v %v, %v", i.SPIIn, i.SPIOut, err)
					return
				}
				if _, err := p.Attr(AttrAuthenticationMethod); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range uint32(500) {
		set(n + 2)
	}
	close(done)
	wg.Wait()
}

func TestEqualIsCmpPToken(t *testing.T) {
	base := sample(t)
	same := []func(*Info){ // what may differ: draft-ietf-btns-c-api, Section 2.3.5
		func(i *Info) { i.SPIIn, i.SPIOut = 1, 2 },
		func(i *Info) { i.OuterRemote = netip.MustParseAddrPort("198.51.100.9:4500") },
		func(i *Info) { i.Encap, i.NAT = false, true },
		func(i *Info) { i.State, i.Reason = "BROKEN", "x" },
		func(i *Info) { i.Policy = "other" },
		func(i *Info) { i.InnerLocal = netip.MustParseAddrPort("[fd00::1]:2000") },
		func(i *Info) { // the same range in two pieces
			p := netip.MustParsePrefix("fd00::2/128")
			i.Selectors.Remote = ts.Set{ts.FromPrefix(p), ts.FromPrefix(p)}
		},
	}
	other := []func(*Info){
		func(i *Info) { i.Suite = "aes128gcm16" },
		func(i *Info) { i.Mode = ModeTransport },
		func(i *Info) { i.Replay = false },
		func(i *Info) { i.Confidentiality = false },
		func(i *Info) { i.Integrity = false },
		func(i *Info) { i.Compression = true },
		func(i *Info) { i.Remote = keyToken(t, []byte("other")) },
		func(i *Info) { i.Local = keyToken(t, []byte("other")) },
		func(i *Info) { i.Method = MethodLeapOfFaith },
		func(i *Info) { i.Selectors.Remote = nil },
		func(i *Info) { i.Indeterminate, i.Suites = true, []string{"aes256gcm16", "aes128gcm16"} },
	}
	a := NewFixed(base)
	for n, f := range same {
		i := base
		f(&i)
		if !a.Equal(NewFixed(i)) {
			t.Errorf("same %d: not equal", n)
		}
	}
	for n, f := range other {
		i := base
		f(&i)
		if a.Equal(NewFixed(i)) || NewFixed(i).Equal(a) {
			t.Errorf("other %d: equal", n)
		}
	}
	wide, wide2 := base, base
	wide.Indeterminate, wide.Suites = true, []string{"a", "b"}
	wide2.Indeterminate, wide2.Suites, wide2.Suite = true, []string{"b", "a"}, "b"
	if !NewFixed(wide).Equal(NewFixed(wide2)) {
		t.Error("one set of suites, another in use")
	}
	if a.Equal(new(PToken)) || new(PToken).Equal(a) || !new(PToken).Equal(new(PToken)) {
		t.Error("kinds")
	}
	if bad := NewLive(func() (Info, error) { return Info{}, ErrNotYet }); bad.Equal(bad) {
		t.Error("what cannot be read is equal")
	}
	var p, q PToken
	if p.SetPolicyName("x") != nil || p.Equal(&q) {
		t.Error("templates")
	}
}

func TestTemplate(t *testing.T) {
	var p PToken
	me, them := keyToken(t, []byte("me")), nameToken(t, "moon.example")
	for a, v := range map[Attribute]any{
		AttrPrivacy: LevelHigh, AttrIntegrity: LevelEnable, AttrCompression: LevelDisable, AttrIToken: them,
		AttrRemoteIToken: them, AttrLocalIToken: me, AttrPolicyName: "secure", AttrTunnelMode: true,
		AttrMethod(MethodBTNS): LevelDisable, AttrMethod(MethodPreSharedKey): LevelEnable,
	} {
		if err := p.SetAttr(a, v); err != nil {
			t.Errorf("%v: %v", a, err)
		}
		if got, err := p.Attr(a); err != nil || got != v {
			t.Errorf("%v: %v, %v; want %v", a, got, err, v)
		}
	}
	r := p.Request()
	if r.Peer != them || r.Local != me || r.Privacy != LevelHigh || r.Mode != ModeTunnel || r.Methods.Allows(MethodBTNS) ||
		!r.Methods.Allows(MethodPreSharedKey) || r.Methods.Allows(MethodPKIX) {
		t.Errorf("%+v", r)
	}
	if _, err := p.Info(); !errors.Is(err, ErrNotYet) {
		t.Error(err)
	}
	if got, err := p.Attr(AttrAuthenticationMethod); err != nil || got != MethodPreSharedKey {
		t.Error(got, err)
	}
	if p.SetAttr(AttrTunnelMode, false) != nil || p.Request().Mode != ModeTransport {
		t.Error("transport")
	}
	if s := p.String(); !strings.Contains(s, "template") || !strings.Contains(s, "moon.example") {
		t.Error(s)
	}
	for _, tc := range []struct {
		a    Attribute
		v    any
		want error
	}{
		{AttrPrivacy, 3, ErrValue}, {AttrPrivacy, levelCount, ErrValue}, {AttrIToken, "moon", ErrValue}, {AttrPolicyName, "a\n", ErrValue},
		{AttrCompression, LevelEnable, ErrUnsupported}, {AttrMethod(MethodEAP), LevelEnable, ErrUnsupported},
		{AttrMethod(MethodXAuth), LevelEnable, ErrUnsupported}, {AttrMethod(MethodGroupKey), LevelEnable, ErrUnsupported},
		{AttrMethod(MethodEAP), LevelDisable, nil}, {AttrMethod(MethodBTNS), LevelHigh, ErrValue},
		{AttrMethod(MethodUnknown), LevelEnable, ErrUnknownAttr}, {AttrMethod(methodCount), LevelEnable, ErrUnknownAttr},
		{AttrAuditString, "x", ErrReadOnly}, {AttrPubKeyID, []byte{1}, ErrReadOnly}, {AttrChannelBinding, []byte{1}, ErrUnsupported},
		{0, 1, ErrUnknownAttr}, {99, 1, ErrUnknownAttr},
	} {
		err := p.SetAttr(tc.a, tc.v)
		if !errors.Is(err, tc.want) {
			t.Errorf("%v = %v: %v, want %v", tc.a, tc.v, err, tc.want)
		}
		var attrErr *AttrError
		if tc.want != nil && (!errors.As(err, &attrErr) || attrErr.Attr != tc.a || !strings.Contains(err.Error(), tc.a.String())) {
			t.Errorf("%v: %v", tc.a, err)
		}
	}
	for name, err := range map[string]error{
		"mode": p.SetMode(9), "disposition": p.SetDisposition(9), "suite": p.SetSuites("a\n"), "empty suite": p.SetSuites(""),
		"many suites": p.SetSuites(make([]string, MaxSuites+1)...), "method": p.SetMethod(methodCount, LevelEnable),
	} {
		if !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.SetBypass(true) != nil || !p.Request().Bypass {
		t.Error("bypass")
	}
	var none Methods
	if !none.Allows(MethodBTNS) || none.Allows(MethodUnknown) || none.Allows(methodCount) {
		t.Error("methods by default")
	}
}

func TestADV_L33_LiveAttributes(t *testing.T) {
	i := sample(t)
	p := NewFixed(i)
	for a, want := range map[Attribute]any{
		AttrPrivacy: LevelEnable, AttrIntegrity: LevelEnable, AttrCompression: LevelDisable, AttrIToken: i.Remote,
		AttrRemoteIToken: i.Remote, AttrLocalIToken: i.Local, AttrPolicyName: "secure", AttrTunnelMode: true, AttrIPOptions: true,
		AttrAuthenticationMethod: MethodBTNS, AttrCertificateAuthorityDN: "", AttrCertificateDN: "",
		AttrAuditString: i.Audit(), AttrInformationString: i.String(),
		AttrMethod(MethodBTNS): LevelEnable, AttrMethod(MethodEAP): LevelDisable,
	} {
		if got, err := p.Attr(a); err != nil || got != want {
			t.Errorf("%v: %v, %v; want %v", a, got, err, want)
		}
	}
	if got, err := p.Attr(AttrPubKeyID); err != nil || !bytes.Equal(got.([]byte), spkiA) {
		t.Error(got, err)
	}
	for a, want := range map[Attribute]error{AttrChannelBinding: ErrUnsupported, 0: ErrUnknownAttr, 12: ErrUnknownAttr, 1 << 31: ErrUnknownAttr} {
		if got, err := p.Attr(a); !errors.Is(err, want) || got != nil {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	if got, err := i.Remote.Attr(AttrAuditString); err != nil || got != i.Remote.Audit() {
		t.Error(got, err)
	}
	if !new(PToken).Equal(new(PToken).Clone()) || !p.Clone().Equal(p) || p.Clone().Kind() != KindLive {
		t.Error("clone")
	}
}

func TestInfo(t *testing.T) {
	i := sample(t)
	for _, want := range []string{"ESTABLISHED", "latched", "btns", i.Remote.Fingerprint(), "c0ffee01", "00001234", "[fd00::2]:80", "192.0.2.2:4500, in UDP", "aes256gcm16, tunnel", "secure", "fd00::1/128 === fd00::2/128"} {
		if !strings.Contains(i.String(), want) {
			t.Errorf("no %q in\n%s", want, i)
		}
	}
	js, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(js, &m); err != nil {
		t.Fatal(err)
	}
	remote, _ := m["remote"].(map[string]any)
	if m["spi_in"] != "c0ffee01" || m["method"] != "btns" || m["mode"] != "tunnel" || m["source"] != "latched" || remote["fingerprint"] != i.Remote.Fingerprint() {
		t.Errorf("%s", js)
	}
	tok, err := ParseIToken(remote["token"].(string))
	if err != nil || tok != i.Remote {
		t.Error(tok, err)
	}
	var s SPI
	if s.UnmarshalText([]byte("c0ffee01")) != nil || s != 0xc0ffee01 || s.UnmarshalText([]byte("zz")) == nil {
		t.Error(s)
	}
	if (Info{}).Audit() != "unprotected" {
		t.Error((Info{}).Audit())
	}
	if _, err := json.Marshal(Info{}); err != nil || (Info{}).String() == "" {
		t.Error(err)
	}
	i.Indeterminate, i.Suites, i.Reason = true, []string{"a", "b"}, "conflicting SA"
	if got := i.String() + i.Audit(); !strings.Contains(got, "indeterminate among a, b") || !strings.Contains(got, "(indeterminate)") || !strings.Contains(got, "conflicting SA") {
		t.Error(got)
	}
	for state, want := range map[string]uint8{"LARVAL": 0, "ESTABLISHED": 1, "BROKEN": 2, "CLOSED": 3, "": 3} {
		if got := (Info{State: state}).SAState(); got != want {
			t.Errorf("%s: %d", state, got)
		}
	}
}

func TestNames(t *testing.T) {
	for m := range methodCount {
		back, err := ParseMethod(m.String())
		if (m == 0) != (err != nil) || m != 0 && back != m {
			t.Errorf("%v: %v, %v", m, back, err)
		}
		if m.Anonymous() != (m == MethodUnknown || m == MethodNone || m == MethodBTNS || m == MethodNull) {
			t.Errorf("%v is anonymous: %v", m, m.Anonymous())
		}
	}
	for _, s := range []fmt.Stringer{methodCount, levelCount, Mode(9), Kind(9), Attribute(9999), LevelMedium, ModeUnknown, KindTemplate, KindBound, SourceConfigured} {
		if s.String() == "" {
			t.Errorf("%T", s)
		}
	}
	if LevelAny.Enabled() || LevelDisable.Enabled() || !LevelLow.Enabled() || levelCount.Enabled() {
		t.Error("levels")
	}
}
