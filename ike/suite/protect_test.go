package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// ciphers returns one suite per cipher and integrity algorithm.
func ciphers(t testing.TB) []IKE {
	var out []IKE
	for _, s := range suites(t) {
		if !slices.ContainsFunc(out, func(o IKE) bool { return o.Encr == s.Encr && o.KeyBits == s.KeyBits && o.Integ == s.Integ }) {
			out = append(out, s)
		}
	}
	return out
}

// pair returns the sealing and the opening end of one direction.
func pair(t testing.TB, s IKE) (seal, open *Protector) {
	t.Helper()
	k := derive(t, s)
	seal, err1 := NewProtector(s, k.SKei, k.SKai)
	open, err2 := NewProtector(s, k.SKei, k.SKai)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return seal, open
}

func header() wire.Header {
	return wire.Header{SPIi: 1, SPIr: 2, Exchange: wire.ExchangeIKEAuth, Flags: wire.FlagInitiator, MessageID: 1}
}

// openDatagram parses and opens a whole datagram of either kind.
func openDatagram(p *Protector, b []byte) ([]byte, wire.PayloadType, error) {
	m, err := wire.Parse(b)
	if err != nil {
		return nil, 0, err
	}
	if enc, ok := wire.Get[*wire.Encrypted](m.Payloads); ok {
		plain, err := p.OpenMessage(b, enc)
		return plain, enc.First, err
	}
	if f, ok := wire.Get[*wire.EncryptedFragment](m.Payloads); ok {
		plain, err := p.OpenFragment(b, f)
		return plain, f.First, err
	}
	return nil, 0, errors.New("no encrypted payload")
}

// Every default suite exchanges keys, derives, seals and opens (CVE-2016-3071).
func TestCVE_2016_3071_DefaultSuitesWork(t *testing.T) {
	type exchange struct{ si, sr Secret }
	shared := map[uint16]exchange{}
	for _, g := range groups() {
		i, r := generate(t, g, 1), generate(t, g, 2)
		si, err1 := i.Shared(r.Public())
		sr, err2 := r.Shared(i.Public())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		shared[g] = exchange{si, sr}
	}
	inner := []byte("\x00\x00\x00\x08some")
	for _, s := range suites(t) {
		ki, err1 := Derive(s, testNi, testNr, shared[s.Group].si, 1, 2)
		kr, err2 := Derive(s, testNi, testNr, shared[s.Group].sr, 1, 2)
		if err1 != nil || err2 != nil {
			t.Fatalf("%v: %v %v", s, err1, err2)
		}
		for _, d := range []struct{ se, sa, oe, oa Secret }{{ki.SKei, ki.SKai, kr.SKei, kr.SKai}, {kr.SKer, kr.SKar, ki.SKer, ki.SKar}} {
			seal, err1 := NewProtector(s, d.se, d.sa)
			open, err2 := NewProtector(s, d.oe, d.oa)
			if err1 != nil || err2 != nil {
				t.Fatalf("%v: %v %v", s, err1, err2)
			}
			b, err := seal.SealMessage(header(), wire.PayloadVendor, inner, seeded(1))
			if err != nil {
				t.Fatalf("%v: %v", s, err)
			}
			if plain, first, err := openDatagram(open, b); err != nil || first != wire.PayloadVendor || !bytes.Equal(plain, inner) {
				t.Errorf("%v: %q %v", s, plain, err)
			}
		}
		if bytes.Equal(ki.SKei, ki.SKer) {
			t.Errorf("%v: both directions have one key", s)
		}
	}
}

func TestSealLengths(t *testing.T) {
	for _, s := range ciphers(t) {
		seal, open := pair(t, s)
		for n := range 70 {
			inner := bytes.Repeat([]byte{byte(n)}, n)
			b, err := seal.SealMessage(header(), wire.PayloadNotify, inner, seeded(1))
			if err != nil {
				t.Fatal(err)
			}
			if len(b) != n+seal.Overhead(n) || cap(b) != len(b) {
				t.Errorf("%v: %d octets become %d, overhead says %d", s, n, len(b), seal.Overhead(n))
			}
			before := bytes.Clone(b)
			plain, _, err := openDatagram(open, b)
			if err != nil || !bytes.Equal(plain, inner) {
				t.Errorf("%v, %d octets: %v", s, n, err)
			}
			if !bytes.Equal(b, before) {
				t.Errorf("%v: opening changed the datagram", s)
			}
		}
		big := make([]byte, wire.MaxMessage)
		if _, err := seal.SealMessage(header(), wire.PayloadVendor, big, seeded(1)); err == nil {
			t.Errorf("%v: message above MaxMessage sealed", s)
		}
		fits := wire.MaxMessage - 200
		if b, err := seal.SealMessage(header(), wire.PayloadVendor, big[:fits], seeded(1)); err != nil || len(b) > wire.MaxMessage {
			t.Errorf("%v: %v", s, err)
		}
	}
}

