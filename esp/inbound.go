package esp

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/btns-go/btns/esp/replay"
)

// Inbound is the receiving half of an SA. It is safe for concurrent use.
type Inbound struct {
	// constant
	spi    uint32
	suite  Suite
	mode   Mode
	esn    bool
	head   int // octets in front of the payload
	minLen int // octets of the smallest packet
	blocks int // what the ciphertext must be a multiple of

	// atomic
	crypt atomic.Pointer[crypt] // nil once closed
	stats counters

	// under mu
	mu     sync.Mutex
	win    *replay.Window
	closed bool
}

// NewInbound makes an SA that has seen nothing.
func NewInbound(c Config) (*Inbound, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return newInbound(c)
}

func newInbound(c Config) (*Inbound, error) {
	win, err := replay.New(c.ReplayWindow)
	if err != nil {
		return nil, err
	}
	st, err := newCrypt(&c, false)
	if err != nil {
		return nil, err
	}
	i := &Inbound{spi: c.SPI, suite: c.Suite, mode: c.Mode, esn: c.ESN, win: win,
		head: headerLen + c.Suite.ivLen(), blocks: 1}
	body := trailerLen
	if c.Suite.Encr == EncrAESCBC {
		body, i.blocks = cbcBlock, cbcBlock
	}
	i.minLen = i.head + body + c.Suite.icvLen()
	i.crypt.Store(st)
	return i, nil
}

// Open opens a batch in place. Each packet's Drop says what became of it. With
// Pass, Off, Len and Next describe the payload, and nobody else gets the packet's
// sequence number. With anything else Len is 0; a dummy (DropDummy) is also a drop,
// and moves the window as every authentic packet does.
func (i *Inbound) Open(w *Worker, pkts []Packet) {
	if len(pkts) == 0 {
		return
	}
	st := i.crypt.Load()
	var x *etmContext
	if st != nil && st.etm != nil {
		if x = st.etm.get(); x != nil {
			defer st.etm.put(x)
		} else {
			st = nil
		}
	}
	if st == nil {
		for k := range pkts {
			pkts[k].refuse(DropClosed)
		}
		i.stats.drops[DropClosed].Add(uint64(len(pkts)))
		return
	}
	i.mu.Lock()
	i.win.Snapshot(&w.seen)
	i.mu.Unlock()
	copy(w.nonce[:saltLen], st.salt[:])
	for k := range pkts {
		p := &pkts[k]
		if !i.precheck(&w.seen, p) {
			continue
		}
		var plain []byte
		var ok bool
		if x == nil {
			plain, ok = st.open(w, p)
		} else {
			plain, ok = st.openETM(w, x, p)
		}
		if !ok {
			p.refuse(DropAuth)
			continue
		}
		p.Off += i.head
		if p.Drop = i.strip(p, plain); p.Drop != Pass {
			p.Len = 0 // but authentic: keeps seq for commit
		}
	}
	clear(w.nonce[:])
	i.commit(pkts)
}

func (p *Packet) refuse(d Drop) { p.Drop, p.Len, p.seq = d, 0, 0 }

// precheck refuses what can be refused without cryptography (RFC 4303, Section
// 3.4.3), or sets p.seq. It goes by the window as it was when the batch began, and
// changes no state of the SA.
func (i *Inbound) precheck(seen *replay.Snapshot, p *Packet) bool {
	if p.Len < i.minLen || p.Off < 0 || p.Off > len(p.Buf) || p.Len > len(p.Buf)-p.Off || (p.Len-i.minLen)&(i.blocks-1) != 0 {
		p.refuse(DropShort)
		return false
	}
	b := p.Buf[p.Off : p.Off+headerLen]
	if binary.BigEndian.Uint32(b[0:4]) != i.spi {
		p.refuse(DropSPI)
		return false
	}
	low := binary.BigEndian.Uint32(b[4:8])
	p.seq = uint64(low)
	if i.esn {
		p.seq = seen.Infer(low)
	}
	if !seen.Check(p.seq) {
		if seen.Old(p.seq) {
			p.refuse(DropOld)
		} else {
			p.refuse(DropReplay)
		}
		return false
	}
	return true
}

// late names the reason for which the window refused seq.
func (i *Inbound) late(seq uint64) Drop {
	if i.win.Old(seq) {
		return DropOld
	}
	return DropReplay
}

// commit records every authentic packet, whatever else is wrong with it, and
// counts the batch. The window may have moved since precheck, so the high half is
// inferred again: a packet for which it changed lies left of the window now. What
// passes is counted under mu: once the SA is closed, its figures stand.
func (i *Inbound) commit(pkts []Packet) {
	var packets, bytes uint64
	i.mu.Lock()
	for k := range pkts {
		p := &pkts[k]
		if p.seq == 0 {
			continue // not authentic
		}
		switch {
		case i.closed:
			p.refuse(DropClosed)
		case i.esn && i.win.Infer(uint32(p.seq)) != p.seq:
			p.refuse(DropOld)
		case !i.win.Commit(p.seq):
			p.refuse(i.late(p.seq))
		case p.Drop == Pass:
			packets++
			bytes += uint64(p.Len)
		}
	}
	i.stats.pass(packets, bytes)
	i.mu.Unlock()
	for k := range pkts {
		if p := &pkts[k]; p.Drop != Pass {
			i.stats.drop(p.Drop)
		}
	}
}

// Highest returns the highest sequence number received, 0 before the first.
func (i *Inbound) Highest() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.win.Top()
}

// SPI returns the SPI that Open wants.
func (i *Inbound) SPI() uint32 { return i.spi }

// Suite returns the SA's suite.
func (i *Inbound) Suite() Suite { return i.suite }

// Mode returns the SA's mode.
func (i *Inbound) Mode() Mode { return i.mode }

// ESN reports whether the SA has extended sequence numbers.
func (i *Inbound) ESN() bool { return i.esn }

// HeaderLen returns the octets in front of a payload.
func (i *Inbound) HeaderLen() int { return i.head }

// Overhead returns the octets that a packet has in addition to a payload of that
// length, if the sender pads no more than it must.
func (i *Inbound) Overhead(payload int) int {
	return i.suite.overhead(payload)
}

// Packets returns the number of packets that passed.
func (i *Inbound) Packets() uint64 { return i.stats.packets.Load() }

// Bytes returns their payload octets.
func (i *Inbound) Bytes() uint64 { return i.stats.bytes.Load() }

// Snapshot returns the counters.
func (i *Inbound) Snapshot() Stats { return i.stats.snapshot() }

// Zero closes the SA and lets go of its keys. No Open passes a packet after Zero
// has returned, calls under way included.
func (i *Inbound) Zero() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	if st := i.crypt.Swap(nil); st != nil && st.etm != nil {
		st.etm.zero()
	}
}
