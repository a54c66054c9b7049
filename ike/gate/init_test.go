package gate

import (
	"bytes"
	"errors"
	"testing"
	"testing/iotest"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

func TestADV_A14_A15_PayloadChains(t *testing.T) {
	g := newGate(t, Config{})
	// A14: nothing behind the header though it names a payload; something though it names none.
	wantDrop(t, g.Classify(epoch(), peer(), header(1, 0, wire.PayloadSA, wire.ExchangeIKESAInit, wire.FlagInitiator, 0, 28)), ReasonChain)
	wantDrop(t, g.Classify(epoch(), peer(), header(1, 0, wire.PayloadNone, wire.ExchangeIKESAInit, wire.FlagInitiator, 0, 60)), ReasonChain)
	wantDrop(t, g.Classify(epoch(), peer(), header(1, 0, wire.PayloadNone, wire.ExchangeIKESAInit, wire.FlagInitiator, 0, 28)), ReasonPayloads)

	// A15: each payload's length in turn, wrong.
	req := initReq(1, nonce(1))
	for off := 28; off < len(req); {
		size := int(req[off+2])<<8 | int(req[off+3])
		for _, n := range []int{0, 1, 2, 3, size - 1, size + 1, len(req) - off + 1, 65535} {
			b := bytes.Clone(req)
			b[off+2], b[off+3] = byte(n>>8), byte(n)
			if v := g.Classify(epoch(), peer(), b); v.Kind != Drop {
				// One octet less or more moves the next header; that must not pass either.
				t.Errorf("payload at %d with length %d instead of %d: %v", off, n, size, v.Kind)
			}
		}
		off += size
	}
	// D5, G1: nothing can be encrypted yet, and IKE_SA_INIT is never fragmented.
	for _, p := range []wire.PayloadType{wire.PayloadEncrypted, wire.PayloadEncryptedFragment} {
		b := bytes.Clone(req)
		b[16] = byte(p)
		wantDrop(t, g.Classify(epoch(), peer(), b), ReasonChain)
	}
	if g.HalfOpen() != 0 || g.Len() != 0 {
		t.Error("something was kept")
	}
}

func TestADV_A16_ManyPayloads(t *testing.T) {
	g := newGate(t, Config{})
	for extra, want := range map[int]Kind{
		wire.MaxPayloads - 4: NewResponder,
		wire.MaxPayloads - 3: NewResponder, // exactly MaxPayloads
		wire.MaxPayloads - 2: Drop,
		3000:                 Drop,
	} {
		ps := good(nonce(1))
		for range extra {
			ps = append(ps, &wire.Vendor{})
		}
		if v := g.Classify(epoch(), peer(), initMsg(uint64(extra), ps...)); v.Kind != want {
			t.Errorf("%d payloads: %v (%v)", extra+3, v.Kind, v.Reason)
		}
	}
	big := initMsg(9, append(good(nonce(1)), &wire.Vendor{Data: make([]byte, maxInit)})...)
	wantDrop(t, g.Classify(epoch(), peer(), big), ReasonInitSize)
}

func TestADV_B1_MissingAndDoublePayloads(t *testing.T) {
	g := newGate(t, Config{})
	for i := range 3 {
		ps := good(nonce(1))
		missing := append(append([]wire.Payload{}, ps[:i]...), ps[i+1:]...)
		wantDrop(t, g.Classify(epoch(), peer(), initMsg(1, missing...)), ReasonPayloads)
		double := append(append([]wire.Payload{}, ps...), ps[i])
		wantDrop(t, g.Classify(epoch(), peer(), initMsg(1, double...)), ReasonPayloads)
	}
	if g.HalfOpen() != 0 {
		t.Error("a half-open SA was made")
	}
}

func TestADV_B2_B3_B4_OrderAndUnknownPayloads(t *testing.T) {
	g := newGate(t, Config{})
	ps := good(nonce(1))
	spi := uint64(0)
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		spi++
		wantKind(t, g.Classify(epoch(), peer(), initMsg(spi, ps[order[0]], ps[order[1]], ps[order[2]])), NewResponder)
	}
	// A critical unknown payload is the machine's to answer.
	for _, critical := range []bool{false, true} {
		spi++
		unknown := &wire.Unknown{PType: 200, Critical: critical, Data: []byte("x")}
		wantKind(t, g.Classify(epoch(), peer(), initMsg(spi, append(good(nonce(1)), unknown)...)), NewResponder)
	}
}

func TestADV_B17_NonceLength(t *testing.T) {
	g := newGate(t, Config{})
	for n, ok := range map[int]bool{0: false, 15: false, 16: true, 256: true, 257: false, 4000: false} {
		v := g.Classify(epoch(), peer(), initReq(uint64(n)+1, bytes.Repeat([]byte{1}, n)))
		if !ok {
			wantDrop(t, v, ReasonNonce)
		} else {
			wantKind(t, v, NewResponder)
		}
	}
}

