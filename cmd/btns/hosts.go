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

// knownHosts refuses a file that names a peer's host that does not exist. A name that
// cannot be asked for now may be there when it is needed, so that is a warning only.
func knownHosts(ctx context.Context, f *config.File, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	for _, c := range f.Host.Connections {
		for _, w := range c.RemoteAddrs {
			host := w
			if h, _, err := net.SplitHostPort(w); err == nil {
				host = h
			}
			if _, err := netip.ParseAddr(host); err == nil || host == "" || host == "%any" {
				continue
			}
			_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			var dns *net.DNSError
			switch {
			case err == nil:
			case errors.As(err, &dns) && dns.IsNotFound:
				return f.Locate(&sockets.ConfigError{Path: "connections." + c.Name + ".remote_addrs", Err: fmt.Errorf("there is no host %s", host)})
			default:
				log.Warn("host not looked up", "connection", c.Name, "host", host, "error", err)
			}
		}
	}
	return nil
}
