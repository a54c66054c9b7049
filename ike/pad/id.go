package pad

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/btns-go/btns/ike/wire"
)

// ID is an IKE identity, or a pattern of identities in an entry. It is comparable, but only
// Canonical makes two spellings of one identity equal. Data is as on the wire: text, four or
// sixteen octets of an address, the DER of a distinguished name.
//
// Type 0 is for what never goes on the wire: with Data "%any" every identity, with a prefix or a
// range as text every address in it. The zero ID is nobody.
type ID struct {
	Type wire.IDType
	Data string
}

const anyData = "%any"

// AnyID returns the pattern of every identity.
func AnyID() ID { return ID{Data: anyData} }

// IsAny reports whether id is the pattern of every identity.
func (id ID) IsAny() bool { return id.Type == 0 && id.Data == anyData }

// IsZero reports whether id is nobody.
func (id ID) IsZero() bool { return id == ID{} }

// IsPattern reports whether id may stand for more than one identity.
func (id ID) IsPattern() bool {
	switch id.Type {
	case 0:
		return id.Data != ""
	case wire.IDFQDN, wire.IDRFC822Addr:
		return strings.HasPrefix(id.Data, "*")
	case wire.IDDERASN1DN:
		dn, ok := parseDER(id.Data)
		return ok && dn.pattern()
	case wire.IDIPv4Addr, wire.IDIPv6Addr, wire.IDDERASN1GN, wire.IDKeyID, wire.IDFCName, wire.IDNull:
	}
	return false
}

// idPrefixes are the type prefixes of swanctl that are understood.
var idPrefixes = [...]struct {
	name string
	typ  wire.IDType
}{
	{"ipv4", wire.IDIPv4Addr}, {"ipv6", wire.IDIPv6Addr},
	{"fqdn", wire.IDFQDN}, {"dns", wire.IDFQDN},
	{"email", wire.IDRFC822Addr}, {"rfc822", wire.IDRFC822Addr}, {"userfqdn", wire.IDRFC822Addr},
	{"asn1dn", wire.IDDERASN1DN}, {"keyid", wire.IDKeyID},
	{"null", wire.IDNull},
}

// ParseID reads an identity or a pattern by swanctl's rules:
//
//	%any  *               every identity
//	192.0.2.1  2001:db8::1    an address; with /24 or as a range, a pattern of addresses
//	moon.example  @moon.example   a domain name; *.example is a pattern
//	carol@moon.example  @@carol@moon.example   a user at a domain; *@moon.example is a pattern
//	C=CH, O=Example, CN=moon   a distinguished name; CN=* is a pattern
//	@#6d6f6f6e            a key ID in hexadecimal
//
// A prefix such as "fqdn:" or "keyid:", or "{12}:" for a type by its number, forces the type; data
// that begins with # is hexadecimal then. What holds a colon and is no IPv6 address is a key ID.
func ParseID(text string) (ID, error) {
	text = strings.TrimSpace(text)
	id, err := parseID(text)
	if err == nil {
		err = id.check(true)
	}
	if err != nil {
		return ID{}, fmt.Errorf("pad: identity %s: %w", shown(text), err)
	}
	return id, nil
}

