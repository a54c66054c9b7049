package ike

import (
	"bytes"
	"net/netip"

	"github.com/btns-go/btns/ike/wire"
)

// natNotifies returns the two NAT detection notifies of a message with these SPIs
// in its header (RFC 7296, Section 2.23). fake, if not nil, stands for our address.
func natNotifies(spii, spir uint64, path Path, fake []byte) (src, dst *wire.Notify) {
	if fake == nil {
		h := wire.NATDHash(spii, spir, path.Local)
		fake = h[:]
	}
	d := wire.NATDHash(spii, spir, path.Remote)
	return notify(wire.NotifyNATDetectionSourceIP, fake), notify(wire.NotifyNATDetectionDestinationIP, d[:])
}

// nat is what a peer's NAT detection notifies say.
type nat struct {
	seen          bool // both kinds were there
	local, remote bool // that end's address is translated
}

// detectNAT compares the notifies of a message with where it came from. Two hashes
// are computed however many notifies there are, and those of a wrong length are
// ignored (ADV-B24).
func detectNAT(ps []wire.Payload, spii, spir uint64, path Path) nat {
	n := nat{local: true, remote: true}
	var src, dst bool
	at := func(ap netip.AddrPort) []byte { h := wire.NATDHash(spii, spir, ap); return h[:] }
	from, to := at(path.Remote), at(path.Local)
	for _, p := range ps {
		x, ok := p.(*wire.Notify)
		if !ok || len(x.Data) != wire.NATDHashLen {
			continue
		}
		if x.NType == wire.NotifyNATDetectionSourceIP {
			src = true
			n.remote = n.remote && !bytes.Equal(x.Data, from)
		}
		if x.NType == wire.NotifyNATDetectionDestinationIP {
			dst = true
			n.local = n.local && !bytes.Equal(x.Data, to)
		}
	}
	if !src || !dst {
		return nat{}
	}
	n.seen = true
	return n
}

// applyNAT takes over what NAT detection found. An initiator that started on port
// 500 moves to port 4500, where ESP may be encapsulated; one that started on any
// other port is there already.
func (m *Machine) applyNAT(n nat) {
	m.setFlag(flagLocalNAT, n.local)
	m.setFlag(flagRemoteNAT, n.remote)
	m.setFlag(flagEncap, n.local || n.remote || m.cfg.ForceEncap)
	if m.role != Initiator || !m.has(flagEncap) {
		return
	}
	// RFC 7296, Section 2.23: never encapsulate on port 500, at either end.
	if m.path.Remote.Port() == wire.PortIKE {
		m.path.Remote = netip.AddrPortFrom(m.path.Remote.Addr(), wire.PortNATT)
		if m.cfg.FloatPort != 0 {
			m.path.Local = netip.AddrPortFrom(m.path.Local.Addr(), m.cfg.FloatPort)
		}
	}
	if m.path.Local.Port() == wire.PortIKE {
		m.path.Local = netip.AddrPortFrom(m.path.Local.Addr(), wire.PortNATT)
	}
}
