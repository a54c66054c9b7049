package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// try parses one payload with the given body.
func try(t PayloadType, body []byte) (Payload, error) {
	ps, err := ParsePayloads(t, chain(t, body))
	if err != nil {
		return nil, err
	}
	return ps[0], nil
}

// ADV-B7: proposals that are not what they say (free5gc 940 and 1073).
func TestADV_B7_ROW_77_Proposals(t *testing.T) {
	good := body(samples()[0]) // proposal 1: 40 octets at 0, proposal 2 behind it
	n1 := int(binary.BigEndian.Uint16(good[2:]))
	one := slices.Clone(good[:n1])
	one[0] = 0
	if _, err := try(PayloadSA, one); err != nil {
		t.Fatal(err)
	}
	edit := func(b []byte, f func(b []byte)) []byte { b = slices.Clone(b); f(b); return b }
	set := func(off int, v byte) func([]byte) { return func(b []byte) { b[off] = v } }
	for name, b := range map[string][]byte{
		"none":                        {},
		"last flag 1":                 edit(one, set(0, 1)),
		"last flag says more":         edit(one, set(0, 2)),
		"last flag says last":         edit(good, set(0, 0)),
		"length 0":                    edit(one, func(b []byte) { binary.BigEndian.PutUint16(b[2:], 0) }),
		"length 3":                    edit(one, func(b []byte) { binary.BigEndian.PutUint16(b[2:], 3) }),
		"length 7":                    edit(one, func(b []byte) { binary.BigEndian.PutUint16(b[2:], 7) }),
		"length one less":             edit(one, set(3, one[3]-1)),
		"length one more":             edit(one, set(3, one[3]+1)),
		"number 0":                    edit(one, set(4, 0)),
		"gap":                         edit(good, set(n1+4, 3)),
		"repeated number":             edit(good, set(n1+4, 1)),
		"SPI beyond proposal":         edit(one, set(6, 200)),
		"SPI eats transforms":         edit(one, set(6, 8)),
		"no transforms":               edit(one, set(7, 0)),
		"count one less":              edit(one, set(7, 2)),
		"count one more":              edit(one, set(7, 4)),
		"count 255":                   edit(one, set(7, 255)),
		"transform flag 1":            edit(one, set(8, 1)),
		"first transform says last":   edit(one, set(8, 0)),
		"last transform says more":    edit(one, set(8+12+8, 3)),
		"transform length 0":          edit(one, set(8+3, 0)),
		"transform length 7":          edit(one, set(8+3, 7)),
		"transform length 9":          edit(one, set(8+3, 9)),
		"transform past the proposal": edit(one, set(8+3, 200)),
		"octets after the last":       append(slices.Clone(one), 0),
		"proposal head alone":         {0, 0, 0, 8, 1, 1, 0, 1},
	} {
		if p, err := try(PayloadSA, b); err == nil {
			t.Errorf("%s: accepted as %+v", name, p)
		}
	}
}

// ADV-B7: a request starts at 1; a response repeats the number it chose.
func TestADV_B7_FirstNumber(t *testing.T) {
	m := initRequest()
	m.Payloads[0] = &SA{Proposals: []Proposal{{Num: 2, Protocol: ProtocolIKE, Transforms: []Transform{{Type: 1}}}}}
	if _, err := Parse(m.Append(nil)); err == nil {
		t.Error("request whose first number is 2 accepted")
	}
	m.Flags |= FlagResponse
	if _, err := Parse(m.Append(nil)); err != nil {
		t.Errorf("response: %v", err)
	}
	if err := (&SA{}).CheckOffer(); err == nil {
		t.Error("empty offer accepted")
	}
}

