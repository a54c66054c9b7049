package iketest

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/ike"
)

// Traffic counts what the data planes of a simulation did with the packets of [Host.Talk].
type Traffic struct {
	Offered   int // to a data plane
	Held      int // of these, while there was no SA to send under
	Sealed    int // sent as ESP
	Delivered int
	Orphans   int // came for an SPI that was not there any more, or not yet
	Unsealed  int // did not authenticate, or came twice: dropped
	Waiting   int // held at the end
}

// marker is in every packet, and in no datagram on the network.
var marker = []byte("plaintext of a protected flow")

// Add sums counters up.
func (t *Traffic) Add(o Traffic) {
	t.Offered += o.Offered
	t.Held += o.Held
	t.Sealed += o.Sealed
	t.Delivered += o.Delivered
	t.Orphans += o.Orphans
	t.Unsealed += o.Unsealed
	t.Waiting += o.Waiting
}

// maxWaiting bounds the packets that a host holds; the test's pace is slow.
const maxWaiting = 1 << 16

// plane is a data plane as it should be: what one host has installed, what it holds, what
// it has got. It holds a packet rather than send it in the clear.
type plane struct {
	talking bool // a packet every so often
	talked  bool
	serial  uint32
	order   int // counts ChildOutbounds
	waiting []uint32
	got     map[uint32]bool
	worker  esp.Worker
}

// Talk offers the host's data plane a packet for its peer every so often, until
// Quiet or Settle.
func (h *Host) Talk(every time.Duration) {
	h.plane.talking, h.plane.talked = true, true
	h.Sim.After(every, func() {
		if !h.plane.talking {
			return
		}
		h.say()
		h.Talk(every)
	})
}

// Quiet ends Talk.
func (h *Host) Quiet() { h.plane.talking = false }

func (h *Host) say() {
	p := &h.plane
	p.serial++
	h.Sim.Traffic.Offered++
	p.waiting = append(p.waiting, p.serial)
	if h.flush(); len(p.waiting) > 0 {
		h.Sim.Traffic.Held++
	}
	if len(p.waiting) > maxWaiting {
		h.Sim.fail("%s: %d packets wait", h.Name, len(p.waiting))
		p.talking = false
	}
}

// lastWords sends one more packet from each host that talked. Where an SA stands it passes,
// with all that was held.
func (s *Sim) lastWords() {
	before := s.Traffic
	for _, h := range s.hosts {
		if h.plane.talked {
			h.say()
		}
	}
	s.Run(time.Second, nil)
	if sealed, got := s.Traffic.Sealed-before.Sealed, s.Traffic.Delivered-before.Delivered; sealed != got {
		s.fail("I7: %d packets sent when all was quiet, %d arrived: %+v", sealed, got, s.Traffic)
	}
	s.Traffic.Waiting = 0
	for _, h := range s.hosts {
		s.Traffic.Waiting += len(h.plane.waiting)
	}
}

// flush sends what waits under the newest child SA, if there is one.
func (h *Host) flush() {
	p := &h.plane
	if len(p.waiting) == 0 {
		return
	}
	var c *Child
	for _, e := range h.live {
		for _, x := range e.Children {
			if x.Outbound && (c == nil || x.order > c.order) {
				c = x
			}
		}
	}
	if c == nil {
		if h.recovery.on {
			h.want()
		}
		return
	}
	for _, n := range p.waiting {
		h.seal(c, n)
	}
	p.waiting = p.waiting[:0]
}

