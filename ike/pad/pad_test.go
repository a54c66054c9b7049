package pad

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/wire"
)

func hexOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func sel(t testing.TB, texts ...string) ts.Set {
	t.Helper()
	var out ts.Set
	for _, s := range texts {
		x, err := ts.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

func ids(t testing.TB, texts ...string) []ID {
	t.Helper()
	var out []ID
	for _, s := range texts {
		out = append(out, mustID(t, s))
	}
	return out
}

var (
	keyB, keyQ, keyC = []byte("SPKI of B"), []byte("SPKI of Q"), []byte("SPKI of C")
	outer            = netip.MustParseAddr("192.0.2.77")
)

func pskEntry(t testing.TB, name, id, net string) Entry {
	t.Helper()
	return Entry{Name: name, Kind: KindAuthenticated, Method: MethodPSK, IDs: ids(t, id),
		PSKs: []PSK{{Secret: auth.NewPSK([]byte("secret of " + name))}}, Allow: Allow{Selectors: sel(t, net)}, Conn: name}
}

func keyEntry(t testing.TB, name, id, net string, key []byte) Entry {
	t.Helper()
	return Entry{Name: name, Kind: KindAuthenticated, Method: MethodPublicKey, IDs: ids(t, id),
		Keys: [][]byte{key}, Allow: Allow{Selectors: sel(t, net)}, Conn: name}
}

func wildcard(allow Allow) Entry {
	return Entry{Name: "anybody", Kind: KindWildcard, Allow: allow, Conn: "anybody"}
}

func mustDB(t testing.TB, es ...Entry) *DB {
	t.Helper()
	db, err := New(es)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// sgA is the PAD of RFC 5386, Section 3.1, Figure 2.
func sgA(t testing.TB) *DB {
	t.Helper()
	return mustDB(t,
		keyEntry(t, "B", "b.example", "10.2.0.0/16", keyB),
		pskEntry(t, "Q", "q.example", "203.0.113.7"),
		wildcard(Allow{Any: true}))
}

func TestBTNS_Section31_SecurityGateway(t *testing.T) {
	db := sgA(t)
	b, q, c := mustID(t, "b.example"), mustID(t, "q.example"), mustID(t, "c.example")
	e, o := db.Lookup(q, MethodPSK, nil)
	if e == nil || e.Name != "Q" || !o.OK() || !e.Allowed(nil, outer).Equal(sel(t, "203.0.113.7")) {
		t.Errorf("Q: %v", &o)
	}
	e, o = db.Lookup(b, MethodPublicKey, keyB)
	if e == nil || e.Name != "B" || !e.Allowed(keyB, outer).Equal(sel(t, "10.2.0.0/16")) {
		t.Errorf("B: %v", &o)
	}
	e, o = db.Lookup(c, MethodPublicKey, keyC)
	if e == nil || e.Kind != KindWildcard || e.Identity(c, keyC) != KeyIdentity(keyC) {
		t.Fatalf("C: %v", &o)
	}
	// C may have its own address, but not one of Q's or B's.
	allowed := e.Allowed(keyC, outer)
	for addr, want := range map[string]bool{"192.0.2.77": true, "198.51.100.1": true, "203.0.113.7": false, "203.0.113.8": true, "10.2.3.4": false, "10.3.0.1": true} {
		if got := allowed.ContainsAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("C may own %s: %v", addr, got)
		}
	}
	// A rogue that claims to be Q or B is rejected, not taken for anybody.
	for _, id := range []ID{q, b} {
		if e, o := db.Lookup(id, MethodPublicKey, keyC); e != nil || o.OK() {
			t.Errorf("a rogue is %v: %v", id, &o)
		}
	}
}

func TestBTNS_Section34_NonBTNSNode(t *testing.T) {
	db := mustDB(t, pskEntry(t, "Q", "q.example", "203.0.113.7"))
	if e, o := db.Lookup(mustID(t, "c.example"), MethodPublicKey, keyC); e != nil || o.Verdict != NoMatch || !strings.Contains(o.String(), Fingerprint(keyC)) {
		t.Error(&o)
	}
}

func TestBTNS3_BTNSEntriesFollow(t *testing.T) {
	// Wherever they stand in the list.
	db := mustDB(t,
		wildcard(Allow{KeyDerived: true}),
		Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{KeyDerived: true}},
		keyEntry(t, "B", "b.example", "10.2.0.0/16", keyB))
	var order []string
	for _, e := range db.Entries() {
		order = append(order, e.Name)
	}
	if got := strings.Join(order, " "); got != "B key anybody" || db.Len() != 3 {
		t.Error(got)
	}
	if e, o := db.Lookup(mustID(t, "b.example"), MethodPublicKey, keyC); e != nil || o.Verdict != WrongKey {
		t.Error(&o)
	}
}

func TestBTNS4_OneWildcard(t *testing.T) {
	two := wildcard(Allow{KeyDerived: true})
	two.Name = "anybody else"
	if _, err := New([]Entry{wildcard(Allow{KeyDerived: true}), two}); err == nil || !strings.Contains(err.Error(), "at most one") {
		t.Error(err)
	}
	// It is last: a key entry wins over it.
	db := mustDB(t, wildcard(Allow{KeyDerived: true}), Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{KeyDerived: true}})
	if e, o := db.Lookup(mustID(t, "x"), MethodBTNS, keyC); e == nil || e.Name != "key" {
		t.Error(&o)
	}
}

