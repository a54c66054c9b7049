package ike_test

import (
	"crypto/rand"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// lab is two ends without a simulation around them: what a handshake costs.
type lab struct {
	cfg  [2]ike.Config
	own  [2]iketest.Credentials
	esp  []wire.Proposal
	addr [2]netip.AddrPort
	spi  uint32
}

func newLab(tb testing.TB, signed bool) *lab {
	tb.Helper()
	l := &lab{esp: iketest.MustESP("aes256gcm16-noesn"), spi: 256}
	for i, name := range []string{"moon", "sun"} {
		l.addr[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), 4500)
		l.cfg[i] = ike.Config{Proposals: iketest.MustIKE("aes256gcm16-prfsha256-x25519"), Rand: rand.Reader, ForceEncap: true,
			Local: ike.Local{ID: wire.ID{IType: wire.IDFQDN, Data: []byte(name)}, Method: wire.AuthMethodPSK}}
		l.own[i].Secret = auth.NewPSK([]byte("a secret of sufficient length"))
		if signed {
			k, err := auth.GenerateKey(auth.KindEd25519)
			if err != nil {
				tb.Fatal(err)
			}
			l.own[i].Key = k
			l.cfg[i].HashAlgs = auth.Hashes()
			l.cfg[i].Local.Method = wire.AuthMethodDigitalSignature
			l.cfg[i].Local.Certs = []wire.Cert{{Encoding: wire.CertRawPublicKey, Data: auth.SPKI(k.Public())}}
		}
	}
	return l
}

// handshake returns both ends of an established SA with one child SA.
func (l *lab) handshake(tb testing.TB, now time.Time) [2]*ike.Machine {
	var m [2]*ike.Machine
	var err error
	if m[0], err = ike.NewInitiator(&l.cfg[0], ike.Path{Local: l.addr[0], Remote: l.addr[1]}, now); err != nil {
		tb.Fatal(err)
	}
	l.spi++
	pair := iketest.Pair("10.1.0.0/16", "10.2.0.0/16")
	m[0].Start(now, &ike.ChildRequest{SPI: l.spi, Proposals: l.esp, Pair: pair})
	installed := 0
	for idle := 0; idle < 2; {
		idle = 0
		for i := range m {
			if m[i] == nil {
				idle++
				continue
			}
			o, ok := m[i].Next()
			if !ok {
				idle++
				continue
			}
			switch o := o.(type) {
			case *ike.Send:
				p := ike.Path{Local: l.addr[1-i], Remote: l.addr[i]}
				if m[1-i] == nil {
					if m[1-i], err = ike.NewResponder(&l.cfg[1-i], p, o.Data, now); err != nil {
						tb.Fatal(err)
					}
					continue
				}
				m[1-i].Datagram(now, p, o.Data)
			case ike.Work:
				m[i].Complete(now, o.WorkID(), l.answer(tb, i, o))
			case *ike.ChildOutbound:
				installed++
			}
		}
	}
	if installed != 2 {
		tb.Fatal("no child SA")
	}
	return m
}

func (l *lab) answer(tb testing.TB, i int, w ike.Work) ike.WorkResult {
	d, ok := w.(*ike.WorkDecide)
	if !ok {
		return l.own[i].Answer(w, rand.Reader)
	}
	l.spi++
	s, _, chosen, mis := suite.ChooseESP(d.Proposals, l.esp)
	if mis != nil {
		tb.Fatal(mis)
	}
	return &ike.DecideResult{SPI: l.spi, Pair: d.Pair, Chosen: chosen, Suite: s}
}

func benchmarkHandshake(b *testing.B, signed bool) {
	l := newLab(b, signed)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		l.handshake(b, now)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
}

func BenchmarkHandshakePSK(b *testing.B)     { benchmarkHandshake(b, false) }
func BenchmarkHandshakeEd25519(b *testing.B) { benchmarkHandshake(b, true) }

// What an established IKE SA with its child SA keeps at one end.
func TestMemoryPerSA(t *testing.T) {
	for _, signed := range []bool{false, true} {
		l := newLab(t, signed)
		now := time.Now()
		const n = 100
		keep := make([][2]*ike.Machine, n)
		heap := func() uint64 {
			var s runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		before := heap()
		for i := range keep {
			keep[i] = l.handshake(t, now)
		}
		per := (heap() - before) / (2 * n)
		t.Logf("%d octets per established SA and end (signatures: %v)", per, signed)
		if per > 8<<10 {
			t.Errorf("%d octets per SA", per)
		}
		runtime.KeepAlive(keep)
	}
}