func parseID(text string) (ID, error) {
	if name, data, ok := strings.Cut(text, ":"); ok {
		for _, p := range idPrefixes {
			if name == p.name {
				return typedID(p.typ, data)
			}
		}
	}
	if num, data, ok := strings.Cut(text, "}:"); ok && strings.HasPrefix(num, "{") {
		n, err := strconv.ParseUint(num[1:], 10, 8)
		if err != nil || n == 0 {
			return ID{}, fmt.Errorf("has no type between { and }")
		}
		return typedID(wire.IDType(n), data)
	}
	switch text {
	case "":
		return ID{}, fmt.Errorf("is empty; use %%any for every identity")
	case anyData, "*", "%any4", "%any6", "0.0.0.0", "::":
		return AnyID(), nil
	}
	switch {
	case strings.Contains(text, "="):
		if dn, err := parseDN(text); err == nil {
			return ID{wire.IDDERASN1DN, dn.der()}, nil
		}
		return ID{wire.IDKeyID, text}, nil
	case strings.HasPrefix(text, "@#"):
		return typedID(wire.IDKeyID, text[1:])
	case strings.HasPrefix(text, "@@"):
		return ID{wire.IDRFC822Addr, text[2:]}, nil
	case strings.HasPrefix(text, "@"):
		return ID{wire.IDFQDN, text[1:]}, nil
	case strings.Contains(text, "@"):
		return ID{wire.IDRFC822Addr, text}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return addrID(a)
	}
	if first, last, ok := parseRange(text); ok {
		if first == last {
			return addrID(first)
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			return ID{Data: p.Masked().String()}, nil
		}
		return ID{Data: first.String() + "-" + last.String()}, nil
	}
	switch hasColon := strings.Contains(text, ":"); {
	case strings.Trim(text, "0123456789./-") == "", hasColon && strings.Trim(text, "0123456789abcdefABCDEF:./-") == "":
		return ID{}, fmt.Errorf("looks like an address and is none; a type before it, as in keyid:, says what it is")
	case hasColon:
		return ID{wire.IDKeyID, text}, nil
	}
	return ID{wire.IDFQDN, text}, nil
}

// typedID reads the data behind a type prefix.
func typedID(t wire.IDType, data string) (ID, error) {
	if h, ok := strings.CutPrefix(data, "#"); ok {
		raw, err := hex.DecodeString(strings.TrimPrefix(h, "0x"))
		if err != nil || len(raw) == 0 {
			return ID{}, fmt.Errorf("is not hexadecimal")
		}
		return ID{t, string(raw)}, nil
	}
	switch t {
	case wire.IDIPv4Addr, wire.IDIPv6Addr:
		a, err := netip.ParseAddr(data)
		if err != nil || a.Is4() != (t == wire.IDIPv4Addr) {
			return ID{}, fmt.Errorf("is not an address of this type")
		}
		return addrID(a)
	case wire.IDDERASN1DN:
		dn, err := parseDN(data)
		if err != nil {
			return ID{}, err
		}
		return ID{t, dn.der()}, nil
	case wire.IDFQDN, wire.IDRFC822Addr, wire.IDDERASN1GN, wire.IDKeyID, wire.IDFCName, wire.IDNull:
	}
	return ID{t, data}, nil
}

func addrID(a netip.Addr) (ID, error) {
	if a.Is4In6() || a.Zone() != "" {
		return ID{}, fmt.Errorf("has a zone or is IPv4-mapped")
	}
	if a.Is4() {
		return ID{wire.IDIPv4Addr, string(a.AsSlice())}, nil
	}
	return ID{wire.IDIPv6Addr, string(a.AsSlice())}, nil
}

// parseRange reads a prefix or a range of addresses.
func parseRange(s string) (first, last netip.Addr, ok bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		p = p.Masked()
		b := p.Addr().AsSlice()
		for i := range b {
			if left := p.Bits() - 8*i; left <= 0 {
				b[i] = 0xff
			} else if left < 8 {
				b[i] |= 0xff >> left
			}
		}
		last, _ = netip.AddrFromSlice(b)
		return p.Addr(), last, !p.Addr().Is4In6()
	}
	a, b, found := strings.Cut(s, "-")
	if !found {
		return first, last, false
	}
	first, err1 := netip.ParseAddr(a)
	last, err2 := netip.ParseAddr(b)
	return first, last, err1 == nil && err2 == nil && first.Is4() == last.Is4() &&
		first.Compare(last) <= 0 && !first.Is4In6() && first.Zone() == "" && last.Zone() == ""
}

// FromWire takes an identity from a payload. It fails for one that cannot be told apart from
// another by its looks: control characters, stars, IPv4-mapped addresses, DER that is not.
func FromWire(w *wire.ID) (ID, error) {
	if w == nil {
		return ID{}, fmt.Errorf("pad: no identity")
	}
	id := ID{w.IType, string(w.Data)}
	if w.IType == wire.IDNull {
		id.Data = "" // RFC 7619, Section 2.2: to be ignored
	}
	if err := id.check(false); err != nil {
		return ID{}, fmt.Errorf("pad: identity %s: %w", id, err)
	}
	return id, nil
}

