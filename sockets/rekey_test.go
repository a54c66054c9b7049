package sockets

import (
	"bytes"
	"crypto/rand"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// TestRekeyUnderTraffic: both hosts replace their child SAs and their IKE SA several times
// a second, each as it likes, while a connection carries data both ways. It never notices,
// its latch stays, and in the end there is one IKE SA with one child.
func TestRekeyUnderTraffic(t *testing.T) {
	often := func(c Connection) Connection {
		c.RekeyTime, c.RandTime, c.OverTime = 700*time.Millisecond, 300*time.Millisecond, 20*time.Second
		c.Children = []Child{{RekeyTime: 400 * time.Millisecond, RandTime: 200 * time.Millisecond, LifeTime: 20 * time.Second,
			Proposals: []string{"aes256gcm16-x25519"}}}
		return c
	}
	b := newStack(t, "b", Config{Connections: []Connection{often(Connection{Name: "anybody"})}})
	a := newStack(t, "a", Config{Connections: []Connection{often(Connection{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}})}})
	echo(t, b, ":7")
	c := dial(t, a, "tcp", inner(b, "7"))
	first := tokenOf(t, c)

	var sent atomic.Int64
	end := time.Now().Add(3 * time.Second)
	errc := make(chan error, 1)
	block := make([]byte, 64<<10)
	_, _ = rand.Read(block)
	go func() {
		for time.Now().Before(end) {
			n, err := c.Write(block)
			sent.Add(int64(n))
			if err != nil {
				errc <- err
				return
			}
		}
		errc <- c.(*Conn).CloseWrite()
	}()
	spis := map[string]bool{}
	got := make([]byte, len(block))
	var received int64
	for {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := io.ReadFull(c, got)
		received += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", received, err)
		}
		if !bytes.Equal(got, block) {
			t.Fatalf("corrupted after %d bytes", received)
		}
		info := tokenOf(t, c)
		if info.Remote != first.Remote || info.State != first.State {
			t.Fatalf("the latch moved:\n%s", info)
		}
		spis[info.SPIIn.String()] = true
	}
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	if received != sent.Load() {
		t.Errorf("received %d of %d bytes", received, sent.Load())
	}
	if len(spis) < 4 {
		t.Errorf("only %d child SAs were seen in use", len(spis))
	}
	for _, st := range []*Stack{a, b} {
		s := st.Status()
		if len(s.IKE) > 2 || len(s.IKE) == 0 {
			t.Errorf("%s: %d IKE SAs, %+v", st.cfg.Name, len(s.IKE), s.Data.Drops)
		}
		for _, i := range s.IKE {
			if i.Num == 1 {
				t.Errorf("%s: the first IKE SA was never rekeyed", st.cfg.Name)
			}
		}
	}
	t.Logf("%d MiB under %d child SAs", received>>20, len(spis))
}

// TestRekeyByBytes: the data path counts, the machine replaces.
func TestRekeyByBytes(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()},
		Children: []Child{{RekeyBytes: 2 << 20, LifeBytes: 64 << 20}}}}})
	echo(t, b, ":7")
	c := dial(t, a, "tcp", inner(b, "7"))
	before := tokenOf(t, c).SPIIn
	spis := map[string]bool{}
	block, got := make([]byte, 256<<10), make([]byte, 256<<10)
	for range 48 {
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		spis[tokenOf(t, c).SPIIn.String()] = true
	}
	if len(spis) < 3 || tokenOf(t, c).SPIIn == before {
		t.Errorf("12 MiB each way under %d child SAs of 2 MiB", len(spis))
	}
}
