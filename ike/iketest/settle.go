package iketest

import (
	"bytes"
	"sort"
	"strings"
	"time"
)

// Settle turns all faults off, lets time pass, and checks what holds when all is quiet:
// both ends know the same IKE and child SAs with the same keys (I7, I11), every reserved
// SPI has ended (SPI accounting), nothing that is over is still in a table (I9).
func (s *Sim) Settle(d time.Duration) {
	s.Faults = Faults{Delay: s.Faults.Delay}
	s.Tap = nil
	for _, h := range s.hosts {
		h.Quiet()
	}
	s.Run(d, nil)
	// Somebody may just have begun something: nothing is on its way any more.
	s.Run(time.Minute, func() bool { return len(s.events) == 0 })
	s.CheckQuiet()
	s.lastWords()
}

// CheckQuiet is Settle's check alone.
func (s *Sim) CheckQuiet() {
	for _, h := range s.hosts {
		for spi, st := range h.SPIs {
			if st == SPIReserved {
				s.fail("%s: SPI %08x was reserved and never ended", h.Name, spi)
			}
		}
		up := 0
		for _, e := range h.Ends {
			if e.Up() {
				up++
				if e.candidate {
					e.fail("I9: an IKE SA that nobody uses")
				}
				if e.Next != nil {
					e.fail("I9: rekeyed, but still up")
				}
				e.checkPeer()
			} else if e.Closed == nil {
				e.fail("neither established nor closed: %s", e.M.State())
			}
		}
		if n := h.Gate.Len(); n != up {
			s.fail("I9: %s: the gate has %d SAs, %d are up", h.Name, n, up)
		}
	}
}

// checkPeer compares an established end with the other one.
func (e *End) checkPeer() {
	o := e.Peer()
	if o == nil || !o.Up() {
		e.fail("I7: established, but the peer is not")
		return
	}
	if len(e.Children) != len(o.Children) {
		e.fail("I7: %d child SAs, the peer has %d", len(e.Children), len(o.Children))
	}
	for _, c := range e.Children {
		p := o.Children[c.OutSPI]
		if p == nil {
			e.fail("I7: the peer does not know child %08x/%08x", c.InSPI, c.OutSPI)
			continue
		}
		if !c.Outbound {
			e.fail("child %08x has no outbound half", c.InSPI)
		}
		swapped := p.Pair.Swap()
		switch {
		case p.OutSPI != c.InSPI, c.Suite != p.Suite, c.Transport != p.Transport, c.Encap != p.Encap:
			e.fail("I11: child SAs differ: %+v, %+v", c.Child, p.Child)
		case c.Outbound && !bytes.Equal(c.OutKey, p.InKey):
			e.fail("I11: keys of child SA %08x differ", c.OutSPI)
		case !c.Transport && !c.Pair.Equal(swapped):
			e.fail("I11: selectors differ: %v, %v", c.Pair, swapped)
		}
		if len(c.InKey) != c.Suite.KeyLen() {
			e.fail("I11: key of %d octets for %v", len(c.InKey), c.Suite)
		}
	}
	x, y := e.Established, o.Established
	if x.Suite != y.Suite || x.Encap != y.Encap || x.RemoteID.String() != y.LocalID.String() || x.Role == y.Role {
		e.fail("I11: IKE SAs differ: %+v, %+v", x, y)
	}
}

// Peer returns the other end of an SA, if some host has it.
func (e *End) Peer() *End {
	i, r := e.M.SPIs()
	for _, h := range e.Host.Sim.hosts {
		for _, o := range h.Ends {
			if oi, or := o.M.SPIs(); o != e && oi == i && or == r && o.role != e.role {
				return o
			}
		}
	}
	return nil
}

// Summary describes all ends in a stable order, for failures and for comparing runs.
func (s *Sim) Summary() string {
	var lines []string
	for _, h := range s.hosts {
		for _, e := range h.Ends {
			line := e.String() + " " + e.M.State().String()
			if e.Failed != nil {
				line += ": " + e.Failed.Error()
			}
			for _, err := range e.ChildErrors {
				line += "; child: " + err.Error()
			}
			lines = append(lines, line)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Panics counts recovered panics of all machines.
func (s *Sim) Panics() uint64 {
	var n uint64
	for _, h := range s.hosts {
		n += h.Counters.Panics.Load()
	}
	return n
}