func TestFragments(t *testing.T) {
	for _, s := range ciphers(t) {
		seal, open := pair(t, s)
		b, err := seal.SealFragment(header(), wire.PayloadIDi, 1, 3, []byte("first"), seeded(1))
		if err != nil {
			t.Fatal(err)
		}
		plain, first, err := openDatagram(open, b)
		if err != nil || string(plain) != "first" || first != wire.PayloadIDi {
			t.Errorf("%v: %q %v %v", s, plain, first, err)
		}
		// The fragment numbers are authenticated (RFC 7383, Section 2.5.3).
		b[wire.HeaderLen+7] = 2
		if _, _, err := openDatagram(open, b); !errors.Is(err, ErrAuth) {
			t.Errorf("%v: changed total: %v", s, err)
		}
	}
}

// Independent reading of RFC 5282: nonce = salt | IV, associated data = header
// and SK payload header, tag last.
func TestRFC5282Layout(t *testing.T) {
	s := IKE{Encr: wire.EncrAESGCM16, KeyBits: 256, PRF: wire.PRFHMACSHA256, Group: wire.GroupX25519}
	k := derive(t, s)
	p, err := NewProtector(s, k.SKei, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.SealMessage(header(), wire.PayloadVendor, []byte("content"), nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k.SKei[:32])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := append(bytes.Clone(k.SKei[32:36]), b[32:40]...)
	plain, err := gcm.Open(nil, nonce, b[40:], b[:32])
	if err != nil || string(plain) != "content\x00" {
		t.Errorf("%q %v", plain, err)
	}
	if b[16] != byte(wire.PayloadEncrypted) || b[28] != byte(wire.PayloadVendor) || binary.BigEndian.Uint16(b[30:]) != uint16(len(b)-28) {
		t.Errorf("headers %x", b[:32])
	}
}

// No IV is used twice under one key.
func TestIVsDiffer(t *testing.T) {
	for _, s := range ciphers(t) {
		p, _ := pair(t, s)
		seen := map[string]bool{}
		e, _ := encrOf(s.Encr, s.KeyBits)
		r := seeded(1)
		for range 300 {
			b, err := p.SealMessage(header(), wire.PayloadVendor, nil, r)
			if err != nil {
				t.Fatal(err)
			}
			iv := string(b[32 : 32+e.iv])
			if seen[iv] {
				t.Fatalf("%v: IV %x again", s, iv)
			}
			seen[iv] = true
		}
	}
}

// CVE-2019-11840: the same message under counters that have the same low half.
func TestCVE_2019_11840_IVsBeyond32Bits(t *testing.T) {
	for _, s := range ciphers(t) {
		if !s.AEAD() {
			continue
		}
		p, _ := pair(t, s)
		seen := map[string]bool{}
		for _, high := range []uint64{0, 1, 2, 1 << 31} {
			for _, low := range []uint64{0, 1, 1<<32 - 2, 1<<32 - 1} {
				p.sent = high<<32 + low
				b, err := p.SealMessage(header(), wire.PayloadVendor, make([]byte, 64), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, part := range []string{string(b[32:40]), string(b[40:104])} {
					if seen[part] {
						t.Errorf("%v: %#x: IV or key stream again", s, p.sent)
					}
					seen[part] = true
				}
			}
		}
	}
}

func TestIVExhausted(t *testing.T) {
	p, _ := pair(t, ciphers(t)[0])
	p.sent = 1<<64 - 2
	if _, err := p.SealMessage(header(), wire.PayloadVendor, nil, nil); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := p.SealMessage(header(), wire.PayloadVendor, nil, nil); !errors.Is(err, ErrExhausted) {
			t.Errorf("after the last IV: %v", err)
		}
	}
}

func TestCBCNeedsRandomness(t *testing.T) {
	for _, s := range ciphers(t) {
		p, _ := pair(t, s)
		_, err1 := p.SealMessage(header(), wire.PayloadVendor, nil, nil)
		_, err2 := p.SealMessage(header(), wire.PayloadVendor, nil, strings.NewReader("short"))
		if fails := !s.AEAD(); (err1 != nil) != fails || (err2 != nil) != fails {
			t.Errorf("%v: %v, %v", s, err1, err2)
		}
	}
}

// ADV-D1 (CVE-2019-10155): every flipped bit of every kind of message.
func TestADV_D1_CVE_2019_10155_FlippedBits(t *testing.T) {
	for _, s := range ciphers(t) {
		seal, open := pair(t, s)
		whole, err1 := seal.SealMessage(header(), wire.PayloadVendor, []byte("\x00\x00\x00\x06xx"), seeded(1))
		frag, err2 := seal.SealFragment(header(), wire.PayloadVendor, 1, 2, []byte("\x00\x00\x00\x06xx"), seeded(1))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for _, b := range [][]byte{whole, frag} {
			for i := range len(b) * 8 {
				b[i/8] ^= 1 << (i % 8)
				if _, _, err := openDatagram(open, b); err == nil {
					t.Errorf("%v: accepted with bit %d of octet %d flipped", s, i%8, i/8)
				}
				b[i/8] ^= 1 << (i % 8)
			}
			if _, _, err := openDatagram(open, b); err != nil {
				t.Errorf("%v: unchanged message refused: %v", s, err)
			}
		}
	}
}

// ADV-D3: too short, or not whole blocks. Nothing reaches the cipher.
func TestADV_D3_CVE_2021_43565_ShortSK(t *testing.T) {
	for _, s := range ciphers(t) {
		_, open := pair(t, s)
		for n := range 200 {
			m := &wire.Message{Header: header(), Payloads: []wire.Payload{&wire.Encrypted{First: wire.PayloadVendor, Body: make([]byte, n)}}}
			if _, _, err := openDatagram(open, m.Append(nil)); !errors.Is(err, ErrAuth) {
				t.Errorf("%v, %d octets: %v", s, n, err)
			}
		}
		// A caller who gives the wrong place gets a refusal.
		for _, enc := range []*wire.Encrypted{{}, {Off: 1000, Body: make([]byte, 100)}, {Off: -1, Body: make([]byte, 100)}, {Off: 28, Body: make([]byte, 100)}} {
			if _, err := open.OpenMessage(make([]byte, 90), enc); !errors.Is(err, ErrAuth) {
				t.Errorf("%v: %v", s, err)
			}
		}
	}
}

// CVE-2026-46597: lengths at which an octet, or a signed half word, turns over.
func TestCVE_2026_46597_LengthExtremes(t *testing.T) {
	for _, s := range ciphers(t) {
		seal, open := pair(t, s)
		for _, around := range []int{128, 256, 512, 4096, 32768, 65280} {
			for n := around - 36; n <= around+2; n++ {
				inner := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, (n+1)/2)[:n]
				b, err := seal.SealMessage(header(), wire.PayloadVendor, inner, seeded(1))
				if err != nil {
					t.Fatalf("%v, %d octets: %v", s, n, err)
				}
				if plain, _, err := openDatagram(open, b); err != nil || !bytes.Equal(plain, inner) {
					t.Fatalf("%v, %d octets come out as %d: %v", s, n, len(plain), err)
				}
				if n != around {
					continue
				}
				// The payload's length field says something else.
				for _, lie := range []int{0, 3, 4, 0xff, 0x100, 0x7fff, 0x8000, 0xfffc, 0xffff} {
					c := bytes.Clone(b)
					if binary.BigEndian.PutUint16(c[30:], uint16(lie)); bytes.Equal(c, b) {
						continue
					}
					if _, _, err := openDatagram(open, c); err == nil {
						t.Fatalf("%v: opened with length %d", s, lie)
					}
				}
			}
		}
	}
}

