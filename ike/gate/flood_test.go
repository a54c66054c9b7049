package gate

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// sources makes forged source addresses.
type sources struct{ *rand.Rand }

func newSources(seed uint64) sources { return sources{rand.New(rand.NewPCG(seed, 0))} }

func (s sources) path() Path {
	var a netip.Addr
	if s.IntN(2) == 0 {
		a = netip.AddrFrom4([4]byte{byte(1 + s.IntN(200)), byte(s.Uint32()), byte(s.Uint32()), byte(s.Uint32())})
	} else {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], 0x20010db8<<32|uint64(s.Uint32()))
		binary.BigEndian.PutUint64(b[8:], s.Uint64())
		a = netip.AddrFrom16(b)
	}
	return Path{local(), netip.AddrPortFrom(a, uint16(1+s.IntN(65535)))}
}

// TestADV_H1_SpoofedInits sends a virtual second of 100,000 forged requests and meanwhile lets
// honest peers in, who answer a cookie when asked.
func TestADV_H1_SpoofedInits(t *testing.T) {
	g := newGate(t, Config{})
	src := newSources(1)
	g.Add(Key{SPI: 0xee})
	const flood, honest = 100_000, 500
	next := uint64(1 << 32)
	opened, ok := 0, 0
	req := initReq(1, nonce(1))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range flood {
		now := epoch().Add(time.Duration(i) * time.Second / flood)
		binary.BigEndian.PutUint64(req, src.Uint64()|1)
		if v := g.Classify(now, src.path(), req); v.Kind == NewResponder {
			next++
			if g.Open(now, v, next) {
				opened++
			}
		}
		if i%(flood/honest) == 0 {
			if handshake(t, g, now, src.path(), next+1) {
				ok++
			}
			next++
			if v := g.Classify(now, peer(), encrypted(1, 0xee, wire.ExchangeCreateChildSA, wire.FlagInitiator, 9)); v.Kind != Existing {
				t.Fatal("an established SA was not served")
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d forged: %d half-open, heap %+d KiB; honest: %d of %d", flood, opened, grown>>10, ok, honest)
	if ok*100 < honest*99 {
		t.Errorf("%d of %d honest handshakes", ok, honest)
	}
	if opened > DefaultCookieThreshold || g.HalfOpen() != opened {
		t.Errorf("%d half-open SAs for forged requests", opened)
	}
	if grown > 10<<20 {
		t.Errorf("heap grew by %d", grown)
	}
	runtime.KeepAlive(g)
}

// handshake is an honest peer: INIT, cookie if demanded, AUTH.
func handshake(t *testing.T, g *Gate, now time.Time, p Path, spi uint64) bool {
	t.Helper()
	req := initReq(spi, nonce(7))
	v := g.Classify(now, p, req)
	if v.Kind == Reply {
		v = g.Classify(now, p, withCookie(spi, nonce(7), cookieOf(t, v, req)))
	}
	if v.Kind != NewResponder || !g.Open(now, v, spi) {
		return false
	}
	if g.Classify(now, p, encrypted(spi, spi, wire.ExchangeIKEAuth, wire.FlagInitiator, 1)).Kind != Existing {
		return false
	}
	g.Establish(now, Key{SPI: spi})
	return true
}

// TestADV_H1_RefusedInits is the same flood against a responder that refuses each request without
// keeping anything: it, too, must lead to cookies, or the refusals eat the rate of the honest.
func TestADV_H1_RefusedInits(t *testing.T) {
	g := newGate(t, Config{})
	src := newSources(2)
	responders, ok := 0, 0
	const flood, honest = 100_000, 500
	for i := range flood {
		now := epoch().Add(time.Duration(i) * time.Second / flood)
		if g.Classify(now, src.path(), initReq(src.Uint64()|1, nonce(1))).Kind == NewResponder {
			responders++ // NO_PROPOSAL_CHOSEN: never opened
		}
		if i%(flood/honest) == 0 && handshake(t, g, now, src.path(), uint64(i+1)<<20) {
			ok++
		}
	}
	if responders > DefaultInitRate || ok*100 < honest*99 {
		t.Errorf("%d forged requests reached a responder; %d of %d honest handshakes", responders, ok, honest)
	}
}

// Requests that were let in, and that nobody has got round to, count.
func TestQueuedDemandsCookies(t *testing.T) {
	g := newGate(t, Config{})
	for n, want := range map[int]Kind{0: NewResponder, DefaultCookieThreshold - 1: NewResponder, DefaultCookieThreshold: Reply} {
		g.Queued(n)
		if v := g.Classify(epoch(), peer(), initReq(uint64(n+1), nonce(1))); v.Kind != want {
			t.Errorf("with %d queued: verdict %d, want %d", n, v.Kind, want)
		}
	}
	g.Queued(0)
	if v := g.Classify(epoch(), peer(), initReq(1000, nonce(1))); v.Kind != NewResponder {
		t.Errorf("after the queue is empty: %d", v.Kind)
	}
}

// TestADV_H2_OneSource sends with valid cookies from one host, one /24 and one /64.
func TestADV_H2_OneSource(t *testing.T) {
	cfg := Config{MaxPerAddr: 16, MaxPerPrefix: 40, CookieThreshold: 100000, InitRate: 1 << 20}
	for name, tc := range map[string]struct {
		path func(i int) Path
		want int
		why  Reason
	}{
		"one host": {func(int) Path { return peer() }, 16, ReasonAddrFull},
		"one host, all ports": {func(i int) Path {
			return Path{local(), netip.AddrPortFrom(peer().Remote.Addr(), uint16(i+1))}
		}, 16, ReasonAddrFull},
		"one /24": {func(i int) Path {
			return Path{local(), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 500)}
		}, 40, ReasonPrefixFull},
		"one /64": {func(i int) Path {
			a := [16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 2}
			binary.BigEndian.PutUint64(a[8:], uint64(i)*0x9e3779b97f4a7c15+1)
			return Path{local(), netip.AddrPortFrom(netip.AddrFrom16(a), 500)}
		}, 40, ReasonPrefixFull},
		"v4-mapped": {func(i int) Path {
			a := netip.AddrFrom4([4]byte{198, 51, 100, 7})
			if i%2 == 0 {
				a = netip.AddrFrom16(a.As16())
			}
			return Path{local(), netip.AddrPortFrom(a, 500)}
		}, 16, ReasonAddrFull},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, cfg)
			demanded := 0
			for i := range 250 {
				p, spi := tc.path(i), uint64(i)+1
				req := initReq(spi, nonce(1))
				v := g.Classify(epoch(), p, req)
				if v.Kind == Reply {
					demanded++
					v = g.Classify(epoch(), p, withCookie(spi, nonce(1), cookieOf(t, v, req)))
				}
				if v.Kind == NewResponder {
					open(t, g, epoch(), v, spi)
				} else {
					wantDrop(t, v, tc.why)
				}
			}
			if g.HalfOpen() != tc.want {
				t.Errorf("%d half-open, want %d", g.HalfOpen(), tc.want)
			}
			if demanded != 250-tc.want/2 {
				t.Errorf("cookies were demanded %d times: forged requests would fill the share", demanded)
			}
			// Nobody else suffers, and it passes.
			wantKind(t, g.Classify(epoch(), from("203.0.113.5:500"), initReq(1, nonce(1))), NewResponder)
			if n := len(g.Expire(epoch().Add(DefaultHalfOpenLife), nil)); n != tc.want || g.HalfOpen() != 0 {
				t.Errorf("%d expired, %d left", n, g.HalfOpen())
			}
			wantKind(t, g.Classify(epoch().Add(DefaultHalfOpenLife), tc.path(1), initReq(1, nonce(1))), NewResponder)
		})
	}
}

