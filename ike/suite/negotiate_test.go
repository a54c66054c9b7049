package suite

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/btns-go/btns/ike/wire"
)

func ikeList(t testing.TB, ss ...string) []wire.Proposal {
	t.Helper()
	ps, err := IKEProposals(ss...)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// espList parses an offer of ESP proposals with a usable SPI.
func espList(t testing.TB, ss ...string) []wire.Proposal {
	t.Helper()
	ps, err := ESPProposals(ss...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ps {
		ps[i].SPI = []byte{0, 0, 1, 0}
	}
	return ps
}

func without(p wire.Proposal, typ wire.TransformType) wire.Proposal {
	p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t wire.Transform) bool { return t.Type == typ })
	return p
}

func with(p wire.Proposal, ts ...wire.Transform) wire.Proposal {
	p.Transforms = append(slices.Clone(p.Transforms), ts...)
	return p
}

func TestChooseIKE(t *testing.T) {
	for _, c := range []struct {
		offer, ours []string
		want        string
		num         uint8
	}{
		{[]string{"default"}, []string{"default"}, "aes256gcm16-prfsha256-x25519", 1},
		{[]string{"aes128-sha256-modp2048"}, []string{"default"}, "aes128-sha256-modp2048", 1},
		// Our preference decides, among proposals and within one.
		{[]string{"aes128-sha256-ecp256", "aes256gcm16-prfsha256-ecp256"}, []string{"default"}, "aes256gcm16-prfsha256-ecp256", 2},
		{[]string{"aes128gcm16-aes256gcm16-prfsha256-ecp384-ecp256"}, []string{"aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp256-ecp384"},
			"aes256gcm16-prfsha256-ecp256", 1},
		// The first proposal fails late, the second matches.
		{[]string{"aes256gcm16-prfsha256-ecp384", "aes256gcm16-prfsha256-x25519"}, []string{"aes256gcm16-prfsha256-x25519"}, "aes256gcm16-prfsha256-x25519", 2},
	} {
		s, num, chosen, err := ChooseIKE(ikeList(t, c.offer...), ikeList(t, c.ours...))
		if err != nil {
			t.Errorf("%v: %v", c.offer, err)
			continue
		}
		if s.String() != c.want || num != c.num || chosen.Num != num || String(chosen) != c.want || chosen.SPI != nil || !s.Valid() {
			t.Errorf("%v: got %v, %d, %s", c.offer, s, num, String(chosen))
		}
		// What we choose, the peer accepts as an answer.
		if got, err := CheckIKE(ikeList(t, c.offer...), []wire.Proposal{chosen}); err != nil || got != s {
			t.Errorf("%v: check: %v %v", c.offer, got, err)
		}
	}
}

func TestChooseESP(t *testing.T) {
	for _, c := range []struct {
		offer, ours string
		want        string
		esn         bool
	}{
		{"default", "default", "aes256gcm16-esn", true},
		{"aes256gcm16-noesn", "default", "aes256gcm16", false},
		{"aes256gcm16-noesn-esn", "aes256gcm16-noesn-esn", "aes256gcm16", false},
		{"null-sha256", "null-sha512-sha256", "null-sha256", false},
		{"aes256-sha256-x25519", "aes256-sha256-x25519-ecp256", "aes256-sha256-x25519", false},
		// No key exchange counts as NONE on both sides.
		{"aes256gcm16", "aes256gcm16-x25519-modpnone", "aes256gcm16", false},
		{"aes256gcm16-x25519-modpnone", "aes256gcm16", "aes256gcm16-modpnone", false},
		{"aes256gcm16-modpnone", "aes256gcm16-modpnone", "aes256gcm16-modpnone", false},
	} {
		ours, _ := ESPProposals(c.ours)
		offer := espList(t, c.offer)
		s, num, chosen, err := ChooseESP(offer, ours)
		if err != nil {
			t.Errorf("%s: %v", c.offer, err)
			continue
		}
		if String(chosen) != c.want || num != 1 || s.ESN != c.esn || !s.Valid() {
			t.Errorf("%s: got %v, %s", c.offer, s, String(chosen))
		}
		chosen.SPI = []byte{1, 2, 3, 4}
		if got, err := CheckESP(offer, []wire.Proposal{chosen}); err != nil || got != s {
			t.Errorf("%s: check: %v %v", c.offer, got, err)
		}
	}
}

