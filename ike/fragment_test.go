package ike_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// small makes a host send what is longer than n octets in fragments.
func small(n int, hs ...*iketest.Host) {
	for _, h := range hs {
		h.Config.FragmentSize = n
	}
}

// long makes identities, and with them IKE_AUTH, long.
func long(n int, hs ...*iketest.Host) {
	for _, h := range hs {
		h.Config.Local.ID.Data = bytes.Repeat([]byte("x"), n)
	}
}

// isFragment reads the numbers of a fragment.
func isFragment(d iketest.Datagram) (num, total int, ok bool) {
	if len(d.Data) < 36 || d.Data[16] != byte(wire.PayloadEncryptedFragment) {
		return 0, 0, false
	}
	return int(d.Data[32])<<8 | int(d.Data[33]), int(d.Data[34])<<8 | int(d.Data[35]), true
}

// request reports whether it is a request.
func isRequest(d iketest.Datagram) bool { return d.Data[19]&byte(wire.FlagResponse) == 0 }

// Everything in fragments of all sizes, lost, delayed, duplicated and reordered: the SA
// lives as without (RFC 7383).
func TestFragments(t *testing.T) {
	for _, size := range []int{256, 300, 333, 400, 576, 1280} {
		for seed := range uint64(6) {
			s, a, b := hosts(t, seed)
			small(size, a, b)
			long(900, a, b)
			if seed%2 == 1 {
				a.Config.Proposals = iketest.MustIKE("aes256-sha256-x25519")
				b.Config.Proposals = a.Config.Proposals
			}
			s.Faults = iketest.Faults{Loss: 0.05 * float64(seed%3), Dup: 0.2, Delay: 10 * time.Millisecond, Jitter: 40 * time.Millisecond}
			longest, count := 0, 0
			s.Watch = func(d iketest.Datagram) {
				if d.Data[18] == byte(wire.ExchangeIKESAInit) {
					return
				}
				longest = max(longest, len(d.Data)+32)
				if _, _, ok := isFragment(d); ok {
					count++
				}
			}
			e := a.Connect(b, nil)
			both(t, s, e)
			rekeyIKE(s, e)
			s.Run(time.Minute, nil)
			last := live(t, a)
			rekeyChild(s, last, only(t, last).InSPI)
			s.Settle(10 * time.Minute)
			clean(t, s)
			if longest > size || (count > 0) != (size < 1000) {
				t.Errorf("size %d: longest %d, %d fragments", size, longest, count)
			}
			only(t, live(t, a))
		}
	}
}

// Only if both ends have said so, and never IKE_SA_INIT (ADV-G1).
func TestADV_G1_NotNegotiated(t *testing.T) {
	for who := range 3 {
		s, a, b := hosts(t, 400)
		small(256, a, b)
		if who != 1 {
			a.Config.Fragments = ike.FragmentsNo
		}
		if who != 0 {
			b.Config.Fragments = ike.FragmentsNo
		}
		s.Watch = func(d iketest.Datagram) {
			if _, _, ok := isFragment(d); ok {
				t.Error("a fragment")
			}
		}
		e, o := up(t, s, a, b)
		before := o.M.Snapshot()
		s.ForgeFragment(e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, wire.PayloadDelete, 1, 1, nil)
		s.Run(time.Second, nil)
		if o.M.Snapshot() != before || b.Counters.Dropped(ike.DropFragment) != 1 {
			t.Error("taken")
		}
		clean(t, s)
	}
}

// Who only accepts fragments sends none, and takes those of others.
func TestFragmentsAccepted(t *testing.T) {
	s, a, b := hosts(t, 420)
	small(256, a, b)
	long(600, a, b)
	b.Config.Fragments = ike.FragmentsAccept
	var sent [2]int
	s.Watch = func(d iketest.Datagram) {
		if _, _, ok := isFragment(d); ok && isRequest(d) {
			sent[0]++
		} else if ok {
			sent[1]++
		}
	}
	up(t, s, a, b)
	if sent[0] < 3 || sent[1] != 0 {
		t.Errorf("%d fragments of the request, %d of the response", sent[0], sent[1])
	}
}

// The fragments of the IKE_AUTH request in every order, 2 to 6 of them (ADV-G5).
func TestADV_G5_ROW_53_EveryOrder(t *testing.T) {
	seen := map[int]bool{}
	for _, n := range []int{100, 190, 300, 450, 660} { // octets of identity
		for i, orders := 0, 1; i < orders; i++ {
			s, a, b := hosts(t, 401)
			small(256, a, b)
			long(n, a, b)
			var held []iketest.Datagram
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				_, total, ok := isFragment(d)
				if !ok || !isRequest(d) {
					return []iketest.Datagram{d}
				}
				seen[total] = true
				held = append(held, d)
				if len(held) < total {
					return nil
				}
				orders = factorial(total)
				out := permute(held, i)
				held = nil
				return out
			}
			e := a.Connect(b, nil)
			s.Run(400*time.Millisecond, nil) // without any retransmission
			if !e.Up() {
				t.Fatalf("%d octets, order %d: %s", n, i, s.Summary())
			}
			clean(t, s)
		}
	}
	for total := 2; total <= 6; total++ {
		if !seen[total] {
			t.Errorf("never %d fragments: %v", total, seen)
		}
	}
}

