package netstack

import (
	"math/rand/v2"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/btns-go/btns/esp/ts"
)

// provokeTable remembers under which tag inbound packets came that may provoke an answer from no socket. gVisor has no way
// to say what it answers, so the answer's flow, turned round, is looked up. A table of fixed size, one entry per bucket.
type provokeTable struct {
	seed uint64

	mu    sync.Mutex
	slots [provokeSlots]struct {
		flow ts.Flow
		tag  *Tag
	}
}

func newProvokeTable() *provokeTable { return &provokeTable{seed: rand.Uint64()} }

func (t *provokeTable) put(f ts.Flow, tag *Tag) {
	e := &t.slots[f.Hash(t.seed)%provokeSlots]
	t.mu.Lock()
	e.flow, e.tag = f, tag
	t.mu.Unlock()
}

func (t *provokeTable) get(f ts.Flow) *Tag {
	e := &t.slots[f.Hash(t.seed)%provokeSlots]
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.flow != f {
		return nil
	}
	return e.tag
}

func (t *provokeTable) forget(f ts.Flow) {
	e := &t.slots[f.Hash(t.seed)%provokeSlots]
	t.mu.Lock()
	if e.flow == f {
		e.flow, e.tag = ts.Flow{}, nil
	}
	t.mu.Unlock()
}

// provokedBy is the flow of the inbound packet that p answers.
func (p *Packet) provokedBy() (ts.Flow, bool) {
	f := p.Flow()
	if p.proto != ts.ProtoICMP && p.proto != ts.ProtoICMPv6 {
		return f.Reverse(), f.IsValid()
	}
	var request uint16
	switch t := p.icmpType(); {
	case p.proto == ts.ProtoICMP && t == uint8(header.ICMPv4EchoReply):
		request = uint16(header.ICMPv4Echo) << 8
	case p.proto == ts.ProtoICMPv6 && t == uint8(header.ICMPv6EchoReply):
		request = uint16(header.ICMPv6EchoRequest) << 8
	default:
		// An error quotes what provoked it.
		var b [icmpHeader + maxQuote]byte
		n := p.peek(b[:])
		if n < icmpHeader {
			return ts.Flow{}, false
		}
		return quotedFlow(b[icmpHeader:n])
	}
	return ts.MakeFlow(p.proto, netip.AddrPortFrom(f.Dst(), request), netip.AddrPortFrom(f.Src(), request)), true
}
