package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	sizes := []int{1400, 8192, 65_535}
	for n := range 130 {
		sizes = append(sizes, n)
	}
	for _, s := range allSuites(t) {
		for _, mode := range []Mode{ModeTunnel, ModeTransport} {
			for _, esn := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/esn=%v", s, mode, esn), func(t *testing.T) {
					c := testConfig(s)
					c.Mode, c.ESN = mode, esn
					o, i := pair(t, c)
					var w Worker
					var want [][]byte
					var pkts []Packet
					for _, n := range sizes {
						switch {
						case mode == ModeTransport:
							want = append(want, randomBytes(newRand(uint64(n)), n))
							pkts = append(pkts, packet(want[len(want)-1], 17))
						case n >= 40:
							want = append(want, ipv6Packet(n))
							pkts = append(pkts, packet(want[len(want)-1], protoIPv6))
							fallthrough
						case n >= 20:
							want = append(want, ipv4Packet(n))
							pkts = append(pkts, packet(want[len(want)-1], protoIPv4))
						}
					}
					if d := o.Seal(&w, pkts); d != Pass {
						t.Fatal(d)
					}
					var bytesSum uint64
					for k := range pkts {
						p := &pkts[k]
						n := len(want[k])
						bytesSum += uint64(n)
						if p.Drop != Pass || p.Len != n+o.Overhead(n) || p.Off != Headroom-o.HeaderLen() {
							t.Fatalf("sealed %d octets: %s, Off %d, Len %d", n, p.Drop, p.Off, p.Len)
						}
						if (p.Len-o.HeaderLen()-s.icvLen())%s.align() != 0 {
							t.Errorf("%d octets: ciphertext of %d", n, p.Len-o.HeaderLen()-s.icvLen())
						}
						if spi, ok := SPI(p.Payload()); !ok || spi != c.SPI {
							t.Errorf("SPI %#x", spi)
						}
						if got := binary.BigEndian.Uint32(p.Payload()[4:]); got != uint32(k+1) || p.Seq() != uint64(k+1) {
							t.Errorf("sequence number %d of packet %d", got, k)
						}
						if n >= 16 && s.Confidential() && bytes.Contains(p.Payload(), want[k][n-16:]) {
							t.Errorf("%d octets: plaintext in the packet", n)
						}
					}
					i.Open(&w, pkts)
					for k := range pkts {
						if p := &pkts[k]; p.Drop != Pass || !bytes.Equal(p.Payload(), want[k]) || p.Seq() != uint64(k+1) {
							t.Errorf("opened packet %d of %d octets: %s, %d octets", k, len(want[k]), p.Drop, p.Len)
						}
					}
					n := uint64(len(pkts))
					if diff := cmp.Diff([]uint64{n, bytesSum, n, bytesSum, n, n},
						[]uint64{o.Packets(), o.Bytes(), i.Packets(), i.Bytes(), o.Last(), i.Highest()}); diff != "" {
						t.Error(diff)
					}
					if st := i.Snapshot(); st.Dropped() != 0 {
						t.Errorf("drops: %v", st.Drops)
					}
					if w.nonce != [nonceLen]byte{} {
						t.Error("the salt stays in the worker")
					}
				})
			}
		}
	}
}

// TestIV: a counter suite sends its sequence number; CBC never the same, and
// nothing that shows the counter.
func TestIV(t *testing.T) {
	for _, s := range allSuites(t) {
		o, _ := pair(t, testConfig(s))
		seen := map[string]bool{}
		for k := range 300 {
			iv := sealed(t, o, []byte("payload"), 17)[headerLen:o.HeaderLen()]
			switch {
			case s.AEAD():
				if binary.BigEndian.Uint64(iv) != uint64(k+1) {
					t.Fatalf("%s: IV %x of packet %d", s, iv, k+1)
				}
			case s.Encr == EncrAESCBC:
				if seen[string(iv)] || bytes.Contains(iv, []byte{0, 0, 0, 0, 0}) {
					t.Fatalf("%s: IV %x of packet %d", s, iv, k+1)
				}
			default:
				if len(iv) != 0 {
					t.Fatalf("%s: IV %x", s, iv)
				}
			}
			seen[string(iv)] = true
		}
	}
	// Two SAs with one key (which must not be, but tests do it) have other IVs.
	c := testConfig(suite(t, "aes128-sha256"))
	o1, _ := pair(t, c)
	o2, _ := pair(t, c)
	if bytes.Equal(sealed(t, o1, nil, 17), sealed(t, o2, nil, 17)) {
		t.Error("AES-CBC IVs are predictable")
	}
}

