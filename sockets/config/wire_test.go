package config

import "testing"

func TestWireRoutes(t *testing.T) {
	for text, want := range map[string]string{
		"listen: \":4500\"\n":                               "",
		"wire: {tun: btns0, addresses: [192.0.2.1/24]}\n":   "sysctl -w net.ipv4.ip_forward=1 && ip route add 192.0.2.1/32 dev btns0",
		"wire: {tun: t, addresses: [\"2001:db8::1/64\"]}\n": "sysctl -w net.ipv6.conf.all.forwarding=1 && ip route add 2001:db8::1/128 dev t",
		"wire: {tun: t, addresses: [192.0.2.1/32, 192.0.2.9/32, \"2001:db8::1/64\"]}\n": "sysctl -w net.ipv4.ip_forward=1 && sysctl -w net.ipv6.conf.all.forwarding=1 && " +
			"ip route add 192.0.2.1/32 dev t && ip route add 192.0.2.9/32 dev t && ip route add 2001:db8::1/128 dev t",
	} {
		f, err := Parse("f.yaml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Wire.Routes(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