func TestBTNS5_WildcardDoesNotOverlap(t *testing.T) {
	// Named addresses that overlap are a contradiction.
	for _, other := range []Entry{keyEntry(t, "B", "b.example", "10.2.0.0/16", keyB),
		{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{Selectors: sel(t, "10.2.0.0/16[tcp]")}}} {
		if _, err := New([]Entry{other, wildcard(Allow{Selectors: sel(t, "10.2.9.0/24[udp]")})}); err == nil || !strings.Contains(err.Error(), "must not overlap") {
			t.Errorf("%s: %v", other.Name, err)
		}
		if _, err := New([]Entry{other, wildcard(Allow{Selectors: sel(t, "10.3.0.0/24")})}); err != nil {
			t.Error(err)
		}
	}
	// What is not named is taken away.
	db := mustDB(t, keyEntry(t, "B", "b.example", "192.0.2.0/24", keyB),
		Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{Selectors: sel(t, "198.51.100.0/24", "192.0.2.9")}},
		wildcard(Allow{Outer: true, Any: true}))
	w := db.Entry("anybody")
	for addr, want := range map[string]bool{"192.0.2.77": false, "198.51.100.1": false, "203.0.113.1": true} {
		a := netip.MustParseAddr(addr)
		if got := w.Allowed([]byte("k"), a).ContainsAddr(a); got != want {
			t.Errorf("a peer of the wildcard at %s may own it: %v", addr, got)
		}
	}
	// An outer address of somebody else's gives nothing.
	db = mustDB(t, keyEntry(t, "B", "b.example", "192.0.2.0/24", keyB), wildcard(Allow{Outer: true}))
	if got := db.Entry("anybody").Allowed(keyC, outer); len(got) != 0 {
		t.Error(got)
	}
	if got := db.Entry("anybody").Allowed(keyC, netip.MustParseAddr("::ffff:203.0.113.1")); !got.Equal(sel(t, "203.0.113.1")) {
		t.Error(got)
	}
	if got := db.Entry("anybody").Allowed(keyC, netip.Addr{}); len(got) != 0 {
		t.Error(got)
	}
}

func TestBTNS6_8_12_SignatureAndBareKey(t *testing.T) {
	db := sgA(t)
	c := mustID(t, "c.example")
	if e, o := db.Lookup(c, MethodPSK, nil); e != nil || o.Verdict != NoMatch {
		t.Errorf("a secret makes no BTNS peer: %v", &o)
	}
	if e, o := db.Lookup(c, MethodPublicKey, nil); e != nil || o.Verdict != NoKey {
		t.Errorf("no bare key: %v", &o)
	}
	e, o := db.Lookup(c, MethodPublicKey, keyC)
	if e == nil || len(o.Keys) != 1 || string(o.Keys[0]) != string(keyC) || o.Want != MethodBTNS {
		t.Errorf("AUTH is to be verified with the key of the CERT payload: %v", &o)
	}
}

