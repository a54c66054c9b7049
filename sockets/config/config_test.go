package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/sockets"
)

const full = `
name: sun
addresses: [10.1.0.1/24, fd00::1/64]
mtu: 1380
wire:
  listen: [":4500", "192.0.2.1:500"]
hosts:
  db: [10.2.0.5, fd00:2::5]
dns: [10.2.0.53, "10.2.0.54:5353"]
dial_timeout: 10s
connections:
  moon:
    version: 2
    remote_addrs: 192.0.2.2, moon.example
    remote_port: 4500
    proposals: aes256gcm16-prfsha256-x25519, aes128-sha256-ecp256
    encap: no
    dpd_delay: 30
    dpd_timeout: 20s
    local: {auth: psk, id: sun.example}
    remote: {auth: psk, id: moon.example}
    children:
      net:
        local_ts: 10.1.0.0/24
        remote_ts: [10.2.0.0/24, "10.3.0.0/24[tcp/80]"]
        esp_proposals: [aes256gcm16-esn-noesn]
        mode: tunnel
        policy: private
        start_action: trap
  anybody:
    remote: {owns: key}
secrets:
  ike-moon: {id: [sun.example, moon.example], secret: 0s3mXq0b0vTn0pZk9n7Gk1Xw==}
  ike-rest: {secret: "a secret for everybody else"}
policies:
  dhcp: {remote_ts: "10.9.0.0/24[udp/67]", policy: block}
forwards:
  - {listen: 8080, to: "10.2.0.1:80"}
  - {listen: "0.0.0.0:5353", to: "10.2.0.53:53", protocol: udp}
expose:
  - {listen: 80, to: 8000}
control: run/sun.sock
log: debug
`

