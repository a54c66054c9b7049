package pad

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// Names of which one is the beginning of the other, in the number of their parts or in one of
// them, and random ones, against a comparison that knows nothing of DER.
func TestCVE_2013_6075_NamesOfDifferentLength(t *testing.T) {
	whole := "C=CH, O=Example Org, OU=Moon Base, CN=moon.example"
	id := mustID(t, whole)
	parts := strings.Split(whole, ", ")
	differs := func(o ID) {
		t.Helper()
		if id.Matches(o) || o.Matches(id) || id.Canonical() == o.Canonical() {
			t.Errorf("%s is %s", o, id)
		}
	}
	for n := 1; n < len(parts); n++ {
		differs(mustID(t, strings.Join(parts[:n], ", ")))
		differs(mustID(t, strings.Join(parts[n:], ", ")))
	}
	differs(mustID(t, whole+", CN=more"))
	for i, p := range parts {
		attr, value, _ := strings.Cut(p, "=")
		for n := 1; n <= len(value)+1; n++ {
			v := (value + "x")[:n]
			if v == value || v != strings.TrimSpace(v) {
				continue
			}
			o := slices.Clone(parts)
			o[i] = attr + "=" + v
			differs(mustID(t, strings.Join(o, ", ")))
		}
	}
	r := rand.New(rand.NewPCG(6075, 1))
	make1 := func() (text, plain string) {
		var ps, qs []string
		for range 1 + r.IntN(3) {
			attr := []string{"CN", "O", "C"}[r.IntN(3)]
			v := []string{"a", "A", "ab", "abc", "a b", "a  b", "aa"}[r.IntN(7)]
			ps = append(ps, attr+"="+v)
			qs = append(qs, attr+"="+strings.ToLower(strings.Join(strings.Fields(v), " ")))
		}
		return strings.Join(ps, ", "), strings.Join(qs, ";")
	}
	same := 0
	for range 20_000 {
		ta, pa := make1()
		tb, pb := make1()
		a, b := mustID(t, ta), mustID(t, tb)
		if pa == pb {
			same++
		}
		if a.Matches(b) != (pa == pb) || b.Matches(a) != (pa == pb) || (a.Canonical() == b.Canonical()) != (pa == pb) {
			t.Fatalf("%q and %q", ta, tb)
		}
	}
	if same < 100 {
		t.Errorf("only %d pairs were the same", same)
	}
}

// Identities that pretend to be DER, of every type: each is refused or is itself.
func TestCVE_2013_5018_HostileIdentities(t *testing.T) {
	good := mustID(t, "C=CH, CN=moon")
	hostile := []string{"", "0", "\x30", "\x30\x80", "\x30\x81", "\x30\x82\xff", "\x30\x84\xff\xff\xff\xff", "\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x31\x00", "\x30\x00\x00", "\x30\x02\x31\x00", "\x30\x03\x31\x01\x30", good.Data[:len(good.Data)-1], good.Data + "\x00", good.Data + good.Data,
		"\x30\x80" + good.Data[2:] + "\x00\x00", "\x30\x81" + string(rune(len(good.Data)-2)) + good.Data[2:], "\xb0" + good.Data[1:],
		strings.Replace(good.Data, "\x31", "\xb1", 1), strings.Replace(good.Data, "\x31", "\x11", 1), strings.Repeat("\x30", 200), "\x1f\xff\xff\xff\xff\xff\x7f\x00"}
	for typ := range 256 {
		for _, data := range hostile {
			w := &wire.ID{IType: wire.IDType(typ), Data: []byte(data)}
			id, err := FromWire(w)
			if err != nil {
				if len(err.Error()) > 1000 {
					t.Errorf("type %d: an error of %d octets", typ, len(err.Error()))
				}
				continue
			}
			if id.Type == wire.IDDERASN1DN {
				t.Errorf("%x is the name %s", data, id)
			}
			if _ = id.String(); id.Matches(good) || good.Matches(id) {
				t.Errorf("type %d, %x is %s", typ, data, good)
			}
		}
	}
}

// Names that repeat and nest, as long as they can be, are read in no time.
func TestCVE_2017_9023_NamesTerminate(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		nested := []byte{5, 0}
		for len(nested) < 20000 {
			nested = tlv(0x30, nested)
		}
		for _, b := range [][]byte{
			tlv(0x30, bytes.Repeat([]byte{0x31, 0}, 30000)), bytes.Repeat([]byte{0x30, 0x80}, 30000), bytes.Repeat([]byte{0xa0, 0x80}, 30000), nested,
			tlv(0x30, tlv(0x31, tlv(0x30, append(tlv(6, bytes.Repeat([]byte{0x80}, 50000)), 19, 1, 'a')))),
		} {
			if n, ok := parseDER(string(b)); ok {
				t.Errorf("a name of %d parts", len(n))
			}
			if _, err := FromWire(&wire.ID{IType: wire.IDDERASN1DN, Data: b}); err == nil {
				t.Error("an identity")
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("still reading")
	}
}
