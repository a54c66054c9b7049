package ike_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

func TestErrors(t *testing.T) {
	cause := errors.New("cause")
	n := &ike.NotifyError{Type: wire.NotifyTSUnacceptable, Remote: true, Peer: "sun (192.0.2.2:500)", Exchange: wire.ExchangeIKEAuth, Why: "why", Err: cause}
	for _, want := range []string{"TS_UNACCEPTABLE", "sun (192.0.2.2:500)", "IKE_AUTH", "unauthenticated", "why", "cause"} {
		if !strings.Contains(n.Error(), want) {
			t.Errorf("%q lacks %q", n.Error(), want)
		}
	}
	if !errors.Is(n, cause) || !errors.Is(n, &ike.NotifyError{Type: wire.NotifyTSUnacceptable}) || errors.Is(n, &ike.NotifyError{Type: 1}) {
		t.Error("NotifyError.Is")
	}
	m := &ike.MismatchError{Peer: "sun", Exchange: wire.ExchangeIKEAuth, What: "mode", Want: "tunnel", Got: "transport", Err: cause}
	if !errors.Is(m, cause) || !strings.Contains(m.Error(), "expected tunnel, got transport") {
		t.Error(m)
	}
	var ne net.Error
	to := &ike.TimeoutError{Peer: "sun", Path: ike.Path{Remote: mustAddrPort("192.0.2.2:500")}, Exchange: wire.ExchangeIKESAInit, Sends: 3, Elapsed: time.Second, Last: n}
	if !errors.As(to, &ne) || !ne.Timeout() || !errors.Is(to, n) || !strings.Contains(to.Error(), "last heard: ike: sun") {
		t.Error(to)
	}
	if p := (&ike.PeerClosedError{Peer: "sun"}); !errors.Is(p, net.ErrClosed) || !strings.Contains(p.Error(), "sun deleted") {
		t.Error(p)
	}
	if s := (ike.Path{Local: mustAddrPort("192.0.2.1:4500"), Remote: mustAddrPort("192.0.2.2:4500")}).String(); s != "192.0.2.1:4500→192.0.2.2:4500" {
		t.Error(s)
	}
	if ike.Initiator.String() != "initiator" || ike.Responder.String() != "responder" {
		t.Error("roles")
	}
}

// A wire that shows IPv4 peers as IPv4-mapped addresses makes no difference.
func TestMappedAddresses(t *testing.T) {
	s, a, b := hosts(t, 1)
	a.Mapped, b.Mapped = true, true
	e, _ := up(t, s, a, b)
	if x := e.Established; x.Encap || x.LocalNAT || x.RemoteNAT {
		t.Errorf("%+v", x)
	}
}

// The Delete of a child SA overtakes the response that made it: it is not installed.
func TestDeleteOvertakesResponse(t *testing.T) {
	s, a, b := hosts(t, 2)
	e, o := up(t, s, a, b)
	var late *iketest.Datagram
	s.Tap = func(d iketest.Datagram) []iketest.Datagram {
		if h, err := wire.ParseHeader(d.Data); err == nil && h.Exchange == wire.ExchangeCreateChildSA && h.Flags.Response() && late == nil {
			late = &d
			return nil
		}
		return []iketest.Datagram{d}
	}
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(20*time.Millisecond, nil)
	o.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, o.Made[1].InSPI) })
	s.Run(20*time.Millisecond, nil)
	s.Inject(*late)
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.ChildErrors) != 1 || len(e.Made) != 1 || !strings.Contains(e.ChildErrors[0].Error(), "deleted at once") {
		t.Errorf("%v", e.ChildErrors)
	}
}

// The same while the shared secret is being computed.
func TestDeleteDuringKeyExchange(t *testing.T) {
	s, a, b := hosts(t, 3)
	a.ESP, b.ESP = iketest.MustESP("aes256gcm16-x25519"), iketest.MustESP("aes256gcm16-x25519")
	e, o := up(t, s, a, b)
	e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
	s.Run(15*time.Millisecond, nil) // the responder has made it, the response is under way
	s.Faults.Work = time.Second
	s.Run(10*time.Millisecond, nil)
	o.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, o.Made[1].InSPI) })
	s.Run(3*time.Second, nil)
	s.Settle(time.Minute)
	clean(t, s)
	if len(e.ChildErrors) != 1 || len(e.Made) != 1 || len(o.Children) != 1 {
		t.Errorf("%v", e.ChildErrors)
	}
}

// A random source that fails later fails the SA, not the program.
func TestRandomSourceFails(t *testing.T) {
	for left := range 8 {
		for _, byA := range []bool{true, false} {
			s, a, b := hosts(t, 4)
			h := b
			if byA {
				h = a
			}
			a.Config.Proposals = iketest.MustIKE("aes256-sha256-x25519") // CBC wants an IV for every message
			b.Config.Proposals = a.Config.Proposals
			h.Config.Rand = &dry{r: h.Config.Rand, left: left}
			if _, err := ike.NewInitiator(&a.Config, ike.Path{Local: a.Addr, Remote: b.Addr}, s.Now); err != nil {
				continue
			}
			e := a.Connect(b, nil)
			if e == nil {
				continue
			}
			for range 3 {
				s.Run(time.Second, nil)
				e.CreateChild(a.Request("more", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			}
			s.Run(20*time.Minute, nil)
			if s.Panics() != 0 {
				t.Error("panic")
			}
			for spi, st := range h.SPIs {
				if st == iketest.SPIReserved {
					t.Errorf("%d reads: SPI %08x leaked", left, spi)
				}
			}
		}
	}
}

// dry is a random source that runs dry.
type dry struct {
	r    interface{ Read([]byte) (int, error) }
	left int
}

func (d *dry) Read(b []byte) (int, error) {
	if d.left--; d.left < 0 {
		return 0, errors.New("dry")
	}
	return d.r.Read(b)
}
