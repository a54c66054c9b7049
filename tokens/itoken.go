package tokens

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// IToken is one end's proven identity, or one that is asked for. It is a comparable value: two
// are the same identity, proven in the same way, if and only if they are equal. The zero IToken
// is nobody in particular.
type IToken struct {
	method            Method
	id                string
	spki              string
	authority, holder string
}

// Identity is what an IToken is made from.
type Identity struct {
	Method    Method
	ID        string // canonical text: "key:SHA256:…", "fqdn:moon.example", "ipv4:192.0.2.1"
	SPKI      []byte // DER SubjectPublicKeyInfo of the key that signed; nil without one
	Authority string // distinguished name of the trust anchor; "" without certificates
	Holder    string // distinguished name in the certificate; "" without one
}

// NewIToken returns the token of an identity. It fails if a text is too long or holds control
// characters, and if a BTNS peer comes with another name than its key, which an empty ID stands
// for: it must not borrow one (RFC 5386, Section 2).
func NewIToken(x Identity) (IToken, error) {
	switch {
	case x.Method >= methodCount:
		return IToken{}, fmt.Errorf("%w: method %d", ErrValue, uint16(x.Method))
	case !clean(x.ID, MaxID):
		return IToken{}, fmt.Errorf("%w: identity %q", ErrValue, Escape(x.ID, 80))
	case len(x.SPKI) > MaxSPKI:
		return IToken{}, fmt.Errorf("%w: a public key of %d bytes", ErrValue, len(x.SPKI))
	case !clean(x.Authority, MaxDN) || !clean(x.Holder, MaxDN):
		return IToken{}, fmt.Errorf("%w: distinguished name", ErrValue)
	}
	t := IToken{x.Method, x.ID, string(x.SPKI), x.Authority, x.Holder}
	if x.Method == MethodBTNS {
		switch name := "key:" + t.Fingerprint(); {
		case len(x.SPKI) != 0 && (x.ID == "" || x.ID == name):
			t.id = name
		case len(x.SPKI) == 0 && (x.ID == "" || strings.HasPrefix(x.ID, "key:")): // for a template
		default:
			return IToken{}, fmt.Errorf("%w: a BTNS peer is named by its key, not %q", ErrValue, Escape(x.ID, 80))
		}
	}
	return t, nil
}

// IsZero reports whether t is the zero IToken.
func (t IToken) IsZero() bool { return t == IToken{} }

// Method returns how the identity was proven.
func (t IToken) Method() Method { return t.method }

// ID returns the identity's canonical text.
func (t IToken) ID() string { return t.id }

// PublicKey returns the DER SubjectPublicKeyInfo, a copy; nil without a key.
func (t IToken) PublicKey() []byte {
	if t.spki == "" {
		return nil
	}
	return []byte(t.spki)
}

// Fingerprint returns "SHA256:" and the unpadded base64 of the hash of the public key; "" without
// a key.
func (t IToken) Fingerprint() string {
	if t.spki == "" {
		return ""
	}
	h := sha256.Sum256([]byte(t.spki))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(h[:])
}

// AuthorityDN returns the distinguished name of the trust anchor, "" without certificates.
func (t IToken) AuthorityDN() string { return t.authority }

// HolderDN returns the distinguished name in the certificate, "" without one.
func (t IToken) HolderDN() string { return t.holder }

// Audit returns a line for people and logs. It is not an identity: compare tokens, not lines.
func (t IToken) Audit() string {
	if t.IsZero() {
		return "anybody"
	}
	var b strings.Builder
	b.WriteString(t.method.String())
	if t.id != "" {
		b.WriteString(" " + t.id)
	}
	if fp := t.Fingerprint(); fp != "" && t.id != "key:"+fp {
		b.WriteString(" key " + fp)
	}
	if t.holder != "" {
		b.WriteString(" certificate " + t.holder)
	}
	if t.authority != "" {
		b.WriteString(" by " + t.authority)
	}
	return Escape(b.String(), MaxAudit)
}

// String is Audit.
func (t IToken) String() string { return t.Audit() }

// IdentType returns the identity's SADB_IDENTTYPE of RFC 2367, Section 3.3: 1 for an address, 2
// for a domain name, 3 for a user at one, 0 for what it had no number for.
func (t IToken) IdentType() uint16 {
	switch kind, _, _ := strings.Cut(t.id, ":"); kind {
	case "ipv4", "ipv6":
		return 1
	case "fqdn":
		return 2
	case "email":
		return 3
	}
	return 0
}

const textPrefix = "itoken1"

// MarshalText returns the text form, which ParseIToken reads back to an equal token. It means
// something only relative to the trust anchors of the system that made it.
func (t IToken) MarshalText() ([]byte, error) {
	if t.IsZero() {
		return []byte(textPrefix), nil
	}
	parts := []string{textPrefix, "method=" + t.method.String()}
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	add("id", url.PathEscape(t.id))
	add("key", base64.RawURLEncoding.EncodeToString([]byte(t.spki)))
	add("authority", url.PathEscape(t.authority))
	add("holder", url.PathEscape(t.holder))
	return []byte(strings.Join(parts, ";")), nil
}

// UnmarshalText is ParseIToken.
func (t *IToken) UnmarshalText(text []byte) error {
	parsed, err := ParseIToken(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// ParseIToken reads the text form. A token has one text: anything that MarshalText would not
// write is refused.
func ParseIToken(text string) (IToken, error) {
	bad := func(why string) (IToken, error) {
		return IToken{}, fmt.Errorf("%w: not an iToken: %s", ErrValue, why)
	}
	if len(text) > MaxText {
		return bad("too long")
	}
	fields := strings.Split(text, ";")
	if fields[0] != textPrefix {
		return bad("it does not begin with " + textPrefix)
	}
	var x Identity
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "method":
			if value == MethodUnknown.String() {
				continue
			}
			x.Method, err = ParseMethod(value)
		case "id":
			x.ID, err = url.PathUnescape(value)
		case "key":
			x.SPKI, err = base64.RawURLEncoding.Strict().DecodeString(value)
		case "authority":
			x.Authority, err = url.PathUnescape(value)
		case "holder":
			x.Holder, err = url.PathUnescape(value)
		default:
			return bad("unknown field " + Escape(key, 40))
		}
		if err != nil {
			return bad("bad " + key)
		}
	}
	t, err := NewIToken(x)
	if err != nil {
		return IToken{}, err
	}
	if again, _ := t.MarshalText(); string(again) != text {
		return bad("not the canonical form")
	}
	return t, nil
}