// sealRaw seals a body as it stands: content, padding and pad length octet.
func sealRaw(t *testing.T, p *Protector, body []byte) []byte {
	t.Helper()
	e, _ := encrOf(p.suite.Encr, p.suite.KeyBits)
	h := header()
	h.Next = wire.PayloadEncrypted
	total := wire.HeaderLen + 4 + e.iv + len(body) + p.icv(e)
	h.Length = uint32(total)
	b := h.Append(make([]byte, 0, total))
	b = append(b, byte(wire.PayloadVendor), 0, byte((total-28)>>8), byte(total-28))
	b = append(b, bytes.Repeat([]byte{7}, e.iv)...)
	b = append(b, body...)
	b = b[:total]
	off := 32 + e.iv
	var err error
	if e.aead {
		err = p.sealAEAD(b[:32], b[32:off], b[off:off+len(body)])
	} else {
		err = p.sealCBC(b, b[32:off], b[off:off+len(body)])
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ADV-D4 (free5gc 997): every pad length under a valid ICV.
func TestADV_D4_ROW_78_PadLength(t *testing.T) {
	for _, s := range ciphers(t) {
		seal, open := pair(t, s)
		for pad := range 256 {
			for _, n := range []int{16, 32, 256} {
				body := bytes.Repeat([]byte{0xaa}, n) // pad octets of any value
				body[n-1] = byte(pad)
				plain, _, err := openDatagram(open, sealRaw(t, seal, body))
				if pad <= n-1 {
					if err != nil || !bytes.Equal(plain, body[:n-1-pad]) {
						t.Errorf("%v: pad %d of %d: %v", s, pad, n, err)
					}
					continue
				}
				var pe *wire.ParseError
				if !errors.As(err, &pe) || pe.Code != wire.NotifyInvalidSyntax || errors.Is(err, ErrAuth) {
					t.Errorf("%v: pad %d of %d: %v", s, pad, n, err)
				}
			}
		}
	}
}

func TestNewProtectorKeyLengths(t *testing.T) {
	for _, s := range ciphers(t) {
		k := derive(t, s)
		for _, bad := range []struct{ e, a Secret }{
			{k.SKei[1:], k.SKai}, {append(bytes.Clone(k.SKei), 0), k.SKai}, {nil, k.SKai}, {k.SKei, append(bytes.Clone(k.SKai), 0)},
		} {
			if _, err := NewProtector(s, bad.e, bad.a); err == nil {
				t.Errorf("%v: %d and %d octets accepted", s, len(bad.e), len(bad.a))
			}
		}
	}
}

// An idle protector is small: it keeps keys, not ciphers.
func TestProtectorSize(t *testing.T) {
	const n = 1000
	for _, s := range ciphers(t) {
		k := derive(t, s)
		keep := make([]*Protector, n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range keep {
			p, err := NewProtector(s, k.SKei, k.SKai)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.SealMessage(header(), wire.PayloadVendor, nil, seeded(1)); err != nil {
				t.Fatal(err)
			}
			keep[i] = p
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if per := int64(after.HeapAlloc-before.HeapAlloc) / n; per > 320 {
			t.Errorf("%v: %d octets each", s, per)
		}
		runtime.KeepAlive(keep)
	}
}

// FuzzOpen feeds datagrams to both kinds of protector: nothing but what was
// sealed opens.
func FuzzOpen(f *testing.F) {
	suites := []IKE{
		{Encr: wire.EncrChaCha20Poly1305, PRF: wire.PRFHMACSHA256, Group: wire.GroupX25519},
		{Encr: wire.EncrAESCBC, KeyBits: 128, Integ: wire.IntegHMACSHA256, PRF: wire.PRFHMACSHA256, Group: wire.GroupX25519},
	}
	sealed := map[string]bool{}
	var open []*Protector
	for _, s := range suites {
		seal, o := pair(f, s)
		open = append(open, o)
		for n := range 3 {
			b, err := seal.SealMessage(header(), wire.PayloadVendor, make([]byte, 20*n), seeded(1))
			if err != nil {
				f.Fatal(err)
			}
			sealed[string(b)] = true
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range open {
			if _, _, err := openDatagram(p, b); err == nil && !sealed[string(b)] {
				t.Fatalf("opened %x", b)
			}
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	for _, s := range ciphers(b) {
		b.Run(s.String(), func(b *testing.B) {
			seal, open := pair(b, s)
			inner, r := make([]byte, 300), seeded(1)
			b.ReportAllocs()
			for b.Loop() {
				m, err := seal.SealMessage(header(), wire.PayloadVendor, inner, r)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := openDatagram(open, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
