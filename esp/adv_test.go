package esp

import (
	"bytes"
	"fmt"
	"math"
	"testing"
)

func TestADV_P1_CVE_2006_0905_ReplayWholeCapture(t *testing.T) {
	for _, s := range allSuites(t) {
		o, i := pair(t, testConfig(s))
		var capture [][]byte
		for range 200 {
			capture = append(capture, sealed(t, o, []byte("once"), 17))
		}
		for _, b := range capture {
			wantDrop(t, "first time", i, b, Pass)
		}
		for _, b := range capture {
			wantDrop(t, "again", i, b, DropReplay)
		}
		st := i.Snapshot()
		if st.Packets != 200 || st.Drops[DropReplay] != 200 || st.Dropped() != 200 {
			t.Errorf("%s: %+v", s, st)
		}
		// Twice in one batch: once delivered.
		b := sealed(t, o, []byte("twice"), 17)
		var w Worker
		batch := []Packet{received(b), received(b), received(b)}
		i.Open(&w, batch)
		if batch[0].Drop != Pass || batch[1].Drop != DropReplay || batch[2].Drop != DropReplay || batch[1].Len != 0 {
			t.Errorf("%s: %s, %s, %s", s, batch[0].Drop, batch[1].Drop, batch[2].Drop)
		}
	}
}

func TestADV_P2_WindowEdges(t *testing.T) {
	for _, size := range []int{64, 128, 1024, 4096} {
		c := testConfig(suite(t, "aes128gcm16"))
		c.ReplayWindow = size
		o, i := pair(t, c)
		late := map[int][]byte{}
		for _, d := range []int{size + 1, size, size - 1, 1} { // how far behind the last one
			o.seq.Store(uint64(10_000 - d - 1))
			late[d] = sealed(t, o, []byte("late"), 17)
		}
		o.seq.Store(9_999)
		wantDrop(t, "last", i, sealed(t, o, []byte("last"), 17), Pass)
		wantDrop(t, "left of the window", i, late[size+1], DropOld)
		wantDrop(t, "just left of the window", i, late[size], DropOld)
		wantDrop(t, "left edge", i, late[size-1], Pass)
		wantDrop(t, "right edge", i, late[1], Pass)
		wantDrop(t, "left edge again", i, late[size-1], DropReplay)
	}
}

func TestADV_P3_ForgedFarAhead(t *testing.T) {
	for _, esn := range []bool{false, true} {
		c := testConfig(suite(t, "aes256gcm16"))
		c.ESN = esn
		o, i := pair(t, c)
		wantDrop(t, "good", i, sealed(t, o, []byte("good"), 17), Pass)
		next := sealed(t, o, []byte("next"), 17)
		forged := append([]byte(nil), next...)
		forged[4] ^= 0x80
		wantDrop(t, "forged", i, forged, DropAuth)
		if i.Highest() != 1 {
			t.Errorf("window moved to %d", i.Highest())
		}
		wantDrop(t, "next", i, next, Pass)
	}
}

func TestADV_P5_SPI(t *testing.T) {
	for _, c := range []struct {
		b  string
		ok bool
	}{
		{"", false}, {"\x00\x00\x01", false}, {"\x00\x00\x01\x00\x00\x00\x00", false},
		{"\x00\x00\x00\x00\x00\x00\x00\x01", false}, {"\x00\x00\x00\xff\x00\x00\x00\x01", false},
		{"\x00\x00\x01\x00\x00\x00\x00\x01", true}, {"\xff\xff\xff\xff\x00\x00\x00\x01rest", true},
	} {
		if _, ok := SPI([]byte(c.b)); ok != c.ok {
			t.Errorf("SPI(%q) ok = %v", c.b, ok)
		}
	}
	for _, s := range allSuites(t) {
		c := testConfig(s)
		o, i := pair(t, c)
		c.SPI++
		_, other := pair(t, c)
		b := sealed(t, o, []byte("hi"), 17)
		wantDrop(t, "other SPI", other, b, DropSPI)
		wantDrop(t, "own SPI", i, b, Pass)
	}
}

func TestADV_P7_Truncated(t *testing.T) {
	for _, s := range allSuites(t) {
		for _, mode := range []Mode{ModeTransport, ModeTunnel} {
			c := testConfig(s)
			c.Mode = mode
			o, i := pair(t, c)
			b := sealed(t, o, ipv4Packet(77), protoIPv4)
			for n := range b {
				if p := openOne(i, b[:n]); p.Drop == Pass || p.Drop == DropUnset {
					t.Fatalf("%s: first %d of %d octets: %s", s, n, len(b), p.Drop)
				}
				if p := openOne(i, b[len(b)-n:]); p.Drop == Pass || p.Drop == DropUnset {
					t.Fatalf("%s: last %d of %d octets: %s", s, n, len(b), p.Drop)
				}
			}
			wantDrop(t, "whole", i, b, Pass)
		}
	}
}

