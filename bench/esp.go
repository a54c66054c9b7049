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
// length, in place over the same ring of packets, round by round in between. It
// returns what it has and ctx's error if ctx ends first.
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
	ring := make([]byte, ringPackets*stride)
	if _, err := rand.Read(ring); err != nil {
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

func (x *espRun) measure(ctx context.Context, rounds int) ([]Result, error) {
	var seal, open, bareSeal, bareOpen []float64
	steps := []struct {
		do      func() error
		samples *[]float64
	}{
		{x.seal, &seal}, {x.open, &open}, {x.bareSeal, &bareSeal}, {x.bareOpen, &bareOpen},
	}
	params := map[string]any{"suite": x.suite.String(), "size": x.size}
	results := []Result{{Name: "esp/seal", Params: params, Unit: "MB/s"}, {Name: "esp/open", Params: params, Unit: "MB/s"}}
	mb := float64(len(x.pkts)*x.size) / 1e6
	for round := -1; round < rounds; round++ { // round -1 warms up
		for i := range steps {
			// Every other round the baseline goes first.
			s := steps[(i+2*(round&1))%len(steps)]
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			start := time.Now()
			if err := s.do(); err != nil {
				return nil, err
			}
			d := time.Since(start)
			if round >= 0 {
				*s.samples = append(*s.samples, mb/d.Seconds())
			}
			if err := x.check(); err != nil {
				return nil, err
			}
		}
	}
	// Allocations are counted apart, so that the counting disturbs nothing.
	for i := range results { // seal, then open
		n, err := allocs(steps[i].do)
		if err != nil {
			return nil, err
		}
		results[i].AllocsPerOp = n / float64(len(x.pkts))
	}
	results[0].stats(seal, bareSeal)
	results[1].stats(open, bareOpen)
	return results, nil
}

// allocs returns the allocations of one call of f. Other goroutines allocate as
// well, so the least of a few attempts would be fairer still; one is strict.
func allocs(f func() error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs), err
}

func (x *espRun) seal() error {
	for i := 0; i < len(x.pkts); i += batch {
		if d := x.out.Seal(&x.w, x.pkts[i:i+batch]); d != esp.Pass {
			return fmt.Errorf("bench: seal: %s", d)
		}
	}
	return nil
}

func (x *espRun) open() error {
	for i := 0; i < len(x.pkts); i += batch {
		x.in.Open(&x.w, x.pkts[i:i+batch])
	}
	return nil
}

// check makes sure that what was timed was work, not drops.
func (x *espRun) check() error {
	for i := range x.pkts {
		if d := x.pkts[i].Drop; d != esp.Pass && d != esp.DropUnset { // unset: before the first Seal
			return fmt.Errorf("bench: packet dropped: %s", d)
		}
	}
	return nil
}

func (x *espRun) bareSeal() error {
	seq := x.seq
	for i := range x.pkts {
		seq++
		b := x.pkts[i].Buf[x.off:]
		binary.BigEndian.PutUint64(x.nonce[4:], seq)
		x.bare.Seal(b[:0], x.nonce[:], b[:x.size], x.aad)
	}
	return nil
}

func (x *espRun) bareOpen() error {
	for i := range x.pkts {
		x.seq++
		b := x.pkts[i].Buf[x.off:]
		binary.BigEndian.PutUint64(x.nonce[4:], x.seq)
		if _, err := x.bare.Open(b[:0], x.nonce[:], b[:x.size+x.bare.Overhead()], x.aad); err != nil {
			return err
		}
	}
	return nil
}
