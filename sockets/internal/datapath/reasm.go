package datapath

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/tun"
)

// reassembler puts inner fragments together. There is one for each SA, so that no datagram is made of packets of two SAs, nor
// of a protected and a clear one (RFC 4301, Section 7; ADV-L19). A fragment that overlaps another ends its datagram: what has
// come is dropped, and so is what comes for as long as the datagram would have been waited for (RFC 5722, Section 3; done for
// IPv4 as well). The zero value is ready.
type reassembler struct {
	mu     sync.Mutex // guards what follows
	m      map[fragKey]*datagram
	oldest *datagram // list by age
	newest *datagram
	bytes  int // of buffers
	closed bool
}

// fragKey names a datagram (RFC 791, Section 2.3; RFC 8200, Section 4.5, where the protocol does not count).
type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

type datagram struct {
	key        fragKey
	prev, next *datagram
	born       time.Time
	dead       bool // refused: its fragments are dropped

	head  []byte // IP header of the first fragment, in its own memory; nil until it comes
	nextO int    // IPv6: where head names the fragment header
	buf   []byte // the fragmentable part
	total int    // its length, -1 until the last fragment comes
	have  []span // what has come, in order, adjacent spans joined
	count int    // fragments
	ecn   [4]bool
}

type span struct{ from, to int }

// whole takes in a fragment under c. It returns the datagram if that was what was missing. The datagram is new memory.
func (r *receiver) whole(c *Child, b []byte, f ts.Flow, info *ts.PacketInfo, now time.Time) ([]byte, bool) {
	p := r.p
	if !info.Fragment {
		// An atomic fragment is a datagram by itself, whatever else has its identification (RFC 6946, Section 4).
		return atomic6(b, info), true
	}
	if c != &p.clear && (!c.Pair.Remote.ContainsAddr(f.Src()) || !c.Pair.Local.ContainsAddr(f.Dst())) {
		// The selectors are for the whole datagram; but no memory for what can't ever match.
		p.count.drop(DropSelector)
		return nil, false
	}
	a := &c.reasm
	a.mu.Lock()
	out, d, evicted := a.take(p, b, f, info, now)
	active := len(a.m) > 0
	a.mu.Unlock()
	p.count.dropIf(d)
	p.count.dropN(DropFragmentFull, evicted)
	if active {
		p.fragmenting(c)
	}
	return out, out != nil
}

