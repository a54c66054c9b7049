package esp

import (
	"bytes"
	"fmt"
	"math"
	"testing"
)

const poison = 0xa5

// poisoned lays n packets of the given payload length side by side in one buffer,
// each in the least room that Seal accepts plus gap poisoned octets on both sides,
// and caps their capacities.
func poisoned(o *Outbound, n, size, gap int) (arena []byte, pkts []Packet) {
	need := o.HeaderLen() + size + o.Overhead(size) - o.HeaderLen()
	stride := need + 2*gap
	arena = bytes.Repeat([]byte{poison}, n*stride)
	for k := range n {
		at := k*stride + gap
		b := arena[at : at+need : at+need]
		for j := range size {
			b[o.HeaderLen()+j] = byte(j)
		}
		pkts = append(pkts, Packet{Buf: b, Off: o.HeaderLen(), Len: size, Next: 17})
	}
	return arena, pkts
}

// TestCVE_2026_43284_OnlyOwnOctetsAreTouched: packets without any spare room, neighbours in one
// buffer, are sealed and opened; every octet between them stays as it was.
func TestCVE_2026_43284_OnlyOwnOctetsAreTouched(t *testing.T) {
	const gap = 3
	for _, s := range allSuites(t) {
		for size := range 70 {
			c := testConfig(s)
			c.ESN = size%2 == 0
			o, i := pair(t, c)
			arena, pkts := poisoned(o, 5, size, gap)
			check := func(when string) {
				t.Helper()
				stride := len(arena) / len(pkts)
				for k := range pkts {
					part := arena[k*stride : (k+1)*stride]
					for _, b := range append(part[:gap:gap], part[stride-gap:]...) {
						if b != poison {
							t.Fatalf("%s, %d octets: packet %d wrote outside its buffer %s", s, size, k, when)
						}
					}
				}
			}
			var w Worker
			if d := o.Seal(&w, pkts); d != Pass {
				t.Fatal(d)
			}
			for k := range pkts {
				if pkts[k].Drop != Pass || pkts[k].Off != 0 || pkts[k].Len != len(pkts[k].Buf) {
					t.Fatalf("%s: packet of %d in exactly its room: %+v", s, size, pkts[k])
				}
			}
			check("in Seal")
			wire := append([]byte(nil), arena...)
			pkts[3].Buf[len(pkts[3].Buf)-1] ^= 1 // one fails
			i.Open(&w, pkts)
			check("in Open")
			for k := range pkts {
				if (pkts[k].Drop == Pass) != (k != 3) {
					t.Errorf("%s: packet %d: %s", s, k, pkts[k].Drop)
				}
			}
			// Header and ICV are as they came; only the payload changed.
			head, icv := o.HeaderLen(), s.icvLen()
			at := gap
			if !bytes.Equal(arena[at:at+head], wire[at:at+head]) {
				t.Errorf("%s: Open wrote to the header", s)
			}
			if end := at + len(pkts[0].Buf); !bytes.Equal(arena[end-icv:end], wire[end-icv:end]) {
				t.Errorf("%s: Open wrote to the ICV", s)
			}
		}
	}
}

// TestSealRefusesTightBuffers takes the room away octet by octet. Nothing may be
// written, and nothing sent that was not sealed.
func TestSealRefusesTightBuffers(t *testing.T) {
	for _, s := range allSuites(t) {
		o, _ := pair(t, testConfig(s))
		var w Worker
		size := 21
		need := size + o.Overhead(size)
		for short := 1; short <= o.HeaderLen(); short++ { // in front
			b := bytes.Repeat([]byte{poison}, need)
			p := []Packet{{Buf: b, Off: o.HeaderLen() - short, Len: size, Next: 17}}
			wantRoom(t, s, o, &w, p)
		}
		for short := 1; short <= need-o.HeaderLen()-size; short++ { // behind
			b := bytes.Repeat([]byte{poison}, need)
			p := []Packet{{Buf: b[: need-short : need], Off: o.HeaderLen(), Len: size, Next: 17}}
			wantRoom(t, s, o, &w, p)
			if !bytes.Equal(b, bytes.Repeat([]byte{poison}, need)) {
				t.Fatalf("%s: written beyond len(Buf)", s)
			}
		}
		for _, p := range []Packet{
			{},
			{Next: 17},
			{Buf: make([]byte, 200), Off: -1, Len: 10, Next: 17},
			{Buf: make([]byte, 200), Off: 200, Len: 1, Next: 17},
			{Buf: make([]byte, 200), Off: 201, Len: 0, Next: 17},
			{Buf: make([]byte, 200), Off: 40, Len: -1, Next: 17},
			{Buf: make([]byte, 200), Off: 40, Len: 161, Next: 17},
			{Buf: make([]byte, 200), Off: math.MaxInt, Len: math.MaxInt, Next: 17},
			{Buf: make([]byte, 200), Off: 40, Len: math.MaxInt, Next: 17},
			{Buf: make([]byte, 200), Off: math.MinInt, Len: math.MinInt, Next: 17},
		} {
			wantRoom(t, s, o, &w, []Packet{p})
		}
		// A good packet behind a bad one is sealed, with the next number.
		p := []Packet{{Next: 17}, packet([]byte("fine"), 17)}
		before := o.Last()
		if d := o.Seal(&w, p); d != Pass || p[0].Drop != DropRoom || p[1].Drop != Pass || p[1].Seq() != before+2 {
			t.Errorf("%s: %s, %+v", s, d, p)
		}
	}
}

