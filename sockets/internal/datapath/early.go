package datapath

import (
	"slices"
	"sync"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/tun"
)

// early keeps the packets that came before their SA: a responder "MAY begin sending on an SA as soon as it sends its
// response" (RFC 7296, Section 2.8), and what it sends may overtake the response, or arrive while that is being verified.
// Nothing is kept but for SPIs that we have reserved, which nobody knows but whom we asked for an SA.
type early struct {
	mu    sync.Mutex // guards what follows
	pkts  []earlyPacket
	bytes int
}

// An earlyPacket is a copy in a buffer of its own. Oldest first in early.
type earlyPacket struct {
	spi uint32
	at  time.Time
	pkt tun.Packet
}

// precede keeps packets for an SPI that no SA has. If that has changed meanwhile they are not kept, and it returns the SA;
// else they are kept or counted as dropped, unless their SPI is a stranger's.
func (p *Path) precede(spi uint32, pkts []tun.Packet, idx []int, now time.Time) (c *Child, stranger bool) {
	e := &p.early
	e.mu.Lock()
	defer e.mu.Unlock()
	// Under the lock: InstallInbound and ReleaseSPI end the reservation first, and take from e then.
	if !p.sad.Reserved(spi) {
		c = p.sad.Lookup(spi)
		return c, c == nil
	}
	same := 0
	for i := range e.pkts {
		if e.pkts[i].spi == spi {
			same++
		}
	}
	for _, i := range idx {
		k := pkts[i]
		size := tun.Headroom + k.Len
		if same == maxEarlyOfSPI || len(e.pkts) == maxEarly || e.bytes+size > maxEarlyBytes {
			p.count.drop(DropEarly)
			continue
		}
		buf := make([]byte, size)
		copy(buf[tun.Headroom:], k.Data())
		k.Buf, k.Off = buf, tun.Headroom
		e.pkts = append(e.pkts, earlyPacket{spi, now, k})
		e.bytes += size
		same++
		p.count.early.Add(1)
	}
	return nil, false
}

// take removes the packets that match accepts.
func (e *early) take(match func(*earlyPacket) bool) (pkts []tun.Packet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pkts = slices.DeleteFunc(e.pkts, func(x earlyPacket) bool {
		if !match(&x) {
			return false
		}
		pkts = append(pkts, x.pkt)
		e.bytes -= len(x.pkt.Buf)
		return true
	})
	if len(e.pkts) == 0 {
		e.pkts = nil
	}
	return pkts
}

func (e *early) takeSPI(spi uint32) []tun.Packet {
	return e.take(func(x *earlyPacket) bool { return x.spi == spi })
}

// sweepEarly drops what has waited for too long.
func (p *Path) sweepEarly(now time.Time) {
	p.count.dropN(DropEarly, len(p.early.take(func(x *earlyPacket) bool { return now.Sub(x.at) >= earlyLifetime })))
}

// releaseSPI ends a reservation and drops what came for it.
func (p *Path) releaseSPI(spi uint32) {
	p.sad.Release(spi, p.now())
	p.count.dropN(DropEarly, len(p.early.takeSPI(spi)))
}

// arrived takes in the packets that came before c, in their order. The caller has c's gate, so that later ones wait.
func (p *Path) arrived(c *Child) {
	pkts := p.early.takeSPI(c.InSPI)
	if len(pkts) == 0 {
		return
	}
	r := p.scratch(len(pkts))
	for i := range pkts {
		r.idx[i] = i
		r.esp[i] = esp.Packet{Buf: pkts[i].Buf, Off: pkts[i].Off, Len: pkts[i].Len}
	}
	r.open(c, pkts, len(pkts), p.now())
}

// len returns how many packets and bytes are kept.
func (e *early) len() (packets, bytes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pkts), e.bytes
}
