package pad

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// name is a distinguished name: a sequence of RDNs, of which each has one attribute here, as
// certificates have.
type name []attribute

type attribute struct {
	oid   string // dotted
	value string
}

// dnAttributes are the attribute types that ParseID knows; the first name of an OID is printed.
var dnAttributes = [...]struct{ name, oid string }{
	{"CN", "2.5.4.3"}, {"C", "2.5.4.6"}, {"O", "2.5.4.10"}, {"OU", "2.5.4.11"}, {"L", "2.5.4.7"},
	{"ST", "2.5.4.8"}, {"S", "2.5.4.4"}, {"SN", "2.5.4.5"}, {"serialNumber", "2.5.4.5"},
	{"T", "2.5.4.12"}, {"G", "2.5.4.42"}, {"D", "2.5.4.13"}, {"E", oidEmail},
	{"emailAddress", oidEmail}, {"Email", oidEmail}, {"DC", oidDC}, {"UID", "0.9.2342.19200300.100.1.1"},
}

const (
	oidEmail = "1.2.840.113549.1.9.1"
	oidDC    = "0.9.2342.19200300.100.1.25"
)

// parseDN reads "C=CH, O=Example, CN=moon". Commas and slashes separate; a backslash keeps the
// next character from doing so.
func parseDN(text string) (name, error) {
	var out name
	text = strings.TrimPrefix(strings.TrimSpace(text), "/")
	for text != "" {
		typ, rest, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("%s has no =", shown(text))
		}
		oid := ""
		for _, a := range dnAttributes {
			if strings.EqualFold(a.name, strings.TrimSpace(typ)) {
				oid = a.oid
			}
		}
		if oid == "" {
			return nil, fmt.Errorf("unknown attribute %s", shown(strings.TrimSpace(typ)))
		}
		var value strings.Builder
		i := 0
		for ; i < len(rest) && rest[i] != ',' && rest[i] != '/'; i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			}
			value.WriteByte(rest[i])
		}
		v := strings.TrimSpace(value.String())
		if v == "" || !utf8.ValidString(v) {
			return nil, fmt.Errorf("attribute %s has no value", shown(strings.TrimSpace(typ)))
		}
		out = append(out, attribute{oid, v})
		text = ""
		if i < len(rest) {
			if text = strings.TrimSpace(rest[i+1:]); text == "" {
				return nil, fmt.Errorf("ends with a separator")
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("is empty")
	}
	return out, nil
}

// der encodes the name as certificates do.
func (n name) der() string {
	var rdns []byte
	for _, a := range n {
		oid, err := asn1.Marshal(parseOID(a.oid))
		if err != nil {
			return ""
		}
		tag := asn1.TagUTF8String
		switch {
		case a.oid == oidEmail || a.oid == oidDC: // RFC 5280, Appendix A: IA5String
			tag = asn1.TagIA5String
		case printable(a.value):
			tag = asn1.TagPrintableString
		}
		value := tlv(tag, []byte(a.value))
		set := tlv(asn1.TagSequence|0x20, append(oid, value...))
		rdns = append(rdns, tlv(asn1.TagSet|0x20, set)...)
	}
	return string(tlv(asn1.TagSequence|0x20, rdns))
}

func parseOID(s string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n := 0
		for _, c := range part {
			n = n*10 + int(c-'0')
		}
		oid = append(oid, n)
	}
	return oid
}

// tlv is one DER element of less than 64 KiB.
func tlv(tag int, body []byte) []byte {
	out := []byte{byte(tag)}
	switch n := len(body); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	default:
		out = append(out, 0x82, byte(n>>8), byte(n))
	}
	return append(out, body...)
}

// printable reports whether s fits a PrintableString.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') &&
			!strings.ContainsRune(" '()+,-./:=?", rune(c)) {
			return false
		}
	}
	return true
}

// parseDER reads a distinguished name. Multi-valued RDNs and values that are not text are
// refused: they have no one spelling.
func parseDER(der string) (name, bool) {
	var seq asn1.RawValue
	rest, err := asn1.Unmarshal([]byte(der), &seq)
	if err != nil || len(rest) != 0 || seq.Class != asn1.ClassUniversal || seq.Tag != asn1.TagSequence || !seq.IsCompound {
		return nil, false
	}
	var out name
	for body := seq.Bytes; len(body) != 0; {
		var set, pair, value asn1.RawValue
		if body, err = asn1.Unmarshal(body, &set); err != nil || set.Class != asn1.ClassUniversal || set.Tag != asn1.TagSet || !set.IsCompound {
			return nil, false
		}
		if rest, err = asn1.Unmarshal(set.Bytes, &pair); err != nil || len(rest) != 0 ||
			pair.Class != asn1.ClassUniversal || pair.Tag != asn1.TagSequence || !pair.IsCompound {
			return nil, false
		}
		var oid asn1.ObjectIdentifier
		if rest, err = asn1.Unmarshal(pair.Bytes, &oid); err != nil {
			return nil, false
		}
		if rest, err = asn1.Unmarshal(rest, &value); err != nil || len(rest) != 0 || value.Class != asn1.ClassUniversal {
			return nil, false
		}
		switch value.Tag {
		case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagUTF8String:
		default:
			return nil, false
		}
		text := string(value.Bytes)
		if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, false
		}
		out = append(out, attribute{oid.String(), text})
	}
	return out, len(out) != 0
}

// String returns the form that parseDN reads.
func (n name) String() string {
	parts := make([]string, len(n))
	for i, a := range n {
		label := a.oid
		for _, known := range slices.Backward(dnAttributes[:]) {
			if known.oid == a.oid {
				label = known.name
			}
		}
		parts[i] = label + "=" + escapeDN(a.value)
	}
	return strings.Join(parts, ", ")
}

// canonical folds what names do not differ in: ASCII case and runs of spaces (RFC 5280,
// Section 7.1, for the strings it compares).
func (n name) canonical() string {
	parts := make([]string, len(n))
	for i, a := range n {
		parts[i] = a.oid + "=" + escapeDN(a.folded())
	}
	return strings.Join(parts, ",")
}

func (a attribute) folded() string {
	s := []byte(strings.Join(strings.Fields(a.value), " "))
	for i, c := range s {
		if 'A' <= c && c <= 'Z' {
			s[i] = c + 'a' - 'A'
		}
	}
	return string(s)
}

func escapeDN(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `/`, `\/`).Replace(s)
}

// pattern reports whether some value is the star.
func (n name) pattern() bool {
	return slices.ContainsFunc(n, func(a attribute) bool { return a.value == "*" })
}

// matches compares RDN by RDN; a star takes any value.
func (n name) matches(o name) bool {
	return slices.EqualFunc(n, o, func(p, a attribute) bool {
		return p.oid == a.oid && (p.value == "*" || p.folded() == a.folded())
	})
}