func factorial(n int) int {
	if n < 2 {
		return 1
	}
	return n * factorial(n-1)
}

// permute returns the ith order.
func permute(ds []iketest.Datagram, i int) []iketest.Datagram {
	rest := append([]iketest.Datagram(nil), ds...)
	var out []iketest.Datagram
	for len(rest) > 0 {
		k := i % len(rest)
		i /= len(rest)
		out = append(out, rest[k])
		rest = append(rest[:k:k], rest[k+1:]...)
	}
	return out
}

// A fragment that is damaged is dropped and the others kept: the retransmission of that
// one is enough (ADV-G3).
func TestADV_G3_OneBadFragment(t *testing.T) {
	for _, bad := range []int{1, 2} {
		s, a, b := hosts(t, 402)
		small(300, a, b)
		round := 0
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			num, _, ok := isFragment(d)
			if !ok || !isRequest(d) {
				return []iketest.Datagram{d}
			}
			if num == 1 {
				round++
			}
			switch {
			case round == 1 && num == bad:
				d.Data = bytes.Clone(d.Data)
				d.Data[len(d.Data)-1] ^= 1
			case round == 2 && num != bad:
				return nil // only the missing one comes again
			}
			return []iketest.Datagram{d}
		}
		e := a.Connect(b, nil)
		s.Run(2*time.Second, nil)
		if !e.Up() || b.Counters.Dropped(ike.DropICV) != 1 {
			t.Errorf("fragment %d: %s", bad, s.Summary())
		}
		clean(t, s)
	}
}

// fragmented sends INFORMATIONAL Deletes of nothing in fragments made by hand.
type fragmented struct {
	s    *iketest.Sim
	e, o *iketest.End
	id   uint32
}

func (f *fragmented) send(num, total int, inner []byte) {
	first := wire.PayloadNone
	if num == 1 {
		first = wire.PayloadDelete
	}
	f.s.ForgeFragment(f.e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: f.id}, first, uint16(num), uint16(total), inner)
	f.s.Run(20*time.Millisecond, nil)
}

func newFragmented(t *testing.T, seed uint64) *fragmented {
	t.Helper()
	s, a, b := hosts(t, seed)
	small(1280, a, b)
	e, o := up(t, s, a, b)
	return &fragmented{s, e, o, 2}
}

// cut returns the parts of a Delete of n unknown SPIs.
func cut(n, total int) [][]byte {
	d := &wire.Delete{Protocol: wire.ProtocolESP}
	for i := range n {
		d.SPIs = append(d.SPIs, uint32(i+1000))
	}
	_, inner := iketest.EncodeChain([]wire.Payload{d})
	var out [][]byte
	for i := range total {
		out = append(out, inner[i*len(inner)/total:(i+1)*len(inner)/total])
	}
	return out
}

func (f *fragmented) answered() bool {
	n := f.o.Host.Counters.Responses.Load()
	return n > 2 // IKE_SA_INIT and IKE_AUTH
}

// A total that grows starts over, one that shrinks is dropped; numbers outside are
// dropped (ADV-G2, ADV-G4).
func TestADV_G2_G4_Totals(t *testing.T) {
	f := newFragmented(t, 403)
	three, four := cut(30, 3), cut(30, 4)
	f.send(1, 3, three[0])
	f.send(2, 3, three[1])
	f.send(1, 4, four[0]) // cut anew: the two are void
	f.send(3, 3, three[2])
	f.send(0, 4, four[0])
	f.send(5, 4, four[0])
	f.send(2, 0, four[0])
	if f.answered() {
		t.Fatal("mixed from different sets")
	}
	f.send(4, 4, four[3])
	f.send(3, 4, four[2])
	f.send(3, 4, []byte("another")) // ADV-G6: there already
	if f.answered() {
		t.Fatal("answered too early")
	}
	f.send(2, 4, four[1])
	if !f.answered() || !f.o.Up() {
		t.Fatal("not answered")
	}
	clean(t, f.s)
}