// TestESNIsAuthenticated: with ESN the high half is covered though it isn't sent.
func TestESNIsAuthenticated(t *testing.T) {
	for _, s := range allSuites(t) {
		c := testConfig(s)
		c.ESN = true
		o, i := pair(t, c)
		o.seq.Store(7<<32 + 100)
		b := sealed(t, o, []byte("hello"), 17)
		wantDrop(t, s.String()+": other high half", i, b, DropAuth)
		i.win.Commit(7<<32 + 50)
		wantDrop(t, s.String()+": right high half", i, b, Pass)
		// And one end with, one without, never understand each other.
		c.ESN = false
		_, plain := pair(t, c)
		o.seq.Store(0)
		wantDrop(t, s.String()+": ESN to non-ESN", plain, sealed(t, o, []byte("hello"), 17), DropAuth)
	}
}

func TestConfigRefused(t *testing.T) {
	good := testConfig(suite(t, "aes256gcm16"))
	for name, change := range map[string]func(*Config){
		"SPI 0":              func(c *Config) { c.SPI = 0 },
		"SPI 255":            func(c *Config) { c.SPI = 255 },
		"no suite":           func(c *Config) { c.Suite = Suite{} },
		"no mode":            func(c *Config) { c.Mode = 0 },
		"mode 3":             func(c *Config) { c.Mode = 3 },
		"short key":          func(c *Config) { c.Key = c.Key[1:] },
		"long key":           func(c *Config) { c.Key = append(c.Key, 0) },
		"no key":             func(c *Config) { c.Key = nil },
		"gcm and hmac":       func(c *Config) { c.Suite.Integ = IntegSHA256_128 },
		"cbc without hmac":   func(c *Config) { c.Suite = Suite{Encr: EncrAESCBC, KeyBits: 128} },
		"null without hmac":  func(c *Config) { c.Suite = Suite{Encr: EncrNull}; c.Key = nil },
		"gcm 160":            func(c *Config) { c.Suite.KeyBits = 160 },
		"chacha with length": func(c *Config) { c.Suite = Suite{Encr: EncrChaCha20Poly1305, KeyBits: 256} },
	} {
		c := good
		c.Key = append(Key(nil), good.Key...)
		change(&c)
		if _, err := NewOutbound(c); err == nil || !strings.HasPrefix(err.Error(), "esp: ") {
			t.Errorf("%s: outbound: %v", name, err)
		}
		if _, err := NewInbound(c); err == nil {
			t.Errorf("%s: inbound: no error", name)
		}
	}
	c := good
	c.ReplayWindow = 100
	if _, err := NewInbound(c); err == nil {
		t.Error("window of 100 accepted")
	}
	c = testConfig(suite(t, "aes128-sha256"))
	c.Rand = strings.NewReader("short")
	if _, err := NewOutbound(c); err == nil {
		t.Error("no randomness, no error")
	}
}

func TestSuites(t *testing.T) {
	for _, c := range []struct {
		name   string
		keyLen int
		head   int
		icv    int
		conf   bool
	}{
		{"aes128gcm16", 20, 16, 16, true}, // RFC 4106, Section 8.1
		{"aes192gcm16", 28, 16, 16, true},
		{"aes256gcm16", 36, 16, 16, true},
		{"chacha20poly1305", 36, 16, 16, true}, // RFC 7634, Section 2
		{"aes128-sha256", 48, 24, 16, true},    // RFC 4868, Section 2.6
		{"aes256-sha384", 80, 24, 24, true},
		{"aes256-sha512", 96, 24, 32, true},
		{"null-sha256", 32, 8, 16, false},
	} {
		s := suite(t, c.name)
		if s.String() != c.name || s.Valid() != nil || s.KeyLen() != c.keyLen || s.Confidential() != c.conf {
			t.Errorf("%s: %s, %v, key %d, confidential %v", c.name, s, s.Valid(), s.KeyLen(), s.Confidential())
		}
		o, i := pair(t, testConfig(s))
		if o.HeaderLen() != c.head || i.HeaderLen() != c.head {
			t.Errorf("%s: header %d, %d", c.name, o.HeaderLen(), i.HeaderLen())
		}
		if n := o.Overhead(0); n < c.head+2+c.icv || n > c.head+2+15+c.icv || n != i.Overhead(0) {
			t.Errorf("%s: overhead %d", c.name, n)
		}
		for n := range 100 {
			if over := o.Overhead(n); over-c.head > Tailroom || c.head > Headroom {
				t.Errorf("%s: overhead %d does not fit Headroom and Tailroom", c.name, over)
			}
		}
	}
	names := map[string]bool{}
	for _, r := range suiteNames() {
		if got, err := ParseSuite(" " + strings.ToUpper(r.name)); err != nil || got != r.suite || names[r.name] {
			t.Errorf("ParseSuite(%q) = %v, %v", r.name, got, err)
		}
		names[r.name] = true
	}
	for _, bad := range []string{"", "aes256", "aes256gcm8", "null", "null-sha1", "aes256-sha256-x"} {
		if _, err := ParseSuite(bad); err == nil {
			t.Errorf("ParseSuite(%q): no error", bad)
		}
	}
	if got := (Suite{Encr: 99}).String(); got != "suite(99,0,0)" || (Suite{Encr: 99}).KeyLen() != 0 || (Suite{}).Confidential() {
		t.Error("odd suite:", got)
	}
}

