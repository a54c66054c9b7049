package wire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestRoundTripPayloads(t *testing.T) {
	for _, p := range samples() {
		first, b := AppendPayloads(nil, []Payload{p})
		got, err := ParsePayloads(first, b)
		if err != nil {
			t.Fatalf("%v %+v: %v", p.Type(), p, err)
		}
		diff(t, []Payload{p}, got)
	}
}

func TestRoundTripMessages(t *testing.T) {
	msgs := []*Message{initRequest(), protectedMessage(), {Header: Header{SPIi: 1, Exchange: ExchangeInformational}}}
	for _, p := range closed() {
		msgs = append(msgs, &Message{Header: Header{SPIi: 1, SPIr: 2, Exchange: ExchangeInformational}, Payloads: []Payload{p}})
	}
	for _, m := range msgs {
		b := m.Append(nil)
		if got := m.Append([]byte("prefix")); string(got) != "prefix"+string(b) {
			t.Error("Append depends on what is in front")
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatalf("%v: %v", m.Exchange, err)
		}
		diff(t, m, got)
		if string(got.Append(nil)) != string(b) {
			t.Error("encoding again differs")
		}
	}
}

// Every prefix of every message fails, whether or not the header's length is
// adjusted to it.
func TestTruncatedMessages(t *testing.T) {
	for _, m := range []*Message{initRequest(), protectedMessage()} {
		b := m.Append(nil)
		for i := range b {
			if _, err := Parse(b[:i]); err == nil {
				t.Errorf("prefix of %d octets parses", i)
			}
			if i < HeaderLen {
				if _, err := ParseHeader(b[:i]); err == nil {
					t.Errorf("header of %d octets parses", i)
				}
				continue
			}
			cut := slices.Clone(b[:i])
			binary.BigEndian.PutUint32(cut[24:], uint32(i))
			var pe *ParseError
			if _, err := Parse(cut); !errors.As(err, &pe) || pe.Code != NotifyInvalidSyntax {
				t.Errorf("prefix of %d octets with its length: %v", i, err)
			}
		}
	}
}

// Every prefix of every payload fails.
func TestTruncatedPayloads(t *testing.T) {
	for _, p := range samples() {
		first, b := AppendPayloads(nil, []Payload{p})
		for i := range b {
			if _, err := ParsePayloads(first, b[:i]); err == nil {
				t.Errorf("%v: prefix of %d octets parses", first, i)
			}
		}
	}
}

// Where a body has inner lengths, every prefix of it fails even when the generic
// header agrees with it. The others end in opaque data.
func TestTruncatedBodies(t *testing.T) {
	least := map[PayloadType]int{ // shortest body that parses, for payloads with an opaque end
		PayloadKE: 5, PayloadCert: 2, PayloadCertReq: 1, PayloadAuth: 4, PayloadNonce: MinNonce,
		PayloadNotify: 4, PayloadVendor: 0, 200: 0,
	}
	for _, p := range samples() {
		b := body(p)
		for i := range b {
			_, err := ParsePayloads(p.Type(), chain(p.Type(), b[:i]))
			n, opaque := least[p.Type()]
			switch p := p.(type) {
			case *Notify:
				n += len(p.SPI)
			case *ID:
				opaque, n = p.IType == IDFQDN, 5
			case *Configuration:
				opaque, n = i == 4 || i == 8, 4 // ends of attributes
			}
			if fine := opaque && i >= n; fine != (err == nil) {
				t.Errorf("%v %+v: body of %d of %d octets: %v", p.Type(), p, i, len(b), err)
			}
		}
	}
}

func TestRFC7670Cert(t *testing.T) {
	raw, err := os.ReadFile("testdata/rfc7670_cert.txt")
	if err != nil {
		t.Fatal(err)
	}
	var vectors [][]byte
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "A."):
			vectors = append(vectors, nil)
		default:
			b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			last := len(vectors) - 1
			vectors[last] = append(vectors[last], b...)
		}
	}
	if len(vectors) != 2 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		ps, err := ParsePayloads(PayloadCert, v)
		if err != nil {
			t.Fatal(err)
		}
		c, ok := Get[*Cert](ps)
		if !ok || c.Encoding != CertRawPublicKey || string(c.Data) != string(v[5:]) {
			t.Errorf("got %+v", c)
		}
		if _, b := AppendPayloads(nil, ps); string(b) != string(v) {
			t.Errorf("encoding differs:\n%x\n%x", b, v)
		}
	}
}

