package sockets

import (
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/auth"
)

// TestADV_D18_ROW_96_WeakPSKRefused: whoever answers a handshake gets what it takes to guess the shared key offline, so a host
// with one that can be guessed does not start, unless told to; then it warns.
func TestADV_D18_ROW_96_WeakPSKRefused(t *testing.T) {
	weak, good := auth.NewPSK([]byte("swordfish")), auth.NewPSK([]byte("a pre-shared key of many octets"))
	side := func(k auth.PSK) Auth { return Auth{Method: AuthPSK, ID: "sun.example", Secret: k} }
	pub := Auth{Method: AuthBTNS}
	for _, tt := range []struct {
		name            string
		local, remote   Auth
		allow           bool
		refused, warned bool
	}{
		{"good", side(good), side(good), false, false, false},
		{"weak", side(weak), side(weak), false, true, false},
		{"weak, only we prove it", side(weak), pub, false, true, false},
		{"weak, only the peer proves it", pub, side(weak), false, true, false},
		{"weak and allowed", side(weak), side(weak), true, false, true},
		{"good and allowed", side(good), side(good), true, false, false},
	} {
		c := Config{Connections: []Connection{{Name: "moon", Local: tt.local, Remote: tt.remote, AllowWeakPSK: tt.allow,
			Children: []Child{{RemoteTS: []string{"fd00::/64"}}}}}}
		warnings, err := c.Check()
		if (err != nil) != tt.refused || err != nil && (!strings.Contains(err.Error(), "guessed offline") || !strings.Contains(err.Error(), "moon")) {
			t.Errorf("%s: Check: %v", tt.name, err)
		}
		if warned := strings.Contains(strings.Join(warnings, "\n"), "guessed offline"); warned != tt.warned {
			t.Errorf("%s: warned of %q", tt.name, warnings)
		}
		st, err := New(c)
		if (err != nil) != tt.refused {
			t.Errorf("%s: New: %v", tt.name, err)
		}
		if err == nil {
			_ = st.Close()
		} else if strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %v repeats the secret", tt.name, err)
		}
	}
}
