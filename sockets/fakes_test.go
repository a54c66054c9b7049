package sockets

import (
	"crypto"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/tokens"
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := auth.GenerateKey(auth.KindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pub(k crypto.Signer) []crypto.PublicKey { return []crypto.PublicKey{k.Public()} }

// badSigner is a key whose holder does not answer any more.
type badSigner struct{ crypto.Signer }

func (badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was removed")
}

// demanding is a template that takes nothing but these suites.
func demanding(t testing.TB, suites ...string) *tokens.PToken {
	t.Helper()
	p := new(tokens.PToken)
	if err := p.SetSuites(suites...); err != nil {
		t.Fatal(err)
	}
	return p
}

// A nat passes datagrams between one host inside and one outside, which sees them come from
// the nat. After rebind it sees them come from another port.
type nat struct {
	inside  *net.UDPConn
	outside netip.AddrPort

	mu     sync.Mutex
	client netip.AddrPort
	out    *net.UDPConn
	wg     sync.WaitGroup
}

func newNAT(t testing.TB, outside netip.AddrPort) *nat {
	t.Helper()
	n := &nat{outside: outside}
	n.inside = loopback(t)
	n.out = loopback(t)
	n.wg.Go(func() {
		b := make([]byte, 65536)
		for {
			k, from, err := n.inside.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.client = from
			_, _ = n.out.WriteToUDPAddrPort(b[:k], n.outside)
			n.mu.Unlock()
		}
	})
	n.answers(n.out)
	t.Cleanup(func() {
		n.mu.Lock()
		_, _ = n.inside.Close(), n.out.Close()
		n.mu.Unlock()
		n.wg.Wait()
	})
	return n
}

func loopback(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *nat) answers(out *net.UDPConn) {
	n.wg.Go(func() {
		b := make([]byte, 65536)
		for {
			k, err := out.Read(b)
			if err != nil {
				return
			}
			n.mu.Lock()
			_, _ = n.inside.WriteToUDPAddrPort(b[:k], n.client)
			n.mu.Unlock()
		}
	})
}

func (n *nat) rebind() {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return
	}
	n.mu.Lock()
	_ = n.out.Close()
	n.out = c
	n.mu.Unlock()
	n.answers(c)
}
