package datapath

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/tun"
)

// outboundSA is the sending half of a child.
type outboundSA struct {
	child *Child
	sa    *esp.Outbound
	spi   uint32
	mode  esp.Mode

	mu     sync.Mutex // the send lock: guards what follows, and the order of packets on the wire
	closed bool
}

// limit is the largest inner packet, IP header included, that c's outer packets carry over path in one piece.
func (p *Path) limit(o *outboundSA, path tun.Path, v6 bool) int {
	outer := p.caps.MTU
	if path.Remote.Addr().Is4() {
		outer -= 20
	} else {
		outer -= 40
	}
	if !path.Native() {
		outer -= 8 // UDP; ESP has no marker (RFC 3948, Section 2.1)
	}
	room := payloadRoom(o.sa, outer)
	floor, header := minMTU4, 20
	if v6 {
		floor, header = minMTU6, 40
	}
	if o.mode == esp.ModeTransport {
		room += header // the IP header is the outer one
	}
	for _, m := range [...]int{o.child.MTU, p.cfg.MTU} {
		if m > 0 {
			room = min(room, m)
		}
	}
	return min(max(room, floor), tun.MaxPacket)
}

// payloadRoom is the largest ESP payload whose packet is no longer than n.
func payloadRoom(sa *esp.Outbound, n int) int {
	room := n - sa.Overhead(0)
	for room > 0 && room+sa.Overhead(room) > n {
		room--
	}
	for room+1+sa.Overhead(room+1) <= n {
		room++
	}
	return room
}

// limits are the results of limit for both families, computed when the path changes.
type pathState struct {
	path           tun.Path
	limit4, limit6 int
}

// batch is the buffer in which packets are built, sealed and sent: slots are cut from one arena, each with room for what
// goes in front and behind, none sharing a byte or capacity with another.
type batch struct {
	arena []byte
	used  int
	n     int
	esp   [maxBatch]esp.Packet
	tun   [maxBatch]tun.Packet

	worker esp.Worker
	poison bool
}

// slot returns room for a payload of size bytes as the next packet, nil if the batch is full.
func (b *batch) slot(size int) []byte {
	need := tun.Headroom + size + tun.Tailroom
	need = (need + slotAlign - 1) &^ (slotAlign - 1)
	if b.n == maxBatch || need > len(b.arena)-b.used {
		return nil
	}
	buf := b.arena[b.used : b.used+need : b.used+need]
	b.used += need
	b.esp[b.n] = esp.Packet{Buf: buf, Off: tun.Headroom, Len: size}
	b.n++
	return buf[tun.Headroom : tun.Headroom+size : tun.Headroom+size]
}

// reset empties the batch. In tests what was in it is overwritten, so that whoever kept a slice of it shows.
func (b *batch) reset() {
	if b.poison {
		for i := range b.arena[:b.used] {
			b.arena[i] = 0xA5
		}
	}
	b.n, b.used = 0, 0
}

func (p *Path) getBatch() *batch {
	if b, ok := p.batches.Get().(*batch); ok {
		return b
	}
	return &batch{arena: make([]byte, arenaSize), poison: p.poison}
}

func (p *Path) putBatch(b *batch) {
	b.reset()
	p.batches.Put(b)
}

// flush seals the batch under o and sends it, in order, as one step. The batch is empty afterwards. Nothing is ever sealed
// again: what the wire refuses is lost, and its sequence numbers with it.
func (p *Path) flush(o *outboundSA, b *batch, next uint8, ecn uint8, st *pathState) Drop {
	if b.n == 0 {
		return DropUnset
	}
	pkts := b.esp[:b.n]
	bytes := 0
	for i := range pkts {
		pkts[i].Next = next
		bytes += pkts[i].Len
	}
	n := len(pkts)
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		b.reset()
		return DropRemoved
	}
	if o.child.spent.Load() {
		o.mu.Unlock()
		b.reset()
		p.count.dropN(DropExhausted, n)
		return DropExhausted
	}
	// A refusal leaves the payloads in clear: nothing but the sealed packets ever gets into b.tun.
	if d := o.sa.Seal(&b.worker, pkts); d != esp.Pass {
		o.mu.Unlock()
		b.reset()
		if d == esp.DropExhausted {
			p.count.dropN(DropExhausted, n)
			p.exhausted(o.child)
			return DropExhausted
		}
		return DropRemoved
	}
	m := 0
	for i := range pkts {
		if pkts[i].Drop != esp.Pass {
			p.count.drop(DropSeal)
			continue
		}
		b.tun[m] = tun.Packet{Buf: pkts[i].Buf, Off: pkts[i].Off, Len: pkts[i].Len, Path: st.path, Kind: tun.KindESP, ECN: ecn}
		m++
	}
	failed := p.transmit(b.tun[:m])
	o.mu.Unlock()
	b.reset()
	p.count.outPackets.Add(uint64(m - failed))
	p.count.outBytes.Add(uint64(bytes))
	p.spend(o.child, o.sa.Packets(), o.sa.Bytes())
	return DropUnset
}

// transmit sends pkts in order and returns how many were lost. A refused packet is skipped.
func (p *Path) transmit(pkts []tun.Packet) (failed int) {
	for errs := 0; len(pkts) > 0; {
		n, err := p.cfg.Wire.Send(pkts)
		if err == nil {
			return failed
		}
		pkts = pkts[min(max(n, 0), len(pkts)):]
		if errs++; errs == maxSendErrors || errors.Is(err, net.ErrClosed) {
			p.count.dropN(DropSend, len(pkts))
			return failed + len(pkts)
		}
		if len(pkts) > 0 {
			p.count.drop(DropSend)
			failed++
			pkts = pkts[1:]
		}
	}
	return failed
}

func (p *Path) exhausted(c *Child) {
	if c.exhausted.CompareAndSwap(false, true) && p.cfg.Exhausted != nil {
		p.cfg.Exhausted(c)
	}
}

func (p *Path) sendIKE(pkts []tun.Packet) error {
	var first error
	for len(pkts) > 0 {
		n, err := p.cfg.Wire.Send(pkts)
		n = min(max(n, 0), len(pkts))
		p.count.ikeOut.Add(uint64(n))
		if err == nil {
			break
		}
		if first == nil {
			first = err
		}
		if errors.Is(err, net.ErrClosed) {
			break
		}
		pkts = pkts[min(n+1, len(pkts)):]
	}
	return first
}

// sendClear sends whole IP packets of a batch outside IPsec.
func (p *Path) sendClear(b *batch, dst netip.Addr, ecn uint8) {
	for i := range b.esp[:b.n] {
		e := &b.esp[i]
		b.tun[i] = tun.Packet{Buf: e.Buf, Off: e.Off, Len: e.Len, Kind: tun.KindClear, ECN: ecn,
			Path: tun.Path{Remote: netip.AddrPortFrom(dst, 0)}}
	}
	n := b.n
	failed := p.transmit(b.tun[:n])
	p.count.clearOut.Add(uint64(n - failed))
	b.reset()
}
