package tuntest

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/udp"
)

// RelayConfig says what a Relay joins.
type RelayConfig struct {
	// Listen is the UDP address to listen on; the zero value means 127.0.0.1 and any port.
	Listen netip.AddrPort
	// Target is one of the two ends; what comes from elsewhere first is the other one. If
	// it is the zero value, the first two distinct sources are the ends.
	Target netip.AddrPort
	// Recorder gets a copy of every datagram that is passed on; nil records nothing.
	// Several relays may have the same one.
	Recorder *Recorder
}

// A Relay passes UDP datagrams between two ends, whatever is in them, and records them as
// coming from one end and going to the other. A third party's datagrams are dropped.
type Relay struct {
	wire *udp.Wire
	rec  *Recorder
	ends [2]netip.AddrPort // owned by run; the zero value is not known yet
	wg   sync.WaitGroup

	passed, dropped atomic.Uint64
}

// relayBatch is the number of slots of one Receive: room for several messages that the
// kernel joined.
const relayBatch = 128

// NewRelay starts a relay.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	at := cfg.Listen
	if !at.Addr().IsValid() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	w, err := udp.Listen(udp.Config{Addrs: []netip.AddrPort{at}, Opaque: true})
	if err != nil {
		return nil, err
	}
	r := &Relay{wire: w, rec: cfg.Recorder}
	r.ends[0] = netip.AddrPortFrom(cfg.Target.Addr().Unmap(), cfg.Target.Port())
	r.wg.Go(r.run)
	return r, nil
}

// Addr returns the address to which both ends send.
func (r *Relay) Addr() netip.AddrPort { return r.wire.LocalAddr(netip.Addr{})[0] }

// Counts returns the number of datagrams passed on and of those dropped.
func (r *Relay) Counts() (passed, dropped uint64) { return r.passed.Load(), r.dropped.Load() }

// Close stops the relay and waits for it.
func (r *Relay) Close() error {
	err := r.wire.Close()
	r.wg.Wait()
	return err
}

func (r *Relay) run() {
	batch := tun.NewBatch(relayBatch, 0)
	var out []tun.Packet
	for {
		in, err := batch.Receive(r.wire)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // about one packet; there is nobody to tell
		}
		now := time.Now()
		out = out[:0]
		for _, p := range in {
			to, ok := r.other(p.Path.Remote)
			if !ok {
				r.dropped.Add(1)
				continue
			}
			if r.rec != nil {
				r.rec.Record(now, p.Path.Remote, to, p.Data())
			}
			p.Path.Remote = to
			out = append(out, p)
		}
		for len(out) > 0 {
			n, err := r.wire.Send(out)
			r.passed.Add(uint64(n))
			if err != nil && n < len(out) {
				n++ // refused: lost, as on any other path
				r.dropped.Add(1)
			}
			out = out[n:]
		}
	}
}

// other returns the end opposite to from. It learns the ends as they appear.
func (r *Relay) other(from netip.AddrPort) (netip.AddrPort, bool) {
	for i, end := range r.ends {
		if end == from {
			to := r.ends[1-i]
			return to, to.Addr().IsValid()
		}
	}
	for i := range r.ends {
		if !r.ends[i].Addr().IsValid() {
			r.ends[i] = from
			to := r.ends[1-i]
			return to, to.Addr().IsValid()
		}
	}
	return netip.AddrPort{}, false
}
