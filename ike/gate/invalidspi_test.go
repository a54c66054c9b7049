package gate

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// The answer to ESP for an SPI that nobody has is what RFC 7296, Section 1.5 says, and what
// another gate takes for a hint.
func TestInvalidSPI(t *testing.T) {
	g, now := newGate(t, Config{}), epoch()
	v := g.InvalidSPI(now, from("198.51.100.7:4500"), 0x01020304, 100)
	wantKind(t, v, Reply)
	b := bytes.Clone(v.Reply)
	b[0] = 1 // zero is right here, and here alone
	m, err := wire.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	b[0] = 0
	n, ok := m.Payloads[0].(*wire.Notify)
	if !ok || len(m.Payloads) != 1 || n.NType != wire.NotifyInvalidSPI || len(n.SPI) != 0 || !bytes.Equal(n.Data, []byte{1, 2, 3, 4}) ||
		m.SPIi != 1<<56 || m.SPIr != 0 || m.Exchange != wire.ExchangeInformational || m.MessageID != 0 ||
		!m.Flags.Initiator() || m.Flags.Response() || m.Version != wire.Version {
		t.Errorf("%+v", m)
	}

	other := newGate(t, Config{})
	if v := other.Classify(now, peer(), b); v.Kind != Hint || v.SPI != 0x01020304 || v.Reply != nil {
		t.Errorf("verdict %v (%v), SPI %08x", v.Kind, v.Reason, v.SPI)
	}
	b[0], b[12] = 7, 7 // random IKE SPIs do as well
	if v := other.Classify(now, peer(), b); v.Kind != Hint {
		t.Errorf("verdict %v (%v)", v.Kind, v.Reason)
	}
	for off := range b { // whatever it says, nobody answers it
		c := bytes.Clone(b)
		c[off] ^= 0xff
		if v := other.Classify(now, peer(), c); v.Kind == Reply && v.Reason != ReasonInvalidVersion {
			t.Errorf("octet %d: answered for %v", off, v.Reason)
		}
		if v := other.Classify(now, peer(), b[:off]); v.Kind != Drop {
			t.Errorf("%d octets: %v (%v)", off, v.Kind, v.Reason)
		}
	}
}

// Who gets one: not many, not often, not more than came (RFC 7296, Section 2.21.4).
func TestInvalidSPIIsLimited(t *testing.T) {
	g, now := newGate(t, Config{}), epoch()
	for _, to := range []string{"224.0.0.1:4500", "255.255.255.255:4500", "0.0.0.0:4500", "198.51.100.7:0", "192.0.2.1:500"} {
		wantDrop(t, g.InvalidSPI(now, from(to), 0x1000, 100), ReasonSource)
	}
	wantDrop(t, g.InvalidSPI(now, peer(), 0x1000, 43), ReasonAmplifies)
	if v := g.InvalidSPI(now, peer(), 0x1000, 44); v.Kind != Reply || len(v.Reply)+nonESPMarker > 44 {
		t.Errorf("%v, %d octets", v.Kind, len(v.Reply))
	}
	wantDrop(t, g.InvalidSPI(now.Add(answerGap/2), peer(), 0x1001, 100), ReasonRateLimited)
	wantKind(t, g.InvalidSPI(now.Add(answerGap), peer(), 0x1001, 100), Reply)

	sent := 0
	for i := range 10000 { // a second
		p := from("198.51.100.7:4500")
		a := p.Remote.Addr().As4()
		a[2], a[3] = byte(i>>8), byte(i)
		p.Remote = netip.AddrPortFrom(netip.AddrFrom4(a), 4500)
		if g.InvalidSPI(now.Add(2*time.Second+time.Duration(i)*100*time.Microsecond), p, uint32(i), 100).Kind == Reply {
			sent++
		}
	}
	if sent > answerBurst+answerRate {
		t.Errorf("%d answers in a second", sent)
	}
	if got := g.Stats().Count(ReasonInvalidSPI); got != uint64(sent)+2 {
		t.Errorf("%d counted, %d sent", got, sent+2)
	}
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Minute)
		g.InvalidSPI(now, peer(), 1, 100)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