func TestADV_P8_EveryBitFlipped(t *testing.T) {
	for _, s := range allSuites(t) {
		for _, esn := range []bool{false, true} {
			c := testConfig(s)
			c.ESN = esn
			o, i := pair(t, c)
			o.seq.Store(5000)
			wantDrop(t, "good", i, sealed(t, o, []byte("good"), 17), Pass)
			b := sealed(t, o, []byte("flip me"), 17)
			for bit := range len(b) * 8 {
				x := append([]byte(nil), b...)
				x[bit/8] ^= 1 << (bit % 8)
				if p := openOne(i, x); p.Drop == Pass || p.Drop == DropUnset {
					t.Fatalf("%s: bit %d flipped: %s", s, bit, p.Drop)
				}
			}
			if i.Highest() != 5001 {
				t.Errorf("%s: window moved to %d", s, i.Highest())
			}
			wantDrop(t, "untouched", i, b, Pass)
		}
	}
}

// trailer returns payload, padding, pad length and next header as told.
func trailer(payload, padding []byte, padLen, next byte) []byte {
	b := append(append([]byte(nil), payload...), padding...)
	return append(b, padLen, next)
}

func TestADV_P9_Padding(t *testing.T) {
	inc := make([]byte, 255)
	for k := range inc {
		inc[k] = byte(k + 1)
	}
	for _, s := range allSuites(t) {
		o, i := pair(t, testConfig(s))
		seq := uint64(0)
		for _, c := range []struct {
			name    string
			padding []byte
			padLen  byte
			fill    int // payload octets, so that blocks come out even
			want    Drop
		}{
			{"none", nil, 0, 14, Pass},
			{"fourteen", inc[:14], 14, 0, Pass},
			{"255, the most", inc, 255, 15, Pass},
			{"zeros", make([]byte, 14), 14, 0, DropPad},
			{"from two", inc[1:15], 14, 0, DropPad},
			{"last wrong", append(append([]byte(nil), inc[:13]...), 99), 14, 0, DropPad},
			{"first wrong", append([]byte{9}, inc[1:14]...), 14, 0, DropPad},
			{"one more than there is", inc[:14], 15, 0, DropPad},
			{"255 of nothing", nil, 255, 14, DropPad},
			{"into the payload", nil, 14, 14, DropPad},
		} {
			seq++
			payload := bytes.Repeat([]byte{0xaa}, c.fill)
			p := wantDrop(t, s.String()+": "+c.name, i, crafted(t, o, trailer(payload, c.padding, c.padLen, 17), seq), c.want)
			if c.want == Pass && !bytes.Equal(p.Payload(), payload) {
				t.Errorf("%s: %s: payload %x", s, c.name, p.Payload())
			}
			if i.Highest() != seq {
				t.Errorf("%s: %s: an authentic packet must move the window", s, c.name)
			}
		}
	}
}

func TestADV_P10_Dummy(t *testing.T) {
	for _, s := range allSuites(t) {
		for _, mode := range []Mode{ModeTunnel, ModeTransport} {
			c := testConfig(s)
			c.Mode = mode
			o, i := pair(t, c)
			for _, content := range [][]byte{nil, []byte("noise"), make([]byte, 1400)} {
				b := sealed(t, o, content, NextDummy)
				wantDrop(t, "dummy", i, b, DropDummy)
				wantDrop(t, "dummy again", i, b, DropReplay)
			}
			// Not even its padding is looked at.
			wantDrop(t, "odd dummy", i, crafted(t, o, trailer(make([]byte, 14), nil, 200, NextDummy), 4), DropDummy)
			if st := i.Snapshot(); i.Highest() != 4 || st.Drops[DropDummy] != 4 || st.Dropped() != 3 || st.Packets != 0 {
				t.Errorf("%s: %d, %+v", s, i.Highest(), st)
			}
		}
	}
}

