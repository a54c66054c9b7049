package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets/config"
)

// A script is a connection that gives reads of these sizes, then err, and says how long
// the buffers were.
type script struct {
	net.Conn // nil: no other method is expected
	reads    []int
	err      error
	fails    error // of Write

	asked                []int
	written              int
	halfClosed, closed   bool
	lingered, lingeredAt int
}

func (s *script) Read(b []byte) (int, error) {
	s.asked = append(s.asked, len(b))
	if len(s.reads) == 0 {
		return 0, s.err
	}
	n := min(s.reads[0], len(b))
	s.reads = s.reads[1:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	if s.fails != nil {
		return 0, s.fails
	}
	s.written += len(b)
	return len(b), nil
}

func (s *script) CloseWrite() error       { s.halfClosed = true; return nil }
func (s *script) Close() error            { s.closed = true; return nil }
func (s *script) SetLinger(sec int) error { s.lingered++; s.lingeredAt = sec; return nil }

// TestPipeBuffer: a connection that says little holds little.
func TestPipeBuffer(t *testing.T) {
	const lots = 1 << 20
	for _, x := range []struct {
		name  string
		reads []int
		want  []int
	}{
		{"little", []int{100, minCopy - 1, 1}, []int{minCopy, minCopy, minCopy, minCopy}},
		{"much", []int{lots, lots, lots, lots, lots, lots, lots},
			[]int{minCopy, 2 * minCopy, 4 * minCopy, 8 * minCopy, 16 * minCopy, maxCopy, maxCopy, maxCopy}},
	} {
		from, to := &script{reads: x.reads, err: io.EOF}, &script{}
		pipe(to, from)
		if !slices.Equal(from.asked, x.want) {
			t.Errorf("%s: buffers of %v, want %v", x.name, from.asked, x.want)
		}
		got := 0
		for i, n := range x.reads {
			got += min(n, x.want[i])
		}
		if to.written != got || !to.halfClosed || to.closed || from.closed {
			t.Errorf("%s: %d octets of %d, %+v", x.name, to.written, got, to)
		}
	}
}

// TestPipeFails: both ends of a connection that lost something are reset.
func TestPipeFails(t *testing.T) {
	broken := errors.New("broken")
	for _, x := range []struct {
		name     string
		from, to *script
	}{
		{"read", &script{reads: []int{5}, err: broken}, &script{}},
		{"write", &script{reads: []int{5}, err: io.EOF}, &script{fails: broken}},
	} {
		pipe(x.to, x.from)
		for _, c := range []*script{x.from, x.to} {
			if !c.closed || c.lingered != 1 || c.lingeredAt != 0 || c.halfClosed {
				t.Errorf("%s: not reset: %+v", x.name, c)
			}
		}
	}
}

// A mute is a connection that ends as soon as it is listened to, and counts what was said
// before.
type mute struct {
	net.Conn // nil: no other method is expected
	said     chan<- struct{}
	closed   atomic.Bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.closed.Load() {
		return 0, net.ErrClosed
	}
	m.said <- struct{}{}
	return len(b), nil
}

func (m *mute) Read([]byte) (int, error)        { return 0, io.EOF }
func (m *mute) SetReadDeadline(time.Time) error { return nil }
func (m *mute) Close() error                    { m.closed.Store(true); return nil }

// What comes from a source whose conversation has just ended begins another one, and is not
// lost with the last.
func TestConversationEnds(t *testing.T) {
	said := make(chan struct{}, 1)
	var wg sync.WaitGroup
	var in packetConn
	e := side{
		listenPacket: func(string, string) (packetConn, error) {
			c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			in = c
			return c, err
		},
		dial: func(context.Context, string, string) (net.Conn, error) { return &mute{said: said}, nil },
	}
	f, err := take(config.Forward{Network: "udp"}, e, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.serve(e, &wg)
	defer wg.Wait()
	defer f.Close()
	c, err := net.Dial("udp", in.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 500 {
		_, _ = c.Write([]byte("x"))
		select {
		case <-said:
		case <-time.After(10 * time.Second):
			t.Fatalf("datagram %d is lost", i)
		}
	}
}

// A conversation whose wait for an answer is over goes on if something was said just then.
func TestConversationGoesOn(t *testing.T) {
	said := make(chan struct{}, 1)
	c := new(conversation)
	c.dialled(&mute{said: said})
	if !c.say([]byte("x")) || c.end(os.ErrDeadlineExceeded) {
		t.Error("ended as quiet when something was said")
	}
	c.quiet = time.Now()
	if !c.end(os.ErrDeadlineExceeded) || c.say([]byte("x")) {
		t.Error("goes on when quiet")
	}
	c = new(conversation)
	c.dialled(&mute{said: said})
	if !c.end(io.EOF) || c.say([]byte("x")) {
		t.Error("goes on after an error")
	}
}
