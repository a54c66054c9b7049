package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// earlyBird seals packets for an SPI that is reserved and not installed.
func earlyBird(t *testing.T, h *host) (f *forger, install func()) {
	t.Helper()
	f = forge(t, h, "b", parsePair(t, "10.0.0.1", "10.1.2.3"), esp.ModeTunnel)
	old := f.c
	h.path.Remove(old.InSPI)
	spi, err := h.path.ReserveSPI()
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{7}, old.Suite.KeyLen())
	f.c = &Child{InSPI: spi, Suite: old.Suite, Mode: old.Mode, Pair: old.Pair, Peer: old.Peer, Path: old.Path, Params: old.Params}
	if f.out, err = esp.NewOutbound(esp.Config{SPI: spi, Suite: old.Suite, Key: key, Mode: old.Mode}); err != nil {
		t.Fatal(err)
	}
	return f, func() {
		t.Helper()
		if err := h.path.InstallInbound(f.c, key); err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(i int) []byte {
	return udpPacket(flowOf(ts.ProtoUDP, "10.1.2.3:999", "10.0.0.1:80"), fmt.Appendf(nil, "packet %03d", i))
}

// What a responder sends before we have verified its answer is delivered when we have, in
// order, once, and before what comes then.
func TestEarlyPackets(t *testing.T) {
	clk := newClock()
	unknown := 0
	var during atomic.Pointer[func()] // the first delivery
	b := newWorld().bare(t, hostOpt{cfg: func(c *Config) {
		c.Now = clk.now
		c.UnknownSPI = func(tun.Path, uint32, int) { unknown++ }
		deliver := c.Deliver
		c.Deliver = func(tag *netstack.Tag, parts ...[]byte) {
			deliver(tag, parts...)
			if f := during.Swap(nil); f != nil {
				(*f)()
			}
		}
	}})
	f, install := earlyBird(t, b.host)
	f.send(numbered(0))
	f.send(numbered(1), numbered(2))
	replayed := f.seal(numbered(3), protoIPv4)
	again := replayed
	again.Buf = bytes.Clone(replayed.Buf)
	b.inject(replayed)
	b.inject(again)
	if got := b.take(); len(got) != 0 {
		t.Fatalf("%d delivered without an SA", len(got))
	}
	if st := b.path.Stats(); st.Early != 5 || st.Now.EarlyPackets != 5 || st.Now.EarlyBytes == 0 || st.Drops[DropSPI]+st.Drops[DropEarly] != 0 {
		t.Errorf("%+v", st)
	}
	late := f.seal(numbered(4), protoIPv4)
	var overtaking sync.WaitGroup
	overtake := func() {
		overtaking.Go(func() { b.inject(late) })
		for range 1000 {
			runtime.Gosched()
		}
	}
	during.Store(&overtake)
	install()
	overtaking.Wait()
	var want [][]byte
	for i := range 5 {
		want = append(want, numbered(i))
	}
	if got := b.take(); !equalPackets(got, want) {
		t.Errorf("delivered %q", got)
	}
	st := b.path.Stats()
	if st.Drops[DropESP] != 1 || st.Drops.Total() != 1 || st.Now.EarlyPackets+st.Now.EarlyBytes != 0 {
		t.Errorf("%+v", st)
	}
	if unknown != 0 {
		t.Error("the engine was told of an unknown SPI")
	}
	if f.c.Stats().InPackets != 5 {
		t.Errorf("%+v", f.c.Stats())
	}
	recv(t, b.first, "first packet")
}

func equalPackets(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, []byte("|")), bytes.Join(b, []byte("|")))
}