// ADV-A3: a length that is not the datagram's.
func TestADV_A3_Length(t *testing.T) {
	good := initRequest().Append(nil)
	for _, n := range []uint32{0, 27, 28, uint32(len(good)) - 1, uint32(len(good)) + 1, 1 << 16, 1<<32 - 1} {
		b := slices.Clone(good)
		binary.BigEndian.PutUint32(b[24:], n)
		if _, err := Parse(b); err == nil {
			t.Errorf("length %d of %d accepted", n, len(good))
		}
	}
	if _, err := Parse(append(good, 0)); err == nil {
		t.Error("trailing octet accepted")
	}
}

// ADV-A4, ADV-A5: other major versions fail with the code that says so.
func TestADV_A4_A5_MajorVersion(t *testing.T) {
	for _, v := range []byte{0x00, 0x10, 0x1f, 0x30, 0xf0} {
		b := initRequest().Append(nil)
		b[17] = v
		var pe *ParseError
		if _, err := Parse(b); !errors.As(err, &pe) || pe.Code != NotifyInvalidMajorVersion {
			t.Errorf("version %#x: %v", v, err)
		} else if d := pe.NotifyData(); len(d) != 1 || d[0] != 2 {
			t.Errorf("notify data %x", d)
		}
		if h, err := ParseHeader(b); err != nil || h.Major() != int(v>>4) {
			t.Errorf("header: %+v, %v", h, err)
		}
	}
}

// ADV-A6: minor version, V bit and reserved bits change nothing.
func TestADV_A6_ReservedBits(t *testing.T) {
	want := initRequest()
	b := want.Append(nil)
	b[17] |= 0x0f
	b[19] |= 0xd7 // everything but I and R
	for off := HeaderLen; off < len(b); off += int(binary.BigEndian.Uint16(b[off+2:])) {
		b[off+1] |= 0x7f
	}
	// Reserved octets of proposals, transforms, KE.
	sa := HeaderLen + 4
	b[sa+1], b[sa+8+1], b[sa+8+5] = 0xff, 0xff, 0xff
	ke := HeaderLen + int(binary.BigEndian.Uint16(b[HeaderLen+2:]))
	b[ke+6], b[ke+7] = 0xff, 0xff
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Flags.Initiator() || got.Flags.Response() {
		t.Errorf("flags %v", got.Flags)
	}
	got.Flags = want.Flags
	diff(t, want, got)
	if b := got.Append(nil); b[19] != byte(FlagInitiator) {
		t.Errorf("flags sent: %#x", b[19])
	}
}

func TestReservedOctetsInside(t *testing.T) {
	for _, c := range []struct {
		p   Payload
		off []int
	}{
		{&ID{IType: IDFQDN, Data: []byte("a")}, []int{1, 2, 3}},
		{&Auth{Method: AuthMethodPSK, Data: []byte("a")}, []int{1, 2, 3}},
		{samples()[19], []int{1, 2, 3}}, // TS
		{&Configuration{CType: ConfigReply, Attributes: []ConfigAttribute{{Type: 1}}}, []int{1, 2, 3}},
	} {
		b := body(c.p)
		for _, off := range c.off {
			b[off] = 0xff
		}
		ps, err := ParsePayloads(c.p.Type(), chain(c.p.Type(), b))
		if err != nil {
			t.Fatalf("%v: %v", c.p.Type(), err)
		}
		diff(t, []Payload{c.p}, ps)
	}
	// The reserved bit of a configuration attribute.
	ps, err := ParsePayloads(PayloadConfiguration, chain(PayloadConfiguration, []byte{1, 0, 0, 0, 0x80, 1, 0, 0}))
	if err != nil || ps[0].(*Configuration).Attributes[0].Type != ConfigInternalIP4Address {
		t.Errorf("%v %v", ps, err)
	}
}

func TestADV_A7_ZeroSPI(t *testing.T) {
	m := initRequest()
	m.SPIi = 0
	if _, err := Parse(m.Append(nil)); err == nil {
		t.Error("accepted")
	}
}

// ADV-A14: a header alone with a next payload, and data nobody announced
// (free5gc 968).
func TestADV_A14_ROW_76_HeaderOnly(t *testing.T) {
	m := &Message{Header: Header{SPIi: 1, Exchange: ExchangeIKESAInit}}
	b := m.Append(nil)
	if got, err := Parse(b); err != nil || len(got.Payloads) != 0 {
		t.Errorf("empty message: %v", err)
	}
	for next := 1; next < 256; next++ {
		b[16] = byte(next)
		if _, err := Parse(b); err == nil {
			t.Errorf("next payload %d accepted without one", next)
		}
	}
	b = append(b, 0, 0, 0, 4)
	b[16] = 0
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	if _, err := Parse(b); err == nil {
		t.Error("data after the last payload accepted")
	}
}

