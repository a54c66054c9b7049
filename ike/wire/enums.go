package wire

import "strconv"

// ExchangeType is the exchange type octet of the header (RFC 7296, Section 3.1).
type ExchangeType uint8

// Exchange types. Zero is reserved and never valid.
const (
	ExchangeIKESAInit       ExchangeType = 34
	ExchangeIKEAuth         ExchangeType = 35
	ExchangeCreateChildSA   ExchangeType = 36
	ExchangeInformational   ExchangeType = 37
	ExchangeSessionResume   ExchangeType = 38 // RFC 5723
	ExchangeIKEIntermediate ExchangeType = 43 // RFC 9242
	ExchangeIKEFollowupKE   ExchangeType = 44 // RFC 9370
)

// String returns the name the RFC gives the exchange.
func (e ExchangeType) String() string {
	switch e {
	case ExchangeIKESAInit:
		return "IKE_SA_INIT"
	case ExchangeIKEAuth:
		return "IKE_AUTH"
	case ExchangeCreateChildSA:
		return "CREATE_CHILD_SA"
	case ExchangeInformational:
		return "INFORMATIONAL"
	case ExchangeSessionResume:
		return "IKE_SESSION_RESUME"
	case ExchangeIKEIntermediate:
		return "IKE_INTERMEDIATE"
	case ExchangeIKEFollowupKE:
		return "IKE_FOLLOWUP_KE"
	}
	return "exchange(" + strconv.Itoa(int(e)) + ")"
}

// Flags is the flags octet of the header (RFC 7296, Section 3.1).
type Flags uint8

// Flag bits. The X bits are ignored on receipt and sent as zero.
const (
	FlagInitiator Flags = 0x08 // sent by the original initiator of the IKE SA
	FlagVersion   Flags = 0x10 // sender could speak a higher major version
	FlagResponse  Flags = 0x20 // response to the message with the same ID
)

// Initiator reports whether the original initiator of the IKE SA sent the message.
func (f Flags) Initiator() bool { return f&FlagInitiator != 0 }

// Response reports whether the message is a response.
func (f Flags) Response() bool { return f&FlagResponse != 0 }

// String returns the set bits as letters: I, V, R, or "-".
func (f Flags) String() string {
	s := ""
	if f&FlagInitiator != 0 {
		s += "I"
	}
	if f&FlagVersion != 0 {
		s += "V"
	}
	if f&FlagResponse != 0 {
		s += "R"
	}
	if s == "" {
		return "-"
	}
	return s
}

// PayloadType is the type octet of a payload (RFC 7296, Section 3.2).
type PayloadType uint8

// Payload types. PayloadNone ends a chain.
const (
	PayloadNone              PayloadType = 0
	PayloadSA                PayloadType = 33
	PayloadKE                PayloadType = 34
	PayloadIDi               PayloadType = 35
	PayloadIDr               PayloadType = 36
	PayloadCert              PayloadType = 37
	PayloadCertReq           PayloadType = 38
	PayloadAuth              PayloadType = 39
	PayloadNonce             PayloadType = 40
	PayloadNotify            PayloadType = 41
	PayloadDelete            PayloadType = 42
	PayloadVendor            PayloadType = 43
	PayloadTSi               PayloadType = 44
	PayloadTSr               PayloadType = 45
	PayloadEncrypted         PayloadType = 46
	PayloadConfiguration     PayloadType = 47
	PayloadEAP               PayloadType = 48
	PayloadEncryptedFragment PayloadType = 53 // RFC 7383
	PayloadPuzzleSolution    PayloadType = 54 // RFC 8019, not understood here
)

// String returns the notation of RFC 7296, Section 3.2.
func (t PayloadType) String() string {
	switch t {
	case PayloadNone:
		return "none"
	case PayloadSA:
		return "SA"
	case PayloadKE:
		return "KE"
	case PayloadIDi:
		return "IDi"
	case PayloadIDr:
		return "IDr"
	case PayloadCert:
		return "CERT"
	case PayloadCertReq:
		return "CERTREQ"
	case PayloadAuth:
		return "AUTH"
	case PayloadNonce:
		return "Nonce"
	case PayloadNotify:
		return "N"
	case PayloadDelete:
		return "D"
	case PayloadVendor:
		return "V"
	case PayloadTSi:
		return "TSi"
	case PayloadTSr:
		return "TSr"
	case PayloadEncrypted:
		return "SK"
	case PayloadConfiguration:
		return "CP"
	case PayloadEAP:
		return "EAP"
	case PayloadEncryptedFragment:
		return "SKF"
	case PayloadPuzzleSolution:
		return "PS"
	}
	return "payload(" + strconv.Itoa(int(t)) + ")"
}

// ProtocolID names the protocol a proposal, notify or delete is about (RFC 7296,
// Section 3.3.1).
type ProtocolID uint8

// Protocol identifiers. ProtocolNone is sent where there is no SPI.
const (
	ProtocolNone ProtocolID = 0
	ProtocolIKE  ProtocolID = 1
	ProtocolAH   ProtocolID = 2
	ProtocolESP  ProtocolID = 3
)

// String returns the protocol's name.
func (p ProtocolID) String() string {
	switch p {
	case ProtocolNone:
		return "none"
	case ProtocolIKE:
		return "IKE"
	case ProtocolAH:
		return "AH"
	case ProtocolESP:
		return "ESP"
	}
	return "protocol(" + strconv.Itoa(int(p)) + ")"
}