// What is kept is bounded for each SPI and in all, in packets, bytes and time, and ends with
// the reservation.
func TestEarlyPacketsAreBounded(t *testing.T) {
	clk := newClock()
	b := newWorld().bare(t, hostOpt{cfg: func(c *Config) { c.Now = clk.now }})
	f, _ := earlyBird(t, b.host)
	early := func(kept, dropped int) {
		t.Helper()
		st := b.path.Stats()
		if st.Now.EarlyPackets != kept || st.Drops[DropEarly] != uint64(dropped) || kept == 0 && st.Now.EarlyBytes != 0 {
			t.Errorf("%d packets in %d bytes, %d dropped; want %d and %d", st.Now.EarlyPackets, st.Now.EarlyBytes, st.Drops[DropEarly], kept, dropped)
		}
	}
	for i := range maxEarlyOfSPI + 3 {
		f.send(numbered(i))
	}
	early(maxEarlyOfSPI, 3)

	// Of a stranger's SPI nothing is kept, nor of one that was given back.
	stranger := f.seal(numbered(0), protoIPv4)
	binary.BigEndian.PutUint32(stranger.Data(), 0x7000)
	b.inject(stranger)
	early(maxEarlyOfSPI, 3)
	if n := drops(b.host, DropSPI); n != 1 {
		t.Errorf("%d of no SA", n)
	}
	b.path.ReleaseSPI(f.c.InSPI)
	early(0, maxEarlyOfSPI+3)
	f.send(numbered(0))
	early(0, maxEarlyOfSPI+3)

	// In time.
	f, install := earlyBird(t, b.host)
	f.send(numbered(0))
	clk.advance(earlyLifetime / 2)
	f.send(numbered(1))
	clk.advance(earlyLifetime / 2)
	b.path.Tick()
	early(1, maxEarlyOfSPI+4)
	install()
	early(0, maxEarlyOfSPI+4)
	if got := b.take(); !equalPackets(got, [][]byte{numbered(1)}) {
		t.Errorf("delivered %q", got)
	}

	// In all.
	dropped := maxEarlyOfSPI + 4
	fill := func(size, room int) {
		t.Helper()
		pkt := stranger
		pkt.Buf = make([]byte, tun.Headroom+size)
		pkt.Off, pkt.Len = tun.Headroom, size
		var spis []uint32
		for n := 0; n < room+1; n++ {
			if n%maxEarlyOfSPI == 0 {
				spi, err := b.path.ReserveSPI()
				if err != nil {
					t.Fatal(err)
				}
				spis = append(spis, spi)
			}
			binary.BigEndian.PutUint32(pkt.Buf[tun.Headroom:], spis[len(spis)-1])
			one := pkt
			one.Buf = bytes.Clone(pkt.Buf)
			b.inject(one)
		}
		dropped++
		early(room, dropped)
		for _, spi := range spis {
			b.path.ReleaseSPI(spi)
		}
		dropped += room
		early(0, dropped)
	}
	fill(100, maxEarly)
	fill(32<<10, maxEarlyBytes/(tun.Headroom+32<<10))
}

// A packet that comes while its SA is installed is delivered, whichever way it went.
func TestEarlyPacketsMeetTheirSA(t *testing.T) {
	b := newWorld().bare(t, hostOpt{})
	for round := range 200 {
		f, install := earlyBird(t, b.host)
		const n = 128
		var pkts []tun.Packet
		for i := range n {
			pkts = append(pkts, f.seal(numbered(i), protoIPv4))
		}
		var both sync.WaitGroup
		some := make(chan struct{})
		both.Go(func() {
			for i := range pkts {
				if i == round%16 {
					close(some)
				}
				b.inject(pkts[i])
			}
		})
		<-some
		install()
		both.Wait()
		var want [][]byte
		for i := range n {
			want = append(want, numbered(i))
		}
		if got := b.take(); !equalPackets(got, want) {
			t.Fatalf("delivered %q", got)
		}
		b.path.Remove(f.c.InSPI)
	}
	if st := b.path.Stats(); st.Drops.Total() != 0 {
		t.Errorf("%v", st.Drops.Map())
	}
}

// The first segment of a connection that a responder opens at once needs no second one, in
// either mode.
func TestEarlyDial(t *testing.T) {
	for _, l := range []link{{}, {mode: esp.ModeTransport}, {mode: esp.ModeTransport, v6: true}} {
		w := newWorld()
		a, b := w.host(t, 1, hostOpt{}), w.host(t, 2, hostOpt{})
		ca, cb, keys, _ := prepareKeys(t, a, b, l)
		must := func(errs ...error) {
			t.Helper()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		must(b.path.InstallInbound(cb, keys.ab), b.path.InstallOutbound(cb, ca.InSPI, keys.ba))
		ln := a.listen(a.addr(l.v6), 0, latch.Want{}, false)
		wait := ln.serve(func(*netstack.TCPConn, *Socket) {})
		dialled := make(chan error, 1)
		go func() {
			c, _, err := b.dial(within(t, 10*time.Second), ln.ap, latch.Want{})
			if err == nil {
				_ = c.Close()
			}
			dialled <- err
		}()
		eventually(t, "early packet", func() bool { return a.path.Stats().Early > 0 })
		must(a.path.InstallInbound(ca, keys.ba), a.path.InstallOutbound(ca, cb.InSPI, keys.ab))
		must(recv(t, dialled, "connection"))
		wait()
		if st := a.path.Stats(); st.Drops[DropSPI]+st.Drops[DropEarly] != 0 || st.Now.EarlyPackets != 0 {
			t.Errorf("%+v", st)
		}
	}
}