func TestADV_B18_RetransmittedInit(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(0x11, nonce(1))
	v := g.Classify(epoch(), peer(), req)
	open(t, g, epoch(), v, 0x22)
	for i := range 20 {
		now := epoch().Add(time.Duration(i) * time.Second)
		v := g.Classify(now, peer(), bytes.Clone(req))
		if v.Kind != Existing || !v.Retransmit || v.Key != (Key{SPI: 0x22}) {
			t.Fatalf("copy %d: %+v", i, v)
		}
	}
	if g.HalfOpen() != 1 || g.Len() != 1 || g.Stats().Retransmits != 20 {
		t.Errorf("half-open %d, len %d", g.HalfOpen(), g.Len())
	}
	if g.Open(epoch(), v, 0x23) {
		t.Error("one request was opened twice")
	}
	// The same under load, when a stranger would be asked for a cookie.
	busy := newGate(t, Config{CookieThreshold: 1})
	open(t, busy, epoch(), busy.Classify(epoch(), peer(), req), 0x22)
	if v := busy.Classify(epoch(), peer(), req); v.Kind != Existing || !v.Retransmit {
		t.Errorf("under load: %v (%v)", v.Kind, v.Reason)
	}
	cookieOf(t, busy.Classify(epoch(), from("203.0.113.9:500"), req), req)
}

func TestADV_B19_SameSPIAnotherSA(t *testing.T) {
	g := newGate(t, Config{})
	spi := uint64(100)
	seen := map[Key]bool{}
	for _, p := range []Path{peer(), from("198.51.100.7:4500"), from("198.51.100.8:500")} {
		for n := range 3 {
			req := initReq(0x11, nonce(byte(n)))
			v := g.Classify(epoch(), p, req)
			open(t, g, epoch(), v, spi)
			again := g.Classify(epoch(), p, req)
			if again.Kind != Existing || seen[again.Key] {
				t.Errorf("%v nonce %d: %v, key %v", p.Remote, n, again.Kind, again.Key)
			}
			seen[again.Key] = true
			spi++
		}
	}
	if g.HalfOpen() != 9 {
		t.Errorf("%d half-open SAs, want 9", g.HalfOpen())
	}
	// Ending one of those that share an SPI leaves the others found.
	for i := uint64(100); i < 109; i++ {
		g.Remove(Key{SPI: i})
		if g.HalfOpen() != int(108-i) {
			t.Fatalf("%d left", g.HalfOpen())
		}
		for p, path := range []Path{peer(), from("198.51.100.7:4500"), from("198.51.100.8:500")} {
			for n := range 3 {
				want := NewResponder
				if uint64(100+3*p+n) > i {
					want = Existing
				}
				wantKind(t, g.Classify(epoch(), path, initReq(0x11, nonce(byte(n)))), want)
			}
		}
	}
}

func TestADV_B20_InitAfterAuth(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(0x11, nonce(1))
	open(t, g, epoch(), g.Classify(epoch(), peer(), req), 0x22)
	g.Establish(epoch().Add(time.Second), Key{SPI: 0x22})
	for i := 1; i < 60; i++ {
		wantDrop(t, g.Classify(epoch().Add(time.Duration(i)*time.Second), peer(), req), ReasonLate)
	}
	// It is the copy that is ignored, not the peer, nor the SA.
	wantKind(t, g.Classify(epoch(), peer(), initReq(0x11, nonce(2))), NewResponder)
	wantKind(t, g.Classify(epoch(), peer(), encrypted(0x11, 0x22, wire.ExchangeInformational, wire.FlagInitiator, 2)), Existing)
	// Still so when the SA is gone; forgotten in the end.
	g.Remove(Key{SPI: 0x22})
	wantDrop(t, g.Classify(epoch().Add(59*time.Second), peer(), req), ReasonLate)
	g.Expire(epoch().Add(time.Second+recentLife), nil)
	wantKind(t, g.Classify(epoch().Add(2*recentLife), peer(), req), NewResponder)
	if len(g.byInit) != 0 || len(g.byKey) != 0 || len(g.perAddr) != 0 || len(g.perPrefix) != 0 {
		t.Error("something is left")
	}
}

func TestOpenRefuses(t *testing.T) {
	g := newGate(t, Config{MaxHalfOpen: 3, MaxPerAddr: 2, MaxPerPrefix: 3})
	v := g.Classify(epoch(), peer(), initReq(1, nonce(1)))
	if g.Open(epoch(), v, 0) {
		t.Error("SPI zero was accepted")
	}
	g.Add(Key{SPI: 7})
	if g.Open(epoch(), v, 7) {
		t.Error("a taken SPI was accepted")
	}
	if g.Add(Key{SPI: 7}) || g.Add(Key{}) {
		t.Error("Add took a taken or zero SPI")
	}
	if g.Open(epoch(), Verdict{Kind: Drop}, 8) || g.Open(epoch(), Verdict{Kind: NewResponder}, 8) {
		t.Error("opened without a verdict")
	}
	// Verdicts that were given before a cap was reached.
	var vs []Verdict
	for i, remote := range []string{"198.51.100.7:500", "198.51.100.7:500", "198.51.100.7:500", "198.51.100.8:500", "198.51.100.9:500", "203.0.113.1:500"} {
		vs = append(vs, g.Classify(epoch(), from(remote), initReq(uint64(i)+1, nonce(2))))
	}
	var opened []bool
	for i, v := range vs {
		opened = append(opened, g.Open(epoch(), v, uint64(i)+100))
	}
	if want := []bool{true, true, false, true, false, false}; !equal(opened, want) {
		t.Errorf("opened %v, want %v", opened, want)
	}
}

func equal(a, b []bool) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestNewWithoutRandomness(t *testing.T) {
	failure := errors.New("no entropy")
	if _, err := New(Config{}, iotest.ErrReader(failure), epoch()); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}
