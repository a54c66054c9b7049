package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/sockets/internal/engine"
)

// A Plan is a Config in which nothing is wrong: what a host of it can do and can't, known
// without starting one.
type Plan struct {
	cfg  *Config
	host *engine.Config
}

// Plan says what is wrong with a Config, without starting anything; the error is a
// *ConfigError.
func (c Config) Plan() (*Plan, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	host, err := compile(&c, key, c.caps())
	if err != nil {
		return nil, err
	}
	return &Plan{cfg: &c, host: host}, nil
}

// Check is a Plan's errors and warnings.
func (c Config) Check() (warnings []string, err error) {
	p, err := c.Plan()
	if err != nil {
		return nil, err
	}
	return p.Warnings(), nil
}

// Warnings are about what is allowed but hardly meant, a sentence each.
func (p *Plan) Warnings() []string {
	warnings := p.host.PAD.Warnings()
	if len(p.host.Conns)+len(p.cfg.Policies) == 0 {
		warnings = append(warnings, "no connections and no policies: nothing passes this host")
	}
	for _, conn := range p.host.Conns {
		if why := conn.PSK.Weak(); !conn.PSK.Empty() && why != "" {
			warnings = append(warnings, "connection "+conn.Name+": "+why)
		}
		for _, ch := range conn.Children {
			if !slices.ContainsFunc(p.addrs(), ch.Pair.Local.ContainsAddr) {
				warnings = append(warnings, fmt.Sprintf("connection %s: child %s: local_ts %s has none of our addresses inside the tunnels, %s: nothing of ours passes it",
					conn.Name, ch.Name, ch.Pair.Local, p.addrs()))
			}
		}
	}
	return warnings
}

func (p *Plan) addrs() []netip.Addr {
	out := make([]netip.Addr, len(p.host.Addrs))
	for i, a := range p.host.Addrs {
		out[i] = a.Addr()
	}
	return out
}

// Listen says why a Listen or ListenPacket there must fail; nil means that it need not.
func (p *Plan) Listen(network, address string) error {
	host, _, err := splitAddr(network, address)
	if err != nil || host == "" {
		return err
	}
	addrs, err := p.resolve(host)
	if err != nil || len(addrs) == 0 {
		return err
	}
	switch a := addrs[0]; {
	case a.IsUnspecified() || slices.Contains(p.addrs(), a):
		return nil
	case p.cfg.Key == nil && len(p.cfg.Addrs) == 0:
		return fmt.Errorf("%s is not ours inside the tunnels: without addresses and key our address is another at each start; leave it out", a)
	default:
		return fmt.Errorf("%s is none of our addresses inside the tunnels, %s", a, p.addrs())
	}
}

// Dial says why a Dial there must fail, whatever the peers do; nil means that it need not.
func (p *Plan) Dial(network, address string) error {
	host, port, err := splitAddr(network, address)
	if err != nil {
		return err
	}
	if host == "" {
		return errors.New("no address behind the tunnels: write one before the port, as 10.2.0.1:80")
	}
	addrs, err := p.resolve(host)
	if err != nil {
		return err
	}
	var first error
	for _, a := range addrs {
		err := p.reach(network, netip.AddrPortFrom(a, port))
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// resolve is Stack.resolve, so far as it needs nobody's answer: none and no error where it
// does.
func (p *Plan) resolve(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if addrs := p.cfg.Hosts[host]; len(addrs) > 0 {
		return unmapped(addrs), nil
	}
	if p.cfg.Resolver == nil && len(p.cfg.DNS) == 0 {
		return nil, fmt.Errorf("%s is not in hosts, and there is no dns inside the tunnels to ask for it", host)
	}
	return nil, nil
}

// anyPort stands for the port that a connection goes out from: one of those that every
// system chooses from (RFC 6335, Section 6).
const anyPort = 49152

// reach asks the policy what becomes of a flow there, from any of our addresses.
func (p *Plan) reach(network string, to netip.AddrPort) error {
	if a := to.Addr(); a.IsLoopback() || a.IsUnspecified() {
		return fmt.Errorf("%s is nowhere behind the tunnels", a)
	}
	if slices.Contains(p.addrs(), to.Addr()) {
		return nil // packets to ourselves do not leave
	}
	proto := uint8(ts.ProtoTCP)
	if network[:3] == "udp" {
		proto = ts.ProtoUDP
	}
	err := fmt.Errorf("no address of ours inside the tunnels, %s, is of the family of %s", p.addrs(), to.Addr())
	for _, a := range p.addrs() {
		if a.Is4() != to.Addr().Is4() {
			continue
		}
		switch policy := p.host.Policy.Lookup(true, ts.MakeFlow(proto, netip.AddrPortFrom(a, anyPort), to)); {
		case policy == nil:
			err = fmt.Errorf("no child and no policy covers %s from %s to %s: local_ts and remote_ts say what one does", network, p.addrs(), to)
		case policy.Word.Action() == spd.Discard:
			err = fmt.Errorf("policy %s blocks %s to %s", policy.Name, network, to)
		default:
			return nil
		}
	}
	return err
}