// IDType is the type octet of an identification payload (RFC 7296, Section 3.5).
type IDType uint8

// Identification types. Zero is reserved and never valid.
const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDRFC822Addr IDType = 3
	IDIPv6Addr   IDType = 5
	IDDERASN1DN  IDType = 9
	IDDERASN1GN  IDType = 10
	IDKeyID      IDType = 11
	IDFCName     IDType = 12 // RFC 4595
	IDNull       IDType = 13 // RFC 7619
)

// String returns the name the RFC gives the type.
func (t IDType) String() string {
	switch t {
	case IDIPv4Addr:
		return "ID_IPV4_ADDR"
	case IDFQDN:
		return "ID_FQDN"
	case IDRFC822Addr:
		return "ID_RFC822_ADDR"
	case IDIPv6Addr:
		return "ID_IPV6_ADDR"
	case IDDERASN1DN:
		return "ID_DER_ASN1_DN"
	case IDDERASN1GN:
		return "ID_DER_ASN1_GN"
	case IDKeyID:
		return "ID_KEY_ID"
	case IDFCName:
		return "ID_FC_NAME"
	case IDNull:
		return "ID_NULL"
	}
	return "ID(" + strconv.Itoa(int(t)) + ")"
}

// CertEncoding is the encoding octet of CERT and CERTREQ (RFC 7296, Section 3.6).
type CertEncoding uint8

// Certificate encodings. Zero is reserved and never valid.
const (
	CertPKCS7        CertEncoding = 1
	CertPGP          CertEncoding = 2
	CertDNSSigned    CertEncoding = 3
	CertX509         CertEncoding = 4 // X.509 certificate, signature
	CertKerberos     CertEncoding = 6
	CertCRL          CertEncoding = 7
	CertARL          CertEncoding = 8
	CertSPKI         CertEncoding = 9
	CertX509Attr     CertEncoding = 10
	CertRawRSA       CertEncoding = 11 // deprecated by RFC 7670
	CertHashURL      CertEncoding = 12
	CertHashURLChain CertEncoding = 13
	CertOCSP         CertEncoding = 14 // RFC 4806
	CertRawPublicKey CertEncoding = 15 // RFC 7670: a SubjectPublicKeyInfo
)

// String returns the registry's name of the encoding.
func (e CertEncoding) String() string {
	switch e {
	case CertPKCS7:
		return "PKCS #7"
	case CertPGP:
		return "PGP"
	case CertDNSSigned:
		return "DNS signed key"
	case CertX509:
		return "X.509"
	case CertKerberos:
		return "Kerberos"
	case CertCRL:
		return "CRL"
	case CertARL:
		return "ARL"
	case CertSPKI:
		return "SPKI"
	case CertX509Attr:
		return "X.509 attribute"
	case CertRawRSA:
		return "raw RSA key"
	case CertHashURL:
		return "hash and URL"
	case CertHashURLChain:
		return "hash and URL of bundle"
	case CertOCSP:
		return "OCSP"
	case CertRawPublicKey:
		return "raw public key"
	}
	return "encoding(" + strconv.Itoa(int(e)) + ")"
}

// AuthMethod is the method octet of an AUTH payload (RFC 7296, Section 3.8).
type AuthMethod uint8

// Authentication methods. Zero is reserved and never valid (ADV-D10).
const (
	AuthMethodRSA              AuthMethod = 1
	AuthMethodPSK              AuthMethod = 2
	AuthMethodDSS              AuthMethod = 3
	AuthMethodECDSA256         AuthMethod = 9  // RFC 4754
	AuthMethodECDSA384         AuthMethod = 10 // RFC 4754
	AuthMethodECDSA521         AuthMethod = 11 // RFC 4754
	AuthMethodGSPAM            AuthMethod = 12 // RFC 6467
	AuthMethodNull             AuthMethod = 13 // RFC 7619
	AuthMethodDigitalSignature AuthMethod = 14 // RFC 7427
)

// String returns the registry's name of the method.
func (m AuthMethod) String() string {
	switch m {
	case AuthMethodRSA:
		return "RSA digital signature"
	case AuthMethodPSK:
		return "shared key"
	case AuthMethodDSS:
		return "DSS digital signature"
	case AuthMethodECDSA256:
		return "ECDSA-256"
	case AuthMethodECDSA384:
		return "ECDSA-384"
	case AuthMethodECDSA521:
		return "ECDSA-521"
	case AuthMethodGSPAM:
		return "secure password"
	case AuthMethodNull:
		return "NULL"
	case AuthMethodDigitalSignature:
		return "digital signature"
	}
	return "method(" + strconv.Itoa(int(m)) + ")"
}

// Hash algorithms of SIGNATURE_HASH_ALGORITHMS (RFC 7427, Section 7; RFC 8420
// for HashIdentity).
const (
	HashSHA1     uint16 = 1
	HashSHA256   uint16 = 2
	HashSHA384   uint16 = 3
	HashSHA512   uint16 = 4
	HashIdentity uint16 = 5
)

// HashName returns the name of a hash algorithm of RFC 7427.
func HashName(id uint16) string {
	switch id {
	case HashSHA1:
		return "SHA1"
	case HashSHA256:
		return "SHA2-256"
	case HashSHA384:
		return "SHA2-384"
	case HashSHA512:
		return "SHA2-512"
	case HashIdentity:
		return "Identity"
	}
	return "hash(" + strconv.Itoa(int(id)) + ")"
}
