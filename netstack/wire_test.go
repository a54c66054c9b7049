package netstack

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/esp/ts"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var (
	a4 = netip.MustParseAddr("10.9.0.1")
	b4 = netip.MustParseAddr("10.9.0.2")
	a6 = netip.MustParseAddr("fd62::1")
	b6 = netip.MustParseAddr("fd62::2")
)

// host is one stack with its end of the wire.
type host struct {
	*Stack
	tag *Tag // what the other side's packets arrive under

	mu     sync.Mutex
	output func(tag *Tag, p *Packet) bool // before the wire; false = the wire does not carry it
	admit  func(in Inbound) bool
	wire   chan []byte
	peer   *host
	quit   chan struct{}
	loss   float64
	rng    *rand.Rand
	mangle func(b []byte) []byte

	frags, badSums atomic.Int64
	segments       atomic.Int64
	supers         atomic.Int64
}

func (h *host) setOutput(f func(*Tag, *Packet) bool) { h.mu.Lock(); h.output = f; h.mu.Unlock() }
func (h *host) setAdmit(f func(Inbound) bool)        { h.mu.Lock(); h.admit = f; h.mu.Unlock() }
func (h *host) setTag(t *Tag)                        { h.mu.Lock(); h.tag = t; h.mu.Unlock() }

// segment is the simple TSO: one packet per MSS, with checksums.
func segment(p *Packet, emit func([]byte)) {
	hdr := p.Header()
	ipLen, thLen := p.HeaderLens()
	mss := p.MSS()
	if mss == 0 {
		b := make([]byte, p.Size())
		copy(b, hdr)
		p.CopyPayload(b[len(hdr):])
		if p.NeedsCsum() {
			SetChecksum(b, ipLen, p.Proto())
		}
		emit(b)
		return
	}
	seq := binary.BigEndian.Uint32(hdr[ipLen+4:])
	for done, total := 0, p.PayloadLen(); done < total; {
		n := min(mss, total-done)
		b := make([]byte, ipLen+thLen+n)
		copy(b, hdr)
		p.CopyPayload(b[ipLen+thLen:])
		binary.BigEndian.PutUint32(b[ipLen+4:], seq+uint32(done))
		if done+n < total {
			b[ipLen+13] &^= 0x09 // FIN, PSH
		}
		if b[0]>>4 == 4 {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		}
		SetChecksum(b, ipLen, p.Proto())
		done += n
		emit(b)
	}
}

func (h *host) hookOutput(tag *Tag, p *Packet) {
	h.mu.Lock()
	f := h.output
	h.mu.Unlock()
	if f != nil && !f(tag, p) {
		return
	}
	h.send(p)
}

// send puts a packet on the wire.
func (h *host) send(p *Packet) {
	if p.MSS() > 0 {
		h.supers.Add(1)
	}
	segment(p, func(b []byte) {
		h.segments.Add(1)
		select {
		case h.wire <- b:
		case <-h.quit:
		}
	})
}

func (h *host) hookAdmit(in Inbound) bool {
	h.mu.Lock()
	f := h.admit
	h.mu.Unlock()
	return f == nil || f(in)
}

// pump carries h's packets to its peer.
func (h *host) pump() {
	for {
		select {
		case <-h.quit:
			return
		case b := <-h.wire:
			h.mu.Lock()
			drop := h.loss > 0 && h.rng.Float64() < h.loss
			mangle := h.mangle
			h.mu.Unlock()
			if drop {
				continue
			}
			if _, info, ok := ts.ParseFlow(b); !ok || info.Fragment {
				h.frags.Add(1)
			}
			if !VerifyChecksum(b) {
				h.badSums.Add(1)
			}
			if mangle != nil {
				if b = mangle(b); b == nil {
					continue
				}
			}
			h.peer.mu.Lock()
			tag := h.peer.tag
			h.peer.mu.Unlock()
			// Two parts, as the data path delivers them.
			k := min(len(b), 40)
			h.peer.Deliver(tag, b[:k:k], b[k:])
		}
	}
}

// newPair joins two stacks with a wire.
func newPair(t testing.TB, change ...func(a, b *Config)) (a, b *host) {
	t.Helper()
	quit := make(chan struct{})
	mk := func(name string) *host {
		return &host{tag: &Tag{V: "to " + name}, wire: make(chan []byte, 4096), quit: quit, rng: rand.New(rand.NewPCG(1, 2))}
	}
	a, b = mk("a"), mk("b")
	a.peer, b.peer = b, a
	ca := Config{Addrs: []netip.Prefix{netip.PrefixFrom(a4, 24), netip.PrefixFrom(a6, 64)}, Hooks: Hooks{a.hookOutput, a.hookAdmit}, TimeWait: 50 * time.Millisecond}
	cb := Config{Addrs: []netip.Prefix{netip.PrefixFrom(b4, 24), netip.PrefixFrom(b6, 64)}, Hooks: Hooks{b.hookOutput, b.hookAdmit}, TimeWait: 50 * time.Millisecond}
	for _, f := range change {
		f(&ca, &cb)
	}
	a.Stack, b.Stack = mustNew(t, ca), mustNew(t, cb)
	var wg sync.WaitGroup
	wg.Go(a.pump)
	wg.Go(b.pump)
	t.Cleanup(func() {
		for _, h := range []*host{a, b} {
			_ = h.Close()
		}
		close(quit)
		wg.Wait()
		for _, h := range []*host{a, b} {
			st := h.Stats()
			if st.Panics != 0 || st.Drops[DropOutFragment] != 0 || h.frags.Load() != 0 || h.badSums.Load() != 0 {
				t.Errorf("panics %d, fragments made %d, on the wire %d, bad checksums %d", st.Panics, st.Drops[DropOutFragment], h.frags.Load(), h.badSums.Load())
			}
			left := 0
			h.owners.Range(func(_, _ any) bool { left++; return true })
			if left != 0 {
				t.Errorf("%d sockets are still in the table after Close", left)
			}
		}
	})
	return a, b
}

func mustNew(t testing.TB, c Config) *Stack {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// connect makes a TCP connection from a to b.
func connect(t testing.TB, a, b *host, v6 bool) (client, server *TCPConn) {
	t.Helper()
	dst := b.Addrs()[0] // sorted: IPv4 first
	if v6 {
		dst = b.Addrs()[1]
	}
	ln := must[*TCPListener](t)(b.ListenTCP(nil, netip.AddrPortFrom(dst, 0), 0))
	defer func() { _ = ln.Close() }()
	client = must[*TCPConn](t)(a.DialTCP(t.Context(), nil, netip.AddrPort{}, ln.addr))
	server = must[*TCPConn](t)(ln.AcceptTCP())
	return client, server
}

// patience is when a test gives up. No test that passes waits for its end, however slow the
// machine is.
const patience = time.Minute

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}
