package bench

import (
	"crypto"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tun/tuntest"
)

// A cast is who plays in a benchmark of IKE: a hub that knows any name of its domain by
// one secret or key, as a gateway for road warriors does, and clients with a name and inner
// addresses each.
type cast struct {
	secret auth.PSK
	hub    crypto.Signer // nil with a secret
	client crypto.Signer
	method sockets.AuthMethod
}

const (
	hubName    = "hub.bench"
	clientSpan = "*.clients.bench"
	ikeSuite   = "aes256gcm16-prfsha256-x25519"
	espSuite   = "aes256gcm16-noesn"
)

func newCast(method string) (*cast, error) {
	c := &cast{method: sockets.AuthPSK, secret: auth.NewPSK([]byte("a secret of sufficient length"))}
	if method == methodPSK {
		return c, nil
	}
	c.method = sockets.AuthPubKey
	for _, k := range []*crypto.Signer{&c.hub, &c.client} {
		var err error
		if *k, err = auth.GenerateKey(auth.KindEd25519); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	return c, nil
}

func hubAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:4500") }

// clientAddr is where client i is, clientInner its address in the tunnel, and farInner the
// address behind the hub that its tunnel is for.
func clientAddr(i int) netip.AddrPort { return netip.AddrPortFrom(numbered(11<<24, i), 4500) }
func clientInner(i int) netip.Addr    { return numbered(10<<24, i) }
func farInner(i int) netip.Addr       { return numbered(172<<24|16<<16, i) }
func clientName(i int) string         { return "c" + strconv.Itoa(i) }
func clientID(i int) string           { return clientName(i) + ".clients.bench" }
func selector(a netip.Addr) []string  { return []string{a.String() + "/32"} }
func numbered(base uint32, i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], base+uint32(i)+1)
	return netip.AddrFrom4(b)
}

// startHub starts the hub on a network. It does not ask whether its peers live.
func (c *cast) startHub(n *tuntest.Net) (*sockets.Stack, error) {
	conn := sockets.Connection{Name: "clients", Proposals: []string{ikeSuite}, DPDDelay: -1,
		Local:  sockets.Auth{Method: c.method, ID: hubName, Key: c.hub},
		Remote: sockets.Auth{Method: c.method, ID: clientSpan},
		Children: []sockets.Child{{LocalTS: []string{"172.16.0.0/12"}, RemoteTS: []string{"10.0.0.0/8"}, Proposals: []string{espSuite},
			Start: sockets.StartNone}}}
	if c.hub == nil {
		conn.Remote.Secret = c.secret
	} else {
		conn.Remote.PublicKeys = []crypto.PublicKey{c.client.Public()}
	}
	wire, err := n.Listen(hubAddr())
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	st, err := sockets.New(sockets.Config{Wire: wire, Addrs: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")},
		Connections: []sockets.Connection{conn}})
	if err != nil {
		_ = wire.Close()
		return nil, fmt.Errorf("bench: %w", err)
	}
	return st, nil
}

// connection is that of client i with the hub.
func (c *cast) connection(i int) sockets.Connection {
	conn := sockets.Connection{Name: clientName(i), Proposals: []string{ikeSuite}, RemoteAddrs: []string{hubAddr().String()}, DPDDelay: -1,
		Local:  sockets.Auth{Method: c.method, ID: clientID(i), Key: c.client},
		Remote: sockets.Auth{Method: c.method, ID: hubName},
		Children: []sockets.Child{{LocalTS: selector(clientInner(i)), RemoteTS: selector(farInner(i)), Proposals: []string{espSuite},
			Start: sockets.StartNone}}}
	if c.hub == nil {
		conn.Remote.Secret = c.secret
	} else {
		conn.Remote.PublicKeys = []crypto.PublicKey{c.hub.Public()}
	}
	return conn
}
