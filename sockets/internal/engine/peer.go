package engine

import (
	"net/netip"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// A peer is the proven identity at the other end of one IKE SA. It is made when AUTH was
// verified and never changes.
type peer struct {
	conn      *Conn
	entry     *pad.Entry
	id        pad.ID
	spki      []byte // nil with PSK
	outer     netip.Addr
	sole      netip.Addr // all that it may own, zero if that is more than one address
	canonical string     // what latches compare
	data      *datapath.Peer
	contact   bool // it said INITIAL_CONTACT
	path      ike.Path
}

// mayOwn is what the peer may own inside a tunnel, as far as its PAD entry says.
func (p *peer) mayOwn() ts.Set { return p.entry.Allowed(p.spki, p.outer) }

// remote is what child cc may cover on the peer's side.
func (p *peer) remote(cc *ChildConf) ts.Set {
	return cc.Pair.Remote.Intersect(p.mayOwn())
}