func TestParse(t *testing.T) {
	f, err := Parse("/etc/btns/sun.yaml", []byte(full), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := f.Host
	if h.Name != "sun" || len(h.Addrs) != 2 || h.MTU != 1380 || len(h.Listen) != 2 || len(h.Hosts["db"]) != 2 ||
		h.DNS[1] != netip.MustParseAddrPort("10.2.0.54:5353") || h.DialTimeout != 10*time.Second {
		t.Errorf("host: %+v", h)
	}
	if len(h.Connections) != 2 || h.Connections[0].Name != "moon" || h.Connections[1].Name != "anybody" {
		t.Fatalf("connections: %+v", h.Connections)
	}
	c := h.Connections[0]
	if len(c.RemoteAddrs) != 2 || len(c.Proposals) != 2 || c.Encap != sockets.EncapNever || c.DPDDelay != 30*time.Second || c.DPDTimeout != 20*time.Second ||
		c.Local.Method != sockets.AuthPSK || c.Remote.ID != "moon.example" || c.Remote.Secret.Empty() {
		t.Errorf("moon: %+v", c)
	}
	ch := c.Children[0]
	if ch.Name != "net" || len(ch.RemoteTS) != 2 || ch.Mode != esp.ModeTunnel || ch.Word != "private" {
		t.Errorf("net: %+v", ch)
	}
	want := []Forward{{"tcp", "127.0.0.1:8080", "10.2.0.1:80"}, {"udp", "0.0.0.0:5353", "10.2.0.53:53"}}
	if len(f.Forwards) != 2 || f.Forwards[0] != want[0] || f.Forwards[1] != want[1] {
		t.Errorf("forwards: %+v", f.Forwards)
	}
	if len(f.Expose) != 1 || f.Expose[0] != (Forward{"tcp", ":80", "127.0.0.1:8000"}) {
		t.Errorf("expose: %+v", f.Expose)
	}
	if f.Control != "/etc/btns/run/sun.sock" {
		t.Errorf("control: %s", f.Control)
	}
	if _, err := f.Check(); err != nil {
		t.Errorf("it does not compile: %v", err)
	}
}

const byHand = `policies:
  by-hand:
    local_ts: 10.1.0.1
    remote_ts: 10.4.0.1
    manual: {spi_in: 0x100, spi_out: 0x101, suite: aes128-sha256, mode: tunnel, local: 192.0.2.1, remote: 192.0.2.4,
      key_in: 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f,
      key_out: 0xff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f}
`

// Keys set by hand have no IKE to tell the ports: they need a wire with native ESP.
func TestManual(t *testing.T) {
	f, err := Parse("f.yaml", []byte("wire: {tun: btns0, addresses: [192.0.2.1/24]}\n"+byHand), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := f.Host.Policies[0]; p.Manual == nil || p.Manual.InSPI != 0x100 || p.Manual.Mode != spd.ModeTunnel || len(p.Manual.InKey) != 48 {
		t.Errorf("by-hand: %+v", p)
	}
	if f.Wire.TUN != "btns0" || len(f.Wire.Addrs) != 1 {
		t.Errorf("wire: %+v", f.Wire)
	}
	if _, err := f.Check(); err != nil {
		t.Errorf("it does not compile: %v", err)
	}
	_, err = Parse("f.yaml", []byte(byHand), nil)
	if want := "policies.by-hand.manual: keys set by hand need a tun wire"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestRefused: each mistake is named with its place and, where a word was mistyped, the
// word that was meant.
func TestRefused(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown key", "adresses: [10.0.0.1]\n", "f.yaml:1:1: adresses: unknown key: did you mean addresses?"},
		{"nested unknown key", "connections:\n  moon:\n    remote_adrs: 1.2.3.4\n", "f.yaml:3:5: connections.moon.remote_adrs: unknown key: did you mean remote_addrs?"},
		{"given twice", "mtu: 1400\nmtu: 1300\n", ":2:"},
		{"bad number", "mtu: 12\n", `f.yaml:1:6: mtu: "12" is no number from 1280 to 65535`},
		{"bad address", "addresses:\n  - 10.0.0\n", "f.yaml:2:5: addresses[0]:"},
		{"bad proposal", "connections: {m: {proposals: aes256gcm61-x25519}}\n", `did you mean "aes256gcm16"?`},
		{"bad choice", "connections: {m: {local: {auth: pks}}}\n", `f.yaml:1:33: connections.m.local.auth: "pks" is none of btns, psk, pubkey: did you mean psk?`},
		{"a choice that is near none", "log: verbose\n", `f.yaml:1:6: log: "verbose" is none of debug, error, info, warn`},
		{"key that is near none", "forwards: [{wherefrom: 80}]\n", "forwards[0].wherefrom: unknown key: one of listen, protocol, to"},
		{"bad policy word", "policies: {p: {policy: privat}}\n", "did you mean private?"},
		{"no secret", "connections: {m: {local: {auth: psk, id: a}, remote: {auth: psk, id: b}}}\n", "no entry of secrets fits"},
		{"missing key file", "key: nowhere.pem\n", "f.yaml:1:6: key:"},
		{"bad selector", "connections: {m: {children: {c: {local_ts: 10.0.0.0/33}}}}\n", "connections.m.children.c.local_ts"},
		{"scalar for mapping", "connections: yes\n", "expected keys and values, found a single value"},
		{"IPv6 without quotes", "connections: {m: {children: {c: {local_ts: [fd01::1/128]}}}}\n", "quote what has a colon in it"},
		{"list for scalar", "mtu: [1]\n", "expected one word, found a list"},
		{"not YAML", "a: b\n - c: [\n", "f.yaml:"},
		{"key in no error", "policies: {p: {manual: {key_in: 0xzz11223344}}}\n", "no hexadecimal key"},
		{"aead by hand", "policies: {p: {local_ts: 10.0.0.1, remote_ts: 10.0.0.2, manual: {spi_in: 256, spi_out: 256, suite: aes256gcm16, local: 192.0.2.1, remote: 192.0.2.2, key_in: 00, key_out: 01}}}\n", "policies.p.manual"},
		{"tun without addresses", "wire: {tun: btns0}\n", "who we are on the outside"},
		{"no listen", "forwards: [{to: \"1.2.3.4:5\"}]\n", "listen and to are needed"},
		{"one port twice", "forwards:\n  - {listen: 8080, to: \"1.2.3.4:5\"}\n  - {listen: 8080, to: \"1.2.3.4:6\"}\n", "f.yaml:3:5: forwards[1]: forwards[0] listens on tcp 127.0.0.1:8080 already"},
		{"port too large", "listen: [\":70000\"]\n", `f.yaml:1:10: listen[0]: ":70000": "70000" is no port from 0 to 65535`},
		{"destination without port", "forwards: [{listen: 80, to: \"1.2.3.4\"}]\n", `f.yaml:1:29: forwards[0].to: "1.2.3.4" is no address with a port`},
		{"destination's port too large", "forwards: [{listen: 80, to: \"1.2.3.4:70000\"}]\n", `"70000" is no port from 0 to 65535`},
		{"destination's port is 0", "expose: [{listen: 80, to: 0}]\n", "no port 0 to go to"},
		{"second document", "mtu: 1400\n---\nmtu: 1300\n", "f.yaml:3:4: second document: a file is one document"},
		{"alias", "name: &a x\nlisten: *a\n", "f.yaml:2:9: listen: expected one word, found an alias"},
		{"missing secret file", "secrets: {ike-m: {id: a, file: nowhere.psk}}\n", "f.yaml:1:32: secrets.ike-m.file: auth: key file nowhere.psk: no such file"},
		{"deep", "name: x\naddresses: " + strings.Repeat("[", 40), "f.yaml:2:1: nested more than 32 levels deep"},
		{"no address and no name", "connections: {m: {remote_addrs: 300.0.0.2}}\n", `"300.0.0.2" is no address and no host name`},
		{"peer's port is 0", "connections: {m: {remote_addrs: \"192.0.2.1:0\"}}\n", `"192.0.2.1:0" has no port to send to behind its colon`},
		{"peer's port is a word", "connections: {m: {remote_addrs: \"moon.example:ike\"}}\n", `"moon.example:ike" has no port to send to behind its colon`},
		{"replay window", "connections: {m: {children: {c: {replay_window: 65, remote_ts: \"fd00::/8\"}}}}\n", "f.yaml:1:49: connections.m.children.c.replay_window: replay: window of 65 packets: want a multiple of 64 from 64 to 4096"},
		{"replay window by hand", "wire: {tun: btns0, addresses: [192.0.2.1/24]}\n" + strings.Replace(byHand, "mode: tunnel", "mode: tunnel, replay_window: 100", 1), "policies.by-hand.manual.replay_window: replay: window of 100 packets"},
		{"shorter life than rekeying", "connections: {m: {children: {c: {remote_ts: \"fd00::/8\", rekey_time: 1h, life_time: 10m}}}}\n", "f.yaml:1:84: connections.m.children.c.life_time: 10m0s is not longer than rekey_time, 1h0m0s"},
		{"shorter life than the default of rekeying", "connections: {m: {children: {c: {remote_ts: \"fd00::/8\", life_time: 10m}}}}\n", "life_time: 10m0s is not longer than rekey_time, 1h0m0s"},
		{"fewer bytes than rekeying", "connections: {m: {children: {c: {remote_ts: \"fd00::/8\", rekey_bytes: 10, life_bytes: 10}}}}\n", "life_bytes: 10 is not more than rekey_bytes, 10"},
		{"no host's address", "addresses: [10.0.0.1/24, 127.0.0.1/8]\nconnections: {m: {children: {c: {remote_ts: 10.0.0.0/8}}}}\n", "127.0.0.1 can be no host's inside a tunnel"},
		{"exposed on somebody else's address", reachable + "expose:\n  - {listen: \"10.7.7.7:80\", to: 80}\n", "f.yaml:4:14: expose[0].listen: 10.7.7.7 is none of our addresses inside the tunnels, [10.1.0.1]"},
		{"exposed on an address that changes", "connections: {m: {}}\nexpose: [{listen: \"[fd62:746e:7300::1]:80\", to: 80}]\n", "f.yaml:2:19: expose[0].listen: fd62:746e:7300::1 is not ours inside the tunnels: without addresses and key our address is another at each start"},
		{"exposed on a name", reachable + "expose: [{listen: \"sun:80\", to: 80}]\n", "expose[0].listen: sun is not in hosts, and there is no dns"},
		{"to a name nobody knows", reachable + "forwards:\n  - {listen: 80, to: \"db:80\"}\n", "f.yaml:4:22: forwards[0].to: db is not in hosts, and there is no dns inside the tunnels to ask for it"},
		{"to an address of no child", reachable + "forwards: {listen: 80, to: \"10.9.0.1:80\"}\n", "f.yaml:3:11: forwards[0].to: no child and no policy covers tcp from [10.1.0.1] to 10.9.0.1:80"},
		{"to a port of no child", reachable + "forwards: [{listen: 80, to: \"10.3.0.1:80\"}]\n", "covers tcp from [10.1.0.1] to 10.3.0.1:80"},
		{"by a protocol of no child", reachable + "forwards: [{listen: 80, to: \"10.3.0.1:443\", protocol: udp}]\n", "covers udp from [10.1.0.1] to 10.3.0.1:443"},
		{"to a name whose address is of no child", reachable + "hosts: {db: 10.9.0.1}\nforwards: [{listen: 80, to: \"db:80\"}]\n", "covers tcp from [10.1.0.1] to 10.9.0.1:80"},
		{"to another family", reachable + "forwards: [{listen: 80, to: \"[fd00::1]:80\"}]\n", "no address of ours inside the tunnels, [10.1.0.1], is of the family of fd00::1"},
		{"to what is blocked", reachable + "policies: {no-db: {remote_ts: 10.2.0.9, policy: block}}\nforwards: [{listen: 80, to: \"10.2.0.9:80\"}]\n", "forwards[0].to: policy no-db blocks tcp to 10.2.0.9:80"},
		{"to this machine", "connections: {m: {remote: {owns: any}, children: {c: {remote_ts: 0.0.0.0/0}}}}\naddresses: 10.1.0.1\nforwards: [{listen: 80, to: 81}]\n", "forwards[0].to: 127.0.0.1 is nowhere behind the tunnels"},
		{"to a port alone", reachable + "forwards: [{listen: 80, to: \":81\"}]\n", "forwards[0].to: no address behind the tunnels"},
		{"name server of no child", reachable + "dns: [10.2.0.53, 10.9.0.53]\n", "f.yaml:3:18: dns[1]: no child and no policy covers udp"},
		{"listens twice", "listen: [4500, \":4500\"]\n", `f.yaml:1:16: listen[1]: ":4500" is given twice`},
		{"ike version 1", "connections: {m: {version: 1}}\n", "only 2"},
		{"clear without a wire for it", "policies: {p: {policy: clear}}\n", "clear"},
		{"nothing says what the peer owns", "connections: {m: {local: {auth: psk, id: a}, remote: {auth: psk, id: b}}}\nsecrets: {ike: {secret: abcdefghijklmnopqrstuvwx}}\n", "connections.m.children"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("f.yaml", []byte(tt.file), nil)
			if err == nil {
				_, err = f.Check()
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %q\nwant %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "did you mean") && !strings.Contains(tt.want, "did you mean") {
				t.Errorf("nothing is near: %q", err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("one mistake is told as several: %q", err)
			}
			if strings.Contains(err.Error(), "11223344") {
				t.Error("the message repeats a key")
			}
			var e *Error
			if !errors.As(err, &e) || (e.Line == 0 && tt.name != "not YAML") {
				t.Errorf("%q has no place in the file", err)
			}
		})
	}
}

// reachable is a host that reaches something.
const reachable = `addresses: [10.1.0.1/24]
connections: {m: {remote: {owns: any}, children: {c: {local_ts: 10.1.0.0/24, remote_ts: [10.2.0.0/24, "10.3.0.0/24[tcp/443]"]}}}}
`

// TestGoodForwards: what may work is not refused.
func TestGoodForwards(t *testing.T) {
	for _, text := range []string{
		"forwards: [{listen: 80, to: \"10.2.0.1:80\"}, {listen: 81, to: \"10.3.0.1:443\"}, {listen: 82, to: \"10.2.0.1:82\", protocol: udp}]\n",
		"forwards: [{listen: 80, to: \"10.1.0.1:80\"}]\n",
		"hosts: {db: [10.9.0.1, 10.2.0.1]}\nforwards: [{listen: 80, to: \"db:80\"}]\n",
		"dns: 10.2.0.53\nforwards: [{listen: 80, to: \"db:80\"}]\n",
		"expose: [{listen: 80, to: 80}, {listen: \"10.1.0.1:81\", to: 81}, {listen: \"0.0.0.0:82\", to: \"db:82\"}, {listen: \"10.1.0.1:83\", to: 83, protocol: udp}]\n",
		"hosts: {sun: 10.1.0.1}\nexpose: [{listen: \"sun:80\", to: 80}]\n",
	} {
		f, err := Parse("f.yaml", []byte(reachable+text), nil)
		if err == nil {
			_, err = f.Check()
		}
		if err != nil {
			t.Errorf("%s%v", text, err)
		}
	}
	f, err := Parse("f.yaml", []byte("connections: {m: {}}\nforwards: [{listen: 80, to: \"[fd62:746e:7300::1]:80\"}]\n"), nil)
	if err == nil {
		_, err = f.Check()
	}
	if err != nil {
		t.Errorf("to a key's address: %v", err)
	}
}

// TestForeignChildIsWarnedOf: a child for others' traffic is a gateway's, or a mistake.
func TestForeignChildIsWarnedOf(t *testing.T) {
	for addrs, want := range map[string]string{"10.1.0.1/24": "", "10.4.0.1/24": "connection m: child c: local_ts 10.1.0.0/24 has none of our addresses inside the tunnels, [10.4.0.1]"} {
		f, err := Parse("f.yaml", []byte("addresses: "+addrs+"\nconnections: {m: {remote: {auth: psk, id: b}, local: {auth: psk, id: a}, children: {c: {local_ts: 10.1.0.0/24, remote_ts: 10.2.0.0/24}}}}\nsecrets: {ike: {secret: a secret of more than sixteen octets}}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := f.Check()
		if err != nil || len(warnings) != min(1, len(want)) || !strings.Contains(strings.Join(warnings, ""), want) {
			t.Errorf("%s: %q, %v", addrs, warnings, err)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := Parse("f.yaml", []byte("mtu: 1\nlog: loud\nname: x\nwier: {}\n"), nil)
	for _, want := range []string{"f.yaml:1:", "f.yaml:2:", "f.yaml:4:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v misses %s", err, want)
		}
	}
}

// A file without a connection is a good one, of a host that can do nothing.
func TestEmptyFileIsWarnedOf(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "mtu: 1400\n---\n", "\uFEFFmtu: 1400\n"} {
		f, err := Parse("f.yaml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if warnings, err := f.Check(); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "no connections") {
			t.Errorf("%q: %q, %v", text, warnings, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	key, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.SavePrivateKey(filepath.Join(dir, "key.pem"), key); err != nil {
		t.Fatal(err)
	}
	if err := auth.SavePublicKey(filepath.Join(dir, "key.pem.pub"), auth.SPKI(key.Public())); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "h.yaml")
	text := "key: key.pem\nconnections: {m: {local: {auth: pubkey}, remote: {auth: pubkey, pubkeys: key.pem.pub}, children: {c: {remote_ts: fd00::/8}}}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Host.Key == nil || len(f.Host.Connections[0].Remote.PublicKeys) != 1 {
		t.Errorf("got %+v", f.Host)
	}
	if _, err := f.Check(); err != nil {
		t.Error(err)
	}
}

func TestSecretForMostSpecific(t *testing.T) {
	d := &decoder{r: newReader("f.yaml")}
	for _, ids := range [][]string{nil, {"a"}, {"a", "b"}, {"c"}} {
		p := pad.PSK{Secret: auth.NewPSK([]byte(strings.Join(ids, "+") + "!"))}
		for _, w := range ids {
			id, err := pad.ParseID(w)
			if err != nil {
				t.Fatal(err)
			}
			p.IDs = append(p.IDs, id)
		}
		d.secrets = append(d.secrets, p)
	}
	for _, tt := range []struct{ local, remote, want string }{
		{"a", "b", "a+b!"}, {"a", "x", "a!"}, {"x", "y", "!"}, {"x", "c", "c!"}, {"b", "x", "a+b!"},
	} {
		got, ok := d.secretFor(tt.local, tt.remote)
		if !ok || !got.Equal(auth.NewPSK([]byte(tt.want))) {
			t.Errorf("%s to %s: not %q", tt.local, tt.remote, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: [[[[[[[[\n"))
	f.Add([]byte("connections: &a {m: *a}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("f.yaml", b, nil)
		if err == nil {
			_, _ = file.Check()
		}
	})
}
