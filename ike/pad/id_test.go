package pad

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/btns-go/btns/ike/wire"
)

func mustID(t testing.TB, s string) ID {
	t.Helper()
	id, err := ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestParseID(t *testing.T) {
	for _, tc := range []struct {
		in        string
		typ       wire.IDType
		canonical string
		out       string // "" is in
	}{
		{"moon.example", wire.IDFQDN, "fqdn:moon.example", ""},
		{"Moon.Example.", wire.IDFQDN, "fqdn:moon.example", "Moon.Example."},
		{"@moon.example", wire.IDFQDN, "fqdn:moon.example", "moon.example"},
		{"moon", wire.IDFQDN, "fqdn:moon", ""},
		{"fqdn:192.0.2.1", wire.IDFQDN, "fqdn:192.0.2.1", ""},
		{"*.example", wire.IDFQDN, "fqdn:*.example", ""},
		{"192.0.2.1", wire.IDIPv4Addr, "ipv4:192.0.2.1", ""},
		{"ipv4:192.0.2.1", wire.IDIPv4Addr, "ipv4:192.0.2.1", "192.0.2.1"},
		{"2001:DB8::1", wire.IDIPv6Addr, "ipv6:2001:db8::1", "2001:db8::1"},
		{"192.0.2.0/24", 0, "any:192.0.2.0/24", ""},
		{"192.0.2.9/24", 0, "any:192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.1/32", wire.IDIPv4Addr, "ipv4:192.0.2.1", "192.0.2.1"},
		{"192.0.2.1-192.0.2.9", 0, "any:192.0.2.1-192.0.2.9", ""},
		{"2001:db8::/32", 0, "any:2001:db8::/32", ""},
		{"%any", 0, "any:%any", ""},
		{"*", 0, "any:%any", "%any"},
		{"0.0.0.0", 0, "any:%any", "%any"},
		{"%any6", 0, "any:%any", "%any"},
		{"carol@moon.example", wire.IDRFC822Addr, "email:carol@moon.example", ""},
		{"Carol@Moon.Example", wire.IDRFC822Addr, "email:Carol@moon.example", ""},
		{"@@carol@moon.example", wire.IDRFC822Addr, "email:carol@moon.example", "carol@moon.example"},
		{"*@moon.example", wire.IDRFC822Addr, "email:*@moon.example", ""},
		{"@#6d6f6f6e", wire.IDKeyID, "keyid:6d6f6f6e", ""},
		{"keyid:moon", wire.IDKeyID, "keyid:6d6f6f6e", "@#6d6f6f6e"},
		{"keyid:#0x6d6f", wire.IDKeyID, "keyid:6d6f", "@#6d6f"},
		{"what:ever", wire.IDKeyID, "keyid:" + hex.EncodeToString([]byte("what:ever")), "@#" + hex.EncodeToString([]byte("what:ever"))},
		{"a=b", wire.IDKeyID, "keyid:613d62", "@#613d62"}, // no attribute type: not a name
		{"C=CH, O=Example Org, CN=moon", wire.IDDERASN1DN, "dn:2.5.4.6=ch,2.5.4.10=example org,2.5.4.3=moon", ""},
		{"/C=CH/O=Example Org/CN=moon", wire.IDDERASN1DN, "dn:2.5.4.6=ch,2.5.4.10=example org,2.5.4.3=moon", "C=CH, O=Example Org, CN=moon"},
		{`CN=a\,b, E=a@b.example, DC=x`, wire.IDDERASN1DN, `dn:2.5.4.3=a\,b,1.2.840.113549.1.9.1=a@b.example,0.9.2342.19200300.100.1.25=x`, ""},
		{"null:", wire.IDNull, "null:", ""},
		{"{12}:#00ff", wire.IDFCName, "id12:00ff", ""},
		{"{2}:moon.example", wire.IDFQDN, "fqdn:moon.example", "moon.example"},
		{"CN=Müller", wire.IDDERASN1DN, "dn:2.5.4.3=müller", ""},
	} {
		id, err := ParseID(tc.in)
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
			continue
		}
		if id.Type != tc.typ || id.Canonical() != tc.canonical {
			t.Errorf("%q: %v %q, want %v %q", tc.in, id.Type, id.Canonical(), tc.typ, tc.canonical)
		}
		out := tc.out
		if out == "" {
			out = tc.in
		}
		if id.String() != out {
			t.Errorf("%q prints as %q, want %q", tc.in, id.String(), out)
		}
		if back, err := ParseID(id.String()); err != nil || back.Type != id.Type || back.Canonical() != id.Canonical() {
			t.Errorf("%q: %q reads back as %+v, %v", tc.in, id.String(), back, err)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, in := range []string{
		"", "  ", "@", "@@", "@#", "@#zz", "@#6", "a b", "a\nb", "a\x00b", "10.0.0.999", "10.0.0.9-10.0.0.1", "10.0.0.0/33", "::ffff:192.0.2.1",
		"fe80::1%eth0", "::ffff:192.0.2.0/120", "ipv4:fd00::1", "ipv6:192.0.2.1", "ipv4:x", "a*b", "*.*", "carol@", "a@b@", "fqdn:", "fqdn:a@b",
		"email:moon", "asn1dn:", "asn1dn:X=1", "asn1dn:#3000", "asn1dn:#zz", "asn1dn:CN", "asn1dn:CN=", "asn1dn:CN=a,",
		strings.Repeat("a", 254), "@#" + strings.Repeat("00", MaxIDLen+1), "keyid:", "@\xff", "{0}:x", "{x}:y", "{256}:#00", "{12}:", "null:x",
	} {
		if id, err := ParseID(in); err == nil {
			t.Errorf("%q: %+v", in, id)
		} else if len(err.Error()) > 400 || !strings.HasPrefix(err.Error(), "pad: identity ") {
			t.Errorf("%.40q: %.500q", in, err)
		}
	}
}

func TestWireIdentities(t *testing.T) {
	for _, s := range []string{"moon.example", "192.0.2.1", "2001:db8::1", "carol@moon.example", "@#00ff", "C=CH, CN=moon"} {
		id := mustID(t, s)
		w := id.Wire(true)
		if w == nil || !w.Responder || w.IType != id.Type {
			t.Fatalf("%s: %+v", s, w)
		}
		back, err := FromWire(w)
		if err != nil || back != id {
			t.Errorf("%s: %+v, %v", s, back, err)
		}
	}
	for _, s := range []string{"%any", "*.example", "10.0.0.0/8", "*@x.example", "CN=*"} {
		if w := mustID(t, s).Wire(false); w != nil {
			t.Errorf("the pattern %s can be asserted", s)
		}
	}
	if (ID{}).Wire(false) != nil || (ID{}).String() != "nobody" || !(ID{}).IsZero() || (ID{}).IsPattern() {
		t.Error("nobody")
	}
	null, err := FromWire(&wire.ID{IType: wire.IDNull, Data: []byte("ignored")})
	if err != nil || null.Data != "" || null.Canonical() != "null:" || null.String() != "null:" {
		t.Error(null, err)
	}
	if _, err := FromWire(nil); err == nil {
		t.Error("nil")
	}
}

func TestADV_L27_OneSpellingPerIdentity(t *testing.T) {
	bad := func(typ wire.IDType, data string) {
		t.Helper()
		if id, err := FromWire(&wire.ID{IType: typ, Data: []byte(data)}); err == nil {
			t.Errorf("%v %q: %v", typ, data, id)
		}
	}
	bad(wire.IDFQDN, "moon.example\x00.evil")
	bad(wire.IDFQDN, "moon.example\n")
	bad(wire.IDFQDN, " moon.example")
	bad(wire.IDFQDN, "*.example")
	bad(wire.IDFQDN, "")
	bad(wire.IDFQDN, ".")
	bad(wire.IDFQDN, "moon\xc0\x80")
	bad(wire.IDRFC822Addr, "carol")
	bad(wire.IDRFC822Addr, "*@moon.example")
	bad(wire.IDIPv4Addr, "\x01\x02\x03")
	bad(wire.IDIPv6Addr, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01")
	bad(wire.IDDERASN1DN, "\x30\x00")
	bad(wire.IDDERASN1DN, "CN=moon")
	bad(wire.IDKeyID, "")
	bad(0, "%any")
	bad(0, "10.0.0.0/8")
	for _, pair := range [][2]string{
		{"moon.example", "MOON.example."}, {"carol@moon.example", "carol@MOON.example."}, {"C=CH, CN=Moon  Base", "c=ch,cn=moon base"},
	} {
		a, b := mustID(t, pair[0]), mustID(t, pair[1])
		if a.Canonical() != b.Canonical() || !a.Matches(b) || !b.Matches(a) {
			t.Errorf("%v and %v differ", a, b)
		}
	}
	for _, pair := range [][2]string{
		{"192.0.2.1", "fqdn:192.0.2.1"}, {"moon.example", "keyid:moon.example"}, {"carol@moon.example", "Carol@moon.example"},
		{"C=CH, CN=moon", "CN=moon, C=CH"}, {"CN=moon", "O=moon"}, {"moon.example", "moon.example.evil"}, {"fqdn:null", "keyid:null"},
		{`CN=a\,2.5.4.10=b`, "CN=a, O=b"},
	} {
		a, b := mustID(t, pair[0]), mustID(t, pair[1])
		if a.Canonical() == b.Canonical() || a.Matches(b) {
			t.Errorf("%v and %v are one", a, b)
		}
	}
	// DER that is not canonical in type of string is still one name.
	u := name{{"2.5.4.3", "moon"}}
	utf8DER := string(tlv(0x30, tlv(0x31, tlv(0x30, append([]byte{6, 3, 0x55, 4, 3}, tlv(12, []byte("moon"))...)))))
	if id := (ID{wire.IDDERASN1DN, utf8DER}); utf8DER == u.der() || id.Canonical() != (ID{wire.IDDERASN1DN, u.der()}).Canonical() {
		t.Error("PrintableString and UTF8String")
	}
}

// What a peer puts into an identity never breaks a log line, and never reads back as another.
func TestStringIsSafe(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		data := make([]byte, r.IntN(20))
		for i := range data {
			const chars = "ab.@*=#:,/\\\x00\n\xff %01"
			data[i] = chars[r.IntN(len(chars))]
		}
		id := ID{wire.IDType(r.IntN(14)), string(data)}
		s := id.String()
		if strings.ContainsAny(s, "\n\x00") || !utf8.ValidString(s) {
			t.Fatalf("%+v prints as %q", id, s)
		}
		if id.check(false) != nil {
			continue
		}
		if back, err := ParseID(s); err == nil && (back.Type != id.Type || back.Canonical() != id.Canonical()) {
			t.Fatalf("%+v prints as %q, which is %+v", id, s, back)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern, id string
		want        bool
	}{
		{"%any", "moon.example", true}, {"%any", "192.0.2.1", true}, {"%any", "@#00", true},
		{"*.example", "moon.example", true}, {"*.example", "MOON.EXAMPLE.", true}, {"*.example", "a.b.example", true},
		{"*.example", "example", false}, {"*.example", "moon.example.evil", false}, {"*.example", "moonexample", false},
		{"*.example", "carol@moon.example", false}, {"*@moon.example", "carol@moon.example", true}, {"*@moon.example", "carol@x.moon.example", false},
		{"192.0.2.0/24", "192.0.2.9", true}, {"192.0.2.0/24", "192.0.3.9", false}, {"192.0.2.0/24", "fqdn:192.0.2.9", false},
		{"192.0.2.1-192.0.2.3", "192.0.2.3", true}, {"192.0.2.1-192.0.2.3", "192.0.2.4", false}, {"2001:db8::/32", "2001:db8::1", true},
		{"0.0.0.0/0", "2001:db8::1", false}, {"C=CH, CN=*", "C=CH, CN=moon", true}, {"C=CH, CN=*", "C=DE, CN=moon", false},
		{"C=CH, CN=*", "CN=moon", false}, {"moon.example", "*.example", false},
	} {
		if got := mustID(t, tc.pattern).Matches(mustID(t, tc.id)); got != tc.want {
			t.Errorf("%s matches %s: %v", tc.pattern, tc.id, got)
		}
	}
	if AnyID().Matches(ID{}) || !AnyID().IsAny() {
		t.Error("nobody is somebody")
	}
	if !AnyID().Matches(ID{Type: wire.IDNull}) {
		t.Error("ID_NULL")
	}
}

func TestParseDER(t *testing.T) {
	good := mustID(t, "C=CH, O=Example, CN=moon").Data
	for n := range len(good) {
		if _, ok := parseDER(good[:n]); ok {
			t.Errorf("%d of %d bytes parse", n, len(good))
		}
	}
	if _, ok := parseDER(good + "\x00"); ok {
		t.Error("a byte behind")
	}
	attr := func(tag int, v string) []byte {
		return tlv(0x30, append([]byte{6, 3, 0x55, 4, 3}, tlv(tag, []byte(v))...))
	}
	for n, body := range [][]byte{
		{}, tlv(0x31, nil), tlv(0x30, attr(19, "a")), tlv(0x31, append(attr(19, "a"), attr(19, "b")...)), tlv(0x31, attr(30, "\x00a")),
		tlv(0x31, attr(19, "")), tlv(0x31, attr(12, "\xff")), tlv(0x31, attr(12, "a\x00b")), tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3})),
		tlv(0x31, tlv(0x30, append(append([]byte{6, 3, 0x55, 4, 3}, tlv(19, []byte("a"))...), 5, 0))), tlv(0x31, tlv(0x04, nil)),
		tlv(0x31, tlv(0x30, []byte{2, 1, 1})),
	} {
		if dn, ok := parseDER(string(tlv(0x30, body))); ok {
			t.Errorf("%d: %v", n, dn)
		}
	}
	long := name{{"2.5.4.3", strings.Repeat("x", 300)}, {"2.5.4.10", strings.Repeat("y", 130)}}
	if back, ok := parseDER(long.der()); !ok || back.String() != long.String() {
		t.Error("long values")
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"moon.example", "@#00", "C=CH, CN=moon", "*@x", "10.0.0.0/8", "fqdn:1.2.3.4", "10.0.0.1-10.0.0.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, err := ParseID(in)
		if err != nil {
			return
		}
		back, err := ParseID(id.String())
		if err != nil || back.Type != id.Type || back.Canonical() != id.Canonical() {
			t.Fatalf("%q is %+v; %q reads back as %+v, %v", in, id, id.String(), back, err)
		}
		if w := id.Wire(false); w != nil {
			if again, err := FromWire(w); err != nil || again != id {
				t.Fatalf("%q: %+v, %v", in, again, err)
			}
		}
	})
}

