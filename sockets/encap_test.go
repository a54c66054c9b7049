package sockets

import (
	"testing"

	"github.com/btns-go/btns/tun"
)

// Without a word about it, a wire that carries ESP natively has it so, after IKE on port 500
// (RFC 7296, Section 2.23), and one of UDP sockets has both in UDP on port 4500.
func TestEncap(t *testing.T) {
	for _, r := range []struct {
		name   string
		wire   bool // carries native ESP
		conn   Connection
		port   uint16
		native bool
	}{
		{"TUN", true, Connection{RemoteAddrs: []string{"192.0.2.2"}}, 500, true},
		{"TUN, a name", true, Connection{RemoteAddrs: []string{"moon.example"}}, 500, true},
		{"TUN, the peer comes", true, Connection{}, 0, true},
		{"TUN, encap: yes", true, Connection{RemoteAddrs: []string{"192.0.2.2"}, Encap: EncapAlways}, 4500, false},
		{"TUN, encap: yes on 500", true, Connection{RemoteAddrs: []string{"192.0.2.2"}, RemotePort: 500, Encap: EncapAlways}, 500, false},
		{"TUN, remote_port: 4500", true, Connection{RemoteAddrs: []string{"192.0.2.2"}, RemotePort: 4500}, 4500, false},
		{"TUN, port 4500", true, Connection{RemoteAddrs: []string{"moon.example:4500"}}, 4500, false},
		{"TUN, encap: no on 4500", true, Connection{RemoteAddrs: []string{"192.0.2.2"}, RemotePort: 4500, Encap: EncapNever}, 4500, true},
		{"UDP", false, Connection{RemoteAddrs: []string{"192.0.2.2"}}, 4500, false},
		{"UDP, encap: no", false, Connection{RemoteAddrs: []string{"192.0.2.2"}, Encap: EncapNever}, 4500, false},
		{"UDP, port 500", false, Connection{RemoteAddrs: []string{"192.0.2.2"}, RemotePort: 500}, 500, false},
	} {
		out, err := compile(&Config{Connections: []Connection{r.conn}}, newKey(t), tun.Caps{NativeESP: r.wire})
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		c := out.Conns[0]
		var port uint16
		if len(c.Remotes) > 0 {
			port = c.Remotes[0].Port
		}
		if port != r.port || c.NativeESP != r.native {
			t.Errorf("%s: port %d, native ESP %t, want %d, %t", r.name, port, c.NativeESP, r.port, r.native)
		}
	}
}
