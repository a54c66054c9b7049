package suite

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// suites returns every suite the defaults can lead to.
func suites(t testing.TB) []IKE {
	var all []IKE
	for _, p := range DefaultIKE() {
		integs := ofType(p.Transforms, wire.TransformInteg)
		if len(integs) == 0 {
			integs = []wire.Transform{{Type: wire.TransformInteg, ID: wire.IntegNone}}
		}
		for _, e := range ofType(p.Transforms, wire.TransformEncr) {
			for _, i := range integs {
				for _, f := range ofType(p.Transforms, wire.TransformPRF) {
					for _, k := range ofType(p.Transforms, wire.TransformKE) {
						s := IKE{Encr: e.ID, KeyBits: e.KeyBits, Integ: i.ID, PRF: f.ID, Group: k.ID}
						if !s.Valid() {
							t.Fatalf("default suite %v is not valid", s)
						}
						all = append(all, s)
					}
				}
			}
		}
	}
	return all
}

var (
	testNi = bytes.Repeat([]byte{1}, 32)
	testNr = bytes.Repeat([]byte{2}, 40)
)

func derive(t testing.TB, s IKE) *Keys {
	t.Helper()
	k, err := Derive(s, testNi, testNr, []byte("shared secret"), 3, 4)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	return k
}

// A plain reading of RFC 7296, Sections 2.13 and 2.14, against Derive.
func TestDeriveAgainstModel(t *testing.T) {
	for _, s := range suites(t) {
		shared := []byte("shared secret")
		seed := PRF(s.PRF, append(bytes.Clone(testNi), testNr...), shared)
		in := append(bytes.Clone(testNi), testNr...)
		in = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(in, 3), 4)
		var stream, last []byte
		for i := byte(1); len(stream) < 600; i++ {
			last = PRF(s.PRF, seed, last, in, []byte{i})
			stream = append(stream, last...)
		}
		k := derive(t, s)
		off := 0
		e, _ := encrOf(s.Encr, s.KeyBits)
		for _, part := range []struct {
			name string
			got  Secret
			n    int
		}{
			{"SK_d", k.SKd, PRFSize(s.PRF)}, {"SK_ai", k.SKai, integKeyLen(s.Integ)}, {"SK_ar", k.SKar, integKeyLen(s.Integ)},
			{"SK_ei", k.SKei, e.keyLen}, {"SK_er", k.SKer, e.keyLen}, {"SK_pi", k.SKpi, PRFSize(s.PRF)}, {"SK_pr", k.SKpr, PRFSize(s.PRF)},
		} {
			if !bytes.Equal(part.got, stream[off:off+part.n]) {
				t.Errorf("%v: %s differs", s, part.name)
			}
			off += part.n
		}
	}
}

func TestDeriveRekey(t *testing.T) {
	s := suites(t)[0]
	old := derive(t, s)
	k, err := DeriveRekey(s, wire.PRFHMACSHA512, old.SKd, testNi, testNr, []byte("new"), 5, 6)
	if err != nil {
		t.Fatal(err)
	}
	// The seed comes from the old SA's PRF, everything else from the new one's.
	seed := PRF(wire.PRFHMACSHA512, old.SKd, []byte("new"), testNi, testNr)
	want := PRFPlus(s.PRF, seed, 32, testNi, testNr, []byte{0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6})
	if !bytes.Equal(k.SKd, want) {
		t.Error("SK_d differs")
	}
	if _, err := DeriveRekey(s, 1, old.SKd, testNi, testNr, []byte("new"), 5, 6); err == nil {
		t.Error("unknown old PRF accepted")
	}
	if _, err := DeriveRekey(s, wire.PRFHMACSHA256, nil, testNi, testNr, []byte("new"), 5, 6); err == nil {
		t.Error("empty SK_d accepted")
	}
	if _, err := DeriveRekey(s, wire.PRFHMACSHA256, old.SKd, testNi, testNr, nil, 5, 6); err == nil {
		t.Error("rekey without a key exchange accepted")
	}
}

