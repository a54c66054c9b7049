package suite

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/btns-go/btns/ike/wire"
)

// tr builds transforms from short names of the registry, as strings of the wire
// package print them.
func names(p wire.Proposal) string {
	var w []string
	for _, t := range p.Transforms {
		w = append(w, t.String())
	}
	return strings.Join(w, " ")
}

func TestParseIKE(t *testing.T) {
	for in, want := range map[string]string{
		"aes256gcm16-prfsha256-x25519":                    "AES_GCM_16_256 HMAC_SHA2_256 CURVE_25519",
		"aes256gcm16-prfsha256-curve25519":                "AES_GCM_16_256 HMAC_SHA2_256 CURVE_25519",
		"x25519-prfsha256-aes256gcm128":                   "AES_GCM_16_256 HMAC_SHA2_256 CURVE_25519",
		"aes128-sha256-ecp256":                            "AES_CBC_128 HMAC_SHA2_256_128 HMAC_SHA2_256 ECP_256",
		"aes-sha2_256-modp2048":                           "AES_CBC_128 HMAC_SHA2_256_128 HMAC_SHA2_256 MODP_2048",
		"aes256-sha384-sha512-ecp384":                     "AES_CBC_256 HMAC_SHA2_384_192 HMAC_SHA2_512_256 HMAC_SHA2_384 HMAC_SHA2_512 ECP_384",
		"aes256-sha256-prfsha512-ecp384":                  "AES_CBC_256 HMAC_SHA2_256_128 HMAC_SHA2_512 ECP_384",
		"chacha20poly1305-sha512-ecp256":                  "CHACHA20_POLY1305 HMAC_SHA2_512 ECP_256",
		"aes128gcm16-aes256gcm16-prfsha384-x25519-ecp256": "AES_GCM_16_128 AES_GCM_16_256 HMAC_SHA2_384 CURVE_25519 ECP_256",
		"aes256gcm16-aes256gcm-prfsha256-x25519-x25519":   "AES_GCM_16_256 HMAC_SHA2_256 CURVE_25519",
	} {
		p, err := ParseIKE(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if names(p) != want || p.Num != 1 || p.Protocol != wire.ProtocolIKE || p.SPI != nil {
			t.Errorf("%s: got %s", in, names(p))
		}
	}
}

func TestParseESP(t *testing.T) {
	for in, want := range map[string]string{
		"aes256gcm16":                  "AES_GCM_16_256 NO_EXT_SEQ",
		"aes256gcm16-esn-noesn":        "AES_GCM_16_256 EXT_SEQ NO_EXT_SEQ",
		"aes256gcm16-noesn-esn-x25519": "AES_GCM_16_256 CURVE_25519 NO_EXT_SEQ EXT_SEQ",
		"chacha20poly1305-esn-ecp256":  "CHACHA20_POLY1305 ECP_256 EXT_SEQ",
		"aes128-sha256":                "AES_CBC_128 HMAC_SHA2_256_128 NO_EXT_SEQ",
		"null-sha256":                  "NULL HMAC_SHA2_256_128 NO_EXT_SEQ",
		"aes256gcm16-sha256":           "AES_GCM_16_256 NO_EXT_SEQ",
		"aes256gcm16-x25519-modpnone":  "AES_GCM_16_256 CURVE_25519 NONE NO_EXT_SEQ",
	} {
		p, err := ParseESP(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if names(p) != want || p.Protocol != wire.ProtocolESP {
			t.Errorf("%s: got %s", in, names(p))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		esp            bool
		in, word, near string
		says           string
	}{
		{false, "aes256gcm16-prfsha265-x25519", "prfsha265", "prfsha256", "no IKE proposal keyword"},
		{false, "aes265gcm16-prfsha256-x25519", "aes265gcm16", "aes256gcm16", ""},
		{false, "aes256gcm16-prfsha256-x25518", "x25518", "x25519", ""},
		{false, "AES256GCM16-prfsha256-x25519", "AES256GCM16", "aes256gcm16", ""},
		{false, "chacha20-prfsha256-x25519", "chacha20", "chacha20poly1305", ""},
		{false, "aes256gcm16-prfsha256-x25519-esn", "esn", "", "cannot be used"},
		{false, "null-sha256-x25519", "null", "", "cannot be used"},                         // ADV-B10
		{false, "aes256gcm16-prfsha256-modpnone", "modpnone", "modp2048", "cannot be used"}, // ADV-B10
		{false, "aes256gcm16-prfsha256-modp1024", "modp1024", "modp2048", "not implemented"},
		{false, "3des-sha1-modp1024", "3des", "", "not implemented"},
		{true, "aes256gcm16-prfsha256", "prfsha256", "sha256", "cannot be used"},
		{true, "aes256gcm16-", "", "", "no ESP proposal keyword"},
		{true, "aes256gcm16--esn", "", "", "no ESP proposal keyword"},
		{true, "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "", ""},
		{false, "", "", "", "empty"},
		{true, "", "", "", "empty"},
		{false, "prfsha256-x25519", "", "", "no cipher"},
		{false, "aes256gcm16-x25519", "", "", "no PRF"},
		{false, "aes256gcm16-prfsha256", "", "", "no key exchange"},
		{false, "aes256-prfsha256-x25519", "", "", "no integrity"},
		{false, "aes256-aes256gcm16-sha256-x25519", "", "", "mixes"}, // ADV-B12
		{true, "aes256-aes256gcm16-sha256", "", "", "mixes"},
		{true, "aes256", "", "", "no integrity"},
		{true, "esn", "", "", "no cipher"},
		{true, strings.Repeat("aes256gcm16-", 100) + "esn", "", "", "longer"},
	} {
		parse := ParseIKE
		if c.esp {
			parse = ParseESP
		}
		p, err := parse(c.in)
		if err == nil {
			t.Errorf("%q: accepted as %s", c.in, names(p))
			continue
		}
		var ke *KeywordError
		if errors.As(err, &ke) != (c.word != "" || strings.Contains(c.says, "keyword")) {
			t.Errorf("%q: %v", c.in, err)
		}
		if ke != nil && (ke.Word != c.word || c.near != "" && ke.Nearest != c.near) {
			t.Errorf("%q: %v", c.in, err)
		}
		if !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "suite: ") {
			t.Errorf("%q: %v", c.in, err)
		}
		if ke != nil && ke.Nearest != "" {
			if !slices.ContainsFunc(keywords(), func(k keyword) bool { return k.word == ke.Nearest && k.use != useNone }) {
				t.Errorf("%q: %q is no keyword", c.in, ke.Nearest)
			}
		}
	}
}

func TestString(t *testing.T) {
	for in, want := range map[string]string{
		"aes256gcm16-prfsha256-curve25519":                "aes256gcm16-prfsha256-x25519",
		"aes128-sha256-ecp256":                            "aes128-sha256-ecp256",
		"aes128-sha256-prfsha256-ecp256":                  "aes128-sha256-ecp256",
		"aes128-sha256-prfsha384-ecp256":                  "aes128-sha256-prfsha384-ecp256",
		"aes-sha2_512-sha256-modp2048":                    "aes128-sha512-sha256-modp2048",
		"aes128-sha256-sha512-prfsha512-prfsha256-ecp256": "aes128-sha256-sha512-prfsha512-prfsha256-ecp256",
	} {
		p, err := ParseIKE(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := String(p); got != want {
			t.Errorf("%s prints as %s", in, got)
		}
	}
	for in, want := range map[string]string{
		"aes256gcm128":          "aes256gcm16",
		"aes256gcm16-noesn":     "aes256gcm16",
		"aes256gcm16-esn":       "aes256gcm16-esn",
		"aes256gcm16-noesn-esn": "aes256gcm16-noesn-esn",
		"null-sha2_384":         "null-sha384",
	} {
		p, err := ParseESP(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := String(p); got != want {
			t.Errorf("%s prints as %s", in, got)
		}
	}
	// What no keyword names is printed by its registry name.
	p := wire.Proposal{Protocol: wire.ProtocolIKE, Transforms: []wire.Transform{
		{Type: 200, ID: 7}, {Type: wire.TransformEncr, ID: 99, KeyBits: 5}, {Type: wire.TransformPRF, ID: 1},
		{Type: wire.TransformKE, ID: wire.GroupMODP1024}, {Type: wire.TransformEncr, ID: wire.EncrAESCBC, KeyBits: 128, BadAttr: true},
	}}
	if got := String(p); got != "ENCR(99)_5-AES_CBC_128(unusable attribute)-prfmd5-modp1024-transform(200)(7)" {
		t.Error(got)
	}
	if got := (IKE{Encr: 20, KeyBits: 256, PRF: 5, Group: 31}).String(); got != "aes256gcm16-prfsha256-x25519" {
		t.Error(got)
	}
	if got := (IKE{Encr: 12, KeyBits: 128, Integ: 12, PRF: 5, Group: 19}).String(); got != "aes128-sha256-ecp256" {
		t.Error(got)
	}
	if got := (ESP{Encr: 28, ESN: true, Group: 31}).String(); got != "chacha20poly1305-x25519-esn" {
		t.Error(got)
	}
	if got := (ESP{Encr: 12, KeyBits: 256, Integ: 14}).String(); got != "aes256-sha512" {
		t.Error(got)
	}
}

func TestDefaults(t *testing.T) {
	for _, ps := range [][]wire.Proposal{DefaultIKE(), DefaultESP()} {
		if len(ps) != 2 {
			t.Fatalf("%d default proposals", len(ps))
		}
		for i, p := range ps {
			if int(p.Num) != i+1 || len(p.Transforms) == 0 {
				t.Errorf("%v", p)
			}
		}
	}
	if got := Strings(DefaultESP()); got != "aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn, aes256-aes128-sha256-sha384-sha512-esn-noesn" {
		t.Error(got)
	}
	// They are the caller's: changing one does not change the next.
	DefaultIKE()[0].Transforms[0].ID = 99
	if DefaultIKE()[0].Transforms[0].ID != wire.EncrAESGCM16 {
		t.Error("defaults are shared")
	}
	if p, err := ParseIKE("default"); err != nil || !cmp.Equal(p, DefaultIKE()[0]) {
		t.Error(err)
	}
	if p, err := ParseESP("default"); err != nil || !cmp.Equal(p, DefaultESP()[0]) {
		t.Error(err)
	}
}

func TestLists(t *testing.T) {
	ps, err := IKEProposals("aes128-sha256-ecp256, default", "chacha20poly1305-prfsha256-x25519")
	if err != nil || len(ps) != 4 {
		t.Fatal(ps, err)
	}
	for i, p := range ps {
		if int(p.Num) != i+1 {
			t.Errorf("proposal %d has number %d", i, p.Num)
		}
	}
	if got := String(ps[3]); got != "chacha20poly1305-prfsha256-x25519" {
		t.Error(got)
	}
	if ps, err := ESPProposals(); err != nil || !cmp.Equal(ps, DefaultESP()) {
		t.Error(ps, err)
	}
	if _, err := ESPProposals("aes256gcm16", "nonsense"); err == nil {
		t.Error("nonsense accepted")
	}
	if _, err := ESPProposals(strings.Repeat("aes256gcm16,", wire.MaxProposals) + "aes256gcm16"); err == nil {
		t.Error("more proposals than a payload takes")
	}
}

// Every usable keyword is read back from what it prints.
func TestKeywordsRoundTrip(t *testing.T) {
	for _, k := range keywords() {
		if k.use == useNone {
			continue
		}
		if w := wordOf(keywords(), k.t); w != k.word && !slices.ContainsFunc(keywords(), func(o keyword) bool { return o.word == w && o.t == k.t && o.use == k.use }) {
			t.Errorf("%s prints as %s", k.word, w)
		}
		if near := nearest(k.word, k.use); near != k.word {
			t.Errorf("nearest to %s is %s", k.word, near)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.d {
			t.Errorf("%q to %q: %d", c.a, c.b, got)
		}
	}
}

// FuzzParse reads anything; what it accepts prints to something it reads to the
// same proposal.
func FuzzParse(f *testing.F) {
	for _, ps := range [][]wire.Proposal{DefaultIKE(), DefaultESP()} {
		for _, p := range ps {
			f.Add(String(p))
		}
	}
	for _, k := range keywords() {
		f.Add("aes256-sha256-" + k.word)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (wire.Proposal, error){ParseIKE, ParseESP} {
			p, err := parse(s)
			if err != nil {
				if err.Error() == "" {
					t.Fatal("error without text")
				}
				continue
			}
			again, err := parse(String(p))
			if err != nil {
				t.Fatalf("%q prints as %q: %v", s, String(p), err)
			}
			if d := cmp.Diff(p, again); d != "" {
				t.Fatalf("%q: %s", s, d)
			}
			_, b := wire.AppendPayloads(nil, []wire.Payload{&wire.SA{Proposals: []wire.Proposal{p}}})
			ps, err := wire.ParsePayloads(wire.PayloadSA, b)
			if err != nil {
				t.Fatalf("%q does not survive the wire: %v", s, err)
			}
			if d := cmp.Diff(p, ps[0].(*wire.SA).Proposals[0], cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%q on the wire: %s", s, d)
			}
		}
	})
}