func TestADV_P11_TFCPaddingIsTrimmed(t *testing.T) {
	c := testConfig(suite(t, "chacha20poly1305"))
	c.Mode = ModeTunnel
	o, i := pair(t, c)
	for _, tfc := range []int{1, 2, 100, 1000} {
		for next, inner := range map[uint8][]byte{protoIPv4: ipv4Packet(60), protoIPv6: ipv6Packet(60)} {
			p := wantDrop(t, fmt.Sprint("TFC ", tfc), i, sealed(t, o, append(inner[:60:60], make([]byte, tfc)...), next), Pass)
			if !bytes.Equal(p.Payload(), inner) {
				t.Errorf("TFC %d: %d octets of payload", tfc, p.Len)
			}
		}
	}
}

func TestADV_P12_CVE_2018_6916_InnerHeader(t *testing.T) {
	c := testConfig(suite(t, "aes256gcm16"))
	c.Mode = ModeTunnel
	o, i := pair(t, c)
	v4 := func(change func(b []byte)) []byte { b := ipv4Packet(60); change(b); fixChecksum(b); return b }
	v6 := func(change func(b []byte)) []byte { b := ipv6Packet(60); change(b); return b }
	for name, x := range map[string]struct {
		next  uint8
		inner []byte
		want  Drop
	}{
		"good v4":           {protoIPv4, ipv4Packet(60), Pass},
		"good v6":           {protoIPv6, ipv6Packet(60), Pass},
		"options":           {protoIPv4, v4(func(b []byte) { b[0] = 0x4f }), Pass},
		"v4 version 0":      {protoIPv4, v4(func(b []byte) { b[0] = 0x05 }), DropInner},
		"v4 version 5":      {protoIPv4, v4(func(b []byte) { b[0] = 0x55 }), DropInner},
		"v4 version 15":     {protoIPv4, v4(func(b []byte) { b[0] = 0xf5 }), DropInner},
		"v6 version 0":      {protoIPv6, v6(func(b []byte) { b[0] = 0x00 }), DropInner},
		"header length 16":  {protoIPv4, v4(func(b []byte) { b[0] = 0x44 }), DropInner},
		"header length 0":   {protoIPv4, v4(func(b []byte) { b[0] = 0x40 }), DropInner},
		"header beyond end": {protoIPv4, v4(func(b []byte) { b[0] = 0x46; b[3] = 22 })[:22], DropInner},
		"v4 too long":       {protoIPv4, v4(func(b []byte) { b[3] = 61 }), DropInner},
		"v4 65535":          {protoIPv4, v4(func(b []byte) { b[2], b[3] = 0xff, 0xff }), DropInner},
		"v4 total < header": {protoIPv4, v4(func(b []byte) { b[3] = 19 }), DropInner},
		"v4 total 0":        {protoIPv4, v4(func(b []byte) { b[3] = 0 }), DropInner},
		"v6 too long":       {protoIPv6, v6(func(b []byte) { b[5]++ }), DropInner},
		"bad checksum":      {protoIPv4, func() []byte { b := ipv4Packet(60); b[10] ^= 1; return b }(), DropInner},
		"checksum 0":        {protoIPv4, func() []byte { b := ipv4Packet(60); b[10], b[11] = 0, 0; return b }(), DropInner},
		"short v4":          {protoIPv4, ipv4Packet(60)[:19], DropInner},
		"short v6":          {protoIPv6, ipv6Packet(60)[:39], DropInner},
		"empty":             {protoIPv4, nil, DropInner},
	} {
		wantDrop(t, name, i, sealed(t, o, x.inner, x.next), x.want)
	}
}

func TestADV_P13_CVE_2022_34718_NextHeader(t *testing.T) {
	for next := range 256 {
		next := uint8(next)
		payload := bytes.Repeat([]byte{0x45}, 62)

		c := testConfig(suite(t, "aes128gcm16"))
		c.Mode = ModeTunnel
		o, i := pair(t, c)
		inner := trailer(ipv6Packet(62), nil, 0, next)
		want := DropNextHeader
		switch next {
		case protoIPv4:
			want = DropInner // IPv6 inside
		case protoIPv6:
			want = Pass
		case NextDummy:
			want = DropDummy
		}
		wantDrop(t, fmt.Sprint("tunnel ", next), i, crafted(t, o, inner, 1), want)
		// IPv4 under 41.
		if next == protoIPv6 {
			wantDrop(t, "tunnel, IPv4 under 41", i, crafted(t, o, trailer(ipv4Packet(62), nil, 0, next), 2), DropInner)
		}

		c.Mode = ModeTransport
		o, i = pair(t, c)
		switch want = Pass; next {
		case 0, 43, 44, 50, 51:
			want = DropNextHeader
		case NextDummy:
			want = DropDummy
		}
		p := wantDrop(t, fmt.Sprint("transport ", next), i, crafted(t, o, trailer(payload, nil, 0, next), 1), want)
		if want == Pass && p.Next != next {
			t.Errorf("transport %d: Next = %d", next, p.Next)
		}
	}
}

