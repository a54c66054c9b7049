package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// TestSignChoosesAnnouncedHash walks every list a peer can announce (RFC 7427, Section 4).
func TestSignChoosesAnnouncedHash(t *testing.T) {
	all := []uint16{wire.HashSHA1, wire.HashSHA256, wire.HashSHA384, wire.HashSHA512, wire.HashIdentity, 9}
	octets := []byte("octets")
	for _, kind := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		key := generate(t, kind)
		for set := 1; set < 1<<len(all); set++ {
			var hashes []uint16
			for i, h := range all {
				if set&(1<<i) != 0 {
					hashes = append(hashes, h)
				}
			}
			possible := slices.ContainsFunc(choices(kind), func(c choice) bool { return slices.Contains(hashes, c.hash) })
			a, err := Sign(key, octets, hashes)
			if !possible {
				wantReason(t, err, ReasonHash)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			alg := parseAlgorithm(a.Data[1 : 1+int(a.Data[0])])
			if !slices.Contains(hashes, alg.hash) || alg.hash == wire.HashSHA1 {
				t.Errorf("%v with %v announced: signed with %s", kind, hashes, wire.HashName(alg.hash))
			}
			if err := Verify(key.Public(), &a, octets, Rules{Hashes: hashes}); err != nil {
				t.Errorf("%v with %v announced: %v", kind, hashes, err)
			}
		}
	}
	_, err := Sign(generate(t, KindEd25519), octets, nil)
	wantReason(t, err, ReasonHash) // RFC 8420, Section 2: MUST NOT be sent
	_, err = Sign(generate(t, KindEd25519), octets, make([]uint16, 30000))
	if wantReason(t, err, ReasonHash); len(err.Error()) > 300 {
		t.Errorf("an error of %d octets", len(err.Error()))
	}
}

// brokenSigner returns what it is told to.
type brokenSigner struct {
	pub crypto.PublicKey
	sig []byte
	err error
}

func (b brokenSigner) Public() crypto.PublicKey { return b.pub }
func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return b.sig, b.err
}

