package suite

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// vectors reads blocks of "name = value" lines; "#" starts a comment.
func vectors(t *testing.T, file string) []map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for line := range strings.Lines(string(raw)) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " = ")
		switch {
		case strings.HasPrefix(line, "#") || !ok:
		case k == "case":
			all = append(all, map[string]string{k: v})
		default:
			all[len(all)-1][k] = v
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no cases", file)
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || s == "" {
		t.Fatalf("hex %q: %v", s, err)
	}
	return b
}

func equal(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if h := hex.EncodeToString(got); h != want {
		t.Errorf("%s: got %s, want %s", what, h, want)
	}
}

func TestRFC4868PRF(t *testing.T) {
	for _, v := range vectors(t, "rfc4868_prf.txt") {
		key, data := unhex(t, v["key"]), unhex(t, v["data"])
		for field, id := range map[string]uint16{"sha256": wire.PRFHMACSHA256, "sha384": wire.PRFHMACSHA384, "sha512": wire.PRFHMACSHA512} {
			equal(t, v["case"]+" "+field, PRF(id, key, data), v[field])
			equal(t, v["case"]+" "+field+" in parts", PRF(id, key, data[:3], nil, data[3:]), v[field])
			if len(v[field]) != 2*PRFSize(id) {
				t.Errorf("%s: size %d", field, PRFSize(id))
			}
		}
	}
}

func TestRFC4868Auth(t *testing.T) {
	for _, v := range vectors(t, "rfc4868_auth.txt") {
		id := map[string]uint16{"256": wire.IntegHMACSHA256, "384": wire.IntegHMACSHA384, "512": wire.IntegHMACSHA512}[v["size"]]
		p := &Protector{suite: IKE{Integ: id}, ska: unhex(t, v["key"])}
		if len(p.ska) != integKeyLen(id) {
			t.Errorf("%s: key length", v["case"])
		}
		equal(t, v["case"], p.mac(unhex(t, v["data"])), v["mac"])
	}
}

// The five derivations of RFC 7296 against NIST's numbers.
func TestNISTKeyDerivation(t *testing.T) {
	for _, v := range vectors(t, "nist_ikev2_kdf.txt") {
		ni, nr, gir, girNew := unhex(t, v["ni"]), unhex(t, v["nr"]), unhex(t, v["gir"]), unhex(t, v["girnew"])
		spii, spir := binary.BigEndian.Uint64(unhex(t, v["spii"])), binary.BigEndian.Uint64(unhex(t, v["spir"]))
		seed := skeyseed(sha1.New, ni, nr, gir)
		equal(t, "SKEYSEED", seed, v["skeyseed"])
		dkm := ikeKeymat(sha1.New, seed, len(v["dkm"])/2, ni, nr, spii, spir)
		equal(t, "DKM", dkm, v["dkm"])
		skd := dkm[:sha1.Size]
		equal(t, "DKM(Child SA)", childKeymat(sha1.New, skd, len(v["child"])/2, ni, nr, nil), v["child"])
		equal(t, "DKM(Child SA D-H)", childKeymat(sha1.New, skd, len(v["childdh"])/2, ni, nr, girNew), v["childdh"])
		equal(t, "SKEYSEED(Rekey)", skeyseedRekey(sha1.New, skd, ni, nr, girNew), v["skeyseedrekey"])
	}
}

// importKE makes a KE from a private key of the vectors.
func importKE(t *testing.T, group uint16, priv []byte) *KE {
	t.Helper()
	curve, _ := curveOf(group)
	k, err := curve.NewPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return newECKE(group, k)
}

func TestRFC5903ECP(t *testing.T) {
	for _, v := range vectors(t, "rfc5903_ecp.txt") {
		group, _ := strconv.Atoi(v["group"])
		i, r := importKE(t, uint16(group), unhex(t, v["i"])), importKE(t, uint16(group), unhex(t, v["r"]))
		for _, side := range []struct {
			name      string
			own, peer *KE
		}{{"kei", i, r}, {"ker", r, i}} {
			_, b := wire.AppendPayloads(nil, []wire.Payload{&wire.KE{Group: side.own.Group(), Data: side.own.Public()}})
			equal(t, v["case"]+" "+side.name, b, v[side.name])
			s, err := side.own.Shared(side.peer.Public())
			if err != nil {
				t.Fatal(err)
			}
			equal(t, v["case"]+" shared", s, v["shared"])
		}
	}
}

