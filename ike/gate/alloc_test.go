//go:build !race

package gate

import (
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

// TestNoAllocations covers every verdict but NewResponder's Open.
func TestNoAllocations(t *testing.T) {
	g := newGate(t, Config{MaxPerAddr: 4})
	g.Add(Key{SPI: 0xb2})
	req := initReq(1, nonce(1))
	open(t, g, epoch(), g.Classify(epoch(), peer(), req), 2)
	cookies := newGate(t, Config{CookieThreshold: -1})
	version3 := initReq(1, nonce(1))
	version3[17] = 0x30
	noNonce := initMsg(1, good(nonce(1))[:2]...)
	now := epoch()
	for name, tc := range map[string]struct {
		g    *Gate
		b    []byte
		want Kind
	}{
		"short":      {g, req[:5], Drop},
		"version":    {g, version3, Reply},
		"response":   {g, encrypted(1, 2, 37, wire.FlagResponse, 0), Drop},
		"payloads":   {g, noNonce, Drop},
		"existing":   {g, encrypted(1, 0xb2, 37, wire.FlagInitiator, 0), Existing},
		"retransmit": {g, req, Existing},
		"unknown":    {g, encrypted(1, 0xb3, 37, wire.FlagInitiator, 0), Reply},
		"new":        {g, initReq(3, nonce(3)), NewResponder},
		"cookie":     {cookies, req, Reply},
		"bad cookie": {cookies, withCookie(1, nonce(1), make([]byte, 17)), Reply},
	} {
		now = now.Add(answerGap)
		path := peer()
		if n := testing.AllocsPerRun(100, func() {
			now = now.Add(answerGap)
			if v := tc.g.Classify(now, path, tc.b); v.Kind != tc.want {
				t.Errorf("%s: %v (%v)", name, v.Kind, v.Reason)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
