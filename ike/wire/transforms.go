package wire

import "strconv"

// TransformType is the type octet of a transform (RFC 7296, Section 3.3.2).
type TransformType uint8

// Transform types. Zero is reserved and never valid.
const (
	TransformEncr  TransformType = 1
	TransformPRF   TransformType = 2
	TransformInteg TransformType = 3
	TransformKE    TransformType = 4 // key exchange method, formerly Diffie-Hellman group
	TransformESN   TransformType = 5
)

// String returns the RFC's short name of the type.
func (t TransformType) String() string {
	switch t {
	case TransformEncr:
		return "ENCR"
	case TransformPRF:
		return "PRF"
	case TransformInteg:
		return "INTEG"
	case TransformKE:
		return "KE"
	case TransformESN:
		return "ESN"
	}
	return "transform(" + strconv.Itoa(int(t)) + ")"
}

// Encryption transform IDs (type 1) that this implementation can name.
const (
	EncrDES              uint16 = 2
	Encr3DES             uint16 = 3
	EncrNull             uint16 = 11
	EncrAESCBC           uint16 = 12
	EncrAESCTR           uint16 = 13
	EncrAESCCM8          uint16 = 14
	EncrAESCCM12         uint16 = 15
	EncrAESCCM16         uint16 = 16
	EncrAESGCM8          uint16 = 18
	EncrAESGCM12         uint16 = 19
	EncrAESGCM16         uint16 = 20
	EncrNullAESGMAC      uint16 = 21
	EncrCamelliaCBC      uint16 = 23
	EncrChaCha20Poly1305 uint16 = 28
)

// PRF transform IDs (type 2).
const (
	PRFHMACMD5    uint16 = 1
	PRFHMACSHA1   uint16 = 2
	PRFAESXCBC    uint16 = 4
	PRFHMACSHA256 uint16 = 5
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7
	PRFAESCMAC    uint16 = 8
)

// Integrity transform IDs (type 3).
const (
	IntegNone       uint16 = 0
	IntegHMACMD5    uint16 = 1
	IntegHMACSHA1   uint16 = 2
	IntegAESXCBC    uint16 = 5
	IntegAESCMAC    uint16 = 8
	IntegHMACSHA256 uint16 = 12 // AUTH_HMAC_SHA2_256_128
	IntegHMACSHA384 uint16 = 13 // AUTH_HMAC_SHA2_384_192
	IntegHMACSHA512 uint16 = 14 // AUTH_HMAC_SHA2_512_256
)

// Key exchange transform IDs (type 4).
const (
	GroupNone     uint16 = 0
	GroupMODP1024 uint16 = 2
	GroupMODP1536 uint16 = 5
	GroupMODP2048 uint16 = 14
	GroupMODP3072 uint16 = 15
	GroupMODP4096 uint16 = 16
	GroupMODP6144 uint16 = 17
	GroupMODP8192 uint16 = 18
	GroupECP256   uint16 = 19
	GroupECP384   uint16 = 20
	GroupECP521   uint16 = 21
	GroupX25519   uint16 = 31
	GroupX448     uint16 = 32
)

// ESN transform IDs (type 5).
const (
	ESNNo  uint16 = 0
	ESNYes uint16 = 1
)

// transformName returns the registry's name of an ID.
func transformName(t TransformType, id uint16) string {
	switch t {
	case TransformEncr:
		switch id {
		case EncrDES:
			return "DES"
		case Encr3DES:
			return "3DES"
		case EncrNull:
			return "NULL"
		case EncrAESCBC:
			return "AES_CBC"
		case EncrAESCTR:
			return "AES_CTR"
		case EncrAESCCM8:
			return "AES_CCM_8"
		case EncrAESCCM12:
			return "AES_CCM_12"
		case EncrAESCCM16:
			return "AES_CCM_16"
		case EncrAESGCM8:
			return "AES_GCM_8"
		case EncrAESGCM12:
			return "AES_GCM_12"
		case EncrAESGCM16:
			return "AES_GCM_16"
		case EncrNullAESGMAC:
			return "NULL_AES_GMAC"
		case EncrCamelliaCBC:
			return "CAMELLIA_CBC"
		case EncrChaCha20Poly1305:
			return "CHACHA20_POLY1305"
		}
	case TransformPRF:
		switch id {
		case PRFHMACMD5:
			return "HMAC_MD5"
		case PRFHMACSHA1:
			return "HMAC_SHA1"
		case PRFAESXCBC:
			return "AES128_XCBC"
		case PRFHMACSHA256:
			return "HMAC_SHA2_256"
		case PRFHMACSHA384:
			return "HMAC_SHA2_384"
		case PRFHMACSHA512:
			return "HMAC_SHA2_512"
		case PRFAESCMAC:
			return "AES128_CMAC"
		}
	case TransformInteg:
		switch id {
		case IntegNone:
			return "NONE"
		case IntegHMACMD5:
			return "HMAC_MD5_96"
		case IntegHMACSHA1:
			return "HMAC_SHA1_96"
		case IntegAESXCBC:
			return "AES_XCBC_96"
		case IntegAESCMAC:
			return "AES_CMAC_96"
		case IntegHMACSHA256:
			return "HMAC_SHA2_256_128"
		case IntegHMACSHA384:
			return "HMAC_SHA2_384_192"
		case IntegHMACSHA512:
			return "HMAC_SHA2_512_256"
		}
	case TransformKE:
		switch id {
		case GroupNone:
			return "NONE"
		case GroupMODP1024:
			return "MODP_1024"
		case GroupMODP1536:
			return "MODP_1536"
		case GroupMODP2048:
			return "MODP_2048"
		case GroupMODP3072:
			return "MODP_3072"
		case GroupMODP4096:
			return "MODP_4096"
		case GroupMODP6144:
			return "MODP_6144"
		case GroupMODP8192:
			return "MODP_8192"
		case GroupECP256:
			return "ECP_256"
		case GroupECP384:
			return "ECP_384"
		case GroupECP521:
			return "ECP_521"
		case GroupX25519:
			return "CURVE_25519"
		case GroupX448:
			return "CURVE_448"
		}
	case TransformESN:
		switch id {
		case ESNNo:
			return "NO_EXT_SEQ"
		case ESNYes:
			return "EXT_SEQ"
		}
	}
	return t.String() + "(" + strconv.Itoa(int(id)) + ")"
}

// String returns the transform as strongSwan logs it, e.g. "AES_GCM_16_256".
func (t Transform) String() string {
	s := transformName(t.Type, t.ID)
	if t.KeyBits != 0 {
		s += "_" + strconv.Itoa(int(t.KeyBits))
	}
	if t.BadAttr {
		s += "(unusable attribute)"
	}
	return s
}

// GroupName returns the name of a key exchange transform ID.
func GroupName(id uint16) string { return transformName(TransformKE, id) }