func TestRFC8031X25519(t *testing.T) {
	for _, v := range vectors(t, "rfc8031_x25519.txt") {
		// Read through GenerateKE, which must use its reader as it stands.
		i, err := GenerateKE(wire.GroupX25519, bytes.NewReader(unhex(t, v["i"])))
		if err != nil {
			t.Fatal(err)
		}
		r, err := GenerateKE(wire.GroupX25519, bytes.NewReader(unhex(t, v["r"])))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "pub_i", i.Public(), v["pubi"])
		equal(t, "pub_r", r.Public(), v["pubr"])
		si, err1 := i.Shared(r.Public())
		sr, err2 := r.Shared(i.Public())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		equal(t, "shared of i", si, v["shared"])
		equal(t, "shared of r", sr, v["shared"])
	}
}

func TestRFC7634SK(t *testing.T) {
	for _, v := range vectors(t, "rfc7634_sk.txt") {
		s := IKE{Encr: wire.EncrChaCha20Poly1305, PRF: wire.PRFHMACSHA256, Group: wire.GroupX25519}
		p, err := NewProtector(s, append(unhex(t, v["key"]), unhex(t, v["salt"])...), nil)
		if err != nil {
			t.Fatal(err)
		}
		msg := unhex(t, v["message"])
		m, err := wire.Parse(msg)
		if err != nil {
			t.Fatal(err)
		}
		enc, _ := wire.Get[*wire.Encrypted](m.Payloads)
		plain, err := p.OpenMessage(msg, enc)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "payloads", plain, v["payloads"])
		ps, err := wire.ParsePayloads(enc.First, plain)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := wire.Get[*wire.Notify](ps); n.NType != wire.NotifySetWindowSize || binary.BigEndian.Uint32(n.Data) != 10 {
			t.Errorf("got %+v", n)
		}
		p.sent = binary.BigEndian.Uint64(unhex(t, v["iv"])) - 1
		sealed, err := p.SealMessage(m.Header, enc.First, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "message", sealed, v["message"])
	}
}

// The prime of group 14 by its formula (RFC 3526, Section 3), with pi from
// Machin's formula, and it is a safe prime.
func TestRFC3526Prime(t *testing.T) {
	const bits = 1918
	arctanInverse := func(n int64, guard uint) *big.Int {
		one := new(big.Int).Lsh(big.NewInt(1), bits+guard)
		sum, power, sq := new(big.Int), new(big.Int).Div(one, big.NewInt(n)), big.NewInt(n*n)
		for k := int64(1); power.Sign() != 0; k += 2 {
			term := new(big.Int).Div(power, big.NewInt(k))
			if k%4 == 1 {
				sum.Add(sum, term)
			} else {
				sum.Sub(sum, term)
			}
			power.Div(power, sq)
		}
		return sum
	}
	const guard = 64
	pi := new(big.Int).Mul(big.NewInt(16), arctanInverse(5, guard))
	pi.Sub(pi, new(big.Int).Mul(big.NewInt(4), arctanInverse(239, guard)))
	pi.Rsh(pi, guard)
	pow := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	want := pow(2048)
	want.Sub(want, pow(1984)).Sub(want, big.NewInt(1))
	want.Add(want, new(big.Int).Lsh(pi.Add(pi, big.NewInt(124476)), 64))
	p := modpPrime()
	if p.Cmp(want) != 0 {
		t.Fatal("prime differs from its formula")
	}
	q := new(big.Int).Rsh(p, 1)
	if !p.ProbablyPrime(1) || !q.ProbablyPrime(1) {
		t.Error("not a safe prime")
	}
}

func TestCurveLengths(t *testing.T) {
	for group, c := range map[uint16]ecdh.Curve{wire.GroupX25519: ecdh.X25519(), wire.GroupECP256: ecdh.P256(), wire.GroupECP384: ecdh.P384()} {
		if got, _ := curveOf(group); got != c {
			t.Errorf("%s: wrong curve", wire.GroupName(group))
		}
	}
}
