package iketest

import (
	"bytes"
	"container/heap"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-go/btns/ike"
)

// Faults is what the network does to datagrams. Probabilities are per datagram.
type Faults struct {
	Loss    float64
	Dup     float64
	Corrupt float64 // one octet is changed
	Delay   time.Duration
	Jitter  time.Duration // added evenly from 0; more than the spacing of datagrams reorders
	Work    time.Duration // answers to Work come after 0 to Work; 0 answers inline
}

// Datagram is one IKE datagram on its way.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
	N        int // counts all datagrams from 0

	esp bool // a packet of Host.Talk
}

// Sim is a network with hosts on virtual time.
type Sim struct {
	Seed   uint64
	Now    time.Time
	Faults Faults

	// Tap, if not nil, sees every datagram that a host sends and returns what goes
	// on: nil for nothing, the datagram itself, or others in its place. Loss and the
	// rest come after it.
	Tap func(d Datagram) []Datagram

	// Watch, if not nil, is told of every datagram that a host sends, before Tap.
	Watch func(d Datagram)

	// Errors are the broken invariants, with their time.
	Errors []string

	// Bytes and Datagrams count what hosts sent, ESP left out.
	Bytes, Datagrams int

	// Traffic counts packets of hosts that Talk.
	Traffic Traffic

	// Judged counts what was judged.
	Judged Judged

	start  time.Time
	rand   *rand.Rand
	events eventHeap
	seq    int
	hosts  []*Host
	ivs    map[ivKey][]byte
	sealed map[string]bool // ESP keys with their IVs
	caps   Held
	looker looker
}

// New returns a simulation that is the same for the same seed.
func New(seed uint64) *Sim {
	s := &Sim{Seed: seed, rand: rand.New(rand.NewPCG(seed, 0x62746e73)), ivs: map[ivKey][]byte{}, sealed: map[string]bool{},
		caps: machineCaps(), looker: looker{seed: maphash.MakeSeed()}}
	s.start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.Now = s.start
	s.Faults.Delay = 10 * time.Millisecond
	return s
}

// Elapsed is the virtual time since the start.
func (s *Sim) Elapsed() time.Duration { return s.Now.Sub(s.start) }

// fail records a broken invariant.
func (s *Sim) fail(format string, args ...any) {
	s.Errors = append(s.Errors, fmt.Sprintf("seed %d at %v: ", s.Seed, s.Elapsed())+fmt.Sprintf(format, args...))
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	e := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return e
}

// After does something at a virtual time from now.
func (s *Sim) After(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.Now.Add(d), s.seq, do})
}

// Run lets time pass until done says so (nil: never) or the duration is over. It reports
// whether done did.
func (s *Sim) Run(d time.Duration, done func() bool) bool {
	end := s.Now.Add(d)
	for {
		if done != nil && done() {
			return true
		}
		at, do := s.next()
		if do == nil || at.After(end) {
			s.Now = end
			return done != nil && done()
		}
		if at.After(s.Now) {
			s.Now = at
		}
		do()
	}
}

// next returns what comes first: an event or some machine's deadline.
func (s *Sim) next() (time.Time, func()) {
	var at time.Time
	var do func()
	if len(s.events) > 0 {
		at = s.events[0].at
		do = func() { heap.Pop(&s.events).(event).do() }
	}
	for _, h := range s.hosts {
		for i := 0; i < len(h.live); i++ {
			e := h.live[i]
			d := e.M.Deadline()
			if d.IsZero() && e.Closed != nil && !s.Now.Before(e.Closed.Until) {
				h.live = slices.Delete(h.live, i, i+1)
				i--
				continue
			}
			if !d.IsZero() && (do == nil || d.Before(at)) {
				at, do = d, func() { e.input(func() { e.M.Tick(s.Now) }) }
			}
		}
	}
	return at, do
}

// send puts a datagram on the network.
func (s *Sim) send(d Datagram) {
	d.N = s.Datagrams
	s.Datagrams++
	s.Bytes += len(d.Data)
	if s.Watch != nil {
		s.Watch(d)
	}
	out := []Datagram{d}
	if s.Tap != nil {
		out = s.Tap(d)
	}
	for _, d := range out {
		s.carry(d)
	}
}

// Inject puts a datagram on the network that no host sent.
func (s *Sim) Inject(d Datagram) { s.carry(d) }

func (s *Sim) carry(d Datagram) {
	f := s.Faults
	copies := 1
	if s.rand.Float64() < f.Loss {
		copies = 0
	}
	if s.rand.Float64() < f.Dup {
		copies++
	}
	for range copies {
		c := d
		c.Data = bytes.Clone(d.Data)
		if s.rand.Float64() < f.Corrupt && len(c.Data) > 0 {
			c.Data[s.rand.IntN(len(c.Data))] ^= byte(1 + s.rand.IntN(255))
		}
		delay := f.Delay
		if f.Jitter > 0 {
			delay += time.Duration(s.rand.Int64N(int64(f.Jitter)))
		}
		s.After(delay, func() { s.deliver(c) })
	}
}

func (s *Sim) deliver(d Datagram) {
	for _, h := range s.hosts {
		if path, ok := h.receives(d); ok {
			if h.Down {
				return
			}
			if d.esp {
				h.opened(path, d.Data)
			} else {
				h.datagram(path, d.Data)
			}
			return
		}
	}
}

// Host returns the host with this address, or nil.
func (s *Sim) Host(a netip.Addr) *Host {
	for _, h := range s.hosts {
		if h.Addr.Addr() == a {
			return h
		}
	}
	return nil
}

// reader is a seeded source of octets.
type reader struct{ r *rand.Rand }

func (r reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// path is the outer path as a host sees it.
func path(local, remote netip.AddrPort) ike.Path { return ike.Path{Local: local, Remote: remote} }