// refuseIKE expects a mismatch about the given transform type.
func refuseIKE(t *testing.T, name string, typ wire.TransformType, offer ...wire.Proposal) *Mismatch {
	t.Helper()
	s, num, chosen, err := ChooseIKE(offer, DefaultIKE())
	if err == nil {
		t.Errorf("%s: chose %v", name, s)
		return nil
	}
	if s != (IKE{}) || num != 0 || chosen.Transforms != nil {
		t.Errorf("%s: a mismatch with a choice", name)
	}
	if err.Type != typ || err.Error() == "" {
		t.Errorf("%s: %v (type %v, want %v)", name, err, err.Type, typ)
	}
	return err
}

// ADV-B8: an SPI or another protocol in the initial exchange.
func TestADV_B8_InitialProposal(t *testing.T) {
	p := ikeList(t, "aes256gcm16-prfsha256-x25519")[0]
	withSPI := p
	withSPI.SPI = make([]byte, 8)
	refuseIKE(t, "SPI of 8 octets", 0, withSPI)
	esp := p
	esp.Protocol = wire.ProtocolESP
	refuseIKE(t, "ESP", 0, esp)
	for _, n := range []int{0, 4, 7, 9} {
		withSPI.SPI = make([]byte, n)
		if _, _, _, err := ChooseIKERekey([]wire.Proposal{withSPI}, DefaultIKE()); err == nil {
			t.Errorf("rekey with an SPI of %d octets accepted", n)
		}
	}
	withSPI.SPI = make([]byte, 8)
	_, _, chosen, err := ChooseIKERekey([]wire.Proposal{withSPI}, DefaultIKE())
	if err != nil {
		t.Error(err)
	}
	chosen.SPI = make([]byte, 8)
	if _, err := CheckIKERekey([]wire.Proposal{withSPI}, []wire.Proposal{chosen}); err != nil {
		t.Error(err)
	}
	if _, err := CheckIKE([]wire.Proposal{withSPI}, []wire.Proposal{chosen}); err == nil {
		t.Error("initial answer with an SPI accepted")
	}
}

// ADV-B10 (CVE-2016-5391): what an IKE SA is never without.
func TestADV_B10_CVE_2016_5391_MissingTransforms(t *testing.T) {
	aead, cbc := ikeList(t, "aes256gcm16-prfsha256-x25519")[0], ikeList(t, "aes128-sha256-ecp256")[0]
	refuseIKE(t, "no KE", wire.TransformKE, without(aead, wire.TransformKE))
	refuseIKE(t, "KE NONE", wire.TransformKE, with(without(aead, wire.TransformKE), wire.Transform{Type: wire.TransformKE}))
	refuseIKE(t, "no PRF", wire.TransformPRF, without(aead, wire.TransformPRF))
	refuseIKE(t, "PRF 0", wire.TransformPRF, with(without(aead, wire.TransformPRF), wire.Transform{Type: wire.TransformPRF}))
	refuseIKE(t, "no cipher", wire.TransformEncr, without(aead, wire.TransformEncr))
	refuseIKE(t, "NULL", wire.TransformEncr, with(without(cbc, wire.TransformEncr), wire.Transform{Type: wire.TransformEncr, ID: wire.EncrNull}))
	refuseIKE(t, "CBC without INTEG", wire.TransformInteg, without(cbc, wire.TransformInteg))
	refuseIKE(t, "CBC with INTEG NONE", wire.TransformInteg, with(without(cbc, wire.TransformInteg), wire.Transform{Type: wire.TransformInteg}))
	// Not even when our own list, built by hand, would allow it.
	for _, typ := range []wire.TransformType{wire.TransformKE, wire.TransformPRF} {
		p := with(without(aead, typ), wire.Transform{Type: typ})
		if _, _, _, err := ChooseIKE([]wire.Proposal{p}, []wire.Proposal{p}); err == nil {
			t.Errorf("%v NONE chosen", typ)
		}
		p = without(aead, typ)
		if _, _, _, err := ChooseIKE([]wire.Proposal{p}, []wire.Proposal{p}); err == nil {
			t.Errorf("missing %v chosen", typ)
		}
		if _, err := CheckIKE([]wire.Proposal{p}, []wire.Proposal{p}); err == nil {
			t.Errorf("answer without %v accepted", typ)
		}
	}
}