// Wire returns the payload that asserts id. Patterns and the zero ID cannot be asserted: nil.
func (id ID) Wire(responder bool) *wire.ID {
	if id.Type == 0 || id.IsPattern() {
		return nil
	}
	return &wire.ID{IType: id.Type, Data: []byte(id.Data), Responder: responder}
}

// check returns what is wrong with id; patterns are allowed in configuration only.
func (id ID) check(pattern bool) error {
	if len(id.Data) > MaxIDLen {
		return fmt.Errorf("has %d octets, at most %d", len(id.Data), MaxIDLen)
	}
	if !pattern && id.IsPattern() {
		return fmt.Errorf("is a pattern")
	}
	text := id.Data
	switch id.Type {
	case 0:
		if _, _, ok := parseRange(text); !pattern || !ok && !id.IsAny() {
			return fmt.Errorf("has no type")
		}
		return nil
	case wire.IDIPv4Addr:
		if len(text) != 4 {
			return fmt.Errorf("has %d octets, want 4", len(text))
		}
		return nil
	case wire.IDIPv6Addr:
		a, ok := netip.AddrFromSlice([]byte(text))
		if !ok || !a.Is6() || a.Is4In6() {
			return fmt.Errorf("is not an IPv6 address in its own form")
		}
		return nil
	case wire.IDFQDN:
		if pattern {
			text = strings.TrimPrefix(text, "*")
		}
		if text = strings.TrimSuffix(text, "."); text == "" || len(text) > 253 || !plainText(text) ||
			strings.Contains(text, "@") {
			return fmt.Errorf("is not a domain name")
		}
		return nil
	case wire.IDRFC822Addr:
		if pattern && strings.HasPrefix(text, "*@") {
			text = "any" + text[1:]
		}
		local, domain, ok := cutLast(text, '@')
		if domain = strings.TrimSuffix(domain, "."); !ok || local == "" || domain == "" ||
			!plainText(local) || !plainText(domain) {
			return fmt.Errorf("is not a user at a domain")
		}
		return nil
	case wire.IDDERASN1DN:
		if _, ok := parseDER(text); !ok {
			return fmt.Errorf("is not a distinguished name in DER")
		}
		return nil
	case wire.IDNull:
		if text != "" { // RFC 7619, Section 2.2
			return fmt.Errorf("has data")
		}
		return nil
	case wire.IDDERASN1GN, wire.IDKeyID, wire.IDFCName:
	}
	if text == "" {
		return fmt.Errorf("is empty")
	}
	return nil
}

// plainText reports whether s is printable ASCII without spaces and stars.
func plainText(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '*' {
			return false
		}
	}
	return true
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// Canonical returns the one text that all spellings of an identity share, with its type before
// it: "fqdn:moon.example", "ipv4:192.0.2.1", "keyid:6d6f6f6e". It is what latches compare.
// Domain names lose their case and their last dot; the user before an @ keeps its case. For
// patterns it is a text for people.
func (id ID) Canonical() string {
	switch id.Type {
	case 0:
		if id.check(true) == nil {
			return "any:" + id.Data
		}
	case wire.IDIPv4Addr, wire.IDIPv6Addr:
		if a, ok := netip.AddrFromSlice([]byte(id.Data)); ok {
			if a.Is4() {
				return "ipv4:" + a.String()
			}
			return "ipv6:" + a.String()
		}
	case wire.IDFQDN:
		if id.check(true) == nil {
			return "fqdn:" + domain(id.Data)
		}
	case wire.IDRFC822Addr:
		if id.check(true) == nil {
			local, at, _ := cutLast(id.Data, '@')
			return "email:" + local + "@" + domain(at)
		}
	case wire.IDDERASN1DN:
		if dn, ok := parseDER(id.Data); ok {
			return "dn:" + dn.canonical()
		}
	case wire.IDKeyID:
		return "keyid:" + hex.EncodeToString([]byte(id.Data))
	case wire.IDNull:
		return "null:"
	case wire.IDDERASN1GN, wire.IDFCName:
	}
	return "id" + strconv.Itoa(int(id.Type)) + ":" + hex.EncodeToString([]byte(id.Data))
}

// domain is the canonical form of a domain name; only ASCII has case there.
func domain(s string) string {
	return string(bytes.ToLower([]byte(strings.TrimSuffix(s, "."))))
}

