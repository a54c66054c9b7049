package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-go/btns/sockets/config"
)

// A mailbox is a UDP socket whose datagrams are put in and taken out by hand.
type mailbox struct {
	in   chan string // from client
	out  chan string // to client
	once sync.Once
	done chan struct{}
}

func (m *mailbox) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case s := <-m.in:
		return copy(b, s), netip.MustParseAddrPort("192.0.2.1:1024"), nil
	case <-m.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (m *mailbox) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	m.out <- string(b)
	return len(b), nil
}

func (m *mailbox) LocalAddr() net.Addr { return &net.UDPAddr{} }
func (m *mailbox) Close() error        { m.once.Do(func() { close(m.done) }); return nil }

// A conversation ends when it is quiet, and not while one side goes on talking, whichever.
func TestForwardUDPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &mailbox{in: make(chan string), out: make(chan string, 1), done: make(chan struct{})}
		services := make(chan net.Conn, 1)
		var wg sync.WaitGroup
		fw, err := take(config.Forward{Network: "udp"}, side{
			listenPacket: func(string, string) (packetConn, error) { return box, nil },
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		fw.serve(side{dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			services <- theirs
			return ours, nil
		}}, &wg)
		defer func() { _ = fw.Close(); wg.Wait() }()
		var service net.Conn
		heard := func(want string) {
			t.Helper()
			b := make([]byte, len(want))
			if _, err := io.ReadFull(service, b); err != nil || string(b) != want {
				t.Fatalf("the service hears %q, %v", b, err)
			}
		}
		box.in <- "subscribe"
		service = <-services
		heard("subscribe")
		for range 10 { // answers only
			time.Sleep(udpIdle - time.Second)
			if _, err := io.WriteString(service, "news"); err != nil {
				t.Fatalf("cut while the service talks: %v", err)
			}
			if got := <-box.out; got != "news" {
				t.Fatalf("the client hears %q", got)
			}
		}
		for range 10 { // questions only
			time.Sleep(udpIdle - time.Second)
			box.in <- "more"
			heard("more")
		}
		time.Sleep(udpIdle - time.Second)
		synctest.Wait()
		if len(services) != 0 {
			t.Error("one source has two conversations")
		}
		time.Sleep(2 * time.Second)
		if _, err := io.WriteString(service, "late"); err == nil {
			t.Error("a conversation that is quiet does not end")
		}
	})
}