func TestBTNS7_Order(t *testing.T) {
	db := mustDB(t,
		keyEntry(t, "exact", "b.example", "10.1.0.0/16", keyB),
		keyEntry(t, "pattern", "*.example", "10.2.0.0/16", keyQ),
		pskEntry(t, "late", "c.example", "10.3.0.0/16"), // shadowed by the pattern
		Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyB, keyC}, Allow: Allow{KeyDerived: true}},
		wildcard(Allow{KeyDerived: true}))
	for _, tc := range []struct {
		id      string
		method  Method
		key     []byte
		entry   string
		verdict Verdict
	}{
		{"b.example", MethodPublicKey, keyB, "exact", Accepted},
		{"b.example", MethodPublicKey, keyQ, "", WrongKey}, // not the pattern's, though that has this key
		{"c.example", MethodPublicKey, keyQ, "pattern", Accepted},
		{"c.example", MethodPSK, nil, "", WrongMethod}, // the first match decides
		{"other.invalid", MethodPublicKey, keyB, "key", Accepted},
		{"other.invalid", MethodPublicKey, []byte("new"), "anybody", Accepted},
		{"192.0.2.1", MethodBTNS, keyC, "key", Accepted},
	} {
		e, o := db.Lookup(mustID(t, tc.id), tc.method, tc.key)
		if o.Verdict != tc.verdict || (e != nil) != (tc.verdict == Accepted) || e != nil && e.Name != tc.entry {
			t.Errorf("%s by %v with %s: %v", tc.id, tc.method, tc.key, &o)
		}
	}
	if e, o := db.Lookup(ID{Type: wire.IDNull}, MethodBTNS, keyC); e == nil || e.Name != "key" {
		t.Errorf("ID_NULL: %v", &o)
	}
}

func TestBTNS9_NoMatchIsRefused(t *testing.T) {
	db := mustDB(t, Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{KeyDerived: true}})
	if e, o := db.Lookup(mustID(t, "x"), MethodPublicKey, keyB); e != nil || o.Verdict != NoMatch || o.Err() == nil {
		t.Error(&o)
	}
	empty := mustDB(t)
	if e, o := empty.Lookup(mustID(t, "x"), MethodPSK, nil); e != nil || o.Verdict != NoMatch || o.String() != "peer x matches no entry" {
		t.Error(&o)
	}
}

func TestBTNS10_ADV_L25_L26_NoFallThrough(t *testing.T) {
	db := sgA(t)
	for _, tc := range []struct {
		id     string
		method Method
		key    []byte
		want   Verdict
	}{
		{"b.example", MethodPublicKey, keyC, WrongKey},
		{"B.EXAMPLE.", MethodPublicKey, keyC, WrongKey},
		{"b.example", MethodBTNS, keyC, WrongKey},
		{"b.example", MethodPSK, nil, WrongMethod},
		{"q.example", MethodPublicKey, keyC, WrongMethod},
		{"q.example", MethodPublicKey, nil, WrongMethod},
	} {
		e, o := db.Lookup(mustID(t, tc.id), tc.method, tc.key)
		var refused *RefusedError
		if e != nil || o.Verdict != tc.want || !errors.As(o.Err(), &refused) {
			t.Errorf("%s by %v: %v", tc.id, tc.method, &o)
		}
		if o.Entry == "" || !strings.Contains(o.String(), o.Entry) {
			t.Errorf("an operator does not hear which entry refused: %v", &o)
		}
	}
}

func TestBTNS14_KeyEntriesDoNotTakeFromAuthenticated(t *testing.T) {
	db := mustDB(t, keyEntry(t, "B", "b.example", "10.2.0.0/16", keyB),
		Entry{Name: "key", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{Selectors: sel(t, "10.2.0.1", "10.9.0.1")}})
	if got := db.Entry("key").Allowed(keyC, outer); !got.Equal(sel(t, "10.9.0.1")) {
		t.Error(got)
	}
	if w := db.Warnings(); len(w) != 1 || !strings.Contains(w[0], "authenticated entries own") {
		t.Error(w)
	}
}

