package engine

import (
	"net/netip"
	"slices"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/wire"
)

// A greeting is what a host that asks for an IKE SA is answered with while nothing but its
// address is known: what any connection that could be meant would accept.
type greeting struct {
	cfg  *ike.Config
	conn *Conn // the first of them, for want of better
}

// greetings are made when they are first needed, one for each address that some connection
// names and one for everybody else: a flood of requests makes none.
type greetings struct {
	conns    []*Conn
	anywhere []int                // indices of connections whose peer may be anywhere
	at       map[netip.Addr][]int // and of those with a peer at an address
	made     map[netip.Addr]*greeting
}

func newGreetings(conns []*Conn) *greetings {
	g := &greetings{conns: conns, at: map[netip.Addr][]int{}, made: map[netip.Addr]*greeting{}}
	for i, c := range conns {
		// A host given by name may be anywhere.
		if len(c.Remotes) == 0 || slices.ContainsFunc(c.Remotes, func(r Remote) bool { return r.Host != "" }) {
			g.anywhere = append(g.anywhere, i)
			continue
		}
		for _, r := range c.Remotes {
			if l := g.at[r.Addr]; len(l) == 0 || l[len(l)-1] != i {
				g.at[r.Addr] = append(l, i)
			}
		}
	}
	return g
}

// to is the greeting for a host at an address, nil if nobody is expected from there.
func (g *greetings) to(from netip.Addr, config func(*Conn) *ike.Config) *greeting {
	here := g.at[from]
	if len(here) == 0 {
		from = netip.Addr{} // like everybody else
	}
	x, made := g.made[from]
	if !made {
		x = g.merge(slices.Sorted(slices.Values(slices.Concat(here, g.anywhere))), config)
		g.made[from] = x
	}
	return x
}

// merge makes the greeting of several connections, in the order of their indices.
func (g *greetings) merge(indices []int, config func(*Conn) *ike.Config) *greeting {
	var x *greeting
	for _, i := range indices {
		c := g.conns[i]
		if x == nil {
			x = &greeting{cfg: config(c), conn: c}
			x.cfg.Name, x.cfg.RemoteID, x.cfg.HashAlgs = "", nil, auth.Hashes() // nobody yet: its address is all there is to name
			x.cfg.Proposals = slices.Clone(c.IKE)
			continue
		}
		for _, p := range c.IKE {
			if !slices.ContainsFunc(x.cfg.Proposals, func(q wire.Proposal) bool { return slices.Equal(p.Transforms, q.Transforms) }) {
				x.cfg.Proposals = append(x.cfg.Proposals, p)
			}
		}
		x.cfg.ForceEncap = x.cfg.ForceEncap || !c.NativeESP
		x.cfg.Childless = max(x.cfg.Childless, c.Childless) // each rule is applied when the peer is known
		x.cfg.Fragments = max(x.cfg.Fragments, c.Fragments) // the most careful, for all of them
		if x.cfg.FragmentSize == 0 || c.FragmentSize != 0 && c.FragmentSize < x.cfg.FragmentSize {
			x.cfg.FragmentSize = c.FragmentSize
		}
	}
	return x
}