func FuzzParseDER(f *testing.F) {
	dn, _ := parseDN("C=CH, O=Example, CN=moon, E=a@b")
	f.Add([]byte(dn.der()))
	f.Fuzz(func(t *testing.T, der []byte) {
		n, ok := parseDER(string(der))
		if !ok {
			return
		}
		back, ok := parseDER(n.der())
		if !ok || back.canonical() != n.canonical() || !n.matches(back) && !n.pattern() {
			t.Fatalf("%x: %v encodes to %v", der, n, back)
		}
	})
}

func TestKeyAddress(t *testing.T) {
	a, b := KeyAddress([]byte("key A")), KeyAddress([]byte("key B"))
	if a == b || a != KeyAddress([]byte("key A")) || !KeyPrefix().Contains(a) || !KeyPrefix().Contains(b) {
		t.Error(a, b)
	}
	if KeyPrefix().String() != "fd62:746e:7300::/40" || !a.IsPrivate() {
		t.Error(KeyPrefix())
	}
	// SHA-256("key A") = 9a25…; 88 bits follow the prefix.
	if a != netip.MustParseAddr("fd62:746e:73"+hexOf("key A")[0:2]+":"+hexOf("key A")[2:6]+":"+hexOf("key A")[6:10]+":"+hexOf("key A")[10:14]+":"+hexOf("key A")[14:18]+":"+hexOf("key A")[18:22]) {
		t.Error(a)
	}
}
