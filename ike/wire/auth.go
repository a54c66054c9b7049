package wire

// Auth is the authentication payload (RFC 7296, Section 3.8). With
// AuthMethodDigitalSignature the data starts with the length and DER of an
// AlgorithmIdentifier (RFC 7427, Section 3).
type Auth struct {
	Method AuthMethod
	Data   []byte
}

// Type implements Payload.
func (*Auth) Type() PayloadType { return PayloadAuth }

func parseAuth(b []byte) (*Auth, string) {
	c := cursor{b}
	var m uint8
	if !c.u8(&m) || !c.skip(3) {
		return nil, "cut short"
	}
	return &Auth{Method: AuthMethod(m), Data: c.rest()}, ""
}

func (a *Auth) appendBody(dst []byte) []byte {
	return append(append(dst, byte(a.Method), 0, 0, 0), a.Data...)
}