// atomic6 takes the fragment header out of an IPv6 packet, in place.
func atomic6(b []byte, info *ts.PacketInfo) []byte {
	if info.FragHeaderOff == 0 {
		return b
	}
	h := info.FragHeaderOff
	b[info.FragNextOff] = b[h]
	copy(b[8:], b[:h]) // the header moves up to the payload
	b = b[8:]
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// take is whole under the lock. d says why the fragment was dropped, evicted how many datagrams made room for it.
func (a *reassembler) take(p *Path, b []byte, f ts.Flow, info *ts.PacketInfo, now time.Time) (out []byte, d Drop, evicted int) {
	if a.closed {
		return nil, DropFragment, 0
	}
	headLen, bodyOff := info.HeaderLen, info.HeaderLen
	key := fragKey{src: f.Src(), dst: f.Dst(), id: info.FragID}
	if f.IsV6() {
		headLen, bodyOff = info.FragHeaderOff, info.FragHeaderOff+8
	} else {
		key.proto = f.Proto()
	}
	body := b[bodyOff:]
	from, to := info.FragOffset, info.FragOffset+len(body)
	g := a.m[key]
	if g != nil && g.dead {
		return nil, DropFragment, 0
	}
	// The first fragment shows what the datagram is (RFC 1858, Section 3; RFC 7112, Section 5); nothing is shorter than a
	// step, and headers and data fit an IP packet.
	if len(body) == 0 || from == 0 && !showsHeader(f, b[info.HeaderLen:]) || tooLong(f.IsV6(), headLen+to) {
		if g != nil {
			a.kill(p, g)
		}
		return nil, DropFragment, 0
	}
	if g == nil {
		if len(a.m) >= maxDatagrams {
			evicted += a.evict(p, nil)
		}
		g = &datagram{key: key, born: now, total: -1}
		if a.m == nil {
			a.m = make(map[fragKey]*datagram)
		}
		a.link(g)
	}
	if !g.fits(from, to, info.MoreFragments) {
		a.kill(p, g)
		return nil, DropFragment, evicted
	}
	n, ok := a.grow(p, g, to)
	evicted += n
	if !ok {
		a.unlink(p, g)
		return nil, DropFragmentFull, evicted
	}
	copy(g.buf[from:to], body)
	g.add(from, to)
	g.ecn[info.ECN&3] = true
	if !info.MoreFragments {
		g.total = to
	}
	if from == 0 {
		g.head, g.nextO = append([]byte(nil), b[:headLen]...), info.FragNextOff
		if f.IsV6() {
			g.head[g.nextO] = b[info.FragHeaderOff] // what the fragment header names
		}
	}
	if g.total < 0 || len(g.have) != 1 || g.have[0] != (span{0, g.total}) {
		return nil, DropUnset, evicted
	}
	out, d = g.assemble()
	a.unlink(p, g)
	return out, d, evicted
}

// tooLong reports that a packet of n bytes exceeds its length field, which leaves out the fixed header of IPv6.
func tooLong(v6 bool, n int) bool {
	if v6 {
		n -= 40
	}
	return n > tun.MaxPacket
}

// showsHeader reports whether the first fragment's part behind the IP header holds the transport header.
func showsHeader(f ts.Flow, upper []byte) bool {
	switch f.Proto() {
	case ts.ProtoTCP:
		return len(upper) >= 20 && len(upper) >= int(upper[12]>>4)*4
	case ts.ProtoUDP, ts.ProtoICMP, ts.ProtoICMPv6:
		return len(upper) >= 8
	}
	return true
}

// fits reports whether bytes from to to may be added: they overlap nothing, and the end stays where it is.
func (g *datagram) fits(from, to int, more bool) bool {
	if g.count >= maxFragments {
		return false
	}
	end := 0
	if n := len(g.have); n > 0 {
		end = g.have[n-1].to
	}
	switch {
	case g.total >= 0 && (to > g.total || !more):
		return false
	case g.total < 0 && !more && to < end:
		return false
	}
	for _, s := range g.have {
		if from < s.to && s.from < to {
			return false
		}
	}
	return true
}

// add records that the bytes came.
func (g *datagram) add(from, to int) {
	g.count++
	i := 0
	for i < len(g.have) && g.have[i].to < from {
		i++
	}
	switch {
	case i < len(g.have) && g.have[i].to == from:
		g.have[i].to = to
		if i+1 < len(g.have) && g.have[i+1].from == to {
			g.have[i].to = g.have[i+1].to
			g.have = append(g.have[:i+1], g.have[i+2:]...)
		}
	case i < len(g.have) && g.have[i].from == to:
		g.have[i].from = from
	default:
		g.have = append(g.have, span{})
		copy(g.have[i+1:], g.have[i:])
		g.have[i] = span{from, to}
	}
}

// assemble makes the packet.
func (g *datagram) assemble() ([]byte, Drop) {
	if tooLong(g.key.src.Is6(), len(g.head)+g.total) {
		return nil, DropFragment
	}
	// RFC 3168, Section 5.3: a mark on one fragment is a mark on the datagram; a mix with fragments that cannot carry marks
	// is nothing a sender makes.
	ecn, ok := g.mergedECN()
	if !ok {
		return nil, DropECN
	}
	out := make([]byte, len(g.head)+g.total)
	copy(out, g.head)
	copy(out[len(g.head):], g.buf[:g.total])
	if out[0]>>4 == 4 {
		out[1] = out[1]&^3 | ecn
		out[6], out[7] = out[6]&0x40, 0 // no longer a fragment
		setLength(out, len(g.head))
	} else {
		out[1] = out[1]&^0x30 | ecn<<4
		setLength(out, 0)
	}
	return out, DropUnset
}

func (g *datagram) mergedECN() (uint8, bool) {
	switch {
	case g.ecn[tun.ECNCE] && g.ecn[tun.ECNNotECT]:
		return 0, false
	case g.ecn[tun.ECNCE]:
		return tun.ECNCE, true
	case g.ecn[tun.ECNNotECT]:
		return tun.ECNNotECT, true
	case g.ecn[tun.ECNECT0]:
		return tun.ECNECT0, true
	}
	return tun.ECNECT1, true
}

// grow makes g's buffer at least n bytes long, evicting older datagrams of the SA where its bytes run out.
func (a *reassembler) grow(p *Path, g *datagram, n int) (evicted int, ok bool) {
	if n <= len(g.buf) {
		return 0, true
	}
	size := 4096
	for size < n {
		size *= 2
	}
	more := size - len(g.buf)
	for a.bytes+more > maxReasmBytes {
		if a.oldestLive(g) == nil {
			return evicted, false
		}
		evicted += a.evict(p, g)
	}
	if p.fragBytes.Add(int64(more)) > maxReasmBytesAll {
		p.fragBytes.Add(int64(-more))
		return evicted, false
	}
	a.bytes += more
	buf := make([]byte, size)
	copy(buf, g.buf)
	g.buf = buf
	return evicted, true
}

// oldestLive is the oldest datagram with memory, other than g.
func (a *reassembler) oldestLive(g *datagram) *datagram {
	for x := a.oldest; x != nil; x = x.next {
		if x != g && len(x.buf) > 0 {
			return x
		}
	}
	return nil
}

// evict forgets the oldest datagram other than keep, those with memory first.
func (a *reassembler) evict(p *Path, keep *datagram) int {
	x := a.oldestLive(keep)
	if x == nil {
		x = a.oldest
	}
	if x == nil || x == keep {
		return 0
	}
	n := x.count
	a.unlink(p, x)
	return n
}

// kill drops what came of g and remembers that it is refused.
func (a *reassembler) kill(p *Path, g *datagram) {
	p.count.dropN(DropFragment, g.count)
	a.free(p, g)
	g.dead, g.count = true, 0
	g.have, g.head = nil, nil
}

func (a *reassembler) free(p *Path, g *datagram) {
	a.bytes -= len(g.buf)
	p.fragBytes.Add(int64(-len(g.buf)))
	g.buf = nil
}

func (a *reassembler) link(g *datagram) {
	g.prev = a.newest
	if a.newest != nil {
		a.newest.next = g
	} else {
		a.oldest = g
	}
	a.newest = g
	a.m[g.key] = g
}

func (a *reassembler) unlink(p *Path, g *datagram) {
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		a.oldest = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	} else {
		a.newest = g.prev
	}
	g.prev, g.next = nil, nil
	delete(a.m, g.key)
	a.free(p, g)
}

