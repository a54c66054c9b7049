package esp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// allSuites are the suites under test, one of each kind and key length.
func allSuites(t testing.TB) []Suite {
	t.Helper()
	var out []Suite
	for _, name := range []string{
		"aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305",
		"aes128-sha256", "aes256-sha384", "aes256-sha512", "null-sha256", "null-sha384", "null-sha512",
	} {
		s, err := ParseSuite(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func suite(t testing.TB, name string) Suite {
	t.Helper()
	s, err := ParseSuite(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testConfig(s Suite) Config {
	key := make(Key, s.KeyLen())
	for i := range key {
		key[i] = byte(i*7 + 3)
	}
	return Config{SPI: 0xc0ffee01, Suite: s, Key: key, Mode: ModeTransport}
}

// pair makes the two ends of one SA.
func pair(t testing.TB, c Config) (*Outbound, *Inbound) {
	t.Helper()
	o, err := NewOutbound(c)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewInbound(c)
	if err != nil {
		t.Fatal(err)
	}
	return o, i
}

// packet puts a payload in a buffer with the room that every buffer has.
func packet(payload []byte, next uint8) Packet {
	b := make([]byte, Headroom+len(payload)+Tailroom)
	copy(b[Headroom:], payload)
	return Packet{Buf: b, Off: Headroom, Len: len(payload), Next: next}
}

// received puts an ESP packet in a buffer of its own.
func received(b []byte) Packet {
	return Packet{Buf: append([]byte(nil), b...), Len: len(b)}
}

// sealed returns one sealed packet as it goes over the wire.
func sealed(t testing.TB, o *Outbound, payload []byte, next uint8) []byte {
	t.Helper()
	var w Worker
	p := []Packet{packet(payload, next)}
	if d := o.Seal(&w, p); d != Pass || p[0].Drop != Pass {
		t.Fatalf("seal: %s, %s", d, p[0].Drop)
	}
	return append([]byte(nil), p[0].Payload()...)
}

// crafted seals a plaintext that already ends with whatever its sender takes for a
// trailer, under any sequence number: what a peer with the key can do.
func crafted(t testing.TB, o *Outbound, plain []byte, seq uint64) []byte {
	t.Helper()
	var w Worker
	st := o.crypt.Load()
	copy(w.nonce[:], st.salt[:])
	p := packet(plain, 0)
	if st.etm == nil {
		st.seal(&w, &p, len(plain), seq, seq)
	} else {
		st.sealETM(&w, st.etm.get(), &p, len(plain), seq)
	}
	return append([]byte(nil), p.Payload()...)
}

func openOne(i *Inbound, b []byte) Packet {
	var w Worker
	p := []Packet{received(b)}
	i.Open(&w, p)
	return p[0]
}

func wantDrop(t *testing.T, what string, i *Inbound, b []byte, want Drop) Packet {
	t.Helper()
	p := openOne(i, b)
	if p.Drop != want {
		t.Errorf("%s: %s, want %s", what, p.Drop, want)
	}
	if p.Drop != Pass && p.Len != 0 {
		t.Errorf("%s: dropped, but Len is %d", what, p.Len)
	}
	return p
}

// ipv4Packet returns an IPv4 packet of n octets in all with a right checksum.
func ipv4Packet(n int) []byte {
	b := make([]byte, n)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	b[8], b[9] = 64, 17
	copy(b[12:], netip.MustParseAddr("192.0.2.1").AsSlice())
	copy(b[16:], netip.MustParseAddr("198.51.100.7").AsSlice())
	for i := 20; i < n; i++ {
		b[i] = byte(i)
	}
	fixChecksum(b)
	return b
}

// fixChecksum is the textbook way, in 16-bit steps.
func fixChecksum(b []byte) {
	b[10], b[11] = 0, 0
	var sum uint32
	for i := 0; i < int(b[0]&15)*4; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
}

func ipv6Packet(n int) []byte {
	b := make([]byte, n)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(n-40))
	b[6], b[7] = 17, 64
	copy(b[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
	copy(b[24:], netip.MustParseAddr("2001:db8::7").AsSlice())
	for i := 40; i < n; i++ {
		b[i] = byte(i)
	}
	return b
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 42)) }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
