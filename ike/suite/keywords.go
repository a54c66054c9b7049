package suite

import (
	"strings"

	"github.com/btns-go/btns/ike/wire"
)

// use says where a keyword may stand.
type use uint8

const (
	useNone use = 0 // known to others, not implemented here
	useIKE  use = 1
	useESP  use = 2
	useBoth     = useIKE | useESP
)

// keyword is a word of a proposal string. The first keyword of a transform in
// the table is the one that is printed.
type keyword struct {
	word string
	t    wire.Transform
	use  use
}

// keywordTable is made once: every handshake puts its suites into words.
var keywordTable = makeKeywords()

// keywords returns strongSwan's words for everything implemented here, and for
// enough of the rest that refusing them can say why. It must not be changed.
func keywords() []keyword { return keywordTable }

func makeKeywords() []keyword {
	enc := func(id, bits uint16) wire.Transform {
		return wire.Transform{Type: wire.TransformEncr, ID: id, KeyBits: bits}
	}
	integ := func(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformInteg, ID: id} }
	prf := func(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformPRF, ID: id} }
	ke := func(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformKE, ID: id} }
	esn := func(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformESN, ID: id} }
	return []keyword{
		{"aes256gcm16", enc(wire.EncrAESGCM16, 256), useBoth},
		{"aes256gcm128", enc(wire.EncrAESGCM16, 256), useBoth},
		{"aes256gcm", enc(wire.EncrAESGCM16, 256), useBoth},
		{"aes128gcm16", enc(wire.EncrAESGCM16, 128), useBoth},
		{"aes128gcm128", enc(wire.EncrAESGCM16, 128), useBoth},
		{"aes128gcm", enc(wire.EncrAESGCM16, 128), useBoth},
		{"chacha20poly1305", enc(wire.EncrChaCha20Poly1305, 0), useBoth},
		{"aes256", enc(wire.EncrAESCBC, 256), useBoth},
		{"aes128", enc(wire.EncrAESCBC, 128), useBoth},
		{"aes", enc(wire.EncrAESCBC, 128), useBoth},
		{"null", enc(wire.EncrNull, 0), useESP},

		{"sha256", integ(wire.IntegHMACSHA256), useBoth},
		{"sha2_256", integ(wire.IntegHMACSHA256), useBoth},
		{"sha384", integ(wire.IntegHMACSHA384), useBoth},
		{"sha2_384", integ(wire.IntegHMACSHA384), useBoth},
		{"sha512", integ(wire.IntegHMACSHA512), useBoth},
		{"sha2_512", integ(wire.IntegHMACSHA512), useBoth},

		{"prfsha256", prf(wire.PRFHMACSHA256), useIKE},
		{"prfsha384", prf(wire.PRFHMACSHA384), useIKE},
		{"prfsha512", prf(wire.PRFHMACSHA512), useIKE},

		{"x25519", ke(wire.GroupX25519), useBoth},
		{"curve25519", ke(wire.GroupX25519), useBoth},
		{"ecp256", ke(wire.GroupECP256), useBoth},
		{"ecp384", ke(wire.GroupECP384), useBoth},
		{"modp2048", ke(wire.GroupMODP2048), useBoth},
		{"modpnone", ke(wire.GroupNone), useESP},

		{"esn", esn(wire.ESNYes), useESP},
		{"noesn", esn(wire.ESNNo), useESP},

		{"aes192gcm16", enc(wire.EncrAESGCM16, 192), useNone},
		{"aes128gcm8", enc(wire.EncrAESGCM8, 128), useNone},
		{"aes256gcm8", enc(wire.EncrAESGCM8, 256), useNone},
		{"aes128gcm12", enc(wire.EncrAESGCM12, 128), useNone},
		{"aes256gcm12", enc(wire.EncrAESGCM12, 256), useNone},
		{"aes128ccm16", enc(wire.EncrAESCCM16, 128), useNone},
		{"aes256ccm16", enc(wire.EncrAESCCM16, 256), useNone},
		{"aes128gmac", enc(wire.EncrNullAESGMAC, 128), useNone},
		{"aes256gmac", enc(wire.EncrNullAESGMAC, 256), useNone},
		{"aes192", enc(wire.EncrAESCBC, 192), useNone},
		{"aes128ctr", enc(wire.EncrAESCTR, 128), useNone},
		{"aes256ctr", enc(wire.EncrAESCTR, 256), useNone},
		{"camellia128", enc(wire.EncrCamelliaCBC, 128), useNone},
		{"camellia256", enc(wire.EncrCamelliaCBC, 256), useNone},
		{"3des", enc(wire.Encr3DES, 0), useNone},
		{"des", enc(wire.EncrDES, 0), useNone},
		{"sha1", integ(wire.IntegHMACSHA1), useNone},
		{"sha", integ(wire.IntegHMACSHA1), useNone},
		{"md5", integ(wire.IntegHMACMD5), useNone},
		{"aesxcbc", integ(wire.IntegAESXCBC), useNone},
		{"aescmac", integ(wire.IntegAESCMAC), useNone},
		{"prfsha1", prf(wire.PRFHMACSHA1), useNone},
		{"prfmd5", prf(wire.PRFHMACMD5), useNone},
		{"prfaesxcbc", prf(wire.PRFAESXCBC), useNone},
		{"prfaescmac", prf(wire.PRFAESCMAC), useNone},
		{"modp1024", ke(wire.GroupMODP1024), useNone},
		{"modp1536", ke(wire.GroupMODP1536), useNone},
		{"modp3072", ke(wire.GroupMODP3072), useNone},
		{"modp4096", ke(wire.GroupMODP4096), useNone},
		{"modp6144", ke(wire.GroupMODP6144), useNone},
		{"modp8192", ke(wire.GroupMODP8192), useNone},
		{"ecp521", ke(wire.GroupECP521), useNone},
		{"x448", ke(wire.GroupX448), useNone},
		{"curve448", ke(wire.GroupX448), useNone},
	}
}

// wordOf returns the keyword of the table that is printed for a transform, or
// the registry's name for one without a keyword.
func wordOf(all []keyword, t wire.Transform) string {
	for _, k := range all {
		if k.t == t {
			return k.word
		}
	}
	return t.String()
}

// nearest returns the keyword usable for u that needs the fewest edits to
// become word, or "" when none is anything like it.
func nearest(word string, u use) string {
	const longest = 32 // no keyword is half as long
	if len(word) > longest {
		word = word[:longest]
	}
	word = strings.ToLower(word)
	best, edits := "", 1+len(word)/2
	for _, k := range keywords() {
		if k.use&u == 0 {
			continue
		}
		d := distance(word, k.word)
		if len(word) >= 3 && strings.HasPrefix(k.word, word) {
			d = min(d, 1) // "chacha20" is far from its keyword, and yet it is clear
		}
		if d < edits {
			best, edits = k.word, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings, in octets.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