// TestADV_H3_NeverAuthenticates has peers with cookies and key exchange that go no further.
func TestADV_H3_NeverAuthenticates(t *testing.T) {
	g := newGate(t, Config{MaxHalfOpen: 300, InitRate: 100})
	src := newSources(3)
	perSecond := map[int64]int{}
	most := 0
	for i := range 40_000 {
		now := epoch().Add(time.Duration(i) * 5 * time.Millisecond)
		for _, k := range g.Expire(now, nil) {
			if k.SPI == 0 {
				t.Fatal("expired nothing")
			}
		}
		p, spi := src.path(), uint64(i)+1
		req := initReq(spi, nonce(1))
		v := g.Classify(now, p, req)
		if v.Kind == Reply {
			v = g.Classify(now, p, withCookie(spi, nonce(1), cookieOf(t, v, req)))
		}
		if v.Kind == NewResponder {
			perSecond[now.Unix()]++
			open(t, g, now, v, spi)
		}
		most = max(most, g.HalfOpen())
	}
	if most > 300 {
		t.Errorf("%d half-open SAs", most)
	}
	for s, n := range perSecond {
		if n > 100+25 {
			t.Errorf("%d key exchanges in second %d", n, s)
		}
	}
	if g.Stats().Expired == 0 || g.Stats().Count(ReasonFull) == 0 {
		t.Errorf("stats %+v", g.Stats())
	}
}