// ADV-B11: attributes. What is sound but cannot be used is marked; what is not
// sound is refused.
func TestADV_B11_Attributes(t *testing.T) {
	proposal := func(attrs ...byte) []byte {
		n := byte(8 + len(attrs))
		b := []byte{0, 0, 0, 8 + n, 1, 1, 0, 1, 0, 0, 0, n, 1, 0, 0, 12}
		return append(b, attrs...)
	}
	for name, c := range map[string]struct {
		attrs []byte
		bits  uint16
		bad   bool
		fails bool
	}{
		"none":                  {nil, 0, false, false},
		"128":                   {[]byte{0x80, 14, 0, 128}, 128, false, false},
		"127":                   {[]byte{0x80, 14, 0, 127}, 127, false, false},
		"65535":                 {[]byte{0x80, 14, 255, 255}, 65535, false, false},
		"zero":                  {[]byte{0x80, 14, 0, 0}, 0, true, false},
		"two key lengths":       {[]byte{0x80, 14, 0, 128, 0x80, 14, 1, 0}, 128, true, false},
		"same key length twice": {[]byte{0x80, 14, 0, 128, 0x80, 14, 0, 128}, 128, true, false},
		"unknown attribute":     {[]byte{0x80, 15, 0, 1}, 0, true, false},
		"key length and unknown": {
			[]byte{0x80, 14, 1, 0, 0x80, 99, 0, 1}, 256, true, false},
		"key length as TLV":  {[]byte{0, 14, 0, 2, 0, 128}, 0, true, false},
		"unknown TLV, empty": {[]byte{0, 99, 0, 0}, 0, true, false},
		"TLV past the end":   {[]byte{0, 99, 0, 5, 1, 2}, 0, false, true},
		"one octet":          {[]byte{0x80}, 0, false, true},
		"three octets":       {[]byte{0x80, 14, 0}, 0, false, true},
	} {
		p, err := try(PayloadSA, proposal(c.attrs...))
		if c.fails {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tr := p.(*SA).Proposals[0].Transforms[0]
		if tr.KeyBits != c.bits || tr.BadAttr != c.bad {
			t.Errorf("%s: %+v", name, tr)
		}
	}
}

func TestProposalCap(t *testing.T) {
	sa := &SA{}
	for i := range MaxProposals + 1 {
		sa.Proposals = append(sa.Proposals, Proposal{Num: uint8(i + 1), Transforms: []Transform{{Type: 1}}})
	}
	if _, err := try(PayloadSA, body(sa)); err == nil {
		t.Error("accepted")
	}
}

// ADV-B17: nonce lengths.
func TestADV_B17_NonceLength(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 15: false, 16: true, 17: true, 256: true, 257: false, 60000: false} {
		if _, err := try(PayloadNonce, fill(n, 1)); (err == nil) != ok {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

// ADV-B15: a KE payload without data. Other lengths are the group's affair.
func TestADV_B15_KELength(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 1: false, 3: false, 4: false, 5: true, 65000: true} {
		if _, err := try(PayloadKE, fill(n, 1)); (err == nil) != ok {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

// ADV-D15: identities with the wrong size.
func TestADV_D15_ID(t *testing.T) {
	for _, c := range []struct {
		typ IDType
		n   int
		ok  bool
	}{
		{0, 4, false}, {IDIPv4Addr, 3, false}, {IDIPv4Addr, 4, true}, {IDIPv4Addr, 5, false}, {IDIPv4Addr, 0, false},
		{IDIPv6Addr, 15, false}, {IDIPv6Addr, 16, true}, {IDIPv6Addr, 17, false},
		{IDFQDN, 0, false}, {IDFQDN, 1, true}, {IDRFC822Addr, 0, false}, {IDKeyID, 0, false}, {IDKeyID, 60000, true},
		{IDDERASN1DN, 0, false}, {IDNull, 0, true}, {IDNull, 9, true}, {255, 0, true}, {255, 3, true},
	} {
		for _, typ := range []PayloadType{PayloadIDi, PayloadIDr} {
			p, err := try(typ, append([]byte{byte(c.typ), 0, 0, 0}, fill(c.n, 'x')...))
			if (err == nil) != c.ok {
				t.Errorf("%v with %d octets: %v", c.typ, c.n, err)
			}
			if err == nil && p.Type() != typ {
				t.Errorf("came back as %v", p.Type())
			}
		}
	}
}

func TestIDString(t *testing.T) {
	for want, id := range map[string]*ID{
		"%any":                           nil,
		"192.0.2.1":                      {IType: IDIPv4Addr, Data: []byte{192, 0, 2, 1}},
		"ID_NULL":                        {IType: IDNull, Data: []byte("x")},
		`ID_FQDN:"a\x00b\n"`:             {IType: IDFQDN, Data: []byte("a\x00b\n")},
		`ID_RFC822_ADDR:"a@b"`:           {IType: IDRFC822Addr, Data: []byte("a@b")},
		`ID_IPV4_ADDR:"\x01"`:            {IType: IDIPv4Addr, Data: []byte{1}},
		"2001:db8::1":                    {IType: IDIPv6Addr, Data: netip.MustParseAddr("2001:db8::1").AsSlice()},
		`ID(77):"\u202e"`:                {IType: 77, Data: []byte("\u202e")},
		`ID_KEY_ID:"` + `\xff\xfe` + `"`: {IType: IDKeyID, Data: []byte{0xff, 0xfe}},
		`ID_DER_ASN1_DN:"0\x00"`:         {IType: IDDERASN1DN, Data: []byte{'0', 0}},
		`ID_DER_ASN1_GN:"0"`:             {IType: IDDERASN1GN, Data: []byte{'0'}},
		`ID_FC_NAME:"0"`:                 {IType: IDFCName, Data: []byte{'0'}},
		`ID_FQDN:"` + strings.Repeat("a", maxShownID) + `"… (60000 octets)`: {IType: IDFQDN, Data: bytes.Repeat([]byte("a"), 60000)},
	} {
		if got := id.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	id := &ID{IType: IDFQDN, Data: []byte("a")}
	if got := id.AppendBody(nil); string(got) != "\x02\x00\x00\x00a" {
		t.Errorf("body %x", got)
	}
}

func TestNotify(t *testing.T) {
	for _, c := range []struct {
		body  []byte
		ok    bool
		proto ProtocolID
		spi   uint32
		isSPI bool
	}{
		{[]byte{0, 0, 0x40, 0}, true, 0, 0, false},
		{[]byte{3, 0, 0x40, 0}, true, 0, 0, false}, // without an SPI the protocol is ignored
		{[]byte{3, 4, 0x40, 0x09, 1, 2, 3, 4}, true, 3, 0x01020304, true},
		{[]byte{2, 4, 0x40, 0x09, 1, 2, 3, 4}, true, 2, 0x01020304, true},
		{[]byte{1, 4, 0x40, 0x09, 1, 2, 3, 4}, true, 1, 0, false},
		{[]byte{0, 4, 0x40, 0x09, 1, 2, 3, 4}, true, 0, 0, false},
		{[]byte{3, 3, 0x40, 0x09, 1, 2, 3, 4}, true, 3, 0, false},
		{[]byte{3, 8, 0x40, 0x09, 1, 2, 3, 4, 5, 6, 7, 8}, true, 3, 0, false},
		{[]byte{3, 5, 0x40, 0x09, 1, 2, 3, 4}, false, 0, 0, false},
		{[]byte{3, 255, 0x40, 0x09}, false, 0, 0, false},
		{[]byte{3, 0, 0x40}, false, 0, 0, false},
	} {
		p, err := try(PayloadNotify, c.body)
		if (err == nil) != c.ok {
			t.Errorf("%x: %v", c.body, err)
		}
		if err != nil {
			continue
		}
		n := p.(*Notify)
		if spi, ok := n.SPI32(); n.Protocol != c.proto || spi != c.spi || ok != c.isSPI {
			t.Errorf("%x: %+v, SPI %#x %v", c.body, n, spi, ok)
		}
	}
	// Sent without an SPI, the protocol is zero.
	if b := body(&Notify{Protocol: ProtocolESP, NType: 1}); b[0] != 0 {
		t.Errorf("%x", b)
	}
}

// ADV-F8: deletes whose protocol and SPI size do not go together delete nothing;
// counts that are not true are refused.
func TestADV_F8_Delete(t *testing.T) {
	for _, c := range []struct {
		body     []byte
		ok, used bool
		n        int
	}{
		{[]byte{1, 0, 0, 0}, true, true, 0},
		{[]byte{3, 4, 0, 1, 1, 2, 3, 4}, true, true, 1},
		{[]byte{2, 4, 0, 1, 1, 2, 3, 4}, true, true, 1},
		{[]byte{3, 4, 0, 0}, true, true, 0},
		{[]byte{0, 4, 0, 1, 1, 2, 3, 4}, true, false, 0},
		{[]byte{4, 4, 0, 1, 1, 2, 3, 4}, true, false, 0},
		{[]byte{1, 8, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}, true, false, 0},
		{[]byte{1, 0, 0, 1}, true, false, 0},
		{[]byte{3, 3, 0, 1, 1, 2, 3}, true, false, 0},
		{[]byte{3, 0, 0, 5}, true, false, 0},
		{[]byte{3, 4, 0, 2, 1, 2, 3, 4}, false, false, 0},
		{[]byte{3, 4, 255, 255, 1, 2, 3, 4}, false, false, 0},
		{[]byte{3, 4, 0, 1, 1, 2, 3, 4, 5}, false, false, 0},
		{[]byte{3, 4, 0}, false, false, 0},
	} {
		p, err := try(PayloadDelete, c.body)
		if (err == nil) != c.ok {
			t.Errorf("%x: %v", c.body, err)
		}
		if err != nil {
			continue
		}
		if d := p.(*Delete); d.Unusable == c.used || len(d.SPIs) != c.n {
			t.Errorf("%x: %+v", c.body, d)
		}
	}
	many := append([]byte{3, 4, 0x04, 0x01}, fill(4*(MaxDeleteSPIs+1), 1)...)
	if _, err := try(PayloadDelete, many); err == nil {
		t.Error("more than MaxDeleteSPIs accepted")
	}
}

// ADV-E1: traffic selectors (CVE-2023-23009).
func TestADV_E1_CVE_2023_23009_TrafficSelectors(t *testing.T) {
	v4 := []byte{7, 0, 0, 16, 0, 0, 255, 255, 10, 0, 0, 0, 10, 0, 0, 255}
	v6 := append([]byte{8, 0, 0, 40, 0, 0, 255, 255}, append(fill(16, 1), fill(16, 2)...)...)
	ts := func(count byte, sel ...[]byte) []byte {
		return append([]byte{count, 0, 0, 0}, slices.Concat(sel...)...)
	}
	edit := func(b []byte, off int, v ...byte) []byte { b = slices.Clone(b); copy(b[off:], v); return b }
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"v4":                      {ts(1, v4), true},
		"v6":                      {ts(1, v6), true},
		"both":                    {ts(2, v4, v6), true},
		"count 0":                 {ts(0), false},
		"count 0 with selector":   {ts(0, v4), false},
		"count 255":               {ts(255, v4), false},
		"count too small":         {ts(1, v4, v6), false},
		"count too large":         {ts(3, v4, v6), false},
		"v4 length 7":             {ts(1, edit(v4, 2, 0, 7)), false},
		"v4 length 15":            {ts(1, edit(v4, 2, 0, 15)[:15]), false},
		"v4 length 17":            {ts(1, append(edit(v4, 2, 0, 17), 0)), false},
		"v4 length 40":            {ts(1, edit(v6, 0, 7)), false},
		"v6 length 16":            {ts(1, edit(v4, 0, 8)), false},
		"v6 length 41":            {ts(1, append(edit(v6, 2, 0, 41), 0)), false},
		"length 0":                {ts(1, edit(v4, 2, 0, 0)), false},
		"length 65535":            {ts(1, edit(v4, 2, 255, 255)), false},
		"start above end":         {ts(1, edit(v4, 8, 10, 0, 1, 0)), false},
		"v6 start above end":      {ts(1, edit(v6, 8, 3)), false},
		"ports in wrong order":    {ts(1, edit(v4, 4, 0, 80, 0, 79)), false},
		"opaque ports":            {ts(1, edit(v4, 4, 255, 255, 0, 0)), true},
		"nearly opaque":           {ts(1, edit(v4, 4, 255, 255, 0, 1)), false},
		"type 0, kept as unknown": {ts(1, edit(v4, 0, 0)), true},
		"type 255, any length":    {ts(1, []byte{255, 0, 0, 4}), true},
		"type 255, too short":     {ts(1, []byte{255, 0, 0, 3}), false},
	} {
		for _, typ := range []PayloadType{PayloadTSi, PayloadTSr} {
			p, err := try(typ, c.b)
			if (err == nil) != c.ok {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil && p.Type() != typ {
				t.Errorf("%s: came back as %v", name, p.Type())
			}
		}
	}
	p, err := try(PayloadTSi, ts(2, v4, []byte{9, 6, 0, 5, 1}))
	if err != nil {
		t.Fatal(err)
	}
	s := p.(*TS).Selectors
	if !s[0].Known() || s[1].Known() || s[1].Start.IsValid() {
		t.Errorf("%v", s)
	}
	if got := s[0].String() + " " + s[1].String(); got != "10.0.0.0-10.0.0.255[0/0-65535] TS_TYPE(9)" {
		t.Error(got)
	}
}

// ADV-D22: configuration attributes of any length are kept, too many refused
// (free5gc 984).
func TestADV_D22_ROW_79_Configuration(t *testing.T) {
	for n := range 20 {
		c := &Configuration{CType: ConfigReply, Attributes: []ConfigAttribute{{Type: ConfigInternalIP4Address, Value: fill(n, 1)}}}
		p, err := try(PayloadConfiguration, body(c))
		if err != nil {
			t.Fatal(err)
		}
		diff(t, Payload(c), p)
	}
	for n, ok := range map[int]bool{MaxConfigAttributes: true, MaxConfigAttributes + 1: false, 10000: false} {
		c := &Configuration{CType: ConfigReply, Attributes: make([]ConfigAttribute, n)}
		if _, err := try(PayloadConfiguration, body(c)); (err == nil) != ok {
			t.Errorf("%d attributes: %v", n, err)
		}
	}
}

// An EAP packet whose length is not its own (free5gc 938).
func TestROW_79_EAPLength(t *testing.T) {
	for s, ok := range map[string]bool{"": false, "\x01\x02\x00": false, "\x03\x01\x00\x04": true, "\x03\x01\x00\x05": false, "\x01\x01\x00\x05\x01": true, "\x01\x01\x00\x04\x01": false} {
		if _, err := try(PayloadEAP, []byte(s)); (err == nil) != ok {
			t.Errorf("%x: %v", s, err)
		}
	}
}

// CVE-2015-3991: payload types of IKEv1, and every other, in a chain.
func TestCVE_2015_3991_PayloadTypes(t *testing.T) {
	for typ := 1; typ < 256; typ++ {
		for n := range 64 {
			p, err := try(PayloadType(typ), fill(n, byte(typ)))
			if err != nil {
				continue
			}
			u, unknown := p.(*Unknown)
			if p.Type() != PayloadType(typ) || (typ < 33 || typ > 54) && !unknown {
				t.Fatalf("type %d of %d octets: %T", typ, n, p)
			}
			if unknown && (u.Critical || string(u.Data) != string(fill(n, byte(typ)))) {
				t.Fatalf("type %d of %d octets: %+v", typ, n, u)
			}
		}
	}
}

func TestNATDHash(t *testing.T) {
	// SHA-1 over 16 octets of SPIs, the address and the port, computed by another program.
	a := NATDHash(1, 2, netip.MustParseAddrPort("192.0.2.1:4500"))
	b := NATDHash(1, 2, netip.MustParseAddrPort("[::ffff:192.0.2.1]:4500"))
	if got := hex.EncodeToString(a[:]); got != "380ea796e33613f94a8dc7015497c2a7268420d1" {
		t.Errorf("got %s", got)
	}
	if a != b {
		t.Error("an IPv4-mapped address hashes differently")
	}
	if a == NATDHash(1, 2, netip.MustParseAddrPort("192.0.2.1:4501")) || a == NATDHash(1, 3, netip.MustParseAddrPort("192.0.2.1:4500")) {
		t.Error("hash ignores part of its input")
	}
	v6 := NATDHash(1, 2, netip.MustParseAddrPort("[2001:db8::1]:500"))
	if v6 == a {
		t.Error("families collide")
	}
}