func TestKeyDerivedAddresses(t *testing.T) {
	db := mustDB(t,
		keyEntry(t, "exit", "exit.example", "::/0", keyB), // a gateway to everywhere
		wildcard(Allow{KeyDerived: true}))
	w := db.Entry("anybody")
	if got := w.Allowed(keyC, outer); !got.Equal(ts.Set{ts.FromAddr(KeyAddress(keyC))}) {
		t.Errorf("the peer's own address: %v", got)
	}
	if got := w.Allowed(nil, outer); len(got) != 0 {
		t.Errorf("without a key: %v", got)
	}
	// "Everywhere" is not other peers' keys.
	if got := db.Entry("exit").Allowed(keyB, outer); got.ContainsAddr(KeyAddress(keyC)) || !got.ContainsAddr(netip.MustParseAddr("2001:db8::1")) {
		t.Error(got)
	}
	// Unless it says so.
	db = mustDB(t, keyEntry(t, "registrar", "r.example", KeyAddress(keyC).String(), keyB), wildcard(Allow{Any: true}))
	if got := db.Entry("registrar").Allowed(keyB, outer); !got.ContainsAddr(KeyAddress(keyC)) {
		t.Error(got)
	}
	if got := db.Entry("anybody").Allowed(keyQ, outer); got.ContainsAddr(KeyAddress(keyC)) || got.ContainsAddr(KeyAddress(keyQ)) {
		t.Errorf("any without key-derived: %v", got)
	}
}

func TestLookupKeys(t *testing.T) {
	e1 := keyEntry(t, "B", "b.example", "10.2.0.0/16", keyB)
	e1.Keys = append(e1.Keys, keyQ)
	db := mustDB(t, e1)
	id := mustID(t, "b.example")
	// Without a CERT payload every configured key is a candidate, as with peers that have the key
	// configured too.
	if e, o := db.Lookup(id, MethodPublicKey, nil); e == nil || len(o.Keys) != 2 {
		t.Error(&o)
	}
	if e, o := db.Lookup(id, MethodPublicKey, keyQ); e == nil || len(o.Keys) != 1 || e.Identity(id, keyQ) != "fqdn:b.example" {
		t.Error(&o)
	}
	for _, bad := range []ID{{}, AnyID(), mustID(t, "*.example"), {wire.IDFQDN, "b.example\x00"}, {wire.IDKeyID, strings.Repeat("x", MaxIDLen+1)}} {
		if e, o := db.Lookup(bad, MethodPublicKey, keyB); e != nil || o.Verdict != BadIdentity {
			t.Errorf("%+v: %v", bad, &o)
		}
	}
	if e, o := db.Lookup(id, MethodPublicKey, make([]byte, MaxSPKI+1)); e != nil || o.OK() {
		t.Error(&o)
	}
	if e, o := db.Lookup(id, MethodInvalid, keyB); e != nil || o.Verdict != WrongMethod {
		t.Error(&o)
	}
}

func TestLookupDialled(t *testing.T) {
	db := sgA(t)
	b := mustID(t, "b.example")
	if e, o := db.LookupDialled(db.Entry("B"), b, MethodPublicKey, keyB); e == nil || !o.OK() {
		t.Error(&o)
	}
	for _, dialled := range []*Entry{db.Entry("Q"), db.Entry("anybody"), nil} {
		if e, o := db.LookupDialled(dialled, b, MethodPublicKey, keyB); e != nil || o.Verdict != WrongPeer {
			t.Errorf("dialled %v: %v", dialled, &o)
		}
	}
	if e, o := db.LookupDialled(db.Entry("B"), b, MethodPublicKey, keyC); e != nil || o.Verdict != WrongKey {
		t.Error(&o)
	}
}

// Two connections to one gateway, which knows us under two names: each has its own entry.
func TestLookupDialled_OneGatewayTwice(t *testing.T) {
	first, second := pskEntry(t, "first", "gw.example", "10.0.0.0/9"), pskEntry(t, "second", "gw.example", "10.128.0.0/9")
	db := mustDB(t, first, second)
	gw := mustID(t, "gw.example")
	for _, name := range []string{"first", "second"} {
		if e, o := db.LookupDialled(db.Entry(name), gw, MethodPSK, nil); e != db.Entry(name) {
			t.Errorf("dialled %s: %v", name, &o)
		}
	}
	if e, o := db.LookupDialled(db.Entry("second"), gw, MethodPublicKey, keyB); e != nil || o.Verdict != WrongMethod {
		t.Error(&o)
	}
	if e, _ := db.LookupDialled(db.Entry("second"), mustID(t, "other.example"), MethodPSK, nil); e != nil {
		t.Errorf("dialled second, found %v", e)
	}
}

