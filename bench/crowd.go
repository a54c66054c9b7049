package bench

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/tuntest"
)

// A crowd is many clients of one hub without hosts of their own: machines that are let go
// of once their tunnel stands, so that what stays is the hub's.
type crowd struct {
	cast *cast
	own  iketest.Credentials
	wire *tuntest.Wire
	ike  []wire.Proposal
	esp  []wire.Proposal
	live map[netip.AddrPort]*ike.Machine
	next int // the client that comes next
}

// newCrowd makes clients 0 to n-1, each at an address of its own.
func newCrowd(c *cast, net *tuntest.Net, n int) (*crowd, error) {
	x := &crowd{cast: c, own: iketest.Credentials{Secret: c.secret, Key: c.client}, live: map[netip.AddrPort]*ike.Machine{}}
	if c.hub != nil {
		x.own.Trust = [][]byte{auth.SPKI(c.hub.Public())}
	}
	var err1, err2, err3 error
	x.ike, err1 = suite.IKEProposals(ikeSuite)
	x.esp, err2 = suite.ESPProposals(espSuite)
	addrs := make([]netip.AddrPort, n)
	for i := range addrs {
		addrs[i] = clientAddr(i)
	}
	x.wire, err3 = net.Listen(addrs...)
	return x, errors.Join(err1, err2, err3)
}

// connect sets up the tunnels of the next n clients.
func (x *crowd) connect(n int) error {
	patience := time.AfterFunc(crowdPatience, func() { _ = x.wire.Close() })
	defer patience.Stop()
	pkts := make([]tun.Packet, batch)
	bufs := make([]byte, len(pkts)*crowdBuffer)
	for end := x.next + n; ; {
		for ; x.next < end && len(x.live) < maxCrowd; x.next++ {
			if err := x.start(x.next); err != nil {
				return err
			}
		}
		if len(x.live) == 0 {
			return nil
		}
		for i := range pkts {
			pkts[i] = tun.Packet{Buf: bufs[i*crowdBuffer : (i+1)*crowdBuffer : (i+1)*crowdBuffer]}
		}
		got, err := x.wire.Receive(pkts)
		if err != nil {
			return fmt.Errorf("bench: %d of %d tunnels stand, then silence: %w", x.next-len(x.live), end, err)
		}
		patience.Reset(crowdPatience)
		for i := range pkts[:got] {
			p := &pkts[i]
			m := x.live[p.Path.Local]
			if m == nil {
				continue
			}
			m.Datagram(time.Now(), ike.Path(p.Path), p.Data())
			if err := x.drain(p.Path.Local, m); err != nil {
				return err
			}
		}
	}
}

// start lets client i begin.
func (x *crowd) start(i int) error {
	cfg := &ike.Config{Name: clientName(i), Proposals: x.ike, HashAlgs: auth.Hashes(), ForceEncap: true, InitialContact: true, Rand: rand.Reader,
		Local: ike.Local{ID: wire.ID{IType: wire.IDFQDN, Data: []byte(clientID(i))}, Method: wire.AuthMethodPSK}}
	if x.cast.client != nil {
		cfg.Local.Method = wire.AuthMethodDigitalSignature
		cfg.Local.Certs = []wire.Cert{*auth.RawCert(x.cast.client.Public())}
	}
	now := time.Now()
	m, err := ike.NewInitiator(cfg, ike.Path{Local: clientAddr(i), Remote: hubAddr()}, now)
	if err != nil {
		return err
	}
	x.live[clientAddr(i)] = m
	m.Start(now, &ike.ChildRequest{SPI: uint32(1<<20 + i), Proposals: x.esp,
		Pair: ts.Pair{Local: ts.Set{ts.FromAddr(clientInner(i))}, Remote: ts.Set{ts.FromAddr(farInner(i))}}})
	return x.drain(clientAddr(i), m)
}

// drain carries out what a machine wants, and forgets it when its tunnel stands.
func (x *crowd) drain(from netip.AddrPort, m *ike.Machine) error {
	for o, ok := m.Next(); ok; o, ok = m.Next() {
		switch o := o.(type) {
		case *ike.Send:
			buf := append(make([]byte, tun.Headroom, tun.Headroom+len(o.Data)), o.Data...)
			if _, err := x.wire.Send([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(o.Data), Path: tun.Path(o.Path), Kind: tun.KindIKE}}); err != nil {
				return fmt.Errorf("bench: %w", err)
			}
		case ike.Work:
			m.Complete(time.Now(), o.WorkID(), x.answer(o))
		case *ike.ChildOutbound:
			delete(x.live, from)
		case *ike.Failed:
			return fmt.Errorf("bench: %w", o.Err)
		case *ike.ChildFailed:
			return fmt.Errorf("bench: %w", o.Err)
		}
	}
	return nil
}

func (x *crowd) answer(w ike.Work) ike.WorkResult {
	switch w.(type) {
	case *ike.WorkDecide:
		return &ike.DecideResult{Refuse: wire.NotifyNoAdditionalSAs}
	case *ike.WorkRekey:
		return &ike.RekeyResult{Err: errors.ErrUnsupported}
	}
	return x.own.Answer(w, rand.Reader)
}
