package wire

import (
	"fmt"
	"strings"
	"testing"
)

// Every value of every enum has a text, known ones have a name of their own, and
// no two share one.
func TestStrings(t *testing.T) {
	for name, c := range map[string]struct {
		max   int
		str   func(int) string
		named int
	}{
		"exchange":   {255, func(i int) string { return ExchangeType(i).String() }, 7},
		"payload":    {255, func(i int) string { return PayloadType(i).String() }, 19},
		"protocol":   {255, func(i int) string { return ProtocolID(i).String() }, 4},
		"id":         {255, func(i int) string { return IDType(i).String() }, 9},
		"encoding":   {255, func(i int) string { return CertEncoding(i).String() }, 14},
		"method":     {255, func(i int) string { return AuthMethod(i).String() }, 9},
		"transform":  {255, func(i int) string { return TransformType(i).String() }, 5},
		"config":     {255, func(i int) string { return ConfigType(i).String() }, 4},
		"attribute":  {65535, func(i int) string { return ConfigAttrType(i).String() }, 14},
		"notify":     {65535, func(i int) string { return NotifyType(i).String() }, 87},
		"hash":       {65535, func(i int) string { return HashName(uint16(i)) }, 5},
		"group":      {65535, func(i int) string { return GroupName(uint16(i)) }, 13},
		"encryption": {65535, func(i int) string { return Transform{Type: TransformEncr, ID: uint16(i)}.String() }, 14},
		"prf":        {65535, func(i int) string { return Transform{Type: TransformPRF, ID: uint16(i)}.String() }, 7},
		"integrity":  {65535, func(i int) string { return Transform{Type: TransformInteg, ID: uint16(i)}.String() }, 8},
		"esn":        {65535, func(i int) string { return Transform{Type: TransformESN, ID: uint16(i)}.String() }, 2},
	} {
		seen, named := map[string]bool{}, 0
		for i := range c.max + 1 {
			s := c.str(i)
			if s == "" || seen[s] {
				t.Errorf("%s %d: %q", name, i, s)
			}
			seen[s] = true
			if !strings.HasSuffix(s, fmt.Sprintf("(%d)", i)) {
				named++
			}
		}
		if named != c.named {
			t.Errorf("%s: %d names, want %d", name, named, c.named)
		}
	}
}

func TestTransformString(t *testing.T) {
	for want, tr := range map[string]Transform{
		"AES_GCM_16_256":                  {Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 256},
		"CHACHA20_POLY1305":               {Type: TransformEncr, ID: EncrChaCha20Poly1305},
		"AES_CBC_128(unusable attribute)": {Type: TransformEncr, ID: EncrAESCBC, KeyBits: 128, BadAttr: true},
		"transform(9)(4)":                 {Type: 9, ID: 4},
	} {
		if got := tr.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestFlagsString(t *testing.T) {
	for f, want := range map[Flags]string{0: "-", FlagInitiator: "I", FlagInitiator | FlagResponse | FlagVersion: "IVR", 0x01: "-"} {
		if f.String() != want {
			t.Errorf("%#x: %s", uint8(f), f)
		}
	}
}

func TestNotifyClass(t *testing.T) {
	for n, isErr := range map[NotifyType]bool{0: false, 1: true, NotifyTSUnacceptable: true, 16383: true, 16384: false, 65535: false} {
		if n.IsError() != isErr {
			t.Errorf("%v", n)
		}
	}
}

func TestParseErrorText(t *testing.T) {
	e := &ParseError{Payload: PayloadTSi, Off: 32, Why: "no selectors", Code: NotifyInvalidSyntax}
	if got := e.Error(); got != "wire: TSi payload at octet 32: no selectors" {
		t.Error(got)
	}
	if e.NotifyData() != nil {
		t.Error("INVALID_SYNTAX has no data")
	}
	e = &ParseError{Why: "x"}
	if got := e.Error(); got != "wire: at octet 0: x" {
		t.Error(got)
	}
}
