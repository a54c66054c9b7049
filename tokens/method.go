package tokens

import "fmt"

// Method is how the key manager authenticated an end: the documents' authenticationMethod and
// members of iToken_auth_meth. The zero value is unknown and never authenticates anybody.
type Method uint16

// The methods of the documents, and three that they could not know.
const (
	MethodUnknown      Method = iota
	MethodNone                // NONE: no authentication
	MethodBTNS                // BTNS: the peer is its key, and nothing else is known (RFC 5386)
	MethodLeapOfFaith         // LEAPOFFAITH: the key that was pinned at first contact
	MethodPreSharedKey        // PRESHAREDKEY
	MethodGroupKey            // GROUPKEY
	MethodXAuth               // XAUTH
	MethodEAP                 // EAP
	MethodPKIX                // PKIX…: a certificate chain to a trust anchor
	MethodPublicKey           // a raw public key that is configured (RFC 7670)
	MethodNull                // NULL of RFC 7619: nothing, not even a key
	MethodManual              // keys set by hand

	methodCount
)

var methodNames = [methodCount]string{"unknown", "none", "btns", "leap-of-faith", "psk",
	"group-key", "xauth", "eap", "pkix", "public-key", "null", "manual"}

// String returns the method's name, as ParseMethod reads it.
func (m Method) String() string {
	if m < methodCount {
		return methodNames[m]
	}
	return fmt.Sprintf("method(%d)", uint16(m))
}

// ParseMethod reads a method's name.
func ParseMethod(s string) (Method, error) {
	for i, name := range methodNames {
		if s == name && i != 0 {
			return Method(i), nil
		}
	}
	return MethodUnknown, fmt.Errorf("%w: %.40q is not a method", ErrValue, s)
}

// Anonymous reports whether the method proves no name that anybody vouched for.
func (m Method) Anonymous() bool {
	switch m {
	case MethodUnknown, MethodNone, MethodBTNS, MethodNull:
		return true
	case MethodLeapOfFaith, MethodPreSharedKey, MethodGroupKey, MethodXAuth, MethodEAP, MethodPKIX,
		MethodPublicKey, MethodManual, methodCount:
	}
	return false
}

// Level is the value of an attribute that may be asked for: the documents'
// IPSEC_API_ATTR_ values. The zero value leaves it to the system.
type Level uint16

// The values. A level enables the attribute.
const (
	LevelAny     Level = iota // IPSEC_API_ATTR_ANY
	LevelDisable              // IPSEC_API_ATTR_DISABLE
	LevelEnable               // IPSEC_API_ATTR_ENABLE
	LevelLow                  // IPSEC_API_ATTR_LEVEL_LOW
	LevelMedium               // IPSEC_API_ATTR_LEVEL_MEDIUM
	LevelHigh                 // IPSEC_API_ATTR_LEVEL_HIGH

	levelCount
)

// String returns the value's name.
func (l Level) String() string {
	names := [levelCount]string{"any", "disable", "enable", "low", "medium", "high"}
	if l < levelCount {
		return names[l]
	}
	return fmt.Sprintf("level(%d)", uint16(l))
}

// Enabled reports whether the attribute is asked for.
func (l Level) Enabled() bool { return l >= LevelEnable && l < levelCount }

// levelOf is the level of something that is there or not.
func levelOf(on bool) Level {
	if on {
		return LevelEnable
	}
	return LevelDisable
}

// Disposition is what becomes of a connection whose latch breaks (RFC 5660, Section 5.5); the
// numbers are those of package latch. The zero value leaves it to the protocol.
type Disposition uint8

// The dispositions.
const (
	DispositionDefault Disposition = iota
	DispositionReset
	DispositionWait
)

// Mode is the encapsulation; the numbers are those of package esp.
type Mode uint8

// The modes.
const (
	ModeUnknown Mode = iota
	ModeTunnel
	ModeTransport
)

// String returns "tunnel", "transport" or "unknown".
func (m Mode) String() string {
	switch m {
	case ModeUnknown:
		return "unknown"
	case ModeTunnel:
		return "tunnel"
	case ModeTransport:
		return "transport"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// MarshalText makes the mode readable in JSON.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText makes the method readable in JSON.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