func TestPSK(t *testing.T) {
	e := pskEntry(t, "vpn", "*.example", "10.0.0.0/8")
	me, a, b, c := mustID(t, "me.example"), mustID(t, "a.example"), mustID(t, "b.example"), mustID(t, "c.example")
	e.PSKs = []PSK{
		{Secret: auth.NewPSK([]byte("everybody"))},
		{IDs: ids(t, "a.example"), Secret: auth.NewPSK([]byte("a"))},
		{IDs: ids(t, "a.example", "me.example"), Secret: auth.NewPSK([]byte("a and me"))},
		{IDs: ids(t, "b.example"), Secret: auth.NewPSK([]byte("b"))},
		{IDs: ids(t, "b.example"), Secret: auth.NewPSK([]byte("b again"))},
	}
	db := mustDB(t, e)
	for _, tc := range []struct {
		local, remote ID
		want          string
	}{{me, a, "a and me"}, {c, a, "a"}, {c, b, "b"}, {c, mustID(t, "d.example"), "everybody"}} {
		secret, found, o := db.LookupPSK(tc.local, tc.remote)
		if found == nil || !secret.Equal(auth.NewPSK([]byte(tc.want))) {
			t.Errorf("%v and %v: not %q, %v", tc.local, tc.remote, tc.want, &o)
		}
	}
	e.PSKs = e.PSKs[1:2]
	db = mustDB(t, e)
	if secret, found, o := db.LookupPSK(me, b); found != nil || !secret.Empty() || o.Verdict != NoSecret || !strings.Contains(o.String(), "no secret") {
		t.Error(&o)
	}
	if _, found, o := db.LookupPSK(me, mustID(t, "x.invalid")); found != nil || o.Verdict != NoMatch {
		t.Error(&o)
	}
}

func TestSecretsRedactThemselves(t *testing.T) {
	e := pskEntry(t, "x", "x.example", "10.0.0.1")
	e.PSKs[0].Secret = auth.NewPSK([]byte("hunter2 hunter2"))
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", e.PSKs[0].Secret, "entry", &e)
	js, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	s := e.PSKs[0].Secret
	for _, out := range []string{fmt.Sprintf("%v %+v %#v %s %x %q %d", s, s, s, s, s, s, s), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e.PSKs), s.String(), s.GoString(), string(js), logged.String()} {
		if strings.Contains(out, "hunter") || strings.Contains(out, "68756e") || strings.Contains(out, "104 117") {
			t.Errorf("the secret is in %q", out)
		}
	}
	db := mustDB(t, e)
	s.Zero()
	if secret, _, _ := db.LookupPSK(mustID(t, "me"), mustID(t, "x.example")); !secret.Equal(auth.NewPSK([]byte("hunter2 hunter2"))) {
		t.Error("the database shares memory with what it was made from")
	}
}

