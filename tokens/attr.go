package tokens

import "fmt"

// Attribute names an attribute of a token for the generic accessors. The documents print no
// numbers; these are ours and will not change.
type Attribute uint32

// The attributes of a pToken, and the type of each one's value.
const (
	AttrPrivacy           Attribute = iota + 1 // Level
	AttrIntegrity                              // Level
	AttrCompression                            // Level
	AttrIToken                                 // IToken, the peer
	AttrRemoteIToken                           // IToken, the peer ("them" of the slides)
	AttrLocalIToken                            // IToken, this end ("me" of the slides)
	AttrAuditString                            // string, read-only
	AttrPolicyName                             // string
	AttrTunnelMode                             // bool
	AttrIPOptions                              // ipoptionsProtected: bool, read-only
	AttrInformationString                      // string, read-only
)

// The attributes of an iToken; a pToken answers with its peer's. All are read-only.
const (
	AttrAuthenticationMethod   Attribute = iota + 101 // Method
	AttrCertificateAuthorityDN                        // string
	AttrCertificateDN                                 // string
	AttrPubKeyID                                      // []byte, DER SubjectPublicKeyInfo
	AttrChannelBinding                                // []byte; ErrUnsupported for now
)

// AttrMethod is the attribute that enables or disables a method, the second group of iToken
// attributes: a Level, up to LevelEnable.
func AttrMethod(m Method) Attribute { return attrMethodBase + Attribute(m) }

const attrMethodBase Attribute = 200

// String returns the documents' name of the attribute.
func (a Attribute) String() string {
	switch a {
	case AttrPrivacy:
		return "privacy"
	case AttrIntegrity:
		return "integrity"
	case AttrCompression:
		return "compression"
	case AttrIToken:
		return "iToken"
	case AttrRemoteIToken:
		return "remote_iToken"
	case AttrLocalIToken:
		return "local_iToken"
	case AttrAuditString:
		return "auditString"
	case AttrPolicyName:
		return "policyName"
	case AttrTunnelMode:
		return "tunnelMode"
	case AttrIPOptions:
		return "ipoptionsProtected"
	case AttrInformationString:
		return "informationString"
	case AttrAuthenticationMethod:
		return "authenticationMethod"
	case AttrCertificateAuthorityDN:
		return "certificateAuthorityDN"
	case AttrCertificateDN:
		return "certificateDN"
	case AttrPubKeyID:
		return "pubKeyID"
	case AttrChannelBinding:
		return "channelBinding"
	}
	if m, ok := a.method(); ok {
		return "method " + m.String()
	}
	return fmt.Sprintf("attribute(%d)", uint32(a))
}

// method returns the method whose attribute a is.
func (a Attribute) method() (Method, bool) {
	m := Method(a - attrMethodBase)
	return m, a > attrMethodBase && a < attrMethodBase+Attribute(methodCount)
}

// wrap puts the attribute's name to an error.
func (a Attribute) wrap(v any, err error) (any, error) {
	if err != nil {
		return nil, &AttrError{Attr: a, Err: err}
	}
	return v, nil
}

// Attr returns the identity's attribute with the type that its constant names.
func (t IToken) Attr(a Attribute) (any, error) {
	switch a {
	case AttrAuditString:
		return t.Audit(), nil
	case AttrAuthenticationMethod:
		return t.method, nil
	case AttrCertificateAuthorityDN:
		return t.authority, nil
	case AttrCertificateDN:
		return t.holder, nil
	case AttrPubKeyID:
		return t.PublicKey(), nil
	case AttrChannelBinding:
		return a.wrap(nil, ErrUnsupported)
	default: // a pToken's
		return a.wrap(nil, ErrUnknownAttr)
	}
}

// Attr returns the attribute with the type that its constant names: ipsec_get_token_attr. The
// attributes of an iToken are those of the peer's.
func (p *PToken) Attr(a Attribute) (any, error) {
	if err := p.open(); err != nil {
		return a.wrap(nil, err)
	}
	var v any
	var err error
	switch a {
	case AttrPrivacy:
		v, err = p.Privacy()
	case AttrIntegrity:
		v, err = p.Integrity()
	case AttrCompression:
		v, err = p.Compression()
	case AttrIToken, AttrRemoteIToken:
		v, err = p.Peer()
	case AttrLocalIToken:
		v, err = p.Local()
	case AttrAuditString:
		v = p.AuditString()
	case AttrPolicyName:
		v, err = p.PolicyName()
	case AttrTunnelMode:
		var m Mode
		m, err = p.Mode()
		v = m == ModeTunnel
	case AttrIPOptions: // ESP protects the inner header's options, in tunnel mode only
		v, err = read(p, func(i *Info) bool { return i.Integrity && i.Mode == ModeTunnel },
			func(*Request) bool { return false })
	case AttrInformationString:
		v, err = read(p, func(i *Info) string { return i.String() }, func(*Request) string { return p.AuditString() })
	default:
		if m, ok := a.method(); ok {
			v, err = read(p, func(i *Info) Level { return levelOf(i.Method == m) },
				func(r *Request) Level { return r.Methods[m] })
			break
		}
		var peer IToken
		if peer, err = p.Peer(); err == nil {
			return peer.Attr(a)
		}
	}
	return a.wrap(v, err)
}

// SetAttr sets an attribute of a template: ipsec_set_token_attr. The value must have the type
// that the constant names.
func (p *PToken) SetAttr(a Attribute, v any) error {
	var err error
	switch a {
	case AttrPrivacy:
		err = set(v, p.SetPrivacy)
	case AttrIntegrity:
		err = set(v, p.SetIntegrity)
	case AttrCompression:
		err = set(v, p.SetCompression)
	case AttrIToken, AttrRemoteIToken:
		err = set(v, p.SetPeer)
	case AttrLocalIToken:
		err = set(v, p.SetLocal)
	case AttrPolicyName:
		err = set(v, p.SetPolicyName)
	case AttrTunnelMode:
		err = set(v, func(tunnel bool) error {
			if tunnel {
				return p.SetMode(ModeTunnel)
			}
			return p.SetMode(ModeTransport)
		})
	case AttrAuditString, AttrIPOptions, AttrInformationString, AttrAuthenticationMethod,
		AttrCertificateAuthorityDN, AttrCertificateDN, AttrPubKeyID:
		if err = p.change(func(*Request) error { return nil }); err == nil {
			err = ErrReadOnly
		}
	case AttrChannelBinding:
		err = ErrUnsupported
	default:
		m, ok := a.method()
		if !ok {
			err = ErrUnknownAttr
			break
		}
		err = set(v, func(l Level) error { return p.SetMethod(m, l) })
	}
	if err != nil {
		return &AttrError{Attr: a, Err: err}
	}
	return nil
}

// set calls f if v has its type.
func set[T any](v any, f func(T) error) error {
	x, ok := v.(T)
	if !ok {
		return fmt.Errorf("%w: it has type %T, not %T", ErrValue, v, x)
	}
	return f(x)
}
