package bench

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-go/btns/esp"
)

// Options say what ESP measures.
type Options struct {
	Suites []string // names for esp.ParseSuite, AEAD only; nil: all three in use
	Sizes  []int    // payload octets; nil: 64, 512, 1400, 8192
	Rounds int      // 0: 31; each goes round the ring once per direction
	ESN    bool     // extended sequence numbers: 12 octets of AAD instead of 8
}

func (o *Options) fill() error {
	if o.Suites == nil {
		o.Suites = []string{"aes128gcm16", "aes256gcm16", "chacha20poly1305"}
	}
	if o.Sizes == nil {
		o.Sizes = []int{64, 512, 1400, 8192}
	}
	if o.Rounds == 0 {
		o.Rounds = defaultRounds
	}
	if o.Rounds < 1 || o.Rounds > maxRounds {
		return fmt.Errorf("bench: %d rounds: want 1 to %d", o.Rounds, maxRounds)
	}
	for _, n := range o.Sizes {
		if n < 1 || n > maxSize {
			return fmt.Errorf("bench: payload of %d octets: want 1 to %d", n, maxSize)
		}
	}
	return nil
}

// ESP measures, per suite and size, esp.Outbound.Seal ("esp/seal") and
// esp.Inbound.Open with its replay check ("esp/open") in MB/s of payload, on one
// core, in batches. The baseline is the same AEAD by itself with AAD of the same
// length, in place over the same ring of packets, in turns of slicePackets. The
// packets are cold: nobody touched them since the last round. It returns what it
// has and ctx's error if ctx ends first.
func ESP(ctx context.Context, o Options) (*Report, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &Report{Machine: ThisMachine()}
	for _, name := range o.Suites {
		suite, err := esp.ParseSuite(name)
		if err != nil {
			return r, err
		}
		for _, size := range o.Sizes {
			x, err := newESPRun(suite, size, o.ESN)
			if err != nil {
				return r, err
			}
			res, err := x.measure(ctx, o.Rounds)
			x.free()
			if err != nil {
				return r, err
			}
			r.Results = append(r.Results, res...)
		}
	}
	return r, nil
}

// espRun is the state of one suite and size: one ring of packets, sealed and
// opened in turns by the SA and by the bare AEAD.
type espRun struct {
	suite esp.Suite
	size  int
	pkts  []esp.Packet
	free  func()
	off   int // of the payload in each Buf
	out   *esp.Outbound
	in    *esp.Inbound
	w     esp.Worker
	bare  cipher.AEAD
	nonce [12]byte
	aad   []byte
	seq   uint64 // of the bare AEAD
}

func newESPRun(suite esp.Suite, size int, esn bool) (*espRun, error) {
	if !suite.AEAD() {
		return nil, fmt.Errorf("bench: %s is not an AEAD: nothing to compare with", suite)
	}
	key := make(esp.Key, suite.KeyLen())
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	c := esp.Config{SPI: 0x62746e73, Suite: suite, Key: key, Mode: esp.ModeTransport, ESN: esn}
	x := &espRun{suite: suite, size: size, aad: make([]byte, 8)}
	if esn {
		x.aad = make([]byte, 12)
	}
	var err error
	if x.out, err = esp.NewOutbound(c); err != nil {
		return nil, err
	}
	if x.in, err = esp.NewInbound(c); err != nil {
		return nil, err
	}
	if x.bare, err = bareAEAD(suite, key[:len(key)-4]); err != nil {
		return nil, err
	}
	x.off = x.out.HeaderLen()
	stride := size + x.out.Overhead(size)
	var ring []byte
	ring, x.free = newRing(ringPackets * stride)
	if _, err := rand.Read(ring); err != nil {
		x.free()
		return nil, err
	}
	x.pkts = make([]esp.Packet, ringPackets)
	for i := range x.pkts {
		b := ring[i*stride : (i+1)*stride : (i+1)*stride]
		x.pkts[i] = esp.Packet{Buf: b, Off: x.off, Len: size, Next: 17}
	}
	return x, nil
}