func TestNewRefuses(t *testing.T) {
	allow := Allow{Outer: true}
	good := keyEntry(t, "x", "x.example", "10.0.0.1", keyB)
	edit := func(f func(*Entry)) []Entry { e := *good.clone(); f(&e); return []Entry{e} }
	for want, es := range map[string][]Entry{
		"has no name":                edit(func(e *Entry) { e.Name = "" }),
		"has no kind":                edit(func(e *Entry) { e.Kind = 0 }),
		"has no identities":          edit(func(e *Entry) { e.IDs = nil }),
		"method pubkey with 0 keys":  edit(func(e *Entry) { e.Keys = nil }),
		"and 1 secrets":              edit(func(e *Entry) { e.PSKs = []PSK{{Secret: auth.NewPSK([]byte("x"))}} }),
		"cannot have method btns":    edit(func(e *Entry) { e.Method = MethodBTNS }),
		"cannot have method invalid": edit(func(e *Entry) { e.Method = 0 }),
		"method psk with 0 secrets":  edit(func(e *Entry) { e.Method, e.Keys = MethodPSK, nil }),
		"empty secret":               edit(func(e *Entry) { e.Method, e.Keys, e.PSKs = MethodPSK, nil, []PSK{{}} }),
		"no key to derive": edit(func(e *Entry) {
			e.Method, e.Keys, e.PSKs, e.Allow.KeyDerived = MethodPSK, nil, []PSK{{Secret: auth.NewPSK([]byte("x"))}}, true
		}),
		"says no address":              edit(func(e *Entry) { e.Allow = Allow{} }),
		"a key of 0 bytes":             edit(func(e *Entry) { e.Keys = [][]byte{{}} }),
		"selector without":             edit(func(e *Entry) { e.Allow.Selectors = ts.Set{{}} }),
		"identity nobody":              edit(func(e *Entry) { e.IDs = []ID{{}} }),
		"are named":                    {good, good},
		"1025 identities":              edit(func(e *Entry) { e.IDs = make([]ID, MaxIDs+1) }),
		"wildcard entry with 1 keys":   {{Name: "w", Kind: KindWildcard, Keys: [][]byte{keyC}, Allow: allow}},
		"key entry with 0 keys":        {{Name: "k", Kind: KindKey, Allow: allow}},
		"known by their keys only":     {{Name: "w", Kind: KindWildcard, IDs: good.IDs, Allow: allow}},
		"cannot have method psk":       {{Name: "w", Kind: KindWildcard, Method: MethodPSK, Allow: allow}},
		"entry 0 \"w\": says no addre": {{Name: "w", Kind: KindWildcard}}, // the wildcard must say
	} {
		if _, err := New(es); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	two := keyEntry(t, "two", "a.example", "10.0.0.2", keyQ)
	two.IDs = append(two.IDs, mustID(t, "b.invalid"))
	db := mustDB(t,
		keyEntry(t, "one", "*.example", "10.0.0.1", keyB),
		two,
		pskEntry(t, "three", "*.sub.example", "10.0.0.3"),
		pskEntry(t, "four", "10.0.0.0/8", "10.0.0.4"),
		pskEntry(t, "five", "10.1.0.0/16", "10.0.0.5"),
		pskEntry(t, "six", "10.1.1.1", "10.0.0.6"),
		pskEntry(t, "seven", "C=CH, CN=*", "10.0.0.7"),
		pskEntry(t, "eight", "C=CH, CN=moon", "10.0.0.8"),
		pskEntry(t, "nine", "%any", "10.0.0.9"),
		pskEntry(t, "ten", "late.invalid", "10.0.0.10"),
		Entry{Name: "key 1", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{KeyDerived: true}},
		Entry{Name: "key 2", Kind: KindKey, Keys: [][]byte{keyC}, Allow: Allow{KeyDerived: true}},
		wildcard(Allow{Any: true}))
	got := strings.Join(db.Warnings(), "\n")
	for _, want := range []string{
		`"two" has identities that earlier entries match: a.example (by "one")`, `"three" is never reached`, `"five" is never reached`,
		`"six" is never reached`, `"eight" is never reached`, `"ten" is never reached`, `"nine" matches every identity, so no peer ever reaches`,
		`"key 2" names key ` + Fingerprint(keyC), `"anybody" lets anybody own any address`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, not := range []string{`entry "one"`, `entry "four"`, `entry "seven"`} {
		if strings.Contains(got, not) {
			t.Errorf("%q in\n%s", not, got)
		}
	}
	if w := sgA(t).Warnings(); len(w) != 1 {
		t.Error(w)
	}
}

// TestLookupEqualsOrderedSearch compares the map and the pattern list with a plain scan.
func TestLookupEqualsOrderedSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	names := []string{"a.example", "b.example", "a.sub.example", "b.invalid", "10.0.0.1", "10.0.1.1", "@#00"}
	patterns := append([]string{"*.example", "*.sub.example", "10.0.0.0/24", "10.0.0.0/8"}, names...)
	for range 300 {
		var es []Entry
		for i := range 1 + r.IntN(8) {
			e := pskEntry(t, fmt.Sprint(i), patterns[r.IntN(len(patterns))], "10.0.0.1")
			if r.IntN(2) == 0 {
				e.IDs = append(e.IDs, mustID(t, patterns[r.IntN(len(patterns))]))
			}
			es = append(es, e)
		}
		db := mustDB(t, es...)
		for _, n := range names {
			id, want := mustID(t, n), ""
		scan:
			for _, e := range es {
				for _, p := range e.IDs {
					if p.Matches(id) {
						want = e.Name
						break scan
					}
				}
			}
			if _, o := db.Lookup(id, MethodPSK, nil); o.Entry != want {
				t.Fatalf("%s: %v, want %q in %+v", n, &o, want, es)
			}
		}
	}
}

// memStore is the simplest PinStore.
type memStore struct {
	mu   sync.Mutex
	pins map[string][]byte
	err  error
}

func (s *memStore) LoadOrStore(name string, spki []byte) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, false, s.err
	}
	if p := s.pins[name]; p != nil {
		return p, true, nil
	}
	s.pins[name] = spki
	return spki, false, nil
}

