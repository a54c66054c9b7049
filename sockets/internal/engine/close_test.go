package engine

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/btns-go/btns/tun/tuntest"
)

// Close answers who asked for an SA by name, though where its peer is was still being looked up.
func TestCloseEndsInitiate(t *testing.T) {
	asked := make(chan struct{})
	std := net.DefaultResolver
	defer func() { net.DefaultResolver = std }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case asked <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	h := &testHost{name: "a", wire: at(t, tuntest.NewNet(tuntest.Faults{}), "192.0.2.1:4500")}
	e := h.start(t, func(c *Conn) { c.Remotes = []Remote{{Host: "gateway.example.", Port: 4500}} })
	done := make(chan error, 1)
	go func() { done <- e.Initiate(context.Background(), "all") }()
	<-asked
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the host is closed, and who asked waits")
	}
}