// ADV-A15: payload lengths that do not advance or pass the end.
func TestADV_A15_PayloadLength(t *testing.T) {
	good := initRequest().Append(nil)
	last := HeaderLen
	for off := HeaderLen; off < len(good); off += int(binary.BigEndian.Uint16(good[off+2:])) {
		last = off
	}
	for _, n := range []uint16{0, 1, 2, 3, uint16(len(good)-last) - 1, uint16(len(good)-last) + 1, 65535} {
		b := slices.Clone(good)
		binary.BigEndian.PutUint16(b[last+2:], n)
		var pe *ParseError
		if _, err := Parse(b); !errors.As(err, &pe) || pe.Code != NotifyInvalidSyntax {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// ADV-A16: bounded work on a datagram full of payloads (CVE-2026-12413).
func TestADV_A16_CVE_2026_12413_PayloadCap(t *testing.T) {
	many := func(n int) []byte {
		m := &Message{Header: Header{SPIi: 1, Exchange: ExchangeIKESAInit}}
		for range n {
			m.Payloads = append(m.Payloads, &Unknown{PType: 200})
		}
		return m.Append(nil)
	}
	for _, n := range []int{MaxPayloads - 1, MaxPayloads} {
		if m, err := Parse(many(n)); err != nil || len(m.Payloads) != n {
			t.Errorf("%d payloads: %v", n, err)
		}
	}
	for _, n := range []int{MaxPayloads + 1, 16000} {
		if _, err := Parse(many(n)); err == nil {
			t.Errorf("%d payloads accepted", n)
		}
	}
}

// ADV-B1, ADV-D9: payloads that may not be repeated.
func TestADV_B1_D9_Duplicates(t *testing.T) {
	for _, p := range samples() {
		first, b := AppendPayloads(nil, []Payload{p, p})
		_, err := ParsePayloads(first, b)
		if single(first) != (err != nil) {
			t.Errorf("two %v: %v", first, err)
		}
	}
}

// ADV-B3, ADV-B4, ADV-D25: unknown payloads by their critical bit.
func TestADV_B3_B4_D25_Unknown(t *testing.T) {
	for typ := 1; typ < 256; typ++ {
		p := PayloadType(typ)
		if p.String() != "payload("+itoa(typ)+")" && p != PayloadPuzzleSolution {
			continue // known
		}
		for _, critical := range []bool{false, true} {
			first, b := AppendPayloads(nil, []Payload{&Unknown{PType: p, Critical: critical, Data: []byte{1, 2}}, &Vendor{}})
			ps, err := ParsePayloads(first, b)
			if !critical {
				if err != nil || len(ps) != 2 {
					t.Errorf("type %d: %v", typ, err)
				}
				continue
			}
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Code != NotifyUnsupportedCriticalPayload || pe.Payload != p || string(pe.NotifyData()) != string([]byte{byte(typ)}) {
				t.Errorf("type %d, critical: %v", typ, err)
			}
		}
	}
}

func itoa(n int) string {
	return strings.TrimSuffix(strings.TrimPrefix(PayloadType(n).String(), "payload("), ")")
}

// ADV-B5: the critical bit of known payloads is ignored.
func TestADV_B5_KnownCritical(t *testing.T) {
	for _, p := range samples() {
		if _, ok := p.(*Unknown); ok {
			continue
		}
		first, b := AppendPayloads(nil, []Payload{p})
		b[1] |= 0x80
		ps, err := ParsePayloads(first, b)
		if err != nil {
			t.Fatalf("%v: %v", first, err)
		}
		diff(t, []Payload{p}, ps)
	}
}

// ADV-D5: SK is last and never nested.
func TestADV_D5_Encrypted(t *testing.T) {
	for _, p := range closed() {
		m := &Message{Header: Header{SPIi: 1, SPIr: 2, Exchange: ExchangeIKEAuth}, Payloads: []Payload{p, &Nonce{Data: fill(16, 1)}}}
		if _, err := Parse(m.Append(nil)); err == nil {
			t.Errorf("%v in front of another payload accepted", p.Type())
		}
		first, b := AppendPayloads(nil, []Payload{p})
		if _, err := ParsePayloads(first, b); err == nil {
			t.Errorf("%v inside SK accepted", p.Type())
		}
	}
}

func TestEncryptedOffset(t *testing.T) {
	for _, p := range closed() {
		m := &Message{Header: Header{SPIi: 1, SPIr: 2, Exchange: ExchangeIKEAuth}, Payloads: []Payload{&Vendor{Data: []byte("x")}, p}}
		b := m.Append(nil)
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		var off int
		var in []byte
		switch p := got.Payloads[1].(type) {
		case *Encrypted:
			off, in = p.Off, p.Body
		case *EncryptedFragment:
			off, in = p.Off, p.Body
		}
		if string(b[off:]) != string(in) {
			t.Errorf("%v: body is not at its offset", p.Type())
		}
	}
}

// ADV-G2: fragment numbers.
func TestADV_G2_FragmentNumbers(t *testing.T) {
	for _, c := range []struct {
		num, total uint16
		ok         bool
	}{{0, 0, false}, {0, 1, false}, {1, 0, false}, {2, 1, false}, {1, 1, true}, {65535, 65535, true}} {
		m := &Message{Header: Header{SPIi: 1, SPIr: 2}, Payloads: []Payload{&EncryptedFragment{Num: c.num, Total: c.total, Body: fill(32, 1)}}}
		if _, err := Parse(m.Append(nil)); (err == nil) != c.ok {
			t.Errorf("%d of %d: %v", c.num, c.total, err)
		}
	}
}

// What does not fit its field has no encoding.
func TestTooLong(t *testing.T) {
	for _, p := range []Payload{
		&Vendor{Data: fill(65532, 1)},
		&SA{Proposals: []Proposal{{Num: 1, SPI: fill(256, 1)}}},
		&SA{Proposals: []Proposal{{Num: 1, Transforms: make([]Transform, 256)}}},
		&Notify{SPI: fill(256, 1)},
		&Delete{Protocol: ProtocolESP, SPIs: make([]uint32, MaxDeleteSPIs+1)},
		&TS{Selectors: make([]TrafficSelector, 256)},
		&Configuration{Attributes: []ConfigAttribute{{Value: fill(65536, 1)}}},
	} {
		if _, b := AppendPayloads([]byte("x"), []Payload{p}); b != nil {
			t.Errorf("%v has an encoding of %d octets", p.Type(), len(b))
		}
		if b := (&Message{Payloads: []Payload{p}}).Append(nil); b != nil {
			t.Errorf("message with %v has an encoding of %d octets", p.Type(), len(b))
		}
	}
	m := &Message{Payloads: []Payload{&Vendor{Data: fill(40000, 1)}, &Vendor{Data: fill(40000, 1)}}}
	if m.Append([]byte("x")) != nil {
		t.Error("message longer than MaxMessage has an encoding")
	}
	if m = (&Message{Payloads: []Payload{&Vendor{Data: fill(MaxMessage-HeaderLen-4, 1)}}}); len(m.Append(nil)) != MaxMessage {
		t.Error("longest message has no encoding")
	}
}

// Parsed slices alias the datagram and end where the payload does.
func TestSlicesAreCapped(t *testing.T) {
	b := initRequest().Append(nil)
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(b)
	ke, _ := Get[*KE](m.Payloads)
	_ = append(ke.Data, 0xee)
	n, _ := Get[*Nonce](m.Payloads)
	_ = append(n.Data, 0xee)
	nt, _ := Get[*Notify](m.Payloads)
	_ = append(nt.Data, 0xee)
	if !slices.Equal(b, before) {
		t.Error("appending to a parsed slice wrote into its neighbour")
	}
	if _, ok := Get[*Delete](m.Payloads); ok {
		t.Error("Get found what is not there")
	}
}

// What a parse allocates is in proportion to its input, whatever that is.
func TestCVE_2025_58181_AllocationBound(t *testing.T) {
	worst := map[string]Payload{
		"selectors":  &TS{Selectors: make([]TrafficSelector, MaxSelectors)},
		"transforms": &SA{Proposals: []Proposal{{Num: 1, Transforms: make([]Transform, MaxTransforms)}}},
		"deletes":    &Delete{Protocol: ProtocolESP, SPIs: make([]uint32, MaxDeleteSPIs)},
		"attributes": &Configuration{Attributes: make([]ConfigAttribute, MaxConfigAttributes)},
		"proposals":  &SA{},
	}
	sa := worst["proposals"].(*SA)
	for i := range MaxProposals {
		sa.Proposals = append(sa.Proposals, Proposal{Num: uint8(i + 1), Transforms: []Transform{{Type: 1}}})
	}
	for name, p := range worst {
		first, b := AppendPayloads(nil, []Payload{p})
		if _, err := ParsePayloads(first, b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_, _ = ParsePayloads(first, b)
		}
		runtime.ReadMemStats(&after)
		perOp := int64(after.TotalAlloc-before.TotalAlloc) / runs
		if limit := int64(40*len(b) + 4096); perOp > limit {
			t.Errorf("%s: %d octets of input allocate %d, limit %d", name, len(b), perOp, limit)
		}
	}
}
