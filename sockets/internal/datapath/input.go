package datapath

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// receiver is the scratch of one receive loop.
type receiver struct {
	p      *Path
	bufs   [][]byte
	pkts   []tun.Packet
	esp    []esp.Packet
	idx    []int // of the packets in esp
	ike    []tun.Packet
	done   []bool
	worker esp.Worker
	merge  merger
}

func (p *Path) newReceiver() *receiver {
	n := p.caps.Batch
	if n <= 0 {
		n = receiveBatch
	}
	n = min(n, maxReceiveBatch)
	r := p.scratch(n)
	r.pkts, r.done, r.bufs = make([]tun.Packet, n), make([]bool, n), make([][]byte, n)
	for i := range r.bufs {
		r.bufs[i] = make([]byte, tun.BufSize)
	}
	return r
}

// scratch is a receiver for n packets that have been received already.
func (p *Path) scratch(n int) *receiver {
	r := &receiver{p: p, esp: make([]esp.Packet, n), idx: make([]int, n)}
	r.merge.init(p, n)
	return r
}

// loop receives until the wire is closed.
func (r *receiver) loop() error {
	for {
		for i := range r.pkts {
			r.pkts[i] = tun.Packet{Buf: r.bufs[i]}
		}
		n, err := r.p.cfg.Wire.Receive(r.pkts)
		switch {
		case errors.Is(err, net.ErrClosed):
			if r.p.closed.Load() {
				return nil
			}
			return err
		case err != nil:
			r.p.log.Debug("receive", "err", err)
			r.p.pause(receiveRetry)
			continue
		}
		r.batch(r.pkts[:n])
		if r.p.poison {
			for i := range r.pkts[:n] {
				poison(r.pkts[i].Data())
			}
		}
	}
}

func poison(b []byte) {
	for i := range b {
		b[i] = 0xA5
	}
}

// batch takes in what one Receive returned.
func (r *receiver) batch(pkts []tun.Packet) {
	now := r.p.now()
	ike := 0
	clear(r.done[:len(pkts)])
	for i := range pkts {
		switch pkts[i].Kind {
		case tun.KindESP:
			if !r.done[i] {
				r.group(pkts, i, now)
			}
		case tun.KindIKE:
			ike++
		case tun.KindClear:
			r.inClear(&pkts[i], now)
		case tun.KindInvalid:
		}
	}
	if ike > 0 {
		r.handIKE(pkts, ike)
	}
}

// handIKE lends the n IKE datagrams in pkts to the engine.
func (r *receiver) handIKE(pkts []tun.Packet, n int) {
	r.p.count.ikeIn.Add(uint64(n))
	if r.p.cfg.IKE == nil {
		return
	}
	r.ike = r.ike[:0]
	for i := range pkts {
		if pkts[i].Kind == tun.KindIKE {
			r.ike = append(r.ike, pkts[i])
		}
	}
	r.p.cfg.IKE(r.ike)
}

// group takes in the packets from i on that have the SPI of packet i.
func (r *receiver) group(pkts []tun.Packet, i int, now time.Time) {
	p := r.p
	spi, ok := esp.SPI(pkts[i].Data())
	if !ok {
		p.count.drop(DropSPI)
		return
	}
	n := 0
	for k := i; k < len(pkts); k++ {
		if pkts[k].Kind != tun.KindESP || r.done[k] {
			continue
		}
		if other, ok := esp.SPI(pkts[k].Data()); !ok || other != spi {
			continue
		}
		r.done[k] = true
		r.idx[n] = k
		r.esp[n] = esp.Packet{Buf: pkts[k].Buf, Off: pkts[k].Off, Len: pkts[k].Len}
		n++
	}
	c := p.sad.Lookup(spi)
	if c == nil {
		var stranger bool
		if c, stranger = p.precede(spi, pkts, r.idx[:n], now); c == nil {
			if stranger {
				p.count.dropN(DropSPI, n)
				p.stranger(&pkts[i], spi, now)
			}
			return
		}
	}
	c.gate.RLock()
	defer c.gate.RUnlock()
	r.open(c, pkts, n, now)
}

