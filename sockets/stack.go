package sockets

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/sockets/internal/engine"
	"github.com/btns-go/btns/tun/udp"
)

// A Stack is one running host. Its methods are safe for concurrent use.
type Stack struct {
	cfg   Config
	key   crypto.Signer
	addrs []netip.Prefix
	e     *engine.Engine
	log   *slog.Logger
}

// New starts a host. On error nothing is left running, and a Wire in cfg is still the
// caller's; after success Close closes it.
func New(cfg Config) (*Stack, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Name != "" {
		cfg.Logger = cfg.Logger.With("host", cfg.Name)
	}
	cfg.Hosts, cfg.DNS = maps.Clone(cfg.Hosts), slices.Clone(cfg.DNS)
	key, err := cfg.key()
	if err != nil {
		return nil, fmt.Errorf("sockets: %w", err)
	}
	wire := cfg.Wire
	if wire == nil {
		addrs, err := listenAddrs(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("sockets: %w", err)
		}
		if wire, err = udp.Listen(udp.Config{Addrs: addrs}); err != nil {
			return nil, fmt.Errorf("sockets: %w", err)
		}
	}
	st := &Stack{cfg: cfg, key: key, log: cfg.Logger}
	fail := func(err error) (*Stack, error) {
		if cfg.Wire == nil {
			err = errors.Join(err, wire.Close())
		}
		return nil, fmt.Errorf("sockets: %w", err)
	}
	ec, err := compile(&cfg, key, wire.Caps())
	if err != nil {
		return fail(err)
	}
	ec.Wire, ec.KeyLog, ec.Log = wire, cfg.KeyLog, cfg.Logger
	st.addrs = ec.Addrs
	if st.e, err = engine.New(*ec); err != nil {
		return fail(err)
	}
	return st, nil
}

// listenAddrs reads Config.Listen.
func listenAddrs(words []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, w := range words {
		host, port, err := net.SplitHostPort(w)
		if err != nil {
			return nil, bad(fmt.Errorf("%q is no address with a port", w), "listen")
		}
		n, err := net.LookupPort("udp", port)
		if err != nil {
			return nil, bad(fmt.Errorf("%q has no port number", w), "listen")
		}
		if host == "" {
			out = append(out, netip.AddrPortFrom(netip.Addr{}, uint16(n)))
			continue
		}
		addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
		if err != nil || len(addrs) == 0 {
			return nil, bad(fmt.Errorf("%q: unknown host", w), "listen")
		}
		out = append(out, netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)))
	}
	return out, nil
}

// Close deletes all SAs, telling the peers, aborts all connections and waits until
// everything has stopped. Later calls return the same.
func (st *Stack) Close() error { return st.e.Close() }

// CloseWith is Close for a reason other than that somebody wished it: EventShutdown and its
// log line name it.
func (st *Stack) CloseWith(reason error) error { return st.e.CloseWith(reason) }

// Done is closed when the host has ended: after Close, or because its wire did, as a TUN
// device that was removed. Close then says why.
func (st *Stack) Done() <-chan struct{} { return st.e.Done() }

// Addrs are the host's addresses inside the tunnels.
func (st *Stack) Addrs() []netip.Addr {
	out := make([]netip.Addr, len(st.addrs))
	for i, a := range st.addrs {
		out[i] = a.Addr()
	}
	return out
}

// PublicKey is the key that the host proves to hold where a Connection names no other.
func (st *Stack) PublicKey() crypto.PublicKey { return st.key.Public() }

// LocalAddr is where the wire is bound, the first port if it has several.
func (st *Stack) LocalAddr() netip.AddrPort {
	if a := st.e.Wire().LocalAddr(netip.Addr{}); len(a) > 0 {
		return a[0]
	}
	return netip.AddrPort{}
}

// A Status is what the host does right now; it prints as JSON.
type Status = engine.Status

// An IKEStatus is one IKE SA in a Status, a ChildStatus one pair of ESP SAs.
type (
	IKEStatus   = engine.IKEStatus
	ChildStatus = engine.ChildStatus
)

// Status takes one look at all SAs.
func (st *Stack) Status() Status { return st.e.Status() }

// Ping sends one ICMP echo request through the tunnels and waits for its answer.
func (st *Stack) Ping(ctx context.Context, host string) (time.Duration, error) {
	ctx, cancel := st.deadline(ctx)
	defer cancel()
	addrs, err := st.resolve(ctx, host)
	if err != nil {
		return 0, &net.OpError{Op: "ping", Net: "ip", Err: err}
	}
	s := st.e.Data.NewSocket(datapath.SocketConfig{})
	rtt, _, err := st.e.Stack.Ping(ctx, s.Tag(), addrs[0])
	return rtt, err
}

// KeyAddress is the inner address that belongs to a public key: a fixed prefix and a hash
// of its SubjectPublicKeyInfo, so that holding the key proves owning the address.
func KeyAddress(key crypto.PublicKey) (netip.Addr, error) {
	spki := auth.SPKI(key)
	if spki == nil {
		return netip.Addr{}, fmt.Errorf("sockets: %T is no key of a kind that peers prove", key)
	}
	return pad.KeyAddress(spki), nil
}

// Fingerprint is "SHA256:" and the Base64 of the hash of a key's SubjectPublicKeyInfo, ""
// for keys of other kinds.
func Fingerprint(key crypto.PublicKey) string {
	if spki := auth.SPKI(key); spki != nil {
		return auth.Fingerprint(spki)
	}
	return ""
}

func (st *Stack) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	d := st.cfg.DialTimeout
	if d <= 0 {
		d = DefaultDialTimeout
	}
	return context.WithTimeout(ctx, d)
}

// family is the addresses of one family, or all.
func family(addrs []netip.Addr, network string) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		switch network[len(network)-1] {
		case '4':
			return !a.Is4()
		case '6':
			return !a.Is6()
		}
		return false
	})
}
