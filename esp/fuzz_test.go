package esp

import (
	"bytes"
	"testing"
)

// FuzzOpen: arbitrary octets never pass, unless they are a packet that was sealed.
func FuzzOpen(f *testing.F) {
	suites := allSuites(f)
	var genuine [][]byte
	for k, s := range suites {
		c := testConfig(s)
		c.ESN = k%2 == 0
		c.Rand = bytes.NewReader(make([]byte, 64))
		o, _ := pair(f, c)
		for _, n := range []int{0, 1, 60} {
			b := sealed(f, o, make([]byte, n), 17)
			genuine = append(genuine, b)
			f.Add(uint8(k), b)
			f.Add(uint8(k), b[:len(b)-1])
			f.Add(uint8(k+1), b)
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, b []byte) {
		c := testConfig(suites[int(k)%len(suites)])
		c.ESN = int(k)%len(suites)%2 == 0
		_, i := pair(t, c)
		p := openOne(i, b)
		if p.Drop == DropUnset {
			t.Fatal("not judged")
		}
		if p.Drop != Pass {
			if p.Len != 0 {
				t.Fatalf("%s with Len %d", p.Drop, p.Len)
			}
			if i.Highest() != 0 {
				t.Fatalf("%s moved the window", p.Drop)
			}
			return
		}
		for _, g := range genuine {
			if bytes.Equal(g, b) {
				return
			}
		}
		t.Fatalf("a forgery passed: %x", b)
	})
}

// FuzzPlaintext: a peer with the key chooses the whole plaintext. Whatever passes
// is well formed, by a slow second opinion.
func FuzzPlaintext(f *testing.F) {
	suites := allSuites(f)
	for k := range suites {
		f.Add(uint8(k), true, trailer(ipv4Packet(62), nil, 0, 4))
		f.Add(uint8(k), true, trailer(ipv6Packet(60), []byte{1, 2}, 2, 41))
		f.Add(uint8(k), true, trailer(append(ipv4Packet(40), make([]byte, 20)...), []byte{1, 2}, 2, 4))
		f.Add(uint8(k), false, trailer([]byte("udp payload"), []byte{1, 2, 3}, 3, 17))
		f.Add(uint8(k), false, trailer(make([]byte, 14), nil, 0, 59))
		f.Add(uint8(k), false, []byte{0, 0})
	}
	f.Fuzz(func(t *testing.T, k uint8, tunnel bool, plain []byte) {
		c := testConfig(suites[int(k)%len(suites)])
		if tunnel {
			c.Mode = ModeTunnel
		}
		if len(plain) < 2 {
			return
		}
		plain = plain[:len(plain)/c.Suite.align()*c.Suite.align()]
		if len(plain) < 2 {
			return
		}
		o, i := pair(t, c)
		p := openOne(i, crafted(t, o, plain, 1))
		if i.Highest() != 1 {
			t.Fatal("an authentic packet did not move the window")
		}
		want, payload := slowVerdict(tunnel, plain)
		if p.Drop != want {
			t.Fatalf("%s, want %s, for %x", p.Drop, want, plain)
		}
		if want == Pass && (!bytes.Equal(p.Payload(), payload) || p.Next != plain[len(plain)-1]) {
			t.Fatalf("payload %x of %x", p.Payload(), plain)
		}
		if want != Pass && p.Len != 0 {
			t.Fatalf("dropped with Len %d", p.Len)
		}
	})
}

// slowVerdict says again, step by step, what Open has to say of a plaintext.
func slowVerdict(tunnel bool, plain []byte) (Drop, []byte) {
	next := int(plain[len(plain)-1])
	if next == 59 {
		return DropDummy, nil
	}
	pad := int(plain[len(plain)-2])
	body := plain[:len(plain)-2]
	if pad > len(body) {
		return DropPad, nil
	}
	for k, b := range body[len(body)-pad:] {
		if int(b) != k+1 {
			return DropPad, nil
		}
	}
	body = body[:len(body)-pad]
	if !tunnel {
		for _, bad := range []int{0, 43, 44, 50, 51} {
			if next == bad {
				return DropNextHeader, nil
			}
		}
		return Pass, body
	}
	var total int
	switch next {
	case 4:
		if len(body) < 20 || body[0]>>4 != 4 {
			return DropInner, nil
		}
		ihl := int(body[0]&15) * 4
		total = int(body[2])<<8 | int(body[3])
		if ihl < 20 || total < ihl || total > len(body) {
			return DropInner, nil
		}
		again := append([]byte(nil), body[:ihl]...)
		fixChecksum(again)
		// 0 and 0xffff are the same number to the checksum's arithmetic.
		got, sum := [2]byte{body[10], body[11]}, [2]byte{again[10], again[11]}
		same := got == sum || got == [2]byte{0xff, 0xff} && sum == [2]byte{} || got == [2]byte{} && sum == [2]byte{0xff, 0xff}
		if !same {
			return DropInner, nil
		}
	case 41:
		if len(body) < 40 || body[0]>>4 != 6 {
			return DropInner, nil
		}
		if total = 40 + (int(body[4])<<8 | int(body[5])); total > len(body) {
			return DropInner, nil
		}
	default:
		return DropNextHeader, nil
	}
	return Pass, body[:total]
}