// open takes in the first n packets in r.esp, which are those of pkts at r.idx, under c, whose gate the caller has.
func (r *receiver) open(c *Child, pkts []tun.Packet, n int, now time.Time) {
	p := r.p
	if c.closed {
		p.count.dropN(DropSPI, n)
		return
	}
	if c.spent.Load() {
		p.count.dropN(DropInLimit, n)
		return
	}
	batch := r.esp[:n]
	c.in.Open(&r.worker, batch)
	var passed, bytes uint64
	top, newest := uint64(0), -1
	for k := range batch {
		e := &batch[k]
		if e.Seq() > top {
			top, newest = e.Seq(), k // authentic, be it a dummy
		}
		if e.Drop != esp.Pass {
			p.count.drop(DropESP)
			continue
		}
		passed++
		bytes += uint64(e.Len)
	}
	if newest < 0 {
		return
	}
	p.count.inPackets.Add(passed)
	p.count.inBytes.Add(bytes)
	p.spend(c, c.in.Packets(), c.in.Bytes())
	p.company(c, now)
	if !c.heardAny.Load() && c.heardAny.CompareAndSwap(false, true) && p.cfg.FirstInbound != nil {
		p.cfg.FirstInbound(c)
	}
	p.checkPath(c, &pkts[r.idx[newest]], top)

	for k := range batch {
		if e := &batch[k]; e.Drop == esp.Pass {
			p.count.dropIf(r.inner(c, e, &pkts[r.idx[k]], now))
		}
	}
	r.merge.flush()
}

// stranger tells the engine of a packet for an SPI that nobody has, unless it was told of one just now: its sender may be a peer
// of before a restart of ours.
func (p *Path) stranger(k *tun.Packet, spi uint32, now time.Time) {
	last := p.strange.Load()
	if p.cfg.UnknownSPI == nil || k.Path.Remote.Port() == 0 || now.UnixNano()-last < int64(strangerGap) ||
		!p.strange.CompareAndSwap(last, now.UnixNano()) || p.sad.Known(spi) {
		return
	}
	p.cfg.UnknownSPI(k.Path, spi, k.Len)
}

// checkPath tells the engine that a child's newest packet came over another path, once for each. Only the newest says where
// the peer is now: an older one may have been delayed or kept by somebody (RFC 7296, Section 2.23).
func (p *Path) checkPath(c *Child, k *tun.Packet, seq uint64) {
	if p.cfg.Moved == nil {
		return
	}
	cur := c.path.Load().path
	if !cur.Local.Addr().IsValid() || cur.Local.Addr().IsUnspecified() {
		cur.Local = k.Path.Local
	}
	told := c.told.Load()
	switch {
	case cur == k.Path:
		if told != nil {
			c.told.Store(nil)
		}
	case told != nil && *told == k.Path, c.in.Highest() != seq:
	default:
		to := k.Path
		c.told.Store(&to)
		p.cfg.Moved(c, to)
	}
}

// inner takes in one opened packet.
func (r *receiver) inner(c *Child, e *esp.Packet, k *tun.Packet, now time.Time) Drop {
	var b []byte
	if c.Mode == esp.ModeTransport {
		if b = rebuild(c, e, k.ECN); b == nil {
			return DropInner
		}
	} else {
		b = e.Payload()
	}
	f, info, ok := ts.ParseFlow(b)
	if !ok || info.TTL == 0 {
		return DropInner
	}
	if c.Mode == esp.ModeTunnel && k.ECN&3 != 0 && !mergeECN(b, &info, k.ECN) {
		return DropECN
	}
	b = b[:info.TotalLen:info.TotalLen]
	if info.Fragment || info.FragHeaderOff != 0 {
		if b, ok = r.whole(c, b, f, &info, now); !ok {
			return DropUnset // kept, or counted
		}
		if f, info, ok = ts.ParseFlow(b); !ok || info.Fragment || info.FragHeaderOff != 0 {
			return DropInner
		}
		r.p.count.assembled.Add(1)
	}
	if d := c.selects(f, &info, b); d != DropUnset {
		return d
	}
	if c.verify && !netstack.VerifyChecksum(b) {
		return DropChecksum
	}
	r.merge.add(&c.tag, f, &info, b)
	return DropUnset
}

