package bench

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tun/tuntest"
)

// IKEOptions say what IKE measures.
type IKEOptions struct {
	Methods    []string // "psk", "ed25519"; nil: both
	Handshakes int      // of one round; 0: 1,000
	Rounds     int      // 0: 5
	Tunnels    int      // that one end keeps while its memory is measured; 0: 10,000, negative: none
	// CPUProfile gets the profile of the handshakes, if not nil: of each method one, so it
	// wants one method.
	CPUProfile io.Writer
}

func (o *IKEOptions) fill() error {
	if o.Methods == nil {
		o.Methods = []string{methodPSK, methodEd25519}
	}
	for _, m := range o.Methods {
		if m != methodPSK && m != methodEd25519 {
			return fmt.Errorf("bench: no method %q: want %s or %s", m, methodPSK, methodEd25519)
		}
	}
	if o.Handshakes == 0 {
		o.Handshakes = defaultHandshakes
	}
	if o.Rounds == 0 {
		o.Rounds = defaultIKERounds
	}
	if o.Tunnels == 0 {
		o.Tunnels = defaultTunnels
	}
	if o.Handshakes < 1 || o.Rounds < 1 || o.Handshakes > maxTunnels/o.Rounds || o.Tunnels > maxTunnels {
		return fmt.Errorf("bench: %d handshakes in each of %d rounds, %d tunnels: want 1 to %d in all", o.Handshakes, o.Rounds, o.Tunnels, maxTunnels)
	}
	return nil
}

// The ways to authenticate that IKE measures.
const (
	methodPSK     = "psk"
	methodEd25519 = "ed25519"
)

// IKE measures what IKEv2 costs a whole host, with its databases, decisions and SAs, over
// a wire in memory.
//
// "ike/handshake" is how many IKE SAs with a child SA two hosts in this process set up per
// second, IKE_SA_INIT and IKE_AUTH, both ends and all cores in the figure. SAs made before
// stay. If that falls short of HandshakeTarget, the report has the profile that says where
// the time went. The baseline is the four X25519 operations and two key generations and, with
// ed25519, the two signatures and verifications that no implementation can do without, on
// all cores, in turns with the handshakes.
//
// "ike/heap", "ike/rss" and "ike/peak" are bytes per tunnel at one end: what is reachable,
// what the process has grown by in the eyes of the kernel once freed pages are returned, and
// by how much at most on the way there, with all garbage of both ends. Its peers are
// machines without a host that are let go of when their tunnel stands. The baseline is
// TunnelTarget.
func IKE(ctx context.Context, o IKEOptions) (*Report, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	r := &Report{Machine: ThisMachine()}
	for _, method := range o.Methods {
		var profile bytes.Buffer
		res, err := handshakes(ctx, &o, method, &profile)
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, res)
		if o.CPUProfile != nil {
			if _, err := o.CPUProfile.Write(profile.Bytes()); err != nil {
				return r, fmt.Errorf("bench: %w", err)
			}
		}
		if res.Median < HandshakeTarget {
			// Of two that fall short, that of the one with less cryptography says more.
			if why, err := shares(profile.Bytes(), "bench.(*primitives)"); err != nil {
				return r, err
			} else if r.Profile == nil {
				r.Profile = why
			}
		}
		if o.Tunnels < 0 {
			continue
		}
		mem, err := tunnelMemory(ctx, method, o.Tunnels)
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, mem...)
	}
	return r, nil
}

// HandshakeTarget is what two hosts on a machine with two cores should reach per second,
// TunnelTarget the bytes that a tunnel may take at each end: more than twice as fast as a
// pair of strongSwan's charons there, and no larger.
const (
	HandshakeTarget = 1500
	TunnelTarget    = 17 << 10
)

