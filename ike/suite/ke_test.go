package suite

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

func groups() []uint16 {
	return []uint16{wire.GroupX25519, wire.GroupECP256, wire.GroupECP384, wire.GroupMODP2048}
}

func seeded(n byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{n}) }

func generate(t testing.TB, group uint16, seed byte) *KE {
	t.Helper()
	k, err := GenerateKE(group, seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestExchange(t *testing.T) {
	for _, g := range groups() {
		i, r := generate(t, g, 1), generate(t, g, 2)
		if bytes.Equal(i.Public(), r.Public()) {
			t.Errorf("group %d: equal keys", g)
		}
		if again := generate(t, g, 1); !bytes.Equal(i.Public(), again.Public()) {
			t.Errorf("group %d: the same randomness makes another key", g)
		}
		si, err1 := i.Shared(r.Public())
		sr, err2 := r.Shared(i.Public())
		if err1 != nil || err2 != nil || !bytes.Equal(si, sr) || len(si) == 0 {
			t.Errorf("group %d: %v %v", g, err1, err2)
		}
		if len(i.Public()) != KELen(g) || i.Group() != g {
			t.Errorf("group %d: %d octets", g, len(i.Public()))
		}
	}
}

// ADV-B14 (CVE-2014-9221): every other group number is refused.
func TestADV_B14_CVE_2014_9221_AllGroups(t *testing.T) {
	for g := range 65536 {
		known := g == 14 || g == 19 || g == 20 || g == 31
		if (KELen(uint16(g)) != 0) != known {
			t.Fatalf("group %d", g)
		}
		if known {
			continue
		}
		if _, err := GenerateKE(uint16(g), nil); !errors.Is(err, errGroup) {
			t.Fatalf("group %d: %v", g, err)
		}
	}
}

// ADV-B15 (CVE-2023-41913): public values of the wrong length.
func TestADV_B15_CVE_2023_41913_ROW_24_PublicLength(t *testing.T) {
	for _, g := range groups() {
		k, peer := generate(t, g, 1), generate(t, g, 2).Public()
		for n := range 2*KELen(g) + 2 {
			b := append(bytes.Clone(peer), make([]byte, len(peer)+2)...)[:n]
			if _, err := k.Shared(b); n != KELen(g) && !errors.Is(err, errPublicLen) {
				t.Errorf("group %d, %d octets: %v", g, n, err)
			}
		}
		if _, err := k.Shared(make([]byte, 65000)); !errors.Is(err, errPublicLen) {
			t.Errorf("group %d, 65000 octets: %v", g, err)
		}
	}
}

// ADV-B16 (CVE-2015-3240, free5gc 972): public values outside the group.
func TestADV_B16_CVE_2015_3240_ROW_80_PublicValue(t *testing.T) {
	refuse := func(name string, k *KE, peer []byte) {
		t.Helper()
		if s, err := k.Shared(peer); !errors.Is(err, errPublic) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, modp := modpPrime(), generate(t, wire.GroupMODP2048, 1)
	for name, y := range map[string]*big.Int{
		"0": big.NewInt(0), "1": big.NewInt(1),
		"p-1": new(big.Int).Sub(p, big.NewInt(1)), "p": p, "p+1": new(big.Int).Add(p, big.NewInt(1)),
		"2^2048-1": new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(1)),
	} {
		refuse("MODP "+name, modp, y.FillBytes(make([]byte, modpLen)))
	}
	for name, y := range map[string]*big.Int{"2": big.NewInt(2), "p-2": new(big.Int).Sub(p, big.NewInt(2))} {
		if _, err := modp.Shared(y.FillBytes(make([]byte, modpLen))); err != nil {
			t.Errorf("MODP %s: %v", name, err)
		}
	}
	for _, g := range []uint16{wire.GroupECP256, wire.GroupECP384} {
		k, good := generate(t, g, 1), generate(t, g, 2).Public()
		n := len(good)
		name := wire.GroupName(g)
		refuse(name+" infinity", k, make([]byte, n))
		off := bytes.Clone(good)
		off[n-1] ^= 1
		refuse(name+" off the curve", k, off)
		refuse(name+" x without y", k, append(bytes.Clone(good[:n/2]), make([]byte, n/2)...))
		refuse(name+" coordinates above the field", k, bytes.Repeat([]byte{0xff}, n))
		refuse(name+" swapped coordinates", k, append(bytes.Clone(good[n/2:]), good[:n/2]...))
	}
	// The points of small order on Curve25519 and their non-canonical forms
	// (RFC 7748, Section 7): little-endian u.
	x := generate(t, wire.GroupX25519, 1)
	field := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	order8a, _ := new(big.Int).SetString("325606250916557431795983626356110631294008115727848805560023387167927233504", 10)
	order8b, _ := new(big.Int).SetString("39382357235489614581723060781553021112529911719440698176882885853963445705823", 10)
	for name, u := range map[string]*big.Int{
		"0": big.NewInt(0), "1": big.NewInt(1), "order 8 a": order8a, "order 8 b": order8b,
		"p-1": new(big.Int).Sub(field, big.NewInt(1)), "p": field, "p+1": new(big.Int).Add(field, big.NewInt(1)),
	} {
		b := u.FillBytes(make([]byte, 32))
		for i, j := 0, 31; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		refuse("X25519 "+name, x, b)
		b[31] |= 0x80 // the top bit is masked (RFC 7748, Section 5)
		refuse("X25519 "+name+" with the top bit", x, b)
	}
}

// The shared secret of MODP keeps its leading zeros (RFC 7296, Section 2.14).
func TestMODPFixedWidth(t *testing.T) {
	k := newMODP(big.NewInt(1)) // g^1 = 2
	if got := k.Public(); len(got) != modpLen || got[modpLen-1] != 2 || !bytes.Equal(got[:modpLen-1], make([]byte, modpLen-1)) {
		t.Errorf("public value %x", got)
	}
	peer := big.NewInt(0xabcd).FillBytes(make([]byte, modpLen))
	s, err := k.Shared(peer)
	if err != nil || !bytes.Equal(s, peer) {
		t.Errorf("shared secret %d octets: %v", len(s), err)
	}
}

// A reader that fails or yields no scalar is an error and no key.
func TestGenerateBadReader(t *testing.T) {
	for _, g := range groups() {
		if _, err := GenerateKE(g, strings.NewReader("short")); err == nil {
			t.Errorf("group %d: key from five octets", g)
		}
	}
	zeros := bytes.NewReader(make([]byte, 1<<14))
	if _, err := GenerateKE(wire.GroupECP256, zeros); err == nil {
		t.Error("key from zeros")
	}
	// The first scalar is above the order and is drawn again.
	r := bytes.NewReader(append(bytes.Repeat([]byte{0xff}, 32), bytes.Repeat([]byte{1}, 32)...))
	if _, err := GenerateKE(wire.GroupECP256, r); err != nil {
		t.Error(err)
	}
}

func TestKERedacted(t *testing.T) {
	k := generate(t, wire.GroupX25519, 1)
	priv := k.ec.Bytes()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, v := range []any{k, *k, struct{ K *KE }{k}} {
			s := fmt.Sprintf(verb, v)
			if strings.Contains(s, fmt.Sprintf("%x", priv[:4])) || strings.Contains(s, strings.Trim(fmt.Sprint(priv[:4]), "[]")) {
				t.Errorf("%s shows the key: %s", verb, s)
			}
		}
	}
}

func BenchmarkKE(b *testing.B) {
	for _, g := range groups() {
		b.Run(wire.GroupName(g), func(b *testing.B) {
			b.ReportAllocs()
			peer, r := generate(b, g, 2).Public(), seeded(1)
			for b.Loop() {
				k, err := GenerateKE(g, r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := k.Shared(peer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