// ADV-B11: key lengths must be exactly ours.
func TestADV_B11_KeyLength(t *testing.T) {
	base := without(ikeList(t, "aes256gcm16-prfsha256-x25519")[0], wire.TransformEncr)
	for name, tr := range map[string]wire.Transform{
		"AES without":         {Type: 1, ID: wire.EncrAESGCM16},
		"AES 127":             {Type: 1, ID: wire.EncrAESGCM16, KeyBits: 127},
		"AES 65535":           {Type: 1, ID: wire.EncrAESGCM16, KeyBits: 65535},
		"AES two lengths":     {Type: 1, ID: wire.EncrAESGCM16, KeyBits: 256, BadAttr: true},
		"fixed-length cipher": {Type: 1, ID: wire.EncrChaCha20Poly1305, KeyBits: 256},
	} {
		refuseIKE(t, name, wire.TransformEncr, with(base, tr))
	}
	for _, typ := range []wire.TransformType{wire.TransformPRF, wire.TransformKE} {
		p := ikeList(t, "aes256gcm16-prfsha256-x25519")[0]
		p.Transforms = slices.Clone(p.Transforms)
		for i := range p.Transforms {
			if p.Transforms[i].Type == typ {
				p.Transforms[i].KeyBits = 256
			}
		}
		refuseIKE(t, "key length on "+typ.String(), typ, p)
	}
	// A bad transform beside a good one is passed over.
	p := with(base, wire.Transform{Type: 1, ID: wire.EncrAESGCM16, KeyBits: 256, BadAttr: true}, wire.Transform{Type: 1, ID: wire.EncrAESGCM16, KeyBits: 128})
	if s, _, _, err := ChooseIKE([]wire.Proposal{p}, DefaultIKE()); err != nil || s.KeyBits != 128 {
		t.Errorf("%v %v", s, err)
	}
}

// ADV-B12: an AEAD with an integrity algorithm other than NONE.
func TestADV_B12_AEADWithInteg(t *testing.T) {
	p := ikeList(t, "aes256gcm16-prfsha256-x25519")[0]
	sha := wire.Transform{Type: wire.TransformInteg, ID: wire.IntegHMACSHA256}
	none := wire.Transform{Type: wire.TransformInteg}
	refuseIKE(t, "with INTEG", wire.TransformInteg, with(p, sha))
	refuseIKE(t, "with INTEG and NONE", wire.TransformInteg, with(p, none, sha))
	s, _, chosen, err := ChooseIKE([]wire.Proposal{with(p, none)}, DefaultIKE())
	if err != nil || s.Integ != wire.IntegNone || !slices.Contains(chosen.Transforms, none) {
		t.Errorf("with NONE: %v %v", chosen, err)
	}
	// Mixed with CBC in one proposal, only CBC can be meant.
	mixed := with(p, sha, wire.Transform{Type: wire.TransformEncr, ID: wire.EncrAESCBC, KeyBits: 256})
	s, _, _, err = ChooseIKE([]wire.Proposal{mixed}, DefaultIKE())
	if err != nil || s.Encr != wire.EncrAESCBC || s.Integ != wire.IntegHMACSHA256 {
		t.Errorf("mixed: %v %v", s, err)
	}
}

// ADV-B9, ADV-B14: nothing acceptable; every key exchange method alone.
func TestADV_B14_GroupOffers(t *testing.T) {
	base := without(ikeList(t, "aes256gcm16-prfsha256-x25519")[0], wire.TransformKE)
	for g := range 65536 {
		p := with(base, wire.Transform{Type: wire.TransformKE, ID: uint16(g)})
		s, _, _, err := ChooseIKE([]wire.Proposal{p}, DefaultIKE())
		if (err == nil) != (KELen(uint16(g)) != 0) || err == nil && s.Group != uint16(g) {
			t.Fatalf("group %d: %v %v", g, s, err)
		}
	}
}

