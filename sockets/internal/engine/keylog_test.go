package engine

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// TestKeyLogLines has the lines as Wireshark's tables take them, and every one of them good
// for tshark -o: of a table, and in one piece.
func TestKeyLogLines(t *testing.T) {
	path := ike.Path{Local: netip.MustParseAddrPort("0.0.0.0:4500"), Remote: netip.MustParseAddrPort("192.0.2.2:4500")}
	esp := func(inbound bool, encr, bits, integ uint16, esn bool, n int) *ike.KeyLog {
		return &ike.KeyLog{ESP: &ike.ESPKeys{SPI: 0x1001, Path: path, Inbound: inbound, Key: key(n),
			Suite: suite.ESP{Encr: encr, KeyBits: bits, Integ: integ, ESN: esn}}}
	}
	sa := func(encr, bits, integ uint16, e, a int) *ike.KeyLog {
		return &ike.KeyLog{IKE: &ike.IKEKeys{SPIi: 0x11, SPIr: 0x22, SKei: key(e), SKer: key(e), SKai: key(a), SKar: key(a),
			Suite: suite.IKE{Encr: encr, KeyBits: bits, Integ: integ, PRF: wire.PRFHMACSHA256, Group: wire.GroupX25519}}}
	}
	// hex is key(n) from byte i to byte j.
	hex := func(i, j int) string { return strings.Repeat("abcdef01", 24)[2*i : 2*j] }
	for _, r := range []struct {
		name string
		k    *ike.KeyLog
		want string
	}{
		{"gcm", esp(false, wire.EncrAESGCM16, 256, 0, false, 36),
			`uat:esp_sa:"IPv4","*","192.0.2.2","0x00001001","AES-GCM with 16 octet ICV [RFC4106]","0x` + hex(0, 36) + `","NULL","0x"`},
		{"gcm, ESN", esp(true, wire.EncrAESGCM16, 256, 0, true, 36),
			`uat:esp_sa:"IPv4","192.0.2.2","*","0x00001001","AES-GCM with 16 octet ICV [RFC4106]","0x` + hex(0, 36) + `","NULL","0x","64-bit","0"`},
		{"cbc", esp(false, wire.EncrAESCBC, 128, wire.IntegHMACSHA384, false, 16+48),
			`uat:esp_sa:"IPv4","*","192.0.2.2","0x00001001","AES-CBC [RFC3602]","0x` + hex(0, 16) + `","HMAC-SHA-384-192 [RFC4868]","0x` + hex(16, 64) + `"`},
		{"cbc, ESN", esp(false, wire.EncrAESCBC, 256, wire.IntegHMACSHA512, true, 32+64),
			`uat:esp_sa:"IPv4","*","192.0.2.2","0x00001001","AES-CBC [RFC3602]","0x` + hex(0, 32) + `","HMAC-SHA-512-256 [RFC4868]","0x` + hex(32, 96) + `","64-bit","0"`},
		{"null", esp(false, wire.EncrNull, 0, wire.IntegHMACSHA256, false, 32),
			`uat:esp_sa:"IPv4","*","192.0.2.2","0x00001001","NULL","0x","HMAC-SHA-256-128 [RFC4868]","0x` + hex(0, 32) + `"`},
		{"chacha20: a comment", esp(false, wire.EncrChaCha20Poly1305, 0, 0, false, 36),
			`uat:esp_sa:# "IPv4","*","192.0.2.2","0x00001001","ChaCha20 with Poly1305 [RFC7634]","0x` + hex(0, 36) + `","NULL","0x"`},
		{"a cipher that nobody knows: a comment", esp(false, wire.EncrAESCTR, 128, 0, true, 36),
			`uat:esp_sa:# not in this table: ESP SA 0x00001001 aes128ctr-esn 0x` + hex(0, 36)},
		{"IKE, gcm", sa(wire.EncrAESGCM16, 256, 0, 36, 0),
			`uat:ikev2_decryption_table:0000000000000011,0000000000000022,` + hex(0, 36) + `,` + hex(0, 36) + `,"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"`},
		{"IKE, cbc", sa(wire.EncrAESCBC, 128, wire.IntegHMACSHA256, 16, 32),
			`uat:ikev2_decryption_table:0000000000000011,0000000000000022,` + hex(0, 16) + `,` + hex(0, 16) + `,"AES-CBC-128 [RFC3602]",` + hex(0, 32) + `,` + hex(0, 32) + `,"HMAC_SHA2_256_128 [RFC4868]"`},
		{"IKE, chacha20: a comment", sa(wire.EncrChaCha20Poly1305, 0, 0, 36, 0),
			`uat:ikev2_decryption_table:# not in this table: IKE SA 0000000000000011 0000000000000022 chacha20poly1305-prfsha256-x25519 SK_ei 0x` + hex(0, 36) + ` SK_er 0x` + hex(0, 36) + ` SK_ai 0x SK_ar 0x`},
	} {
		var b bytes.Buffer
		if err := writeKeyLog(&b, r.k); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		if b.String() != r.want+"\n" {
			t.Errorf("%s:\n got %swant %s", r.name, b.String(), r.want)
		}
	}
}

func key(n int) suite.Secret { return bytes.Repeat([]byte{0xab, 0xcd, 0xef, 0x01}, 24)[:n] }