func TestSignWithBrokenKeys(t *testing.T) {
	pub := generate(t, KindECDSAP256).Public()
	failure := errors.New("token removed")
	if _, err := Sign(brokenSigner{pub, nil, failure}, nil, Hashes()); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if _, err := Sign(brokenSigner{pub, nil, failure}, nil, nil); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	for _, sig := range [][]byte{nil, {1, 2, 3}, derSignature([]byte{1}, bytes.Repeat([]byte{0xff}, 33)), append(derSignature([]byte{1}, []byte{1}), 0)} {
		if _, err := Sign(brokenSigner{pub, sig, nil}, nil, nil); err == nil {
			t.Errorf("%x passed for a signature", sig)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Sign(other, nil, Hashes())
	wantReason(t, err, ReasonKey)
}

// TestADV_D12_ROW_97_HashNotAnnounced has signatures that are right and must not count.
func TestADV_D12_ROW_97_HashNotAnnounced(t *testing.T) {
	octets := []byte("octets")
	rules := Rules{Hashes: []uint16{wire.HashSHA384}}

	p256 := generate(t, KindECDSAP256)
	a := mustSign(t, p256, octets, []uint16{wire.HashSHA256})
	wantReason(t, Verify(p256.Public(), &a, octets, rules), ReasonHash)
	a = mustSign(t, p256, octets, []uint16{wire.HashSHA384})
	if err := Verify(p256.Public(), &a, octets, rules); err != nil {
		t.Error(err)
	}
	ed := generate(t, KindEd25519)
	a = mustSign(t, ed, octets, []uint16{wire.HashIdentity})
	wantReason(t, Verify(ed.Public(), &a, octets, rules), ReasonHash)
	wantReason(t, Verify(ed.Public(), &a, octets, Rules{Hashes: []uint16{}}), ReasonHash)

	// SHA-1, rightly signed, even if somebody announced it: RFC 8247, Section 4.2.
	sha1 := Rules{Hashes: []uint16{wire.HashSHA1, wire.HashSHA256}}
	digest := crypto.SHA1.New()
	digest.Write(octets)
	sig, err := p256.Sign(rand.Reader, digest.Sum(nil), crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, Verify(p256.Public(), digital(derECDSASHA1, sig), octets, sha1), ReasonHash)
	rk := testRSA(t)
	sig, err = rsa.SignPKCS1v15(nil, rk, crypto.SHA1, digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, Verify(rk.Public(), digital(derRSASHA1, sig), octets, sha1), ReasonHash)
	sig, err = rsa.SignPSS(rand.Reader, rk, crypto.SHA1, digest.Sum(nil), &rsa.PSSOptions{SaltLength: 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{derPSSEmpty, derPSSSHA1} {
		wantReason(t, Verify(rk.Public(), digital(alg, sig), octets, sha1), ReasonHash)
	}
	// The method of RFC 4754 is no way round it.
	legacy := mustSign(t, p256, octets, nil)
	wantReason(t, Verify(p256.Public(), &legacy, octets, Rules{Hashes: []uint16{wire.HashSHA384}, Legacy: true}), ReasonHash)
}

// TestADV_D11_CVE_2020_16088_WrongSignature has the right method and a signature that is not one.
func TestADV_D11_CVE_2020_16088_WrongSignature(t *testing.T) {
	octets := []byte("octets that were signed")
	for _, kind := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		t.Run(kind.String(), func(t *testing.T) {
			key := generate(t, kind)
			for _, hashes := range [][]uint16{Hashes(), nil} {
				if kind == KindEd25519 && hashes == nil {
					continue
				}
				a := mustSign(t, key, octets, hashes)
				rules := Rules{Legacy: true}
				if err := Verify(key.Public(), &a, octets, rules); err != nil {
					t.Fatal(err)
				}
				if err := Verify(generate(t, kind).Public(), &a, octets, rules); err == nil {
					t.Error("another key verifies it")
				}
				if err := Verify(key.Public(), &a, octets[1:], rules); err == nil {
					t.Error("it verifies other octets")
				}
				for i := range a.Data {
					if Verify(key.Public(), &wire.Auth{Method: a.Method, Data: a.Data[:i]}, octets, rules) == nil {
						t.Errorf("cut to %d octets it verifies", i)
					}
					for _, bit := range bitsToFlip(kind, i) {
						x := bytes.Clone(a.Data)
						x[i] ^= 1 << bit
						if Verify(key.Public(), &wire.Auth{Method: a.Method, Data: x}, octets, rules) == nil {
							t.Errorf("with bit %d of octet %d changed it verifies", bit, i)
						}
					}
				}
				for _, tail := range [][]byte{{0}, make([]byte, 4096)} {
					if Verify(key.Public(), &wire.Auth{Method: a.Method, Data: append(bytes.Clone(a.Data), tail...)}, octets, rules) == nil {
						t.Errorf("with %d octets behind it verifies", len(tail))
					}
				}
			}
		})
	}
}

// TestADV_D11_ECDSA has r and s at the edges, and encodings of a right signature that are not DER.
func TestADV_D11_ECDSA(t *testing.T) {
	octets := []byte("octets")
	key := generate(t, KindECDSAP256).(*ecdsa.PrivateKey)
	pub := key.Public()
	n := elliptic.P256().Params().N
	a := mustSign(t, key, octets, nil)
	r, s := a.Data[:32], a.Data[32:]
	if err := Verify(pub, digital(derECDSASHA256, derSignature(r, s)), octets, Rules{}); err != nil {
		t.Fatal(err)
	}
	wide := func(b []byte) []byte { return new(big.Int).SetBytes(b).FillBytes(make([]byte, 32)) }
	for name, v := range map[string][2][]byte{
		"r=0": {nil, s}, "s=0": {r, nil}, "both 0": {nil, nil},
		"r=n": {n.Bytes(), s}, "s=n": {r, n.Bytes()}, "both n": {n.Bytes(), n.Bytes()},
		"r+n": {new(big.Int).Add(new(big.Int).SetBytes(r), n).Bytes(), s},
		"s+n": {r, new(big.Int).Add(new(big.Int).SetBytes(s), n).Bytes()},
		"1,1": {{1}, {1}},
	} {
		wantReason(t, Verify(pub, digital(derECDSASHA256, derSignature(v[0], v[1])), octets, Rules{}), ReasonWrong)
		if len(v[0]) <= 32 && len(v[1]) <= 32 {
			raw := &wire.Auth{Method: wire.AuthMethodECDSA256, Data: append(wide(v[0]), wide(v[1])...)}
			if err := Verify(pub, raw, octets, Rules{Legacy: true}); err == nil {
				t.Errorf("%s verifies", name)
			}
		}
	}
	right := derSignature(r, s)
	body := right[2:]
	sInt := derSignature(nil, s)[5:] // behind 30 len 02 01 00
	for name, sig := range map[string][]byte{
		"long form length":   append([]byte{0x30, 0x81, byte(len(body))}, body...),
		"longer form length": append([]byte{0x30, 0x82, 0, byte(len(body))}, body...),
		"indefinite length":  append(append([]byte{0x30, 0x80}, body...), 0, 0),
		"padded integer":     der(0x30, append(der(2, append([]byte{0, 0}, r...)), sInt...)),
		"negative integer":   der(0x30, append(der(2, append([]byte{0x80}, r[1:]...)), sInt...)),
		"empty integer":      der(0x30, append(der(2, nil), sInt...)),
		"third integer":      der(0x30, append(bytes.Clone(body), 2, 1, 1)),
		"raw form":           append(bytes.Clone(r), s...),
		"octet string":       append([]byte{0x04}, right[1:]...),
		"nothing":            {0x30, 0},
	} {
		if err := Verify(pub, digital(derECDSASHA256, sig), octets, Rules{}); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
}

// TestADV_D11_Ed25519 has S + L (RFC 8032, Section 5.1.7), and keys for which anybody can sign.
func TestADV_D11_Ed25519(t *testing.T) {
	octets := []byte("octets")
	key := generate(t, KindEd25519)
	a := mustSign(t, key, octets, Hashes())
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	sig := bytes.Clone(a.Data[len(a.Data)-64:])
	le := sig[32:]
	slices.Reverse(le)
	new(big.Int).Add(new(big.Int).SetBytes(le), order).FillBytes(le)
	slices.Reverse(le)
	wantReason(t, Verify(key.Public(), digital(derEd25519, sig), octets, Rules{}), ReasonWrong)

	const size = ed25519.PublicKeySize
	for i := 0; i < len(ed25519SmallOrder); i += size {
		for _, sign := range []byte{0, 0x80} {
			k := []byte(ed25519SmallOrder[i : i+size])
			k[31] |= sign
			spki := SPKI(ed25519.PublicKey(k))
			if _, err := ParseSPKI(spki); err == nil || !strings.Contains(err.Error(), "small order") {
				t.Errorf("%x: %v", k, err)
			}
			wantReason(t, VerifySPKI(spki, &a, octets, Rules{}), ReasonKey)
		}
	}
	for last := 0xed; last <= 0xff; last++ { // y = p … 2^255-1, the second encodings
		k := bytes.Repeat([]byte{0xff}, size)
		k[0], k[31] = byte(last), 0x7f
		if _, err := ParseSPKI(SPKI(ed25519.PublicKey(k))); err == nil || !strings.Contains(err.Error(), "one encoding") {
			t.Errorf("%x: %v", k, err)
		}
	}
	// The identity point "signs" everything with R = S·B: the reason why it is refused.
	identity := ed25519.PublicKey([]byte(ed25519SmallOrder[:size]))
	forged := append(bytes.Clone(identity), make([]byte, 32)...)
	if !ed25519.Verify(identity, octets, forged) {
		t.Error("the library refuses small orders itself now")
	}
}

// TestADV_D11_RSA has forgeries against lax padding checks, short hashes and wrong salts.
func TestADV_D11_RSA(t *testing.T) {
	octets := []byte("octets")
	h := crypto.SHA256
	digest := sum(h, octets)
	info := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest...)

	key := testRSA(t)
	raw := func(em []byte) []byte {
		return new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, key.Size()))
	}
	pad := func(t []byte) []byte {
		em := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, key.Size()-3-len(t))...)
		return append(append(em, 0), t...)
	}
	if err := Verify(key.Public(), digital(derRSASHA256, raw(pad(info))), octets, Rules{}); err != nil {
		t.Fatalf("the test's own signature: %v", err)
	}
	garbage := append([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, info...)
	garbage = append(garbage, bytes.Repeat([]byte{7}, key.Size()-len(garbage))...)
	for name, sig := range map[string][]byte{
		"CVE-2026-50721 short hash":         raw(pad(info[:len(info)-1])),
		"no hash info":                      raw(pad(digest)),
		"empty hash":                        raw(pad(info[:19])),
		"long hash":                         raw(pad(append(bytes.Clone(info), 0))),
		"hash without NULL":                 raw(pad(append([]byte("\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20"), digest...))),
		"CVE-2026-50722 BER length":         raw(pad(append([]byte{0x30, 0x81}, info[1:]...))),
		"CVE-2018-16152 parameters garbage": raw(pad(append([]byte("\x30\x33\x30\x0f\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x02\x00\x00\x04\x20"), digest...))),
		"CVE-2018-16151 garbage behind":     raw(garbage),
		"block type 2":                      raw(append([]byte{0, 2}, pad(info)[2:]...)),
		"zero":                              make([]byte, key.Size()),
		"one":                               append(make([]byte, key.Size()-1), 1),
		"CVE-2017-11185 the modulus":        key.N.Bytes(),
		"one octet short":                   raw(pad(info))[1:],
		"one octet more":                    append(raw(pad(info)), 0),
		"leading zero and more":             append([]byte{0}, raw(pad(info))...),
	} {
		if err := Verify(key.Public(), digital(derRSASHA256, sig), octets, Rules{}); err == nil {
			t.Errorf("%s verifies", name)
		}
	}

	// Bleichenbacher 2006: with e = 3 a cube root gives a signature that verifiers accept which
	// don't check that the hash is the end.
	e3 := rsaE3(t)
	target := append([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, info...)
	target = append(target, make([]byte, 256-len(target))...)
	root := cubeRoot(new(big.Int).SetBytes(target))
	cube := new(big.Int).Exp(root, big.NewInt(3), e3.N).FillBytes(make([]byte, 256))
	if !bytes.Equal(cube[:len(info)+11], target[:len(info)+11]) {
		t.Fatal("the forgery would not even deceive a lax verifier")
	}
	wantReason(t, Verify(e3, digital(derRSASHA256, root.FillBytes(make([]byte, 256))), octets, Rules{}), ReasonWrong)

	for _, salt := range []int{0, 20, 31, 33, 64, rsa.PSSSaltLengthAuto} {
		sig, err := rsa.SignPSS(rand.Reader, key, h, digest, &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, Verify(key.Public(), digital(string(derPSS(wire.HashSHA256, 0)), sig), octets, Rules{}), ReasonWrong)
	}
	good := derPSS(wire.HashSHA256, 0)
	at := bytes.Index(good, []byte{0xa2, 0x03, 0x02, 0x01, 0x20})
	for name, salt := range map[string][]byte{
		"CVE-2021-41990 2^31": {0xa2, 0x07, 0x02, 0x05, 0x00, 0x80, 0x00, 0x00, 0x00},
		"2^31-1":              {0xa2, 0x06, 0x02, 0x04, 0x7f, 0xff, 0xff, 0xff},
		"-1":                  {0xa2, 0x03, 0x02, 0x01, 0xff},
		"not small":           {0xa2, 0x04, 0x02, 0x02, 0x00, 0x20},
		"absent":              {},
	} {
		alg := append(append(bytes.Clone(good[:at]), salt...), good[at+5:]...)
		alg[1] += byte(len(salt) - 5)
		alg[14] += byte(len(salt) - 5)
		err := Verify(key.Public(), digital(string(alg), make([]byte, 256)), octets, Rules{})
		if err == nil {
			t.Errorf("salt %s verifies", name)
		}
		wantReason(t, err, ReasonEncoding)
	}
}

// TestADV_D11_CVE_2026_14957_CVE_2017_9022_DegenerateKeys refuses keys before any arithmetic with them.
func TestADV_D11_CVE_2026_14957_CVE_2017_9022_DegenerateKeys(t *testing.T) {
	n := testRSA(t).N
	big65536 := new(big.Int).Lsh(big.NewInt(1), 65535)
	big65536.SetBit(big65536, 0, 1)
	for name, spki := range map[string][]byte{
		"8 bits":           rawRSASPKI(t, big.NewInt(187), big.NewInt(3)),
		"1 bit":            rawRSASPKI(t, big.NewInt(1), big.NewInt(3)),
		"zero modulus":     rawRSASPKI(t, big.NewInt(0), big.NewInt(3)),
		"negative modulus": rawRSASPKI(t, new(big.Int).Neg(n), big.NewInt(65537)),
		"even modulus":     rawRSASPKI(t, new(big.Int).SetBit(n, 0, 0), big.NewInt(65537)),
		"2047 bits":        rawRSASPKI(t, new(big.Int).SetBit(new(big.Int).Rsh(n, 1), 0, 1), big.NewInt(65537)),
		"8193 bits":        rawRSASPKI(t, new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 8192), 0, 1), big.NewInt(65537)),
		"65536 bits":       rawRSASPKI(t, big65536, big.NewInt(65537)),
		"exponent 0":       rawRSASPKI(t, n, big.NewInt(0)),
		"exponent 1":       rawRSASPKI(t, n, big.NewInt(1)),
		"exponent 2":       rawRSASPKI(t, n, big.NewInt(2)),
		"exponent -3":      rawRSASPKI(t, n, big.NewInt(-3)),
		"even exponent":    rawRSASPKI(t, n, big.NewInt(65536)),
		"2^32 exponent":    rawRSASPKI(t, n, big.NewInt(1<<32+1)),
		"exponent like n":  rawRSASPKI(t, n, new(big.Int).Sub(n, big.NewInt(2))),
	} {
		if _, err := ParseSPKI(spki); err == nil {
			t.Errorf("%s is accepted", name)
		}
		wantReason(t, VerifySPKI(spki, digital(derRSASHA256, make([]byte, 256)), nil, Rules{}), ReasonKey)
	}
	// Keys that come not through ParseSPKI are checked again.
	wantReason(t, Verify(&rsa.PublicKey{N: big.NewInt(187), E: 3}, digital(derRSASHA256, []byte{1}), nil, Rules{}), ReasonKey)
	wantReason(t, Verify(ed25519.PublicKey{1, 2}, digital(derEd25519, make([]byte, 64)), nil, Rules{}), ReasonKey)
	wantReason(t, Verify(nil, digital(derEd25519, make([]byte, 64)), nil, Rules{}), ReasonKey)
	wantReason(t, Verify(testRSA(t).Public(), digital(derEd25519, make([]byte, 64)), nil, Rules{}), ReasonKey)
	wantReason(t, Verify(testRSA(t).Public(), &wire.Auth{Method: 14, Data: make([]byte, MaxAuthData+1)}, nil, Rules{}), ReasonEncoding)
}