// CVE-2024-3652: each transform ID alone, in place of the one that is right. What is chosen has
// keys; AES-GMAC, which has a cipher's number and no cipher's key, is not.
func TestCVE_2024_3652_EveryTransformID(t *testing.T) {
	aead, cbc := ikeList(t, "aes256gcm16-prfsha256-x25519")[0], ikeList(t, "aes128-sha256-ecp256")[0]
	for _, p := range []wire.Proposal{aead, cbc} {
		for i := range p.Transforms {
			for id := range 300 {
				for _, bits := range []uint16{0, 64, 128, 192, 256} {
					q := with(p)
					q.Transforms[i].ID, q.Transforms[i].KeyBits = uint16(id), bits
					s, _, _, err := ChooseIKE([]wire.Proposal{q}, DefaultIKE())
					if err == nil && !s.Valid() {
						t.Fatalf("%s: chose %v", String(q), s)
					}
				}
			}
		}
	}
	aead, cbc = espList(t, "aes256gcm16")[0], espList(t, "aes128-sha256")[0]
	for _, p := range []wire.Proposal{aead, cbc} {
		p.SPI = []byte{0, 0, 1, 0}
		for i := range p.Transforms {
			for id := range 300 {
				for _, bits := range []uint16{0, 64, 128, 192, 256} {
					q := with(p)
					q.Transforms[i].ID, q.Transforms[i].KeyBits = uint16(id), bits
					s, _, _, err := ChooseESP([]wire.Proposal{q}, DefaultESP())
					if err != nil {
						continue
					}
					if s.KeyLen() < 16 || s.Encr == 21 || s.Encr == wire.EncrNull {
						t.Fatalf("%s: chose %v with %d octets of key", String(q), s, s.KeyLen())
					}
				}
			}
		}
	}
}

// ADV-B7: offers that do not start at 1, and empty lists.
func TestADV_B7_OfferNumbers(t *testing.T) {
	p := ikeList(t, "default")[0]
	p.Num = 2
	refuseIKE(t, "first number 2", 0, p)
	refuseIKE(t, "empty offer", 0)
	if _, _, _, err := ChooseIKE(DefaultIKE(), nil); err == nil || !strings.Contains(err.Error(), "we have no proposal") {
		t.Error(err)
	}
}

// ADV-E7: SPIs of ESP.
func TestADV_E7_ESPSPI(t *testing.T) {
	p := espList(t, "aes256gcm16")[0]
	for _, spi := range [][]byte{nil, {1, 2}, {1, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8}, {0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 255}} {
		p.SPI = spi
		if _, _, _, err := ChooseESP([]wire.Proposal{p}, DefaultESP()); err == nil {
			t.Errorf("SPI %x offered and accepted", spi)
		}
		got := espList(t, "aes256gcm16")[0]
		got.SPI = spi
		if _, err := CheckESP(espList(t, "aes256gcm16"), []wire.Proposal{got}); err == nil {
			t.Errorf("SPI %x answered and accepted", spi)
		}
	}
	p.SPI = []byte{0, 0, 1, 0}
	if _, _, _, err := ChooseESP([]wire.Proposal{p}, DefaultESP()); err != nil {
		t.Error(err)
	}
}

// ADV-E8: ESN, AH, unknown transform types.
func TestADV_E8_ESPProposals(t *testing.T) {
	p := espList(t, "aes256gcm16-esn-noesn")[0]
	refuse := func(name string, typ wire.TransformType, offer ...wire.Proposal) {
		t.Helper()
		if s, _, _, err := ChooseESP(offer, DefaultESP()); err == nil || err.Type != typ {
			t.Errorf("%s: %v %v", name, s, err)
		}
	}
	refuse("no ESN", wire.TransformESN, without(p, wire.TransformESN))
	ah := p
	ah.Protocol = wire.ProtocolAH
	refuse("AH", 0, ah)
	refuse("unknown type", 200, with(p, wire.Transform{Type: 200, ID: 1}))
	refuse("PRF in ESP", wire.TransformPRF, with(p, wire.Transform{Type: wire.TransformPRF, ID: wire.PRFHMACSHA256}))
	refuse("ADDKE1", 6, with(p, wire.Transform{Type: 6, ID: 36}))
	// A proposal that cannot be accepted does not spoil the next.
	bad, good := with(p, wire.Transform{Type: 200, ID: 1}), p
	good.Num = 2
	if _, num, _, err := ChooseESP([]wire.Proposal{bad, good}, DefaultESP()); err != nil || num != 2 {
		t.Error(num, err)
	}
	// ADV-E12: a key exchange in one offer only.
	pfs := with(p, wire.Transform{Type: wire.TransformKE, ID: wire.GroupX25519})
	refuse("KE offered, none wanted", wire.TransformKE, pfs)
	if _, _, _, err := ChooseESP([]wire.Proposal{p}, []wire.Proposal{pfs}); err == nil || err.Type != wire.TransformKE {
		t.Error("KE wanted, none offered: accepted")
	}
}

