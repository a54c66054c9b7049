package wire

// Cert is the certificate payload (RFC 7296, Section 3.6). With encoding
// CertRawPublicKey the data is a DER SubjectPublicKeyInfo (RFC 7670, Section 3).
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// CertReq is the certificate request payload (RFC 7296, Section 3.7).
type CertReq struct {
	Encoding  CertEncoding
	Authority []byte // concatenated SHA-1 key hashes; empty for CertRawPublicKey (RFC 7670, Section 3)
}

// Type implements Payload.
func (*Cert) Type() PayloadType { return PayloadCert }

// Type implements Payload.
func (*CertReq) Type() PayloadType { return PayloadCertReq }

func parseCert(b []byte) (*Cert, string) {
	c := cursor{b}
	var e uint8
	if !c.u8(&e) || c.empty() {
		return nil, "cut short"
	}
	return &Cert{Encoding: CertEncoding(e), Data: c.rest()}, ""
}

func parseCertReq(b []byte) (*CertReq, string) {
	c := cursor{b}
	var e uint8
	if !c.u8(&e) {
		return nil, "cut short"
	}
	return &CertReq{Encoding: CertEncoding(e), Authority: c.rest()}, ""
}

func (p *Cert) appendBody(dst []byte) []byte {
	return append(append(dst, byte(p.Encoding)), p.Data...)
}

func (p *CertReq) appendBody(dst []byte) []byte {
	return append(append(dst, byte(p.Encoding)), p.Authority...)
}