// rsaE3 makes an RSA key with exponent 3.
func rsaE3(t *testing.T) *rsa.PublicKey {
	t.Helper()
	n := new(big.Int)
	for n.BitLen() != 2048 {
		n.SetInt64(1)
		for range 2 {
			for {
				p, err := rand.Prime(rand.Reader, 1024)
				if err != nil {
					t.Fatal(err)
				}
				if new(big.Int).Mod(p, big.NewInt(3)).Int64() == 2 {
					n.Mul(n, p)
					break
				}
			}
		}
	}
	return &rsa.PublicKey{N: n, E: 3}
}

// cubeRoot returns the least x with x^3 >= v.
func cubeRoot(v *big.Int) *big.Int {
	low, high := big.NewInt(0), new(big.Int).Lsh(big.NewInt(1), uint(v.BitLen()/3+1))
	for low.Cmp(high) < 0 {
		mid := new(big.Int).Rsh(new(big.Int).Add(low, high), 1)
		if new(big.Int).Exp(mid, big.NewInt(3), nil).Cmp(v) < 0 {
			low = mid.Add(mid, big.NewInt(1))
		} else {
			high = mid
		}
	}
	return low
}

// bitsToFlip is all bits of an octet, or one of them where verifying is slow.
func bitsToFlip(kind Kind, octet int) []int {
	if kind == KindECDSAP384 {
		return []int{octet % 8}
	}
	return []int{0, 1, 2, 3, 4, 5, 6, 7}
}
