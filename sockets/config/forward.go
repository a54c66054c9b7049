package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/btns-go/btns/sockets"
)

// A Forward is one port passed on.
type Forward struct {
	Network string // "tcp" or "udp"
	Listen  string // forwards: local "addr:port"; expose: inner ":port" or "addr:port"
	To      string // forwards: behind the tunnels; expose: local
}

func (d *decoder) forwards(n node, outward bool) []Forward {
	var out []Forward
	taken := map[Forward]string{}
	for _, i := range n.items() {
		f := Forward{Network: "tcp"}
		i.fields(map[string]func(node){
			"listen": func(n node) { f.Listen = d.hostPort(n, true) },
			"to":     func(n node) { f.To = d.hostPort(n, false) },
			"protocol": func(n node) {
				f.Network = choice(n, map[string]string{"tcp": "tcp", "udp": "udp"})
			},
		})
		if f.Listen == "" || f.To == "" {
			d.r.failf(i, "listen and to are needed")
			continue
		}
		if outward && strings.HasPrefix(f.Listen, ":") {
			// A port open to everybody is a hole into the tunnel: it must be said.
			f.Listen = "127.0.0.1" + f.Listen
		}
		at := Forward{Network: f.Network, Listen: f.Listen}
		if other := taken[at]; other != "" && !strings.HasSuffix(at.Listen, ":0") {
			d.r.failf(i, "%s listens on %s %s already", other, f.Network, f.Listen)
		}
		taken[at] = i.path
		out = append(out, f)
	}
	return out
}

// checkForwards refuses what leads nowhere, whoever the peers are.
func (f *File) checkForwards(plan *sockets.Plan) error {
	var errs []error
	check := func(err error, path string, i int) {
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, f.locate(&sockets.ConfigError{Path: fmt.Sprintf(path, i), Err: err}))
		}
	}
	for i, server := range f.Host.DNS {
		check(plan.Dial("udp", server.String()), "dns[%d]", i)
	}
	for i, w := range f.Forwards {
		check(plan.Dial(w.Network, w.To), "forwards[%d].to", i)
	}
	for i, w := range f.Expose {
		check(plan.Listen(w.Network, w.Listen), "expose[%d].listen", i)
	}
	return errors.Join(errs...)
}