func (s *memStore) Load(name string) ([]byte, error) { return s.pins[name], s.err }
func (s *memStore) Delete(name string) error         { delete(s.pins, name); return s.err }

func TestADV_L21_L22_L23_Pins(t *testing.T) {
	s := &memStore{pins: make(map[string][]byte)}
	var store PinStore = s
	if first, err := CheckPin(store, "db.example", keyB); !first || err != nil {
		t.Error(first, err)
	}
	if first, err := CheckPin(store, "db.example", keyB); first || err != nil {
		t.Error(first, err)
	}
	var mismatch *PinMismatchError
	if _, err := CheckPin(store, "db.example", keyC); !errors.As(err, &mismatch) || mismatch.Pinned != Fingerprint(keyB) || mismatch.Sought != Fingerprint(keyC) || !strings.Contains(err.Error(), "db.example") {
		t.Error(err)
	}
	if pinned, err := store.Load("db.example"); err != nil || string(pinned) != string(keyB) {
		t.Error("overwritten")
	}
	s.err = errors.New("disk full")
	if first, err := CheckPin(store, "new.example", keyB); first || !errors.Is(err, s.err) {
		t.Error("a store that fails means unpinned:", err)
	}
	for _, bad := range []func() (bool, error){
		func() (bool, error) { return CheckPin(store, "", keyB) },
		func() (bool, error) { return CheckPin(store, "x", nil) },
	} {
		if _, err := bad(); err == nil {
			t.Error("pinned nothing")
		}
	}
	// Two first contacts at once: exactly one pin, the other fails.
	s.err = nil
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, k := range [][]byte{keyB, keyC} {
		wg.Go(func() { _, errs[i] = CheckPin(store, "race.example", k) })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Error(errs)
	}
}

func TestNames(t *testing.T) {
	for k := range KindWildcard + 2 {
		if k.String() == "" || k.BTNS() != (k == KindKey || k == KindWildcard) {
			t.Error(k)
		}
	}
	for m := range MethodBTNS + 2 {
		if m.String() == "" {
			t.Error(m)
		}
	}
	for v := range Accepted + 2 {
		o := Outcome{Verdict: v, Asserted: AnyID(), Entry: "e", Key: "k"}
		if v.String() == "" || o.String() == "" || o.OK() != (v == Accepted) || (o.Err() == nil) != (v == Accepted) {
			t.Error(v)
		}
	}
	var zero Outcome
	if zero.OK() {
		t.Error("the zero outcome accepts")
	}
	if e := wildcard(Allow{}); e.String() != `wildcard entry "anybody"` {
		t.Error(e.String())
	}
}

func BenchmarkLookup100000(b *testing.B) {
	var es []Entry
	for i := range 100000 {
		es = append(es, Entry{Name: fmt.Sprint(i), Kind: KindAuthenticated, Method: MethodPSK, IDs: []ID{{wire.IDFQDN, fmt.Sprintf("h%d.example", i)}},
			PSKs: []PSK{{Secret: auth.NewPSK([]byte("x"))}}, Allow: Allow{Outer: true}})
	}
	db := mustDB(b, es...)
	id := mustID(b, "h77777.example")
	for b.Loop() {
		db.Lookup(id, MethodPSK, nil)
	}
}