// selects is DropUnset if the SA may carry the packet to us (RFC 4301, Section 5.2, step 5).
func (c *Child) selects(f ts.Flow, info *ts.PacketInfo, b []byte) Drop {
	if badAddrs(f) {
		return DropSelector
	}
	if icmpError(f) {
		// RFC 4301, Section 6.2: an error is as good as the packet it is about. That must be one that we could have sent under
		// this SA; the sender of the error may be any router behind the peer.
		q, ok := quoted(b[min(info.HeaderLen+icmpHeader, len(b)):], f.IsV6())
		if !ok || q.Src() != f.Dst() || !c.Pair.MatchOut(q) {
			return DropICMP
		}
		return DropUnset
	}
	if icmpLocal(f) {
		return DropICMP
	}
	if !c.Pair.MatchIn(f) {
		return DropSelector
	}
	return DropUnset
}

// badAddrs reports addresses that no packet to a host may have, whatever the selectors say (RFC 1122, Section 3.2.1.3; RFC
// 4291, Section 2.7).
func badAddrs(f ts.Flow) bool {
	src, dst := f.Src(), f.Dst()
	return src.IsMulticast() || src.IsUnspecified() || src.IsLoopback() || src == broadcast4() ||
		dst.IsUnspecified() || dst.IsLoopback()
}

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// rebuild puts an IP header in front of a transport-mode payload, nil if it does not fit. The buffer has room there: the ESP
// header was at least tun.Headroom into it.
func rebuild(c *Child, e *esp.Packet, ecn uint8) []byte {
	if c.Remote.Is4() {
		const n = 20
		if e.Off < n || e.Len > tun.MaxPacket-n {
			return nil
		}
		b := e.Buf[e.Off-n : e.Off+e.Len : e.Off+e.Len]
		src, dst := c.Remote.As4(), c.Local.As4()
		clear(b[:n])
		b[0], b[1] = 0x45, ecn&3
		b[6] = 0x40 // don't fragment
		b[8], b[9] = rebuiltTTL, e.Next
		copy(b[12:], src[:])
		copy(b[16:], dst[:])
		setLength(b, n)
		return b
	}
	const n = 40
	if e.Off < n || e.Len > tun.MaxPacket-n {
		return nil
	}
	b := e.Buf[e.Off-n : e.Off+e.Len : e.Off+e.Len]
	src, dst := c.Remote.As16(), c.Local.As16()
	clear(b[:n])
	b[0], b[1] = 0x60, ecn&3<<4
	b[6], b[7] = e.Next, rebuiltTTL
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	setLength(b, n)
	return b
}

// mergeECN gives an inner packet the ECN field that it has after the tunnel (RFC 6040, Section 4.2), false if it must be
// dropped.
func mergeECN(b []byte, info *ts.PacketInfo, outer uint8) bool {
	ecn, ok := tun.DecapECN(info.ECN, outer)
	if !ok || ecn == info.ECN {
		return ok
	}
	info.ECN = ecn
	if b[0]>>4 == 4 {
		b[1] = b[1]&^3 | ecn
		fixIPv4(b, info.HeaderLen)
	} else {
		b[1] = b[1]&^0x30 | ecn<<4
	}
	return true
}

// inClear takes in a packet outside IPsec.
func (r *receiver) inClear(k *tun.Packet, now time.Time) {
	p := r.p
	b := k.Data()
	f, info, ok := ts.ParseFlow(b)
	if !ok || info.TTL == 0 {
		p.count.drop(DropInner)
		return
	}
	b = b[:info.TotalLen]
	if info.Fragment || info.FragHeaderOff != 0 {
		if d := p.clearPolicy(f); d != DropUnset {
			p.count.drop(d)
			return
		}
		if b, ok = r.whole(&p.clear, b, f, &info, now); !ok {
			return
		}
		if f, info, ok = ts.ParseFlow(b); !ok || info.Fragment || info.FragHeaderOff != 0 {
			p.count.drop(DropInner)
			return
		}
		p.count.assembled.Add(1)
	}
	d := p.clearPolicy(f)
	switch {
	case d != DropUnset:
	case badAddrs(f) || icmpLocal(f):
		d = DropSelector
	case !netstack.VerifyChecksum(b):
		d = DropChecksum
	}
	if d != DropUnset {
		p.count.drop(d)
		return
	}
	p.count.clearIn.Add(1)
	r.merge.single(&p.clear.tag, b)
}

func (p *Path) deliver(tag *netstack.Tag, parts ...[]byte) {
	p.count.delivered.Add(1)
	if p.cfg.Deliver != nil {
		p.cfg.Deliver(tag, parts...)
	}
}
