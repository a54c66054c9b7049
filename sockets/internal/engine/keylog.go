package engine

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// writeKeyLog appends the keys of one SA as one preference line of Wireshark's, to be
// given to tshark as -o "LINE" or, without what is before the second colon, pasted into the
// table of that name. Every line is good for -o in Wireshark 4.0 and after: what 4.0 does not
// know, and would refuse with all the rest, is a comment of the table.
func writeKeyLog(w io.Writer, k *ike.KeyLog) error {
	var line string
	switch {
	case k.IKE != nil:
		line = "uat:ikev2_decryption_table:" + ikeRow(k.IKE)
	case k.ESP != nil:
		line = "uat:esp_sa:" + espRow(k.ESP)
	default:
		return nil
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}

func ikeRow(k *ike.IKEKeys) string {
	var encr string
	switch k.Suite.Encr {
	case wire.EncrAESGCM16:
		encr = fmt.Sprintf("AES-GCM-%d with 16 octet ICV [RFC5282]", k.Suite.KeyBits)
	case wire.EncrAESCBC:
		encr = fmt.Sprintf("AES-CBC-%d [RFC3602]", k.Suite.KeyBits)
	default:
		return fmt.Sprintf("# not in this table: IKE SA %016x %016x %s SK_ei 0x%x SK_er 0x%x SK_ai 0x%x SK_ar 0x%x",
			k.SPIi, k.SPIr, k.Suite, []byte(k.SKei), []byte(k.SKer), []byte(k.SKai), []byte(k.SKar))
	}
	integ := "NONE [RFC4306]"
	switch k.Suite.Integ {
	case wire.IntegHMACSHA256:
		integ = "HMAC_SHA2_256_128 [RFC4868]"
	case wire.IntegHMACSHA384:
		integ = "HMAC_SHA2_384_192 [RFC4868]"
	case wire.IntegHMACSHA512:
		integ = "HMAC_SHA2_512_256 [RFC4868]"
	}
	return fmt.Sprintf("%016x,%016x,%x,%x,%q,%x,%x,%q",
		k.SPIi, k.SPIr, []byte(k.SKei), []byte(k.SKer), encr, []byte(k.SKai), []byte(k.SKar), integ)
}

func espRow(k *ike.ESPKeys) string {
	from, to := k.Path.Local.Addr(), k.Path.Remote.Addr()
	if k.Inbound {
		from, to = to, from
	}
	key := []byte(k.Key)
	var comment, encr string
	switch k.Suite.Encr {
	case wire.EncrAESGCM16:
		encr = "AES-GCM with 16 octet ICV [RFC4106]"
	case wire.EncrAESCBC:
		encr = "AES-CBC [RFC3602]"
	case wire.EncrNull:
		encr = "NULL"
	case wire.EncrChaCha20Poly1305: // Wireshark 4.0 has no word for it, its successors have this one
		comment, encr = "# ", "ChaCha20 with Poly1305 [RFC7634]"
	default:
		return fmt.Sprintf("# not in this table: ESP SA 0x%08x %s 0x%x", k.SPI, k.Suite, key)
	}
	integ := "NULL"
	var ikey []byte
	switch k.Suite.Integ {
	case wire.IntegHMACSHA256:
		integ = "HMAC-SHA-256-128 [RFC4868]"
		key, ikey = split(key, 32)
	case wire.IntegHMACSHA384:
		integ = "HMAC-SHA-384-192 [RFC4868]"
		key, ikey = split(key, 48)
	case wire.IntegHMACSHA512:
		integ = "HMAC-SHA-512-256 [RFC4868]"
		key, ikey = split(key, 64)
	}
	proto := "IPv4"
	if to.Is6() {
		proto = "IPv6"
	}
	row := fmt.Sprintf("%s%q,%q,%q,\"0x%08x\",%q,\"0x%x\",%q,\"0x%x\"",
		comment, proto, anyAddr(from), anyAddr(to), k.SPI, encr, key, integ, ikey)
	if k.Suite.ESN {
		// The length of sequence numbers, and their high half at the beginning, which the ICV
		// covers (RFC 4303, Section 2.2.1). Wireshark 4.0 has no such columns: it drops them
		// with a warning, decrypts, and takes every ICV for wrong.
		row += `,"64-bit","0"`
	}
	return row
}

// split cuts the integrity key, of n bytes, off the end of an ESP key.
func split(key []byte, n int) (encr, integ []byte) {
	n = max(0, len(key)-n)
	return key[:n], key[n:]
}

// anyAddr writes an address that the wire chose for us, and never told, as Wireshark's
// wildcard.
func anyAddr(a netip.Addr) string {
	if !a.IsValid() || a.IsUnspecified() {
		return "*"
	}
	return a.String()
}
