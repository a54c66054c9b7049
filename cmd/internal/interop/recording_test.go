//go:build linux

package interop_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/cmd/internal/interop/swan"
	"github.com/btns-go/btns/ike/iketest"
)

// A recording is a conversation with a charon that is alive.
type recording struct {
	t      *testing.T
	c      *iketest.Conversation
	daemon *swan.Daemon
	start  time.Time
	socks  map[uint16]*net.UDPConn
	in     chan heard
	busy   chan error // a swanctl that runs beside us
}

// heard is a datagram that came.
type heard struct {
	local, remote netip.AddrPort
	data          []byte
}

// record starts charon and sets up the host that talks to it.
func record(t *testing.T, title string, s setup, host iketest.Setup) *recording {
	t.Helper()
	s = s.defaults()
	dir := swan.Prepare(t)
	near, far := interop.NewPair(t)
	far.IP(t, "addr", "add", farInner+"/24", "dev", "lo")

	sum := fnv.New64a()
	sum.Write([]byte(title))
	host.Seed, host.ID = sum.Sum64(), "sun.example"
	host.IKE, host.ESP, host.LocalTS, host.RemoteTS = s.ike, s.esp, s.nearTS, s.farTS
	if !host.Local.IsValid() {
		host.Local, host.Remote = interop.NearNATT, interop.FarNATT
	}
	ours, theirs := "", ""
	if s.auth == "psk" {
		host.Secret = goodPSK
	} else {
		theirs = swan.NewKey(t, dir, s.auth)
		host.Trust = publicKey(t, theirs)
		der, err := x509.MarshalPKIXPublicKey(host.PrivateKey().Public())
		if err != nil {
			t.Fatal(err)
		}
		ours = filepath.Join(dir, "sun.pub")
		interop.WriteFile(t, ours, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	r := &recording{t: t, socks: map[uint16]*net.UDPConn{}, in: make(chan heard, 64)}
	for _, local := range []netip.AddrPort{interop.NearIKE, interop.NearNATT} {
		pc := near.ListenUDP(t, local.String())
		r.socks[local.Port()] = pc
		go r.receive(pc, local)
	}
	r.daemon = swan.StartWith(t, far, dir, s.swanConf(ours, theirs), s.swanMore)
	r.c = iketest.NewConversation(title, swan.Version(t), host)
	r.c.OnSend = r.send
	r.start = time.Now()
	return r
}

// publicKey reads a PEM file.
func publicKey(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is no PEM file", file)
	}
	return block.Bytes
}

// marker goes before IKE on port 4500 (RFC 3948, Section 2.2).
var marker = make([]byte, 4)

func (r *recording) receive(pc *net.UDPConn, local netip.AddrPort) {
	buf := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		b := bytes.Clone(buf[:n])
		if local.Port() == interop.NearNATT.Port() {
			var ok bool
			if b, ok = bytes.CutPrefix(b, marker); !ok {
				continue // ESP, or a NAT keepalive
			}
		}
		r.in <- heard{local, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), b}
	}
}

func (r *recording) send(local, remote netip.AddrPort, b []byte) {
	if local.Port() == interop.NearNATT.Port() {
		b = slices.Concat(marker, b)
	}
	if _, err := r.socks[local.Port()].WriteToUDPAddrPort(b, remote); err != nil {
		r.t.Errorf("send to %s: %v", remote, err)
	}
}

// tell has our host do something.
func (r *recording) tell(command string) { r.c.Tell(time.Since(r.start), command) }

// await carries datagrams and lets time pass until ok.
func (r *recording) await(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s\n%s", what, r.c.Transcript())
		}
		select {
		case h := <-r.in:
			r.c.Come(time.Since(r.start), h.local, h.remote, h.data)
		case <-tick.C:
			r.c.Pass(time.Since(r.start))
		}
	}
}

// beside runs a command of charon's while the conversation goes on.
func (r *recording) beside(do func() error) {
	r.t.Helper()
	r.busy = make(chan error, 1)
	go func() { r.busy <- do() }()
}

// initiate has charon initiate; it ends when the SA stands or is refused.
func (r *recording) initiate() {
	r.beside(func() error { _, err := r.daemon.Initiate("net"); return err })
}

// terminate has charon delete the IKE SA.
func (r *recording) terminate() {
	r.beside(func() error { _, err := r.daemon.Terminate("net"); return err })
}

func (r *recording) stands() bool { return len(r.c.Host.Established()) == 1 }

func (r *recording) children() (n int) {
	for _, e := range r.c.Host.Established() {
		for _, c := range e.Children {
			if c.Outbound {
				n++
			}
		}
	}
	return n
}

func (r *recording) hasChild() bool { return r.stands() && r.children() == 1 }

// over says that all SAs are gone, the last one not by a failure.
func (r *recording) over() bool { return r.gone() && r.last().Failed == nil }

// failed is over, by a failure.
func (r *recording) failed() bool { return r.gone() && r.last().Failed != nil }

func (r *recording) gone() bool {
	return r.last() != nil && !slices.ContainsFunc(r.c.Host.Ends, func(e *iketest.End) bool { return e.Closed == nil })
}

func (r *recording) last() *iketest.End {
	if n := len(r.c.Host.Ends); n > 0 {
		return r.c.Host.Ends[n-1]
	}
	return nil
}

func (r *recording) childRefused() bool {
	return r.stands() && len(r.c.Host.Established()[0].ChildErrors) == 1
}

// replaced waits until the only child SA is another one.
func (r *recording) replaced(do func()) {
	r.t.Helper()
	old := r.c.Host.Child()
	do()
	r.await("the child SA replaced", func() bool {
		c := r.c.Host.Child()
		return r.hasChild() && c != nil && c != old && old.Removed != nil
	})
}

// succeeded waits until the IKE SA is another one and the old one is gone.
func (r *recording) succeeded(do func()) {
	r.t.Helper()
	old := r.c.Host.Established()[0]
	do()
	r.await("the IKE SA replaced", func() bool { return old.Next != nil && old.Closed != nil && r.hasChild() })
}

// answered waits for an exchange that changes nothing.
func (r *recording) answered(do func()) {
	r.t.Helper()
	seen := func() (n int) {
		for _, l := range r.c.Transcript().Lines {
			if l.Kind == iketest.Came {
				n++
			}
		}
		return n
	}
	before := seen()
	do()
	r.await("an exchange", func() bool { return seen() > before })
}

// close ends the conversation: charon's commands are done, no invariant is broken.
func (r *recording) close() *iketest.Transcript {
	r.t.Helper()
	if r.busy != nil {
		r.await("charon's command done", func() bool { return len(r.busy) > 0 })
	}
	for _, e := range r.c.Sim.Errors {
		r.t.Error(e)
	}
	return r.c.Transcript()
}
