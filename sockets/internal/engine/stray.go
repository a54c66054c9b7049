package engine

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-go/btns/ike"
)

// This file is what the two ends do when one of them was restarted and the other still
// sends ESP to it (RFC 7296, Section 1.5). Nothing in it is authenticated.

// An InvalidSPIError says that somebody at the peer's address does not know a child SA.
type InvalidSPIError struct {
	From netip.AddrPort
	SPI  uint32
}

// Error names both.
func (e *InvalidSPIError) Error() string {
	return fmt.Sprintf("engine: %s says that it has no child SA with SPI %08x (unauthenticated)", e.From, e.SPI)
}

// unknownSPI tells the sender of an ESP packet that we do not have its SA, and calls it if
// it may be a peer of ours.
func (k *keyer) unknownSPI(now time.Time, path ike.Path, spi uint32, size int) {
	if k.stopping {
		return
	}
	if answer := k.door.invalidSPI(now, path, spi, size); answer != nil {
		k.transmit(path, answer)
		k.callBack(now, path.Remote.Addr())
	}
}

// callBack makes the SAs with a peer at a known address which still uses those of before a
// restart of ours: it may take minutes to find out, and a peer that does not take hints
// takes INITIAL_CONTACT. Anybody can pretend to be at that address, so a peer is called once
// in suspectGap, and only while there is nothing with it.
func (k *keyer) callBack(now time.Time, from netip.Addr) {
	for _, c := range k.cfg.Conns {
		if !c.isAt(from) || now.Sub(k.called[c]) < suspectGap {
			continue
		}
		if _, busy := k.roster[group{kind: byConn, conn: c}]; busy {
			continue
		}
		k.called[c] = now
		for _, cc := range c.Children {
			if !cc.Passive && len(cc.Pair.Remote) > 0 {
				k.request(now, &acquire{ref: k.ref(), conf: cc, pair: cc.Pair})
			}
		}
	}
}

// isAt tells whether an address is the one at which the connection's peer is configured.
func (c *Conn) isAt(a netip.Addr) bool {
	for _, r := range c.Remotes {
		if r.Host == "" && r.Addr == a.Unmap() {
			return true
		}
	}
	return false
}

// hint passes on that somebody at the peer's address does not have a child SA.
func (k *keyer) hint(now time.Time, path ike.Path, spi uint32) {
	s := k.byChild[k.byOut[spi]]
	if s == nil {
		return
	}
	c := s.children[k.byOut[spi]]
	if c == nil || c.CurrentPath().Remote.Addr().Unmap() != path.Remote.Addr().Unmap() {
		return
	}
	k.heard(s)
	s.m.Doubt(now, &InvalidSPIError{From: path.Remote, SPI: spi})
	k.drain(now, s)
}
