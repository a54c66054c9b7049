package gate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// epoch is where virtual time starts.
func epoch() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

// seeded is a reproducible source of "randomness".
func seeded(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func newGate(t testing.TB, cfg Config) *Gate {
	t.Helper()
	g, err := New(cfg, seeded(1), epoch())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func local() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:500") }

func from(remote string) Path { return Path{local(), netip.MustParseAddrPort(remote)} }

// peer is the stranger most tests use.
func peer() Path { return from("198.51.100.7:500") }

func nonce(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// payloads of a good IKE_SA_INIT request.
func good(n []byte) []wire.Payload {
	sa := &wire.SA{Proposals: []wire.Proposal{{Num: 1, Protocol: wire.ProtocolIKE, Transforms: []wire.Transform{
		{Type: 1, ID: 20, KeyBits: 256}, {Type: 2, ID: 5}, {Type: 4, ID: 31},
	}}}}
	return []wire.Payload{sa, &wire.KE{Group: 31, Data: make([]byte, 32)}, &wire.Nonce{Data: n}}
}

// initMsg is an IKE_SA_INIT request with these payloads.
func initMsg(spii uint64, ps ...wire.Payload) []byte {
	m := wire.Message{Header: wire.Header{SPIi: spii, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: ps}
	return m.Append(nil)
}

// initReq is a good IKE_SA_INIT request.
func initReq(spii uint64, n []byte) []byte { return initMsg(spii, good(n)...) }

// withCookie is the same with a COOKIE as first payload.
func withCookie(spii uint64, n, cookie []byte) []byte {
	return initMsg(spii, append([]wire.Payload{&wire.Notify{NType: wire.NotifyCookie, Data: cookie}}, good(n)...)...)
}

// header writes a datagram of size octets whose header has these fields.
func header(spii, spir uint64, next wire.PayloadType, exchange wire.ExchangeType, flags wire.Flags, id uint32, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint64(b, spii)
	binary.BigEndian.PutUint64(b[8:], spir)
	b[16], b[17], b[18], b[19] = byte(next), 0x20, byte(exchange), byte(flags)
	binary.BigEndian.PutUint32(b[20:], id)
	binary.BigEndian.PutUint32(b[24:], uint32(size))
	return b
}

// encrypted is a request of an SA, as a stranger sees it.
func encrypted(spii, spir uint64, exchange wire.ExchangeType, flags wire.Flags, id uint32) []byte {
	b := header(spii, spir, wire.PayloadEncrypted, exchange, flags, id, 28+4+8+16+16)
	b[31] = byte(len(b) - 28)
	return b
}

func wantDrop(t *testing.T, v Verdict, r Reason) {
	t.Helper()
	if v.Kind != Drop || v.Reason != r || v.Reply != nil {
		t.Errorf("verdict %v for %v, want a drop for %v", v.Kind, v.Reason, r)
	}
}

func wantKind(t *testing.T, v Verdict, k Kind) {
	t.Helper()
	if v.Kind != k {
		t.Fatalf("verdict %v (%v), want %v", v.Kind, v.Reason, k)
	}
}

// cookieOf returns the cookie in a Reply, and checks the Reply's form.
func cookieOf(t testing.TB, v Verdict, request []byte) []byte {
	t.Helper()
	if v.Kind != Reply || v.Reason != ReasonCookie {
		t.Fatalf("verdict %v (%v), want a cookie", v.Kind, v.Reason)
	}
	m, err := wire.Parse(v.Reply)
	if err != nil {
		t.Fatal(err)
	}
	h, err := wire.ParseHeader(request)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := m.Payloads[0].(*wire.Notify)
	if !ok || len(m.Payloads) != 1 || n.NType != wire.NotifyCookie || len(n.SPI) != 0 ||
		m.SPIi != h.SPIi || m.SPIr != 0 || m.Exchange != wire.ExchangeIKESAInit || m.MessageID != 0 ||
		!m.Flags.Response() || m.Flags.Initiator() || m.Version != wire.Version {
		t.Fatalf("cookie reply %+v", m)
	}
	if len(n.Data) < 1 || len(n.Data) > 64 { // RFC 7296, Section 2.6
		t.Fatalf("cookie of %d octets", len(n.Data))
	}
	if len(v.Reply) > len(request) {
		t.Fatalf("%d octets answered with %d", len(request), len(v.Reply))
	}
	return bytes.Clone(n.Data)
}

// open makes the responder SA for v.
func open(t testing.TB, g *Gate, now time.Time, v Verdict, spi uint64) {
	t.Helper()
	if v.Kind != NewResponder {
		t.Fatalf("verdict %v (%v), want a new responder", v.Kind, v.Reason)
	}
	if !g.Open(now, v, spi) {
		t.Fatal("Open refused")
	}
}