// handshakes measures "ike/handshake".
func handshakes(ctx context.Context, o *IKEOptions, method string, profile io.Writer) (Result, error) {
	res := Result{Name: "ike/handshake", Unit: "1/s",
		Params: map[string]any{"auth": method, "cores": runtime.GOMAXPROCS(0), "round": o.Handshakes}}
	l, err := newHubs(method, o.Handshakes*(o.Rounds+1))
	if err != nil {
		return res, err
	}
	defer l.close()
	floor, err := newPrimitives(method)
	if err != nil {
		return res, err
	}
	if err := pprof.StartCPUProfile(profile); err != nil {
		return res, fmt.Errorf("bench: %w", err)
	}
	defer pprof.StopCPUProfile() // once more does nothing
	var rates, floors []float64
	var allocated uint64
	for round := range o.Rounds + 1 {
		b, err := floor.rate(o.Handshakes)
		if err != nil {
			return res, err
		}
		d, n, err := l.round(ctx, o.Handshakes)
		if err != nil {
			return res, err
		}
		if round == 0 { // warms up
			continue
		}
		rates = append(rates, float64(o.Handshakes)/d.Seconds())
		floors = append(floors, b)
		allocated += n
	}
	pprof.StopCPUProfile()
	res.stats(rates, floors)
	res.AllocsPerOp = float64(allocated) / float64(o.Rounds*o.Handshakes)
	return res, l.check()
}

// hubs are two hosts: clients that have one connection per tunnel with the hub, each
// under a name of its own.
type hubs struct {
	hub, clients *sockets.Stack
	next         int // the tunnel that is set up next
}

func newHubs(method string, tunnels int) (*hubs, error) {
	c, err := newCast(method)
	if err != nil {
		return nil, err
	}
	n := tuntest.NewNet(tuntest.Faults{})
	l := &hubs{}
	if l.hub, err = c.startHub(n); err != nil {
		return nil, err
	}
	wire, err := n.Listen(clientAddr(0))
	if err == nil {
		cfg := sockets.Config{Wire: wire, Addrs: []netip.Prefix{netip.PrefixFrom(clientInner(0), 32)}}
		for i := range tunnels {
			cfg.Connections = append(cfg.Connections, c.connection(i))
		}
		if l.clients, err = sockets.New(cfg); err != nil {
			_ = wire.Close()
		}
	}
	if err != nil {
		_ = l.hub.Close()
		return nil, fmt.Errorf("bench: %w", err)
	}
	return l, nil
}

func (l *hubs) close() {
	_ = l.clients.Close()
	_ = l.hub.Close()
}

// round sets up n more tunnels, some at a time, and returns how long that took and what it
// allocated.
func (l *hubs) round(ctx context.Context, n int) (time.Duration, uint64, error) {
	first := l.next
	l.next += n
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := parallel(inFlight, n, func(i int) error { return l.clients.Initiate(ctx, clientName(first+i)) })
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err != nil {
		return 0, 0, fmt.Errorf("bench: %w", err)
	}
	return took, after.Mallocs - before.Mallocs, nil
}

// check wants all tunnels to stand.
func (l *hubs) check() error {
	up := 0
	for _, s := range l.hub.Status().IKE {
		if s.State == "ESTABLISHED" && len(s.Children) == 1 && s.Children[0].State == "INSTALLED" {
			up++
		}
	}
	if up != l.next {
		return fmt.Errorf("bench: the hub has %d tunnels of %d", up, l.next)
	}
	return nil
}

// parallel calls f for 0 to n-1, some at a time, until one fails.
func parallel(workers, n int, f func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// primitives is the cryptography that one handshake cannot do without.
type primitives struct {
	key crypto.Signer // nil: none signs
}

func newPrimitives(method string) (*primitives, error) {
	p := &primitives{}
	if method == methodEd25519 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		p.key = key
	}
	return p, nil
}

// rate is how often per second all cores together can do it.
func (p *primitives) rate(n int) (float64, error) {
	start := time.Now()
	err := parallel(runtime.GOMAXPROCS(0), n, func(int) error { return p.once() })
	return float64(n) / time.Since(start).Seconds(), err
}

// once does what both ends do.
func (p *primitives) once() error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i := range keys {
		if _, err := keys[i].ECDH(keys[1-i].PublicKey()); err != nil {
			return err
		}
		if p.key == nil {
			continue
		}
		octets := slices.Repeat([]byte{byte(i)}, 300)
		sig, err := p.key.Sign(rand.Reader, octets, crypto.Hash(0))
		if err != nil {
			return err
		}
		if pub, ok := p.key.Public().(ed25519.PublicKey); !ok || !ed25519.Verify(pub, octets, sig) {
			return fmt.Errorf("bench: a signature does not verify")
		}
	}
	return nil
}
