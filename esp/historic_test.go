package esp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// The window moves on by more than half a cycle while a packet is being decrypted: the high half
// that was inferred before is not the one that counts after, and the number that has the same low
// half now is still to come (Linux, commit 3b59df46).
func TestROW_69_WindowMovesDuringDecryption(t *testing.T) {
	for _, name := range []string{"aes256gcm16", "chacha20poly1305"} {
		for _, moved := range []uint64{1 << 31, 1<<31 + 1<<30, 1<<32 - 10, 1 << 32, 1<<32 + 5} {
			c := testConfig(suite(t, name))
			c.ESN = true
			o, i := pair(t, c)
			const n = 5000
			o.seq.Store(n - 1)
			i.win.Commit(n - 1)
			late := received(sealed(t, o, []byte("late"), 17))
			var w Worker
			i.win.Snapshot(&w.seen)
			st := i.crypt.Load()
			copy(w.nonce[:saltLen], st.salt[:])
			if !i.precheck(&w.seen, &late) || late.seq != n {
				t.Fatalf("%s: number %d", name, late.seq)
			}
			plain, ok := st.open(&w, &late)
			if !ok {
				t.Fatal("not authentic")
			}
			late.Off += i.head
			if late.Drop = i.strip(&late, plain); late.Drop != Pass {
				t.Fatal(late.Drop)
			}
			i.win.Commit(n + moved) // others have been faster
			batch := []Packet{late}
			i.commit(batch)
			if batch[0].Drop != DropOld || batch[0].Len != 0 || i.Highest() != n+moved {
				t.Errorf("%s, moved by %#x: %s, highest %#x", name, moved, batch[0].Drop, i.Highest())
			}
			if moved > 1<<32-1000 && moved != 1<<32 {
				o.seq.Store(n + 1<<32 - 1)
				wantDrop(t, "the same low half, a cycle later", i, sealed(t, o, []byte("right"), 17), Pass)
			}
		}
	}
}

// The same octets under numbers that have the same low half: IV and key stream differ.
func TestCVE_2019_11840_CountersBeyond32Bits(t *testing.T) {
	text := bytes.Repeat([]byte{0x55}, 200)
	for _, s := range allSuites(t) {
		if !s.AEAD() {
			continue
		}
		c := testConfig(s)
		c.ESN = true
		o, _ := pair(t, c)
		seen := map[string]uint64{}
		for _, high := range []uint64{0, 1, 2, 1 << 16, 1 << 31} {
			for _, low := range []uint64{1, 2, 1 << 31, 1<<32 - 2, 1<<32 - 1, 1 << 32} {
				n := high<<32 + low
				o.seq.Store(n - 1)
				b := sealed(t, o, text, 17)
				iv, cipher := b[headerLen:o.HeaderLen()], string(b[o.HeaderLen():o.HeaderLen()+len(text)])
				if binary.BigEndian.Uint64(iv) != n {
					t.Errorf("%s: number %#x has IV %x", s, n, iv)
				}
				if old, ok := seen[cipher]; ok && old != n {
					t.Errorf("%s: one key stream for %#x and %#x", s, old, n)
				}
				seen[cipher] = n
			}
		}
	}
}

// SPIs that mean something else are those of no SA.
func TestCVE_2025_39965_ReservedSPIs(t *testing.T) {
	for spi := range uint32(256) {
		c := testConfig(suite(t, "aes256gcm16"))
		c.SPI = spi
		if _, err := NewInbound(c); err == nil {
			t.Errorf("inbound SA with SPI %d", spi)
		}
		if _, err := NewOutbound(c); err == nil {
			t.Errorf("outbound SA with SPI %d", spi)
		}
		if _, ok := SPI(binary.BigEndian.AppendUint32(nil, spi)); ok {
			t.Errorf("SPI %d in a packet of four octets", spi)
		}
		if _, ok := SPI(append(binary.BigEndian.AppendUint32(nil, spi), make([]byte, 60)...)); ok {
			t.Errorf("SPI %d in a packet", spi)
		}
	}
}