func bareAEAD(suite esp.Suite, key []byte) (cipher.AEAD, error) {
	if suite.Encr == esp.EncrChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// direction is Seal or Open.
type direction int

const (
	sealing direction = iota
	opening
)

func (x *espRun) measure(ctx context.Context, rounds int) ([]Result, error) {
	var samples, baseline [2][]float64 // by direction
	mb := float64(len(x.pkts)/2*x.size) / 1e6
	for round := -1; round < rounds; round++ { // round -1 warms up
		// Who gets the even slices of the ring changes in the middle of a round.
		for _, swap := range []bool{false, true} {
			for _, dir := range []direction{sealing, opening} {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				ours, bare, err := x.pass(dir, swap)
				if err != nil {
					return nil, err
				}
				if round >= 0 {
					samples[dir] = append(samples[dir], mb/ours.Seconds())
					baseline[dir] = append(baseline[dir], mb/bare.Seconds())
				}
			}
		}
	}
	params := map[string]any{"suite": x.suite.String(), "size": x.size}
	results := []Result{sealing: {Name: "esp/seal"}, opening: {Name: "esp/open"}}
	for dir := range results {
		r := &results[dir]
		r.Params, r.Unit = params, "MB/s"
		r.stats(samples[dir], baseline[dir])
	}
	// Allocations are counted apart, so that the counting disturbs nothing.
	for dir, f := range []func([]esp.Packet) error{sealing: x.seal, opening: x.open} {
		n, err := allocs(func() error { return f(x.pkts) })
		if err != nil {
			return nil, err
		}
		results[dir].AllocsPerOp = n / float64(len(x.pkts))
	}
	return results, nil
}

// pass goes round the ring once: every other slice by the SA, those in between by
// the bare AEAD, and returns the time that each took. What disturbs the machine
// lasts longer than a slice, and so disturbs both.
func (x *espRun) pass(dir direction, swap bool) (ours, bare time.Duration, err error) {
	if dir == sealing {
		x.seq += uint64(len(x.pkts)) // fresh nonces, the same for opening
	}
	for i, odd := 0, swap; i < len(x.pkts); i, odd = i+slicePackets, !odd {
		part := x.pkts[i : i+slicePackets]
		start := time.Now()
		switch {
		case odd && dir == sealing:
			err = x.bareSeal(part, x.seq+uint64(i))
		case odd:
			err = x.bareOpen(part, x.seq+uint64(i))
		case dir == sealing:
			err = x.seal(part)
		default:
			err = x.open(part)
		}
		d := time.Since(start)
		if err != nil {
			return 0, 0, err
		}
		if odd {
			bare += d
			continue
		}
		ours += d
		for k := range part { // what was timed was work, not drops
			if part[k].Drop != esp.Pass {
				return 0, 0, fmt.Errorf("bench: packet dropped: %s", part[k].Drop)
			}
		}
	}
	return ours, bare, nil
}

// allocs returns the allocations of one call of f.
func allocs(f func() error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs), err
}

func (x *espRun) seal(pkts []esp.Packet) error {
	for i := 0; i < len(pkts); i += batch {
		if d := x.out.Seal(&x.w, pkts[i:i+batch]); d != esp.Pass {
			return fmt.Errorf("bench: seal: %s", d)
		}
	}
	return nil
}

func (x *espRun) open(pkts []esp.Packet) error {
	for i := 0; i < len(pkts); i += batch {
		x.in.Open(&x.w, pkts[i:i+batch])
	}
	return nil
}

func (x *espRun) bareSeal(pkts []esp.Packet, nonce uint64) error {
	for i := range pkts {
		b := pkts[i].Buf[x.off:]
		binary.BigEndian.PutUint64(x.nonce[4:], nonce+uint64(i))
		x.bare.Seal(b[:0], x.nonce[:], b[:x.size], x.aad)
	}
	return nil
}

func (x *espRun) bareOpen(pkts []esp.Packet, nonce uint64) error {
	for i := range pkts {
		b := pkts[i].Buf[x.off:]
		binary.BigEndian.PutUint64(x.nonce[4:], nonce+uint64(i))
		if _, err := x.bare.Open(b[:0], x.nonce[:], b[:x.size+x.bare.Overhead()], x.aad); err != nil {
			return err
		}
	}
	return nil
}