// After it has been answered, only fragment 1 makes the answer come again, however it is
// cut, and it is not executed again (ADV-G6, ADV-G9).
func TestADV_G6_G9_ROW_51_Replayed(t *testing.T) {
	f := newFragmented(t, 404)
	parts := cut(30, 3)
	for i, p := range parts {
		f.send(i+1, 3, p)
	}
	n := f.o.Host.Counters.Responses.Load()
	resends := func() uint64 { return f.o.Host.Counters.Resends.Load() }
	before := resends()
	f.send(2, 3, parts[1])
	f.send(3, 3, parts[2])
	if resends() != before {
		t.Error("answered again for a later fragment")
	}
	f.send(1, 3, parts[0])
	f.send(1, 5, cut(30, 5)[0])
	if resends() != before+2 {
		t.Errorf("%d answers", resends()-before)
	}
	// The same message whole: not bit-identical to what was answered.
	f.s.Forge(f.e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: f.id}, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{1}})
	f.s.Run(time.Second, nil)
	// Begun in fragments, finished whole, and the rest of the fragments too late.
	f.id++
	f.send(1, 3, parts[0])
	f.s.Forge(f.e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: f.id}, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{1}})
	f.s.Run(time.Second, nil)
	f.send(2, 3, parts[1])
	f.send(3, 3, parts[2])
	if got := f.o.Host.Counters.Responses.Load(); got != n+1 {
		t.Errorf("executed %d times", got-n)
	}
	clean(t, f.s)
}

// Bounds: number, octets, time; other messages are not affected (ADV-G7, ADV-G10).
func TestADV_G7_G10_Bounds(t *testing.T) {
	f := newFragmented(t, 405)
	f.send(1, 65535, []byte{1})
	f.send(1, 129, []byte{1})
	if f.o.M.Fragments() != 0 {
		t.Error("kept beyond the cap")
	}
	// As many octets as they like: no more than a message can have is kept.
	big := make([]byte, 1200)
	for i := 128; i >= 1; i-- {
		f.send(i, 128, big)
		if n := f.o.M.Fragments(); n > 65535 {
			t.Fatalf("%d octets kept", n)
		}
	}
	// One octet each, in the worst order, then never finished: thrown away in time.
	kept := f.o.M.Fragments()
	f.send(128, 128, []byte{0})
	if f.o.M.Fragments() != kept+1 {
		t.Error("not kept")
	}
	f.s.Run(2*time.Minute, nil)
	if f.o.M.Fragments() != 0 {
		t.Error("kept for ever")
	}
	if !f.o.Up() || f.answered() {
		t.Error("the SA suffered")
	}
	// And the next whole one works.
	f.s.Forge(f.e, wire.Header{Exchange: wire.ExchangeInformational, MessageID: f.id})
	f.s.Run(time.Second, nil)
	if !f.answered() {
		t.Error("stuck")
	}
	clean(t, f.s)
}

// Unknown payloads around SKF are bounded by the parser's cap (ADV-G8, CVE-2026-12413).
func TestADV_G8_CVE_2026_12413_PayloadsAroundFragments(t *testing.T) {
	for _, n := range []int{1, wire.MaxPayloads - 2, wire.MaxPayloads - 1, wire.MaxPayloads, wire.MaxPayloads + 1} {
		s, a, b := hosts(t, 406)
		small(300, a, b)
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			if _, _, ok := isFragment(d); !ok || !isRequest(d) {
				return []iketest.Datagram{d}
			}
			// n unknown payloads of four octets before it: the ICV fails, nothing else.
			out := bytes.Clone(d.Data[:28])
			next := out[16]
			out[16] = 200
			for i := range n {
				t := byte(200)
				if i == n-1 {
					t = next
				}
				out = append(out, t, 0, 0, 4)
			}
			out = iketest.FixLength(append(out, d.Data[28:]...))
			return []iketest.Datagram{{From: d.From, To: d.To, Data: out}, d}
		}
		e := a.Connect(b, nil)
		s.Run(3*time.Second, nil)
		if !e.Up() {
			t.Errorf("%d payloads: %s", n, s.Summary())
		}
		clean(t, s)
	}
}

// Random fragments with valid ICVs: no panic, nothing beyond the caps.
func TestCVE_2013_6076_FragmentsAtRandom(t *testing.T) {
	f := newFragmented(t, 407)
	r := rand.New(rand.NewPCG(407, 1))
	for range 3000 {
		total := 1 + r.IntN(6)
		if r.IntN(20) == 0 {
			total = r.IntN(65536)
		}
		f.send(r.IntN(total+2), total, make([]byte, r.IntN(40)))
		if n := f.o.M.Fragments(); n > 65535 {
			t.Fatalf("%d octets kept", n)
		}
		if !f.o.Up() {
			break // a message came together that is malformed
		}
	}
	if f.s.Panics() != 0 {
		t.Error("panic")
	}
}
