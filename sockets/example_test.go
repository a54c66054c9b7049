package sockets_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/sockets"
)

// A host that says why its peer does not get what it asks for.
func ExampleStack_Watch() {
	server, err := sockets.New(sockets.Config{Listen: []string{"127.0.0.1:0"},
		Connections: []sockets.Connection{{Proposals: []string{"aes256gcm16-prfsha256-x25519"}}}})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	w := server.Watch()
	defer w.Close()

	client, err := sockets.New(sockets.Config{Connections: []sockets.Connection{{
		RemoteAddrs: []string{server.LocalAddr().String()}, Proposals: []string{"aes128-sha256-ecp256"},
		Children: []sockets.Child{{Start: sockets.StartNow}}}}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e, err := w.Next(ctx) // net.ErrClosed once the server is
	if err != nil {
		panic(err)
	}
	var refusal *ike.NotifyError
	switch {
	case e.Kind == sockets.EventProposalMismatchIKE && errors.As(e.Err, &refusal):
		fmt.Printf("%s: %s: %s\n", e.Kind, refusal.Type, e.Offers.First)
		fmt.Println("they:", e.Offers.Peer, "we:", e.Offers.Ours)
	default:
		fmt.Println(e)
	}
	// Output:
	// proposal-mismatch-ike: NO_PROPOSAL_CHOSEN: ENCR: peer offers aes128, we accept aes256gcm16
	// they: [aes128-sha256-ecp256] we: [aes256gcm16-prfsha256-x25519]
}

// Two hosts that nobody introduced: the server knows its caller by key, and both stay with
// whom they began.
func Example() {
	server, err := sockets.New(sockets.Config{Listen: []string{"127.0.0.1:0"}, Connections: []sockets.Connection{{}}})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	ln, err := server.Listen("tcp", ":7")
	if err != nil {
		panic(err)
	}
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}()

	client, err := sockets.New(sockets.Config{
		Connections: []sockets.Connection{{RemoteAddrs: []string{server.LocalAddr().String()}}},
	})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := client.DialContext(ctx, "tcp", net.JoinHostPort(server.Addrs()[0].String(), "7"))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		panic(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil {
		panic(err)
	}
	pt, err := sockets.PTokenFrom(conn)
	if err != nil {
		panic(err)
	}
	info, err := pt.Info()
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, by %v, %s\n", buf, info.Method, info.State)
	fmt.Println("the server itself:", info.Remote.Fingerprint() == sockets.Fingerprint(server.PublicKey()))
	// Output:
	// hello, by btns, ESTABLISHED
	// the server itself: true
}