// expire forgets what is too old. It returns how many fragments that were, and whether anything is left.
func (a *reassembler) expire(p *Path, now time.Time) (n int, left bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.oldest != nil && now.Sub(a.oldest.born) >= reasmLifetime {
		n += a.oldest.count
		a.unlink(p, a.oldest)
	}
	return n, a.oldest != nil
}

// close forgets everything and takes in nothing any more.
func (a *reassembler) close(p *Path) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for a.oldest != nil {
		n += a.oldest.count
		a.unlink(p, a.oldest)
	}
	return n
}

// fragmenting remembers that c has something to expire.
func (p *Path) fragmenting(c *Child) {
	p.fragMu.Lock()
	defer p.fragMu.Unlock()
	p.fragging[c] = struct{}{}
}

// sweepFragments expires fragments.
func (p *Path) sweepFragments(now time.Time) {
	p.fragMu.Lock()
	cs := make([]*Child, 0, len(p.fragging))
	for c := range p.fragging {
		cs = append(cs, c)
	}
	p.fragMu.Unlock()
	for _, c := range cs {
		n, left := c.reasm.expire(p, now)
		p.count.dropN(DropFragmentTime, n)
		if !left {
			p.fragMu.Lock()
			delete(p.fragging, c)
			p.fragMu.Unlock()
			if _, left = c.reasm.expire(p, now); left {
				p.fragmenting(c) // one came in between
			}
		}
	}
}