// ADV-C6: answers that are not one of our offers.
func TestADV_C6_Answers(t *testing.T) {
	offered := ikeList(t, "aes256gcm16-aes128gcm16-prfsha256-prfsha384-x25519-ecp256", "aes256-sha256-ecp256")
	answer := func(s string, num uint8) wire.Proposal {
		p := ikeList(t, s)[0]
		p.Num = num
		return p
	}
	good := answer("aes128gcm16-prfsha384-ecp256", 1)
	if s, err := CheckIKE(offered, []wire.Proposal{good}); err != nil || s.KeyBits != 128 || s.Group != wire.GroupECP256 {
		t.Fatal(s, err)
	}
	if _, err := CheckIKE(offered, []wire.Proposal{answer("aes256-sha256-ecp256", 2)}); err != nil {
		t.Fatal(err)
	}
	esp := good
	esp.Protocol = wire.ProtocolESP
	bits := with(good)
	bits.Transforms[0].KeyBits = 192
	bad := with(good)
	bad.Transforms[0].BadAttr = true
	for name, got := range map[string][]wire.Proposal{
		"none":                      {},
		"two":                       {good, good},
		"number not offered":        {answer("aes128gcm16-prfsha384-ecp256", 3)},
		"number of another":         {answer("aes128gcm16-prfsha384-ecp256", 2)},
		"number 0":                  {answer("aes128gcm16-prfsha384-ecp256", 0)},
		"cipher not offered":        {answer("chacha20poly1305-prfsha384-ecp256", 1)},
		"group not offered":         {answer("aes128gcm16-prfsha384-ecp384", 1)},
		"two groups":                {answer("aes128gcm16-prfsha384-x25519-ecp256", 1)},
		"two ciphers":               {answer("aes256gcm16-aes128gcm16-prfsha384-ecp256", 1)},
		"same transform twice":      {with(good, good.Transforms[0])},
		"no PRF":                    {without(good, wire.TransformPRF)},
		"no group":                  {without(good, wire.TransformKE)},
		"changed key length":        {bits},
		"unusable attribute":        {bad},
		"type not offered":          {with(good, wire.Transform{Type: wire.TransformInteg})},
		"other protocol":            {esp},
		"mix of our two proposals":  {answer("aes256-sha256-prfsha384-ecp256", 2)},
		"our whole offer sent back": offered[:1],
	} {
		s, err := CheckIKE(offered, got)
		var ae *AnswerError
		if !errors.As(err, &ae) || s != (IKE{}) || !strings.Contains(err.Error(), "we offered") {
			t.Errorf("%s: %v %v", name, s, err)
		}
	}
}