// TestADV_P14_ESNRollover crosses 2^32 with losses and reorders across it.
func TestADV_P14_ESNRollover(t *testing.T) {
	for _, s := range allSuites(t) {
		for _, lost := range []int{0, 1, 63} {
			c := testConfig(s)
			c.ESN, c.ReplayWindow = true, 64
			o, i := pair(t, c)
			o.seq.Store(1<<32 - 20)
			i.win.Commit(1<<32 - 20)
			var sent [][]byte
			for range 200 {
				sent = append(sent, sealed(t, o, []byte("x"), 17))
			}
			// 0..17 arrive; the next `lost` don't; then pairs swapped.
			for _, b := range sent[:18] {
				wantDrop(t, "before", i, b, Pass)
			}
			at := 18 + lost
			for ; at+1 < len(sent); at += 2 {
				wantDrop(t, fmt.Sprint(s, " lost ", lost, " swapped"), i, sent[at+1], Pass)
				wantDrop(t, fmt.Sprint(s, " lost ", lost, " swapped"), i, sent[at], Pass)
			}
			for _, b := range sent[:18] {
				if p := openOne(i, b); p.Drop != DropAuth && p.Drop != DropOld && p.Drop != DropReplay {
					t.Errorf("%s: an old packet: %s", s, p.Drop)
				}
			}
		}
	}
	// The newest packet beyond 2^32 first, then those before it, in one window.
	c := testConfig(suite(t, "aes256gcm16"))
	c.ESN = true
	o, i := pair(t, c)
	o.seq.Store(1<<32 - 100)
	i.win.Commit(1<<32 - 100)
	var sent [][]byte
	for range 200 {
		sent = append(sent, sealed(t, o, []byte("x"), 17))
	}
	for k := len(sent) - 1; k >= 0; k-- {
		wantDrop(t, fmt.Sprint("backwards ", k), i, sent[k], Pass)
	}
	if i.Highest() != 1<<32+100 {
		t.Errorf("highest %#x", i.Highest())
	}
}

// TestADV_P15_ESNLossBeyondCycle: after 2^32 losses nothing gets through, and
// nothing old either.
func TestADV_P15_ESNLossBeyondCycle(t *testing.T) {
	c := testConfig(suite(t, "aes256gcm16"))
	c.ESN = true
	o, i := pair(t, c)
	first := sealed(t, o, []byte("x"), 17)
	wantDrop(t, "first", i, first, Pass)
	o.seq.Store(1<<32 + 500)
	wantDrop(t, "after 2^32 losses", i, sealed(t, o, []byte("x"), 17), DropAuth)
	wantDrop(t, "replay", i, first, DropReplay)
	o.seq.Store(1)
	wantDrop(t, "as if nothing had been", i, sealed(t, o, []byte("x"), 17), Pass)
}

func TestADV_P16_ROW_70_CounterNeverWraps(t *testing.T) {
	for _, s := range allSuites(t) {
		for _, c := range []struct {
			esn  bool
			last uint64
		}{{false, math.MaxUint32}, {true, math.MaxUint64}} {
			cfg := testConfig(s)
			cfg.ESN = c.esn
			o, i := pair(t, cfg)
			o.seq.Store(c.last - 3)
			i.win.Commit(c.last - 3)
			var w Worker

			// More than is left: nothing sealed, nothing lost.
			batch := make([]Packet, 4)
			for k := range batch {
				batch[k] = packet([]byte("clear text"), 17)
			}
			if d := o.Seal(&w, batch); d != DropExhausted || o.Remaining() != 3 {
				t.Fatalf("%s: %s, %d left", s, d, o.Remaining())
			}
			for k := range batch {
				if p := &batch[k]; p.Drop != DropExhausted || p.Seq() != 0 || string(p.Payload()) != "clear text" {
					t.Errorf("%s: refused, but changed: %+v", s, p)
				}
			}
			// What is left, to the last number.
			if d := o.Seal(&w, batch[:3]); d != Pass || batch[2].Seq() != c.last || o.Remaining() != 0 {
				t.Fatalf("%s: %s, last %#x", s, d, batch[2].Seq())
			}
			for range 3 {
				if d := o.Seal(&w, []Packet{packet(nil, 17)}); d != DropExhausted || o.Last() != c.last {
					t.Fatalf("%s: %s after the end, last %#x", s, d, o.Last())
				}
			}
			i.Open(&w, batch[:3])
			for k := range batch[:3] {
				if batch[k].Drop != Pass {
					t.Errorf("%s: packet %d before the end: %s", s, k, batch[k].Drop)
				}
			}
			if st := o.Snapshot(); st.Drops[DropExhausted] != 7 || st.Packets != 3 {
				t.Errorf("%s: %+v", s, st)
			}
		}
	}
}

