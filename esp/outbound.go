package esp

import "sync/atomic"

// Outbound is the sending half of an SA. It is safe for concurrent use.
type Outbound struct {
	// constant
	spi   uint32
	suite Suite
	mode  Mode
	esn   bool
	max   uint64 // highest sequence number that may be used

	// atomic
	crypt atomic.Pointer[crypt] // nil once closed
	seq   atomic.Uint64         // last number taken
	stats counters
}

// NewOutbound makes an SA that has sealed nothing. The key must not have been
// given to an Outbound before.
func NewOutbound(c Config) (*Outbound, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	st, err := newCrypt(&c, true)
	if err != nil {
		return nil, err
	}
	o := &Outbound{spi: c.SPI, suite: c.Suite, mode: c.Mode, esn: c.ESN, max: maxSeq32}
	if c.ESN {
		o.max = maxSeq64
	}
	if c.MaxPackets != 0 && c.MaxPackets < o.max {
		o.max = c.MaxPackets
	}
	o.crypt.Store(st)
	return o, nil
}

// Seal seals a batch in place and takes one range of sequence numbers for it. It
// returns Pass if the range was taken; each packet's own Drop then says whether it
// was sealed, and a packet that was not has Len 0 and leaves a hole in the range.
// Otherwise (DropExhausted, DropClosed) nothing was sealed or changed but Drop, and
// the payloads are still clear.
func (o *Outbound) Seal(w *Worker, pkts []Packet) Drop {
	if len(pkts) == 0 {
		return Pass
	}
	st := o.crypt.Load()
	if st == nil {
		return o.refuse(pkts, DropClosed)
	}
	var x *etmContext
	if st.etm != nil {
		if x = st.etm.get(); x == nil {
			return o.refuse(pkts, DropClosed)
		}
		defer st.etm.put(x)
	}
	seq, ok := o.take(uint64(len(pkts)))
	if !ok {
		return o.refuse(pkts, DropExhausted)
	}
	copy(w.nonce[:saltLen], st.salt[:])
	var packets, bytes uint64
	for i := range pkts {
		p := &pkts[i]
		n := p.Len
		switch {
		case !sendable(o.mode, p.Next):
			p.Drop = DropNextHeader
		case x == nil && st.seal(w, p, seq, seq), x != nil && st.sealETM(w, x, p, seq):
			p.Drop = Pass
			packets++
			bytes += uint64(n)
		default:
			p.Drop = DropRoom
		}
		if p.Drop != Pass {
			p.Len, p.seq = 0, 0
			o.stats.drop(p.Drop)
		}
		seq++
	}
	clear(w.nonce[:])
	o.stats.pass(packets, bytes)
	return Pass
}

// take reserves n sequence numbers and returns the first. The counter starts at 0,
// so that the first packet has number 1, and never passes max, so that no number
// is used twice (RFC 4303, Section 3.3.3).
func (o *Outbound) take(n uint64) (uint64, bool) {
	for {
		last := o.seq.Load()
		if n > o.max-last {
			return 0, false
		}
		if o.seq.CompareAndSwap(last, last+n) {
			return last + 1, true
		}
	}
}

func (o *Outbound) refuse(pkts []Packet, d Drop) Drop {
	for i := range pkts {
		pkts[i].Drop, pkts[i].seq = d, 0
	}
	o.stats.drops[d].Add(uint64(len(pkts)))
	return d
}

// sendable reports whether a payload of this kind may be sealed. Next header 0 is
// never right, so a Packet whose Next was forgotten is dropped.
func sendable(m Mode, next uint8) bool {
	if m == ModeTunnel {
		return next == protoIPv4 || next == protoIPv6 || next == protoNoNext
	}
	return transportNext(next) || next == protoNoNext
}

// SPI returns the SPI that Seal writes.
func (o *Outbound) SPI() uint32 { return o.spi }

// Suite returns the SA's suite.
func (o *Outbound) Suite() Suite { return o.suite }

// Mode returns the SA's mode.
func (o *Outbound) Mode() Mode { return o.mode }

// ESN reports whether the SA has extended sequence numbers.
func (o *Outbound) ESN() bool { return o.esn }

// HeaderLen returns the octets that Seal puts in front of a payload.
func (o *Outbound) HeaderLen() int { return headerLen + o.suite.ivLen() }

// Overhead returns the octets that Seal adds to a payload of that length, in front
// of it and behind it.
func (o *Outbound) Overhead(payload int) int {
	pad := -(payload + trailerLen) & (o.suite.align() - 1)
	return headerLen + o.suite.ivLen() + pad + trailerLen + o.suite.icvLen()
}

// Last returns the last sequence number taken, 0 before the first.
func (o *Outbound) Last() uint64 { return o.seq.Load() }

// Remaining returns how many sequence numbers are left.
func (o *Outbound) Remaining() uint64 { return o.max - o.seq.Load() }

// Packets returns the number of packets sealed.
func (o *Outbound) Packets() uint64 { return o.stats.packets.Load() }

// Bytes returns the payload octets sealed.
func (o *Outbound) Bytes() uint64 { return o.stats.bytes.Load() }

// Snapshot returns the counters.
func (o *Outbound) Snapshot() Stats { return o.stats.snapshot() }

// Zero closes the SA and lets go of its keys. Seal calls under way may finish;
// later ones return DropClosed.
func (o *Outbound) Zero() {
	if st := o.crypt.Swap(nil); st != nil && st.etm != nil {
		st.etm.zero()
	}
}