// ADV-B17: nonces shorter than half the PRF's key (RFC 7296, Section 2.10).
func TestADV_B17_NonceOfPRF(t *testing.T) {
	for prf, least := range map[uint16]int{wire.PRFHMACSHA256: 16, wire.PRFHMACSHA384: 24, wire.PRFHMACSHA512: 32} {
		s := IKE{Encr: wire.EncrAESGCM16, KeyBits: 256, PRF: prf, Group: wire.GroupX25519}
		if s.MinNonce() != least {
			t.Errorf("%v: %d", s, s.MinNonce())
		}
		long := make([]byte, 256)
		for n := range 257 {
			_, err1 := Derive(s, long[:n], long, []byte("x"), 1, 2)
			_, err2 := Derive(s, long, long[:n], []byte("x"), 1, 2)
			if (err1 == nil) != (n >= least) || (err2 == nil) != (n >= least) {
				t.Errorf("%v with %d octets: %v, %v", s, n, err1, err2)
			}
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	good := suites(t)[0]
	for name, f := range map[string]func(*IKE){
		"no cipher":               func(s *IKE) { s.Encr = 0 },
		"NULL cipher":             func(s *IKE) { s.Encr, s.KeyBits, s.Integ = wire.EncrNull, 0, wire.IntegHMACSHA256 },
		"key length":              func(s *IKE) { s.KeyBits = 127 },
		"AEAD with integrity":     func(s *IKE) { s.Integ = wire.IntegHMACSHA256 },
		"CBC without integrity":   func(s *IKE) { s.Encr = wire.EncrAESCBC },
		"CBC with HMAC-MD5":       func(s *IKE) { s.Encr, s.Integ = wire.EncrAESCBC, wire.IntegHMACMD5 },
		"no PRF":                  func(s *IKE) { s.PRF = 0 },
		"PRF that is not known":   func(s *IKE) { s.PRF = wire.PRFHMACSHA1 },
		"no group":                func(s *IKE) { s.Group = wire.GroupNone },
		"group that is not known": func(s *IKE) { s.Group = wire.GroupMODP1024 },
	} {
		s := good
		f(&s)
		if _, err := Derive(s, testNi, testNr, []byte("x"), 1, 2); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := NewProtector(s, make([]byte, 36), nil); err == nil {
			t.Errorf("%s: protector", name)
		}
	}
	if _, err := Derive(good, testNi, testNr, nil, 1, 2); err == nil {
		t.Error("no shared secret: accepted")
	}
}

func TestChildKeys(t *testing.T) {
	s := suites(t)[0]
	skd := derive(t, s).SKd
	for _, c := range []struct {
		child ESP
		n     int
	}{
		{ESP{Encr: wire.EncrAESGCM16, KeyBits: 128}, 20},
		{ESP{Encr: wire.EncrAESGCM16, KeyBits: 256, ESN: true}, 36},
		{ESP{Encr: wire.EncrChaCha20Poly1305}, 36},
		{ESP{Encr: wire.EncrAESCBC, KeyBits: 128, Integ: wire.IntegHMACSHA256}, 48},
		{ESP{Encr: wire.EncrAESCBC, KeyBits: 256, Integ: wire.IntegHMACSHA512}, 96},
		{ESP{Encr: wire.EncrNull, Integ: wire.IntegHMACSHA384}, 48},
	} {
		if c.child.KeyLen() != c.n {
			t.Errorf("%v: %d octets, want %d", c.child, c.child.KeyLen(), c.n)
		}
		a, b, err := ChildKeys(s, c.child, skd, testNi, testNr, []byte("dh"))
		if err != nil || len(a) != c.n || len(b) != c.n || bytes.Equal(a, b) {
			t.Fatalf("%v: %v", c.child, err)
		}
		all := PRFPlus(s.PRF, skd, 2*c.n, []byte("dh"), testNi, testNr)
		if !bytes.Equal(all, append(bytes.Clone(a), b...)) {
			t.Errorf("%v: not the KEYMAT", c.child)
		}
		plain, _, _ := ChildKeys(s, c.child, skd, testNi, testNr, nil)
		if bytes.Equal(plain, a) {
			t.Errorf("%v: key exchange does not matter", c.child)
		}
	}
	for _, bad := range []ESP{{}, {Encr: wire.EncrNull}, {Encr: wire.EncrAESGCM16}, {Encr: wire.EncrAESGCM16, KeyBits: 256, Integ: wire.IntegHMACSHA256},
		{Encr: wire.EncrAESGCM16, KeyBits: 256, Group: 1}} {
		if _, _, err := ChildKeys(s, bad, skd, testNi, testNr, nil); err == nil || bad.KeyLen() != 0 {
			t.Errorf("%v accepted", bad)
		}
	}
}

func TestPRFLimits(t *testing.T) {
	if PRF(0, nil, nil) != nil || PRFPlus(0, nil, 5) != nil || PRFSize(0) != 0 || ChildKeymat(IKE{}, nil, nil, nil, nil, 0) != nil {
		t.Error("unknown PRF yields something")
	}
	if got := PRFPlus(wire.PRFHMACSHA256, []byte("k"), 255*32, []byte("s")); len(got) != 255*32 {
		t.Error("255 blocks refused")
	}
	if PRFPlus(wire.PRFHMACSHA256, []byte("k"), 255*32+1) != nil || PRFPlus(wire.PRFHMACSHA256, nil, -1) != nil {
		t.Error("more than 255 blocks accepted") // RFC 7296, Section 2.13
	}
	if got := PRFPlus(wire.PRFHMACSHA256, []byte("k"), 0); len(got) != 0 {
		t.Error("zero octets")
	}
}

func TestSecretsRedacted(t *testing.T) {
	k := derive(t, suites(t)[0])
	p, err := NewProtector(suites(t)[0], k.SKei, k.SKai)
	if err != nil {
		t.Fatal(err)
	}
	hidden := []string{fmt.Sprintf("%x", []byte(k.SKei[:6])), strings.Trim(fmt.Sprint([]byte(k.SKei[:6])), "[]"),
		fmt.Sprintf("%X", []byte(k.SKei[:6])), string(k.SKei[:6])}
	check := func(how, s string) {
		t.Helper()
		for _, h := range hidden {
			if strings.Contains(s, h) {
				t.Errorf("%s shows the key: %s", how, s)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "% x"} {
		for _, v := range []any{k.SKei, *k, k, p, *p, []Secret{k.SKei}, struct{ P *Protector }{p}} {
			check(verb, fmt.Sprintf(verb, v))
		}
	}
	js, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	check("JSON", string(js))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k.SKei, "keys", k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k.SKei, "keys", k)
	check("slog", log.String())
	if !strings.Contains(log.String(), redacted) {
		t.Error("nothing logged")
	}
	_ = k.SKei.String() + k.SKei.GoString()
	k.Zero()
	if !bytes.Equal(k.SKd, make([]byte, len(k.SKd))) || !bytes.Equal(k.SKpr, make([]byte, len(k.SKpr))) {
		t.Error("Zero left something")
	}
	p.Zero()
	if !bytes.Equal(p.ske, make([]byte, len(p.ske))) {
		t.Error("Zero left something of the protector")
	}
}

func BenchmarkDerive(b *testing.B) {
	s := suites(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Derive(s, testNi, testNr, testNi, 1, 2); err != nil {
			b.Fatal(err)
		}
	}
}
