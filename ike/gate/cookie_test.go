package gate

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

func always(t testing.TB) *Gate { return newGate(t, Config{CookieThreshold: -1}) }

func TestCookieRoundTrip(t *testing.T) {
	g := always(t)
	req := initReq(1, nonce(1))
	cookie := cookieOf(t, g.Classify(epoch(), peer(), req), req)
	if g.HalfOpen() != 0 || len(g.byInit) != 0 {
		t.Fatal("a cookie cost state")
	}
	back := withCookie(1, nonce(1), cookie)
	open(t, g, epoch(), g.Classify(epoch(), peer(), back), 2)
	if v := g.Classify(epoch(), peer(), back); v.Kind != Existing || !v.Retransmit {
		t.Errorf("its retransmission: %v (%v)", v.Kind, v.Reason)
	}
}

// TestADV_B21_WrongCookies treats each as if there were none: a new cookie, and no state.
func TestADV_B21_WrongCookies(t *testing.T) {
	g := always(t)
	req := initReq(1, nonce(1))
	cookie := cookieOf(t, g.Classify(epoch(), peer(), req), req)
	notify := func(data []byte) wire.Payload { return &wire.Notify{NType: wire.NotifyCookie, Data: data} }
	front := func(n []byte, ps ...wire.Payload) []byte { return initMsg(1, append(ps, good(n)...)...) }

	cases := map[string][]byte{
		"length 0":       front(nonce(1), notify(nil)),
		"length 65":      front(nonce(1), notify(append(bytes.Clone(cookie), make([]byte, 48)...))),
		"cut":            front(nonce(1), notify(cookie[:len(cookie)-1])),
		"long":           front(nonce(1), notify(append(bytes.Clone(cookie), 0))),
		"other SPI":      withCookie(2, nonce(1), cookie),
		"other nonce":    withCookie(1, nonce(2), cookie),
		"shorter nonce":  withCookie(1, nonce(1)[:31], cookie),
		"twice":          front(nonce(1), notify(cookie), notify(cookie)),
		"right and none": front(nonce(1), notify(cookie), notify(nil)),
		"not first":      initMsg(1, append(good(nonce(1)), notify(cookie))...),
		"behind vendor":  front(nonce(1), &wire.Vendor{Data: []byte("v")}, notify(cookie)),
		"with an SPI":    front(nonce(1), &wire.Notify{Protocol: 1, SPI: make([]byte, 8), NType: wire.NotifyCookie, Data: cookie}),
		"COOKIE2":        front(nonce(1), &wire.Notify{NType: wire.NotifyCookie2, Data: cookie}),
	}
	for i := range cookie {
		bad := bytes.Clone(cookie)
		bad[i] ^= 1
		cases["octet "+string(rune('a'+i))] = withCookie(1, nonce(1), bad)
	}
	for name, b := range cases {
		v := g.Classify(epoch(), peer(), b)
		if v.Kind != Reply {
			t.Errorf("%s: %v (%v)", name, v.Kind, v.Reason)
			continue
		}
		cookieOf(t, v, b)
	}
	b := withCookie(1, nonce(1), cookie)
	for _, remote := range []string{"198.51.100.8:500", "[2001:db8::7]:500"} {
		cookieOf(t, g.Classify(epoch(), from(remote), b), b)
	}
	cookieOf(t, g.Classify(epoch().Add(2*cookieRotation), peer(), b), b) // stale
	if g.HalfOpen() != 0 || g.Len() != 0 {
		t.Error("something was kept")
	}
	// Without a demand, a cookie of whoever's making is no obstacle.
	wantKind(t, newGate(t, Config{}).Classify(epoch(), peer(), cases["octet a"]), NewResponder)
}

// TestADV_B22_Rotation finds no moment at which a peer that answers at once fails for ever, and
// none at which an old cookie lives on.
func TestADV_B22_Rotation(t *testing.T) {
	g := always(t)
	for i := range 2000 {
		now := epoch().Add(time.Duration(i) * 177 * time.Millisecond)
		spi := uint64(i) + 1
		req := initReq(spi, nonce(1))
		cookie := cookieOf(t, g.Classify(now, peer(), req), req)
		back := withCookie(spi, nonce(1), cookie)
		for _, rtt := range []time.Duration{0, time.Second, cookieRotation - 1, cookieRotation} {
			// A copy of the gate, so that the clock of the loop does not run ahead.
			g := *g
			wantKind(t, g.Classify(now.Add(rtt), peer(), back), NewResponder)
		}
		late := *g
		wantKind(t, late.Classify(now.Add(2*cookieRotation), peer(), back), Reply)
	}
	// After a long quiet time the last secret does not count as the previous one.
	g = always(t)
	req := initReq(1, nonce(1))
	back := withCookie(1, nonce(1), cookieOf(t, g.Classify(epoch(), peer(), req), req))
	wantKind(t, g.Classify(epoch().Add(time.Hour), peer(), back), Reply)
	wantKind(t, g.Classify(epoch().Add(time.Hour), peer(), back), Reply)
}

// TestADV_B23_CookieBinds lets SA and KE differ from the first request: RFC 7296, Section 2.6
// binds nonce, address and SPI.
func TestADV_B23_CookieBinds(t *testing.T) {
	g := always(t)
	req := initReq(1, nonce(1))
	cookie := cookieOf(t, g.Classify(epoch(), peer(), req), req)
	ps := append([]wire.Payload{&wire.Notify{NType: wire.NotifyCookie, Data: cookie}}, good(nonce(1))...)
	ps[2] = &wire.KE{Group: 19, Data: make([]byte, 64)}
	v := g.Classify(epoch(), peer(), initMsg(1, ps...))
	open(t, g, epoch(), v, 5)
	// Another port is another path of the same address (a NAT moved it): the cookie holds.
	wantKind(t, g.Classify(epoch(), from("198.51.100.7:61000"), withCookie(1, nonce(1), cookie)), NewResponder)
}

// TestCookieWithoutNewRandomness keeps the old secret.
func TestCookieWithoutNewRandomness(t *testing.T) {
	once := io.MultiReader(io.LimitReader(seeded(3), 48), iotest.ErrReader(errors.New("dry")))
	g, err := New(Config{CookieThreshold: -1}, once, epoch())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		now := epoch().Add(time.Duration(i) * time.Minute)
		req := initReq(1, nonce(byte(i)))
		cookie := cookieOf(t, g.Classify(now, peer(), req), req)
		wantKind(t, g.Classify(now, peer(), withCookie(1, nonce(byte(i)), cookie)), NewResponder)
	}
}

// TestCookiesDiffer shows that no two of SPI, nonce, address or gate give the same cookie.
func TestCookiesDiffer(t *testing.T) {
	seen := map[string]string{}
	for seed, name := range map[byte]string{1: "gate 1", 2: "gate 2"} {
		g, err := New(Config{CookieThreshold: -1}, seeded(seed), epoch())
		if err != nil {
			t.Fatal(err)
		}
		for spi := uint64(1); spi < 5; spi++ {
			for n := range byte(4) {
				for _, remote := range []string{"198.51.100.1:500", "198.51.100.2:500", "[2001:db8::1]:500", "[2001:db8::2]:500"} {
					req := initReq(spi, nonce(n))
					c := string(cookieOf(t, g.Classify(epoch(), from(remote), req), req))
					if other, twice := seen[c]; twice {
						t.Errorf("the cookie of %s is that of %s", remote+name, other)
					}
					seen[c] = remote + name
				}
			}
		}
	}
}