func TestMismatchText(t *testing.T) {
	for _, c := range []struct{ offer, ours, says string }{
		{"aes256gcm16-prfsha256-ecp384", "aes256gcm16-prfsha256-x25519-ecp256", "KE: peer offers ecp384, we accept x25519 ecp256"},
		{"aes256gcm16-prfsha512-x25519", "aes256gcm16-prfsha256-x25519", "PRF: peer offers prfsha512, we accept prfsha256"},
		{"aes256-sha512-prfsha256-x25519", "aes256-sha256-x25519", "INTEG: peer offers sha512, we accept sha256"},
		{"chacha20poly1305-prfsha256-x25519", "aes256gcm16-prfsha256-x25519", "ENCR: peer offers chacha20poly1305, we accept aes256gcm16"},
		// The pair that got furthest speaks.
		{"chacha20poly1305-prfsha256-x25519,aes256gcm16-prfsha256-ecp256", "aes256gcm16-prfsha256-x25519", "KE: peer offers ecp256, we accept x25519"},
	} {
		_, _, _, err := ChooseIKE(ikeList(t, c.offer), ikeList(t, c.ours))
		if err == nil {
			t.Fatalf("%s matches", c.offer)
		}
		want := "suite: no IKE proposal matches: " + c.says + "; peer offers [" + strings.ReplaceAll(c.offer, ",", ", ") + "]; we accept [" + c.ours + "]"
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
	// What a peer can make us print is bounded.
	var long []wire.Proposal
	for i := range wire.MaxProposals {
		p := wire.Proposal{Num: uint8(i + 1), Protocol: wire.ProtocolIKE}
		for id := range wire.MaxTransforms {
			p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformEncr, ID: uint16(60000 + id)})
		}
		long = append(long, p)
	}
	_, _, _, err := ChooseIKE(long, DefaultIKE())
	if s := err.Error(); len(s) > 8192 || !strings.Contains(s, "and 56 more") || !strings.Contains(s, "…") {
		t.Errorf("%d octets: %.200s", len(s), s)
	}
	for _, m := range []*Mismatch{{}, {Protocol: wire.ProtocolESP, step: stepNoOffer}} {
		if m.Error() == "" {
			t.Error("no text")
		}
	}
}

func TestMismatchDetach(t *testing.T) {
	offer := espList(t, "aes256gcm16")
	_, _, _, err := ChooseESP(offer, ikeList(t, "default"))
	d := err.Detach()
	text := d.Error()
	offer[0].SPI[0], offer[0].Transforms[0].ID = 0xff, 99
	if d.Error() != text || d.Offered[0].SPI[0] == 0xff {
		t.Error("a detached mismatch changes with the offer")
	}
}

func TestHelpers(t *testing.T) {
	ours := ikeList(t, "default", "chacha20poly1305-prfsha256-x25519")
	before := Strings(ours)
	moved := PreferGroup(ours, wire.GroupECP384)
	if s, _, _, err := ChooseIKE(ikeList(t, "default"), moved); err != nil || s.Group != wire.GroupECP384 || s.Encr != wire.EncrAESGCM16 {
		t.Error(s, err)
	}
	if s, _, _, err := ChooseIKE(ikeList(t, "default"), PreferGroup(ours, 9)); err != nil || s.Group != wire.GroupX25519 {
		t.Error(s, err)
	}
	if got := Groups(ours); !slices.Equal(got, []uint16{wire.GroupX25519, wire.GroupECP256, wire.GroupECP384, wire.GroupMODP2048}) {
		t.Error(got)
	}
	child, _ := ESPProposals("aes256gcm16-x25519-modpnone-esn")
	if got := Strings(WithoutKE(child)); got != "aes256gcm16-esn" {
		t.Error(got)
	}
	if got := Groups(child); !slices.Equal(got, []uint16{wire.GroupX25519}) {
		t.Error(got)
	}
	if Strings(ours) != before || String(child[0]) != "aes256gcm16-x25519-modpnone-esn" {
		t.Error("a helper changed its argument")
	}
}

