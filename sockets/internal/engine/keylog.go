package engine

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// writeKeyLog appends the keys of one SA as one preference line of Wireshark's, to be
// given to tshark as -o "LINE" or pasted into the tables of the same names.
func writeKeyLog(w io.Writer, k *ike.KeyLog) error {
	var line string
	switch {
	case k.IKE != nil:
		line = ikeLine(k.IKE)
	case k.ESP != nil:
		line = espLine(k.ESP)
	}
	if line == "" {
		return nil
	}
	_, err := io.WriteString(w, line)
	return err
}

func ikeLine(k *ike.IKEKeys) string {
	var encr string
	switch k.Suite.Encr {
	case wire.EncrAESGCM16:
		encr = fmt.Sprintf("AES-GCM-%d with 16 octet ICV [RFC5282]", k.Suite.KeyBits)
	case wire.EncrAESCBC:
		encr = fmt.Sprintf("AES-CBC-%d [RFC3602]", k.Suite.KeyBits)
	default:
		return fmt.Sprintf("# IKE SA %016x-%016x: Wireshark's table knows no cipher %d\n", k.SPIi, k.SPIr, k.Suite.Encr)
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
	return fmt.Sprintf("uat:ikev2_decryption_table:%016x,%016x,%x,%x,%q,%x,%x,%q\n",
		k.SPIi, k.SPIr, []byte(k.SKei), []byte(k.SKer), encr, []byte(k.SKai), []byte(k.SKar), integ)
}

func espLine(k *ike.ESPKeys) string {
	from, to := k.Path.Local.Addr(), k.Path.Remote.Addr()
	if k.Inbound {
		from, to = to, from
	}
	var encr, integ, ikey string
	key := []byte(k.Key)
	switch k.Suite.Encr {
	case wire.EncrAESGCM16:
		encr, integ = "AES-GCM with 16 octet ICV [RFC4106]", "NULL"
	case wire.EncrAESCBC, wire.EncrNull:
		encr = "AES-CBC [RFC3602]"
		n := int(k.Suite.KeyBits) / 8
		if k.Suite.Encr == wire.EncrNull {
			encr, n = "NULL", 0
		}
		if len(key) < n {
			return ""
		}
		ikey, key = fmt.Sprintf("0x%x", key[n:]), key[:n]
		switch k.Suite.Integ {
		case wire.IntegHMACSHA384:
			integ = "HMAC-SHA-384-192 [RFC4868]"
		case wire.IntegHMACSHA512:
			integ = "HMAC-SHA-512-256 [RFC4868]"
		default:
			integ = "HMAC-SHA-256-128 [RFC4868]"
		}
	default:
		return fmt.Sprintf("# ESP SA %08x: Wireshark's table knows no cipher %d\n", k.SPI, k.Suite.Encr)
	}
	proto := "IPv4"
	if to.Is6() {
		proto = "IPv6"
	}
	return fmt.Sprintf("uat:esp_sa:%q,%q,%q,\"0x%08x\",%q,\"0x%x\",%q,%q\n",
		proto, anyAddr(from), anyAddr(to), k.SPI, encr, key, integ, ikey)
}

// anyAddr writes an address that the wire chose for us, and never told, as Wireshark's
// wildcard.
func anyAddr(a netip.Addr) string {
	if !a.IsValid() || a.IsUnspecified() {
		return "*"
	}
	return a.String()
}