// TestKeyRedacted: a key can't be printed, whatever the verb or encoder.
func TestKeyRedacted(t *testing.T) {
	c := testConfig(suite(t, "aes128gcm16"))
	c.Key = Key("SECRETSECRETSECRETSE")
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", c.Key, c, &c)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", c.Key, "config", c)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", c.Key, "config", c)
	if b, err := json.Marshal(c); err == nil {
		out.Write(b)
	}
	got := out.String()
	for _, leak := range []string{"SECRET", "534543", "83 69 67", "83,69", "U0VDUk", "0x53"} {
		if strings.Contains(got, leak) {
			t.Errorf("%q in the output:\n%s", leak, got)
		}
	}
	c.Key.Zero()
	if !bytes.Equal(c.Key, make([]byte, 20)) {
		t.Error("not zeroed")
	}
}

// TestConfigKeyIsCopied: zeroing the configuration's key does not touch the SA.
func TestConfigKeyIsCopied(t *testing.T) {
	for _, s := range allSuites(t) {
		c := testConfig(s)
		o, i := pair(t, c)
		c.Key.Zero()
		o2, _ := pair(t, testConfig(s))
		wantDrop(t, s.String(), i, sealed(t, o2, []byte("x"), 17), Pass)
		o2.seq.Store(1)
		b := sealed(t, o, []byte("x"), 17)
		o.seq.Store(1)
		wantDrop(t, s.String(), i, sealed(t, o, []byte("y"), 17), Pass)
		_ = b
	}
}

func TestDropStrings(t *testing.T) {
	seen := map[string]bool{}
	for d := range NumDrops {
		s := Drop(d).String()
		if s == "" || strings.HasPrefix(s, "drop(") || seen[s] {
			t.Errorf("Drop %d: %q", d, s)
		}
		seen[s] = true
	}
	if Drop(NumDrops).String() == "" || ModeTunnel.String() != "tunnel" || ModeTransport.String() != "transport" || Mode(0).String() != "invalid" {
		t.Error("strings")
	}
	if DropUnset != 0 || Pass == 0 {
		t.Error("the zero verdict must be a drop")
	}
}

// TestAllocs: neither Seal nor Open allocates, whatever the suite and verdict.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, s := range allSuites(t) {
		for _, esn := range []bool{false, true} {
			c := testConfig(s)
			c.ESN = esn
			o, i := pair(t, c)
			var w Worker
			batch := make([]Packet, 16)
			for k := range batch {
				batch[k] = packet(make([]byte, 1400), 17)
			}
			if n := testing.AllocsPerRun(50, func() {
				for k := range batch {
					batch[k].Off, batch[k].Len = Headroom, 1400
				}
				o.Seal(&w, batch)
			}); n != 0 {
				t.Errorf("%s: Seal: %v allocations", s, n)
			}
			if n := testing.AllocsPerRun(50, func() {
				for k := range batch {
					batch[k].Off, batch[k].Len = Headroom, 1400
				}
				o.Seal(&w, batch)
				i.Open(&w, batch)
			}); n != 0 || batch[0].Drop != Pass {
				t.Errorf("%s: Open: %v allocations, %s", s, n, batch[0].Drop)
			}
			bad := packet(make([]byte, 1400), 17)
			o.Seal(&w, []Packet{bad})
			if n := testing.AllocsPerRun(50, func() {
				batch[0] = bad
				i.Open(&w, batch[:1])
			}); n != 0 || batch[0].Drop == Pass {
				t.Errorf("%s: a dropped packet: %v allocations", s, n)
			}
		}
	}
}