// seal sends one packet under c, and judges what leaves: no plaintext (I3), and no
// (key, IV) a second time (I4).
func (h *Host) seal(c *Child, n uint32) {
	s := h.Sim
	mode := mode(c.Transport)
	if c.sealer == nil {
		var err error
		c.sealer, err = esp.NewOutbound(esp.Config{SPI: c.OutSPI, Suite: suiteOf(c), Key: bytes.Clone(c.OutKey), Mode: mode,
			ESN: c.Suite.ESN, Rand: h.Config.Rand})
		if err != nil {
			s.fail("%s: %v", h.Name, err)
			return
		}
	}
	buf := make([]byte, esp.Headroom+header+4+len(marker)+esp.Tailroom)
	pkt := inner(buf[esp.Headroom:esp.Headroom], n)
	k := []esp.Packet{{Buf: buf, Off: esp.Headroom, Len: len(pkt), Next: 41}}
	if mode == esp.ModeTransport {
		k[0].Off, k[0].Len, k[0].Next = esp.Headroom+header, len(pkt)-header, 17
	}
	if d := c.sealer.Seal(&h.plane.worker, k); d != esp.Pass {
		s.fail("%s: seal: %v", h.Name, d)
		return
	}
	b := buf[k[0].Off : k[0].Off+k[0].Len]
	if bytes.Contains(b, marker) {
		s.Judged.Clear++
		s.fail("I3: %s: cleartext under SPI %08x", h.Name, c.OutSPI)
	}
	iv := string(c.OutKey) + string(b[8:c.sealer.HeaderLen()])
	s.Judged.IVs++
	if s.sealed[iv] {
		s.Judged.Reused++
		s.fail("I4: %s: an IV twice under the key of SPI %08x", h.Name, c.OutSPI)
	}
	s.sealed[iv] = true
	s.Traffic.Sealed++
	s.carry(Datagram{From: h.Source(c.Path), To: c.Path.Remote, Data: b, esp: true})
}

// opened takes in an ESP packet.
func (h *Host) opened(p ike.Path, b []byte) {
	s := h.Sim
	spi, _ := esp.SPI(b)
	var c *Child
	for _, e := range h.live {
		if x := e.Children[spi]; x != nil {
			c = x
		}
	}
	if c == nil {
		s.Traffic.Orphans++
		h.strange(p, spi, len(b))
		return
	}
	if c.opener == nil {
		var err error
		c.opener, err = esp.NewInbound(esp.Config{SPI: c.InSPI, Suite: suiteOf(c), Key: bytes.Clone(c.InKey), Mode: mode(c.Transport), ESN: c.Suite.ESN})
		if err != nil {
			s.fail("%s: %v", h.Name, err)
			return
		}
	}
	top := c.opener.Highest()
	k := []esp.Packet{{Buf: b, Len: len(b)}}
	if c.opener.Open(&h.plane.worker, k); k[0].Drop != esp.Pass {
		s.Traffic.Unsealed++
		return
	}
	pkt := b[k[0].Off : k[0].Off+k[0].Len]
	if c.Transport {
		pkt = append(make([]byte, header), pkt...)
	}
	if !bytes.Equal(pkt[header+4:], marker) {
		s.fail("%s: %d octets nobody sent", h.Name, len(pkt))
		return
	}
	n := binary.BigEndian.Uint32(pkt[header:])
	if h.plane.got[n] {
		s.fail("I5: %s: packet %d a second time", h.Name, n)
	}
	if h.plane.got == nil {
		h.plane.got = map[uint32]bool{}
	}
	h.plane.got[n] = true
	s.Traffic.Delivered++
	first := !c.heard
	c.heard = true
	c.End.input(func() {
		c.End.M.Heard(s.Now, c.InSPI)
		if c.opener.Highest() > top {
			c.End.M.Moved(s.Now, p)
		}
		if first {
			c.End.M.FirstInbound(s.Now, c.InSPI)
		}
	})
}

// header is the length of an IPv6 header.
const header = 40

// inner appends an IPv6 packet with a number and the marker.
func inner(b []byte, n uint32) []byte {
	b = append(b, 0x60, 0, 0, 0, 0, byte(4+len(marker)), 17, 64)
	b = append(b, make([]byte, 32)...) // no addresses: selectors are not the point here
	b = binary.BigEndian.AppendUint32(b, n)
	return append(b, marker...)
}

func mode(transport bool) esp.Mode {
	if transport {
		return esp.ModeTransport
	}
	return esp.ModeTunnel
}

func suiteOf(c *Child) esp.Suite {
	return esp.Suite{Encr: c.Suite.Encr, KeyBits: c.Suite.KeyBits, Integ: c.Suite.Integ}
}

// sendUnder makes the child SA the one to send under.
func (h *Host) sendUnder(c *Child, o *ike.ChildOutbound) {
	h.plane.order++
	c.Outbound, c.OutKey, c.order = true, o.Key, h.plane.order
	h.flush()
}