// Whatever two parsed lists lead to is valid, is one of the offers, and both
// ends read the same suite from it. A slow model says whether there is a match.
func TestChooseAgainstModel(t *testing.T) {
	enc := []string{"aes256gcm16", "aes128gcm16", "chacha20poly1305"}
	cbc := []string{"aes256", "aes128"}
	integ := []string{"sha256", "sha384", "sha512"}
	prf := []string{"prfsha256", "prfsha384", "prfsha512"}
	ke := []string{"x25519", "ecp256", "ecp384", "modp2048"}
	rapid.Check(t, func(r *rapid.T) {
		some := func(from []string, label string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, len(from), rapid.ID[string]).Draw(r, label)
		}
		list := func(label string) []wire.Proposal {
			var ss []string
			for range rapid.IntRange(1, 3).Draw(r, label) {
				var w []string
				if rapid.Bool().Draw(r, "aead") {
					w = some(enc, "enc")
				} else {
					w = append(some(cbc, "cbc"), some(integ, "integ")...)
				}
				w = append(append(w, some(prf, "prf")...), some(ke, "ke")...)
				ss = append(ss, strings.Join(w, "-"))
			}
			ps, err := IKEProposals(ss...)
			if err != nil {
				r.Fatal(err)
			}
			return ps
		}
		offer, ours := list("offer"), list("ours")
		match := func(a, b wire.Proposal) bool {
			for _, typ := range []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformPRF, wire.TransformKE} {
				x, y := ofType(a.Transforms, typ), ofType(b.Transforms, typ)
				if len(x) == 0 && len(y) == 0 {
					continue
				}
				if !slices.ContainsFunc(x, func(t wire.Transform) bool { return slices.Contains(y, t) }) {
					return false
				}
			}
			return true
		}
		want := slices.ContainsFunc(offer, func(o wire.Proposal) bool {
			return slices.ContainsFunc(ours, func(p wire.Proposal) bool { return match(o, p) })
		})
		s, num, chosen, err := ChooseIKE(offer, ours)
		if (err == nil) != want {
			r.Fatalf("offer %s, ours %s: %v", Strings(offer), Strings(ours), err)
		}
		if err != nil {
			if err.Error() == "" {
				r.Fatal("mismatch without text")
			}
			return
		}
		got, cerr := CheckIKE(offer, []wire.Proposal{chosen})
		if cerr != nil || got != s || num != chosen.Num || !s.Valid() {
			r.Fatalf("chose %v (%s): %v", s, String(chosen), cerr)
		}
		if d := cmp.Diff(s.proposal().Transforms, chosen.Transforms); d != "" {
			r.Fatal(d)
		}
	})
}

// FuzzChoose gives the negotiation any SA payload that parses.
func FuzzChoose(f *testing.F) {
	for _, ps := range [][]wire.Proposal{DefaultIKE(), espList(f, "default")} {
		_, b := wire.AppendPayloads(nil, []wire.Payload{&wire.SA{Proposals: ps}})
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := wire.ParsePayloads(wire.PayloadSA, b)
		if err != nil || len(ps) == 0 {
			return
		}
		sa, ok := ps[0].(*wire.SA)
		if !ok {
			return
		}
		if s, _, chosen, err := ChooseIKE(sa.Proposals, DefaultIKE()); err == nil {
			if got, cerr := CheckIKE(sa.Proposals, []wire.Proposal{chosen}); cerr != nil || got != s || !s.Valid() {
				t.Fatalf("%v: %v", s, cerr)
			}
		} else if err.Error() == "" {
			t.Fatal("no text")
		}
		if s, _, chosen, err := ChooseESP(sa.Proposals, DefaultESP()); err == nil {
			chosen.SPI = []byte{1, 2, 3, 4}
			if got, cerr := CheckESP(sa.Proposals, []wire.Proposal{chosen}); cerr != nil || got != s || !s.Valid() {
				t.Fatalf("%v: %v", s, cerr)
			}
		} else if err.Error() == "" {
			t.Fatal("no text")
		}
		_, _ = CheckIKE(DefaultIKE(), sa.Proposals)
	})
}

// A refusal of the widest offer that fits a datagram is cheap: it is a
// stranger's, and there is no cookie yet.
func TestChooseIsCheap(t *testing.T) {
	var offer []wire.Proposal
	for i := range 31 {
		p := wire.Proposal{Num: uint8(i + 1), Protocol: wire.ProtocolIKE}
		for id := range wire.MaxTransforms {
			p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformType(1 + id%4), ID: uint16(60000 + id)})
		}
		offer = append(offer, p)
	}
	ours := DefaultIKE()
	if n := testing.AllocsPerRun(20, func() { _, _, _, _ = ChooseIKE(offer, ours) }); n > 6 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChooseIKE(b *testing.B) {
	offer, ours := DefaultIKE(), DefaultIKE()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := ChooseIKE(offer, ours); err != nil {
			b.Fatal(err)
		}
	}
}
