package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/sockets/config"
)

// lookupTimeout bounds the question whether a peer's host name exists.
const lookupTimeout = 5 * time.Second

// knownHosts refuses a file that names a host that does not exist, of a peer or of a service
// of ours. A name that cannot be asked for now may be there when it is needed, so that is a
// warning only.
func knownHosts(ctx context.Context, f *config.File, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	known := func(path, addr string) error {
		host := addr
		if h, _, err := net.SplitHostPort(addr); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(host); err == nil || host == "" || host == "%any" {
			return nil
		}
		_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		var dns *net.DNSError
		switch {
		case err == nil:
		case errors.As(err, &dns) && dns.IsNotFound:
			return f.Locate(&sockets.ConfigError{Path: path, Err: fmt.Errorf("there is no host %s", host)})
		default:
			log.Warn("host not looked up", "for", path, "host", host, "error", err)
		}
		return nil
	}
	for _, c := range f.Host.Connections {
		for _, addr := range c.RemoteAddrs {
			if err := known("connections."+c.Name+".remote_addrs", addr); err != nil {
				return err
			}
		}
	}
	for i, w := range f.Expose {
		if err := known(fmt.Sprintf("expose[%d].to", i), w.To); err != nil {
			return err
		}
	}
	return nil
}
