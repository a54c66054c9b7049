package pad

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
)

// KeyPrefix returns the prefix of key-derived addresses: fd62:746e:7300::/40, a unique local
// prefix (RFC 4193) with "btns" in it.
func KeyPrefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 'b', 't', 'n', 's'}), 40)
}

// KeyAddress derives an address from a key: the prefix, then the first 88 bits of the SHA-256 of
// its DER SubjectPublicKeyInfo. A peer that proves the key proves the address with it.
func KeyAddress(spki []byte) netip.Addr {
	h := sha256.Sum256(spki)
	a := KeyPrefix().Addr().As16()
	copy(a[5:], h[:11])
	return netip.AddrFrom16(a)
}

// Fingerprint returns "SHA256:" and the unpadded base64 of the SHA-256 of a DER
// SubjectPublicKeyInfo.
func Fingerprint(spki []byte) string {
	h := sha256.Sum256(spki)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(h[:])
}

// KeyIdentity returns the canonical text of a peer that is only a key: "key:SHA256:…".
func KeyIdentity(spki []byte) string { return "key:" + Fingerprint(spki) }
