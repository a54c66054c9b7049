package sockets

import (
	"bytes"
	"crypto/rand"
	"io"
	"slices"
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
	enough := make(chan struct{})
	errc := make(chan error, 1)
	block := make([]byte, 64<<10)
	_, _ = rand.Read(block)
	go func() {
		for {
			select {
			case <-enough:
				errc <- c.(*Conn).CloseWrite()
				return
			default:
			}
			n, err := c.Write(block)
			sent.Add(int64(n))
			if err != nil {
				errc <- err
				return
			}
		}
	}()
	spis := map[string]bool{}
	got := make([]byte, len(block))
	var received int64
	rekeyed := func() bool { // every IKE SA replaces another one
		for _, st := range []*Stack{a, b} {
			if slices.ContainsFunc(st.Status().IKE, func(i IKEStatus) bool { return i.Num == 1 }) {
				return false
			}
		}
		return true
	}
	late := time.Now().Add(patience)
	for done := false; ; {
		_ = c.SetReadDeadline(time.Now().Add(patience))
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
		if !done && len(spis) >= 4 && rekeyed() {
			done = true
			close(enough)
		}
		if !done && time.Now().After(late) {
			t.Fatalf("under %d child SAs only, %+v, %+v", len(spis), a.Status().IKE, b.Status().IKE)
		}
	}
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	if received != sent.Load() {
		t.Errorf("received %d of %d bytes", received, sent.Load())
	}
	for _, st := range []*Stack{a, b} { // there may be one that is just being replaced
		eventually(t, st.cfg.Name+" has one IKE SA", func() bool { n := len(st.Status().IKE); return n == 1 || n == 2 })
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
	block, got := make([]byte, 256<<10), make([]byte, 256<<10)
	for range 3 {
		before := tokenOf(t, c).SPIIn
		for range 9 { // 2.25 MiB each way
			if _, err := c.Write(block); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "another child SA is in use", func() bool { return tokenOf(t, c).SPIIn != before })
	}
}