// TestADV_H4_NothingLeaks ends half-open SAs in every way; all counts return to zero.
func TestADV_H4_NothingLeaks(t *testing.T) {
	g := newGate(t, Config{})
	src := newSources(4)
	for i := range 3000 {
		now := epoch().Add(time.Duration(i) * time.Second)
		g.Expire(now, nil)
		p, spi := src.path(), uint64(i)+1
		v := g.Classify(now, p, initReq(spi, nonce(1)))
		switch {
		case v.Kind != NewResponder:
			continue
		case i%5 == 0: // stateless refusal
		case i%5 == 1: // IKE_AUTH failed
			open(t, g, now, v, spi)
			g.Remove(Key{SPI: spi})
			g.Remove(Key{SPI: spi})
			g.Establish(now, Key{SPI: spi})
		case i%5 == 2: // established, later closed
			open(t, g, now, v, spi)
			g.Establish(now, Key{SPI: spi})
			g.Establish(now, Key{SPI: spi})
			g.Remove(Key{SPI: spi})
		default: // silence
			open(t, g, now, v, spi)
		}
	}
	end := epoch().Add(time.Hour)
	g.Expire(end, nil)
	if g.HalfOpen() != 0 || g.Len() != 0 || len(g.byInit) != 0 || len(g.perAddr) != 0 || len(g.perPrefix) != 0 || g.recent.n != 0 {
		t.Errorf("left: %d half-open, %d SAs, %d requests, %d addresses, %d prefixes, %d recent",
			g.HalfOpen(), g.Len(), len(g.byInit), len(g.perAddr), len(g.perPrefix), g.recent.n)
	}
	if len(g.slots) > DefaultMaxHalfOpen+maxRecent {
		t.Errorf("%d slots", len(g.slots))
	}
	if !g.Deadline().IsZero() {
		t.Errorf("deadline %v", g.Deadline())
	}
}

// TestHalfOpenLife is long when quiet and short under load (RFC 8019, Section 4.1).
func TestHalfOpenLife(t *testing.T) {
	g := newGate(t, Config{CookieThreshold: 3})
	for i := range uint64(2) {
		open(t, g, epoch(), g.Classify(epoch(), peer(), initReq(i+1, nonce(1))), i+1)
	}
	if want := epoch().Add(DefaultHalfOpenLife); !g.Deadline().Equal(want) {
		t.Errorf("deadline %v, want %v", g.Deadline(), want)
	}
	if got := g.Expire(epoch().Add(DefaultHalfOpenLife-1), nil); len(got) != 0 {
		t.Errorf("%v expired early", got)
	}
	now := epoch().Add(10 * time.Second)
	open(t, g, now, g.Classify(now, peer(), initReq(3, nonce(1))), 3)
	if want := epoch().Add(DefaultBusyLife); !g.Deadline().Equal(want) {
		t.Errorf("under load: deadline %v, want %v", g.Deadline(), want)
	}
	// One goes, and there is no load any more.
	if got := g.Expire(epoch().Add(DefaultBusyLife), nil); len(got) != 1 || got[0] != (Key{SPI: 1}) {
		t.Errorf("expired %v", got)
	}
	if want := epoch().Add(DefaultHalfOpenLife); !g.Deadline().Equal(want) {
		t.Errorf("afterwards: deadline %v, want %v", g.Deadline(), want)
	}
}

// TestADV_H6_NoAmplification sends every kind of stimulus in every length a datagram can have.
func TestADV_H6_NoAmplification(t *testing.T) {
	in, out := 0, 0
	for _, cfg := range []Config{{}, {CookieThreshold: -1}} {
		g := newGate(t, cfg)
		now := epoch()
		for size := 28; size < 300; size++ {
			for x := range 256 {
				for _, version := range []byte{0x10, 0x20, 0x30} {
					now = now.Add(2 * time.Second)
					next := wire.PayloadEncrypted
					if size%2 == 0 {
						next = wire.PayloadSA
					}
					b := header(1, uint64(size%3), next, wire.ExchangeType(x), wire.FlagInitiator, 0, size)
					b[17] = version
					v := g.Classify(now, peer(), b)
					in += len(b)
					out += len(v.Reply)
					if len(v.Reply) > len(b) {
						t.Fatalf("%d octets answered with %d (%v)", len(b), len(v.Reply), v.Reason)
					}
				}
			}
		}
		// The smallest request that can be answered with a cookie.
		small := header(1, 0, wire.PayloadSA, wire.ExchangeIKESAInit, wire.FlagInitiator, 0, 28+4+4+20)
		copy(small[28:], []byte{byte(wire.PayloadKE), 0, 0, 4, byte(wire.PayloadNonce), 0, 0, 4, 0, 0, 0, 20})
		if v := g.Classify(now, peer(), small); len(v.Reply) > len(small) {
			t.Errorf("%d octets answered with %d", len(small), len(v.Reply))
		}
	}
	if out == 0 || out > in {
		t.Errorf("%d octets in, %d out", in, out)
	}
}

func BenchmarkClassify(b *testing.B) {
	src := newSources(5)
	paths := make([]Path, 4096)
	for i := range paths {
		paths[i] = src.path()
	}
	req := initReq(1, nonce(1))
	for name, cfg := range map[string]Config{"cookie": {CookieThreshold: -1}} {
		b.Run(name, func(b *testing.B) {
			g := newGate(b, cfg)
			now := epoch()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g.Classify(now, paths[i%len(paths)], req)
			}
		})
	}
}
