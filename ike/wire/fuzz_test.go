package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fuzzOptions ignores what the parser marks and the serializer does not write.
func fuzzOptions() cmp.Option {
	return cmp.Options{
		options(),
		cmpopts.IgnoreFields(Transform{}, "BadAttr"),
		cmpopts.IgnoreFields(Delete{}, "Unusable"),
		cmpopts.IgnoreFields(Unknown{}, "Critical"),
		cmpopts.IgnoreFields(Header{}, "Flags"),
	}
}

// again checks that what was parsed encodes to something that parses to the same.
func again(t *testing.T, ps []Payload, parse func(first PayloadType, b []byte) ([]Payload, error)) {
	for _, p := range ps {
		if d, ok := p.(*Delete); ok && d.Unusable {
			return // its SPIs were not kept
		}
	}
	first, b := AppendPayloads([]byte{}, ps)
	if b == nil {
		t.Fatal("what was parsed has no encoding")
	}
	got, err := parse(first, b)
	if err != nil {
		t.Fatalf("encoding does not parse: %v", err)
	}
	if d := cmp.Diff(ps, got, fuzzOptions()); d != "" {
		t.Fatalf("round trip differs:\n%s", d)
	}
}

// fuzzPayload fuzzes the parser of the given payload types, seeded by the
// serializer.
func fuzzPayload(f *testing.F, types ...PayloadType) {
	for _, p := range samples() {
		for i, typ := range types {
			if p.Type() == typ {
				f.Add(uint8(i), body(p))
			}
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		typ := types[int(i)%len(types)]
		in := chain(typ, b)
		if in == nil {
			return
		}
		ps, err := ParsePayloads(typ, in)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Code == 0 || pe.Error() == "" {
				t.Fatalf("error %v", err)
			}
			return
		}
		again(t, ps, ParsePayloads)
	})
}

func FuzzSA(f *testing.F)            { fuzzPayload(f, PayloadSA) }
func FuzzKE(f *testing.F)            { fuzzPayload(f, PayloadKE) }
func FuzzID(f *testing.F)            { fuzzPayload(f, PayloadIDi, PayloadIDr) }
func FuzzCert(f *testing.F)          { fuzzPayload(f, PayloadCert, PayloadCertReq) }
func FuzzAuth(f *testing.F)          { fuzzPayload(f, PayloadAuth) }
func FuzzNonce(f *testing.F)         { fuzzPayload(f, PayloadNonce) }
func FuzzNotify(f *testing.F)        { fuzzPayload(f, PayloadNotify) }
func FuzzDelete(f *testing.F)        { fuzzPayload(f, PayloadDelete) }
func FuzzVendor(f *testing.F)        { fuzzPayload(f, PayloadVendor, 200) }
func FuzzTS(f *testing.F)            { fuzzPayload(f, PayloadTSi, PayloadTSr) }
func FuzzConfiguration(f *testing.F) { fuzzPayload(f, PayloadConfiguration) }
func FuzzEAP(f *testing.F)           { fuzzPayload(f, PayloadEAP) }

// FuzzPayloads fuzzes a whole chain.
func FuzzPayloads(f *testing.F) {
	for _, p := range samples() {
		first, b := AppendPayloads(nil, []Payload{p, &Vendor{Data: []byte("v")}})
		f.Add(uint8(first), b)
	}
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		ps, err := ParsePayloads(PayloadType(first), b)
		if err == nil {
			again(t, ps, ParsePayloads)
		}
	})
}

// FuzzMessage fuzzes a whole datagram, SK and SKF included.
func FuzzMessage(f *testing.F) {
	f.Add(initRequest().Append(nil))
	f.Add(protectedMessage().Append(nil))
	for _, p := range closed() {
		f.Add((&Message{Header: Header{SPIi: 1, SPIr: 2}, Payloads: []Payload{p}}).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if len(m.Payloads) > MaxPayloads {
			t.Fatal("more payloads than MaxPayloads")
		}
		for _, p := range m.Payloads {
			if d, ok := p.(*Delete); ok && d.Unusable {
				return
			}
		}
		enc := m.Append([]byte{})
		got, err := Parse(enc)
		if err != nil {
			t.Fatalf("encoding does not parse: %v", err)
		}
		if d := cmp.Diff(m, got, fuzzOptions()); d != "" {
			t.Fatalf("round trip differs:\n%s", d)
		}
	})
}
