package engine

import (
	"crypto"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/tun/tuntest"
)

// A slowKey signs when it is told to.
type slowKey struct {
	crypto.Signer
	sign <-chan struct{}
}

func (k slowKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	<-k.sign
	return k.Signer.Sign(random, digest, opts)
}

// A peer's AUTH is found good when its IKE SA is gone, for the pool had much to do: that changes nothing any more. The SA does
// not come back into the roster, where it would attract acquires for ever, nor takes a stranger's place.
func TestVerifiedTooLate(t *testing.T) {
	n := tuntest.NewNet(tuntest.Faults{})
	_, e, _ := server(t, n, gate.Config{HalfOpenLife: 300 * time.Millisecond})
	sign := make(chan struct{})
	h := &testHost{name: "a", wire: at(t, n, "192.0.2.7:4500"), remotes: []netip.AddrPort{netip.MustParseAddrPort(server4)},
		key: slowKey{newKey(t), sign}}
	a := h.start(t)
	go func() { _ = a.Initiate(t.Context(), "peer-of-a") }()
	eventually(t, "the peer has begun", func() bool { return e.Status().Gate.HalfOpen == 1 })
	busy := make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		e.k.pool.do(func() { <-busy })
	}
	close(sign)
	queued := func() int {
		e.k.pool.mu.Lock()
		defer e.k.pool.mu.Unlock()
		return len(e.k.pool.jobs)
	}
	eventually(t, "its AUTH is to be verified", func() bool { return queued() == 1 })
	eventually(t, "its IKE SA has ended", func() bool { return len(e.Status().IKE) == 0 })
	close(busy)
	eventually(t, "it is verified", func() bool { return queued() == 0 })
	e.k.pool.close() // and told of
	e.ask(func(time.Time) {
		if len(e.k.roster) != 0 || e.k.strangers != 0 || len(e.k.sas) != 0 {
			t.Errorf("%d chains, %d strangers, %d IKE SAs", len(e.k.roster), e.k.strangers, len(e.k.sas))
		}
	})
}