func wantRoom(t *testing.T, s Suite, o *Outbound, w *Worker, p []Packet) {
	t.Helper()
	before := append([]byte(nil), p[0].Buf...)
	if d := o.Seal(w, p); d != Pass || p[0].Drop != DropRoom || p[0].Len != 0 || p[0].Seq() != 0 {
		t.Fatalf("%s: %s, %s, Len %d", s, d, p[0].Drop, p[0].Len)
	}
	if !bytes.Equal(before, p[0].Buf) {
		t.Fatalf("%s: a refused packet was written to", s)
	}
}

// TestSealRefusesNextHeader: a forgotten or impossible next header is not sent.
func TestSealRefusesNextHeader(t *testing.T) {
	for _, mode := range []Mode{ModeTunnel, ModeTransport} {
		c := testConfig(suite(t, "aes256gcm16"))
		c.Mode = mode
		o, _ := pair(t, c)
		var w Worker
		for next := range 256 {
			next := uint8(next)
			want := Pass
			switch {
			case mode == ModeTunnel && next != 4 && next != 41 && next != 59:
				want = DropNextHeader
			case mode == ModeTransport && (next == 0 || next == 43 || next == 44 || next == 50 || next == 51):
				want = DropNextHeader
			}
			p := []Packet{packet(ipv4Packet(40), next)}
			if o.Seal(&w, p); p[0].Drop != want || (want != Pass) != (p[0].Len == 0) {
				t.Errorf("%s, next header %d: %s, Len %d", mode, next, p[0].Drop, p[0].Len)
			}
		}
	}
}

// TestOpenRefusesBadOffsets: a Packet that points outside its buffer is a drop,
// not a panic.
func TestOpenRefusesBadOffsets(t *testing.T) {
	for _, s := range allSuites(t) {
		_, i := pair(t, testConfig(s))
		var w Worker
		for _, p := range []Packet{
			{},
			{Buf: make([]byte, 100), Off: 0, Len: 101},
			{Buf: make([]byte, 100), Off: 1, Len: 100},
			{Buf: make([]byte, 100), Off: -1, Len: 50},
			{Buf: make([]byte, 100), Off: 101, Len: 0},
			{Buf: make([]byte, 100), Off: 0, Len: -1},
			{Buf: make([]byte, 100), Off: math.MaxInt, Len: math.MaxInt},
			{Buf: make([]byte, 100, 400), Off: 0, Len: 400},
		} {
			batch := []Packet{p}
			i.Open(&w, batch)
			if batch[0].Drop != DropShort || batch[0].Len != 0 {
				t.Errorf("%s: %s for Off %d, Len %d", s, batch[0].Drop, p.Off, p.Len)
			}
		}
	}
}

// TestEmptyBatch: no packets, no numbers, no panic.
func TestEmptyBatch(t *testing.T) {
	for _, s := range allSuites(t) {
		o, i := pair(t, testConfig(s))
		var w Worker
		if d := o.Seal(&w, nil); d != Pass || o.Last() != 0 {
			t.Errorf("%s, %d", d, o.Last())
		}
		i.Open(&w, nil)
		o.Zero()
		if d := o.Seal(&w, nil); d != Pass {
			t.Error(fmt.Sprint("closed and empty: ", d))
		}
	}
}
