package outer

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/btns-go/btns/tun"
)

// An assembler puts fragments together again (RFC 791, Section 3.2; RFC 8200, Section 4.5).
// Fragments that overlap refuse the whole datagram, those that come later included
// (RFC 5722, Section 4), for IPv4 as well. The zero value is ready.
type assembler struct {
	m    map[fragmentKey]*assembly
	held int // bytes, with the cost of each fragment
}

// A fragmentKey names a datagram.
type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // of IPv4; each fragment of IPv6 may have its own
}

// An assembly is a datagram of which parts have come.
type assembly struct {
	born  time.Time
	proto uint8  // of the first fragment
	first bool   // whether that has come
	dead  bool   // refused; the parts are gone, the name is kept until it is too old
	size  int    // of the whole; -1 until the last fragment has come
	have  int    // bytes in parts
	parts []part // by offset
	marks uint8  // bit n: some fragment has the ECN field n
}

type part struct {
	off  int
	data []byte
}

// add takes one fragment; data is borrowed. If it was the last one missing, it returns the
// whole, which is no longer held. Otherwise drop says what was given up, if anything.
func (s *assembler) add(now time.Time, h *header, data []byte) (whole *assembly, drop tun.Drop) {
	if len(data) == 0 || h.more && len(data)%8 != 0 || h.offset+len(data) > tun.MaxPacket {
		return nil, tun.DropFragment
	}
	key := fragmentKey{src: h.src, dst: h.dst, id: h.id}
	if h.src.Is4() {
		key.proto = h.proto
	}
	drop = s.expire(now)
	a := s.m[key]
	if a == nil {
		if s.full(h.src) {
			return nil, tun.DropReassembly
		}
		a = &assembly{born: now, size: -1}
		if s.m == nil {
			s.m = make(map[fragmentKey]*assembly)
		}
		s.m[key] = a
	}
	if a.dead {
		return nil, tun.DropFragment
	}
	known, ok := a.place(h, data)
	switch {
	case !ok:
		s.kill(a)
		return nil, tun.DropFragment
	case known:
		return nil, drop
	case len(a.parts) >= maxFragments || s.held+len(data)+fragmentCost > maxHeld:
		s.kill(a)
		return nil, tun.DropReassembly
	}
	a.insert(h, data)
	s.held += len(data) + fragmentCost
	if !a.first || a.size < 0 || a.have < a.size {
		return nil, drop
	}
	delete(s.m, key)
	s.held -= a.have + len(a.parts)*fragmentCost
	if a.marks&(1<<tun.ECNCE) != 0 && a.marks&(1<<tun.ECNNotECT) != 0 {
		// The mark could not be told to the transport: RFC 3168, Section 5.3.
		return nil, tun.DropFragment
	}
	return a, drop
}

// full reports whether there is no room for another datagram of src.
func (s *assembler) full(src netip.Addr) bool {
	if len(s.m) >= maxDatagrams {
		return true
	}
	n := 0
	for k := range s.m {
		if k.src == src {
			n++
		}
	}
	return n >= maxPerSource
}

// expire forgets datagrams that are too old.
func (s *assembler) expire(now time.Time) (drop tun.Drop) {
	for k, a := range s.m {
		if now.Sub(a.born) >= fragmentLife {
			if !a.dead {
				drop = tun.DropReassembly
			}
			s.kill(a)
			delete(s.m, k)
		}
	}
	return drop
}

// kill lets go of the parts and refuses what comes later.
func (s *assembler) kill(a *assembly) {
	s.held -= a.have + len(a.parts)*fragmentCost
	a.dead, a.parts, a.have = true, nil, 0
}

// place checks a fragment against what is there. known means that the very same one is.
func (a *assembly) place(h *header, data []byte) (known, ok bool) {
	end := h.offset + len(data)
	if !h.more && a.size >= 0 && a.size != end || a.size >= 0 && end > a.size {
		return false, false
	}
	for i := range a.parts {
		q := &a.parts[i]
		qend := q.off + len(q.data)
		if !h.more && qend > end {
			return false, false // something lies behind the last one
		}
		if h.offset >= qend || end <= q.off {
			continue
		}
		// A copy made by the network is harmless: RFC 8200, Section 4.5.
		same := q.off == h.offset && qend == end && bytes.Equal(q.data, data)
		return same, same
	}
	return false, true
}

func (a *assembly) insert(h *header, data []byte) {
	if h.offset == 0 {
		a.first, a.proto = true, h.proto
	}
	if !h.more {
		a.size = h.offset + len(data)
	}
	a.marks |= 1 << h.ecn
	a.have += len(data)
	i := len(a.parts)
	for i > 0 && a.parts[i-1].off > h.offset {
		i--
	}
	a.parts = append(a.parts, part{})
	copy(a.parts[i+1:], a.parts[i:])
	a.parts[i] = part{off: h.offset, data: bytes.Clone(data)}
}

// copyTo writes the whole to b, which has its size.
func (a *assembly) copyTo(b []byte) {
	for _, p := range a.parts {
		copy(b[p.off:], p.data)
	}
}

// ecn returns the field of the whole: RFC 3168, Section 5.3.
func (a *assembly) ecn() uint8 {
	for _, e := range [...]uint8{tun.ECNCE, tun.ECNNotECT, tun.ECNECT1, tun.ECNECT0} {
		if a.marks&(1<<e) != 0 {
			return e
		}
	}
	return tun.ECNNotECT
}
