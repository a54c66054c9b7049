package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets"
)

// TestSessionWords: what a file says about IKE SAs as such, in swanctl's words.
func TestSessionWords(t *testing.T) {
	parse := func(t *testing.T, conn, child, host string) (*File, error) {
		t.Helper()
		if conn != "" {
			conn = ", " + conn
		}
		f, err := Parse("f.yaml", fmt.Appendf(nil, `
addresses: [10.1.0.1/24]
half_open: {%s}
connections:
  moon: {local: {auth: psk, id: sun}, remote: {auth: psk, id: moon}, remote_addrs: 192.0.2.2, version: 2%s, children: {net: {%s}}}
secrets: {ike-1: {secret: a secret of more than sixteen octets}}
`, host, conn, child), nil)
		if err == nil {
			_, err = f.Check()
		}
		return f, err
	}
	const start = "start_action: none"
	for _, r := range []struct {
		conn, child, host string
		want              func(h *sockets.Config, c *sockets.Connection) bool
	}{
		{"", start, "", func(h *sockets.Config, c *sockets.Connection) bool {
			return c.Unique == sockets.UniqueNo && c.Childless == sockets.ChildlessAllow && c.Fragmentation == sockets.FragmentationYes &&
				h.HalfOpen == sockets.HalfOpen{} && c.Children[0].Start == sockets.StartNone
		}},
		{"unique: no", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Unique == sockets.UniqueNo }},
		{"unique: never", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Unique == sockets.UniqueNever }},
		{"unique: keep", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Unique == sockets.UniqueKeep }},
		{"unique: replace", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Unique == sockets.UniqueReplace }},
		{"childless: allow", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Childless == sockets.ChildlessAllow }},
		{"childless: prefer", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Childless == sockets.ChildlessPrefer }},
		{"childless: force", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Childless == sockets.ChildlessForce }},
		{"childless: never", start, "", func(_ *sockets.Config, c *sockets.Connection) bool { return c.Childless == sockets.ChildlessNever }},
		{"fragmentation: yes, fragment_size: 600", start, "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Fragmentation == sockets.FragmentationYes && c.FragmentSize == 600
		}},
		{"fragmentation: accept", start, "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Fragmentation == sockets.FragmentationAccept
		}},
		{"fragmentation: force", start, "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Fragmentation == sockets.FragmentationYes
		}},
		{"fragmentation: no", start, "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Fragmentation == sockets.FragmentationNo
		}},
		{"", "start_action: start", "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Children[0].Start == sockets.StartNow
		}},
		{"", "start_action: trap|start", "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Children[0].Start == sockets.StartNow
		}},
		{"", "start_action: trap", "", func(_ *sockets.Config, c *sockets.Connection) bool {
			return c.Children[0].Start == sockets.StartTrap
		}},
		{"", start, "cookie_threshold: 10, block_threshold: 5, limit: 100, timeout: 30s", func(h *sockets.Config, _ *sockets.Connection) bool {
			return h.HalfOpen == sockets.HalfOpen{CookieThreshold: 10, AddressLimit: 5, Limit: 100, Timeout: 30 * time.Second}
		}},
		{"", start, "cookie_threshold: always", func(h *sockets.Config, _ *sockets.Connection) bool { return h.HalfOpen.CookieThreshold == -1 }},
	} {
		f, err := parse(t, r.conn, r.child, r.host)
		if err != nil || !r.want(&f.Host, &f.Host.Connections[0]) {
			t.Errorf("%s %s %s: %v", r.conn, r.child, r.host, err)
		}
	}
	for _, r := range [][4]string{
		{"unique: replce", start, "", "replace"},
		{"childless: forced", start, "", "force"},
		{"fragmentation: accep", start, "", "accept"},
		{"fragment_size: 100", start, "", "256"},
		{"", "start_action: sart", "", "start"},
		{"", start, "cookie_treshold: 4", "cookie_threshold"},
		{"", start, "cookie_threshold: 0", "number"},
	} {
		if _, err := parse(t, r[0], r[1], r[2]); err == nil || !strings.Contains(err.Error(), r[3]) {
			t.Errorf("%s: %v does not name %s", r[:3], err, r[3])
		}
	}
	f, err := Parse("f.yaml", []byte("connections: {anybody: {unique: replace}}"), nil)
	if err == nil {
		_, err = f.Check()
	}
	if err == nil || !strings.Contains(err.Error(), "btns") {
		t.Errorf("unique: replace with btns: %v", err)
	}
}