func TestADV_P17_HardLimit(t *testing.T) {
	c := testConfig(suite(t, "aes256gcm16"))
	c.MaxPackets = 10
	o, _ := pair(t, c)
	var w Worker
	sent := 0
	for range 100 {
		if o.Seal(&w, []Packet{packet([]byte("x"), 17)}) == Pass {
			sent++
		}
	}
	if sent != 10 {
		t.Errorf("%d packets under a limit of 10", sent)
	}
	c.MaxPackets = 1 << 40 // beyond the counter: the counter's end holds
	o, _ = pair(t, c)
	if o.Remaining() != math.MaxUint32 {
		t.Errorf("%d numbers", o.Remaining())
	}
}

func TestADV_P26_CVE_2026_63912_OddSizes(t *testing.T) {
	for _, s := range allSuites(t) {
		o, i := pair(t, testConfig(s))
		for _, n := range []int{0, 1, 2, 3, 15, 16, 17, 4095, 4096, 4097, 1279, 1280, 1499, 1500, 1501, 65_534, 65_535, 65_536, 70_000} {
			payload := randomBytes(newRand(1), n)
			p := wantDrop(t, fmt.Sprint(s, " ", n), i, sealed(t, o, payload, 17), Pass)
			if !bytes.Equal(p.Payload(), payload) {
				t.Errorf("%s: %d octets came out as %d", s, n, p.Len)
			}
		}
	}
}

// TestADV_P40_NoPlaintextBeforeICV: what failed authentication is not in the
// buffer, in no suite.
func TestADV_P40_NoPlaintextBeforeICV(t *testing.T) {
	secret := bytes.Repeat([]byte("the plaintext   "), 8)
	for _, s := range allSuites(t) {
		if !s.Confidential() {
			continue
		}
		o, i := pair(t, testConfig(s))
		b := sealed(t, o, secret, 17)
		b[len(b)-1] ^= 1
		p := openOne(i, b)
		if p.Drop != DropAuth || bytes.Contains(p.Buf, secret[:16]) {
			t.Errorf("%s: %s, plaintext in the buffer: %v", s, p.Drop, bytes.Contains(p.Buf, secret[:16]))
		}
	}
}

// TestADV_P41_ReplayProtectionIsAlwaysOn: there is no window of 0, asking for one
// gives the default.
func TestADV_P41_ReplayProtectionIsAlwaysOn(t *testing.T) {
	c := testConfig(suite(t, "aes128gcm16"))
	c.ReplayWindow = 0
	o, i := pair(t, c)
	if i.win.Size() != 1024 {
		t.Errorf("window of %d", i.win.Size())
	}
	b := sealed(t, o, nil, 17)
	wantDrop(t, "first", i, b, Pass)
	wantDrop(t, "second", i, b, DropReplay)
}

// TestADV_P48_ReplaysCostNoCryptography: what the window refuses is not decrypted,
// so its octets stay as they came, and a wrong ICV is not even noticed.
func TestADV_P48_ReplaysCostNoCryptography(t *testing.T) {
	for _, s := range allSuites(t) {
		o, i := pair(t, testConfig(s))
		b := sealed(t, o, []byte("some payload"), 17)
		wantDrop(t, s.String(), i, b, Pass)
		p := wantDrop(t, s.String(), i, b, DropReplay)
		if !bytes.Equal(p.Buf, b) {
			t.Errorf("%s: a replay was decrypted", s)
		}
		b[len(b)-1] ^= 1
		wantDrop(t, s.String()+": ICV of a replay", i, b, DropReplay)
	}
}

// TestADV_P39_ClosedBetweenOpenAndCommit is the narrow case of the race: Zero came
// while the packet was being decrypted.
func TestADV_P39_ClosedBetweenOpenAndCommit(t *testing.T) {
	o, i := pair(t, testConfig(suite(t, "aes256gcm16")))
	b := sealed(t, o, []byte("in flight"), 17)
	i.closed = true // what Zero does first
	wantDrop(t, "closed in between", i, b, DropClosed)
	if st := i.Snapshot(); st.Packets != 0 || st.Drops[DropClosed] != 1 || i.Highest() != 0 {
		t.Errorf("%+v", st)
	}
}