// String returns the text that ParseID reads: short where that is unambiguous, else with the type
// before it. It is safe to show, whatever a peer put into the identity.
func (id ID) String() string {
	if id.IsZero() {
		return "nobody"
	}
	text := ""
	switch id.Type {
	case 0:
		if id.check(true) == nil {
			return id.Data
		}
	case wire.IDNull:
		return "null:"
	case wire.IDIPv4Addr, wire.IDIPv6Addr:
		if a, ok := netip.AddrFromSlice([]byte(id.Data)); ok {
			text = a.String()
		}
	case wire.IDFQDN, wire.IDRFC822Addr:
		if id.check(true) == nil {
			text = id.Data
		}
	case wire.IDDERASN1DN:
		if dn, ok := parseDER(id.Data); ok {
			text = dn.String()
		}
	case wire.IDKeyID:
		return "@#" + hex.EncodeToString([]byte(id.Data))
	case wire.IDDERASN1GN, wire.IDFCName:
	}
	if text != "" {
		if back, err := parseID(text); err == nil && back.Canonical() == id.Canonical() && back.Type == id.Type {
			return text
		}
		for _, p := range idPrefixes {
			if p.typ == id.Type {
				return p.name + ":" + text
			}
		}
	}
	for _, p := range idPrefixes {
		if p.typ == id.Type {
			return p.name + ":#" + hex.EncodeToString([]byte(id.Data))
		}
	}
	return "{" + strconv.Itoa(int(id.Type)) + "}:#" + hex.EncodeToString([]byte(id.Data))
}

// shown quotes text for a message.
func shown(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// Matches reports whether the pattern id covers the identity o.
func (id ID) Matches(o ID) bool {
	if o.IsZero() || o.IsPattern() {
		return false
	}
	if id.IsAny() {
		return true
	}
	switch id.Type {
	case 0:
		first, last, ok := parseRange(id.Data)
		a, isAddr := o.addr()
		return ok && isAddr && first.BitLen() == a.BitLen() && first.Compare(a) <= 0 && a.Compare(last) <= 0
	case wire.IDFQDN, wire.IDRFC822Addr:
		if suffix, ok := strings.CutPrefix(id.Data, "*"); ok {
			return o.Type == id.Type && o.check(false) == nil &&
				strings.HasSuffix(domain(o.Data), domain(suffix))
		}
	case wire.IDDERASN1DN:
		p, ok1 := parseDER(id.Data)
		dn, ok2 := parseDER(o.Data)
		return ok1 && ok2 && o.Type == id.Type && p.matches(dn)
	case wire.IDIPv4Addr, wire.IDIPv6Addr, wire.IDDERASN1GN, wire.IDKeyID, wire.IDFCName, wire.IDNull:
	}
	return id.Type == o.Type && id.Canonical() == o.Canonical()
}

func (id ID) addr() (netip.Addr, bool) {
	if id.Type != wire.IDIPv4Addr && id.Type != wire.IDIPv6Addr {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice([]byte(id.Data))
}

// covers reports whether every identity that o matches is matched by id too, as far as can be
// seen from the two patterns.
func (id ID) covers(o ID) bool {
	switch {
	case o.IsZero():
		return false
	case id.IsAny() || !o.IsPattern():
		return id.IsAny() || id.Matches(o)
	case id.Type != o.Type:
		return false
	}
	switch id.Type {
	case 0:
		f1, l1, ok1 := parseRange(id.Data)
		f2, l2, ok2 := parseRange(o.Data)
		return ok1 && ok2 && f1.BitLen() == f2.BitLen() && f1.Compare(f2) <= 0 && l2.Compare(l1) <= 0
	case wire.IDFQDN, wire.IDRFC822Addr:
		suffix, ok := strings.CutPrefix(id.Data, "*")
		return ok && strings.HasSuffix(domain(o.Data), domain(suffix))
	case wire.IDDERASN1DN, wire.IDIPv4Addr, wire.IDIPv6Addr, wire.IDDERASN1GN, wire.IDKeyID,
		wire.IDFCName, wire.IDNull:
	}
	return id.Canonical() == o.Canonical()
}
